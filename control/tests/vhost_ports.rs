//! vhost-user ports of a running switch: what becomes of them as VMMs come and go. Their
//! frames take a memory device's way; what VMMs say is handed to a double.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod vmm;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hairpin::config::vhost_user::{SocketAccess, VhostUserConfig};
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::devices::Embedder;
use hairpin::switch::view::{State, Status};
use hairpin::switch::{PortChange, Release, Switch};
use hairpin::vhost::Backend;
use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::offload::Offload;
use vmm::{BREAK, Double, HALT, RUN, SOON, Vmm, WRONG};

/// Frames by memory devices.
struct Doubles(crossbeam_channel::Sender<(String, Endpoint)>);

impl Embedder for Doubles {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        let (device, endpoint) = memory::pair(config)?;
        self.0.send((name.to_owned(), endpoint)).map_err(io::Error::other)?;
        Ok(device.into())
    }

    fn open_vhost_user(
        &mut self,
        name: &str,
        _pairs: usize,
    ) -> io::Result<(Opened, Box<dyn Backend>)> {
        let opened = self.open(name, memory::Config::default())?;
        Ok((opened, Box::<Double>::default()))
    }
}

struct Site {
    directory: tempfile::TempDir,
    switch: Switch,
    /// Those that were opened since one was last asked for.
    opened: crossbeam_channel::Receiver<(String, Endpoint)>,
    endpoints: Vec<(String, Endpoint)>,
}

/// Port vm1 of a VMM that connects, and port vm2 in memory.
fn config(socket: PathBuf) -> Config {
    let server = VhostUserConfig::server(socket, SocketAccess::default());
    let port = |name, device| PortConfig::station(name, "up0", Mode::Veb, device);
    Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: vec![
            port("vm1", DeviceConfig::VhostUser(server)),
            port("vm2", DeviceConfig::Memory(memory::Config::default())),
        ],
        ..Config::default()
    }
}

impl Site {
    fn start() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let (sender, opened) = crossbeam_channel::unbounded();
        let desired = Desired::try_from(config(directory.path().join("vm1"))).unwrap();
        let switch = Switch::start_with(desired, Box::new(Doubles(sender))).unwrap();
        Site { directory, switch, opened, endpoints: Vec::new() }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("vm1")
    }

    fn status(&self) -> Status {
        self.switch.view().status["vm1"].clone()
    }

    #[track_caller]
    fn await_state(&self, state: State) -> Status {
        let until = Instant::now() + SOON;
        loop {
            let status = self.status();
            if status.state == state {
                return status;
            }
            assert!(Instant::now() < until, "{status:?}, not {state:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A group frame of vm1's own address.
    fn send(&mut self) {
        self.endpoints.extend(self.opened.try_iter());
        let (_, endpoint) = self.endpoints.iter_mut().find(|(name, _)| name == "vm1").unwrap();
        let mut frame = [[0xff; 6], [0x52, 0x54, 0, 0, 0, 1]].concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(60, 0);
        endpoint.send(&frame, Offload::default()).unwrap();
    }

    fn learned(&self) -> usize {
        self.switch.learned(0, 100).0.len()
    }

    #[track_caller]
    fn await_learned(&self, count: usize) {
        let until = Instant::now() + SOON;
        while self.learned() != count {
            assert!(Instant::now() < until, "{} learned, not {count}", self.learned());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_port_waits_for_its_vmm_is_down_without_a_driver_and_up_with_one() {
    let mut site = Site::start();
    let waiting = site.await_state(State::Waiting);
    assert!(waiting.last_error.contains("no VMM is connected to socket"), "{waiting:?}");
    let revision = site.switch.view().revision;
    let mut vmm = Vmm::connect(&site.socket());
    let down = site.await_state(State::Down);
    assert_eq!(down.last_error, "no driver: the guest has not started its network device");
    assert_eq!(site.switch.view().publications, revision, "no change of policy for a VMM alone");
    vmm.ask(RUN);
    site.await_state(State::Up);
    site.send();
    site.await_learned(1);
    // The guest reboots: what it was known for counts no more.
    vmm.ask(HALT);
    site.await_state(State::Down);
    vmm.ask(RUN);
    site.await_state(State::Up);
    assert_eq!(site.learned(), 0);
    drop(vmm);
    site.await_state(State::Waiting);
    Vmm::connect(&site.socket()).ask(RUN);
    let status = site.await_state(State::Waiting);
    let known = status.vmm.unwrap();
    assert_eq!((known.connects, known.reconnects()), (2, 1));
    assert_eq!(status.reopened, 0, "the device stayed");
}

#[test]
fn a_guest_that_flaps_counts_as_up_again_once_it_has_run_for_long_enough() {
    let site = Site::start();
    let mut vmm = Vmm::connect(&site.socket());
    vmm.ask(RUN);
    site.await_state(State::Up);
    let flaps =
        |status: &Status| status.last_error.starts_with("the guest's network device flaps: ");
    // However slow this machine is: what it does not do within a while is asked for again.
    let until = Instant::now() + SOON;
    while !flaps(&site.status()) {
        assert!(Instant::now() < until, "{:?}", site.status());
        vmm.ask(HALT);
        vmm.ask(RUN);
        std::thread::sleep(Duration::from_millis(2));
    }
    site.await_state(State::Up);
}

#[test]
fn the_engine_is_told_at_once_and_not_only_asks_now_and_then() {
    let site = Site::start();
    let took = |_| {
        site.await_state(State::Waiting);
        // One that did not stay is not let in again at once.
        std::thread::sleep(Duration::from_millis(70));
        let begin = Instant::now();
        let _vmm = Vmm::connect(&site.socket());
        site.await_state(State::Down);
        begin.elapsed()
    };
    let mut took: Vec<Duration> = (0..9).map(took).collect();
    took.sort_unstable();
    // A tick would take 50 ms on average.
    assert!(took[4] < Duration::from_millis(25), "{took:?}");
}

#[test]
fn a_guest_at_fault_is_quarantined_until_released() {
    let site = Site::start();
    let mut vmm = Vmm::connect(&site.socket());
    vmm.ask(RUN);
    site.await_state(State::Up);
    vmm.ask(BREAK);
    let status = site.await_state(State::Quarantined);
    assert_eq!(status.last_error, "its driver broke a ring");
    assert_eq!(site.switch.release("vm1").unwrap(), Release::Released);
    // A ring that is broken is its driver's to set up again.
    site.await_state(State::Down);
    vmm.ask(RUN);
    site.await_state(State::Up);
    assert_eq!(site.switch.release("vm1").unwrap(), Release::NotQuarantined);
}

#[test]
fn a_vmm_at_fault_clears_itself_only_after_a_while() {
    let site = Site::start();
    Vmm::connect(&site.socket()).say(WRONG);
    site.await_state(State::Quarantined);
    let begin = Instant::now();
    let mut vmm = Vmm::connect(&site.socket());
    vmm.ask(RUN);
    assert!(begin.elapsed() > Duration::from_millis(900), "{:?}", begin.elapsed());
    site.await_state(State::Up);
}

#[test]
fn a_change_of_policy_keeps_the_vmm_and_another_socket_does_not() {
    let site = Site::start();
    let mut vmm = Vmm::connect(&site.socket());
    vmm.ask(RUN);
    site.await_state(State::Up);
    let vepa = PortChange { mode: Some(Mode::Vepa), ..PortChange::default() };
    site.switch.set_port("vm1", vepa).unwrap();
    vmm.ask(*b"stayed..");
    let mut other = config(site.directory.path().join("other"));
    other.ports.reverse();
    let diff = site.switch.apply(Desired::try_from(other).unwrap()).unwrap();
    assert!(diff.to_string().contains("! port vm1: mode, device (disruptive)"), "{diff}");
    site.await_state(State::Waiting);
    // The thread of the sockets removes it when it hears of that.
    let until = Instant::now() + SOON;
    while site.socket().exists() {
        assert!(Instant::now() < until, "it goes with its port");
        std::thread::sleep(Duration::from_millis(2));
    }
    Vmm::connect(&site.directory.path().join("other")).ask(RUN);
}

#[test]
fn a_socket_that_somebody_has_is_refused_and_nothing_changes() {
    let site = Site::start();
    let taken = site.directory.path().join("taken");
    let _others = std::os::unix::net::UnixListener::bind(&taken).unwrap();
    let refused = site.switch.apply(Desired::try_from(config(taken)).unwrap()).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.starts_with("port vm1: device: socket: somebody listens at"), "{refused}");
    let mut vmm = Vmm::connect(&site.socket());
    vmm.ask(RUN);
    site.await_state(State::Up);
}
