//! A daemon with three ports: a testpmd is plugged into two, a front end of ours into the
//! third.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hairpin_bench::front_end::Layout;
use hairpin_tests::bed::{
    Daemon, Devices, PortCounters, Sockets, Testpmd, Workers, eventually, mac_text,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::circle::{Circle, OWN};

/// The ports of testpmd's guests.
pub const GUESTS: [&str; 2] = ["vm1", "vm2"];
/// That of our front end.
const OURS: &str = "vm3";
/// So many frames have gone around the one pair's rings many times, and around what a split
/// ring counts in 16 bits. Of several pairs each has its share.
const ENOUGH_FRAMES: u64 = 70_000;

/// A testpmd polls on a CPU of its own: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon, and who is plugged into it.
pub struct Site<'a> {
    // In the order in which they go: who is left alone says so in its log.
    pub testpmd: Testpmd,
    pub circle: Circle,
    pub daemon: Daemon,
    devices: Devices<'a>,
    directory: TempDir,
}

impl Site<'_> {
    /// All that is there, and up.
    pub fn start(devices: Devices<'_>) -> Site<'_> {
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
                let first = socket(directory.path(), GUESTS[0]);
                eventually("the first socket", || first.exists()).unwrap();
                (start_daemon(), testpmd)
            }
        };
        let circle = Circle::connect(&socket(directory.path(), OURS), our_layout(devices));
        testpmd.await_start().unwrap();
        let site = Site { testpmd, circle, daemon, devices, directory };
        site.await_up();
        site
    }

    /// What `port show` says.
    pub fn shown(&self, port: &str) -> Value {
        self.daemon.hairpin(&format!("port show {port}")).unwrap()
    }

    fn await_up(&self) {
        GUESTS.iter().chain([&OURS]).for_each(|port| self.await_state(port, "up"));
    }

    fn await_state(&self, port: &str, state: &str) {
        eventually(state, || self.shown(port)["state"] == state)
            .unwrap_or_else(|error| panic!("{error}: {}", self.shown(port)));
    }

    /// How often each guest's VMM has come again.
    pub fn reconnects(&self) -> [u64; 2] {
        GUESTS.map(|port| self.shown(port)["reconnects"].as_u64().unwrap())
    }

    /// Kills testpmd (SIGKILL) and waits until the daemon has seen it.
    pub fn kill_guests(&mut self) {
        self.testpmd.kill().unwrap();
        GUESTS.iter().for_each(|port| self.await_state(port, "waiting"));
    }

    /// Starts testpmd after its end, and waits until it is served.
    pub fn start_guests_again(&mut self) {
        self.testpmd = plug(self.directory.path(), self.devices);
        self.testpmd.await_start().unwrap();
        self.await_up();
    }

    /// Starts the daemon after its end, and waits until it serves everybody again.
    pub fn start_daemon_again(&mut self) {
        self.daemon.start_again().unwrap();
        self.circle.reconnect(&socket(self.directory.path(), OURS));
        self.await_up();
    }

    /// Starts as much traffic between the guests as they can, and finds it going both ways.
    pub fn assert_passing(&mut self, frame_bytes: u16) {
        let before = self.testpmd.counters().unwrap();
        self.testpmd.start_traffic(frame_bytes).unwrap();
        let mut last = before;
        let passing = eventually("frames both ways", || {
            last = self.testpmd.counters().unwrap();
            let ports = before.iter().zip(&last);
            let received = |(before, now): (&PortCounters, &PortCounters)| {
                now.received_frames - before.received_frames
            };
            let enough = ENOUGH_FRAMES / u64::from(self.devices.queues);
            ports.map(received).all(|frames| frames >= enough)
        });
        passing.unwrap_or_else(|error| {
            let stats = self.daemon.hairpin("stats").unwrap();
            panic!("{error}: from {before:?} to {last:?}; {stats}")
        });
    }

    /// Stops traffic. What each guest has sent since both sides started, we have received
    /// from it, and given to the other, which has received it.
    pub fn assert_accounts_agree(&mut self) {
        self.testpmd.stop_traffic().unwrap();
        let guests = self.testpmd.counters().unwrap();
        self.assert_nothing_dropped();
        let count = |port, key| self.daemon.count(port, key).unwrap();
        for (from, to) in [(0, 1), (1, 0)] {
            let sent = (guests[from].sent_frames, guests[from].sent_bytes);
            let ways = [
                ("received", (guests[to].received_frames, guests[to].received_bytes)),
                ("rx", (count(GUESTS[from], "/rx_frames"), count(GUESTS[from], "/rx_bytes"))),
                ("tx", (count(GUESTS[to], "/tx_frames"), count(GUESTS[to], "/tx_bytes"))),
            ];
            for (what, frames_and_bytes) in ways {
                assert_eq!(frames_and_bytes, sent, "{what}, from {} on", GUESTS[from]);
            }
            assert_eq!(guests[from].received_errors, 0);
        }
    }

    /// Has the guests hand on what our front end sends around, and nothing else.
    pub fn start_handing_on(&mut self) {
        self.testpmd.stop_traffic().unwrap();
        self.testpmd.start_handing_on(&mac_text(OWN)).unwrap();
    }

    /// The daemon counts no loss.
    pub fn assert_nothing_dropped(&self) {
        let drops = self.daemon.hairpin("drops").unwrap();
        assert_eq!(drops, json!({ "drops": {}, "ports": {} }));
    }
}

fn socket(directory: &Path, port: &str) -> PathBuf {
    directory.join(format!("{port}.sock"))
}

fn plug<'a>(directory: &Path, devices: Devices<'a>) -> Testpmd {
    let [one, two] = GUESTS.map(|port| socket(directory, port));
    Testpmd::start([&one, &two], devices).unwrap()
}

/// Our rings are of the other kind than the guests', so that frames change theirs twice on
/// their way, and keep it once.
fn our_layout(devices: Devices<'_>) -> Layout {
    let other = match devices.layout.contains("packed_vq=1") {
        true => Layout::SPLIT,
        false => Layout::PACKED,
    };
    Layout { pairs: devices.queues.into(), entries: 512, ..other }
}

fn configuration(directory: &Path, devices: Devices<'_>) -> String {
    let guests = match devices.sockets {
        Sockets::Made => "client",
        Sockets::There => "server",
    };
    let port = |(number, (name, role)): (u8, (&str, &str))| {
        format!(
            "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"{}\"\nvlan = {{ access = 10 }}\n\
             device = {{ vhost-user = {{ socket = \"{}\", role = \"{role}\", queues = {} }} }}\n",
            mac_text(number),
            socket(directory, name).display(),
            devices.queues,
        )
    };
    let [one, two] = GUESTS;
    let ports = (1..).zip([(one, guests), (two, guests), (OURS, "server")]).map(port);
    let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\nmtu = 1500\n".to_owned();
    [link].into_iter().chain(ports).collect()
}
