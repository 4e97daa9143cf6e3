//! VEPA with a TAP as the link and the kernel's bridge as the adjacent bridge.

use hairpin_tests::bed::{
    Family, Host, Reflection, Workers, assert_apart, assert_reach, root, transfer,
};

use crate::detection::{assert_duplicate_found, detect_duplicates};
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{Site, learning_port, registered_port};

const MEGABYTE: u64 = 1 << 20;

/// Host 1 with its address registered, host 2 without.
fn two_ports(mode: &str) -> String {
    registered_port(1, "up0", mode) + &learning_port(2, "up0", mode)
}

#[test]
fn siblings_reach_each_other_only_over_a_reflecting_bridge() {
    let Some(_root) = root() else { return };
    let (site, bridge, outside) = Site::beside_kernel_bridge(&two_ports("vepa"), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, &outside);
    assert_reach(two, &outside);
    assert_apart(one, two);

    bridge.reflect("up0", Reflection::On).unwrap();
    assert_reach(one, two);
    assert_reach(two, one);
    assert_reach(one, &outside);
    for family in Family::ALL {
        transfer(one, two, family, 32 * MEGABYTE).unwrap();
        transfer(&outside, two, family, 32 * MEGABYTE).unwrap();
    }
    // All of it went out and came back: nothing was switched locally.
    assert!(site.daemon.count("up0", "/tx_bytes").unwrap() > 64 * MEGABYTE);
}

#[test]
fn private_ports_reach_the_outside_but_not_each_other() {
    let Some(_root) = root() else { return };
    let ports = two_ports("private") + &learning_port(3, "up0", "vepa");
    let (site, bridge, outside) = Site::beside_kernel_bridge(&ports, &[1, 2, 3]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two, three] = &site.hosts[..] else { unreachable!() };
    // The bridge knows all addresses from here on: each frame below comes back once.
    for host in &site.hosts {
        assert_reach(host, &outside);
    }
    assert_apart(one, two);
    assert_apart(three, one);
    let listeners = [one, two, three, &outside];
    let refused = || site.daemon.count("up0", "/drops/private").unwrap();
    // Ping needs both ways: a leak one way shows here only.
    for (from, to) in [(one, two), (two, one), (one, three), (three, one)] {
        let before = refused();
        let bytes = frame(to.mac_bytes(), from.mac_bytes(), "private");
        let heard = arrivals(from, &bytes, &listeners).unwrap();
        assert_eq!(heard, [0; 4], "{} -> {}", from.mac(), to.mac());
        assert_eq!(refused(), before + 1, "{} -> {}", from.mac(), to.mac());
    }
}

with_one_and_two_workers! {
    a_broadcast_arrives_once_and_never_at_its_sender
    duplicate_address_detection_passes_under_reflection
}

fn a_broadcast_arrives_once_and_never_at_its_sender(workers: Workers) {
    let Some(_root) = root() else { return };
    let modes = [(1, "vepa"), (2, "vepa"), (3, "veb"), (4, "veb"), (5, "private")];
    let ports: String =
        modes.iter().map(|&(number, mode)| learning_port(number, "up0", mode)).collect();
    let (site, bridge, outside) =
        Site::beside_kernel_bridge_with(workers, &ports, &[1, 2, 3, 4, 5]).unwrap();
    let listeners: Vec<&Host> = site.hosts.iter().chain([&outside]).collect();
    let heard = |from: &Host, word: &str| {
        arrivals(from, &frame(BROADCAST, from.mac_bytes(), word), &listeners).unwrap()
    };

    // Without reflection only a VEB port's broadcast reaches local ports: VEB ports.
    assert_eq!(heard(listeners[0], "vepa off"), [0, 0, 0, 0, 0, 1]);
    assert_eq!(heard(listeners[2], "veb off"), [0, 0, 0, 1, 0, 1]);
    assert_eq!(heard(&outside, "outside off"), [1, 1, 1, 1, 1, 0]);

    bridge.reflect("up0", Reflection::On).unwrap();
    assert_eq!(heard(listeners[0], "vepa on"), [0, 1, 1, 1, 0, 1]);
    assert_eq!(heard(listeners[2], "veb on"), [1, 1, 0, 1, 0, 1]);
    assert_eq!(heard(listeners[4], "private on"), [0, 0, 0, 0, 0, 1]);
    assert_eq!(heard(&outside, "outside on"), [1, 1, 1, 1, 1, 0]);
}

fn duplicate_address_detection_passes_under_reflection(workers: Workers) {
    let Some(_root) = root() else { return };
    let (site, bridge, outside) =
        Site::beside_kernel_bridge_with(workers, &two_ports("vepa"), &[1, 2]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    detect_duplicates(&[one, two]);
    // A learned address has to be known for the sender's own as well as a registered one.
    assert_duplicate_found(two, one, "fd0a::2");
    assert_duplicate_found(one, two, "fd0a::1");
    assert_reach(one, &outside);
}

#[test]
fn jumbo_frames_are_reflected_whole() {
    let Some(_root) = root() else { return };
    let ports = format!("mtu = 9000\n{}", two_ports("vepa"));
    let (site, bridge, outside) = Site::beside_kernel_bridge(&ports, &[1, 2]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    bridge.set_mtu(9000).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    for host in [one, two, &outside] {
        host.set_mtu(9000).unwrap();
    }
    for (from, to) in [(one, two), (&outside, one), (two, &outside)] {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, 9000).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
        }
    }
    transfer(one, two, Family::Ipv6, 32 * MEGABYTE).unwrap();
}
