//! The API against clients that mean harm, or know nothing of it: others are served, frames
//! pass, and memory stays bounded.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod means;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hairpin::api::listen::{Api, Bound};
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin::switch::events::{KEPT, Kind, News};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use hairpin_proto::v1;
use hairpin_proto::v1::switch_client::SwitchClient;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint as Address};
use tonic::{Code, Status};

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

fn vm(number: u8) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config::default());
    let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, device);
    port.macs.push(mac(number).into());
    port
}

/// Two VMs that send each other one numbered frame at a time, until they are stopped.
struct Exchange {
    frames: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn start(mut one: Endpoint, mut two: Endpoint) -> Exchange {
        let (frames, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed) as u32;
                cross(&mut one, &mut two, 1, 2, number);
                cross(&mut two, &mut one, 2, 1, number);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Exchange { frames, stop, thread: Some(thread) }
    }

    /// Frames go on passing from now on.
    fn assert_goes_on(&self) {
        let (before, patience) = (self.frames.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while self.frames.load(Ordering::Relaxed) < before + 10 {
            assert!(Instant::now() < patience, "frames no longer pass");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok(), "a frame was lost");
    }
}

fn cross(from: &mut Endpoint, to: &mut Endpoint, source: u8, destination: u8, number: u32) {
    let mut frame = [mac(destination).octets(), mac(source).octets()].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    from.send(&frame, Offload::default()).unwrap();
    let (patience, mut received) = (Instant::now() + PATIENCE, Vec::new());
    while to.receive(&mut received).is_none() {
        assert!(Instant::now() < patience, "frame {number} from {source} is lost");
        to.wait(Duration::from_millis(10));
    }
    assert_eq!(received, frame);
}

/// One test has the process to itself: some look at its memory.
static TURN: Mutex<()> = Mutex::new(());

/// A switch with its API, and an exchange through it.
struct Site {
    exchange: Exchange,
    switch: Switch,
    runtime: Runtime,
    socket: PathBuf,
    _api: Api,
    _directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    fn start() -> Site {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let config = Config {
            links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
            ports: vec![vm(1), vm(2), vm(3)],
            ..Config::default()
        };
        let switch = Switch::start(Desired::try_from(config).unwrap()).unwrap();
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("api.sock");
        let bound = Bound::bind(&socket).unwrap();
        let ends = ["vm1", "vm2"].map(|name| switch.take_endpoint(name).unwrap());
        let [one, two] = ends;
        Site {
            exchange: Exchange::start(one, two),
            runtime: Runtime::new().unwrap(),
            socket,
            _api: bound.serve(switch.clone()).unwrap(),
            switch,
            _directory: directory,
            _turn: turn,
        }
    }

    async fn client(&self) -> SwitchClient<Channel> {
        let address = format!("unix:{}", self.socket.display());
        // What a client takes in without being read is not the switch's memory.
        let address = Address::from_shared(address).unwrap().initial_stream_window_size(1 << 16);
        let address = address.initial_connection_window_size(1 << 16);
        SwitchClient::new(address.connect().await.unwrap())
    }

    /// Another client is served, and frames pass.
    fn assert_well(&self) {
        let ports = self.runtime.block_on(async {
            self.client().await.list_ports(v1::ListPortsRequest {}).await.unwrap().into_inner()
        });
        assert_eq!(ports.ports.len(), 3);
        self.exchange.assert_goes_on();
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Kilobytes of memory that this process has.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes, until somebody hangs up; reads what there is to be read until they have.
fn say_until_it_hangs_up(mut stream: UnixStream, words: &[u8]) {
    for _ in 0..64 {
        if stream.write_all(words).is_err() {
            return;
        }
    }
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("it was neither answered nor hung up: {error}"),
        }
    }
}

#[test]
fn garbage_is_hung_up_on() {
    let site = Site::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge_frame = [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let data_of_no_stream = [&preface[..], &[0, 0, 1, 0, 0, 0, 0, 0, 9, 7]].concat();
    let random: Vec<u8> =
        (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for words in [&random, &b"GET / HTTP/1.1\r\n\r\n".to_vec(), &huge_frame, &data_of_no_stream] {
        say_until_it_hangs_up(site.raw(), words);
        site.assert_well();
    }
}

#[test]
fn ten_thousand_connections_cost_a_descriptor_each_at_most() {
    let site = Site::start();
    site.assert_well();
    let before = resident_kb();
    let mut held: Vec<UnixStream> = Vec::new();
    for number in 0..10_000 {
        let stream = site.raw();
        if number % 20 == 0 {
            held.push(stream);
        }
    }
    site.exchange.assert_goes_on();
    // Those beyond what there is room for are closed at once; of the others nothing is heard.
    let is_closed = |stream: &&UnixStream| {
        stream.set_nonblocking(true).unwrap();
        matches!((&**stream).read(&mut [0]), Ok(0))
    };
    let patience = Instant::now() + PATIENCE;
    while held.iter().filter(is_closed).count() < 500 - 256 {
        assert!(Instant::now() < patience, "more connections are open than may be");
        std::thread::sleep(Duration::from_millis(10));
    }
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    // Nor do those that say nothing keep the seats of others.
    let patience = Instant::now() + PATIENCE;
    while held.iter().filter(is_closed).count() < 500 {
        assert!(Instant::now() < patience, "silent connections stay open");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(held);
    let patience = Instant::now() + PATIENCE;
    let served = || {
        site.runtime.block_on(async {
            let address = format!("unix:{}", site.socket.display());
            let Ok(channel) = Address::from_shared(address).unwrap().connect().await else {
                return false;
            };
            SwitchClient::new(channel).show(v1::ShowRequest {}).await.is_ok()
        })
    };
    while !served() {
        assert!(Instant::now() < patience, "nobody is served any more");
    }
    site.assert_well();
}

#[test]
fn messages_beyond_all_bounds_are_refused() {
    let site = Site::start();
    let refused: Status = site.runtime.block_on(async {
        let port = "x".repeat(5 << 20);
        site.client().await.flush(v1::FlushRequest { port }).await.unwrap_err()
    });
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let objects = vec!["port vm1".to_owned(); 2000];
    let request = v1::WatchRequest { objects, ..v1::WatchRequest::default() };
    let refused =
        site.runtime.block_on(async { site.client().await.watch(request).await.unwrap_err() });
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let edits = vec![v1::Edit::default(); 5000];
    let request = v1::EditRequest { edits, ..v1::EditRequest::default() };
    let refused =
        site.runtime.block_on(async { site.client().await.edit(request).await.unwrap_err() });
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    site.assert_well();
}

#[test]
fn a_state_that_is_wrong_everywhere_is_refused_in_a_header_that_fits() {
    let site = Site::start();
    let link = |number: usize| v1::LinkConfig {
        name: format!("{number} {}", "x".repeat(4000)),
        ..v1::LinkConfig::default()
    };
    let config = v1::Config { links: (0..200).map(link).collect(), ..v1::Config::default() };
    let request = v1::ApplyRequest { config: Some(config), ..v1::ApplyRequest::default() };
    let refused =
        site.runtime.block_on(async { site.client().await.apply(request).await.unwrap_err() });
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("and "), "{}", refused.message());
    site.assert_well();
}

#[test]
fn errors_name_their_fields_for_programs() {
    use tonic_types::StatusExt;
    let site = Site::start();
    let config = v1::Config {
        links: vec![v1::LinkConfig {
            name: "up0".to_owned(),
            role: v1::LinkRole::Station as i32,
            mtu: Some(1),
            ..v1::LinkConfig::default()
        }],
        ..v1::Config::default()
    };
    let request = v1::ApplyRequest { config: Some(config), ..v1::ApplyRequest::default() };
    let refused =
        site.runtime.block_on(async { site.client().await.apply(request).await.unwrap_err() });
    let details = refused.get_details_bad_request().unwrap();
    let fields: Vec<&str> = details.field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["link up0: mtu"]);
    let delete = v1::edit::What::Delete("up0".to_owned());
    let edits = vec![v1::Edit { what: Some(delete) }];
    let request = v1::EditRequest { edits, ..v1::EditRequest::default() };
    let refused =
        site.runtime.block_on(async { site.client().await.edit(request).await.unwrap_err() });
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let details = refused.get_details_bad_request().unwrap();
    let fields: Vec<&str> = details.field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["port vm1: channel", "port vm2: channel", "port vm3: channel"]);
    site.assert_well();
}

#[test]
fn readers_that_do_not_read_cost_themselves() {
    let site = Site::start();
    site.assert_well();
    site.runtime.block_on(async {
        let mut streams = Vec::new();
        // On several connections, as one has 32 streams at most anyhow.
        for _ in 0..4 {
            let mut client = site.client().await;
            for _ in 0..8 {
                let stats = v1::WatchStatsRequest { names: Vec::new(), interval_ms: 100 };
                streams.push(client.watch_stats(stats).await.unwrap().into_inner());
            }
        }
        let mut changer = site.client().await;
        let mut events = Vec::new();
        for number in 0..32 {
            let mut client = site.client().await;
            let request = v1::WatchRequest { after_sequence: Some(0), ..Default::default() };
            let mut stream = client.watch(request).await.unwrap().into_inner();
            if number == 0 {
                // One is read, to the end of what there is.
                while stream.message().await.unwrap().unwrap().event.is_some() {}
            }
            events.push(stream);
        }
        let more = changer.watch(v1::WatchRequest::default()).await;
        assert_eq!(more.unwrap_err().code(), Code::ResourceExhausted);
        let before = resident_kb();
        for turn in 0..2000 {
            let mode = [v1::Mode::Vepa, v1::Mode::Private][turn % 2] as i32;
            let request = v1::SetPortRequest { name: "vm3".to_owned(), mode, ..Default::default() };
            changer.set_port(request).await.unwrap();
            for number in 0..50 {
                let (cause, remedy) = ("c".repeat(100), "r".repeat(100));
                let object = format!("port {turn}-{number}");
                let news = News { kind: Kind::LimitHit, object, cause, remedy };
                site.switch.events().tell(news, Instant::now());
            }
        }
        let grown = resident_kb().saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} KiB more than before");
        site.exchange.assert_goes_on();
        drop((streams, events));
        let patience = Instant::now() + PATIENCE;
        // Their seats are free again.
        while site.client().await.watch(v1::WatchRequest::default()).await.is_err() {
            assert!(Instant::now() < patience, "streams that were closed keep their seats");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    site.assert_well();
}

#[test]
fn a_connection_has_so_many_streams_and_no_more() {
    const EACH: usize = 32;
    let site = Site::start();
    site.runtime.block_on(async {
        let mut client = site.client().await;
        let mut streams = Vec::new();
        for _ in 0..EACH {
            let stream = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
            streams.push(stream);
        }
        let mut waiting = client.clone();
        let moment = Duration::from_secs(1);
        let more = tokio::time::timeout(moment, waiting.watch(v1::WatchRequest::default())).await;
        assert!(more.is_err(), "a connection has more than {EACH} streams");
        // There is room for another client, and for this one once it has closed one.
        site.client().await.watch(v1::WatchRequest::default()).await.unwrap();
        streams.pop();
        let more = tokio::time::timeout(PATIENCE, client.watch(v1::WatchRequest::default())).await;
        more.unwrap().unwrap();
    });
    site.assert_well();
}

/// Who may only read has no use for large messages: they are refused unread.
#[test]
fn a_reader_s_messages_are_bounded_further() {
    if !means::has_means("a_reader_s_messages_are_bounded_further") {
        return;
    }
    let site = Site::start();
    let place = site.socket.parent().unwrap();
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    // A copy where that user can reach it.
    let program = place.join("hairpin");
    std::fs::copy(env!("CARGO_BIN_EXE_hairpin"), &program).unwrap();
    let flush = |name_bytes: usize| {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(["--api", &format!("unix:{}", site.socket.display())])
            .args(["fdb", "flush", &"x".repeat(name_bytes)])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(flush(1000).contains("user 65534 may not change this switch"), "{}", flush(1000));
    let refused = flush(70_000);
    assert!(refused.contains("65536") && !refused.contains("may not"), "{refused}");
    site.assert_well();
}

/// The numbers of the events of a stream until it has caught up, and how many were lost.
async fn caught_up(site: &Site, request: v1::WatchRequest) -> (Vec<u64>, u64) {
    let mut stream = site.client().await.watch(request).await.unwrap().into_inner();
    let head = stream.message().await.unwrap().unwrap();
    assert!(head.event.is_none(), "{head:?}");
    let (mut numbers, mut lost) = (Vec::new(), 0);
    loop {
        let response = stream.message().await.unwrap().unwrap();
        lost += response.lost;
        match response.event {
            Some(event) => numbers.push(event.sequence),
            None => return (numbers, lost),
        }
    }
}

#[test]
fn a_watcher_goes_on_where_it_was_and_hears_how_much_it_missed() {
    let site = Site::start();
    let events = site.switch.events();
    let tell = |count: usize| {
        for _ in 0..count {
            let object = format!("port {}", events.last());
            let (cause, remedy) = (String::new(), String::new());
            events.tell(News { kind: Kind::LimitHit, object, cause, remedy }, Instant::now());
        }
    };
    tell(10);
    let last = events.last();
    let instance = events.instance();
    let after = |instance, after_sequence| v1::WatchRequest {
        instance,
        after_sequence,
        ..v1::WatchRequest::default()
    };
    let watched = |request| site.runtime.block_on(caught_up(&site, request));
    let all = |first: u64| (first..=last).collect::<Vec<u64>>();
    assert_eq!(watched(after(instance, Some(4))), (all(5), 0));
    assert_eq!(watched(after(0, Some(4))), (all(5), 0));
    assert_eq!(watched(after(instance, Some(last))), (Vec::new(), 0));
    assert_eq!(watched(after(instance, None)), (Vec::new(), 0));
    // Numbers of another run, and numbers that never were, say nothing of this one.
    assert_eq!(watched(after(instance ^ 1, Some(4))), (all(1), 0));
    assert_eq!(watched(after(instance, Some(last + 5))), (all(1), 0));
    // What is not kept any more is lost, and how much it was is said.
    tell(KEPT);
    let (numbers, lost) = watched(after(instance, Some(4)));
    assert_eq!((numbers.len(), lost), (KEPT, last - 4));
    assert_eq!((numbers[0], numbers[KEPT - 1]), (last + 1, last + KEPT as u64));
    site.assert_well();
}

#[test]
fn an_apply_of_what_runs_is_none_and_of_another_state_is_whole() {
    let site = Site::start();
    site.runtime.block_on(async {
        let mut client = site.client().await;
        let got = client.get(v1::GetRequest {}).await.unwrap().into_inner();
        let request = v1::ApplyRequest { config: got.config.clone(), ..Default::default() };
        let same = client.apply(request).await.unwrap().into_inner();
        assert_eq!((same.revision, same.changes.len()), (got.revision, 0));
        // Memory devices stay with who has them.
        let mut config = got.config.unwrap();
        config.ports.retain(|port| port.name != "vm3");
        let base_revision = Some(got.revision);
        let request =
            v1::ApplyRequest { config: Some(config.clone()), base_revision, ..Default::default() };
        let applied = client.apply(request.clone()).await.unwrap().into_inner();
        assert_eq!((applied.revision, applied.changes.len()), (got.revision + 1, 1));
        let late = client.apply(request).await.unwrap_err();
        assert_eq!(late.code(), Code::Aborted, "{late}");
        site.exchange.assert_goes_on();
    });
}
