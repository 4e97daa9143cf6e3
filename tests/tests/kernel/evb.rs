//! VEPA against our own bridge side: two switches, a cable between them.

use hairpin_tests::bed::{Family, Host, KernelBridge, Recorder, Result, Workers, root, transfer};

use crate::experiment::{BROADCAST, MOMENT, arrivals, frame};
use crate::site::{
    Site, assert_apart, assert_reach, bridge_link, lay_cable, learning_port, registered_port,
    station_link,
};

const MEGABYTE: u64 = 1 << 20;

/// Two switches and their cable.
struct Pair {
    station: Site,
    bridge_side: Site,
    cable: KernelBridge,
}

fn pair(workers: Workers, modes: [&str; 2], reflection: &str) -> Result<Pair> {
    let (station, bridge_side) = (station(workers, modes)?, bridge_side(workers, reflection)?);
    let cable = lay_cable(&station, &bridge_side)?;
    Ok(Pair { station, bridge_side, cable })
}

/// A bridge `br0` over the untagged channel, with host 9 on it.
fn bridge_side(workers: Workers, reflection: &str) -> Result<Site> {
    let configuration = format!(
        "{}\n[[bridge]]\nname = \"br0\"\n\
         members = [ {{ link = \"up0\", reflective-relay = \"{reflection}\" }} ]\n\
         [[port]]\nname = \"vm9\"\nbridge = \"br0\"\n\
         device = {{ tap = {{ interface = \"tap9\" }} }}\n",
        bridge_link()
    );
    Site::start_with(workers, &configuration, &[9])
}

fn station(workers: Workers, modes: [&str; 2]) -> Result<Site> {
    let ports = registered_port(1, "up0", modes[0]) + &learning_port(2, "up0", modes[1]);
    Site::start_with(workers, &(station_link() + &ports), &[1, 2])
}

with_one_and_two_workers! {
    siblings_reach_each_other_over_our_reflective_relay
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
    let from_one = frame(BROADCAST, one.mac_bytes(), "from one");
    assert_eq!(arrivals(one, &from_one, &listeners).unwrap(), [0, 1, 1]);
    let from_outside = frame(BROADCAST, outside.mac_bytes(), "from outside");
    assert_eq!(arrivals(outside, &from_outside, &listeners).unwrap(), [1, 1, 0]);
}

#[test]
fn without_reflective_relay_siblings_are_apart() {
    let Some(_root) = root() else { return };
    let site = pair(Workers::One, ["vepa", "vepa"], "off").unwrap();
    let [one, two] = &site.station.hosts[..] else { unreachable!() };
    assert_apart(one, two);
    assert_reach(one, &site.bridge_side.hosts[0]);
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
