//! A running switch: a desired state, the workers that act on it, and the one
//! place where it changes.
//!
//! ```text
//! Config ── validate ──▶ Desired ── Switch::apply ──▶ open ▶ compile ▶ commit
//!                                                                        │
//!        workers ◀── snapshot (one pointer), queues (commands) ◀─────────┘
//! ```
//!
//! * [`engine`] — prepare and commit; lost devices; the watchdog's reports.
//! * [`ids`] — numbers that stay. [`topology`] — names into numbers.
//! * [`follow`] — what the kernel tells of netdevs; [`vmm`] — what sockets tell of VMMs.
//!   [`line`] — when one counts as up.
//! * [`devices`], [`workers`], [`queues`] — the only contact with `port` and `worker`.
//!   [`meter`] — rates.
//! * [`conduct`] — guests that misbehave past a threshold.
//! * [`notes`] — what is wrong with the frames of devices, said once.
//! * [`diff`] — what an apply changes. [`view`] — what there is. [`drops`] — what the
//!   kernel lost. [`cable`] — whether links have room for their tags.
//!
//! Embedding: write a [`Config`](crate::config::Config) with
//! [`DeviceConfig::Memory`](crate::config::DeviceConfig::Memory) devices, start
//! it, and take the devices' other ends:
//!
//! ```
//! use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
//! use hairpin::switch::Switch;
//! use hairpin_dataplane::snapshot::Mode;
//!
//! let device = DeviceConfig::Memory(Default::default());
//! let config = Config {
//!     links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
//!     ports: vec![PortConfig::station("vm1", "up0", Mode::Veb, device)],
//!     ..Config::default()
//! };
//! let switch = Switch::start(Desired::try_from(config)?)?;
//! let endpoint = switch.take_endpoint("vm1").expect("the port has a memory device");
//! # drop(endpoint);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cable;
pub mod devices;
pub mod diff;
pub mod drops;
pub mod engine;
pub mod ids;
pub mod line;
pub mod meter;
pub mod queues;
pub mod topology;
pub mod view;
pub mod workers;

mod change;
mod conduct;
mod follow;
mod former;
mod notes;
mod vmm;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use hairpin_dataplane::ledger::Totals;
use hairpin_dataplane::port::memory::Endpoint;
use hairpin_dataplane::port::xdp::Caretaker;
use hairpin_dataplane::snapshot::compile::CompileError;
use hairpin_dataplane::worker::command::Event;
use hairpin_dataplane::worker::monotonic_ns;

use crate::config::{ConfigErrors, Desired};
pub use change::{HomeChange, PortChange};
use devices::{Embedder, Endpoints};
use diff::Diff;
use engine::Engine;
use queues::{MoveError, Moved, Ordered};
use view::{LearnedAddress, View};
use workers::CrewError;

/// Between two looks at lost devices, retired snapshots and workers.
const TICK: Duration = Duration::from_millis(100);

/// Why a change was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// A device could not be opened.
    #[error("{object}: device: {problem}")]
    Device {
        /// Kind and name.
        object: String,
        /// What stands against it, and the remedy.
        problem: String,
    },
    /// A netdev does not get its MTU.
    #[error("{object}: {problem}")]
    Mtu {
        /// Kind and name of what the MTU is configured for.
        object: String,
        /// Field, value, what stands against it, and the remedy.
        problem: String,
    },
    /// Only a start can change this.
    #[error(
        "switch: {field}: a running switch cannot change it; restart the daemon, or leave it as \
         it is"
    )]
    Restart {
        /// The key under `[switch]`.
        field: &'static str,
    },
    /// There is no such object.
    #[error("there is no port {name:?}{hint}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// The dataplane refuses what validation let pass.
    #[error("configuration: {0}; report this, validation should have said it")]
    Compile(#[from] CompileError),
    /// The ids are used up.
    #[error("{object}: there are no ids left; remove ports or channels first")]
    Exhausted {
        /// Kind and name.
        object: String,
    },
}

impl ApplyError {
    fn exhausted(object: &str) -> ApplyError {
        ApplyError::Exhausted { object: object.to_owned() }
    }
}

/// What came of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The quarantine is over.
    Released,
    /// There was none; nothing was done.
    NotQuarantined,
}

/// Why a switch did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The workers did not start.
    #[error(transparent)]
    Workers(#[from] CrewError),
    /// The first state could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The control thread could not be made.
    #[error("the control thread could not be made: {0}; see ulimit")]
    Thread(#[from] io::Error),
}

/// A running switch. Clones are the same switch; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Switch {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    engine: Arc<Mutex<Engine>>,
    endpoints: Endpoints,
    started: Instant,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    /// Dropped to end the supervisor.
    stop: Mutex<Option<Sender<()>>>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switch {
    /// Starts the workers and applies a first state. The other ends of memory
    /// devices are at [`Switch::take_endpoint`].
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(desired: Desired) -> Result<Switch, StartError> {
        Switch::start_daemon(desired, Caretaker::default())
    }

    /// Starts likewise, as a process of its own: what the one before, if it was killed,
    /// had changed on interfaces is put back, and what this one changes is written
    /// down in the `state-dir`.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start_recorded(desired: Desired) -> Result<Switch, StartError> {
        let caretaker = former::caretaker(&desired.switch().state_dir);
        Switch::start_daemon(desired, caretaker)
    }

    fn start_daemon(desired: Desired, caretaker: Caretaker) -> Result<Switch, StartError> {
        let endpoints = Endpoints::default();
        let embedder = Box::new(endpoints.clone());
        Switch::start_engine(desired, embedder, endpoints, caretaker)
    }

    /// Starts likewise, with memory devices made by the caller: wrapped into faults,
    /// recorded, or connected to something of its own.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start_with(desired: Desired, embedder: Box<dyn Embedder>) -> Result<Switch, StartError> {
        Switch::start_engine(desired, embedder, Endpoints::default(), Caretaker::default())
    }

    fn start_engine(
        desired: Desired,
        embedder: Box<dyn Embedder>,
        endpoints: Endpoints,
        caretaker: Caretaker,
    ) -> Result<Switch, StartError> {
        let mut engine = Engine::new(desired.switch(), embedder, caretaker.clone())?;
        let applied = engine.apply(desired);
        // Interfaces that are none of ours any more, whatever became of the others.
        caretaker.settle();
        applied?;
        let (events, rings) = (engine.crew.events(), engine.sockets.rings());
        let engine = Arc::new(Mutex::new(engine));
        let (stop, stopped) = bounded(0);
        let supervised = Arc::clone(&engine);
        let supervisor = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || supervise(&supervised, &events, &rings, &stopped))?;
        let running = Running {
            engine,
            endpoints,
            started: Instant::now(),
            supervisor: Mutex::new(Some(supervisor)),
            stop: Mutex::new(Some(stop)),
        };
        Ok(Switch { running: Arc::new(running) })
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.running.engine)
    }

    /// The other end of a memory device, by the name of its port or link, once.
    #[must_use]
    pub fn take_endpoint(&self, name: &str) -> Option<Endpoint> {
        self.running.endpoints.take(name)
    }

    /// Makes a desired state the running one; says what changed. Devices that stay
    /// as they are are not touched. The state that runs already changes nothing.
    ///
    /// # Errors
    /// See [`ApplyError`]; the running state is then as it was.
    pub fn apply(&self, desired: Desired) -> Result<Diff, ApplyError> {
        self.engine().apply(desired)
    }

    /// Changes one port, live; other ports lose nothing.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing is changed then.
    pub fn set_port(&self, name: &str, change: PortChange) -> Result<Diff, ApplyError> {
        let mut engine = self.engine();
        let config = change.apply_to(engine.desired.config().clone(), name)?;
        engine.apply(Desired::try_from(config)?)
    }

    /// Ends the quarantine of a port, or of a link, by its name. One that is in none
    /// is left as it is.
    ///
    /// # Errors
    /// [`ApplyError::NoSuchPort`].
    pub fn release(&self, name: &str) -> Result<Release, ApplyError> {
        self.engine().release(name)
    }

    /// Has another worker serve a receive queue of a port or link: `queue`, from 0, or
    /// its only one. Frames go on meanwhile: none is lost, and those of the queue stay in
    /// order. Waits until the worker has it, a second at most.
    ///
    /// # Errors
    /// See [`MoveError`]; after [`MoveError::Pending`] it is still moved, else it stays or
    /// is where another change wants it.
    pub fn move_queue(
        &self,
        name: &str,
        queue: Option<u16>,
        worker: usize,
    ) -> Result<Moved, MoveError> {
        let Ordered { moved, arrival, holder } = self.engine().move_queue(name, queue, worker)?;
        // Not under the lock: what is waited for takes it.
        let arrived = arrival.map_or(Ok(()), |arrival| arrival.recv_timeout(queues::PATIENCE));
        let (port, queue, to) = (name.to_owned(), moved.queue, moved.to);
        match arrived {
            Ok(()) => Ok(moved),
            Err(RecvTimeoutError::Timeout) => Err(MoveError::Pending { port, queue, holder, to }),
            Err(RecvTimeoutError::Disconnected) => Err(MoveError::Overtaken { port, queue }),
        }
    }

    /// Everything but the counters of ports and links, at one moment.
    #[must_use]
    pub fn view(&self) -> View {
        self.engine().view(self.running.started.elapsed())
    }

    /// The counters of all ports and links that have a device, by name.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        self.engine().totals()
    }

    /// Frames that the devices of ports and links lost by themselves, by name, as far
    /// as the kernel tells: what came while a TAP's, a socket's or an AF_XDP ring's
    /// queue was full, and what an AF_XDP netdev lost on the way out. Apart from the
    /// ledgers.
    #[must_use]
    pub fn device_drops(&self) -> BTreeMap<String, u64> {
        let probes = self.engine().probes();
        // Not under the lock: it takes system calls for each device.
        let looks = drops::look(probes);
        self.engine().note_drops(looks)
    }

    /// Learned addresses from position `from` of the table, some `most` of them, and
    /// the position to go on from.
    #[must_use]
    pub fn learned(&self, from: usize, most: usize) -> (Vec<LearnedAddress>, Option<usize>) {
        self.engine().learned(from, most, monotonic_ns() / 1_000_000)
    }

    /// Ends the workers and closes all devices. Dropping the last clone does so too.
    pub fn stop(&self) {
        self.running.stop();
    }
}

impl Running {
    fn stop(&self) {
        drop(lock(&self.stop).take());
        if let Some(supervisor) = lock(&self.supervisor).take() {
            // Its panic, if it had one, was reported by the hook.
            let _ = supervisor.join();
        }
        lock(&self.engine).stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The control thread: what happens by itself.
fn supervise(
    engine: &Mutex<Engine>,
    events: &Receiver<Event>,
    rings: &Receiver<()>,
    stopped: &Receiver<()>,
) {
    let mut next_tick = Instant::now();
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(event) => lock(engine).handle(event),
                Err(_) => return,
            },
            recv(rings) -> _ => lock(engine).follow_vmms(Instant::now()),
            recv(stopped) -> _ => return,
            default(next_tick.saturating_duration_since(Instant::now())) => {}
        }
        let now = Instant::now();
        if now >= next_tick {
            lock(engine).tick(now);
            next_tick = now + TICK;
        }
    }
}
