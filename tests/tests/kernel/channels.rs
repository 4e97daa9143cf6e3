//! Multichannel: S-channels between two switches, told apart on the cable.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Family, Flow, Frame, Host, Recorder, Result, assert_apart, assert_reach, root, transfer,
};

use crate::bystanders::Bystanders;
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{Site, bridge_link, lay_cable, learning_port, registered_port, station_link};

const MEGABYTE: u64 = 1 << 20;
/// The S-tag's TPID.
const S_TPID: [u8; 2] = [0x88, 0xa8];

fn channel(name: &str, svid: u16) -> String {
    format!("[[channel]]\nname = \"{name}\"\nlink = \"up0\"\nsvid = {svid}\n")
}

fn channels() -> String {
    [channel("red", 100), channel("blue", 200), channel("green", 300)].concat()
}

/// Hosts 1 and 2 are VEPA on red, 3 and 4 VEB on blue, 5 direct on green.
fn station() -> Result<Site> {
    station_with("")
}

/// The same with these keys in its link.
fn station_with(link_keys: &str) -> Result<Site> {
    let ports = [
        registered_port(1, "red", "vepa"),
        learning_port(2, "red", "vepa"),
        registered_port(3, "blue", "veb"),
        learning_port(4, "blue", "veb"),
        learning_port(5, "green", "direct"),
    ];
    let configuration = [station_link(), link_keys.into(), channels(), ports.concat()];
    Site::start(&configuration.concat(), &[1, 2, 3, 4, 5])
}

/// A bridge for each channel, reflecting; host 7 on red's, 8 on green's.
fn bridge_side() -> Result<Site> {
    bridge_side_with("", &[(7, "red"), (8, "green")])
}

/// The same with these keys in its link, and these hosts on the channels' bridges.
fn bridge_side_with(link_keys: &str, hosts: &[(u8, &str)]) -> Result<Site> {
    let bridge = |color: &str| {
        format!(
            "[[bridge]]\nname = \"br-{color}\"\n\
             members = [ {{ channel = \"{color}\", reflective-relay = \"on\" }} ]\n"
        )
    };
    let port = |&(number, color): &(u8, &str)| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nbridge = \"br-{color}\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\n"
        )
    };
    let bridges: String = ["red", "blue", "green"].map(bridge).concat();
    let ports: String = hosts.iter().map(port).collect();
    let numbers: Vec<u8> = hosts.iter().map(|&(number, _)| number).collect();
    let configuration = [bridge_link(), link_keys.into(), channels(), bridges, ports];
    Site::start(&configuration.concat(), &numbers)
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

/// Asserts that packets of 9000 bytes cross uncut in both families, then bulk data.
#[track_caller]
fn assert_jumbo_frames_cross(pairs: &[(&Host, &Host)]) {
    for (from, to) in pairs {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, 9000).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
        }
        transfer(from, to, Family::Ipv4, 16 * MEGABYTE).unwrap();
    }
}

#[test]
fn tags_come_on_top_of_a_jumbo_mtu() {
    let Some(_root) = root() else { return };
    let (mtu, on_bridges) = ("mtu = 9000\n", [(7, "red"), (8, "green"), (9, "blue")]);
    let station = station_with(mtu).unwrap();
    let bridge_side = bridge_side_with(mtu, &on_bridges).unwrap();
    let cable = lay_cable(&station, &bridge_side).unwrap();
    cable.set_mtu(9000).unwrap();
    for host in station.hosts.iter().chain(&bridge_side.hosts) {
        host.set_mtu(9000).unwrap();
    }
    let [one, two, three, _, five] = &station.hosts[..] else { unreachable!() };
    let [seven, eight, nine] = &bridge_side.hosts[..] else { unreachable!() };
    let longest = |from: &Host, to: &Host| {
        let recorder = Recorder::start(cable.namespace(), "up0").unwrap();
        from.ping_packet_bytes(to, Family::Ipv4, 9000).unwrap();
        let sent = |seen: &Frame| {
            seen.direction == Direction::Incoming && seen.bytes[6..12] == from.mac_bytes()
        };
        let seen = recorder.collect(Duration::from_millis(50), sent);
        seen.iter().map(|frame| frame.bytes.len()).max()
    };
    let pairs = [(one, two), (seven, one), (three, nine), (five, eight)];
    assert_jumbo_frames_cross(&pairs);
    for (from, to) in [(one, two), (three, nine), (five, eight)] {
        assert_eq!(longest(from, to), Some(14 + 4 + 9000));
    }

    // Red and blue in a VLAN too: a C-tag inside the S-tag.
    for (site, ports) in [(&station, vec![1, 2, 3]), (&bridge_side, vec![7, 9])] {
        for port in ports {
            site.daemon.hairpin(&format!("port set vm{port} vlan=access:10")).unwrap();
        }
    }
    assert_jumbo_frames_cross(&pairs[..3]);
    assert_eq!(longest(one, two), Some(14 + 4 + 4 + 9000));
    assert_eq!(longest(three, nine), Some(14 + 4 + 4 + 9000));
}

#[test]
fn a_port_changes_its_channel_while_it_sends() {
    let Some(_root) = root() else { return };
    let (station, bridge_side) = (station().unwrap(), bridge_side().unwrap());
    let cable = lay_cable(&station, &bridge_side).unwrap();
    let [one, two, three, four, five] = &station.hosts[..] else { unreachable!() };
    let [seven, eight] = &bridge_side.hosts[..] else { unreachable!() };
    let recorder = Recorder::start(cable.namespace(), "up0").unwrap();
    let svid = |word: &str| {
        arrivals(one, &frame(BROADCAST, one.mac_bytes(), word), &[]).unwrap();
        svid_of(&recorder, one, word)
    };
    // On the port's own two channels and beside them; of the first, over the cable.
    let old_channel = Bystanders::start(two, seven).unwrap();
    let new_channel = Bystanders::start(three, four).unwrap();
    let another = Bystanders::start(five, eight).unwrap();
    let own = Flow::start(one, two, Family::Ipv4, Duration::from_micros(500)).unwrap();
    for round in 0..2 {
        assert_eq!(svid(&format!("red {round}")), Some(100));
        station.daemon.hairpin("port set vm1 channel=blue").unwrap();
        assert_eq!(svid(&format!("blue {round}")), Some(200));
        for sibling in [two, seven] {
            assert_apart(one, sibling);
            let bytes = frame(sibling.mac_bytes(), one.mac_bytes(), "to a sibling");
            assert_eq!(arrivals(one, &bytes, &[sibling]).unwrap(), [0]);
            let bytes = frame(one.mac_bytes(), sibling.mac_bytes(), "from a sibling");
            assert_eq!(arrivals(sibling, &bytes, &[one]).unwrap(), [0]);
        }
        assert_reach(one, three);
        station.daemon.hairpin("port set vm1 channel=red").unwrap();
        assert_reach(one, two);
        assert_apart(one, three);
    }
    assert_eq!(svid("red again"), Some(100));
    let own = own.stop().unwrap();
    assert!(own.received < own.sent && own.duplicates == 0, "{own:?}");
    for bystanders in [old_channel, new_channel, another] {
        bystanders.assert_unhurt();
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
