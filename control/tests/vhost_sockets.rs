//! Sockets of vhost-user ports, with VMMs that do what they like. What they say is
//! handed to a double: eight bytes are a message, and most come back as they are.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod vmm;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hairpin::config::vhost_user::{Account, SocketAccess, VhostUserConfig};
use hairpin::vhost::{Plug, Sockets, Status};
use hairpin_dataplane::sys::netdev::Line;
use vmm::{BREAK, Double, HALT, MESSAGE_BYTES, PANIC, RUN, SOON, Vmm, WRONG};

/// A directory, and the thread that serves what is in it.
struct Site {
    directory: tempfile::TempDir,
    sockets: Mutex<Sockets>,
}

impl Site {
    fn new() -> Site {
        Site { directory: tempfile::tempdir().unwrap(), sockets: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn server(&self, name: &str) -> Plug {
        self.open(VhostUserConfig::server(self.path(name), SocketAccess::default())).unwrap()
    }

    fn open(&self, config: VhostUserConfig) -> Result<Plug, String> {
        let plug = self.prepare(&config)?;
        plug.activate();
        Ok(plug)
    }

    fn prepare(&self, config: &VhostUserConfig) -> Result<Plug, String> {
        let plug = self.sockets.lock().unwrap().open(config, Box::<Double>::default());
        plug.map_err(|error| error.to_string())
    }

    fn connect(&self, name: &str) -> Vmm {
        Vmm::connect(&self.path(name))
    }
}

#[track_caller]
fn await_status(plug: &Plug, what: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + SOON;
    loop {
        let status = plug.status();
        if what(&status) {
            return status;
        }
        assert!(Instant::now() < until, "{status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_socket_is_made_for_whom_it_is_meant_and_removed_in_the_end() {
    let site = Site::new();
    let plug = site.server("vm1");
    let mode = |name| fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("vm1"), 0o660);
    drop(plug);
    let access = SocketAccess { mode: 0o600, ..SocketAccess::default() };
    let second = site.open(VhostUserConfig::server(site.path("vm2"), access)).unwrap();
    assert_eq!(mode("vm2"), 0o600);
    assert!(!site.path("vm1").exists());
    let path = site.path("vm2");
    drop(site.sockets);
    assert!(!path.exists(), "it ends with the thread, too");
    drop(second);
}

#[test]
fn owner_and_group_are_set_and_unknown_ones_refused() {
    let site = Site::new();
    let with = |owner: Option<Account>, group: Option<Account>| {
        let access = SocketAccess { owner, group, ..SocketAccess::default() };
        site.open(VhostUserConfig::server(site.path("vm1"), access))
    };
    let name = |name: &str| Some(Account::Name(name.to_owned()));
    assert_eq!(
        with(name("no-such-user"), None).unwrap_err(),
        "owner: there is no user \"no-such-user\" on this host; add it, or write a number"
    );
    assert_eq!(
        with(None, name("no-such-group")).unwrap_err(),
        "group: there is no group \"no-such-group\" on this host; add it, or write a number"
    );
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        let _plug = with(Some(Account::Number(4711)), Some(Account::Number(4712))).unwrap();
        let file = fs::metadata(site.path("vm1")).unwrap();
        assert_eq!((file.uid(), file.gid()), (4711, 4712));
    }
}

#[test]
fn what_is_stale_is_replaced_and_what_is_not_ours_is_refused() {
    let site = Site::new();
    let open = |name| site.open(VhostUserConfig::server(site.path(name), SocketAccess::default()));
    drop(UnixListener::bind(site.path("stale")).unwrap());
    let plug = open("stale").unwrap();
    site.connect("stale").ask(*b"hello...");
    drop(plug);
    let others = UnixListener::bind(site.path("taken")).unwrap();
    let refused = open("taken").unwrap_err();
    assert!(refused.contains("somebody listens at") && refused.contains("ss -xlp"), "{refused}");
    assert!(site.path("taken").exists());
    drop(others);
    fs::write(site.path("file"), "precious").unwrap();
    assert!(open("file").unwrap_err().contains("is there and is no socket; remove it"));
    assert_eq!(fs::read(site.path("file")).unwrap(), b"precious");
    assert!(open("no/such").unwrap_err().contains("does not exist; create it"));
    // What somebody else has put in its place meanwhile stays.
    let plug = open("vm1").unwrap();
    fs::remove_file(site.path("vm1")).unwrap();
    fs::write(site.path("vm1"), "precious").unwrap();
    drop((plug, site.sockets));
    assert!(site.directory.path().join("vm1").exists());
}

#[test]
fn one_vmm_is_served_at_a_time_and_the_next_one_when_it_ends() {
    let site = Site::new();
    let plug = site.server("vm1");
    let mut first = site.connect("vm1");
    first.ask(*b"first...");
    let mut second = site.connect("vm1");
    second.say(*b"second..");
    first.ask(*b"again...");
    assert_eq!(plug.status().connects, 1);
    drop(first);
    assert_eq!(second.hear(), *b"second..");
    let status = await_status(&plug, |status| status.connects == 2);
    assert_eq!(status.reconnects(), 1);
    drop(second);
    await_status(&plug, |status| status.session.is_none());
}

#[test]
fn half_a_message_a_flood_and_silence_hold_up_nobody() {
    let site = Site::new();
    let plugs = ["half", "flood", "deaf", "good"].map(|name| site.server(name));
    let mut half = site.connect("half");
    half.0.write_all(b"hal").unwrap();
    let mut flood = site.connect("flood").0;
    flood.set_nonblocking(true).unwrap();
    // Says much, and reads none of the answers.
    let mut deaf = site.connect("deaf").0;
    deaf.set_nonblocking(true).unwrap();
    while deaf.write(&[b'x'; 4096]).is_ok() {}
    let mut good = site.connect("good");
    let mut bytes = [0; 4096];
    let mut longest = Duration::ZERO;
    for round in 0..200_u32 {
        let _ = (flood.write(&[b'f'; 4096]), flood.read(&mut bytes), deaf.write(b"deaf...."));
        let begin = Instant::now();
        good.ask([round as u8; MESSAGE_BYTES]);
        longest = longest.max(begin.elapsed());
    }
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    half.say(*b"f...half");
    let mut answer = [0; MESSAGE_BYTES];
    half.0.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"half...h");
    drop(plugs);
}

#[test]
fn the_line_is_up_while_the_first_pair_runs_and_falls_are_counted() {
    let site = Site::new();
    let plug = site.server("vm1");
    assert_eq!(plug.status().seen().line, Line::NoCarrier);
    let mut vmm = site.connect("vm1");
    vmm.ask(*b"hello...");
    await_status(&plug, |status| status.seen().line == Line::Down);
    vmm.ask(RUN);
    await_status(&plug, |status| status.seen().line == Line::Up);
    vmm.ask(HALT);
    await_status(&plug, |status| status.seen().line == Line::Down);
    vmm.ask(RUN);
    let line = |status: &Status| (status.seen().line, status.falls);
    await_status(&plug, |status| line(status) == (Line::Up, 1));
    drop(vmm);
    await_status(&plug, |status| line(status) == (Line::NoCarrier, 2));
}

#[test]
fn a_vmm_at_fault_is_kept_out_for_longer_each_time() {
    let site = Site::new();
    let plug = site.server("vm1");
    for wait in [1, 2] {
        let mut vmm = site.connect("vm1");
        vmm.say(WRONG);
        let status = await_status(&plug, |status| status.fault.is_some());
        assert_eq!(status.last_error, "it sent something wrong");
        let begin = Instant::now();
        let mut again = site.connect("vm1");
        again.ask(*b"sorry...");
        let kept_out = begin.elapsed().as_millis();
        assert!((wait * 900..wait * 1900).contains(&kept_out), "{kept_out} ms");
        assert_eq!(plug.status().fault, None);
    }
    // Somebody who may ends it at once.
    site.connect("vm1").say(WRONG);
    await_status(&plug, |status| status.fault.is_some());
    plug.release();
    let begin = Instant::now();
    site.connect("vm1").ask(*b"thanks..");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(plug.status().faults, 3);
}

#[test]
fn a_broken_ring_quarantines_and_the_vmm_stays_connected() {
    let site = Site::new();
    let plug = site.server("vm1");
    let mut vmm = site.connect("vm1");
    vmm.ask(RUN);
    vmm.ask(BREAK);
    let status = await_status(&plug, |status| status.fault.is_some());
    assert_eq!(status.fault.as_deref(), Some("its driver broke a ring"));
    vmm.ask(*b"still...");
    plug.release();
    await_status(&plug, |status| status.fault.is_none() && status.seen().line == Line::Down);
    vmm.ask(RUN);
    await_status(&plug, |status| status.seen().line == Line::Up);
}

#[test]
fn a_panic_costs_the_port_that_it_was_for_and_nobody_else() {
    let site = Site::new();
    let (bad, good) = (site.server("bad"), site.server("good"));
    let mut neighbour = site.connect("good");
    neighbour.ask(RUN);
    let mut vmm = site.connect("bad");
    vmm.ask(RUN);
    vmm.say(PANIC);
    let status = await_status(&bad, |status| status.fault.is_some());
    let reason = "serving its socket failed: a double was asked to; report this";
    assert_eq!(status.fault.as_deref(), Some(reason));
    assert_eq!(vmm.0.read(&mut [0]).unwrap(), 0, "it is sent away");
    neighbour.ask(*b"still...");
    assert_eq!((good.status().connects, good.status().faults), (1, 0));
    // When its time is over a VMM is served as if nothing had been.
    site.connect("bad").ask(*b"again...");
    assert_eq!(bad.status().fault, None);
}

#[test]
fn a_client_tries_until_its_vmm_is_there_and_comes_back_to_it() {
    let site = Site::new();
    let plug = site.open(VhostUserConfig::client(site.path("vm1"))).unwrap();
    let status = await_status(&plug, |status| !status.last_error.is_empty());
    assert!(status.last_error.contains("is not there yet: its VMM makes it"), "{status:?}");
    for connects in 1..=2 {
        let listener = UnixListener::bind(site.path("vm1")).unwrap();
        let (socket, _) = listener.accept().unwrap();
        Vmm::from(socket).ask(*b"welcome.");
        assert_eq!(plug.status().connects, connects);
        drop(listener);
        await_status(&plug, |status| status.session.is_none());
        await_status(&plug, |status| status.last_error.contains("start its VMM"));
        fs::remove_file(site.path("vm1")).unwrap();
    }
}

#[test]
fn a_port_that_follows_another_at_the_same_socket_leaves_no_gap() {
    let site = Site::new();
    let before = site.server("vm1");
    let mut vmm = site.connect("vm1");
    vmm.ask(*b"before..");
    let access = SocketAccess { mode: 0o666, ..SocketAccess::default() };
    let config = VhostUserConfig::server(site.path("vm1"), access);
    let after = site.prepare(&config).unwrap();
    // Given up: nothing has changed.
    drop(after);
    vmm.ask(*b"same....");
    let after = site.prepare(&config).unwrap();
    drop(before);
    after.activate();
    assert_eq!(vmm.0.read(&mut [0]).unwrap(), 0, "it is let go");
    site.connect("vm1").ask(*b"after...");
    assert_eq!(fs::metadata(site.path("vm1")).unwrap().permissions().mode() & 0o777, 0o666);
    await_status(&after, |status| status.connects == 1);
}
