//! Cables by AF_XDP whose MTU has room for tags, or has not.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Family, Frame, Host, Namespace, Recorder, Workers, eventually, mac_bytes, root,
    send_frame, transfer,
};
use serde_json::Value;

use crate::experiment::EXPERIMENTAL;
use crate::netdev::{Kind, await_state, lay};
use crate::site::{assert_reach, learning_port};

const MEGABYTE: u64 = 1 << 20;
const S_TAG: [u8; 4] = [0x88, 0xa8, 0, 100];
const C_TAG: [u8; 4] = [0x81, 0x00, 0, 10];
/// A station at the far end of the cable.
const FAR: u8 = 7;

/// A station whose ports on the S-channel red are trunks of VLAN 10; its cable `if0` leads
/// to `far0`.
fn station(link_keys: &str) -> String {
    let trunk = learning_port(1, "red", "vepa") + "vlan = { trunk = [10] }\n";
    [&Kind::Xdp.link("station", 0), link_keys, RED, &trunk].concat()
}

const RED: &str = "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 100\n";

/// A frame from one station to another with these tags and so many bytes of payload.
fn frame(to: u8, from: u8, tags: &[u8], payload: usize) -> Vec<u8> {
    let mut bytes = [&mac_bytes(to)[..], &mac_bytes(from), tags, &EXPERIMENTAL].concat();
    bytes.extend((0..payload).map(|at| (at % 251) as u8));
    bytes
}

fn is(bytes: &[u8]) -> impl Fn(&Frame) -> bool + '_ {
    move |seen: &Frame| seen.direction == Direction::Incoming && seen.bytes == bytes
}

fn warnings(daemon: &Daemon) -> Vec<String> {
    let link = daemon.hairpin("link show up0").unwrap();
    let warnings = link["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Gives both ends of the cable this MTU, the far one being in that namespace.
fn set_mtu(daemon: &Daemon, far: &Namespace, mtu: u32) {
    far.ip(&format!("link set far0 mtu {mtu}")).unwrap();
    daemon.namespace().ip(&format!("link set if0 mtu {mtu}")).unwrap();
}

/// Lays the cable; its far end is in a namespace of its own.
fn lay_cable(daemon: &Daemon) -> Namespace {
    lay(daemon.namespace(), 0).unwrap();
    let far = Namespace::new().unwrap();
    daemon.namespace().give("far0", &far).unwrap();
    far.ip("link set far0 up").unwrap();
    await_state(daemon, "link up0", "up");
    far
}

#[test]
fn a_cable_without_room_for_tags_is_explained_and_with_room_takes_them() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(Workers::One, &station("mtu = 1500\n")).unwrap();
    let one = Host::plug(daemon.namespace(), "tap1", 1).unwrap();
    let far = lay_cable(&daemon);
    let recorder = Recorder::start(&far, "far0").unwrap();
    let lost = || daemon.count("up0", "/drops/mtu_exceeded").unwrap();
    let send = |payload| {
        let bytes = frame(FAR, 1, &C_TAG, payload);
        send_frame(one.namespace(), one.interface(), &bytes).unwrap();
    };
    let on_cable = |payload| frame(FAR, 1, &[S_TAG, C_TAG].concat(), payload);

    let explained = "frames of channel red with 1500 bytes of payload and an S- and a C-tag are \
                     too long for interface `if0`, whose mtu is 1500, and are dropped as \
                     `mtu_exceeded`: raise the interface's at both ends of the cable (`ip link \
                     set if0 mtu 1508`), or set `mtu = 1496`";
    eventually("the warning", || warnings(&daemon).iter().any(|it| it.contains(explained)))
        .unwrap();
    assert!(daemon.log().contains(explained), "{}", daemon.log());
    for payload in [1500, 1497] {
        send(payload);
    }
    eventually("both lost by name", || lost() == 2).unwrap();
    send(1496);
    recorder.find("1496 bytes of payload", is(&on_cable(1496))).unwrap();
    assert_eq!(recorder.collect(Duration::from_millis(20), is(&on_cable(1500))).len(), 0);

    // With room, both ways, every byte in its place.
    set_mtu(&daemon, &far, 1508);
    eventually("no warning", || warnings(&daemon).is_empty()).unwrap();
    send(1500);
    let sent = recorder.find("1500 bytes of payload", is(&on_cable(1500))).unwrap();
    assert_eq!(sent.bytes.len(), 1522);
    let at_host = Recorder::start(one.namespace(), one.interface()).unwrap();
    send_frame(&far, "far0", &frame(1, FAR, &[S_TAG, C_TAG].concat(), 1500)).unwrap();
    at_host.find("the answer", is(&frame(1, FAR, &C_TAG, 1500))).unwrap();
    assert_eq!(lost(), 2);

    // Too small again, it is said again; what was there before is not.
    set_mtu(&daemon, &far, 1400);
    let again = "whose mtu is 1400";
    eventually("the warning", || warnings(&daemon).iter().any(|it| it.contains(again))).unwrap();
    assert_eq!(daemon.log().matches(explained).count(), 1, "{}", daemon.log());
    daemon.stop().unwrap();
}

/// Two switches, AF_XDP at both ends of the cable: packets of 1500 bytes in VLAN 10 of an
/// S-channel.
#[test]
fn two_switches_exchange_packets_of_1500_bytes_in_a_vlan_of_a_channel() {
    let Some(_root) = root() else { return };
    let link = |role: &str, interface: &str| {
        format!(
            "[[link]]\nname = \"up0\"\nrole = \"{role}\"\nmtu = 1500\n\
             device = {{ xdp = {{ interface = \"{interface}\" }} }}\n{RED}"
        )
    };
    let access = "vlan = { access = 10 }\n";
    let station = link("station", "if0")
        + &learning_port(1, "red", "vepa")
        + access
        + &learning_port(2, "red", "veb")
        + access;
    let bridge = link("bridge", "far0")
        + "[[bridge]]\nname = \"br0\"\n\
           members = [ { channel = \"red\", reflective-relay = \"on\" } ]\n\
           [[port]]\nname = \"vm7\"\nbridge = \"br0\"\n\
           device = { tap = { interface = \"tap7\" } }\n"
        + access;
    let station = Daemon::start(Workers::One, &station).unwrap();
    let bridge = Daemon::start(Workers::One, &bridge).unwrap();
    lay(station.namespace(), 0).unwrap();
    station.namespace().give("far0", bridge.namespace()).unwrap();
    bridge.namespace().ip("link set far0 up").unwrap();
    set_mtu(&station, bridge.namespace(), 1508);
    let [one, two] =
        [1, 2].map(|it| Host::plug(station.namespace(), &format!("tap{it}"), it).unwrap());
    let seven = Host::plug(bridge.namespace(), "tap7", 7).unwrap();
    for daemon in [&station, &bridge] {
        await_state(daemon, "link up0", "up");
        eventually("no warning", || warnings(daemon).is_empty()).unwrap();
    }
    assert_reach(&one, &two);
    for (from, to) in [(&one, &seven), (&seven, &two), (&one, &two)] {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, 1500).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
            transfer(from, to, family, 16 * MEGABYTE).unwrap();
        }
    }
    for daemon in [&station, &bridge] {
        assert_eq!(daemon.count("up0", "/drops/mtu_exceeded").unwrap(), 0);
    }
    station.stop().unwrap();
    bridge.stop().unwrap();
}
