//! Multichannel: S-channels between two switches, told apart on the cable.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{Family, Frame, Host, Recorder, Result, root, transfer};

use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{
    Site, assert_apart, assert_reach, bridge_link, lay_cable, learning_port, registered_port,
    station_link,
};

const MEGABYTE: u64 = 1 << 20;
/// The S-tag's TPID, and where it stands.
const S_TPID: [u8; 2] = [0x88, 0xa8];

fn channel(name: &str, svid: u16) -> String {
    format!("[[channel]]\nname = \"{name}\"\nlink = \"up0\"\nsvid = {svid}\n")
}

fn channels() -> String {
    [channel("red", 100), channel("blue", 200), channel("green", 300)].concat()
}

/// Hosts 1 and 2 are VEPA on red, 3 and 4 VEB on blue, 5 direct on green.
fn station() -> Result<Site> {
    let ports = [
        registered_port(1, "red", "vepa"),
        learning_port(2, "red", "vepa"),
        registered_port(3, "blue", "veb"),
        learning_port(4, "blue", "veb"),
        learning_port(5, "green", "direct"),
    ];
    Site::start(&[station_link(), channels(), ports.concat()].concat(), &[1, 2, 3, 4, 5])
}

/// A bridge for each channel, reflecting; host 7 on red's, 8 on green's.
fn bridge_side() -> Result<Site> {
    let bridge = |color: &str| {
        format!(
            "[[bridge]]\nname = \"br-{color}\"\n\
             members = [ {{ channel = \"{color}\", reflective-relay = \"on\" }} ]\n"
        )
    };
    let port = |number: u8, color: &str| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nbridge = \"br-{color}\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\n"
        )
    };
    let bridges: String = ["red", "blue", "green"].map(bridge).concat();
    let ports = port(7, "red") + &port(8, "green");
    Site::start(&[bridge_link(), channels(), bridges, ports].concat(), &[7, 8])
}

/// The S-VID with which a frame of that host left the station, if it was tagged.
fn svid_of(recorder: &Recorder, host: &Host, word: &str) -> Option<u16> {
    let sent = |seen: &Frame| {
        seen.direction == Direction::Incoming
            && seen.bytes[6..12] == host.mac_bytes()
            && seen.bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    let found = recorder.find(word, sent).unwrap();
    let tci = u16::from_be_bytes([found.bytes[14], found.bytes[15]]);
    (found.bytes[12..14] == S_TPID).then_some(tci & 0xfff)
}

#[test]
fn channels_share_a_cable_and_nothing_else() {
    let Some(_root) = root() else { return };
    let (station, bridge_side) = (station().unwrap(), bridge_side().unwrap());
    let cable = lay_cable(&station, &bridge_side).unwrap();
    let [one, two, three, four, five] = &station.hosts[..] else { unreachable!() };
    let [seven, eight] = &bridge_side.hosts[..] else { unreachable!() };

    assert_reach(one, two);
    assert_reach(one, seven);
    assert_reach(three, four);
    assert_reach(five, eight);
    assert_apart(one, three);
    assert_apart(three, five);
    assert_apart(eight, one);

    let everyone = [one, two, three, four, five, seven, eight];
    let recorder = Recorder::start(cable.namespace(), "up0").unwrap();
    let heard = |from: &Host, word: &str| {
        arrivals(from, &frame(BROADCAST, from.mac_bytes(), word), &everyone).unwrap()
    };
    assert_eq!(heard(one, "red"), [0, 1, 0, 0, 0, 1, 0]);
    assert_eq!(svid_of(&recorder, one, "red"), Some(100));
    assert_eq!(heard(three, "blue"), [0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(svid_of(&recorder, three, "blue"), Some(200));
    // A direct port gets back what a bridge reflects: it has no addresses to know its own by.
    assert_eq!(heard(five, "green"), [0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(svid_of(&recorder, five, "green"), Some(300));
}

#[test]
fn bulk_data_crosses_tagged_channels_byte_for_byte() {
    let Some(_root) = root() else { return };
    let (station, bridge_side) = (station().unwrap(), bridge_side().unwrap());
    let _cable = lay_cable(&station, &bridge_side).unwrap();
    let [one, two, three, four, five] = &station.hosts[..] else { unreachable!() };
    let [seven, eight] = &bridge_side.hosts[..] else { unreachable!() };
    for family in Family::ALL {
        for (from, to) in [(one, two), (three, four), (five, eight), (seven, one)] {
            transfer(from, to, family, 16 * MEGABYTE).unwrap();
        }
    }
}

#[test]
fn a_tag_of_a_host_does_not_reach_another_channel() {
    let Some(_root) = root() else { return };
    let (station, bridge_side) = (station().unwrap(), bridge_side().unwrap());
    let cable = lay_cable(&station, &bridge_side).unwrap();
    let [one, .., five] = &station.hosts[..] else { unreachable!() };
    let tagged = |from: &Host| {
        let mut bytes = frame(BROADCAST, from.mac_bytes(), "smuggled");
        bytes.splice(12..12, [0x88, 0xa8, 0, 200]);
        bytes
    };
    let everyone: Vec<&Host> = station.hosts.iter().chain(&bridge_side.hosts).collect();
    assert_eq!(arrivals(one, &tagged(one), &everyone).unwrap(), [0; 7]);
    assert_eq!(station.daemon.count("vm1", "/drops/tag_not_allowed").unwrap(), 1);

    // A direct port's own S-tag travels inside its channel's.
    let recorder = Recorder::start(cable.namespace(), "up0").unwrap();
    assert_eq!(arrivals(five, &tagged(five), &everyone).unwrap(), [0, 0, 0, 0, 1, 0, 1]);
    let seen = recorder.collect(Duration::from_millis(50), |seen| {
        seen.direction == Direction::Incoming && seen.bytes[6..12] == five.mac_bytes()
    });
    let tags: Vec<&[u8]> = seen
        .iter()
        .filter(|seen| seen.bytes.windows(8).any(|window| window == b"smuggled"))
        .map(|seen| &seen.bytes[12..20])
        .collect();
    assert_eq!(tags, [[0x88, 0xa8, 1, 0x2c, 0x88, 0xa8, 0, 200]]);
}
