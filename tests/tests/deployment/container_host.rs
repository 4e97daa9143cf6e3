//! `container-host.toml`: containers at veth pairs, one network for them, nothing outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hairpin_tests::bed::{Daemon, Host, Namespace, await_state, eventually, root, send_frame};

use crate::example::Example;
use crate::reach::{BROADCAST, arrivals, assert_reach, frame};

const EXAMPLE: &str = "container-host.toml";

/// Has the runtime make a container whose interface at the host has this name, by the commands
/// that the example tells for ctr-web.
fn contain(daemon: &Daemon, interface: &str, number: u8) -> Host {
    let container = Namespace::new().unwrap();
    for command in Example::read(EXAMPLE).commands("ctr-web") {
        let command = command.replace("ctr-web", interface);
        let command = command.replace("netns web", &format!("netns {}", container.name()));
        daemon.namespace().run(&command).unwrap();
    }
    Host::settle(container, "eth0", number).unwrap()
}

/// Has a container finish its frames itself, by the command that the example tells for this one.
fn finish_frames(container: &Host, name: &str) {
    let exec = format!("ip netns exec {name} ");
    for command in Example::read(EXAMPLE).commands(&exec) {
        container.namespace().run(&command.replace(&exec, "")).unwrap();
    }
}

fn ports(daemon: &Daemon) -> Vec<String> {
    let list = daemon.hairpin("port list").unwrap();
    let names = list["ports"].as_array().unwrap().iter();
    names.map(|port| port["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn containers_reach_each_other_whenever_they_come() {
    let Some(_root) = root() else { return };
    let mut daemon = Example::read(EXAMPLE).start(Namespace::new().unwrap());
    for name in ["web", "cache", "proxy"] {
        await_state(&daemon, &format!("port {name}"), "waiting");
    }
    let web = contain(&daemon, "ctr-web", 1);
    let cache = contain(&daemon, "ctr-cache", 2);
    let proxy = contain(&daemon, "ctr-proxy", 3);
    finish_frames(&proxy, "proxy");
    let pod = contain(&daemon, "pod7", 4);
    for name in ["web", "cache", "proxy", "pod7"] {
        await_state(&daemon, &format!("port {name}"), "up");
    }
    let hosts = [&web, &cache, &proxy, &pod];
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0), (2, 0)] {
        assert_reach(hosts[from], hosts[to]);
    }
    assert_eq!(arrivals(&web, "to all containers", hosts), [0, 1, 1, 1]);
    assert_scraped(&daemon);

    // The pod goes, and a new one comes; another is there when the daemon was killed.
    assert_eq!(ports(&daemon), ["cache", "pod7", "proxy", "web"]);
    daemon.namespace().ip("link del pod7").unwrap();
    eventually("no pod", || ports(&daemon) == ["cache", "proxy", "web"]).unwrap();
    let next = contain(&daemon, "pod8", 5);
    await_state(&daemon, "port pod8", "up");
    assert_reach(&next, &cache);
    daemon.kill().unwrap();
    daemon.namespace().ip("link del pod8").unwrap();
    let last = contain(&daemon, "pod9", 6);
    daemon.start_again().unwrap();
    await_state(&daemon, "port pod9", "up");
    assert_eq!(ports(&daemon), ["cache", "pod9", "proxy", "web"]);
    await_state(&daemon, "port web", "up");
    assert_reach(&last, &web);

    daemon.namespace().ip("link del ctr-cache").unwrap();
    await_state(&daemon, "port cache", "waiting");
    let again = contain(&daemon, "ctr-cache", 7);
    await_state(&daemon, "port cache", "up");
    assert_reach(&again, &web);
    daemon.stop().unwrap();
}

#[test]
fn a_container_has_no_more_addresses_than_it_may() {
    let Some(_root) = root() else { return };
    let daemon = Example::read(EXAMPLE).start(Namespace::new().unwrap());
    let web = contain(&daemon, "ctr-web", 1);
    let cache = contain(&daemon, "ctr-cache", 2);
    await_state(&daemon, "port web", "up");
    await_state(&daemon, "port cache", "up");
    for source in 0x41..0x49 {
        let bytes = frame(BROADCAST, [2, 0, 0, 0, 0, source], "one of many");
        send_frame(web.namespace(), web.interface(), &bytes).unwrap();
    }
    let refused = || daemon.count("web", "/drops/learn_limit").unwrap();
    eventually("frames beyond the limit", || refused() >= 6).unwrap();
    let table = daemon.hairpin("fdb").unwrap();
    let rows = table["addresses"].as_array().unwrap_or_else(|| panic!("{table}"));
    assert_eq!(rows.iter().filter(|row| row["port"] == "web").count(), 2, "{table}");
    drop(cache);
    daemon.stop().unwrap();
}

/// Asserts that metrics are at the socket beside the API's.
fn assert_scraped(daemon: &Daemon) {
    let mut stream = UnixStream::connect(daemon.directory().join("metrics.sock")).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: hairpin\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    for name in ["web", "cache", "proxy", "pod7"] {
        assert!(answer.contains(&format!("port=\"{name}\"")), "{answer}");
    }
}
