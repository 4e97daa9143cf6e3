//! VEPA against our own bridge side: two switches, a cable between them.

use hairpin_tests::bed::{
    Family, Host, KernelBridge, Recorder, Result, Workers, assert_apart, assert_reach, root,
    transfer,
};

use crate::detection::{assert_duplicate_found, detect_duplicates};
use crate::experiment::{BROADCAST, MOMENT, arrivals, frame};
use crate::site::{Site, bridge_link, lay_cable, learning_port, registered_port, station_link};

const MEGABYTE: u64 = 1 << 20;

/// Two switches and their cable.
struct Pair {
    station: Site,
    bridge_side: Site,
    cable: KernelBridge,
}

fn pair(workers: Workers, modes: [&str; 2], reflection: &str) -> Result<Pair> {
    pair_with(workers, modes, reflection, "")
}

/// The same with these keys in both links.
fn pair_with(
    workers: Workers,
    modes: [&str; 2],
    reflection: &str,
    link_keys: &str,
) -> Result<Pair> {
    let station = station(workers, modes, link_keys)?;
    let bridge_side = bridge_side(workers, reflection, link_keys)?;
    let cable = lay_cable(&station, &bridge_side)?;
    Ok(Pair { station, bridge_side, cable })
}

/// A bridge `br0` over the untagged channel, with host 9 on it.
fn bridge_side(workers: Workers, reflection: &str, link_keys: &str) -> Result<Site> {
    let configuration = format!(
        "{}{link_keys}\n[[bridge]]\nname = \"br0\"\n\
         members = [ {{ link = \"up0\", reflective-relay = \"{reflection}\" }} ]\n\
         [[port]]\nname = \"vm9\"\nbridge = \"br0\"\n\
         device = {{ tap = {{ interface = \"tap9\" }} }}\n",
        bridge_link()
    );
    Site::start_with(workers, &configuration, &[9])
}

fn station(workers: Workers, modes: [&str; 2], link_keys: &str) -> Result<Site> {
    let ports = registered_port(1, "up0", modes[0]) + &learning_port(2, "up0", modes[1]);
    Site::start_with(workers, &[station_link(), link_keys.into(), ports].concat(), &[1, 2])
}

with_one_and_two_workers! {
    siblings_reach_each_other_over_our_reflective_relay
    without_reflective_relay_siblings_are_apart
    duplicate_address_detection_passes_over_our_reflective_relay
}

fn siblings_reach_each_other_over_our_reflective_relay(workers: Workers) {
    let Some(_root) = root() else { return };
    let site = pair(workers, ["vepa", "vepa"], "on").unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    let outside = &site.bridge_side.hosts[0];
    assert_reach(one, two);
    assert_reach(one, outside);
    assert_reach(outside, two);
    for (from, to) in [(one, two), (outside, one)] {
        for family in Family::ALL {
            transfer(from, to, family, 16 * MEGABYTE).unwrap();
        }
    }
    let listeners: [&Host; 3] = [one, two, outside];
    let heard = |from: &Host, to| {
        arrivals(from, &frame(to, from.mac_bytes(), "reflected"), &listeners).unwrap()
    };
    assert_eq!(heard(one, BROADCAST), [0, 1, 1]);
    assert_eq!(heard(two, BROADCAST), [1, 0, 1]);
    assert_eq!(heard(outside, BROADCAST), [1, 1, 0]);
    assert_eq!(heard(one, two.mac_bytes()), [0, 1, 0]);
    assert_eq!(heard(two, one.mac_bytes()), [1, 0, 0]);
}

fn without_reflective_relay_siblings_are_apart(workers: Workers) {
    let Some(_root) = root() else { return };
    let site = pair(workers, ["vepa", "vepa"], "off").unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    let outside = &site.bridge_side.hosts[0];
    assert_apart(one, two);
    // The bridge knows both addresses now, so that nothing for them is flooded.
    assert_reach(one, outside);
    assert_reach(two, outside);
    let listeners: [&Host; 3] = [one, two, outside];
    let heard = |from: &Host, to| {
        arrivals(from, &frame(to, from.mac_bytes(), "not reflected"), &listeners).unwrap()
    };
    assert_eq!(heard(one, BROADCAST), [0, 0, 1]);
    assert_eq!(heard(two, BROADCAST), [0, 0, 1]);
    assert_eq!(heard(outside, BROADCAST), [1, 1, 0]);
    let refused = || site.bridge_side.daemon.count("up0", "/drops/reflection_off").unwrap();
    let before = refused();
    assert_eq!(heard(one, two.mac_bytes()), [0, 0, 0]);
    assert_eq!(heard(two, one.mac_bytes()), [0, 0, 0]);
    assert_eq!(refused(), before + 2);
}

fn duplicate_address_detection_passes_over_our_reflective_relay(workers: Workers) {
    let Some(_root) = root() else { return };
    let site = pair(workers, ["vepa", "vepa"], "on").unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    let outside = &site.bridge_side.hosts[0];
    detect_duplicates(&[one, two, outside]);
    assert_duplicate_found(two, one, "fd0a::2");
    assert_duplicate_found(one, two, "fd0a::1");
    assert_duplicate_found(outside, two, "fd0a::9");
}

#[test]
fn jumbo_frames_are_reflected_whole() {
    let Some(_root) = root() else { return };
    let site = pair_with(Workers::One, ["vepa", "vepa"], "on", "mtu = 9000\n").unwrap();
    site.cable.set_mtu(9000).unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    let outside = &site.bridge_side.hosts[0];
    for host in [one, two, outside] {
        host.set_mtu(9000).unwrap();
    }
    for (from, to) in [(one, two), (outside, one)] {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, 9000).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
        }
    }
}

#[test]
fn a_veb_pair_stays_off_the_cable() {
    let Some(_root) = root() else { return };
    let site = pair(Workers::One, ["veb", "veb"], "on").unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    let recorder = Recorder::start(site.cable.namespace(), "up0").unwrap();
    transfer(one, two, Family::Ipv4, MEGABYTE).unwrap();
    let seen = recorder.collect(MOMENT, |frame| {
        frame.bytes.starts_with(&two.mac_bytes()) && frame.bytes[6..12] == one.mac_bytes()
    });
    assert_eq!(seen, []);
}
