//! The breath: receive, decide, deliver, ring doorbells.
//!
//! * [`Worker::breathe`] — one round over the queues, with the time as argument.
//! * `queues` — a worker's queues, and which of them are polled.
//! * `serve` — one queue's turn: receive → decide → deliver → release.
//! * `decide` — the relay's verdicts, in frame order, as copies.
//! * [`groups`], [`deliver`] — copies by device, and the one copy. `mirror` — those for monitors.
//! * `contain` — what a failure costs, and whom.
//! * `idle` — arming silent queues, sleeping.
//! * [`command`] — what goes to and from control. [`load`] — what queues give and cost.
//! * [`capture`] — frames copied aside as they pass.
//! * [`mod@foresee`] — what would become of a frame.

pub mod capture;
pub mod command;
mod contain;
mod decide;
pub mod deliver;
pub mod foresee;
pub mod groups;
mod idle;
pub mod load;
mod mirror;
mod queues;
mod serve;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::ledger::Count;
use crate::port::{Arena, Armed};
use crate::relay::Relay;
use crate::relay::bucket::Reflections;
use crate::relay::fdb::Fdb;
use crate::snapshot::{DEVICES_MAX, DeviceId, Snapshot};
use crate::sys::lane::{TokenId, WorkerToken};
use crate::sys::published::Reader;
use command::{Command, CommandSender, Event, ReceiveQueue};
use contain::contained;
use decide::Decider;
use deliver::Delivery;
use groups::Groups;
use idle::{BREATHS_PER_LOOK, EMPTY_POLLS_MAX, Poller, SPIN_NS, Wait};
use load::Tally;
use queues::{Activity, Queues, Round};

/// Receive queues a worker can have.
pub const QUEUES_MAX: usize = DEVICES_MAX;
/// Nanoseconds between two ticks (ageing).
const TICK_NS: u64 = 100_000_000;
/// Table lines swept per tick: a table for 65,536 addresses in some 8 s.
const SWEEP_LINES: usize = 1024;
/// Ticks that are made up for at once: a worker sleeps a second at most.
const TICKS_MAX: u64 = 10;

/// Whether a worker sleeps when nothing comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Poll {
    /// It spins briefly, then sleeps.
    #[default]
    Adaptive,
    /// It never sleeps.
    Busy,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its number, from 0; its counters' and transmitters' index.
    pub index: usize,
    /// Whether it sleeps.
    pub poll: Poll,
    /// The published policy.
    pub snapshot: Reader<Snapshot>,
    /// The learned addresses, shared by all workers.
    pub fdb: Arc<Fdb>,
    /// What bridge channels may get back of their group frames, shared likewise.
    pub reflections: Arc<Reflections>,
    /// Where its events go; bounded, so that sending never allocates.
    pub events: Sender<Event>,
    /// Where its commands come from.
    pub commands: Receiver<Command>,
}

/// A worker's signs of life, for the watchdog and for `hairpin workers`.
#[derive(Debug)]
pub struct Progress {
    /// Breaths so far.
    pub breaths: AtomicU64,
    /// Sleeps so far.
    pub sleeps: AtomicU64,
    /// Nanoseconds of breaths that received frames, so far.
    pub busy_ns: Count,
    serving: AtomicU32,
}

/// What a worker is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Between queues.
    Nothing,
    /// Serving this device.
    Serving(DeviceId),
    /// Asleep, or ended.
    Sleeping,
}

impl Default for Progress {
    /// Of a worker that has not begun.
    fn default() -> Progress {
        let serving = AtomicU32::new(Progress::NOTHING);
        let (breaths, sleeps) = (AtomicU64::new(0), AtomicU64::new(0));
        Progress { breaths, sleeps, busy_ns: Count::default(), serving }
    }
}

impl Progress {
    const NOTHING: u32 = u32::MAX;
    const SLEEPING: u32 = u32::MAX - 1;

    /// What the worker is at.
    #[must_use]
    pub fn doing(&self) -> Doing {
        match self.serving.load(Ordering::Relaxed) {
            Progress::NOTHING => Doing::Nothing,
            Progress::SLEEPING => Doing::Sleeping,
            device => Doing::Serving(DeviceId(device as u16)),
        }
    }

    fn set(&self, doing: Doing) {
        let serving = match doing {
            Doing::Nothing => Progress::NOTHING,
            Doing::Sleeping => Progress::SLEEPING,
            Doing::Serving(device) => u32::from(device.0),
        };
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// Counts one more: the worker is the only one that writes.
    fn raise(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// Whether the sweeps of the table went well so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweeps {
    Sound,
    /// One failed; control was told.
    Failed,
}

const HOT: Activity = Activity::Hot { empty_polls: 0 };

/// What a breath did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breath {
    /// Frames received.
    pub frames: usize,
}

/// Whether a worker goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It does.
    Continue,
    /// It was told to stop.
    Stop,
}

/// One thread's share of the switch.
pub struct Worker {
    index: usize,
    poll: Poll,
    token: WorkerToken,
    snapshot: Reader<Snapshot>,
    fdb: Arc<Fdb>,
    events: Sender<Event>,
    /// Events that found the way to control full.
    outbox: VecDeque<Event>,
    commands: Receiver<Command>,
    poller: Poller,
    /// Each under its key with the poller.
    queues: Queues,
    bench: serve::Bench,
    progress: Arc<Progress>,
    tally: Tally,
    /// The key with which the next breath begins: the one behind the queue that was first
    /// in the last, so that none always is.
    first: usize,
    breaths: u64,
    last_frames_ns: u64,
    last_tick_ns: u64,
    sweeps: Sweeps,
    revision: u64,
}

impl Worker {
    /// A worker without queues; all its memory is allocated here.
    ///
    /// # Errors
    /// Those of mmap(2), epoll_create1(2) and eventfd(2).
    pub fn new(parts: Parts) -> io::Result<Worker> {
        let arena = Arena::new()?;
        Ok(Worker {
            index: parts.index,
            poll: parts.poll,
            token: WorkerToken::new(),
            snapshot: parts.snapshot,
            fdb: parts.fdb,
            events: parts.events,
            outbox: VecDeque::with_capacity(2 * QUEUES_MAX),
            commands: parts.commands,
            poller: Poller::new()?,
            queues: Queues::new(),
            bench: serve::Bench::new(parts.index, arena, parts.reflections)?,
            progress: Arc::new(Progress::default()),
            tally: Tally::new(QUEUES_MAX),
            first: 0,
            breaths: 0,
            last_frames_ns: 0,
            last_tick_ns: 0,
            sweeps: Sweeps::Sound,
            revision: 0,
        })
    }

    /// The name that lanes of its own know it by.
    #[must_use]
    pub fn token_id(&self) -> TokenId {
        self.token.id()
    }

    /// Its signs of life.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The sending end for its commands, which also wakes it.
    #[must_use]
    pub fn command_sender(&self, commands: Sender<Command>) -> CommandSender {
        CommandSender { commands, wake: self.poller.waker() }
    }

    /// Works until told to stop. This is where the clock is read: once a breath.
    pub fn run(mut self) {
        while self.take_commands() == Flow::Continue {
            let now_ns = monotonic_ns();
            let breath = self.breathe(now_ns);
            self.rest(breath, now_ns);
        }
        self.progress.set(Doing::Sleeping);
    }

    /// One breath over all queues that are not armed. `now_ns` never goes back.
    pub fn breathe(&mut self, now_ns: u64) -> Breath {
        self.charge(now_ns);
        self.bench.begin(now_ns);
        let snapshot = self.snapshot.enter();
        if snapshot.revision != self.revision {
            self.revision = snapshot.revision;
            self.queues.unpark();
        }
        let (mut round, mut first, mut frames) = (Round::from(self.first), None, 0);
        while self.bench.may_go_on()
            && let Some((key, queue, empty_polls)) = self.queues.next_hot(&mut round)
        {
            let (token, progress) = (&mut self.token, &self.progress);
            let turn = self.bench.serve(&snapshot, &self.fdb, token, queue, progress);
            self.outbox.extend(turn.into_event(queue.device));
            self.queues.go_on(key, turn.next_activity(empty_polls));
            self.tally.note(key, turn.frames());
            frames += turn.frames();
            first.get_or_insert(key);
        }
        self.first = first.map_or(self.first, |key| key + 1);
        self.bench.end(&snapshot, &mut self.token);
        self.outbox.extend(self.bench.take_events());
        self.finish(frames, now_ns)
    }

    /// What the breath before cost, to those that gave its frames.
    fn charge(&mut self, now_ns: u64) {
        let queues = &self.queues;
        let load = |key| queues.get(key).map(|queue| &*queue.load);
        self.tally.charge(now_ns, load, &self.progress.busy_ns);
    }

    /// After the queues: what is due from time to time, and the signs of life.
    fn finish(&mut self, frames: usize, now_ns: u64) -> Breath {
        self.breaths += 1;
        if frames > 0 {
            self.last_frames_ns = now_ns;
        }
        if self.index == 0 && now_ns.saturating_sub(self.last_tick_ns) >= TICK_NS {
            self.tick(now_ns);
        }
        Progress::raise(&self.progress.breaths);
        self.send_events();
        Breath { frames }
    }

    /// What is due by the clock. A sweep that fails costs no frame and no device: the
    /// next one begins behind the lines at which it did.
    fn tick(&mut self, now_ns: u64) {
        let swept = contained(|| self.sweep(now_ns));
        self.last_tick_ns = now_ns;
        if let Err(cause) = swept
            && self.sweeps == Sweeps::Sound
        {
            self.sweeps = Sweeps::Failed;
            self.outbox.push_back(Event::SweepFailed { cause });
        }
    }

    /// Visits as many lines as are due since the last tick: a worker that slept has
    /// more to do.
    fn sweep(&mut self, now_ns: u64) {
        let ticks = (now_ns.saturating_sub(self.last_tick_ns) / TICK_NS).min(TICKS_MAX);
        #[cfg(all(test, not(loom)))]
        tests::mishap::at(tests::mishap::Place::Sweeping);
        let snapshot = self.snapshot.enter();
        let (snapshot, fdb, now_ms) = (&*snapshot, &*self.fdb, now_ns / 1_000_000);
        let relay = Relay { snapshot, fdb, now_ms };
        relay.sweep(SWEEP_LINES * ticks as usize);
    }

    /// Takes the commands that wait.
    pub fn take_commands(&mut self) -> Flow {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Adopt(queue) => self.adopt(queue),
                Command::Dismiss(device) => {
                    self.dismiss(|queue| queue.device == device);
                    self.outbox.push_back(Event::DismissedAll(device));
                }
                Command::DismissQueue { device, index } => {
                    self.dismiss(|queue| queue.device == device && queue.index == index);
                }
                Command::Report(number) => {
                    self.outbox.push_back(Event::Reported(number));
                    self.send_events();
                }
                Command::BeginCapture(tap) => {
                    let refused = self.bench.captures().add(tap).err();
                    self.outbox.extend(refused.map(Event::CaptureEnded));
                }
                Command::EndCapture(id) => {
                    self.outbox.extend(self.bench.captures().remove(id).map(Event::CaptureEnded));
                    self.send_events();
                }
                Command::Stop => {
                    self.dismiss_all();
                    return Flow::Stop;
                }
            }
        }
        Flow::Continue
    }

    fn adopt(&mut self, queue: Box<ReceiveQueue>) {
        if let Err(queue) = self.queues.adopt(queue) {
            let cause = "it has as many queues as a worker can have";
            self.outbox.push_back(Event::Refused { queue, cause });
        }
    }

    /// Gives queues back, between two breaths: all that they gave so far is delivered,
    /// and what they give next is their next worker's.
    fn dismiss(&mut self, is_meant: impl Fn(&ReceiveQueue) -> bool) {
        for key in self.queues.keys() {
            if !self.queues.get(key).is_some_and(&is_meant) {
                continue;
            }
            self.tally.forget(key);
            // Its next worker polls it first.
            self.wake(key);
            self.outbox.extend(self.queues.take(key).map(Event::Dismissed));
        }
        self.send_events();
    }

    fn dismiss_all(&mut self) {
        for key in self.queues.keys() {
            self.outbox.extend(self.queues.take(key).map(Event::Dismissed));
        }
        self.send_events();
    }

    fn send_events(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(event)) => return self.outbox.push_front(event),
            }
        }
    }
}

/// Sleeping and waking.
impl Worker {
    /// Between breaths: arms what is silent, looks at what is armed, sleeps when
    /// nothing is left to poll.
    fn rest(&mut self, breath: Breath, now_ns: u64) {
        self.arm_silent();
        let idle = self.queues.are_silent();
        if idle && self.may_sleep(now_ns) {
            self.sleep();
        } else if idle || breath.frames == 0 || self.breaths.is_multiple_of(BREATHS_PER_LOOK) {
            self.wake_queues(Wait::Look);
        }
    }

    fn may_sleep(&self, now_ns: u64) -> bool {
        self.poll == Poll::Adaptive
            && self.outbox.is_empty()
            && !self.bench.must_ring()
            && now_ns.saturating_sub(self.last_frames_ns) >= SPIN_NS
    }

    fn arm_silent(&mut self) {
        let mut round = Round::from(0);
        while let Some((key, _, empty_polls)) = self.queues.next_hot(&mut round) {
            if empty_polls < EMPTY_POLLS_MAX {
                continue;
            }
            let poller = &self.poller;
            self.outbox.extend(self.queues.watch(key, |receiver| {
                let armed = receiver.arm() == Armed::Asleep
                    && poller.arm(key as u64, receiver.wake_fd()).is_ok();
                if armed { Activity::Armed } else { HOT }
            }));
        }
    }

    fn sleep(&mut self) {
        // Outside: control need not wait for us before it frees what it replaced.
        self.snapshot.leave();
        self.progress.set(Doing::Sleeping);
        self.wake_queues(Wait::Sleep);
        self.progress.set(Doing::Nothing);
        Progress::raise(&self.progress.sleeps);
    }

    fn wake_queues(&mut self, wait: Wait) {
        for key in self.poller.wait(wait) {
            self.wake(key as usize);
        }
    }

    /// Polls a queue again, if it is armed.
    fn wake(&mut self, key: usize) {
        if self.queues.activity(key) != Some(Activity::Armed) {
            return;
        }
        let poller = &self.poller;
        self.outbox.extend(self.queues.watch(key, |receiver| {
            poller.disarm(receiver.wake_fd());
            receiver.disarm();
            HOT
        }));
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
