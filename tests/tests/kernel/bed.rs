//! The bed itself, between kernel peers: what it measures must be true of a
//! switch that is known.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Family, Flooding, Flow, Frame, Host, KernelBridge, Namespace, Recorder, Reflection, Result,
    Stream, eventually, root, run, send_frame, sweep, transfer,
};

use crate::site::{Site, local_link, registered_port};

const BROADCAST: [u8; 6] = [0xff; 6];
/// The EtherType for local experiments (IEEE 802, 9.2.4).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

fn pair() -> Result<(KernelBridge, Host, Host)> {
    let bridge = KernelBridge::new(Flooding::Unknown)?;
    let (one, two) = (bridge.host(1)?, bridge.host(2)?);
    Ok((bridge, one, two))
}

#[test]
fn hosts_on_a_kernel_bridge_reach_each_other() {
    let Some(_root) = root() else { return };
    let (_bridge, one, two) = pair().unwrap();
    for family in Family::ALL {
        assert!(one.ping(&two, family).unwrap().is_clean(), "{family}");
        let bytes = 8 << 20;
        assert_eq!(transfer(&one, &two, family, bytes).unwrap().bytes, bytes);
    }
}

#[test]
fn flows_over_a_kernel_bridge_lose_nothing_and_a_cut_is_seen() {
    let Some(_root) = root() else { return };
    let (bridge, one, two) = pair().unwrap();
    let start = || Flow::start(&one, &two, Family::Ipv4, Duration::from_micros(500)).unwrap();
    let flow = start();
    std::thread::sleep(Duration::from_millis(300));
    let report = flow.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");

    let flow = start();
    std::thread::sleep(Duration::from_millis(100));
    bridge.namespace().ip("link set port2 down").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let report = flow.stop().unwrap();
    assert!(report.received > 0 && report.received < report.sent, "{report:?}");
}

#[test]
fn a_switch_that_is_not_scheduled_costs_a_flow_nothing() {
    let Some(_root) = root() else { return };
    let ports: String = (1..=2).map(|number| registered_port(number, "up0", "veb")).collect();
    let site = Site::start(&(local_link() + &ports), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    let flow = Flow::start(one, two, Family::Ipv4, Duration::from_micros(500)).unwrap();
    for _ in 0..3 {
        // Longer than a TAP's queue takes what is sent at this pace.
        site.daemon.stand_still().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        site.daemon.go_on().unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = flow.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_stream_flows_until_it_is_dropped() {
    let Some(_root) = root() else { return };
    let (_bridge, one, two) = pair().unwrap();
    let stream = Stream::start(&one, &two, Family::Ipv6, |_| {}).unwrap();
    eventually("a megabyte", || stream.received() > 1 << 20).unwrap();
}

#[test]
fn recorders_see_tags_directions_and_reflections() {
    let Some(_root) = root() else { return };
    let (bridge, one, two) = pair().unwrap();
    let frame =
        [&BROADCAST[..], &one.mac_bytes(), &[0x88, 0xa8, 0x20, 100], &EXPERIMENTAL, &[7; 60]]
            .concat();
    let ours = |seen: &Frame| seen.bytes == frame;
    let at_one = Recorder::start(one.namespace(), one.interface()).unwrap();
    let at_two = Recorder::start(two.namespace(), two.interface()).unwrap();
    let moment = Duration::from_millis(200);
    let directions = |recorder: &Recorder| -> Vec<Direction> {
        recorder.collect(moment, ours).iter().map(|frame| frame.direction).collect()
    };

    send_frame(one.namespace(), one.interface(), &frame).unwrap();
    assert_eq!(directions(&at_two), [Direction::Incoming]);
    assert_eq!(directions(&at_one), [Direction::Outgoing]);

    bridge.reflect("port1", Reflection::On).unwrap();
    send_frame(one.namespace(), one.interface(), &frame).unwrap();
    assert_eq!(directions(&at_two), [Direction::Incoming]);
    assert_eq!(directions(&at_one), [Direction::Outgoing, Direction::Incoming]);
}

#[test]
fn namespaces_go_on_drop_and_are_swept_after_a_crash() {
    let Some(_root) = root() else { return };
    let namespace = Namespace::new().unwrap();
    let listed = |name: &str| run(&["ip", "netns", "list"]).unwrap().contains(name);
    let name = namespace.name().to_owned();
    assert!(listed(&name));

    // A process id that no process has: that of one which has ended.
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let orphan = format!("hp-{}-0", ended.id());
    run(&["ip", "netns", "add", &orphan]).unwrap();
    sweep();
    assert!(!listed(&orphan));
    assert!(listed(&name), "a living process lost its namespace");
    drop(namespace);
    assert!(!listed(&name));
}
