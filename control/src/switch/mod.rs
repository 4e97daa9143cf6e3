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
//! * [`history`] — revisions; [`archive`] — on disk, [`digest`] — whole or torn. [`edit`] and
//!   [`change`] — single objects. [`crash`] — where tests have an apply end half-way.
//! * [`events`] — what happened, numbered; [`announce`] — found out by comparing.
//! * [`gate`] — whose turn it is with the engine.
//! * [`capture`] — frames copied aside as they pass.
//! * [`derive`] — ports that templates make.
//! * [`conduct`] — guests that misbehave past a threshold.
//! * [`why`] — what would become of a frame, and why.
//! * [`retired`] — counters of what went, for when it comes again.
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

pub mod archive;
pub mod cable;
pub mod capture;
pub mod devices;
pub mod diff;
pub mod digest;
pub mod drops;
pub mod engine;
pub mod events;
pub mod gate;
pub mod history;
pub mod ids;
pub mod line;
pub mod meter;
pub mod queues;
pub mod topology;
pub mod view;
pub mod why;
pub mod workers;

mod announce;
mod change;
mod conduct;
mod crash;
mod derive;
mod edit;
mod follow;
mod former;
mod notes;
mod retired;
mod vmm;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
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

use crate::config::{ConfigErrors, Desired, SwitchConfig};
pub use change::{HomeChange, PortChange};
use devices::{Embedder, Endpoints};
use diff::Diff;
use digest::Digest;
pub use edit::{Edit, Object};
use engine::Engine;
use events::Events;
use gate::{Gate, Turn};
use history::{History, RecordError, Revision};
use queues::{MoveError, Moved, Ordered};
use view::{FdbStatus, LearnedAddress, View};
use workers::{CrewError, Health};

/// Between two looks at lost devices, retired snapshots and workers.
const TICK: Duration = Duration::from_millis(100);
/// A control thread that did not go round for so long, and that no change holds up, is ended.
const LIFE: Duration = Duration::from_secs(10);
/// The longest that a change may take: a thousand devices that are opened, on a slow host.
const CHANGE: Duration = Duration::from_secs(300);
/// How long a change may go on before it is no longer waited for.
const BRIEF: Duration = Duration::from_secs(1);

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
    /// Another revision runs than the one that the change was made from.
    #[error(
        "revision {running} runs, not {base}, from which this was made: get what runs now, and \
         make the change again"
    )]
    Superseded {
        /// What it was made from.
        base: u64,
        /// What runs.
        running: u64,
    },
    /// It cannot be written down.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is no such revision.
    #[error("there is no revision {number}: {kept}")]
    NoSuchRevision {
        /// Its number.
        number: u64,
        /// Which there are.
        kept: String,
    },
    /// There is an object of that name already.
    #[error("{object}: name: it is already that of {holder}; take another, or set what is there")]
    Exists {
        /// Kind and name of what was to be added.
        object: String,
        /// Kind and name of what is there.
        holder: String,
    },
    /// There is no such object.
    #[error("there is no {kind} {name:?}{hint}")]
    NoSuchObject {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What may have been meant.
        hint: String,
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

/// What an apply is about, beside the desired state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// The revision that it was made from: if another one runs, it is refused.
    pub base: Option<u64>,
    /// Who gives it, or what, in a few words, for the record.
    pub origin: String,
    /// The file that it was read from, if a start with that file is to find it again.
    pub file: Option<Digest>,
}

impl Order {
    /// One by somebody, whatever runs.
    pub fn by(origin: impl Into<String>) -> Order {
        Order { origin: origin.into(), ..Order::default() }
    }
}

/// What came of an apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The revision that runs.
    pub revision: u64,
    /// What changed.
    pub diff: Diff,
}

/// Whether a change is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trial {
    /// It is.
    Earnest,
    /// Only what it would change is said.
    Dry,
}

/// What came of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The quarantine is over.
    Released,
    /// There was none; nothing was done.
    NotQuarantined,
}

/// The file that a daemon starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartUpFile {
    /// Where it is.
    pub path: PathBuf,
    /// What its text was when it was read.
    pub digest: Digest,
}

/// How a switch begins.
struct First {
    desired: Desired,
    beginning: Beginning,
    history: History,
    start_up_file: Option<PathBuf>,
}

/// Where the first state comes from.
enum Beginning {
    /// A program that embeds the switch.
    Program,
    /// The start-up file, which is another one than last time.
    File(Digest),
    /// The last revision.
    Restored,
}

impl First {
    fn of_program(desired: Desired) -> First {
        let history = History::in_memory();
        First { desired, beginning: Beginning::Program, history, start_up_file: None }
    }

    /// The file's state, or the last revision's if the file is as it was last time.
    fn of_file(desired: Desired, file: StartUpFile, history: History) -> Result<First, ApplyError> {
        let StartUpFile { path, digest } = file;
        let start_up_file = Some(path);
        let last = history.last().filter(|last| last.file == Some(digest));
        let Some(last) = last else {
            let beginning = Beginning::File(digest);
            return Ok(First { desired, beginning, history, start_up_file });
        };
        let desired = Desired::try_from((*last.config).clone())?;
        let (revision, origin) = (last.number, &last.origin);
        tracing::info!(
            revision,
            origin,
            "the file is as it was last time: the last revision is restored"
        );
        Ok(First { desired, beginning: Beginning::Restored, history, start_up_file })
    }
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
    engine: Arc<Gate<Engine>>,
    endpoints: Endpoints,
    start_up_file: Option<PathBuf>,
    started: Instant,
    /// When the control thread was last seen to go round.
    turned: Arc<Mutex<Instant>>,
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
        let endpoints = Endpoints::default();
        let embedder = Box::new(endpoints.clone());
        let first = First::of_program(desired);
        Switch::start_engine(first, embedder, endpoints, Caretaker::default())
    }

    /// Starts likewise, as a process of its own with a `state-dir`: the state is the file's
    /// if that is another one than last time, else the last revision's. What the process
    /// before, if it was killed, had changed on interfaces is put back, and what this one
    /// changes is written down.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start_recorded(
        desired: Desired,
        file: StartUpFile,
        history: History,
    ) -> Result<Switch, StartError> {
        let caretaker = former::caretaker(&desired.switch().state_dir);
        let endpoints = Endpoints::default();
        let embedder = Box::new(endpoints.clone());
        let first = First::of_file(desired, file, history)?;
        Switch::start_engine(first, embedder, endpoints, caretaker)
    }

    /// Whether this is the digest of the start-up file, as it stands there now. The state that
    /// a start with it restores is then the one that is applied with this digest.
    #[must_use]
    pub fn starts_with(&self, digest: Digest) -> bool {
        let file = self.running.start_up_file.as_deref();
        let text = file.and_then(|path| std::fs::read(path).ok());
        text.is_some_and(|text| Digest::of(&text) == digest)
    }

    /// Starts likewise, with memory devices made by the caller: wrapped into faults,
    /// recorded, or connected to something of its own.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start_with(desired: Desired, embedder: Box<dyn Embedder>) -> Result<Switch, StartError> {
        let first = First::of_program(desired);
        Switch::start_engine(first, embedder, Endpoints::default(), Caretaker::default())
    }

    fn start_engine(
        first: First,
        embedder: Box<dyn Embedder>,
        endpoints: Endpoints,
        caretaker: Caretaker,
    ) -> Result<Switch, StartError> {
        let First { desired, beginning, history, start_up_file } = first;
        let mut engine = Engine::new(desired.switch(), embedder, caretaker.clone(), history)?;
        let applied = match beginning {
            Beginning::Program => engine.begin(desired, &Order::by("program")),
            Beginning::File(file) => {
                engine.begin(desired, &Order { file: Some(file), ..Order::by("file") })
            }
            Beginning::Restored => engine.restore(desired),
        };
        // Interfaces that are none of ours any more, whatever became of the others.
        caretaker.settle();
        applied?;
        let (events, rings) = (engine.crew.events(), engine.sockets.rings());
        let engine = Arc::new(Gate::new(engine));
        let (stop, stopped) = bounded(0);
        let supervised = Arc::clone(&engine);
        let turned = Arc::new(Mutex::new(Instant::now()));
        let turns = Arc::clone(&turned);
        let supervisor = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || supervise(&supervised, &turns, &events, &rings, &stopped))?;
        let running = Running {
            engine,
            endpoints,
            start_up_file,
            started: Instant::now(),
            turned,
            supervisor: Mutex::new(Some(supervisor)),
            stop: Mutex::new(Some(stop)),
        };
        Ok(Switch { running: Arc::new(running) })
    }

    fn engine(&self) -> Turn<'_, Engine> {
        self.running.engine.call()
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
        self.order(desired, &Order::by("program"), Trial::Earnest).map(|applied| applied.diff)
    }

    /// Makes a desired state the running one likewise, or says what that would change, by
    /// order of somebody.
    ///
    /// # Errors
    /// See [`ApplyError`]; the running state is then as it was.
    pub fn order(
        &self,
        desired: Desired,
        order: &Order,
        trial: Trial,
    ) -> Result<Applied, ApplyError> {
        self.engine().order(desired, order, trial)
    }

    /// Changes single objects of the running state, all or none.
    ///
    /// # Errors
    /// See [`ApplyError`]; the running state is then as it was.
    pub fn edit(
        &self,
        edits: Vec<Edit>,
        order: &Order,
        trial: Trial,
    ) -> Result<Applied, ApplyError> {
        let mut engine = self.engine();
        engine.refuse_superseded(order)?;
        let config = edit::edited(engine.written.config().clone(), edits)?;
        engine.order(Desired::try_from(config)?, order, trial)
    }

    /// Makes an earlier revision's state the running one, as a new revision: the one before
    /// the last unless a number is given.
    ///
    /// # Errors
    /// See [`ApplyError`]; the running state is then as it was.
    pub fn roll_back(
        &self,
        number: Option<u64>,
        order: &Order,
        trial: Trial,
    ) -> Result<Applied, ApplyError> {
        let mut engine = self.engine();
        engine.refuse_superseded(order)?;
        let revision = engine.revision_to_return_to(number)?;
        let origin = format!("{}, back to revision {}", order.origin, revision.number);
        let order = Order { origin, ..order.clone() };
        let mut config = (*revision.config).clone();
        // What only a start can change is as it started: the rest can go back all the same.
        let SwitchConfig { name, fdb, .. } = config.switch;
        config.switch = engine.desired.switch().clone();
        (config.switch.name, config.switch.fdb.ageing) = (name, fdb.ageing);
        engine.order(Desired::try_from(config)?, &order, trial)
    }

    /// The revisions that are kept, by number, and where, if on disk.
    #[must_use]
    pub fn revisions(&self) -> (Vec<Revision>, Option<PathBuf>) {
        let engine = self.engine();
        (engine.history.kept().cloned().collect(), engine.history.folder())
    }

    /// What happened, and what happens.
    #[must_use]
    pub fn events(&self) -> Arc<Events> {
        Arc::clone(&self.engine().events)
    }

    /// Forgets learned addresses: a port's or bridge member's by its name, or all.
    ///
    /// # Errors
    /// [`ApplyError::NoSuchPort`].
    pub fn flush(&self, name: Option<&str>) -> Result<(), ApplyError> {
        self.engine().flush(name)
    }

    /// Changes one port, live; other ports lose nothing.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing is changed then.
    pub fn set_port(&self, name: &str, change: PortChange) -> Result<Diff, ApplyError> {
        let order = Order::by("program");
        self.set_port_by(name, change, &order).map(|applied| applied.diff)
    }

    /// Changes one port likewise, by order of somebody.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing is changed then.
    pub fn set_port_by(
        &self,
        name: &str,
        change: PortChange,
        order: &Order,
    ) -> Result<Applied, ApplyError> {
        let mut engine = self.engine();
        engine.refuse_superseded(order)?;
        let config = change.apply_to(engine.written.config().clone(), name)?;
        engine.apply(Desired::try_from(config)?, order)
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

    /// Whether the control thread and all workers do their work. A change may hold up the
    /// control thread for minutes; the answer does not wait for it.
    #[must_use]
    pub fn breathes(&self) -> bool {
        self.breathes_within(LIFE)
    }

    fn breathes_within(&self, patience: Duration) -> bool {
        let engine = &self.running.engine;
        let still = lock(&self.running.turned).elapsed();
        if still >= patience {
            // Whoever has the engine has had it since the control thread was seen last.
            let excuses = |taken: Duration| taken + patience / 2 >= still && taken < CHANGE;
            return engine.taken_for().is_some_and(excuses);
        }
        let since = Instant::now();
        loop {
            if let Some(engine) = engine.glance() {
                let workers = engine.crew.status();
                return workers.iter().all(|it| it.health == Health::Breathing);
            }
            // Then the control thread, at least, went round not long ago.
            if since.elapsed() >= BRIEF {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
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

    /// How full the table of learned addresses is.
    #[must_use]
    pub fn fdb_status(&self) -> FdbStatus {
        self.engine().fdb_status()
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
        self.engine.call().stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The control thread: what happens by itself.
fn supervise(
    engine: &Gate<Engine>,
    turned: &Mutex<Instant>,
    events: &Receiver<Event>,
    rings: &Receiver<()>,
    stopped: &Receiver<()>,
) {
    let mut next_tick = Instant::now();
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(event) => engine.control().handle(event),
                Err(_) => return,
            },
            recv(rings) -> _ => engine.control().follow_vmms(Instant::now()),
            recv(stopped) -> _ => return,
            default(next_tick.saturating_duration_since(Instant::now())) => {}
        }
        let now = Instant::now();
        if now >= next_tick {
            engine.control().tick(now);
            next_tick = now + TICK;
            *lock(turned) = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn started() -> Switch {
        Switch::start(Desired::try_from(Config::default()).unwrap()).unwrap()
    }

    fn eventually(holds: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < patience, "it does not come to pass");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_switch_whose_worker_has_ended_does_not_breathe() {
        let switch = started();
        assert!(switch.breathes());
        switch.engine().crew.end_one(0);
        eventually(|| !switch.breathes());
    }

    #[test]
    fn a_switch_that_is_changed_for_long_breathes_all_the_same() {
        let switch = started();
        let change = switch.engine();
        let (patience, since) = (Duration::from_millis(200), Instant::now());
        while since.elapsed() < 3 * patience {
            assert!(switch.breathes_within(patience));
        }
        drop(change);
        eventually(|| switch.breathes_within(patience));
    }

    #[test]
    fn a_switch_without_its_control_thread_does_not_breathe() {
        let switch = started();
        let patience = Duration::from_secs(2);
        assert!(switch.breathes_within(patience));
        drop(lock(&switch.running.stop).take());
        eventually(|| !switch.breathes_within(patience));
    }
}
