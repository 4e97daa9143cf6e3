//! A daemon, two honest guests in lockstep, one that helps, and as many ports as there are
//! cases.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hairpin_bench::front_end::station::Station;
use hairpin_bench::front_end::{Connection, FrontEnd, Layout};
use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_dataplane::sys::virtqueue::RingFault;
use hairpin_dataplane::wire::Mac;
use hairpin_tests::bed::{Daemon, Workers};
use serde_json::Value;
use tempfile::TempDir;

use super::lockstep::Lockstep;

/// Far longer than anything here takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Whom nobody here is.
pub const NOBODY: Mac = Mac::new([0x52, 0x54, 0, 0xff, 0xff, 0xff]);
/// Frames of the two in lockstep during which a case has to show what it can do.
const MEANWHILE: u64 = 20;
const HELPER: &str = "helper";
const GOOD: [&str; 2] = ["good0", "good1"];

/// The address of the port of this number: the cases' ports count from 0.
pub fn mac(number: usize) -> Mac {
    let [high, low] = (number as u16).to_be_bytes();
    Mac::new([0x52, 0x54, 0, 1, high, low])
}

fn helper_mac() -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, 3])
}

/// What is expected of a port.
#[derive(Clone, Debug)]
pub enum Expected {
    /// That it has lost so many frames, by these reasons and no other.
    Drops(Vec<(DropReason, u64)>),
    /// That it is quarantined, for a reason that reads so.
    Quarantined(String),
}

/// That a port has lost so many frames by this reason and no other.
pub fn drops(reason: DropReason, frames: u64) -> Expected {
    Expected::Drops(vec![(reason, frames)])
}

/// That it is quarantined, since the driver of this ring broke it so.
pub fn broken(ring: usize, fault: RingFault) -> Expected {
    Expected::Quarantined(format!("ring {ring} is broken: {fault}"))
}

/// Whether the ports of cases are configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cases {
    There,
    Gone,
}

/// The link, and the ports of the two in lockstep and of the helper.
const HONEST_OBJECTS: usize = 4;

/// A daemon and who is at it.
pub struct Stage {
    lockstep: Lockstep,
    helper: FrontEnd,
    daemon: Daemon,
    /// What is configured: the honest ones' objects, then the cases'.
    objects: Vec<String>,
    directory: TempDir,
}

impl Stage {
    /// A daemon with so many ports for cases, each of so many queue pairs; the two in
    /// lockstep have begun. One has split rings, one packed ones.
    pub fn start(ports: usize, pairs: usize) -> Stage {
        Stage::start_with(ports, pairs, [Layout::SPLIT, Layout::PACKED])
    }

    /// The same with these layouts of the two.
    pub fn start_with(ports: usize, pairs: usize, layouts: [Layout; 2]) -> Stage {
        let directory = TempDir::new().unwrap();
        let socket = |name: &str| directory.path().join(name);
        let good = [0, 1].map(|at| Mac::new([0x52, 0x54, 0, 0, 0, 1 + at]));
        let honest = [(GOOD[0], good[0]), (GOOD[1], good[1]), (HELPER, helper_mac())];
        let honest = honest.map(|(name, mac)| port(name, mac, socket(name), 1));
        let of_case =
            |number: usize| port(&name(number), mac(number), socket(&name(number)), pairs);
        let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\nmtu = 1500\n".to_owned();
        let objects = [link].into_iter().chain(honest).chain((0..ports).map(of_case));
        let objects: Vec<String> = objects.collect();
        let daemon = Daemon::start_here(Workers::One, &objects.concat()).unwrap();
        let helper = FrontEnd::connect(&socket(HELPER), Layout::PACKED).unwrap();
        await_up(&daemon, HELPER);
        let sockets = GOOD.map(socket);
        let station = Station { own: good[0], peer: good[1] };
        // Until both are up there is nobody to send to.
        let plugged = sockets.each_ref().map(|path| path.as_path());
        let lockstep = Lockstep::begin(plugged, layouts, station, || {
            GOOD.iter().for_each(|name| await_up(&daemon, name));
        });
        let stage = Stage { lockstep, helper, daemon, objects, directory };
        stage.lockstep.await_more(MEANWHILE);
        stage
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Has the daemon be without the ports of cases, or with them again.
    pub fn configure(&self, cases: Cases) {
        let count = match cases {
            Cases::Gone => HONEST_OBJECTS,
            Cases::There => self.objects.len(),
        };
        self.daemon.rewrite(&self.objects[..count].concat()).unwrap();
        self.daemon.reload().unwrap();
        let until = Instant::now() + PATIENCE;
        let there = |cases| if cases { Cases::There } else { Cases::Gone };
        while there(self.daemon.hairpin("port show case0").is_ok()) != cases {
            assert!(Instant::now() < until, "the ports are not {cases:?}: {}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The socket of a case's port.
    pub fn socket(&self, number: usize) -> PathBuf {
        self.directory.path().join(name(number))
    }

    /// Waits until a case's port is up.
    pub fn await_up(&self, number: usize) {
        await_up(&self.daemon, &name(number));
    }

    /// A VMM at a case's port that has said nothing yet.
    pub fn connection(&self, number: usize) -> Connection {
        Connection::connect(&self.socket(number)).unwrap()
    }

    /// A guest at a case's port, which is up.
    pub fn guest(&self, number: usize, layout: Layout) -> FrontEnd {
        let guest = FrontEnd::connect(&self.socket(number), layout).unwrap();
        await_up(&self.daemon, &name(number));
        guest
    }

    /// Has the helper, plugged in anew, have this layout.
    pub fn replace_helper(&mut self, layout: Layout) {
        self.helper.restart(layout).unwrap();
        await_up(&self.daemon, HELPER);
    }

    /// What is between a case's port and the helper.
    pub fn station(&self, number: usize) -> Station {
        Station { own: mac(number), peer: helper_mac() }
    }

    /// The honest guest that cases may send to, and have send.
    pub fn helper(&mut self) -> &mut FrontEnd {
        &mut self.helper
    }

    /// Has the helper send so many frames to a case's port.
    pub fn send_to(&mut self, number: usize, frames: u64) {
        let station = self.station(number).turned();
        for frame in 0..frames {
            let bytes = station.frame(frame, 60);
            let until = Instant::now() + PATIENCE;
            while self.helper.send(&[&bytes]) == 0 {
                assert!(Instant::now() < until, "the helper's frames are not taken");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What `port show` says of a case's port.
    pub fn shown(&self, number: usize) -> Value {
        self.daemon.hairpin(&format!("port show {}", name(number))).unwrap()
    }

    /// The same as soon as so many requests count as refused: an answer may be there first.
    #[track_caller]
    pub fn shown_refusing(&self, number: usize, refused: u64) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown(number);
            if shown["refused_requests"] == refused {
                return shown;
            }
            assert!(Instant::now() < until, "{refused} requests refused: {shown}");
        }
    }

    /// What a case's port has lost, by reason.
    pub fn lost(&self, number: usize) -> BTreeMap<String, u64> {
        lost(&self.counters(&name(number)))
    }

    fn counters(&self, name: &str) -> Value {
        self.daemon.hairpin("stats").unwrap()["ports"][name].clone()
    }

    /// Finds a case's port as expected, and stays long enough to see that others are served.
    #[track_caller]
    pub fn expect(&self, number: usize, what: &str, expected: &Expected) {
        self.lockstep.await_more(MEANWHILE);
        match expected {
            Expected::Drops(drops) => self.expect_drops(number, what, drops),
            Expected::Quarantined(reason) => self.expect_quarantine(number, what, reason),
        }
    }

    #[track_caller]
    fn expect_drops(&self, number: usize, what: &str, drops: &[(DropReason, u64)]) {
        let wanted: BTreeMap<String, u64> =
            drops.iter().map(|(reason, frames)| (reason.name().to_owned(), *frames)).collect();
        let until = Instant::now() + PATIENCE;
        while self.lost(number) != wanted {
            let (lost, shown) = (self.lost(number), self.shown(number));
            assert!(Instant::now() < until, "{what}: {wanted:?} expected, {lost:?}; {shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.shown(number)["state"], "up", "{what}");
    }

    #[track_caller]
    fn expect_quarantine(&self, number: usize, what: &str, reason: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown(number);
            let said = shown["last_error"].as_str().unwrap_or_default();
            if shown["state"] == "quarantined" && said.contains(reason) {
                return;
            }
            assert!(Instant::now() < until, "{what}: quarantine for {reason:?} expected: {shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many frames have come from a case's port.
    #[track_caller]
    pub fn expect_received(&self, number: usize, frames: u64) {
        let received = || self.counters(&name(number))["rx_frames"].as_u64().unwrap();
        let until = Instant::now() + PATIENCE;
        while received() != frames {
            let now = received();
            assert!(Instant::now() < until, "{frames} frames sent, {now} came");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether every frame that came from a case's port is accounted for.
    #[track_caller]
    pub fn expect_balance(&self, number: usize) {
        let counters = self.counters(&name(number));
        let count = |key: &str| counters[key].as_u64().unwrap();
        let ingress = DropReason::ALL.iter().filter(|reason| reason.side() == Side::Ingress);
        let lost = lost(&counters);
        let lost: u64 = ingress.filter_map(|reason| lost.get(reason.name())).sum();
        assert_eq!(count("rx_frames"), count("decided") + lost, "{counters}");
    }

    /// How many descriptors the daemon has open once the command line's are closed.
    pub fn descriptors(&self) -> usize {
        let look = |_| {
            std::thread::sleep(Duration::from_millis(10));
            self.daemon.open_descriptors().unwrap()
        };
        (0..20).map(look).min().unwrap()
    }

    /// Waits until the daemon has as many descriptors open as this.
    #[track_caller]
    pub fn expect_descriptors(&self, wanted: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let open = self.daemon.open_descriptors().unwrap();
            if open == wanted {
                return;
            }
            assert!(Instant::now() < until, "{open} descriptors are open, not {wanted}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stays until the two in lockstep have passed so many more frames.
    #[track_caller]
    pub fn await_lockstep(&self, frames: u64) {
        self.lockstep.await_more(frames);
    }

    /// The end: the two in lockstep have lost nothing, by their own account and by the
    /// switch's, and the daemon lives and ends as it is told.
    #[track_caller]
    pub fn end(self) {
        let passed = self.lockstep.end();
        let good = GOOD.map(|name| self.daemon.hairpin("stats").unwrap()["ports"][name].clone());
        for counters in &good {
            assert_eq!(lost(counters), BTreeMap::new());
            let count = |key: &str| counters[key].as_u64().unwrap();
            assert_eq!([count("rx_frames"), count("tx_frames")], [passed / 2; 2]);
        }
        let log = self.daemon.log();
        assert!(!log.contains("panicked"), "{log}");
        self.daemon.stop().unwrap();
    }
}

fn name(number: usize) -> String {
    format!("case{number}")
}

fn lost(counters: &Value) -> BTreeMap<String, u64> {
    let drops = counters["drops"].as_object().unwrap().iter();
    let counted = drops.map(|(reason, frames)| (reason.clone(), frames.as_u64().unwrap()));
    counted.filter(|(_, frames)| *frames > 0).collect()
}

#[track_caller]
fn await_up(daemon: &Daemon, port: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let shown = daemon.hairpin(&format!("port show {port}")).unwrap();
        if shown["state"] == "up" {
            return;
        }
        assert!(Instant::now() < until, "port {port} does not come up: {shown}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn port(name: &str, mac: Mac, socket: PathBuf, pairs: usize) -> String {
    format!(
        "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\nmac = \"{mac}\"\n\
         device = {{ vhost-user = {{ socket = \"{}\", role = \"server\", queues = {pairs} }} }}\n",
        socket.display(),
    )
}
