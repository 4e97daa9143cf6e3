//! The engine with in-process ports: what is applied, what is left alone.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hairpin::config::{
    At, BridgeConfig, Config, Desired, DeviceConfig, LinkConfig, LinkRole, MetricsAddress,
    PortConfig, SwitchConfig, VlanConfig,
};
use hairpin::switch::devices::{Embedder, Endpoints, Outcome};
use hairpin::switch::diff::{Change, Diff, What};
use hairpin::switch::view::State;
use hairpin::switch::{ApplyError, HomeChange, PortChange, Switch};
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::memory::{self, Endpoint, SendError};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::wire::{Mac, VlanId};

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

fn memory_device() -> DeviceConfig {
    DeviceConfig::Memory(memory::Config::default())
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

/// Port `vmN` on the default channel, with its address registered.
fn vm(number: u8) -> PortConfig {
    let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, memory_device());
    port.macs.push(mac(number).into());
    port
}

/// A host-local network with ports vm1 to vmN.
fn site(ports: u8) -> Config {
    Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: (1..=ports).map(vm).collect(),
        ..Config::default()
    }
}

fn desired(config: Config) -> Desired {
    Desired::try_from(config).unwrap()
}

fn started(config: Config) -> Switch {
    Switch::start(desired(config)).unwrap()
}

/// An untagged frame with a number in it.
fn frame(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut frame = [&mac(to).octets()[..], &mac(from).octets(), &[0x88, 0xb5]].concat();
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// Sends, however long the ring is full.
fn send(endpoint: &mut Endpoint, frame: &[u8]) {
    let patience = Instant::now() + PATIENCE;
    loop {
        match endpoint.send(frame, Offload::default()) {
            Ok(()) => return,
            Err(SendError::Full) if Instant::now() < patience => std::thread::yield_now(),
            Err(error) => panic!("cannot send: {error}"),
        }
    }
}

fn receive(endpoint: &mut Endpoint) -> Option<Vec<u8>> {
    let patience = Instant::now() + PATIENCE;
    let mut frame = Vec::new();
    while Instant::now() < patience {
        if endpoint.receive(&mut frame).is_some() {
            return Some(frame);
        }
        endpoint.wait(Duration::from_millis(10));
    }
    None
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One frame from one VM reaches the other.
fn assert_reaches(from: (u8, &mut Endpoint), to: (u8, &mut Endpoint), number: u32) {
    let sent = frame(from.0, to.0, number);
    send(from.1, &sent);
    assert_eq!(receive(to.1).as_ref(), Some(&sent));
}

#[test]
fn frames_pass_and_are_counted() {
    let switch = started(site(2));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert!(switch.take_endpoint("vm1").is_none());
    for number in 0..100 {
        assert_reaches((1, &mut vm1), (2, &mut vm2), number);
    }
    eventually("balance", || switch.totals().values().all(|totals| totals.is_balanced()));
    let totals = switch.totals();
    assert_eq!((totals["vm1"].rx_frames, totals["vm2"].tx_frames), (100, 100));
    assert_eq!(totals["vm2"].tx_bytes, 6000);
}

#[test]
fn the_running_state_applied_again_changes_nothing() {
    let switch = started(site(2));
    let revision = switch.view().revision;
    assert!(switch.apply(desired(site(2))).unwrap().is_empty());
    assert_eq!(switch.view().revision, revision);
}

#[test]
fn a_new_port_comes_up_beside_ports_that_are_not_touched() {
    let switch = started(site(2));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    let diff = switch.apply(desired(site(3))).unwrap();
    assert_eq!(diff, Diff(vec![Change { object: "port vm3".to_owned(), what: What::Added }]));
    let mut vm3 = switch.take_endpoint("vm3").unwrap();
    assert!(switch.take_endpoint("vm1").is_none(), "vm1 was opened again");
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    assert_reaches((2, &mut vm2), (3, &mut vm3), 2);
}

#[test]
fn a_port_that_goes_is_let_go_by_its_worker() {
    let switch = started(site(3));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    let mut vm3 = switch.take_endpoint("vm3").unwrap();
    switch.apply(desired(site(2))).unwrap();
    let probe = frame(3, 1, 0);
    eventually("detachment", || vm3.send(&probe, Offload::default()) == Err(SendError::Detached));
    assert!(!switch.totals().contains_key("vm3"));
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
}

/// Memory devices, but none that is called `bad`.
struct Picky(Endpoints);

impl Embedder for Picky {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        if name == "bad" {
            Err(io::ErrorKind::OutOfMemory.into())
        } else {
            self.0.open(name, config)
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        self.0.settle(outcome);
    }
}

/// A port that [`Picky`] refuses.
fn bad() -> PortConfig {
    PortConfig::station("bad", "up0", Mode::Veb, memory_device())
}

/// A memory device like no other here.
fn deeper_device() -> DeviceConfig {
    DeviceConfig::Memory(memory::Config { slots: 64, ..memory::Config::default() })
}

#[test]
fn a_failed_apply_leaves_everything_as_it_was() {
    let endpoints = Endpoints::default();
    let picky = Box::new(Picky(endpoints.clone()));
    let switch = Switch::start_with(desired(site(2)), picky).unwrap();
    let mut vm1 = endpoints.take("vm1").unwrap();
    let mut vm2 = endpoints.take("vm2").unwrap();
    let before = switch.view();

    // vm3 opens, vm1 is to go down, and then `bad` fails.
    let mut wanted = site(3);
    wanted.ports[0].admin = Admin::Down;
    wanted.ports.push(bad());
    let error = switch.apply(desired(wanted)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port bad: device: its memory could not be made: out of memory; see ulimit and free memory"
    );

    let after = switch.view();
    assert_eq!((after.revision, &after.desired), (before.revision, &before.desired));
    assert_eq!(after.status, before.status);
    assert!(endpoints.take("vm3").is_none(), "what was opened for nothing is closed");
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    // And the next one that is right is applied.
    assert_eq!(switch.apply(desired(site(3))).unwrap().0.len(), 1);
}

#[test]
fn a_failed_apply_leaves_endpoints_that_nobody_took() {
    let endpoints = Endpoints::default();
    let picky = Box::new(Picky(endpoints.clone()));
    let switch = Switch::start_with(desired(site(2)), picky).unwrap();
    // Both devices are opened anew, and then `bad` fails.
    let mut wanted = site(2);
    wanted.ports.iter_mut().for_each(|port| port.device = deeper_device().into());
    let right = wanted.clone();
    wanted.ports.push(bad());
    switch.apply(desired(wanted)).unwrap_err();
    let mut vm1 = endpoints.take("vm1").unwrap();
    let mut vm2 = endpoints.take("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    assert!(endpoints.take("vm1").is_none());
    // The change without `bad` offers other endpoints.
    switch.apply(desired(right)).unwrap();
    let mut vm1 = endpoints.take("vm1").unwrap();
    let mut vm2 = endpoints.take("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 2);
}

#[test]
fn changes_to_one_port_lose_nothing_elsewhere() {
    const FRAMES: u32 = 20_000;
    // Frames on their way at a time: fewer than a ring holds, so that none is lost
    // for want of room.
    const WINDOW: u32 = 256;
    let switch = started(site(3));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    let arrived = Arc::new(AtomicU32::new(0));
    let sender = std::thread::spawn({
        let arrived = Arc::clone(&arrived);
        move || {
            for number in 0..FRAMES {
                while number >= arrived.load(Ordering::Relaxed) + WINDOW {
                    std::thread::yield_now();
                }
                send(&mut vm1, &frame(1, 2, number));
            }
            vm1
        }
    });
    let changer = std::thread::spawn({
        let switch = switch.clone();
        move || {
            let modes = [Mode::Vepa, Mode::Private, Mode::Veb];
            for (turn, mode) in modes.iter().cycle().take(60).enumerate() {
                let admin = if turn % 2 == 0 { Admin::Down } else { Admin::Up };
                let vlan = VlanConfig::Access(VlanId::new(10 + turn as u16).unwrap());
                let change = PortChange {
                    mode: Some(*mode),
                    admin: Some(admin),
                    vlan: Some(vlan),
                    home: None,
                    ..PortChange::default()
                };
                assert!(!switch.set_port("vm3", change).unwrap().is_empty());
            }
        }
    });
    for number in 0..FRAMES {
        let received = receive(&mut vm2);
        // The sender ends in any case; what is wrong is said here.
        arrived
            .store(if received.is_some() { number + 1 } else { u32::MAX / 2 }, Ordering::Relaxed);
        assert_eq!(received, Some(frame(1, 2, number)));
    }
    changer.join().unwrap();
    drop(sender.join().unwrap());
    assert_eq!(switch.totals()["vm2"].drops().count(), 0);
    assert_eq!(switch.totals()["vm1"].drops().count(), 0);
}

#[test]
fn a_port_is_changed_live() {
    let switch = started(site(2));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);

    let vepa = PortChange { mode: Some(Mode::Vepa), ..PortChange::default() };
    switch.set_port("vm1", vepa).unwrap();
    send(&mut vm1, &frame(1, 2, 2));
    let lost = |reason| switch.totals()["vm1"].dropped(reason);
    eventually("a loss for want of an uplink", || lost(DropReason::NoUplink) == 1);

    let veb = PortChange { mode: Some(Mode::Veb), ..PortChange::default() };
    switch.set_port("vm1", veb).unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 3);

    let down = PortChange { admin: Some(Admin::Down), ..PortChange::default() };
    switch.set_port("vm2", down).unwrap();
    assert_eq!(switch.view().status["vm2"].state, State::Down);
    let up = PortChange { admin: Some(Admin::Up), ..PortChange::default() };
    switch.set_port("vm2", up).unwrap();
    assert_eq!(switch.view().status["vm2"].state, State::Up);
    assert_reaches((2, &mut vm2), (1, &mut vm1), 4);
}

/// Two host-local networks and a bridge.
fn wide_site(ports: u8) -> Config {
    let links = ["up0", "up1"].map(|name| LinkConfig::new(name, LinkRole::Station, None)).to_vec();
    let bridges = vec![BridgeConfig { name: "br0".into(), members: Vec::new() }];
    Config { links, bridges, ..site(ports) }
}

#[test]
fn a_port_moves_live_to_another_channel_and_to_a_bridge() {
    let switch = started(wide_site(3));
    let [mut vm1, mut vm2, mut vm3] =
        ["vm1", "vm2", "vm3"].map(|name| switch.take_endpoint(name).unwrap());
    let to_channel = |name: &str| PortChange {
        home: Some(HomeChange::Channel(name.to_owned())),
        mode: Some(Mode::Veb),
        ..PortChange::default()
    };
    let to_bridge =
        || PortChange { home: Some(HomeChange::Bridge("br0".to_owned())), ..PortChange::default() };
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    let unknown = || switch.totals()["vm1"].dropped(DropReason::UnknownUnicast);
    let moves = [to_channel("up1"), to_bridge(), to_channel("up0")];
    for (turn, change) in (1..).zip(moves) {
        let number = 10 * turn;
        let diff = switch.set_port("vm1", change.clone()).unwrap();
        assert_eq!(diff.0.len(), 1, "{diff}");
        // It has left the others, who notice nothing.
        send(&mut vm1, &frame(1, 2, number));
        eventually("a frame to nobody", || unknown() == u64::from(turn));
        assert_reaches((2, &mut vm2), (3, &mut vm3), number + 1);
        // They follow.
        switch.set_port("vm2", change.clone()).unwrap();
        switch.set_port("vm3", change).unwrap();
        assert_reaches((1, &mut vm1), (2, &mut vm2), number + 2);
        assert_reaches((3, &mut vm3), (1, &mut vm1), number + 3);
    }
    assert_eq!(switch.view().desired.config(), &wide_site(3), "as before, all in all");
}

#[test]
fn a_port_changes_its_vlans_live() {
    let switch = started(site(2));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    let access = |number| PortChange {
        vlan: Some(VlanConfig::Access(VlanId::new(number).unwrap())),
        ..PortChange::default()
    };
    switch.set_port("vm1", access(10)).unwrap();
    switch.set_port("vm2", access(11)).unwrap();
    send(&mut vm1, &frame(1, 2, 1));
    let unknown = || switch.totals()["vm1"].dropped(DropReason::UnknownUnicast);
    eventually("a frame to nobody", || unknown() == 1);
    switch.set_port("vm2", access(10)).unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 2);
    let transparent = VlanConfig::Transparent;
    let transparent = PortChange { vlan: Some(transparent), ..PortChange::default() };
    switch.set_port("vm1", transparent.clone()).unwrap();
    switch.set_port("vm2", transparent).unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 3);
}

#[test]
fn what_is_refused_leaves_everything_as_it_was() {
    let mut config = wide_site(2);
    config.ports[0].macs.clear();
    let switch = started(config.clone());
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 0);
    let standing = || {
        let view = switch.view();
        let learned: Vec<_> =
            switch.learned(0, 10).0.into_iter().map(|row| (row.mac, row.port)).collect();
        (view.revision, view.desired, view.status, learned)
    };
    let before = standing();

    let to = |home: HomeChange| PortChange { home: Some(home), ..PortChange::default() };
    let mode = |mode: Mode| PortChange { mode: Some(mode), ..PortChange::default() };
    let to_bridge = PortChange { mode: Some(Mode::Veb), ..to(HomeChange::Bridge("br0".into())) };
    let mut restarts = config;
    restarts.ports[1].admin = Admin::Down;
    restarts.switch.fdb.capacity += 1;
    let mut refused = |number, change: &dyn Fn() -> Result<Diff, ApplyError>| {
        assert!(change().is_err(), "the change {number} is applied");
        assert_eq!(standing(), before, "after the change {number}");
        assert_reaches((1, &mut vm1), (2, &mut vm2), number);
        assert_reaches((2, &mut vm2), (1, &mut vm1), number);
    };
    refused(1, &|| switch.set_port("vm1", mode(Mode::Direct)));
    refused(2, &|| switch.set_port("vm1", to(HomeChange::Channel("up2".to_owned()))));
    refused(3, &|| switch.set_port("vm1", to(HomeChange::Bridge("br1".to_owned()))));
    refused(4, &|| switch.set_port("vm1", to_bridge.clone()));
    refused(5, &|| switch.set_port("vm3", mode(Mode::Vepa)));
    refused(6, &|| switch.apply(desired(restarts.clone())));
}

#[test]
fn a_change_that_contradicts_the_rest_is_refused() {
    let switch = started(site(2));
    let said = |name: &str, change: PortChange| switch.set_port(name, change).unwrap_err();
    let direct = PortChange { mode: Some(Mode::Direct), ..PortChange::default() };
    assert_eq!(
        said("vm1", direct).to_string(),
        "port vm2: channel: channel up0 belongs to vm1, whose mode is direct; a direct port is \
         the only port of its channel: use another channel, or another mode"
    );
    let elsewhere = HomeChange::Channel("up1".to_owned());
    let elsewhere = PortChange { home: Some(elsewhere), ..PortChange::default() };
    assert_eq!(
        said("vm1", elsewhere).to_string(),
        "port vm1: channel: there is no channel \"up1\" (did you mean up0?); channels for ports \
         are up0"
    );
    let said = said("vm3", PortChange::default()).to_string();
    assert!(said.starts_with("there is no port \"vm3\" (did you mean vm"), "{said}");
}

#[test]
fn a_device_that_changes_is_marked_and_its_counters_go_on() {
    let switch = started(site(2));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    let mut wanted = site(2);
    wanted.ports[0].device = deeper_device().into();
    let diff = switch.apply(desired(wanted)).unwrap();
    let what = What::Disruptive(vec!["device"]);
    assert_eq!(diff, Diff(vec![Change { object: "port vm1".to_owned(), what }]));
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 2);
    eventually("the second frame's count", || switch.totals()["vm1"].rx_frames == 2);
}

#[test]
fn what_only_a_start_can_change_is_refused() {
    let switch = started(site(1));
    let other = SwitchConfig { workers: vec![0, 1], ..SwitchConfig::default() };
    let error = switch.apply(desired(Config { switch: other, ..site(1) })).unwrap_err();
    assert!(matches!(error, ApplyError::Restart { field: "workers" }), "{error}");
    let metrics = MetricsAddress::read("127.0.0.1:9750");
    let other = SwitchConfig { metrics, ..SwitchConfig::default() };
    let error = switch.apply(desired(Config { switch: other, ..site(1) })).unwrap_err();
    assert!(matches!(error, ApplyError::Restart { field: "metrics" }), "{error}");
    // The name is not bound to anything.
    let renamed = SwitchConfig { name: "other".to_owned(), ..SwitchConfig::default() };
    switch.apply(desired(Config { switch: renamed, ..site(1) })).unwrap();
    assert_eq!(switch.view().desired.switch().name, "other");
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let switch = SwitchConfig { workers: vec![1023], ..SwitchConfig::default() };
    let error = Switch::start(desired(Config { switch, ..site(1) })).unwrap_err();
    assert!(error.to_string().contains("may not run on CPU 1023"), "{error}");
}

#[test]
fn several_workers_share_the_ports() {
    let switch = SwitchConfig { workers: vec![0, 1], ..SwitchConfig::default() };
    let switch = started(Config { switch, ..site(4) });
    let view = switch.view();
    let loads = [0, 1].map(|worker| {
        view.status.values().filter(|status| status.workers.contains(&worker)).count()
    });
    assert_eq!(loads, [2, 2]);
    let mut endpoints: Vec<Endpoint> =
        (1..=4).map(|n| switch.take_endpoint(&format!("vm{n}")).unwrap()).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        let sent = frame(from as u8 + 1, to as u8 + 1, 0);
        send(&mut endpoints[from], &sent);
        assert_eq!(receive(&mut endpoints[to]), Some(sent));
    }
}

#[test]
fn learned_addresses_are_listed_until_the_port_goes_down() {
    let mut config = site(2);
    config.ports[0].macs.clear();
    let switch = started(config);
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    let (learned, next) = switch.learned(0, 100);
    assert_eq!((learned.len(), next), (1, None));
    assert_eq!((learned[0].mac, &*learned[0].port, &*learned[0].domain), (mac(1), "vm1", "up0"));
    let down = PortChange { admin: Some(Admin::Down), ..PortChange::default() };
    switch.set_port("vm1", down).unwrap();
    assert!(switch.learned(0, 100).0.is_empty());
}

#[test]
fn a_higher_learn_limit_keeps_what_was_learned() {
    let mut config = site(2);
    config.ports[0].macs.clear();
    config.ports[0].learn_limit = 1;
    let switch = started(config.clone());
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    config.ports[0].learn_limit = 2;
    switch.apply(desired(config)).unwrap();
    let learned = |switch: &Switch| {
        let mut macs: Vec<Mac> = switch.learned(0, 100).0.iter().map(|row| row.mac).collect();
        macs.sort_unstable();
        macs
    };
    assert_eq!(learned(&switch), [mac(1)]);
    assert_reaches((9, &mut vm1), (2, &mut vm2), 2);
    assert_eq!(learned(&switch), [mac(1), mac(9)]);
}

#[test]
fn behind_another_device_are_other_stations() {
    let mut config = site(2);
    config.ports[0].macs.clear();
    let switch = started(config.clone());
    let mut vm1 = switch.take_endpoint("vm1").unwrap();
    let mut vm2 = switch.take_endpoint("vm2").unwrap();
    assert_reaches((1, &mut vm1), (2, &mut vm2), 1);
    assert_eq!(switch.learned(0, 100).0.len(), 1);
    config.ports[0].device = deeper_device().into();
    switch.apply(desired(config)).unwrap();
    assert!(switch.learned(0, 100).0.is_empty());
}

fn on_tap(name: &str, interface: &str) -> PortConfig {
    let device = DeviceConfig::Tap { interface: interface.to_owned() };
    PortConfig::station(name, "up0", Mode::Veb, device)
}

#[test]
fn a_tap_that_is_handed_over_is_not_disruptive_and_one_that_closes_is() {
    let of = |ports: [(&str, &str); 2]| Config {
        ports: ports.map(|(name, interface)| on_tap(name, interface)).to_vec(),
        ..site(0)
    };
    let before = of([("vm1", "tap1"), ("vm2", "tap2")]);
    let said = |after| Diff::between(&before, &of(after)).to_string();
    assert_eq!(said([("vm1", "tap2"), ("vm2", "tap1")]), "~ port vm1: device\n~ port vm2: device");
    assert_eq!(said([("vm9", "tap1"), ("vm2", "tap2")]), "- port vm1\n+ port vm9");
    assert_eq!(
        said([("vm1", "tap2"), ("vm2", "tap3")]),
        "! port vm1: device (disruptive)\n! port vm2: device (disruptive)"
    );
}

#[test]
fn a_memory_device_whose_end_was_dropped_waits() {
    let switch = started(site(2));
    drop(switch.take_endpoint("vm1"));
    eventually("waiting", || switch.view().status["vm1"].state == State::Waiting);
    assert_eq!(switch.view().status["vm2"].state, State::Up);
}

#[test]
fn a_value_is_the_same_wherever_it_was_written() {
    assert_eq!(At { value: 1, line: Some(7) }, At { value: 1, line: None });
}
