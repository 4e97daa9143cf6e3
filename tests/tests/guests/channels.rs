//! Guests of two switches, in an S-channel of the cable between them.

use hairpin_tests::bed::{Daemon, Flooding, KernelBridge, Sockets, Workers, root};
use tempfile::TempDir;

use crate::site::{assert_reach, boot, ipv4, ipv6, nic, port, turn};

const MEBIBYTES: u32 = 16;
/// A link's payload, and an S-tag and a C-tag.
const CABLE_MTU_BYTES: u16 = 1508;

/// A switch's link with two S-channels, red and blue.
fn link(role: &str, interface: &str) -> String {
    format!(
        "[[link]]\nname = \"up0\"\nrole = \"{role}\"\nmtu = 1500\n\
         device = {{ tap = {{ interface = \"{interface}\" }} }}\n\
         [[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 100\n\
         [[channel]]\nname = \"blue\"\nlink = \"up0\"\nsvid = 200\n"
    )
}

#[test]
fn guests_of_two_switches_meet_in_a_channel() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let directory = TempDir::new().unwrap();
    let nics = [(1, "packed=on"), (2, "")]
        .map(|(number, properties)| nic(directory.path(), number, Sockets::There, properties));
    let station = link("station", "near") + &port(1, "red", "vepa", &nics[0]);
    let bridge = "[[bridge]]\nname = \"br-red\"\n\
                  members = [ { channel = \"red\", reflective-relay = \"on\" } ]\n";
    let beyond = port(2, "red", "vepa", &nics[1])
        .replace("channel = \"red\"\nmode = \"vepa\"\n", "bridge = \"br-red\"\n");
    let beyond = link("bridge", "far") + bridge + &beyond;
    let station = Daemon::start(Workers::One, &station).unwrap();
    let beyond = Daemon::start(Workers::One, &beyond).unwrap();
    let cable = KernelBridge::new(Flooding::Always).unwrap();
    for (daemon, interface) in [(&station, "near"), (&beyond, "far")] {
        cable.attach(daemon.namespace(), interface).unwrap();
    }
    cable.set_mtu(CABLE_MTU_BYTES).unwrap();
    let mut guests = boot([&station, &beyond], [&nics[0], &nics[1]]);
    let [one, two] = &mut guests;
    for (from, to) in [(&mut *one, 2), (&mut *two, 1)] {
        assert_reach(from, to);
        let echo = from.ping_packet_bytes(&ipv4(to), 1500).unwrap();
        assert!(echo.is_clean(), "{echo:?}");
        for address in [ipv4(to), ipv6(to)] {
            from.transfer(&address, MEBIBYTES).unwrap();
        }
    }
    drop(guests);
    station.stop().unwrap();
    beyond.stop().unwrap();
}
