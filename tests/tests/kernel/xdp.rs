//! Netdevs by AF_XDP, as links and as ports.

use hairpin_tests::bed::{
    Daemon, Family, Flooding, Host, KernelBridge, Namespace, Reflection, Stream, Workers,
    assert_apart, assert_reach, await_state, eventually, root, transfer,
};

use crate::bystanders::Bystanders;
use crate::detection::{assert_duplicate_found, detect_duplicates};
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::netdev::{Kind, lay, plug, show};
use crate::site::{learning_port, local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;
with_one_and_two_workers! {
    siblings_reach_each_other_by_the_kernel_bridge_s_hairpin_only
    an_interface_that_goes_costs_its_port_alone_until_it_is_back
}

/// VEPA whose link is a veth into a kernel bridge, and appears later.
fn siblings_reach_each_other_by_the_kernel_bridge_s_hairpin_only(workers: Workers) {
    let Some(_root) = root() else { return };
    let ports = registered_port(1, "up0", "vepa") + &learning_port(2, "up0", "vepa");
    let daemon = Daemon::start(workers, &(Kind::Xdp.link("station", 0) + &ports)).unwrap();
    let [one, two] =
        [1, 2].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    let link = || daemon.hairpin("link show up0").unwrap();
    assert_eq!(link()["state"], "waiting");
    assert!(link()["device"]["xdp"]["granted"].is_null());

    lay(daemon.namespace(), 0).unwrap();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(daemon.namespace(), "far0").unwrap();
    let outside = bridge.host(9).unwrap();
    eventually("the link up", || link()["state"] == "up").unwrap();
    let device = &link()["device"]["xdp"];
    assert_eq!([&device["mode"], &device["granted"]], ["auto", "copy"]);
    assert!(device["reason"].as_str().unwrap().contains("no zero-copy"), "{device}");

    assert_reach(&one, &outside);
    assert_reach(&outside, &two);
    assert_apart(&one, &two);
    bridge.reflect("far0", Reflection::On).unwrap();
    assert_reach(&one, &two);
    assert_reach(&two, &one);
    detect_duplicates(&[&one, &two]);
    assert_duplicate_found(&one, &two, "fd0a::2");
    let listeners = [&one, &two, &outside];
    let bytes = frame(BROADCAST, one.mac_bytes(), "once each");
    assert_eq!(arrivals(&one, &bytes, &listeners).unwrap(), [0, 1, 1]);
    for family in Family::ALL {
        transfer(&one, &two, family, 16 * MEGABYTE).unwrap();
        transfer(&two, &outside, family, 16 * MEGABYTE).unwrap();
        transfer(&outside, &one, family, 16 * MEGABYTE).unwrap();
    }
    assert_eq!(link()["warnings"], serde_json::json!([]), "{}", link());
    // All of it went out and came back: nothing was switched locally.
    assert!(daemon.count("up0", "/tx_bytes").unwrap() > 64 * MEGABYTE);
    bridge.reflect("far0", Reflection::Off).unwrap();
    assert_apart(&two, &one);
    daemon.stop().unwrap();
}

fn an_interface_that_goes_costs_its_port_alone_until_it_is_back(workers: Workers) {
    let Some(_root) = root() else { return };
    let numbers = [1, 2, 3, 4];
    let ports: String = numbers.iter().map(|&number| Kind::Xdp.port(number, "veb")).collect();
    let mut daemon = Daemon::start(workers, &(local_link() + &ports)).unwrap();
    assert_eq!(show(&daemon, "port vm1")["state"], "waiting");
    let hosts = numbers.map(|number| plug(&daemon, number).unwrap());
    for number in numbers {
        await_state(&daemon, &format!("port vm{number}"), "up");
    }
    let [one, two, three, four] = &hosts;
    assert_reach(one, two);
    let bystanders = Bystanders::start(three, four).unwrap();
    let stream = Stream::start(two, one, Family::Ipv4, |_| {}).unwrap();
    let elsewhere = Namespace::new().unwrap();
    for goes in ["link del if1", &format!("link set if1 netns {}", elsewhere.name())] {
        let so_far = stream.received();
        eventually("the stream to flow", || stream.received() > so_far + MEGABYTE).unwrap();
        daemon.namespace().ip(goes).unwrap();
        await_state(&daemon, "port vm1", "waiting");
        // One that was moved takes its other end along when it goes for good.
        let _ = elsewhere.ip("link del if1");
        lay(daemon.namespace(), 1).unwrap();
        one.replug(daemon.namespace()).unwrap();
        await_state(&daemon, "port vm1", "up");
        assert_reach(one, two);
        assert_reach(two, one);
    }
    drop(stream);
    // One that was away comes back as it is.
    daemon.namespace().ip(&format!("link set if1 netns {}", elsewhere.name())).unwrap();
    await_state(&daemon, "port vm1", "waiting");
    elsewhere.give("if1", daemon.namespace()).unwrap();
    daemon.namespace().ip("link set if1 up").unwrap();
    await_state(&daemon, "port vm1", "up");
    assert_reach(one, two);
    // Down, by another name and up again is no loss at all.
    let reopened = || daemon.hairpin("port show vm1").unwrap()["reopened"].clone();
    let before = reopened();
    daemon.namespace().ip("link set if1 down").unwrap();
    await_state(&daemon, "port vm1", "down");
    daemon.namespace().ip("link set if1 name lan7").unwrap();
    daemon.namespace().ip("link set lan7 up").unwrap();
    await_state(&daemon, "port vm1", "up");
    assert_eq!(reopened(), before);
    assert_reach(one, two);
    bystanders.assert_unhurt();
    assert!(daemon.is_running());
}

/// Gives both ends of the pair `ifN` this MTU, theirs being in that namespace.
fn set_mtu(daemon: &Daemon, theirs: &Namespace, number: u8, mtu: u32) {
    theirs.ip(&format!("link set far{number} mtu {mtu}")).unwrap();
    daemon.namespace().ip(&format!("link set if{number} mtu {mtu}")).unwrap();
}

#[test]
fn jumbo_frames_cross_ports_and_a_link_byte_for_byte() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(
        Workers::Two,
        &(Kind::Xdp.link("station", 0) + &Kind::Xdp.port(1, "veb") + &Kind::Xdp.port(2, "vepa")),
    )
    .unwrap();
    lay(daemon.namespace(), 0).unwrap();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(daemon.namespace(), "far0").unwrap();
    bridge.reflect("far0", Reflection::On).unwrap();
    let outside = bridge.host(9).unwrap();
    let [one, two] = [1, 2].map(|number| plug(&daemon, number).unwrap());
    bridge.set_mtu(9000).unwrap();
    outside.set_mtu(9000).unwrap();
    set_mtu(&daemon, bridge.namespace(), 0, 9000);
    for host in [(1, &one), (2, &two)] {
        set_mtu(&daemon, host.1.namespace(), host.0, 9000);
    }
    for port in ["vm1", "vm2"] {
        eventually("the MTU to be followed", || {
            let shown = show(&daemon, &format!("port {port}"));
            shown["mtu"] == 9000 && shown["state"] == "up"
        })
        .unwrap();
    }
    for (from, to) in [(&one, &outside), (&outside, &two), (&one, &two), (&two, &one)] {
        for family in Family::ALL {
            let echo = from.ping_packet_bytes(to, family, 9000).unwrap();
            assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
            transfer(from, to, family, 32 * MEGABYTE).unwrap();
        }
    }
    let count = |pointer: &str| daemon.count("vm1", pointer).unwrap();
    let mean = count("/rx_bytes") / count("/rx_frames");
    assert!(mean > 1514, "{mean} bytes a frame: they were not long");
    daemon.stop().unwrap();
}

#[test]
fn an_mtu_that_grows_too_large_is_named_and_costs_its_port_alone() {
    let Some(_root) = root() else { return };
    let numbers = [1, 2, 3, 4];
    let ports: String = numbers.iter().map(|&number| Kind::Xdp.port(number, "veb")).collect();
    let daemon = Daemon::start(Workers::One, &(local_link() + &ports)).unwrap();
    let hosts = numbers.map(|number| plug(&daemon, number).unwrap());
    for number in numbers {
        await_state(&daemon, &format!("port vm{number}"), "up");
    }
    let [one, two, three, four] = &hosts;
    let bystanders = Bystanders::start(three, four).unwrap();
    let shown = || daemon.hairpin("port show vm1").unwrap();
    set_mtu(&daemon, one.namespace(), 1, 12000);
    let problem = "interface `if1`: its mtu is 12000, and xdp takes 9216 at most";
    let names = |shown: &serde_json::Value| shown.as_str().is_some_and(|it| it.contains(problem));
    eventually("the warning", || names(&shown()["warnings"][0])).unwrap();
    assert!(names(&shown()["last_error"]));
    assert!(daemon.log().contains(problem), "{}", daemon.log());
    // Frames beyond the bound are lost by name, others cross.
    let echo = one.ping_packet_bytes(two, Family::Ipv4, 11000).unwrap();
    assert_eq!(echo.received, 0);
    assert!(daemon.count("vm1", "/drops/giant").unwrap() > 0);
    assert_reach(one, two);
    set_mtu(&daemon, one.namespace(), 1, 1500);
    eventually("no warning", || shown()["warnings"][0].is_null()).unwrap();
    assert_reach(one, two);
    bystanders.assert_unhurt();
    daemon.stop().unwrap();
}

#[test]
fn a_port_by_another_name_keeps_its_sockets() {
    let Some(_root) = root() else { return };
    let ports = Kind::Xdp.port(1, "veb") + &Kind::Xdp.port(2, "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let [one, two] = [1, 2].map(|number| plug(&daemon, number).unwrap());
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    assert_reach(&one, &two);
    let mut names = ["vm1", "vm7"];
    for _ in 0..4 {
        names.reverse();
        let [_, before] = names;
        let renamed = ports.replace("\"vm1\"", &format!("\"{}\"", names[0]));
        daemon.rewrite(&(local_link() + &renamed)).unwrap();
        daemon.reload().unwrap();
        eventually("the new name", || daemon.hairpin(&format!("port show {before}")).is_err())
            .unwrap();
        await_state(&daemon, &format!("port {}", names[0]), "up");
        assert_reach(&one, &two);
        assert_reach(&two, &one);
    }
    assert_eq!(daemon.log().matches("is open by AF_XDP").count(), 2, "{}", daemon.log());
}

#[test]
fn what_xdp_cannot_take_is_refused_with_the_remedy() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(Workers::One, &local_link()).unwrap();
    lay(daemon.namespace(), 1).unwrap();
    daemon.namespace().ip("link set far1 up").unwrap();
    daemon.namespace().ip("link set if1 mtu 9217").unwrap();
    daemon.rewrite(&(local_link() + &Kind::Xdp.port(1, "veb"))).unwrap();
    let refused = |wanted: &str| {
        daemon.reload().unwrap();
        eventually("the refusal", || daemon.log().contains(wanted)).unwrap();
        assert!(daemon.hairpin("port show vm1").is_err());
    };
    refused("interface `if1`: its mtu is 9217, and xdp takes 9216 at most");
    daemon.namespace().ip("link set if1 mtu 1500").unwrap();
    daemon.namespace().ip("addr add 192.0.2.1/24 dev if1").unwrap();
    refused("interface `if1` carries 192.0.2.1");
    daemon.namespace().ip("addr flush dev if1").unwrap();
    daemon.reload().unwrap();
    eventually("vm1 up", || {
        daemon.hairpin("port show vm1").is_ok_and(|port| port["state"] == "up")
    })
    .unwrap();
}
