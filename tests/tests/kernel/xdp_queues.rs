//! Receive queues that a netdev gets while it is a port's.

use hairpin_tests::bed::{Daemon, Host, Workers, assert_reach, await_state, eventually, root};
use serde_json::json;

use crate::netdev::{Kind, finish_frames};
use crate::site::local_link;

/// Has `ifN` use so many receive queues.
fn use_queues(daemon: &Daemon, number: u8, queues: u8) {
    daemon.namespace().run(&format!("ethtool -L if{number} rx {queues}")).unwrap();
}

#[test]
fn queues_that_are_added_later_are_said_until_they_are_set_back_or_bound() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(Workers::One, &local_link()).unwrap();
    let hosts = [1, 2].map(|number| {
        let (ours, theirs) = (format!("if{number}"), format!("far{number}"));
        let add = format!("link add {ours} numrxqueues 2 type veth peer name {theirs}");
        daemon.namespace().ip(&add).unwrap();
        use_queues(&daemon, number, 1);
        daemon.namespace().ip(&format!("link set {ours} up")).unwrap();
        let host = Host::plug(daemon.namespace(), &theirs, number).unwrap();
        finish_frames(host.namespace(), &theirs).unwrap();
        host
    });
    let port = |number| Kind::Xdp.port(number, "veb");
    let with_both = local_link() + &port(1) + &port(2);
    let without_one = local_link() + &port(2);
    let apply = |text: &str| {
        daemon.rewrite(text).unwrap();
        let applied = || daemon.log().matches("the configuration was applied").count();
        let before = applied();
        daemon.reload().unwrap();
        eventually("the apply", || applied() > before).unwrap();
    };
    let warnings = || daemon.hairpin("port show vm1").unwrap()["warnings"].clone();
    apply(&with_both);
    await_state(&daemon, "port vm1", "up");
    assert_eq!(warnings(), json!([]));

    use_queues(&daemon, 1, 2);
    eventually("the warning", || warnings()[0].is_string()).unwrap();
    let said = warnings()[0].as_str().unwrap().to_owned();
    assert!(said.contains("`if1`: it uses 2 receive queues by now, of which 1 are ours"), "{said}");
    assert!(said.contains("`ethtool -L if1 rx 1`"), "{said}");
    assert_eq!(daemon.log().matches("it uses 2 receive queues").count(), 1, "{}", daemon.log());
    assert_eq!(daemon.hairpin("port show vm2").unwrap()["warnings"], json!([]));

    use_queues(&daemon, 1, 1);
    eventually("the remedy", || warnings() == json!([])).unwrap();
    use_queues(&daemon, 1, 2);
    eventually("the warning again", || warnings()[0].is_string()).unwrap();
    apply(&without_one);
    apply(&with_both);
    await_state(&daemon, "port vm1", "up");
    assert_eq!(warnings(), json!([]));
    let log = daemon.log();
    assert!(log.contains("queues=2"), "{log}");
    assert_reach(&hosts[0], &hosts[1]);
    daemon.stop().unwrap();
}
