//! `two-taps.toml` and `xdp-uplink.toml`: VMs on TAPs, without and with a network outside.

use hairpin_tests::bed::{
    Flooding, Host, KernelBridge, Namespace, Reflection, assert_apart, await_state, root,
};

use crate::example::Example;
use crate::reach::{arrivals, assert_reach};

#[test]
fn two_taps_reach_each_other_until_they_are_parted_live() {
    let Some(_root) = root() else { return };
    let part = "port set vm1 vlan=access:10";
    let example = Example::read("two-taps.toml");
    assert!(example.says(&format!("`hairpin {part}`")));
    let daemon = example.start(Namespace::new().unwrap());
    let [one, two] =
        [1, 2].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    assert_reach(&one, &two);
    daemon.hairpin(part).unwrap();
    assert_apart(&one, &two);
    daemon.hairpin("port set vm1 vlan=transparent").unwrap();
    assert_reach(&two, &one);
    daemon.stop().unwrap();
}

#[test]
fn vms_reach_each_other_and_the_network_by_the_bridge_behind_the_uplink() {
    let Some(_root) = root() else { return };
    let reflects = "`bridge link set dev PORT hairpin on`";
    let example = Example::read("xdp-uplink.toml");
    assert!(example.says(reflects));
    let daemon = example.start(Namespace::new().unwrap());
    await_state(&daemon, "link up0", "waiting");
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    let far = bridge.namespace().name();
    daemon.namespace().ip(&format!("link add eth1 type veth peer name far netns {far}")).unwrap();
    finish_frames(&bridge);
    daemon.namespace().ip("link set eth1 up").unwrap();
    bridge.attach(bridge.namespace(), "far").unwrap();
    bridge.reflect("far", Reflection::On).unwrap();
    await_state(&daemon, "link up0", "up");
    let outside = bridge.host(9).unwrap();
    let [one, two] =
        [1, 2].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    for (from, to) in [(&one, &two), (&one, &outside), (&outside, &two)] {
        assert_reach(from, to);
    }
    assert_eq!(arrivals(&one, "to all others", [&one, &two, &outside]), [0, 1, 1]);
    let sent = daemon.count("up0", "/tx_bytes").unwrap();
    assert!(sent > 16 << 20, "VMs reach each other by the bridge: {sent} bytes");
    daemon.stop().unwrap();
}

/// Has the kernel at the cable's far end finish its frames: AF_XDP takes no offloads.
fn finish_frames(bridge: &KernelBridge) {
    bridge.namespace().run("ethtool -K far tx off tso off gso off txvlan off").unwrap();
}

/// Both ends are in one switch, so that one cable has both of its links.
#[test]
fn a_guest_of_the_station_reaches_the_bridge_s_server_once_it_is_set_up() {
    let Some(_root) = root() else { return };
    let set_up = "port set guest admin=up";
    let example = Example::read("channels-and-bridge.toml");
    assert!(example.says(&format!("`hairpin {set_up}`")));
    // This machine may have no more than two CPUs.
    let daemon =
        example.with("workers = [2, 3]", "workers = [0, 1]").start(Namespace::new().unwrap());
    for line in ["link add eth1 type veth peer name eth2", "link set eth1 up", "link set eth2 up"] {
        daemon.namespace().ip(line).unwrap();
    }
    let plug = |interface: &str, number| {
        let host = Host::plug(daemon.namespace(), interface, number).unwrap();
        host.set_mtu(1492).unwrap();
        host
    };
    daemon.namespace().ip("link add vnet3 type veth peer name far3").unwrap();
    daemon.namespace().ip("link set vnet3 up").unwrap();
    let [guest, server] = [plug("far3", 1), plug("tap-server", 9)];
    for object in ["link up0", "link sbp0", "port server"] {
        await_state(&daemon, object, "up");
    }
    assert_apart(&guest, &server);
    daemon.hairpin(set_up).unwrap();
    await_state(&daemon, "port guest", "up");
    assert_reach(&guest, &server);
    assert_reach(&server, &guest);
    // A template's port, in VLAN 40: the server's frames bear no tag.
    daemon.namespace().ip("link add vnet7 type veth peer name far7").unwrap();
    daemon.namespace().ip("link set vnet7 up").unwrap();
    let other = plug("far7", 7);
    await_state(&daemon, "port vnet7", "up");
    assert_apart(&other, &server);
    daemon.stop().unwrap();
}
