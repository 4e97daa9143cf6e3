//! What is written to the log, and how much of it a guest can have written.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::os::unix::net::UnixStream;

use daemon::{Daemon, LOCAL, Place, eventually};

/// A daemon with two ports whose VMMs connect to sockets of these names.
fn daemon(place: &Place) -> Daemon {
    let port = |name: &str| {
        let socket = place.file().with_file_name(format!("{name}.sock"));
        format!(
            "[[port]]\nname = {name:?}\nchannel = \"up0\"\nmode = \"veb\"\n\
             device = {{ vhost-user = {{ socket = {socket:?}, role = \"server\" }} }}\n"
        )
    };
    place.write(&format!("{LOCAL}{}{}", port("loud"), port("quiet")));
    Daemon::start(place.daemon_command())
}

/// Lines of the log about a socket.
fn lines(daemon: &Daemon, socket: &str) -> usize {
    let log = daemon.log();
    let about = |line: &&str| line.contains(" socket=") && line.contains(socket);
    log.lines().filter(about).count()
}

#[test]
fn a_vmm_that_comes_and_goes_for_ever_leaves_others_their_log() {
    let place = Place::new();
    let daemon = daemon(&place);
    let vmm =
        |socket: &str| drop(UnixStream::connect(place.file().with_file_name(socket)).unwrap());
    (0..200).for_each(|_| vmm("loud.sock"));
    eventually("it has no more lines", || lines(&daemon, "loud.sock") >= 20);
    vmm("quiet.sock");
    eventually("the quiet one has its own", || lines(&daemon, "quiet.sock") >= 2);
    // 20 at once, and one every five seconds.
    let loud = lines(&daemon, "loud.sock");
    assert!(loud < 30, "{loud} of 400 lines or more: {}", daemon.log());
    eventually("what was left out is said", || {
        vmm("loud.sock");
        daemon.log().lines().any(|line| line.contains("lines about") && line.contains("loud.sock"))
    });
}
