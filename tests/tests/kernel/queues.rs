//! Receive queues that move from worker to worker while frames flow.

use std::time::Duration;

use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_tests::bed::{
    Daemon, Family, Flow, Host, Stream, Workers, await_state, eventually, root,
};
use serde_json::Value;

use crate::bystanders::Bystanders;
use crate::netdev::{Kind, finish_frames, lay_with_queues, plug};
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

/// So many flows at most until each of two queues has one: the kernel hashes them.
const FLOWS_MAX: usize = 24;

/// Frames that the two queues of a port have given so far.
fn given(daemon: &Daemon, port: &str) -> [u64; 2] {
    let queues = queues(daemon, port);
    [0, 1].map(|index| {
        let (_, _, queue) = queues.iter().find(|(_, _, it)| it["queue"] == index).unwrap();
        queue["frames"].as_u64().unwrap()
    })
}

/// How many of its two queues have given frames of a flow since then.
fn used(daemon: &Daemon, port: &str, before: [u64; 2]) -> usize {
    let pairs = given(daemon, port).into_iter().zip(before);
    pairs.filter(|(now, before)| *now >= before + FRAMES_A_ROUND).count()
}

/// Starts flows to a host until both queues of the port that they enter by have frames of
/// theirs.
fn flows_by_both_queues(daemon: &Daemon, port: &str, from: &Host, to: &Host) -> Vec<Flow> {
    let mut flows = Vec::new();
    loop {
        assert!(flows.len() < FLOWS_MAX, "{port}: {FLOWS_MAX} flows, and all by one queue");
        let before = given(daemon, port);
        flows.push(Flow::start(from, to, Family::Ipv4, INTERVAL).unwrap());
        eventually("frames of a flow", || used(daemon, port, before) > 0).unwrap();
        if used(daemon, port, before) == 2 {
            return flows;
        }
    }
}

/// A netdev with two receive queues, at a port and at a link: its second queue goes to and
/// fro between the workers while both have frames.
#[test]
fn one_of_two_queues_of_a_netdev_moves_to_and_fro_and_nothing_is_lost() {
    let Some(_root) = root() else { return };
    let configuration = Kind::Xdp.link("station", 0) + &Kind::Xdp.port(1, "vepa");
    let daemon = Daemon::start(Workers::Two, &configuration).unwrap();
    let [outside, one] = [(0, 9), (1, 1)].map(|(pair, host)| {
        let far = format!("far{pair}");
        lay_with_queues(daemon.namespace(), pair, 2).unwrap();
        finish_frames(daemon.namespace(), &far).unwrap();
        Host::plug(daemon.namespace(), &far, host).unwrap()
    });
    await_state(&daemon, "link up0", "up");
    await_state(&daemon, "port vm1", "up");
    let flows = [
        flows_by_both_queues(&daemon, "vm1", &one, &outside),
        flows_by_both_queues(&daemon, "up0", &outside, &one),
    ];
    let both = ["vm1", "up0"];
    let dropped = || both.map(|port| daemon.count(port, "/device_drops").unwrap());
    let dropped_before = dropped();
    for round in 0..MOVES {
        for port in both {
            let second = format!("{port}:1");
            let placed = queues(&daemon, port);
            let (_, worker, _) = placed.iter().find(|(name, _, _)| *name == second).unwrap();
            let to = 1 - worker;
            let moved = daemon.hairpin(&format!("workers move {second} --to {to}")).unwrap();
            assert_eq!((&moved["from"], &moved["to"]), (&(*worker).into(), &to.into()));
            // Both go on, wherever they are.
            let before = given(&daemon, port);
            eventually(&format!("frames from both queues of {port}, round {round}"), || {
                used(&daemon, port, before) == 2
            })
            .unwrap();
        }
    }
    let loads = || both.map(|port| queues(&daemon, port).into_iter().map(|(_, _, it)| it));
    eventually("a load of every queue", || {
        loads().into_iter().flatten().all(|queue| queue["load"].as_f64().unwrap() > 0.0)
    })
    .unwrap();
    for flow in flows.into_iter().flatten() {
        let report = flow.stop().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    for port in both {
        eventually(&format!("{port}'s ledgers to balance"), || is_balanced(&daemon, port)).unwrap();
    }
    assert_eq!(dropped(), dropped_before, "before the queues of {both:?}");
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
