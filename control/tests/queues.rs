//! Receive queues as operators see and move them, and a worker that does not give one
//! up: from the engine to the command.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use hairpin::api::listen::Bound;
use hairpin::config::{
    Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig, SwitchConfig,
};
use hairpin::switch::devices::Embedder;
use hairpin::switch::queues::{MoveError, Moved, QueueState};
use hairpin::switch::workers::Health;
use hairpin::switch::{PortChange, Switch};
use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::fault::{self, Chance, Faults};
use hairpin_dataplane::port::memory::{self, Endpoint, SendError};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use serde_json::{Value, json};

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Memory devices; serving the one called `bad` fails.
struct Crashing(Sender<Endpoint>);

impl Embedder for Crashing {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        let (device, endpoint) = memory::pair(config)?;
        self.0.send(endpoint).unwrap();
        if name != "bad" {
            return Ok(device.into());
        }
        let inward = Faults { crash: Chance::ALWAYS, ..Faults::default() };
        Ok(fault::wrap(device, inward, Faults::default())?.into())
    }
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

fn port(name: &str, number: u8) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config::default());
    let mut port = PortConfig::station(name, "up0", Mode::Veb, device);
    port.macs.push(mac(number).into());
    port
}

fn config(ports: Vec<PortConfig>) -> Config {
    Config {
        switch: SwitchConfig { workers: vec![0, 1], ..SwitchConfig::default() },
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports,
        ..Config::default()
    }
}

/// A switch with two workers and these ports, numbered from 1: the first at worker 0,
/// the next one at worker 1, and so on.
///
/// Also where the other ends of later devices come.
fn started(names: &[&str]) -> (Switch, Vec<Endpoint>, Receiver<Endpoint>) {
    let ports = names.iter().zip(1..).map(|(name, number)| port(name, number)).collect();
    let (opens, opened) = unbounded();
    let desired = Desired::try_from(config(ports)).unwrap();
    let switch = Switch::start_with(desired, Box::new(Crashing(opens))).unwrap();
    let endpoints = opened.try_iter().collect();
    (switch, endpoints, opened)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends numbered frames from one port to another.
fn send(from: (u8, &mut Endpoint), to: u8, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut frame = [&mac(to).octets()[..], &mac(from.0).octets(), &[0x88, 0xb5]].concat();
        frame.extend(number.to_be_bytes());
        frame.resize(60, 0);
        let patience = Instant::now() + PATIENCE;
        while from.1.send(&frame, Offload::NONE) == Err(SendError::Full) {
            assert!(Instant::now() < patience, "nobody pulls");
            std::thread::yield_now();
        }
    }
}

/// Asserts that exactly these frames come, in order.
fn assert_arrive(endpoint: &mut Endpoint, numbers: std::ops::Range<u32>) {
    let mut frame = Vec::new();
    for number in numbers {
        let patience = Instant::now() + PATIENCE;
        while endpoint.receive(&mut frame).is_none() {
            assert!(Instant::now() < patience, "frame {number} does not come");
            endpoint.wait(Duration::from_millis(10));
        }
        assert_eq!(frame[14..18], number.to_be_bytes());
    }
    assert!(endpoint.receive(&mut frame).is_none());
}

/// Where a port's only queue is, and how it is.
fn queue(switch: &Switch, port: &str) -> (usize, QueueState) {
    let queues = switch.view().queues;
    let found = queues.iter().find(|queue| queue.port == port).unwrap();
    (found.worker, found.state)
}

/// A worker that fails waits here, in the middle of its breath, until it is told to go
/// on: the hook of panics runs on its thread.
static STUCK: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);

/// Has the next failure of a worker's be reported, and wait.
fn stick() -> (Receiver<()>, Sender<()>) {
    let ((reports, reported), (go, goes_on)) = (unbounded(), unbounded());
    *STUCK.lock().unwrap_or_else(PoisonError::into_inner) = Some((reports, goes_on));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_worker = std::thread::current().name().is_some_and(|it| it.starts_with("worker"));
        let stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner).take();
        match stuck.filter(|_| is_worker) {
            Some((reports, goes_on)) => {
                reports.send(()).unwrap();
                // The other end goes with the test.
                let _ = goes_on.recv();
            }
            None => before(panic),
        }
    }));
    (reported, go)
}

#[test]
fn a_worker_that_is_stuck_gives_its_queues_up_as_soon_as_it_breathes() {
    // bad, vm3, vm5 and vm7 are worker 0's.
    let (switch, mut ends, _later) = started(&["bad", "vm2", "vm3", "vm4", "vm5", "vm6", "vm7"]);
    let moved = Moved { queue: 0, from: 0, to: 1 };
    assert_eq!(switch.move_queue("vm7", None, 1).unwrap(), moved);
    let (reported, go) = stick();
    send((1, &mut ends[0]), 2, 0..1);
    reported.recv_timeout(PATIENCE).unwrap();

    // Nobody has seen yet that it is stuck: it is sent a queue, and does not take it.
    let error = switch.move_queue("vm4", None, 0).unwrap_err().to_string();
    let not_taken =
        "vm4:0: worker 1 has not given it up for a second, or worker 0 has not taken it";
    assert!(error.starts_with(not_taken), "{error}");
    assert_eq!(queue(&switch, "vm4"), (0, QueueState::Moving));

    send((3, &mut ends[2]), 2, 0..100);
    let error = switch.move_queue("vm3", None, 1).unwrap_err();
    let pending = |port: &str| format!("{port}:0: worker 0 has not given it up for a second");
    assert!(error.to_string().starts_with(&pending("vm3")), "{error}");
    assert_eq!(queue(&switch, "vm3"), (1, QueueState::Moving));
    // Those that the other worker serves are not concerned, and nobody is sent to the one
    // that is stuck.
    send((7, &mut ends[6]), 2, 1000..1001);
    assert_arrive(&mut ends[1], 1000..1001);
    eventually("a stall", || switch.view().workers[0].health == Health::Stalled);
    let error = switch.move_queue("vm2", None, 0).unwrap_err().to_string();
    assert_eq!(
        error,
        "worker 0: it does not end its breath; choose another, or wait until it does"
    );
    assert_eq!(queue(&switch, "vm2").0, 1);

    // What has gone by the time it breathes is not missed by anybody.
    let error = switch.move_queue("vm5", None, 1).unwrap_err();
    assert!(matches!(&error, MoveError::Pending { holder: 0, .. }), "{error}");
    let mut wanted = switch.view().desired.config().clone();
    wanted.ports.retain(|port| port.name.value != "vm5");
    switch.apply(Desired::try_from(wanted).unwrap()).unwrap();

    send((3, &mut ends[2]), 2, 100..200);
    go.send(()).unwrap();
    assert_arrive(&mut ends[1], 0..200);
    // Its frames come before the word that it is there.
    eventually("the queue that moved", || {
        matches!(queue(&switch, "vm3"), (1, QueueState::Hot | QueueState::Armed))
    });
    eventually("the queue that was to come", || {
        matches!(queue(&switch, "vm4"), (0, QueueState::Hot | QueueState::Armed))
    });
    eventually("the end of the port that went", || {
        ends[4].send(&[0; 60], Offload::NONE) == Err(SendError::Detached)
    });
    eventually("balance", || switch.totals().values().all(|totals| totals.is_balanced()));
    let moved = Moved { queue: 0, from: 1, to: 0 };
    eventually("worker 0 is well", || switch.view().workers[0].health == Health::Breathing);
    assert_eq!(switch.move_queue("vm3", None, 0).unwrap(), moved);
}

fn client(socket: &Path, words: &str) -> Output {
    let address = format!("unix:{}", socket.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hairpin"));
    command.env("HAIRPIN_API", address).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn the_command_lists_queues_with_their_load_and_moves_them() {
    let (switch, mut ends, _later) = started(&["vm1", "vm2"]);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let api = Bound::bind(&socket).unwrap().serve(switch.clone()).unwrap();
    let text = |words: &str| String::from_utf8(client(&socket, words).stdout).unwrap();
    let json =
        |words: &str| -> Value { serde_json::from_str(&text(&format!("{words} --json"))).unwrap() };
    send((1, &mut ends[0]), 2, 0..100);
    assert_arrive(&mut ends[1], 0..100);

    let listed = json("workers");
    let worker = &listed["workers"][0];
    assert_eq!(
        [&worker["index"], &worker["cpu"], &worker["poll"]],
        [&json!(0), &json!(0), &json!("adaptive")]
    );
    assert_eq!((&worker["ports"], &worker["health"]), (&json!(["vm1"]), &json!("breathing")));
    let queue = &worker["queues"][0];
    assert_eq!([&queue["port"], &queue["queue"]], [&json!("vm1"), &json!(0)]);
    assert_eq!([&queue["frames"], &queue["bytes"]], [&json!(100), &json!(6000)]);
    assert!(queue["batches"].as_u64().is_some_and(|batches| (2..=100).contains(&batches)));
    eventually("the share of the last batch", || {
        json("workers show 0")["queues"][0]["busy_ns"].as_u64() > Some(0)
    });
    // Over the last second, once it is over.
    let rate = |key: &str| json("workers show 0")["queues"][0][key].as_f64().unwrap();
    eventually("a rate", || rate("frames_per_second") > 0.0 && rate("load") > 0.0);
    eventually("silence", || rate("bytes_per_second") == 0.0);
    eventually("an armed queue", || json("workers")["workers"][0]["queues"][0]["state"] == "armed");
    let change = PortChange { admin: Some(Admin::Down), ..PortChange::default() };
    switch.set_port("vm2", change).unwrap();
    eventually("sleep, and an end of it", || json("workers show 1")["sleeps"].as_u64() > Some(0));

    assert_eq!(text("workers move vm1 --to 1"), "vm1:0 moved from worker 0 to worker 1\n");
    let stayed = "vm1:0 is served by worker 1 already; it stays there\n";
    assert_eq!(text("workers move vm1:0 --to 1"), stayed);
    assert_eq!(json("port show vm1")["workers"], json!([1]));
    for words in ["workers", "workers list", "workers show 1", "show"] {
        let table = text(words);
        assert!(table.contains("vm1:0"), "{words}:\n{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{words}:\n{table}");
    }
    // It stays there whatever else changes.
    switch.set_port("vm1", PortChange { mode: Some(Mode::Vepa), ..PortChange::default() }).unwrap();
    let mut wanted = switch.view().desired.config().clone();
    wanted.ports.push(port("vm3", 3));
    switch.apply(Desired::try_from(wanted).unwrap()).unwrap();
    assert_eq!(json("port show vm1")["workers"], json!([1]));
    // The new one came where there was least to serve.
    assert_eq!(json("port show vm3")["workers"], json!([0]));
    let back = json!({ "port": "vm1", "queue": 0, "from": 1, "to": 0 });
    assert_eq!(json("workers move vm1 --to 0"), back);

    for (words, code, said) in [
        ("workers move vm9 --to 0", 1, "there is no port or link with a device \"vm9\""),
        ("workers move vm1:1 --to 0", 1, "vm1: queue 1: there is none; its queues are 0 to 0"),
        ("workers move vm1:70000 --to 0", 1, "queues have numbers of 0 to 65535"),
        ("workers move vm1 --to 2", 1, "worker 2: there is none; workers are 0 to 1"),
        ("workers show 2", 1, "there is no worker 2; workers are 0 to 1"),
        ("workers move vm1:x --to 0", 2, "\"x\" is no queue's number; write vm1:0"),
        ("workers move vm1", 2, "--to <WORKER>"),
    ] {
        let refused = client(&socket, words);
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{words}: {stderr}");
        assert!(stderr.contains(said), "{words}: {stderr}");
    }
    drop(api);
}
