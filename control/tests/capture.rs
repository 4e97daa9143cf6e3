//! Captures: what is in them, what they cost, how they end.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use daemon::{HAIRPIN, PATIENCE, Place, eventually, stderr, stdout};
use hairpin::api::listen::{Api, Bound};
use hairpin::cli::pcapng::Reader;
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin::switch::capture::{CaptureError, Prospect, Wish};
use hairpin::switch::devices::{Embedder, Endpoints, Outcome};
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::fault::{self, Faults, Stall};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::pcapng::Direction;
use hairpin_dataplane::port::{Opened, pcapng};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::capture::filter::Filter;
use means::has_means;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A port that takes no frame: its guest stands still.
const STUCK: u8 = 3;

/// Memory devices, one of them with a guest that stands still.
struct Bed(Endpoints, Vec<Endpoint>);

impl Embedder for Bed {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        if name != format!("vm{STUCK}") {
            return self.0.open(name, config);
        }
        let (device, endpoint) = memory::pair(config)?;
        let outward =
            Faults { stall: Some(Stall { every_ms: 1, lasts_ms: 1 }), ..Faults::default() };
        self.1.push(endpoint);
        Ok(fault::wrap(device, Faults::default(), outward)?.into())
    }

    fn settle(&mut self, outcome: Outcome) {
        self.0.settle(outcome);
    }
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

fn site(ports: u8) -> Desired {
    let vm = |number: u8| {
        let device = DeviceConfig::Memory(memory::Config::default());
        let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, device);
        port.macs.push(mac(number).into());
        port
    };
    Desired::try_from(Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: (1..=ports).map(vm).collect(),
        ..Config::default()
    })
    .unwrap()
}

/// A switch whose API is served here, with guests at two of its ports.
struct Served {
    place: Place,
    switch: Switch,
    vm1: Endpoint,
    vm2: Endpoint,
    _api: Api,
}

impl Served {
    fn start() -> Served {
        let place = Place::new();
        let endpoints = Endpoints::default();
        let bed = Box::new(Bed(endpoints.clone(), Vec::new()));
        let switch = Switch::start_with(site(STUCK), bed).unwrap();
        let [vm1, vm2] = ["vm1", "vm2"].map(|name| endpoints.take(name).unwrap());
        let api = Bound::bind(&place.socket()).unwrap().serve(switch.clone()).unwrap();
        Served { place, switch, vm1, vm2, _api: api }
    }

    /// A command of this switch's, which goes on.
    fn spawn(&self, words: &str) -> Child {
        let address = format!("unix:{}", self.place.socket().display());
        Command::new(HAIRPIN)
            .env("HAIRPIN_API", address)
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A capture into a file, once it has begun.
    fn capture(&self, words: &str, file: &Path) -> Child {
        let child = self.spawn(&format!("capture {words} -w {}", file.display()));
        eventually("a capture's head", || fs::metadata(file).is_ok_and(|file| file.len() > 0));
        child
    }

    /// Sends a frame to vm2, one to the port that is stuck, and one from another's address.
    fn send_some(&mut self) -> [Vec<u8>; 3] {
        let sent = [frame(1, 2, 60), frame(1, STUCK, 100), frame(2, 1, 200)];
        for frame in &sent {
            self.vm1.queue(frame, Offload::NONE).unwrap();
        }
        self.vm1.flush();
        assert_eq!(receive(&mut self.vm2), sent[0]);
        sent
    }
}

/// An untagged frame whose bytes tell where they are.
fn frame(from: u8, to: u8, length: usize) -> Vec<u8> {
    let mut frame = [&mac(to).octets()[..], &mac(from).octets(), &[0x88, 0xb5]].concat();
    frame.extend((frame.len()..length).map(|at| at as u8));
    frame
}

fn receive(endpoint: &mut Endpoint) -> Vec<u8> {
    let (mut frame, patience) = (Vec::new(), Instant::now() + PATIENCE);
    while endpoint.receive(&mut frame).is_none() {
        assert!(Instant::now() < patience, "no frame comes");
        endpoint.wait(Duration::from_millis(10));
    }
    frame
}

fn interrupt(child: Child, signal: Signal) -> Output {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait_with_output().unwrap()
}

fn wish(names: &[&str]) -> Wish {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Wish { names, filter: Filter::default(), snapshot_bytes: 150 }
}

#[test]
fn a_capture_is_what_was_sent_and_received_and_why_the_rest_was_lost() {
    use Direction::{Inbound, Outbound};
    let mut served = Served::start();
    let mut capture = served.switch.capture(wish(&["vm1", "vm2", "vm3"])).unwrap();
    capture.begins();
    let before_ns = capture.now_ns();
    let [passed, stuck, foreign] = served.send_some();
    let (mut bytes, mut seen) = (Vec::new(), Vec::new());
    eventually("five frames", || {
        while let Some(label) = capture.take(&mut bytes) {
            assert!(label.time_ns + 1_000_000_000 > before_ns && label.time_ns <= capture.now_ns());
            let port = capture.names()[usize::from(label.device)].clone();
            seen.push((port, label.way, label.dropped, label.length, bytes.clone()));
        }
        seen.len() >= 5
    });
    let one = |port: &str, way, dropped, frame: &[u8]| {
        let kept = &frame[..frame.len().min(150)];
        (port.to_owned(), way, dropped, frame.len() as u32, kept.to_vec())
    };
    let expected = [
        one("vm1", Inbound, None, &passed),
        one("vm1", Inbound, None, &stuck),
        one("vm1", Inbound, Some(DropReason::SourceNotRegistered), &foreign),
        one("vm2", Outbound, None, &passed),
        one("vm3", Outbound, Some(DropReason::RxRingFull), &stuck),
    ];
    assert_eq!(seen, expected);
    assert_eq!((capture.prospect(), capture.missed(0)), (Prospect::More, 0));
    served.switch.apply(site(0)).unwrap();
    assert_eq!(capture.prospect(), Prospect::PortsGone);
    served.switch.stop();
    assert_eq!(capture.prospect(), Prospect::SwitchEnded);
}

#[test]
fn captures_that_cannot_be_are_refused() {
    let served = Served::start();
    let refused = |names: &[&str]| served.switch.capture(wish(names)).unwrap_err().to_string();
    assert!(refused(&[]).starts_with("capture: ports: 0 are named"));
    assert!(refused(&["vm1", "vm2", "vm1"]).contains("\"vm1\" is there twice"));
    assert!(refused(&["vm"]).contains("did you mean vm1?"), "{}", refused(&["vm"]));
    let mut captures: Vec<_> =
        (0..8).map(|_| served.switch.capture(wish(&["vm1"])).unwrap()).collect();
    assert!(matches!(served.switch.capture(wish(&["vm2"])), Err(CaptureError::Full)));
    captures.pop();
    eventually("a seat", || served.switch.capture(wish(&["vm2"])).is_ok());
    for (words, code, said) in [
        ("capture", 2, "PORT"),
        ("capture vm1 --rx --tx", 2, "--tx"),
        ("capture vm1 --ethertype rap", 2, "0x0806"),
        ("capture vm1 --json -w file", 2, "--json"),
        ("capture vm1 --host 52:54", 1, "capture: hosts: \"52:54\""),
        ("capture vm1 --reason rx_rnig_full", 1, "did you mean rx_ring_full?"),
        ("capture vm1 --snap 4096", 1, "14 to 2048"),
        ("capture vm9", 1, "no port or link with a device \"vm9\""),
    ] {
        let output = served.place.client(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{words}: {}", stderr(&output));
    }
}

#[test]
fn lines_and_objects_say_what_passed() {
    let mut served = Served::start();
    let lines = |served: &mut Served, words: &str| {
        let mut child = served.spawn(words);
        // A capture has begun when its first frame is seen: until then frames are sent.
        let mut out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        eventually("the end", || {
            served.send_some();
            child.try_wait().unwrap().is_some()
        });
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "2 frames captured, 0 missed\n");
        reader.join().unwrap()
    };
    let text = lines(&mut served, "capture vm1 vm3 --dropped --tx --count 2");
    let expected = " vm3 tx 52:54:00:00:00:01 > 52:54:00:00:00:03 0x88b5 100 dropped rx_ring_full";
    assert!(
        text.lines().count() == 2 && text.lines().all(|line| line.ends_with(expected)),
        "{text}"
    );
    let words = "capture vm1 vm2 vm3 --reason source_not_registered --count 2 --json";
    let text = lines(&mut served, words);
    let objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    for object in objects {
        let said = ["port", "direction", "source", "dropped"].map(|key| object[key].clone());
        assert_eq!(said, ["vm1", "rx", "52:54:00:00:00:02", "source_not_registered"]);
    }
}

/// Sends what the filters of a capture tell apart: three destinations, a tag, another EtherType.
fn send_all_kinds(served: &mut Served) {
    let tag = |frame: &[u8], words: &[u8]| [&frame[..12], words, &frame[12..]].concat();
    let tagged = tag(&frame(1, 2, 64), &[0x81, 0, 0, 10]);
    let mut other = frame(1, 2, 60);
    other[12..14].copy_from_slice(&[0x08, 0x06]);
    for bytes in [frame(1, 2, 60), frame(1, STUCK, 60), tagged, other] {
        served.vm1.queue(&bytes, Offload::NONE).unwrap();
    }
    served.vm2.queue(&frame(2, 1, 60), Offload::NONE).unwrap();
    served.vm1.flush();
    served.vm2.flush();
    let mut bytes = Vec::new();
    while served.vm1.receive(&mut bytes).is_some() || served.vm2.receive(&mut bytes).is_some() {}
}

#[test]
fn each_filter_that_a_client_asks_for_narrows_its_capture() {
    let mut served = Served::start();
    let stuck = mac(STUCK).to_string();
    for (words, key, expected) in [
        (format!("--rx --host {stuck}"), "destination", json!(stuck)),
        ("--vlan 10".to_owned(), "vlan", json!(10)),
        ("--ethertype arp".to_owned(), "ethertype", json!(0x0806)),
        ("--tx".to_owned(), "direction", json!("tx")),
        ("--rx".to_owned(), "direction", json!("rx")),
        ("--reason rx_ring_full".to_owned(), "dropped", json!("rx_ring_full")),
    ] {
        // Several of each: what is not wanted is sent beside it.
        let mut child = served.spawn(&format!("capture vm1 vm2 vm3 --json --count 6 {words}"));
        eventually(&words, || {
            send_all_kinds(&mut served);
            child.try_wait().unwrap().is_some()
        });
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        let text = stdout(&output);
        let seen: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(seen.len(), 6, "{words}: {text}");
        assert!(seen.iter().all(|frame| frame[key] == expected), "{words}: {text}");
    }
}

#[test]
fn a_capture_that_is_interrupted_is_whole() {
    let mut served = Served::start();
    let file = served.place.file();
    let child = served.capture("vm1 vm2 vm3 --snap 150", &file);
    served.send_some();
    eventually("five frames in the file", || {
        let written = fs::read(&file).unwrap();
        Reader::default().read(&written).is_ok_and(|frames| frames.len() == 5)
    });
    let output = interrupt(child, Signal::INT);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
    assert_eq!(stderr(&output), "5 frames captured, 0 missed\n");
    let written = fs::read(&file).unwrap();
    // Statistics of three interfaces, each of 52 bytes, are the last there is.
    assert_eq!(written[written.len() - 3 * 52..][..4], [5, 0, 0, 0]);
    let Some(read) = tshark(&file) else { return };
    let expected = [
        "vm1|0x1|60|60|",
        "vm1|0x1|100|100|",
        "vm1|0x1|200|150|dropped: source_not_registered: The source is not among",
        "vm2|0x2|60|60|",
        "vm3|0x2|100|100|dropped: rx_ring_full: The receiver had no free buffer.",
    ];
    assert_eq!(read.len(), expected.len(), "{read:?}");
    for (line, expected) in read.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}, not {expected}");
    }
}

/// What tshark reads: interface, direction, length, bytes captured, comment.
fn tshark(file: &Path) -> Option<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-T", "fields", "-E", "separator=|"]);
    let fields = ["interface_name", "packet_flags_direction", "len", "cap_len", "comment"];
    for field in fields {
        command.args(["-e", &format!("frame.{field}")]);
    }
    let Ok(output) = command.output() else {
        let demanded = std::env::var_os("HAIRPIN_TESTS").is_some_and(|value| value == "all");
        assert!(!demanded, "HAIRPIN_TESTS=all, but there is no tshark");
        let current = std::thread::current();
        let test = current.name().unwrap_or("a test");
        // What the printing macros write is shown for tests that fail only.
        let _ = writeln!(io::stderr(), "skipped part of {test}: there is no tshark");
        return None;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    // tshark 4 writes the direction in hexadecimal, some versions with padding.
    Some(stdout(&output).lines().map(|line| line.replace("0x0000000", "0x")).collect())
}

#[test]
fn a_client_that_goes_ends_its_capture() {
    let served = Served::start();
    let file = |number: usize| served.place.file().with_extension(number.to_string());
    let mut children: Vec<Child> =
        (0..8).map(|number| served.capture("vm1", &file(number))).collect();
    let output = served.place.client("capture vm1 --seconds 1");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("there are 8 captures already"), "{}", stderr(&output));
    interrupt(children.pop().unwrap(), Signal::KILL);
    eventually("a seat", || served.place.client("capture vm1 --seconds 1").status.success());
    for child in children {
        interrupt(child, Signal::TERM);
    }
}

/// Its own capture misses frames; no frame is lost for it.
#[test]
fn a_client_that_does_not_read_costs_itself() {
    const FRAMES: u64 = 20_000;
    let mut served = Served::start();
    let file = served.place.file();
    let child = served.capture("vm2 --snap 2048", &file);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    let sent = frame(1, 2, 1500);
    for _ in 0..FRAMES / 100 {
        for _ in 0..100 {
            served.vm1.queue(&sent, Offload::NONE).unwrap();
        }
        served.vm1.flush();
        for _ in 0..100 {
            assert_eq!(receive(&mut served.vm2), sent);
        }
    }
    kill_process(pid, Signal::CONT).unwrap();
    // When all is written, the capture's ports go, by which it ends.
    served.switch.apply(site(1)).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [captured, missed] = numbers[..] else { panic!("{said}") };
    assert!(output.status.success() && missed > 0 && captured > 5000, "{said}");
    assert_eq!(captured + missed, FRAMES, "{said}");
    assert!(fs::metadata(&file).unwrap().len() > captured * 1500);
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let mut served = Served::start();
    let mut child = served.spawn("capture vm1 -w -");
    let mut head = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head, [0x0a, 0x0d, 0x0d, 0x0a]);
    eventually("the end", || {
        served.send_some();
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Who may not change a switch may not see what its guests send either.
#[test]
fn a_user_who_may_only_read_is_refused() {
    if !has_means("a_user_who_may_only_read_is_refused") {
        return;
    }
    let served = Served::start();
    // A copy where that user can reach it.
    let program = served.place.file().with_extension("program");
    fs::copy(HAIRPIN, &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["--api", &format!("unix:{}", served.place.socket().display())])
        .args(["capture", "vm1", "--seconds", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("user 65534 may not change this switch"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_api_s_head_is_the_writer_s() {
    let served = Served::start();
    let file = served.place.file();
    let child = served.capture("vm2 vm1", &file);
    interrupt(child, Signal::INT);
    let statistics = [pcapng::Statistics::default(); 2];
    let head = pcapng::Writer::new(Vec::new(), &["vm2", "vm1"], 256).unwrap();
    let expected = head.finish(0, &statistics).unwrap();
    let (written, head) = (fs::read(&file).unwrap(), expected.len() - 2 * 52);
    assert_eq!((written.len(), &written[..head]), (expected.len(), &expected[..head]));
}
