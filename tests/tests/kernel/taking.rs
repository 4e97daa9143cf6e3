//! A netdev that passes from one port or kind of device to another within a daemon.

use hairpin_tests::bed::{Daemon, Host, Workers, assert_reach, await_state, eventually, root};

use crate::netdev::{Kind, plug};
use crate::site::local_link;

fn site(kind: Kind) -> (Daemon, [Host; 2]) {
    let ports = kind.port(1, "veb") + &Kind::Packet.port(2, "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let hosts = [1, 2].map(|number| plug(&daemon, number).unwrap());
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    (daemon, hosts)
}

/// Has the daemon serve this port beside `vm2`, and waits until it does.
#[track_caller]
fn apply(daemon: &Daemon, name: &str, kind: Kind, port: &str) {
    daemon.rewrite(&(local_link() + &Kind::Packet.port(2, "veb") + port)).unwrap();
    daemon.reload().unwrap();
    let serves = || {
        let shown = daemon.hairpin(&format!("port show {name}"));
        shown
            .is_ok_and(|port| port["state"] == "up" && port["device"][kind.to_string()].is_object())
    };
    let done = eventually("the change", serves);
    assert!(done.is_ok(), "{name} by {kind}: {}", daemon.log());
}

#[test]
fn one_change_gives_it_from_kind_to_kind_and_from_port_to_port() {
    let Some(_root) = root() else { return };
    let (daemon, [one, two]) = site(Kind::Packet);
    assert_reach(&one, &two);
    for (name, kind) in [
        ("vm1", Kind::Xdp),
        ("vm1", Kind::Packet),
        ("vm9", Kind::Packet),
        ("vm1", Kind::Xdp),
        ("vm9", Kind::Packet),
    ] {
        let port = kind.port(1, "veb").replace("\"vm1\"", &format!("{name:?}"));
        apply(&daemon, name, kind, &port);
        assert_reach(&one, &two);
        assert_reach(&two, &one);
    }
    // The same netdev, by sockets of its own.
    let taking_over = Kind::Packet.port(1, "veb").replace("\"if1\"", "\"if1\", take-over = true");
    apply(&daemon, "vm1", Kind::Packet, &taking_over);
    assert_reach(&one, &two);
    daemon.stop().unwrap();
}

#[test]
fn what_one_change_leaves_the_next_one_may_have_at_once() {
    let Some(_root) = root() else { return };
    let (daemon, [one, two]) = site(Kind::Packet);
    for kind in [Kind::Xdp, Kind::Packet, Kind::Packet] {
        daemon.rewrite(&(local_link() + &Kind::Packet.port(2, "veb"))).unwrap();
        daemon.reload().unwrap();
        eventually("vm1 gone", || daemon.hairpin("port show vm1").is_err()).unwrap();
        apply(&daemon, "vm1", kind, &kind.port(1, "veb"));
        assert_reach(&one, &two);
    }
}

#[test]
fn by_another_name_it_is_still_the_same() {
    let Some(_root) = root() else { return };
    for kind in [Kind::Packet, Kind::Xdp] {
        let (daemon, [one, two]) = site(kind);
        daemon.namespace().ip("link set if1 down").unwrap();
        daemon.namespace().ip("link set if1 name if3").unwrap();
        daemon.namespace().ip("link set if3 up").unwrap();
        await_state(&daemon, "port vm1", "up");
        let ports = [kind.port(1, "veb"), Kind::Packet.port(2, "veb"), Kind::Packet.port(3, "veb")];
        daemon.rewrite(&(local_link() + &ports.concat())).unwrap();
        daemon.reload().unwrap();
        let refused = format!("interface `if3` is taken already, by a device `{kind}`");
        eventually("the refusal", || daemon.log().contains(&refused)).unwrap();
        assert_reach(&one, &two);
    }
}
