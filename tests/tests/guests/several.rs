//! A guest with several queue pairs, each of a CPU of its own.

use hairpin_tests::bed::{Daemon, Guest, Sockets, eventually, root};
use serde_json::Value;

use crate::site::{Site, assert_reach, await_up, ipv4, ipv6, shown, turn};

const PAIRS: u8 = 4;
const MEBIBYTES: u32 = 16;

/// Waits until all rings of guest 1 run.
#[track_caller]
fn await_pairs(daemon: &Daemon) {
    let runs = |ring: &Value| ring["state"] == "running";
    let all_run = || {
        let shown = shown(daemon, 1);
        let pairs = shown["queues"].as_array().unwrap();
        let run = pairs.iter().filter(|pair| runs(&pair["receive"]) && runs(&pair["transmit"]));
        run.count() == usize::from(PAIRS)
    };
    eventually("four pairs that run", all_run)
        .unwrap_or_else(|error| panic!("{error}: {}", shown(daemon, 1)["queues"]));
}

/// Frames that each receive queue of guest 1's port gave.
fn given(daemon: &Daemon) -> Vec<u64> {
    let workers = daemon.hairpin("workers").unwrap();
    let queues = workers["workers"].as_array().unwrap().iter().flat_map(|worker| {
        let queues = worker["queues"].as_array().unwrap().iter();
        queues.filter(|queue| queue["port"] == "vm1").cloned().collect::<Vec<Value>>()
    });
    let number = |queue: &Value, key: &str| queue[key].as_u64().unwrap();
    let mut queues: Vec<(u64, u64)> =
        queues.map(|queue| (number(&queue, "queue"), number(&queue, "frames"))).collect();
    queues.sort_unstable();
    queues.into_iter().map(|(_, frames)| frames).collect()
}

/// Has every CPU of the guest send by its own pair, and be answered.
fn send_by_each(guest: &mut Guest, daemon: &Daemon) {
    let before = given(daemon);
    assert_eq!(before.len(), usize::from(PAIRS));
    for cpu in 0..PAIRS {
        let mask = 1_u32 << cpu;
        let line = format!("taskset {mask:x} ping -q -c 3 -i 0.2 -W 10 {}", ipv4(3));
        let said = guest.run(&line).unwrap();
        assert!(said.contains("3 packets received, 0% packet loss"), "CPU {cpu}: {said}");
    }
    let after = given(daemon);
    for (pair, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(after - before >= 3, "pair {pair} gave {} frames", after - before);
    }
}

#[test]
fn a_guest_with_four_pairs_uses_each_of_them() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start_with_pairs(Sockets::There, ["packed=on", ""], [PAIRS, 1]);
    let Site { guests: [one, two], daemon, .. } = &mut site;
    await_pairs(daemon);
    assert!(shown(daemon, 1)["features"].to_string().contains("\"mq\""));
    send_by_each(one, daemon);
    for address in [ipv4(2), ipv6(2)] {
        one.transfer(&address, MEBIBYTES).unwrap();
    }
    two.transfer(&ipv4(1), MEBIBYTES).unwrap();
    one.reboot().unwrap();
    await_up(daemon, 1);
    await_pairs(daemon);
    send_by_each(one, daemon);
    assert_reach(two, 1);
    site.daemon.stop().unwrap();
}
