//! What a daemon leaves on interfaces that it had by AF_XDP: nothing, however it ends.

use std::fs;

use hairpin_tests::bed::{Daemon, Namespace, Workers, assert_reach, await_state, eventually, root};
use serde_json::Value;

use crate::netdev::{Kind, lay, plug, show};
use crate::site::local_link;

/// What is seen of a daemon at an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Traces {
    program: bool,
    promiscuous: bool,
    /// Whether the netdev takes C- and S-tags out of frames, as veths do by default.
    strips: [bool; 2],
}

/// As it was made.
const UNTOUCHED: Traces = Traces { program: false, promiscuous: false, strips: [true, true] };
const IN_USE: Traces = Traces { program: true, promiscuous: true, strips: [false, false] };
/// What the kernel cannot clear away.
const LEFT_BEHIND: Traces = Traces { strips: [false, false], ..UNTOUCHED };

fn strips(namespace: &Namespace, interface: &str) -> [bool; 2] {
    let features = namespace.run(&format!("ethtool -k {interface}")).unwrap();
    ["rx-vlan-offload: on", "rx-vlan-stag-hw-parse: on"].map(|line| features.contains(line))
}

fn traces(daemon: &Daemon, interface: &str) -> Traces {
    let shown = daemon.namespace().ip(&format!("-d link show dev {interface}")).unwrap();
    Traces {
        program: shown.contains("xdp"),
        promiscuous: !shown.contains("promiscuity 0"),
        strips: strips(daemon.namespace(), interface),
    }
}

#[track_caller]
fn await_traces(daemon: &Daemon, interface: &str, wanted: Traces) {
    let seen = || traces(daemon, interface);
    let arrived = eventually("its traces", || seen() == wanted);
    assert!(arrived.is_ok(), "{interface}: {:?} in place of {wanted:?}", seen());
}

/// A daemon with two ports, and their hosts' ends of the cables.
fn site() -> (Daemon, [hairpin_tests::bed::Host; 2]) {
    let ports = Kind::Xdp.port(1, "veb") + &Kind::Xdp.port(2, "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let hosts = [1, 2].map(|number| plug(&daemon, number).unwrap());
    await_state(&daemon, "port vm1", "up");
    await_state(&daemon, "port vm2", "up");
    (daemon, hosts)
}

fn states(daemon: &Daemon) -> [Value; 2] {
    ["port vm1", "port vm2"].map(|port| show(daemon, port)["state"].take())
}

#[test]
fn a_stopped_daemon_leaves_interfaces_as_they_were() {
    let Some(_root) = root() else { return };
    let (mut daemon, [one, two]) = site();
    for round in 0..3 {
        assert_eq!(traces(&daemon, "if1"), IN_USE, "round {round}");
        assert_reach(&one, &two);
        daemon.end().unwrap();
        assert_eq!(traces(&daemon, "if1"), UNTOUCHED, "round {round}");
        assert!(!daemon.state_dir().join("interfaces.json").exists());
        daemon.start_again().unwrap();
        // At once: it is ready with the interface, not before.
        assert_eq!(states(&daemon), ["up", "up"]);
    }
}

#[test]
fn what_a_killed_daemon_leaves_is_put_back_by_the_next() {
    let Some(_root) = root() else { return };
    let (mut daemon, [one, two]) = site();
    for round in 0..2 {
        daemon.kill().unwrap();
        await_traces(&daemon, "if1", LEFT_BEHIND);
        daemon.start_again().unwrap();
        assert_eq!(states(&daemon), ["up", "up"], "{round}");
        assert_eq!(traces(&daemon, "if1"), IN_USE);
        assert_reach(&one, &two);
    }
    // What it was at first, not what the killed one had made of it.
    daemon.end().unwrap();
    assert_eq!(traces(&daemon, "if1"), UNTOUCHED);
    // The next one no longer has the one interface, and never had the other that is now
    // called by that name.
    daemon.start_again().unwrap();
    daemon.kill().unwrap();
    daemon.namespace().ip("link del if2").unwrap();
    lay(daemon.namespace(), 2).unwrap();
    daemon.namespace().run("ethtool -K if2 rxvlan off").unwrap();
    daemon.rewrite(&local_link()).unwrap();
    daemon.start_again().unwrap();
    assert_eq!(traces(&daemon, "if1"), UNTOUCHED);
    assert_eq!(strips(daemon.namespace(), "if2"), [false, true]);
    assert!(daemon.log().contains("turned on again"), "{}", daemon.log());
    daemon.stop().unwrap();
}

#[test]
fn a_torn_record_is_said_once_and_put_aside() {
    let Some(_root) = root() else { return };
    let (mut daemon, _hosts) = site();
    daemon.kill().unwrap();
    let record = daemon.state_dir().join("interfaces.json");
    let whole = fs::read_to_string(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    daemon.start_again().unwrap();
    assert!(daemon.log().contains("torn or not ours"), "{}", daemon.log());
    assert_eq!(states(&daemon), ["up", "up"]);
    let aside = daemon.state_dir().join("interfaces.torn");
    assert_eq!(fs::read_to_string(&aside).unwrap(), whole[..whole.len() / 2]);
    daemon.end().unwrap();
    daemon.start_again().unwrap();
    assert!(!daemon.log().contains("torn or not ours"), "{}", daemon.log());
    daemon.stop().unwrap();
}

#[test]
fn an_interface_that_was_away_gets_back_what_it_had_at_first() {
    let Some(_root) = root() else { return };
    let (mut daemon, _hosts) = site();
    let elsewhere = Namespace::new().unwrap();
    daemon.namespace().ip(&format!("link set if1 netns {}", elsewhere.name())).unwrap();
    await_state(&daemon, "port vm1", "waiting");
    elsewhere.give("if1", daemon.namespace()).unwrap();
    daemon.namespace().ip("link set if1 up").unwrap();
    await_state(&daemon, "port vm1", "up");
    assert_eq!(traces(&daemon, "if1"), IN_USE);
    daemon.end().unwrap();
    assert_eq!(traces(&daemon, "if1"), UNTOUCHED);
}
