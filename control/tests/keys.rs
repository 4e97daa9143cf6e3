//! Keys of a configuration file, through to the frames that they are about.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hairpin::config::{self, Desired, DeviceConfig};
use hairpin::switch::Switch;
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// A host-local network.
const LINK: &str = "[[link]]\nname = \"up0\"\nrole = \"station\"\n";

/// Port `vmN` on it, with further keys.
fn port(number: u8, keys: &str) -> String {
    format!(
        "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
         device = {{ tap = {{ interface = \"tap{number}\" }} }}\n{keys}\n"
    )
}

/// Port `vmN` with its address registered.
fn registered(number: u8, keys: &str) -> String {
    port(number, &format!("mac = \"{}\"\n{keys}", mac(number)))
}

/// A switch as a file says, but its devices are in this process.
fn started(file: &str) -> Switch {
    let mut config = config::parse(file).unwrap().config().clone();
    let devices = config.links.iter_mut().filter_map(|link| link.device.as_mut());
    for device in devices.chain(config.ports.iter_mut().map(|port| &mut port.device)) {
        *device = DeviceConfig::Memory(memory::Config::default()).into();
    }
    Switch::start(Desired::try_from(config).unwrap()).unwrap()
}

fn guest(switch: &Switch, name: &str) -> Endpoint {
    switch.take_endpoint(name).unwrap()
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

const BROADCAST: Mac = Mac::new([0xff; 6]);

/// An untagged frame with a number in it.
fn frame(from: Mac, to: Mac, number: u8) -> Vec<u8> {
    let mut frame = [&to.octets()[..], &from.octets(), &[0x88, 0xb5, number]].concat();
    frame.resize(60, 0);
    frame
}

/// The frame with a C-tag of priority 0.
fn tagged(vid: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &vid.to_be_bytes(), &frame[12..]].concat()
}

fn send(endpoint: &mut Endpoint, frame: &[u8]) {
    endpoint.send(frame, Offload::NONE).unwrap();
}

fn receive(endpoint: &mut Endpoint) -> Vec<u8> {
    let (mut frame, patience) = (Vec::new(), Instant::now() + PATIENCE);
    while endpoint.receive(&mut frame).is_none() {
        assert!(Instant::now() < patience, "no frame comes");
        endpoint.wait(Duration::from_millis(10));
    }
    frame
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What one guest sends arrives at the other, as it is to be there.
#[track_caller]
fn assert_arrives(from: &mut Endpoint, sent: &[u8], to: &mut Endpoint, expected: &[u8]) {
    send(from, sent);
    assert_eq!(receive(to), expected);
}

/// What a guest sends is lost at its port, once, for this reason.
#[track_caller]
fn assert_lost(switch: &Switch, port: &str, from: &mut Endpoint, sent: &[u8], why: DropReason) {
    let lost = || switch.totals()[port].dropped(why);
    let before = lost();
    send(from, sent);
    eventually(&format!("a loss as {why}"), || lost() == before + 1);
}

#[test]
fn an_access_port_is_an_untagged_member_of_its_vlan() {
    let ports = registered(1, "vlan = { access = 10 }") + &registered(2, "");
    let switch = started(&(LINK.to_owned() + &ports));
    let (mut vm1, mut vm2) = (guest(&switch, "vm1"), guest(&switch, "vm2"));
    let (there, back) = (frame(mac(1), mac(2), 1), frame(mac(2), mac(1), 2));
    assert_arrives(&mut vm1, &there, &mut vm2, &tagged(10, &there));
    assert_arrives(&mut vm2, &tagged(10, &back), &mut vm1, &back);
    assert_lost(&switch, "vm1", &mut vm1, &tagged(10, &there), DropReason::VlanTagged);
    assert_lost(&switch, "vm2", &mut vm2, &tagged(11, &back), DropReason::UnknownUnicast);
}

#[test]
fn a_trunk_is_a_member_of_its_vlans_and_untagged_of_the_native_one() {
    let ports = registered(1, "vlan = { trunk = [10, \"20-29\"], native = 10 }");
    let switch = started(&(LINK.to_owned() + &ports + &registered(2, "")));
    let (mut vm1, mut vm2) = (guest(&switch, "vm1"), guest(&switch, "vm2"));
    let (there, back) = (frame(mac(1), mac(2), 1), frame(mac(2), mac(1), 2));
    assert_arrives(&mut vm1, &there, &mut vm2, &tagged(10, &there));
    assert_arrives(&mut vm1, &tagged(25, &there), &mut vm2, &tagged(25, &there));
    assert_arrives(&mut vm2, &tagged(10, &back), &mut vm1, &back);
    assert_arrives(&mut vm2, &tagged(29, &back), &mut vm1, &tagged(29, &back));
    assert_lost(&switch, "vm1", &mut vm1, &tagged(30, &there), DropReason::VlanNotMember);
    assert_lost(&switch, "vm2", &mut vm2, &tagged(30, &back), DropReason::UnknownUnicast);
}

#[test]
fn a_trunk_without_a_native_vlan_sends_tagged_frames_only() {
    let ports = registered(1, "vlan = { trunk = [10] }") + &registered(2, "");
    let switch = started(&(LINK.to_owned() + &ports));
    let (mut vm1, mut vm2) = (guest(&switch, "vm1"), guest(&switch, "vm2"));
    let there = frame(mac(1), mac(2), 1);
    assert_lost(&switch, "vm1", &mut vm1, &there, DropReason::VlanUntagged);
    assert_arrives(&mut vm1, &tagged(10, &there), &mut vm2, &tagged(10, &there));
}

#[test]
fn group_frames_are_reflected_up_to_the_rate() {
    let switch = started(
        "[[link]]\nname = \"sbp0\"\nrole = \"bridge\"\n\
         device = { tap = { interface = \"far0\" } }\n\
         [[bridge]]\nname = \"br0\"\nmembers = [\n  \
         { link = \"sbp0\", reflective-relay = \"on\", reflected-group-rate = 2 },\n]\n",
    );
    let mut station = guest(&switch, "sbp0");
    for number in 0..3 {
        station.queue(&frame(mac(1), BROADCAST, number), Offload::NONE).unwrap();
    }
    station.flush();
    for number in 0..2 {
        assert_eq!(receive(&mut station), frame(mac(1), BROADCAST, number));
    }
    let totals = || switch.totals()["sbp0"].clone();
    eventually("a loss", || totals().dropped(DropReason::ReflectedGroupRate) == 1);
    assert_eq!(totals().tx_frames, 2);
}

#[test]
fn a_port_learns_up_to_its_limit() {
    let ports = port(1, "learn-limit = 1") + &registered(2, "");
    let switch = started(&(LINK.to_owned() + &ports));
    let (mut vm1, mut vm2) = (guest(&switch, "vm1"), guest(&switch, "vm2"));
    let first = frame(mac(1), mac(2), 1);
    assert_arrives(&mut vm1, &first, &mut vm2, &first);
    let second = frame(mac(9), mac(2), 2);
    assert_lost(&switch, "vm1", &mut vm1, &second, DropReason::LearnLimit);
    // The one it has learned goes on.
    assert_arrives(&mut vm1, &first, &mut vm2, &first);
}

#[test]
fn an_address_that_is_not_used_ages_and_its_frames_flood_again() {
    let ports = port(1, "") + &registered(2, "") + &port(3, "");
    let switch = started(&format!("[switch]\nfdb = {{ ageing = \"1s\" }}\n{LINK}{ports}"));
    let (mut vm1, mut vm2) = (guest(&switch, "vm1"), guest(&switch, "vm2"));
    let mut vm3 = guest(&switch, "vm3");
    let (there, back) = (frame(mac(1), mac(2), 1), frame(mac(2), mac(1), 2));
    // Learned, and found: at once, or this machine stood still for a second.
    eventually("a frame to one port only", || {
        assert_arrives(&mut vm1, &there, &mut vm2, &there);
        assert_arrives(&mut vm2, &back, &mut vm1, &back);
        let known = switch.learned(0, 10).0.iter().any(|row| row.mac == mac(1));
        known && vm3.receive(&mut Vec::new()).is_none()
    });
    eventually("ageing", || switch.learned(0, 10).0.is_empty());
    assert_arrives(&mut vm2, &back, &mut vm1, &back);
    assert_eq!(receive(&mut vm3), back);
}

#[test]
fn the_table_has_room_for_its_capacity() {
    const SOURCES: u8 = 100;
    for (capacity, room) in [(64, 64), (4096, SOURCES)] {
        let ports = port(1, "learn-limit = 1000") + &registered(2, "");
        let switch = format!("[switch]\nfdb = {{ capacity = {capacity} }}\n{LINK}{ports}");
        let switch = started(&switch);
        let mut vm1 = guest(&switch, "vm1");
        (0..SOURCES).for_each(|n| send(&mut vm1, &frame(mac(100 + n), mac(2), n)));
        let totals = || switch.totals()["vm1"].clone();
        eventually("all frames", || totals().rx_frames == u64::from(SOURCES));
        let lost = || totals().dropped(DropReason::LearnLimit);
        eventually("losses", || lost() == u64::from(SOURCES - room));
        assert_eq!(switch.learned(0, 1000).0.len(), usize::from(room), "of {capacity}");
    }
}
