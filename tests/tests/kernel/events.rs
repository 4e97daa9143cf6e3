//! What an owner does to a netdev under load concerns the port or link on it alone.

use hairpin_tests::bed::{
    Daemon, Family, Flooding, Host, KernelBridge, Namespace, Stream, Workers, assert_reach,
    await_state, eventually, root,
};

use crate::bystanders::Bystanders;
use crate::ledgers::assert_ledgers_hold;
use crate::netdev::{Kind, lay, plug};
use crate::site::{local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;

/// Makes tests of functions that take a [`Kind`].
macro_rules! with_both_kinds {
    ($($function:ident)+) => {
        mod by_packet_sockets {
            $(#[test] fn $function() { super::$function(super::Kind::Packet) })+
        }
        mod by_xdp {
            $(#[test] fn $function() { super::$function(super::Kind::Xdp) })+
        }
    };
}

with_both_kinds! {
    a_port_s_netdev_goes_down_and_changes_under_load
    a_link_s_netdev_changes_and_goes_under_load
}

/// Waits until a stream has carried another megabyte.
#[track_caller]
fn await_flow(stream: &Stream, when: &str) {
    let so_far = stream.received();
    eventually(&format!("the stream to flow {when}"), || stream.received() > so_far + MEGABYTE)
        .unwrap();
}

fn a_port_s_netdev_goes_down_and_changes_under_load(kind: Kind) {
    let Some(_root) = root() else { return };
    let numbers = [1, 2, 3, 4];
    let ports: String = numbers.map(|number| kind.port(number, "veb")).concat();
    let mut daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let [one, two, three, four] = numbers.map(|number| plug(&daemon, number).unwrap());
    for number in numbers {
        await_state(&daemon, &format!("port vm{number}"), "up");
    }
    assert_reach(&one, &two);
    let bystanders = Bystanders::start(&three, &four).unwrap();
    let stream = Stream::start(&two, &one, Family::Ipv4, |_| {}).unwrap();
    await_flow(&stream, "at first");
    let ip = |arguments: &str| daemon.namespace().ip(arguments).unwrap();

    for round in 0..3 {
        ip("link set if1 down");
        await_state(&daemon, "port vm1", "down");
        ip("link set if1 up");
        await_state(&daemon, "port vm1", "up");
        await_flow(&stream, &format!("once it is up again, round {round}"));
    }
    // A name is nothing to those who know the netdev.
    for (old, new) in [("if1", "lan7"), ("lan7", "if1")] {
        ip(&format!("link set {old} name {new}"));
        await_flow(&stream, &format!("by the name of {new}"));
    }
    // What is too long meanwhile may be lost; the netdev is the same one.
    for bytes in [2000, 1500] {
        ip("link set if1 mtu 1400");
        ip(&format!("link set if1 mtu {bytes}"));
        await_flow(&stream, &format!("with an MTU of {bytes}"));
    }
    assert_eq!(daemon.hairpin("port show vm1").unwrap()["state"], "up");
    drop(stream);
    bystanders.assert_unhurt();
    assert_reach(&one, &two);
    assert_ledgers_hold(&daemon);
    assert!(daemon.is_running());
}

/// A link on `if0` into one kernel bridge; beside it another into a second one.
fn a_link_s_netdev_changes_and_goes_under_load(kind: Kind) {
    let Some(_root) = root() else { return };
    let links = kind.link("station", 0) + &kind.link("station", 6).replace("up0", "up1");
    let ports = [(1, "up0"), (2, "up0"), (3, "up0"), (4, "up1")]
        .map(|(number, link)| registered_port(number, link, "veb"));
    let mut daemon = Daemon::start(Workers::Two, &(links + &ports.concat())).unwrap();
    let [one, two, three, four] = [1, 2, 3, 4]
        .map(|number| Host::plug(daemon.namespace(), &format!("tap{number}"), number).unwrap());
    let bridges = [0, 6].map(|number| {
        let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
        lay(daemon.namespace(), number).unwrap();
        bridge.attach(daemon.namespace(), &format!("far{number}")).unwrap();
        bridge
    });
    let [outside, elsewhere] = [bridges[0].host(9).unwrap(), bridges[1].host(8).unwrap()];
    await_state(&daemon, "link up0", "up");
    await_state(&daemon, "link up1", "up");
    assert_reach(&one, &outside);
    let bystanders =
        [Bystanders::start(&two, &three).unwrap(), Bystanders::start(&four, &elsewhere).unwrap()];
    let stream = Stream::start(&one, &outside, Family::Ipv4, |_| {}).unwrap();
    let mtu = || daemon.hairpin("link show up0").unwrap()["mtu"].as_u64();
    for bytes in [2000, 1400, 1500] {
        daemon.namespace().ip(&format!("link set if0 mtu {bytes}")).unwrap();
        eventually("the MTU to be followed", || mtu() == Some(bytes)).unwrap();
        if bytes >= 1500 {
            await_flow(&stream, &format!("with an MTU of {bytes}"));
        }
    }
    let away = Namespace::new().unwrap();
    for goes in ["link del if0", &format!("link set if0 netns {}", away.name())] {
        await_flow(&stream, &format!("before `{goes}`"));
        daemon.namespace().ip(goes).unwrap();
        await_state(&daemon, "link up0", "waiting");
        assert_reach(&one, &two);
        // One that was moved takes its other end along when it goes for good.
        let _ = away.ip("link del if0");
        lay(daemon.namespace(), 0).unwrap();
        bridges[0].attach(daemon.namespace(), "far0").unwrap();
        await_state(&daemon, "link up0", "up");
        // What was resolved stays so: the stream goes on by itself.
        await_flow(&stream, &format!("after `{goes}`"));
    }
    drop(stream);
    for bystanders in bystanders {
        bystanders.assert_unhurt();
    }
    assert_reach(&outside, &one);
    assert_ledgers_hold(&daemon);
    assert!(daemon.is_running());
}
