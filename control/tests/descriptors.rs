//! File descriptors: as many as the host lets the daemon have, and not spent on
//! whoever likes to connect.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use daemon::{
    Daemon, HAIRPIN, LOCAL, Place, assert_frames_pass, eventually, in_own_network, port, stderr,
};
use means::has_means;
use rustix::process::Signal;

/// Connections that somebody opens and says nothing on: more than the daemon takes.
const IDLE: usize = 300;
/// What the daemon takes (`connections::CONNECTIONS_MAX`).
const TAKEN: usize = 256;

fn descriptors(daemon: &Daemon) -> usize {
    let directory = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    fs::read_dir(directory).unwrap().count()
}

/// Whether the daemon has closed its end, saying what it may have said before.
fn is_closed(connection: &mut UnixStream) -> bool {
    let mut said = [0; 256];
    loop {
        match connection.read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn idle_connections_are_bounded_and_cost_frames_nothing() {
    if !has_means("idle_connections_are_bounded_and_cost_frames_nothing") {
        return;
    }
    let place = Place::new();
    place.write(&format!("{LOCAL}{}{}", port("vm1", "tap1"), port("vm2", "tap2")));
    let daemon = in_own_network(&place, &[]);
    let before = descriptors(&daemon);
    let connect = || {
        let connection = UnixStream::connect(place.socket()).unwrap();
        connection.set_nonblocking(true).unwrap();
        connection
    };
    let mut connections: Vec<UnixStream> = (0..IDLE).map(|_| connect()).collect();
    eventually("the end of those beyond", || {
        connections.iter_mut().filter_map(|one| is_closed(one).then_some(())).count()
            == IDLE - TAKEN
    });
    let during = descriptors(&daemon);
    assert!(during <= before + TAKEN, "{before} descriptors before, {during} now");
    let refused = place.client("show");
    assert_eq!(refused.status.code(), Some(1), "there is no room");
    assert!(!stderr(&refused).contains("start one"), "{}", stderr(&refused));
    let log = daemon.log();
    assert_eq!(log.matches("was closed at once").count(), 1, "said once in a while: {log}");

    connections.truncate(TAKEN - 16);
    eventually("an answer", || place.client("show").status.success());
    assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm2");
    drop(connections);
    eventually("the descriptors' end", || descriptors(&daemon) <= before + 1);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

/// The daemon with 40 ports on TAPs, at this soft and hard limit of open files.
fn limited(place: &Place, limit: &str) -> std::process::Command {
    let ports: String = (0..40).map(|n| port(&format!("vm{n}"), &format!("tap{n}"))).collect();
    place.write(&format!("{LOCAL}{ports}"));
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "prlimit", &format!("--nofile={limit}"), HAIRPIN, "run", "--config"]);
    command.arg(place.file());
    command
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    if !has_means("the_soft_limit_of_open_files_is_raised") {
        return;
    }
    let place = Place::new();
    let daemon = Daemon::start(limited(&place, "40:4096"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid().as_raw_nonzero()));
    let limits = limits.unwrap();
    let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let raised = open.split_whitespace().filter(|word| *word == "4096").count();
    assert_eq!(raised, 2, "soft and hard: {open}");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn too_few_descriptors_are_named_as_such() {
    if !has_means("too_few_descriptors_are_named_as_such") {
        return;
    }
    let place = Place::new();
    let output = limited(&place, "40:40").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("no file descriptor is left") && said.contains("ulimit -n"), "{said}");
    assert!(!said.contains("`tun` module"), "{said}");
}
