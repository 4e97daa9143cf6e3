//! VEPA with a TAP as the link and the kernel's bridge as the adjacent bridge.

use hairpin_tests::bed::{Family, Host, Reflection, eventually, root, transfer};

use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{Site, assert_apart, assert_reach, learning_port, registered_port};

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
    let (site, bridge, outside) =
        Site::beside_kernel_bridge(&two_ports("private"), &[1, 2]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, &outside);
    assert_apart(one, two);
}

#[test]
fn a_broadcast_arrives_once_and_never_at_its_sender() {
    let Some(_root) = root() else { return };
    let modes = [(1, "vepa"), (2, "vepa"), (3, "veb"), (4, "veb"), (5, "private")];
    let ports: String =
        modes.iter().map(|&(number, mode)| learning_port(number, "up0", mode)).collect();
    let (site, bridge, outside) = Site::beside_kernel_bridge(&ports, &[1, 2, 3, 4, 5]).unwrap();
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

#[test]
fn duplicate_address_detection_passes_under_reflection() {
    let Some(_root) = root() else { return };
    let (site, bridge, outside) = Site::beside_kernel_bridge(&two_ports("vepa"), &[1, 2]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    for host in [one, two] {
        let (namespace, interface) = (host.namespace(), host.interface());
        // Without the nonce of RFC 7527 a solicitation that comes back is a duplicate.
        for (key, value) in [("enhanced_dad", "0"), ("accept_dad", "1"), ("dad_transmits", "2")] {
            for scope in ["all", interface] {
                namespace.set_sysctl(&format!("net/ipv6/conf/{scope}/{key}"), value).unwrap();
            }
        }
    }
    let add = |host: &Host| {
        host.namespace().ip(&format!("addr add fd0a::1/64 dev {}", host.interface())).unwrap();
    };
    let state = |host: &Host| {
        host.namespace().ip(&format!("-6 addr show dev {} to fd0a::1", host.interface())).unwrap()
    };
    add(one);
    eventually("an address past detection", || !state(one).contains("tentative")).unwrap();
    assert!(!state(one).contains("dadfailed"), "{}", state(one));
    // A true duplicate is still found, over the reflection.
    add(two);
    eventually("a duplicate found", || state(two).contains("dadfailed")).unwrap();
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
