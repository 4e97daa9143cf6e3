//! Ports that come and go by themselves, with the devices that templates mean.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use daemon::{Daemon, LOCAL, Place, eventually, in_own_network, ip, stderr, stdout};
use means::has_means;
use rustix::process::Signal;
use serde_json::json;

/// A directory of the place for sockets of VMMs.
fn vms(place: &Place) -> PathBuf {
    let directory = place.file().with_file_name("vms");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Templates for sockets in it, and for interfaces.
fn templates(directory: &Path, mode: &str) -> String {
    format!(
        "[[port-template]]\nname = \"guests\"\nchannel = \"up0\"\nmode = {mode:?}\nlearn-limit = 7\n\
         device = {{ vhost-user = {{ socket = \"{}/vm*.sock\", role = \"client\" }} }}\n\
         [[port-template]]\nname = \"vifs\"\nchannel = \"up0\"\nmode = {mode:?}\n\
         device = {{ packet = {{ interface = \"vif*\" }} }}\n",
        directory.display()
    )
}

fn names(place: &Place) -> Vec<String> {
    let ports = place.json("port list")["ports"].as_array().unwrap().clone();
    ports.iter().map(|port| port["name"].as_str().unwrap().to_owned()).collect()
}

fn await_ports(place: &Place, expected: &[&str]) {
    eventually(&format!("ports {expected:?}"), || names(place) == expected);
}

#[test]
fn a_socket_that_appears_has_a_port_until_it_goes() {
    let place = Place::new();
    let vms = vms(&place);
    place.write(&format!("{LOCAL}{}", templates(&vms, "veb")));
    let daemon = Daemon::start(place.daemon_command());
    assert!(names(&place).is_empty());
    let one = UnixListener::bind(vms.join("vm1.sock")).unwrap();
    // None of these is meant, or can be a port.
    let others =
        ["other.sock", "vm 2.sock"].map(|name| UnixListener::bind(vms.join(name)).unwrap());
    fs::write(vms.join("vm3.sock"), "").unwrap();
    await_ports(&place, &["vm1"]);
    let port = place.json("port show vm1");
    assert_eq!((&port["template"], &port["learn_limit"]), (&json!("guests"), &json!(7)));
    eventually("a connection", || one.set_nonblocking(true).is_ok() && one.accept().is_ok());
    // It is no part of what is written, and of no revision.
    assert_eq!(place.json("show")["revision"], 1);
    assert!(!stdout(&place.client("config")).contains("vm1"));
    let apply = place.client(&format!("apply {}", place.file().display()));
    assert_eq!(stdout(&apply), "nothing changes; revision 1 runs\n", "{}", stderr(&apply));
    for change in ["port set vm1 mode=vepa", "port del vm1"] {
        assert_eq!(place.client(change).status.code(), Some(1), "{change}");
    }

    // An apply that has nothing to do with it leaves it alone; one of its template changes it.
    assert!(place.client("link add up1 role=station").status.success());
    assert_eq!(names(&place), ["vm1"]);
    place.write(&format!("{LOCAL}{}", templates(&vms, "vepa")));
    assert!(daemon.reload().contains("port-template guests: mode"), "{}", daemon.log());
    let port = place.json("port show vm1");
    assert_eq!((&port["mode"], &port["reopened"]), (&json!("vepa"), &json!(0)));

    // Who is killed finds again what is there, and only that.
    assert_eq!(daemon.end(Signal::KILL), None);
    drop(one);
    fs::remove_file(vms.join("vm1.sock")).unwrap();
    let two = UnixListener::bind(vms.join("vm2.sock")).unwrap();
    let daemon = Daemon::start(place.daemon_command());
    await_ports(&place, &["vm2"]);
    fs::remove_file(vms.join("vm2.sock")).unwrap();
    await_ports(&place, &[]);
    // What somebody writes has its name.
    let tap = UnixListener::bind(vms.join("vm9.sock")).unwrap();
    await_ports(&place, &["vm9"]);
    assert!(place.client("link add vm9 role=station").status.success());
    await_ports(&place, &[]);
    assert!(place.client("link del vm9").status.success());
    await_ports(&place, &["vm9"]);
    // Without the template it goes.
    place.write(LOCAL);
    daemon.reload();
    await_ports(&place, &[]);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    drop((two, tap, others));
}

#[test]
fn an_interface_that_appears_has_a_port_until_it_goes() {
    if !has_means("an_interface_that_appears_has_a_port_until_it_goes") {
        return;
    }
    let place = Place::new();
    let vms = vms(&place);
    place.write(&format!("{LOCAL}{}", templates(&vms, "veb")));
    let daemon = in_own_network(&place, &[]);
    for number in [1, 2] {
        let words = format!("link add vif{number} type veth peer name guest{number}");
        assert!(ip(&daemon, &words).status.success());
        ip(&daemon, &format!("link set vif{number} up"));
        ip(&daemon, &format!("link set guest{number} up"));
    }
    await_ports(&place, &["vif1", "vif2"]);
    let state = |name: &str| place.json(&format!("port show {name}"))["state"].clone();
    eventually("both up", || state("vif1") == "up" && state("vif2") == "up");
    daemon::assert_frames_pass(&place, &daemon, "guest1", "vif1", "vif2");
    // Thirty come and go, and none stays behind.
    for number in 10..40 {
        ip(&daemon, &format!("link add vif{number} type veth peer name guest{number}"));
    }
    eventually("thirty more", || names(&place).len() == 32);
    for number in 10..40 {
        ip(&daemon, &format!("link del vif{number}"));
    }
    await_ports(&place, &["vif1", "vif2"]);
    let port = place.json("port show vif1");
    assert_eq!((&port["reopened"], &port["template"]), (&json!(0), &json!("vifs")));
    ip(&daemon, "link del vif2");
    await_ports(&place, &["vif1"]);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn templates_that_cannot_be_are_refused() {
    let place = Place::new();
    let check = |template: &str| {
        place.write(&format!("{LOCAL}[[port-template]]\nname = \"t\"\n{template}\n"));
        let output = place.client(&format!("check {}", place.file().display()));
        assert_eq!(output.status.code(), Some(1), "{template}");
        stderr(&output)
    };
    let packet = "device = { packet = { interface = \"vif*\" } }";
    let said =
        check(&format!("channel = \"up0\"\nmode = \"veb\"\nmac = \"52:54:00:00:00:01\"\n{packet}"));
    assert!(said.contains("port-template t: mac: unknown key"), "{said}");
    let said = check(&format!("channel = \"blue\"\nmode = \"veb\"\n{packet}"));
    assert!(said.contains("port-template t: channel: there is no channel \"blue\""), "{said}");
    let said = check(&format!("channel = \"up0\"\nmode = \"direct\"\n{packet}"));
    assert!(said.contains("port-template t: mode: a direct port is the only one"), "{said}");
    let said =
        check("channel = \"up0\"\nmode = \"veb\"\ndevice = { tap = { interface = \"t*\" } }");
    assert!(said.contains("a device of this kind does not come by itself"), "{said}");
    let server = "device = { vhost-user = { socket = \"/run/*.sock\", role = \"server\" } }";
    let said = check(&format!("channel = \"up0\"\nmode = \"veb\"\n{server}"));
    assert!(said.contains("a socket that appears was made by a VMM"), "{said}");
}
