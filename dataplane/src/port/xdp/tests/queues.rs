//! Netdevs with more receive queues than are used, or than can be had.

use std::io;

use super::super::opening::open_by;
use super::*;
use crate::sys::xdp::{Binding, Socket};

fn lay_with(ours: &str, theirs: &str) {
    ip(&format!("link add a0{ours} type veth peer name b0{theirs}"));
    ip("link set a0 up");
    ip("link set b0 up");
}

fn ethtool(words: &str) {
    let output = Command::new("ethtool").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ethtool {words}: {output:?}");
}

/// As a driver that has no transmit queue to go with the second receive queue.
fn bind_the_first_only(
    socket: &Socket,
    interface: u32,
    queue: u32,
    binding: Binding,
    pieces: Pieces,
) -> io::Result<()> {
    match queue {
        0 => socket.bind(interface, queue, binding, pieces),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[test]
fn queues_that_are_added_later_are_a_problem_until_they_are_gone() {
    in_own_network_alone(|| {
        lay_with(" numrxqueues 3", "");
        ethtool("-L a0 rx 1");
        let device = open(&config(Mode::Auto)).unwrap();
        let share = device.share();
        assert_eq!((device.receivers.len(), share.queue_problem()), (1, None));
        ethtool("-L a0 rx 3");
        let problem = share.queue_problem().unwrap();
        for part in ["`a0`", "3 receive queues", "of which 1 are ours", "`ethtool -L a0 rx 1`"] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
        ethtool("-L a0 rx 1");
        assert_eq!(share.queue_problem(), None);
        ip("link del a0");
        assert_eq!(share.queue_problem(), None);
    });
}

#[test]
fn a_queue_that_is_used_but_refused_stands_against_the_path() {
    in_own_network_alone(|| {
        lay_with(" numrxqueues 2", "");
        let open = || open_by(&config(Mode::Auto), &Caretaker::default(), bind_the_first_only);
        let error = open().unwrap_err().to_string();
        for part in ["`a0`", "receive queue 1 of 2", "`ethtool -L`"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        ethtool("-L a0 rx 1");
        assert_eq!(open().unwrap().receivers.len(), 1);
    });
}

#[test]
fn a_peer_with_more_transmit_queues_leaves_the_generic_path() {
    in_own_network_alone(|| {
        lay_with(" numrxqueues 1", " numtxqueues 2");
        ethtool("-L b0 tx 2");
        let error = open(&config(Mode::Only(DataPath::Copy))).unwrap_err().to_string();
        for part in ["`a0`", "each transmit queue of its peer", "`ethtool -L PEER tx 1`"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let mut device = open(&config(Mode::Auto)).unwrap();
        let Granted { path, reason, .. } = device.granted().clone();
        assert_eq!(path, DataPath::Generic, "{reason}");
        assert!(reason.contains("transmit queue of its peer"), "{reason}");
        assert_crosses(&mut device, &guest(), &[60]);
        drop(device);
        ethtool("-L b0 tx 1");
        assert_eq!(open(&config(Mode::Auto)).unwrap().granted().path, DataPath::Copy);
    });
}
