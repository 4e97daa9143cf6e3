//! Quarantine: what it costs, what is said of it, and how it ends, from the engine
//! to the command.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hairpin::api::listen::Bound;
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::devices::Embedder;
use hairpin::switch::view::State;
use hairpin::switch::{Release, Switch};
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::fault::{self, Chance, Faults};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Armed, Opened};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use serde_json::Value;

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
const CAUSE: &str = "serving it failed: a fault middleware was asked to fail";

/// Memory devices; serving the one called `bad` fails by chance.
struct Crashing {
    crash: Chance,
    endpoints: crossbeam_channel::Sender<Endpoint>,
}

impl Embedder for Crashing {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        let (device, endpoint) = memory::pair(config)?;
        self.endpoints.send(endpoint).unwrap();
        if name != "bad" {
            return Ok(device.into());
        }
        let inward = Faults { crash: self.crash, ..Faults::default() };
        Ok(fault::wrap(device, inward, Faults::default())?.into())
    }
}

/// A switch and the two VMs on it; serving what the first one sends fails.
struct Site {
    switch: Switch,
    bad: Endpoint,
    good: Endpoint,
}

const BAD: u8 = 1;
const GOOD: u8 = 2;

impl Site {
    fn start(crash: Chance) -> Site {
        let port = |name, number| {
            let device = DeviceConfig::Memory(memory::Config::default());
            let mut port = PortConfig::station(name, "up0", Mode::Veb, device);
            port.macs.push(mac(number).into());
            port
        };
        let config = Config {
            links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
            ports: vec![port("bad", BAD), port("good", GOOD)],
            ..Config::default()
        };
        let (endpoints, opened) = crossbeam_channel::unbounded();
        let embedder = Box::new(Crashing { crash, endpoints });
        let switch = Switch::start_with(Desired::try_from(config).unwrap(), embedder).unwrap();
        let (bad, good) = (opened.recv().unwrap(), opened.recv().unwrap());
        Site { switch, bad, good }
    }

    fn state(&self, port: &str) -> State {
        self.switch.view().status[port].state
    }

    /// What the bad port sends brings it into quarantine.
    fn offend(&mut self) {
        self.bad.send(&frame(BAD, GOOD), Offload::default()).unwrap();
        let status = || self.switch.view().status["bad"].clone();
        eventually("quarantine, with its reason", || {
            let status = status();
            status.state == State::Quarantined && status.last_error == CAUSE
        });
    }

    fn lost(&self) -> u64 {
        self.switch.totals()["bad"].dropped(DropReason::PortDown)
    }
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

fn frame(from: u8, to: u8) -> Vec<u8> {
    let mut frame = [&mac(to).octets()[..], &mac(from).octets(), &[0x88, 0xb5]].concat();
    frame.resize(60, 0);
    frame
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn arrives(endpoint: &mut Endpoint) -> bool {
    let (mut frame, patience) = (Vec::new(), Instant::now() + PATIENCE);
    while endpoint.receive(&mut frame).is_none() {
        if Instant::now() >= patience {
            return false;
        }
        endpoint.wait(Duration::from_millis(10));
    }
    true
}

#[test]
fn a_released_port_is_served_again_with_its_device_as_it_was() {
    let mut site = Site::start(Chance::ALWAYS);
    for offence in 1..=3 {
        site.offend();
        site.good.send(&frame(GOOD, BAD), Offload::default()).unwrap();
        eventually("a loss at the quarantined port", || site.lost() == offence);
        assert_eq!(site.state("good"), State::Up);

        assert_eq!(site.switch.release("bad").unwrap(), Release::Released);
        assert_eq!(site.state("bad"), State::Up);
        site.good.send(&frame(GOOD, BAD), Offload::default()).unwrap();
        assert!(arrives(&mut site.bad), "to the released port");
        // That what it sends is served too, the next offence shows.
    }
    let status = site.switch.view().status["bad"].clone();
    assert_eq!((status.reopened, &*status.last_error), (0, CAUSE));
}

#[test]
fn a_released_port_carries_frames_both_ways() {
    let mut site = Site::start(Chance::per_million(500_000));
    let mut released = 0;
    let patience = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    // By chance some frames pass and some are the end of it for a while.
    let mut passed = 0;
    while (released < 3 || passed < 3) && Instant::now() < patience {
        if site.switch.release("bad").unwrap() == Release::Released {
            released += 1;
        }
        // Full for as long as nobody pulls.
        let _ = site.bad.send(&frame(BAD, GOOD), Offload::default());
        if site.good.arm() == Armed::Asleep {
            site.good.wait(Duration::from_millis(1));
        }
        site.good.disarm();
        while site.good.receive(&mut received).is_some() {
            passed += 1;
        }
    }
    assert!(released >= 3 && passed >= 3, "{released} released, {passed} passed");
}

#[test]
fn what_is_in_no_quarantine_is_left_as_it_is() {
    let mut site = Site::start(Chance::ALWAYS);
    let revision = site.switch.view().publications;
    assert_eq!(site.switch.release("good").unwrap(), Release::NotQuarantined);
    site.good.send(&frame(GOOD, BAD), Offload::default()).unwrap();
    assert!(arrives(&mut site.bad));
    assert_eq!(site.switch.view().publications, revision);
    let error = site.switch.release("god").unwrap_err().to_string();
    assert_eq!(error, "there is no port \"god\" (did you mean good?)");
}

fn client(socket: &Path, words: &str) -> Output {
    let address = format!("unix:{}", socket.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hairpin"));
    command.env("HAIRPIN_API", address).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn the_command_shows_and_ends_a_quarantine() {
    let mut site = Site::start(Chance::ALWAYS);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let api = Bound::bind(&socket).unwrap().serve(site.switch.clone()).unwrap();
    let json = |words: &str| -> Value {
        serde_json::from_slice(&client(&socket, &format!("{words} --json")).stdout).unwrap()
    };
    let text = |words: &str| String::from_utf8(client(&socket, words).stdout).unwrap();

    site.offend();
    let shown = json("port show bad");
    assert_eq!((&shown["state"], &shown["last_error"]), (&"quarantined".into(), &CAUSE.into()));
    assert!(text("port show bad").contains(CAUSE));

    let released = json("port release bad");
    assert_eq!((&released["name"], &released["state"]), (&"bad".into(), &"up".into()));
    assert_eq!(released["was_quarantined"], true);
    assert_eq!(json("port release bad")["was_quarantined"], false);
    assert_eq!(text("port release bad"), "bad was not in quarantine; it is left as it is\n");
    site.offend();
    assert_eq!(text("port release bad"), "bad is released\n");

    let refused = client(&socket, "port release god");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(said, "there is no port \"god\" (did you mean good?)\n");
    drop(api);
}
