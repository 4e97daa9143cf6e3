//! Receive queues that move from worker to worker while frames flow.

use std::time::Duration;

use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_tests::bed::{Daemon, Family, Flow, Host, Stream, Workers, eventually, root};
use serde_json::Value;

use crate::bystanders::Bystanders;
use crate::netdev::{Kind, await_state, plug};
use crate::site::{local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;
/// There and back again.
const MOVES: u64 = 20;
/// Between datagrams.
const INTERVAL: Duration = Duration::from_micros(500);
/// Frames of each flow that meet each round of moves, at least.
const FRAMES_A_ROUND: u64 = 20;

/// A receive queue: `vmN:Q`, and the worker that serves it.
fn queues(daemon: &Daemon, port: &str) -> Vec<(String, u64, Value)> {
    let workers = daemon.hairpin("workers").unwrap();
    let each = workers["workers"].as_array().unwrap().iter().flat_map(|worker| {
        let queues = worker["queues"].as_array().unwrap().iter();
        let mine = queues.filter(|queue| queue["port"] == port);
        mine.map(|queue| {
            (format!("{port}:{}", queue["queue"]), worker["index"].as_u64().unwrap(), queue.clone())
        })
    });
    each.collect()
}

/// Whether both ledgers of a port balance, and its queues gave what it received.
fn is_balanced(daemon: &Daemon, port: &str) -> bool {
    let stats = &daemon.hairpin("stats").unwrap()["ports"][port];
    let count = |name: &str| stats[name].as_u64().unwrap();
    let dropped = |side: Side| -> u64 {
        let reasons = stats["drops"].as_object().unwrap().iter();
        let here = reasons.filter(|(name, _)| DropReason::from_name(name).unwrap().side() == side);
        here.map(|(_, count)| count.as_u64().unwrap()).sum()
    };
    let given = queues(daemon, port);
    let given: u64 = given.iter().map(|(_, _, queue)| queue["frames"].as_u64().unwrap()).sum();
    count("rx_frames") == count("decided") + dropped(Side::Ingress)
        && count("offered") == count("tx_frames") + dropped(Side::Egress)
        && count("rx_frames") == given
}

#[test]
fn queues_that_move_under_load_lose_nothing() {
    let Some(_root) = root() else { return };
    // vm1 on a TAP, vm2 by packet sockets, vm3 by AF_XDP send to vm4; a stream flows from
    // vm5 to vm6; vm7 and vm8 are not concerned.
    let taps: String =
        [1, 4, 5, 6, 7, 8].iter().map(|&number| registered_port(number, "up0", "veb")).collect();
    let ports = taps + &Kind::Packet.port(2, "veb") + &Kind::Xdp.port(3, "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let tap = |number| Host::plug(daemon.namespace(), &format!("tap{number}"), number).unwrap();
    let [one, four, five, six, seven, eight] = [1, 4, 5, 6, 7, 8].map(tap);
    let [two, three] = [2, 3].map(|number| plug(&daemon, number).unwrap());
    for port in ["port vm2", "port vm3"] {
        await_state(&daemon, port, "up");
    }
    let bystanders = Bystanders::start(&seven, &eight).unwrap();
    let flows =
        [&one, &two, &three].map(|from| Flow::start(from, &four, Family::Ipv4, INTERVAL).unwrap());
    let stream = Stream::start(&five, &six, Family::Ipv4, |_| {}).unwrap();

    let movable = ["vm1", "vm2", "vm3"];
    let dropped = || movable.map(|port| daemon.count(port, "/device_drops").unwrap());
    // What the hosts said while they were being plugged in may be among them.
    let dropped_before = dropped();
    let count = |port: &str| daemon.count(port, "/rx_frames").unwrap();
    for _ in 0..MOVES {
        let so_far = movable.map(|port| (port, count(port)));
        let streamed = stream.received();
        eventually("frames from all that move", || {
            so_far.iter().all(|(port, so_far)| count(port) >= so_far + FRAMES_A_ROUND)
                && stream.received() > streamed + MEGABYTE
        })
        .unwrap();
        for port in ["vm1", "vm2", "vm3", "vm5", "vm6"] {
            for (queue, worker, _) in queues(&daemon, port) {
                let other = 1 - worker;
                let moved = daemon.hairpin(&format!("workers move {queue} --to {other}")).unwrap();
                assert_eq!((&moved["from"], &moved["to"]), (&worker.into(), &other.into()));
            }
        }
    }
    for flow in flows {
        let report = flow.stop().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    bystanders.assert_unhurt();
    drop(stream);
    for port in ["vm1", "vm2", "vm3", "vm4", "vm5", "vm6", "vm7", "vm8"] {
        eventually(&format!("{port}'s ledgers to balance"), || is_balanced(&daemon, port)).unwrap();
    }
    assert_eq!(dropped(), dropped_before, "before the queues of {movable:?}");
    daemon.stop().unwrap();
}

/// A queue stays where it was put: through a reload, another name for its port, and the
/// loss of its device.
#[test]
fn a_queue_stays_where_it_was_put() {
    let Some(_root) = root() else { return };
    let ports = registered_port(1, "up0", "veb") + &registered_port(2, "up0", "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let placed = |port: &str| -> Vec<u64> {
        queues(&daemon, port).into_iter().map(|(_, worker, _)| worker).collect()
    };
    assert_eq!(placed("vm1"), [0, 1]);
    daemon.hairpin("workers move vm1:1 --to 0").unwrap();
    assert_eq!(placed("vm1"), [0, 0]);

    let others = ports.replace("\"veb\"", "\"vepa\"") + &registered_port(3, "up0", "veb");
    daemon.rewrite(&(local_link() + &others)).unwrap();
    daemon.reload().unwrap();
    eventually("vm3", || daemon.hairpin("port show vm3").is_ok()).unwrap();
    assert_eq!((placed("vm1"), placed("vm3")), (vec![0, 0], vec![0, 1]));

    daemon.rewrite(&(local_link() + &others.replace("\"vm1\"", "\"vm9\""))).unwrap();
    daemon.reload().unwrap();
    eventually("vm9", || daemon.hairpin("port show vm9").is_ok()).unwrap();
    assert_eq!(placed("vm9"), [0, 0]);

    daemon.namespace().ip("link del tap1").unwrap();
    eventually("the TAP once more", || {
        daemon.hairpin("port show vm9").unwrap()["reopened"] == 1 && placed("vm9").len() == 2
    })
    .unwrap();
    assert_eq!(placed("vm9"), [0, 0]);
}
