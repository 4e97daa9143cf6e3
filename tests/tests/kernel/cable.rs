//! Cables by AF_XDP whose MTU has room for tags, or has not.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Family, Flooding, Frame, Host, KernelBridge, Namespace, Recorder, Workers,
    assert_reach, await_state, eventually, mac_bytes, root, send_frame, transfer,
};
use serde_json::Value;

use crate::experiment::EXPERIMENTAL;
use crate::netdev::{Kind, lay};
use crate::site::learning_port;

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
                     set if0 mtu 1504`), or set `mtu = 1496`";
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
    // With what was asked for; the far end's packet socket sends no S-tag beyond its MTU.
    set_mtu(&daemon, &far, 1504);
    far.ip("link set far0 mtu 1508").unwrap();
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

/// A link with an MTU, and its channel red.
fn link(role: &str, number: u8, mtu: u16) -> String {
    format!("{}mtu = {mtu}\n{RED}", Kind::Xdp.link(role, number))
}

/// A station whose ports 1 and 2 on red have these VLANs.
fn stations(link: &str, vlan: &str) -> String {
    let [one, two] = [learning_port(1, "red", "vepa"), learning_port(2, "red", "veb")];
    [link, &one, vlan, &two, vlan].concat()
}

/// The bridge at the other end, with a port 7 of its own.
fn bridge(link: &str, vlan: &str) -> String {
    let bridge = "[[bridge]]\nname = \"br0\"\n\
                  members = [ { channel = \"red\", reflective-relay = \"on\" } ]\n";
    let port = "[[port]]\nname = \"vm7\"\nbridge = \"br0\"\n\
                device = { tap = { interface = \"tap7\" } }\n";
    [link, bridge, port, vlan].concat()
}

/// Waits for a link that has room for its tags.
#[track_caller]
fn await_room(daemon: &Daemon) {
    await_state(daemon, "link up0", "up");
    eventually("no warning", || warnings(daemon).is_empty()).unwrap();
}

/// Two switches, AF_XDP at both ends of the cable: packets of so many bytes in VLAN 10 of an
/// S-channel.
#[track_caller]
fn assert_packets_cross(bytes: u16) {
    let access = "vlan = { access = 10 }\n";
    let far_link = link("bridge", 0, bytes).replace("if0", "far0");
    let station =
        Daemon::start(Workers::One, &stations(&link("station", 0, bytes), access)).unwrap();
    let bridge = Daemon::start(Workers::One, &bridge(&far_link, access)).unwrap();
    lay(station.namespace(), 0).unwrap();
    station.namespace().give("far0", bridge.namespace()).unwrap();
    bridge.namespace().ip("link set far0 up").unwrap();
    // As both of them ask for.
    set_mtu(&station, bridge.namespace(), u32::from(bytes) + 4);
    let [one, two] =
        [1, 2].map(|it| Host::plug(station.namespace(), &format!("tap{it}"), it).unwrap());
    let seven = Host::plug(bridge.namespace(), "tap7", 7).unwrap();
    for daemon in [&station, &bridge] {
        await_room(daemon);
    }
    assert_reach(&one, &two);
    for (from, to) in [(&one, &seven), (&seven, &two), (&one, &two)] {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, bytes).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
            transfer(from, to, family, 16 * MEGABYTE).unwrap();
        }
    }
    for daemon in [&station, &bridge] {
        let count = |pointer: &str| daemon.count("up0", pointer).unwrap();
        assert_eq!([count("/drops/mtu_exceeded"), count("/drops/giant")], [0, 0]);
    }
    // What was sent in one direction only was long: the other one acknowledged it.
    let sent = |pointer: &str| station.count("up0", pointer).unwrap();
    let mean = sent("/tx_bytes") / sent("/tx_frames");
    assert!(mean > u64::from(bytes) / 3, "{mean} bytes a frame");
    station.stop().unwrap();
    bridge.stop().unwrap();
}

#[test]
fn two_switches_exchange_packets_of_1500_bytes_in_a_vlan_of_a_channel() {
    let Some(_root) = root() else { return };
    assert_packets_cross(1500);
}

#[test]
fn two_switches_exchange_packets_of_9000_bytes_in_a_vlan_of_a_channel() {
    let Some(_root) = root() else { return };
    assert_packets_cross(9000);
}

/// Two switches whose cable is watched in the middle, where a kernel bridge joins the far
/// ends of their pairs: a packet socket sees nothing of AF_XDP on the pair itself.
#[test]
fn jumbo_frames_bear_both_tags_on_the_cable_and_arrive_whole() {
    let Some(_root) = root() else { return };
    let trunk = "vlan = { trunk = [10] }\n";
    let station = Daemon::start(Workers::Two, &stations(&link("station", 0, 9000), trunk)).unwrap();
    let bridge = Daemon::start(Workers::Two, &bridge(&link("bridge", 5, 9000), trunk)).unwrap();
    let cable = KernelBridge::new(Flooding::Always).unwrap();
    for (daemon, number) in [(&station, 0), (&bridge, 5)] {
        lay(daemon.namespace(), number).unwrap();
        cable.attach(daemon.namespace(), &format!("far{number}")).unwrap();
        daemon.namespace().ip(&format!("link set if{number} mtu 9008")).unwrap();
    }
    cable.set_mtu(9008).unwrap();
    let one = Host::plug(station.namespace(), "tap1", 1).unwrap();
    let seven = Host::plug(bridge.namespace(), "tap7", FAR).unwrap();
    for daemon in [&station, &bridge] {
        await_room(daemon);
    }
    let start = |namespace: &Namespace, it: &str| Recorder::start(namespace, it).unwrap();
    let on_cable = start(cable.namespace(), "far0");
    let [at_one, at_seven] = [&one, &seven].map(|it| start(it.namespace(), it.interface()));
    // Whole in one place of AF_XDP's memory; a byte beyond; in all three places.
    for payload in [64, 3800, 3840, 7680, 8999, 9000] {
        for (from, to, arrivals) in [(&one, &seven, &at_seven), (&seven, &one, &at_one)] {
            let [from_number, to_number] = [from, to].map(|host| host.mac_bytes()[5]);
            let with = |tags: &[u8]| frame(to_number, from_number, tags, payload);
            send_frame(from.namespace(), from.interface(), &with(&C_TAG)).unwrap();
            let contents = &with(&[])[12..];
            let passes = |seen: &Frame| {
                seen.bytes[6..12] == from.mac_bytes() && seen.bytes.ends_with(contents)
            };
            let seen = on_cable.find(&format!("{payload} bytes on the cable"), passes).unwrap();
            assert_eq!(seen.bytes, with(&[S_TAG, C_TAG].concat()), "{payload} bytes");
            let arrived = arrivals.find(&format!("{payload} bytes at a host"), passes).unwrap();
            assert_eq!(arrived.bytes, with(&C_TAG), "{payload} bytes");
        }
    }
    station.stop().unwrap();
    bridge.stop().unwrap();
}
