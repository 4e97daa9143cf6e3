//! Netdevs that a daemon cannot have: it ends at once, and says what would help.

use hairpin_tests::bed::{
    Daemon, Namespace, Workers, assert_reach, await_state, eventually, program, root,
};

use crate::netdev::{Kind, lay, plug};
use crate::site::local_link;

/// What a daemon says that is refused at its start in a namespace; `wrapper` is what it is
/// started by.
#[track_caller]
fn refusal(namespace: &Namespace, wrapper: &str, configuration: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hairpin.toml");
    let own = directory.path().display();
    let switch = format!("[switch]\napi = \"unix:{own}/api.sock\"\nstate-dir = \"{own}/state\"\n");
    std::fs::write(&file, switch + configuration).unwrap();
    let (program, file) = (program().unwrap(), file.display());
    let line = format!("timeout 20 {wrapper} {} run --config {file}", program.display());
    let said = namespace.run(&line).unwrap_err().to_string();
    // With 1; a daemon that was not refused is ended with 124.
    assert!(said.contains("exit status: 1\n"), "{said}");
    said
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

#[test]
fn a_netdev_is_one_daemon_s_whatever_it_is_taken_by() {
    let Some(_root) = root() else { return };
    for (has, wants) in [
        (Kind::Packet, Kind::Packet),
        (Kind::Packet, Kind::Xdp),
        (Kind::Xdp, Kind::Packet),
        (Kind::Xdp, Kind::Xdp),
    ] {
        let ports = has.port(1, "veb") + &has.port(2, "veb");
        let first = Daemon::start(Workers::One, &(local_link() + &ports)).unwrap();
        let [one, two] = [1, 2].map(|number| plug(&first, number).unwrap());
        await_state(&first, "port vm1", "up");
        await_state(&first, "port vm2", "up");
        assert_reach(&one, &two);
        let said = refusal(first.namespace(), "", &(local_link() + &wants.port(1, "veb")));
        let holder = format!("by a device `{has}` of a Hairpin");
        assert_says(&said, &["vm1", "interface `if1` is taken", &holder, "stop that daemon"]);
        // The one that was first has noticed nothing.
        assert_eq!(first.hairpin("port show vm1").unwrap()["state"], "up");
        assert_reach(&two, &one);
    }
}

#[test]
fn an_interface_with_addresses_of_the_host_s_is_refused_to_either() {
    let Some(_root) = root() else { return };
    let namespace = Namespace::new().unwrap();
    lay(&namespace, 1).unwrap();
    namespace.ip("addr add 192.0.2.1/24 dev if1").unwrap();
    for kind in [Kind::Packet, Kind::Xdp] {
        let said = refusal(&namespace, "", &(local_link() + &kind.port(1, "veb")));
        let remedies = ["`ip addr flush dev if1`", "take-over = true"];
        assert_says(&said, &["vm1", "interface `if1` carries 192.0.2.1"]);
        assert_says(&said, &remedies);
    }
}

#[test]
fn an_interface_without_ethernet_is_refused_to_either() {
    let Some(_root) = root() else { return };
    let namespace = Namespace::new().unwrap();
    namespace.ip("tuntap add if1 mode tun").unwrap();
    for kind in [Kind::Packet, Kind::Xdp] {
        let said = refusal(&namespace, "", &(local_link() + &kind.port(1, "veb")));
        assert_says(&said, &["vm1", "interface `if1` is no Ethernet interface", "name another"]);
    }
}

#[test]
fn what_is_not_permitted_says_what_to_run_with() {
    let Some(_root) = root() else { return };
    let namespace = Namespace::new().unwrap();
    lay(&namespace, 1).unwrap();
    // bpf(2) is also permitted to those who may do everything.
    for lacking in ["-net_raw", "-net_admin", "-bpf,-sys_admin"] {
        let wrapper = format!("setpriv --bounding-set={lacking}");
        for kind in [Kind::Packet, Kind::Xdp] {
            let said = refusal(&namespace, &wrapper, &(local_link() + &kind.port(1, "veb")));
            let words = ["vm1", "`if1`: not permitted", "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"];
            assert_says(&said, &words);
        }
    }
}

#[test]
fn a_driver_without_xdp_is_had_by_the_generic_path_only() {
    let Some(_root) = root() else { return };
    let daemon = Daemon::start(Workers::One, &local_link()).unwrap();
    let namespace = daemon.namespace();
    // A kernel bridge's own netdev has no XDP in its driver.
    namespace.ip("link add if1 type bridge").unwrap();
    namespace.ip("link set if1 up").unwrap();
    let port = |mode: &str| {
        let wanted = format!("\"if1\", mode = \"{mode}\"");
        local_link() + &Kind::Xdp.port(1, "veb").replace("\"if1\"", &wanted)
    };
    for mode in ["zero-copy", "copy"] {
        let said = refusal(namespace, "", &port(mode));
        let why_not = format!("no {mode}, as it cannot");
        assert_says(&said, &["vm1", "`if1`", &why_not, "set mode = \"auto\"", "packet device"]);
    }
    daemon.rewrite(&port("auto")).unwrap();
    daemon.reload().unwrap();
    let shown = || daemon.hairpin("port show vm1");
    eventually("vm1 up", || shown().is_ok_and(|port| port["state"] == "up")).unwrap();
    let device = &shown().unwrap()["device"]["xdp"];
    assert_eq!([&device["mode"], &device["granted"]], ["auto", "generic"]);
    let reason = device["reason"].as_str().unwrap();
    assert_says(reason, &["no zero-copy, as it cannot", "no copy, as it cannot"]);
}
