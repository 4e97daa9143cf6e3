//! Peers that leave checksums to a netdev that is none: seen, and said with the remedy.

use std::net::UdpSocket;

use hairpin_tests::bed::{Daemon, Family, Host, Workers, await_state, eventually, root};
use serde_json::Value;

use crate::netdev::{Kind, finish_frames, plug, plug_offloading};
use crate::site::local_link;

/// Sends datagrams that somebody has to have summed.
fn chatter(from: &Host, to: &Host) {
    // What a stack sums itself always, as it does an echo's, is not lost.
    assert!(from.ping(to, Family::Ipv4).unwrap().is_clean());
    let (near, far) = (from.address(Family::Ipv4), to.address(Family::Ipv4));
    let send = || {
        let socket = UdpSocket::bind((near, 0)).unwrap();
        for _ in 0..200 {
            socket.send_to(&[7; 100], (far, 9)).unwrap();
        }
    };
    from.namespace().enter(send).unwrap();
}

fn port(daemon: &Daemon, name: &str) -> Value {
    daemon.hairpin(&format!("port show {name}")).unwrap()
}

fn samples(daemon: &Daemon, name: &str) -> u64 {
    port(daemon, name)["device"]["xdp"]["unfilled_checksums"].as_u64().unwrap()
}

#[test]
fn a_peer_that_leaves_checksums_unfilled_is_said_until_it_is_mended() {
    let Some(_root) = root() else { return };
    let ports = Kind::Xdp.port(1, "veb") + &Kind::Xdp.port(2, "veb");
    let daemon = Daemon::start(Workers::One, &(local_link() + &ports)).unwrap();
    let one = plug_offloading(&daemon, 1).unwrap();
    let two = plug(&daemon, 2).unwrap();
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    chatter(&one, &two);
    chatter(&two, &one);
    let note = || port(&daemon, "vm1")["warnings"][0].as_str().unwrap_or_default().to_owned();
    eventually("the note", || !note().is_empty()).unwrap();
    let said = note();
    assert!(said.contains("`if1`") && said.contains("`ethtool -K PEER tx off"), "{said}");
    assert!(samples(&daemon, "vm1") > 0);
    eventually("a warning", || daemon.log().contains("WARN interface `if1`")).unwrap();
    // The other one does as it should.
    assert_eq!(
        (samples(&daemon, "vm2"), &port(&daemon, "vm2")["warnings"]),
        (0, &Value::Array(Vec::new()))
    );

    finish_frames(one.namespace(), one.interface()).unwrap();
    eventually("the remedy", || {
        chatter(&one, &two);
        note().is_empty()
    })
    .unwrap();
    assert_eq!(daemon.log().matches("`ethtool -K PEER").count(), 1, "{}", daemon.log());
    daemon.stop().unwrap();
}
