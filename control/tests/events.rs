//! What happened: told in order, with cause and remedy, to whoever watches.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::{Daemon, HAIRPIN, LOCAL, PATIENCE, Place, eventually, stderr, stdout};
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin::switch::events::{Event, Kind};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::offload::Offload;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A daemon with ports `vm1` and `vm2` at sockets that no VMM comes to.
fn site(place: &Place) -> Daemon {
    let port = |name: &str| {
        let socket = place.file().with_file_name(format!("{name}.sock"));
        format!(
            "[[port]]\nname = {name:?}\nchannel = \"up0\"\nmode = \"veb\"\ndevice = {{ vhost-user \
             = {{ socket = {socket:?}, role = \"server\" }} }}\n"
        )
    };
    place.write(&format!("{LOCAL}{}{}", port("vm1"), port("vm2")));
    Daemon::start(place.daemon_command())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn told(place: &Place, words: &str) -> Vec<Value> {
    let output = place.client(&format!("events --json {words}"));
    assert!(output.status.success(), "{}", stderr(&output));
    lines(&stdout(&output))
}

/// `events --follow`, ended when dropped.
struct Follower {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Follower {
    fn start(place: &Place, words: &[&str]) -> Follower {
        let address = format!("unix:{}", place.socket().display());
        let mut command = Command::new(HAIRPIN);
        command.env("HAIRPIN_API", address).args(["events", "--follow", "--json"]).args(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Follower { child, lines }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Either it ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_happens_is_told_in_order_with_cause_and_remedy() {
    let place = Place::new();
    let daemon = site(&place);
    let all = told(&place, "");
    let brief: Vec<(&Value, &Value)> = all.iter().map(|it| (&it["object"], &it["kind"])).collect();
    let (switch, up0, vm1, vm2) =
        (json!("switch"), json!("link up0"), json!("port vm1"), json!("port vm2"));
    let (applied, up, waiting) = (json!("applied"), json!("up"), json!("waiting"));
    assert_eq!(brief, [(&switch, &applied), (&up0, &up), (&vm1, &waiting), (&vm2, &waiting)]);
    assert_eq!(all[0]["cause"], "revision 1 by file: + link up0, + port vm1, + port vm2");
    let cause = all[2]["cause"].as_str().unwrap();
    assert!(cause.starts_with("no VMM is connected to socket "), "{cause}");
    assert!(all.iter().zip(1..).all(|(event, number)| event["sequence"] == number));

    // It ends with what there is, whatever of it is asked for.
    assert!(told(&place, "--after 4").is_empty());
    assert!(told(&place, "--after 3").len() == 1);
    assert!(told(&place, "nobody").is_empty());
    let mut follower = Follower::start(&place, &["--after", "4"]);
    assert!(place.client("port set vm1 admin=down").status.success());
    let first = follower.next().unwrap();
    assert_eq!((&first["sequence"], &first["object"]), (&json!(5), &switch));
    let second = follower.next().unwrap();
    assert_eq!((&second["object"], &second["kind"]), (&vm1, &json!("down")));
    assert_eq!(second["cause"], "it was set down");
    assert_eq!(second["remedy"], "`hairpin port set vm1 admin=up` sets it up");
    let mut of_vm2 = Follower::start(&place, &["port vm2"]);
    assert_eq!(of_vm2.next().unwrap()["sequence"], 4);
    assert!(place.client("port set vm2 admin=down").status.success());
    assert_eq!(of_vm2.next().unwrap()["kind"], "down");
    assert!(daemon.log().contains("object=\"port vm1\" kind=\"down\""), "{}", daemon.log());

    let table = place.client("events");
    let table = stdout(&table);
    assert!(table.contains(" port vm1: down\n"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80 || line.contains(".sock")));
    // It ends with the switch.
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    while follower.next().is_some() {}
    assert!(follower.child.wait().unwrap().code().is_some());
}

#[test]
fn a_guest_that_flaps_is_told_of_as_it_stands_and_drowns_nobody() {
    let place = Place::new();
    let daemon = site(&place);
    for turn in 0..40 {
        let admin = ["down", "up"][turn % 2];
        assert!(place.client(&format!("port set vm1 admin={admin}")).status.success());
    }
    let all = told(&place, "");
    let of_vm1 = || all.iter().filter(|event| event["object"] == "port vm1");
    assert!((2..20).contains(&of_vm1().count()), "{all:?}");
    // However it was told of in between, it is told of as it is.
    let is_told = || {
        let all = told(&place, "");
        let last = all.iter().rfind(|event| event["object"] == "port vm1");
        last.is_some_and(|event| event["kind"] == "waiting")
    };
    eventually("the state that vm1 is in", is_told);
    assert!(place.client("port set vm2 admin=down").status.success());
    let all = told(&place, "");
    assert!(all.iter().any(|it| it["object"] == "port vm2" && it["kind"] == "down"), "{all:?}");
    drop(daemon);
}

fn memory_port(name: &str) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config::default());
    PortConfig { learn_limit: 2, ..PortConfig::station(name, "up0", Mode::Veb, device) }
}

fn send(endpoint: &mut Endpoint, source: u8) {
    let mut frame = [[0xff; 6], [0x52, 0x54, 0, 0, 0, source]].concat();
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    endpoint.send(&frame, Offload::default()).unwrap();
}

/// The first event of this kind.
fn wait_for(switch: &Switch, kind: Kind) -> Event {
    let patience = Instant::now() + PATIENCE;
    loop {
        let unseen = switch.events().behind(0, usize::MAX).events;
        if let Some(event) = unseen.into_iter().find(|event| event.kind == kind) {
            return event;
        }
        assert!(Instant::now() < patience, "no event of kind {kind:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn addresses_that_move_and_limits_that_are_reached_are_told_of() {
    let config = Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: ["vm1", "vm2"].map(memory_port).to_vec(),
        ..Config::default()
    };
    let switch = Switch::start(Desired::try_from(config).unwrap()).unwrap();
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    let learned = |port: &str| {
        let (addresses, _) = switch.learned(0, 100);
        addresses.iter().filter(|address| address.port == port).count()
    };
    send(&mut vm1, 1);
    eventually("the address at vm1", || learned("vm1") == 1);
    send(&mut vm2, 1);
    let moved = wait_for(&switch, Kind::AddressMoved);
    let cause = "52:54:00:00:00:01 in VLAN 0 was behind vm1 and is behind vm2";
    assert_eq!((moved.object.as_str(), moved.cause.as_str()), ("port vm2", cause));
    for source in 2..6 {
        send(&mut vm2, source);
    }
    let limit = wait_for(&switch, Kind::LimitHit);
    assert_eq!(limit.object, "port vm2");
    assert!(limit.cause.starts_with("learn_limit: 3 frames. "), "{}", limit.cause);
    assert!(!limit.remedy.is_empty());

    // And what was learned is forgotten by order.
    switch.flush(Some("vm2")).unwrap();
    assert_eq!((learned("vm1"), learned("vm2")), (0, 0));
    assert!(switch.flush(Some("vm9")).is_err());
}
