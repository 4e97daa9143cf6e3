//! Netdevs that somebody else owns: ports and links by packet sockets.

use hairpin_tests::bed::{
    Daemon, Family, Flooding, KernelBridge, Reflection, Stream, Workers, assert_apart,
    assert_reach, await_state, eventually, root, transfer,
};

use crate::bystanders::Bystanders;
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::netdev::{Kind, lay_offloading, plug_offloading, show};
use crate::site::local_link;

const MEGABYTE: u64 = 1 << 20;

fn ports(numbers: &[u8], mode: &str) -> String {
    numbers.iter().map(|&number| Kind::Packet.port(number, mode)).collect()
}

with_one_and_two_workers! {
    hosts_that_come_later_reach_each_other_and_segmentation_travels
    what_a_netdev_does_not_cut_is_cut_for_it_whenever_that_changes
    an_interface_that_goes_costs_its_port_alone_until_it_is_back
    siblings_reach_each_other_by_the_kernel_bridge_s_hairpin_only
}

fn hosts_that_come_later_reach_each_other_and_segmentation_travels(workers: Workers) {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(workers, &(local_link() + &ports(&[1, 2], "veb"))).unwrap();
    for port in ["port vm1", "port vm2"] {
        assert_eq!(show(&daemon, port)["state"], "waiting");
    }
    let (one, two) = (plug_offloading(&daemon, 1).unwrap(), plug_offloading(&daemon, 2).unwrap());
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    assert_reach(&one, &two);
    assert_reach(&two, &one);
    for family in Family::ALL {
        transfer(&one, &two, family, 32 * MEGABYTE).unwrap();
    }
    let count = |pointer: &str| daemon.count("vm1", pointer).unwrap();
    let mean = count("/rx_bytes") / count("/rx_frames");
    assert!(mean > 1514, "{mean} bytes a frame: it was cut on the way");
    daemon.stop().unwrap();
}

/// What becomes of frames that are longer than a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cutting {
    /// They are cut before they are sent.
    Ours,
    /// Nobody cuts them: they arrive whole.
    Nobody,
}

/// Turned at the port's netdev, then at its far end; what comes of it. After the last one all
/// is as it was before the first.
const TURNS: [(&str, &str, Cutting); 7] = [
    ("tx off", "tso off", Cutting::Ours),
    ("tx on tso on", "gro on", Cutting::Nobody),
    ("tx off", "gro off", Cutting::Ours),
    ("tx on", "tx off", Cutting::Nobody),
    ("sg off", "tx on", Cutting::Ours),
    ("sg on", "rx off", Cutting::Nobody),
    ("tso off", "rx on tso on", Cutting::Ours),
];
/// Of which no copy may be lost by that.
const FOREIGN_REASONS: [&str; 4] =
    ["mtu_exceeded", "device_error", "offload_header_too_deep", "port_down"];

fn what_a_netdev_does_not_cut_is_cut_for_it_whenever_that_changes(workers: Workers) {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(workers, &local_link()).unwrap();
    let (one, two) = (plug_offloading(&daemon, 1).unwrap(), plug_offloading(&daemon, 2).unwrap());
    let turn_near = |what: &str| daemon.namespace().run(&format!("ethtool -K if2 {what}"));
    let turn_far =
        |what: &str| two.namespace().run(&format!("ethtool -K {} {what}", two.interface()));
    turn_near("tso off").unwrap();
    daemon.rewrite(&(local_link() + &ports(&[1, 2], "veb"))).unwrap();
    daemon.reload().unwrap();
    let is_up = |port: &str| {
        daemon.hairpin(&format!("port show {port}")).is_ok_and(|shown| shown["state"] == "up")
    };
    eventually("both ports up", || is_up("vm1") && is_up("vm2")).unwrap();
    assert_reach(&one, &two);
    let count = |pointer: &str| daemon.count("vm2", pointer).unwrap();
    for family in Family::ALL {
        let stream = Stream::start(&one, &two, family, |_| {}).unwrap();
        let becomes = |cutting: Cutting, when: &str| {
            eventually(&format!("frames cut by {cutting:?} {when}"), || {
                let (segments, bytes) = (count("/segments"), stream.received());
                eventually(&format!("the stream to flow {when}"), || {
                    stream.received() > bytes + 8 * MEGABYTE
                })
                .unwrap();
                (count("/segments") > segments) == (cutting == Cutting::Ours)
            })
            .unwrap();
        };
        becomes(Cutting::Ours, &format!("{family}, from the start"));
        for (near, far, cutting) in TURNS {
            turn_near(near).unwrap();
            turn_far(far).unwrap();
            becomes(cutting, &format!("{family}, after {near}, and {far} at the far end"));
        }
    }
    for reason in FOREIGN_REASONS {
        assert_eq!(count(&format!("/drops/{reason}")), 0, "{reason}");
    }
    daemon.stop().unwrap();
}

fn an_interface_that_goes_costs_its_port_alone_until_it_is_back(workers: Workers) {
    let Some(_root) = root() else { return };
    let numbers = [1, 2, 3, 4];
    let mut daemon = Daemon::start(workers, &(local_link() + &ports(&numbers, "veb"))).unwrap();
    let hosts = numbers.map(|number| plug_offloading(&daemon, number).unwrap());
    for number in numbers {
        await_state(&daemon, &format!("port vm{number}"), "up");
    }
    let [one, two, three, four] = &hosts;
    assert_reach(one, two);
    let bystanders = Bystanders::start(three, four).unwrap();
    let stream = Stream::start(two, one, Family::Ipv4, |_| {}).unwrap();
    let elsewhere = hairpin_tests::bed::Namespace::new().unwrap();
    for goes in ["link del if1", &format!("link set if1 netns {}", elsewhere.name())] {
        let so_far = stream.received();
        eventually("the stream to flow", || stream.received() > so_far + MEGABYTE).unwrap();
        daemon.namespace().ip(goes).unwrap();
        await_state(&daemon, "port vm1", "waiting");
        // One that was moved takes its other end along when it goes for good.
        let _ = elsewhere.ip("link del if1");
        lay_offloading(daemon.namespace(), 1).unwrap();
        one.replug(daemon.namespace()).unwrap();
        await_state(&daemon, "port vm1", "up");
        assert_reach(one, two);
        assert_reach(two, one);
    }
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
    drop(stream);
    bystanders.assert_unhurt();
    assert!(daemon.is_running());
}

/// A station whose link is a veth into a kernel bridge.
fn siblings_reach_each_other_by_the_kernel_bridge_s_hairpin_only(workers: Workers) {
    let Some(_root) = root() else { return };
    let link = Kind::Packet.link("station", 0);
    let daemon = Daemon::start(workers, &(link + &ports(&[1, 2], "vepa"))).unwrap();
    lay_offloading(daemon.namespace(), 0).unwrap();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(daemon.namespace(), "far0").unwrap();
    let outside = bridge.host(9).unwrap();
    let (one, two) = (plug_offloading(&daemon, 1).unwrap(), plug_offloading(&daemon, 2).unwrap());
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    assert_reach(&one, &outside);
    assert_apart(&one, &two);
    bridge.reflect("far0", Reflection::On).unwrap();
    assert_reach(&one, &two);
    let listeners = [&one, &two, &outside];
    let bytes = frame(BROADCAST, one.mac_bytes(), "once each");
    assert_eq!(arrivals(&one, &bytes, &listeners).unwrap(), [0, 1, 1]);
    transfer(&one, &two, Family::Ipv4, 16 * MEGABYTE).unwrap();
    transfer(&two, &outside, Family::Ipv6, 16 * MEGABYTE).unwrap();
}

#[test]
fn a_changed_mtu_is_followed() {
    let Some(_root) = root() else { return };
    let link = Kind::Packet.link("station", 0);
    let daemon = Daemon::start(Workers::One, &link).unwrap();
    lay_offloading(daemon.namespace(), 0).unwrap();
    let mtu = || daemon.hairpin("link list").unwrap()["links"][0]["mtu"].as_u64();
    for wanted in [1500, 1400, 9000] {
        daemon.namespace().ip(&format!("link set if0 mtu {wanted}")).unwrap();
        eventually("the MTU to be followed", || mtu() == Some(wanted)).unwrap();
    }
}

#[test]
fn the_host_s_own_interface_is_refused_unless_it_is_to_be_taken_over() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(Workers::One, &local_link()).unwrap();
    lay_offloading(daemon.namespace(), 1).unwrap();
    daemon.namespace().ip("link set far1 up").unwrap();
    daemon.namespace().ip("addr add 192.0.2.1/24 dev if1").unwrap();
    let wanted = local_link() + &Kind::Packet.port(1, "veb");
    daemon.rewrite(&wanted).unwrap();
    daemon.reload().unwrap();
    let refused = "interface `if1` carries 192.0.2.1";
    eventually("the refusal", || daemon.log().contains(refused)).unwrap();
    assert!(daemon.hairpin("port show vm1").is_err());
    let taken = wanted.replace("\"if1\"", "\"if1\", take-over = true");
    daemon.rewrite(&taken).unwrap();
    daemon.reload().unwrap();
    eventually("vm1 up", || {
        daemon.hairpin("port show vm1").is_ok_and(|port| port["state"] == "up")
    })
    .unwrap();
}
