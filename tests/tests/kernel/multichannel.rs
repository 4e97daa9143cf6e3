//! Multichannel between two switches on a veth cable, AF_XDP at both ends.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Family, Flooding, Frame, Host, KernelBridge, Recorder, Workers, assert_apart,
    assert_reach, await_state, eventually, mac_text, root, send_frame, transfer,
};

use crate::experiment::{BROADCAST, arrivals, frame};
use crate::netdev::{Kind, lay};

const MEGABYTE: u64 = 1 << 20;
const RED: [u8; 4] = [0x88, 0xa8, 0, 100];
const BLUE: [u8; 4] = [0x88, 0xa8, 0, 200];
/// No channel has this one.
const UNKNOWN: [u8; 4] = [0x88, 0xa8, 3, 0xe7];
/// VID 10, PCP 5, drop eligible.
const C_TAG: [u8; 4] = [0x81, 0, 0xb0, 10];
/// Payload and a C-tag of 1500 bytes and four, and four for the S-tag, of which veth
/// lets four pass anyhow.
const CABLE_MTU_BYTES: u16 = 1508;

/// Two switches and their cable, each in a namespace of its own. What passes on the cable
/// is recorded in the middle of it: AF_XDP's own interfaces show nothing.
struct Site {
    station: Daemon,
    bridge_side: Daemon,
    cable: KernelBridge,
    /// On red and on blue, with one address.
    twins: [Host; 2],
    /// Beyond red's bridge and beyond blue's.
    beyond: [Host; 2],
}

fn channels() -> String {
    let channel = |(name, svid): (&str, u16)| {
        format!("[[channel]]\nname = \"{name}\"\nlink = \"up0\"\nsvid = {svid}\n")
    };
    format!("mtu = 1500\n{}", [("red", 100), ("blue", 200)].map(channel).concat())
}

fn station(vlan: &str) -> String {
    let port = |(number, channel): (u8, &str)| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"{channel}\"\nmode = \"vepa\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\nmac = \"{}\"\n{vlan}",
            mac_text(1)
        )
    };
    Kind::Xdp.link("station", 0) + &channels() + &[(1, "red"), (2, "blue")].map(port).concat()
}

fn bridge_side(vlan: &str) -> String {
    let bridge = |(number, channel): (u8, &str)| {
        format!(
            "[[bridge]]\nname = \"br-{channel}\"\n\
             members = [ {{ channel = \"{channel}\", reflective-relay = \"on\" }} ]\n\
             [[port]]\nname = \"vm{number}\"\nbridge = \"br-{channel}\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\n{vlan}"
        )
    };
    Kind::Xdp.link("bridge", 5) + &channels() + &[(7, "red"), (8, "blue")].map(bridge).concat()
}

/// The site, whose ports have this key for their VLANs.
fn site(workers: Workers, vlan: &str) -> Site {
    let station = Daemon::start(workers, &station(vlan)).unwrap();
    let bridge_side = Daemon::start(workers, &bridge_side(vlan)).unwrap();
    let cable = KernelBridge::new(Flooding::Always).unwrap();
    for (daemon, number) in [(&station, 0), (&bridge_side, 5)] {
        let namespace = daemon.namespace();
        lay(namespace, number).unwrap();
        namespace.ip(&format!("link set if{number} mtu {CABLE_MTU_BYTES}")).unwrap();
        cable.attach(namespace, &format!("far{number}")).unwrap();
        await_state(daemon, "link up0", "up");
    }
    cable.set_mtu(CABLE_MTU_BYTES).unwrap();
    let twin = |tap| Host::plug(station.namespace(), tap, 1).unwrap();
    let twins = ["tap1", "tap2"].map(twin);
    let beyond = [7, 8].map(|number| {
        Host::plug(bridge_side.namespace(), &format!("tap{number}"), number).unwrap()
    });
    Site { station, bridge_side, cable, twins, beyond }
}

/// A frame of a word with these tags.
fn tagged(to: [u8; 6], from: &Host, word: &str, tags: &[&[u8]]) -> Vec<u8> {
    let mut bytes = frame(to, from.mac_bytes(), word);
    bytes.splice(12..12, tags.concat());
    bytes
}

with_one_and_two_workers! {
    one_address_and_vlan_in_two_channels_stays_apart
}

fn one_address_and_vlan_in_two_channels_stays_apart(workers: Workers) {
    let Some(_root) = root() else { return };
    let site = site(workers, "vlan = { access = 10 }\n");
    let ([red, blue], [seven, eight]) = (&site.twins, &site.beyond);
    assert_reach(red, seven);
    assert_reach(blue, eight);
    assert_reach(seven, red);
    assert_reach(eight, blue);
    assert_apart(red, eight);
    assert_apart(blue, seven);
    let everyone = [red, blue, seven, eight];
    let heard = |from: &Host, to: [u8; 6]| {
        arrivals(from, &frame(to, from.mac_bytes(), "one of two"), &everyone).unwrap()
    };
    assert_eq!(heard(seven, red.mac_bytes()), [1, 0, 0, 0]);
    assert_eq!(heard(eight, blue.mac_bytes()), [0, 1, 0, 0]);
    assert_eq!(heard(seven, BROADCAST), [1, 0, 0, 0]);
    assert_eq!(heard(red, BROADCAST), [0, 0, 1, 0]);
    assert_eq!(heard(blue, BROADCAST), [0, 0, 0, 1]);
    for family in Family::ALL {
        for (from, to) in [(red, seven), (seven, red), (blue, eight), (eight, blue)] {
            // S-tag and C-tag come on top of whole packets.
            assert!(from.ping_packet_bytes(to, family, 1500).unwrap().is_clean(), "{family}");
            transfer(from, to, family, 8 * MEGABYTE).unwrap();
        }
    }
    site.station.stop().unwrap();
    site.bridge_side.stop().unwrap();
}

#[test]
fn the_cable_bears_the_channel_s_tag_outside_the_customer_s() {
    let Some(_root) = root() else { return };
    let site = site(Workers::One, "");
    let ([red, blue], [seven, eight]) = (&site.twins, &site.beyond);
    let recorder = Recorder::start(site.cable.namespace(), "far0").unwrap();
    let assert_on_cable = |from: &Host, to: &Host, word: &str, outside: [u8; 4]| {
        let with = |tags: &[&[u8]]| tagged(BROADCAST, from, word, tags);
        // The S-tag takes over the priority of what it is put around.
        let outer = [0x88, 0xa8, outside[2] | C_TAG[2] & 0xf0, outside[3]];
        for (tags, on_cable) in
            [(&[&C_TAG[..]][..], with(&[&outer, &C_TAG])), (&[], with(&[&outside]))]
        {
            assert_eq!(arrivals(from, &with(tags), &[to]).unwrap(), [1], "{word}");
            let passing = |seen: &Frame| seen.bytes[6..12] == from.mac_bytes();
            let seen = recorder.collect(Duration::from_millis(50), passing);
            // Out, and back where it was reflected.
            let ours: Vec<_> = seen.iter().filter(|seen| ends(&seen.bytes, word)).collect();
            assert!(!ours.is_empty(), "{word}");
            assert!(ours.iter().all(|seen| seen.bytes == on_cable), "{word}: {ours:x?}");
        }
    };
    assert_on_cable(red, seven, "red out", RED);
    assert_on_cable(blue, eight, "blue out", BLUE);
    assert_on_cable(seven, red, "red in", RED);
    assert_on_cable(eight, blue, "blue in", BLUE);
}

/// Whether a frame, whatever its tags, is that of a word.
fn ends(bytes: &[u8], word: &str) -> bool {
    let payload = &frame([0; 6], [0; 6], word)[12..];
    bytes.ends_with(payload)
}

#[test]
fn an_s_vid_of_no_channel_is_counted_by_name() {
    let Some(_root) = root() else { return };
    let site = site(Workers::One, "");
    let ([red, blue], [seven, eight]) = (&site.twins, &site.beyond);
    assert_reach(red, seven);
    let recorders = [red, blue, seven, eight]
        .map(|host| Recorder::start(host.namespace(), host.interface()).unwrap());
    // From both ends of the cable: what a namesake of theirs would send.
    let frames = [
        tagged(red.mac_bytes(), seven, "lost", &[&UNKNOWN]),
        tagged(BROADCAST, seven, "lost", &[&UNKNOWN, &C_TAG]),
    ];
    for (daemon, end) in [(&site.station, "far0"), (&site.bridge_side, "far5")] {
        for bytes in &frames {
            send_frame(site.cable.namespace(), end, bytes).unwrap();
        }
        let unknown = || daemon.count("up0", "/drops/unknown_svid").unwrap();
        eventually("both to be counted", || unknown() >= 2).unwrap();
        assert_eq!(unknown(), 2);
    }
    // What comes behind them is none of it.
    send_frame(site.cable.namespace(), "far0", &tagged(BROADCAST, seven, "end", &[&RED])).unwrap();
    let incoming = |seen: &Frame| seen.direction == Direction::Incoming;
    let end = |seen: &Frame| incoming(seen) && ends(&seen.bytes, "end");
    recorders[0]
        .find("the last frame", |seen| {
            assert!(!incoming(seen) || !ends(&seen.bytes, "lost"), "{seen:x?}");
            end(seen)
        })
        .unwrap();
    for recorder in &recorders {
        let leaked = recorder
            .collect(Duration::from_millis(50), |seen| incoming(seen) && ends(&seen.bytes, "lost"));
        assert_eq!(leaked, []);
    }
}
