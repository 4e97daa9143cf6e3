//! DPDK's virtio-user at both ports: two guests that send each other every frame back.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hairpin_tests::bed::{
    Daemon, Devices, PortCounters, Sockets, Testpmd, Workers, eventually, root,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PORTS: [&str; 2] = ["vm1", "vm2"];
/// So many frames have gone around the longest ring many times.
const ENOUGH_FRAMES: u64 = 50_000;
const SPLIT: &str = "packed_vq=0,mrg_rxbuf=1,in_order=0";
const SPLIT_IN_ORDER: &str = "packed_vq=0,mrg_rxbuf=0,in_order=1";
const PACKED: &str = "packed_vq=1,mrg_rxbuf=1,in_order=0";
const PACKED_IN_ORDER: &str = "packed_vq=1,mrg_rxbuf=1,in_order=1";
const PACKED_VECTORIZED: &str = "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1";

/// A testpmd polls on a CPU of its own: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon with two ports, and what is plugged into both.
struct Bed {
    // In the order in which they go: who is left alone says so in its log.
    testpmd: Testpmd,
    daemon: Daemon,
    devices: Devices,
    directory: TempDir,
}

impl Bed {
    fn start(devices: Devices) -> Bed {
        let directory = TempDir::new().unwrap();
        let configuration = configuration(directory.path(), devices);
        let start_daemon = || Daemon::start(Workers::One, &configuration).unwrap();
        let start_testpmd = || plug(directory.path(), devices);
        let (daemon, mut testpmd) = match devices.sockets {
            Sockets::There => {
                let daemon = start_daemon();
                (daemon, start_testpmd())
            }
            // It does not end its start before the daemon is there.
            Sockets::Made => {
                let testpmd = start_testpmd();
                let [first, _] = sockets(directory.path());
                eventually("the first socket", || first.exists()).unwrap();
                (start_daemon(), testpmd)
            }
        };
        testpmd.await_start().unwrap();
        let bed = Bed { testpmd, daemon, devices, directory };
        bed.await_up();
        bed
    }

    fn shown(&self, port: &str) -> Value {
        self.daemon.hairpin(&format!("port show {port}")).unwrap()
    }

    fn await_up(&self) {
        for port in PORTS {
            eventually("state up", || self.shown(port)["state"] == "up")
                .unwrap_or_else(|error| panic!("{error}: {}", self.shown(port)));
        }
    }

    fn reconnects(&self) -> [u64; 2] {
        PORTS.map(|port| self.shown(port)["reconnects"].as_u64().unwrap())
    }

    /// Starts traffic, and finds it going both ways.
    fn assert_passing(&mut self, frame_bytes: u16) {
        let before = self.testpmd.counters().unwrap();
        self.testpmd.start_traffic(frame_bytes).unwrap();
        let mut last = before;
        let passing = eventually("frames both ways", || {
            last = self.testpmd.counters().unwrap();
            let ports = before.iter().zip(&last);
            let received = |(before, now): (&PortCounters, &PortCounters)| {
                now.received_frames - before.received_frames
            };
            ports.map(received).all(|frames| frames >= ENOUGH_FRAMES)
        });
        passing.unwrap_or_else(|error| {
            let stats = self.daemon.hairpin("stats").unwrap();
            panic!("{error}: from {before:?} to {last:?}; {stats}")
        });
    }

    /// Stops traffic. What each guest has sent since both sides started, we have received
    /// from it, and given to the other, which has received it.
    fn assert_accounts_agree(&mut self) {
        self.testpmd.stop_traffic().unwrap();
        let guests = self.testpmd.counters().unwrap();
        let count = |port, key| self.daemon.count(port, key).unwrap();
        for (from, to) in [(0, 1), (1, 0)] {
            let sent = (guests[from].sent_frames, guests[from].sent_bytes);
            let ways = [
                ("received", (guests[to].received_frames, guests[to].received_bytes)),
                ("rx", (count(PORTS[from], "/rx_frames"), count(PORTS[from], "/rx_bytes"))),
                ("tx", (count(PORTS[to], "/tx_frames"), count(PORTS[to], "/tx_bytes"))),
            ];
            for (what, frames_and_bytes) in ways {
                assert_eq!(frames_and_bytes, sent, "{what}, from {} on", PORTS[from]);
            }
            assert_eq!(guests[from].received_errors, 0);
        }
        let drops = self.daemon.hairpin("drops").unwrap();
        assert_eq!(drops, json!({ "drops": {}, "ports": {} }));
    }
}

fn sockets(directory: &Path) -> [PathBuf; 2] {
    PORTS.map(|port| directory.join(format!("{port}.sock")))
}

fn plug(directory: &Path, devices: Devices) -> Testpmd {
    let [one, two] = sockets(directory);
    Testpmd::start([&one, &two], devices).unwrap()
}

fn configuration(directory: &Path, devices: Devices) -> String {
    let role = match devices.sockets {
        Sockets::Made => "client",
        Sockets::There => "server",
    };
    let port = |(number, socket): (u8, PathBuf)| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"52:54:00:00:00:0{number}\"\nvlan = {{ access = 10 }}\n\
             device = {{ vhost-user = {{ socket = \"{}\", role = \"{role}\", queues = {} }} }}\n",
            socket.display(),
            devices.queues,
        )
    };
    let ports = (1..).zip(sockets(directory)).map(port);
    let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\nmtu = 1500\n".to_owned();
    [link].into_iter().chain(ports).collect()
}

/// Frames of both sizes pass through rings of this layout, and none is lost or altered.
fn assert_layout(layout: &'static str, sockets: Sockets) {
    let mut bed = Bed::start(Devices { layout, queues: 1, sockets });
    let ring = if layout.starts_with("packed_vq=1") { "packed" } else { "split" };
    for port in PORTS {
        assert_eq!(bed.shown(port)["ring"], ring, "{port}");
    }
    for frame_bytes in [64, 1500] {
        bed.assert_passing(frame_bytes);
        bed.assert_accounts_agree();
    }
    assert_eq!(bed.reconnects(), [0, 0]);
    bed.daemon.stop().unwrap();
}

#[test]
fn every_layout_of_rings_in_both_roles_loses_nothing() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    let layouts = [
        (SPLIT, Sockets::Made),
        (SPLIT_IN_ORDER, Sockets::There),
        (PACKED, Sockets::There),
        (PACKED_IN_ORDER, Sockets::Made),
        (PACKED_VECTORIZED, Sockets::There),
    ];
    for (layout, sockets) in layouts {
        eprintln!("{layout}, sockets {sockets:?}");
        assert_layout(layout, sockets);
    }
}

#[test]
fn guests_that_are_killed_come_again() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    let mut bed = Bed::start(Devices { layout: SPLIT, queues: 1, sockets: Sockets::Made });
    bed.assert_passing(64);
    for round in 1..=2 {
        bed.testpmd.kill().unwrap();
        for port in PORTS {
            eventually("state waiting", || bed.shown(port)["state"] == "waiting").unwrap();
        }
        bed.testpmd = plug(bed.directory.path(), bed.devices);
        bed.testpmd.await_start().unwrap();
        bed.await_up();
        assert_eq!(bed.reconnects(), [round, round]);
        bed.assert_passing(64);
    }
    bed.daemon.stop().unwrap();
}

#[test]
fn guests_find_a_daemon_that_comes_again() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    for layout in [SPLIT, PACKED] {
        let mut bed = Bed::start(Devices { layout, queues: 1, sockets: Sockets::Made });
        bed.assert_passing(64);
        bed.daemon.end().unwrap();
        bed.daemon.start_again().unwrap();
        bed.await_up();
        bed.assert_passing(64);
        bed.daemon.kill().unwrap();
        bed.daemon.start_again().unwrap();
        bed.await_up();
        bed.assert_passing(64);
        bed.daemon.stop().unwrap();
    }
}

#[test]
fn two_queue_pairs_lose_nothing() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    let mut bed = Bed::start(Devices { layout: PACKED, queues: 2, sockets: Sockets::Made });
    let queue = json!({ "size": 1024, "state": "running" });
    let pair = json!({ "receive": queue, "transmit": queue });
    for port in PORTS {
        assert_eq!(bed.shown(port)["queues"], json!([pair, pair]), "{port}");
    }
    bed.assert_passing(64);
    bed.assert_accounts_agree();
    bed.daemon.stop().unwrap();
}
