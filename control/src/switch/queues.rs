//! Receive queues: which worker serves which, what they give and cost, and how one
//! moves from worker to worker.
//!
//! A queue belongs to one worker at a time. To move, it travels: its worker gives it
//! back between two breaths, control hands it on. Until then nobody polls it, and what
//! comes waits in it: nothing is lost, and nothing of it overtakes what came before.
//!
//! ```text
//!            move, release                  Dismissed
//! Served ───────────────────▶ Underway ──────────────────▶ Handed, to the worker that
//!  ▲  ▲                           │                          │    is wanted by then
//!  │  │        release            │ Refused                  │
//!  │  └──────────── Kept ◀────────┴──────────────────────────┤
//!  │                (the port is quarantined)                │ Reported: it has it
//!  └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Where nobody waits to hear of it, a queue that is handed out counts as served.
//!
//! Where its device is closed, opened again or handed over meanwhile, it comes back to
//! a device that is none any more, and is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hairpin_dataplane::port::{Attached, Condition, Receiver as DeviceReceiver};
use hairpin_dataplane::snapshot::DeviceId;
use hairpin_dataplane::worker::command::ReceiveQueue;
use hairpin_dataplane::worker::load::{Load, Watched};

use super::devices::Device;
use super::engine::Engine;
use super::meter::{Meter, Rate, Reading};
use super::workers::Health;
use super::{ApplyError, Release};
use crate::config::nearest::hint;

/// How long a worker may take to give a queue up before the one who asked is told that
/// it does not: far longer than any breath.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// A receive queue of a device.
#[derive(Debug)]
pub struct Queue {
    /// The worker that serves it, or is to.
    pub worker: usize,
    place: Place,
    load: Arc<Load>,
    meter: Meter,
}

/// Where a queue is.
#[derive(Debug)]
enum Place {
    /// With its worker.
    Served,
    /// On its way to its worker: another is to give it back.
    Underway {
        /// Which one.
        holder: usize,
        /// Those who wait until it has arrived; dropped, they hear that it will not.
        waiting: Vec<Sender<()>>,
    },
    /// Sent to its worker, which is to say that it has it.
    Handed {
        /// The number of the report in which it says so.
        report: u64,
        /// Those who wait for that; dropped, they hear that it has not.
        waiting: Vec<Sender<()>>,
    },
    /// Here: its worker could not take it.
    Kept(Box<ReceiveQueue>),
}

impl Place {
    /// Those who wait until it has arrived, to be told by somebody else.
    fn give_up_waiting(&mut self) -> Vec<Sender<()>> {
        match self {
            Place::Underway { waiting, .. } | Place::Handed { waiting, .. } => {
                std::mem::take(waiting)
            }
            Place::Served | Place::Kept(_) => Vec::new(),
        }
    }
}

impl Queue {
    /// The next of a device that was opened, and what is to be handed to its worker.
    #[must_use]
    pub fn new(
        worker: usize,
        index: u16,
        receiver: DeviceReceiver,
        attached: &Arc<Attached>,
    ) -> (Queue, Box<ReceiveQueue>) {
        let (device, attached, load) = (attached.id, Arc::clone(attached), Arc::default());
        let queue = ReceiveQueue { device, attached, index, receiver, load: Arc::clone(&load) };
        let meter = Meter::begin(Instant::now());
        (Queue { worker, place: Place::Served, load, meter }, Box::new(queue))
    }
}

/// How a queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueState {
    /// Polled every breath.
    Hot,
    /// Silent: its device wakes the worker.
    Armed,
    /// Its device is down.
    Parked,
    /// Its device is lost or quarantined.
    Dormant,
    /// On its way to its worker: another has not given it back yet, or it has not taken it
    /// yet.
    Moving,
}

/// A queue as others see it.
#[derive(Clone, PartialEq, Debug)]
pub struct QueueStatus {
    /// The port or link whose it is.
    pub port: String,
    /// Which of that one's queues, from 0.
    pub index: u16,
    /// The worker that serves it, or is to.
    pub worker: usize,
    /// How it is.
    pub state: QueueState,
    /// What it gave and cost since its device was opened.
    pub total: Reading,
    /// Turns in which it gave frames.
    pub batches: u64,
    /// The same over the last second.
    pub rate: Rate,
}

/// A queue that was to be moved, and is where it was to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Which of its device's queues, from 0.
    pub queue: u16,
    /// The worker that had it.
    pub from: usize,
    /// The worker that has it. Where that is the same, nothing was done.
    pub to: usize,
}

/// Why a queue was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Nothing of that name has queues.
    #[error("there is no port or link with a device {name:?}{hint}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// It has no such queue.
    #[error("{port}: queue {queue}: there is none; its queues are 0 to {last}")]
    NoSuchQueue {
        /// The port or link.
        port: String,
        /// The number asked for.
        queue: u16,
        /// The greatest there is.
        last: usize,
    },
    /// It has several.
    #[error(
        "{port}: queue: none is named, and it has several; name one of {port}:0 to {port}:{last}"
    )]
    WhichQueue {
        /// The port or link.
        port: String,
        /// The greatest number.
        last: usize,
    },
    /// There is no such worker.
    #[error("worker {worker}: there is none; workers are 0 to {last}, see `hairpin workers`")]
    NoSuchWorker {
        /// The number asked for.
        worker: usize,
        /// The greatest there is.
        last: usize,
    },
    /// A worker can neither give nor take.
    #[error("worker {worker}: {}", remedy(.health))]
    NotBreathing {
        /// Which one.
        worker: usize,
        /// How it is.
        health: Health,
    },
    /// Nobody serves its queues now.
    #[error("{port}: its device is not there, so it has no queue to move; move it once it is up")]
    Waiting {
        /// The port or link.
        port: String,
    },
    /// Its queues are left alone.
    #[error("{port}: it is quarantined; end that first, with `hairpin port release {port}`")]
    Quarantined {
        /// The port or link.
        port: String,
    },
    /// It is still to come.
    #[error(
        "{port}:{queue}: worker {holder} has not given it up for a second, or worker {to} has not \
         taken it; it moves as soon as they end their breaths, see `hairpin workers`"
    )]
    Pending {
        /// The port or link.
        port: String,
        /// Its queue.
        queue: u16,
        /// The worker that had it when that was asked for.
        holder: usize,
        /// The worker that is to have it.
        to: usize,
    },
    /// Something else came first.
    #[error(
        "{port}:{queue}: its device went or was opened again, it was moved elsewhere, or its worker \
         could not take it, before it had arrived; see `hairpin workers`"
    )]
    Overtaken {
        /// The port or link.
        port: String,
        /// Its queue.
        queue: u16,
    },
}

/// What to do about a worker that is not well.
fn remedy(health: &Health) -> &'static str {
    match health {
        Health::Breathing => "it breathes; try again",
        Health::Stalled => "it does not end its breath; choose another, or wait until it does",
        Health::Ended => "its thread has ended; restart the daemon, or choose another",
    }
}

/// A move that was ordered.
pub struct Ordered {
    /// What it comes to.
    pub moved: Moved,
    /// Where to hear of its end; nothing if there is nothing to wait for.
    pub arrival: Option<Receiver<()>>,
    /// The worker that has to give the queue up.
    pub holder: usize,
}

impl Engine {
    /// Orders that another worker serve a queue.
    pub fn move_queue(
        &mut self,
        name: &str,
        queue: Option<u16>,
        to: usize,
    ) -> Result<Ordered, MoveError> {
        self.may_take(to)?;
        let Some(device) = self.devices.get_mut(name) else {
            let hint = hint(name, self.devices.keys().map(String::as_str));
            return Err(MoveError::NoSuchPort { name: name.to_owned(), hint });
        };
        let port = || name.to_owned();
        match device.attached.condition() {
            Condition::Working => {}
            Condition::Lost => return Err(MoveError::Waiting { port: port() }),
            Condition::Quarantined => return Err(MoveError::Quarantined { port: port() }),
        }
        let last = device.queues.len().saturating_sub(1);
        let index = match queue {
            Some(index) => index,
            None if last == 0 => 0,
            None => return Err(MoveError::WhichQueue { port: port(), last }),
        };
        let none = || MoveError::NoSuchQueue { port: port(), queue: index, last };
        let queue = device.queues.get_mut(usize::from(index)).ok_or_else(none)?;
        let from = queue.worker;
        let moved = Moved { queue: index, from, to };
        if matches!(queue.place, Place::Served) && from == to {
            return Ok(Ordered { moved, arrival: None, holder: from });
        }
        if matches!(queue.place, Place::Served | Place::Handed { .. }) && from != to {
            if self.crew.dismiss_queue(from, device.attached.id, index).is_err() {
                let health = Health::Ended;
                return Err(MoveError::NotBreathing { worker: from, health });
            }
            queue.place = Place::Underway { holder: from, waiting: Vec::new() };
        }
        let (holder, waiting) = match &mut queue.place {
            Place::Underway { holder, waiting } => (*holder, waiting),
            Place::Handed { waiting, .. } => (from, waiting),
            Place::Served | Place::Kept(_) => {
                return Err(MoveError::Quarantined { port: port() });
            }
        };
        if from != to {
            // Those who wait for another worker wait in vain from now on.
            waiting.clear();
            queue.worker = to;
        }
        let (arrived, arrival) = bounded(1);
        waiting.push(arrived);
        Ok(Ordered { moved, arrival: Some(arrival), holder })
    }

    /// Whether a worker can take a queue.
    fn may_take(&self, worker: usize) -> Result<(), MoveError> {
        let last = self.crew.count().saturating_sub(1);
        match self.crew.health(worker) {
            None => Err(MoveError::NoSuchWorker { worker, last }),
            Some(Health::Breathing) => Ok(()),
            Some(health) => Err(MoveError::NotBreathing { worker, health }),
        }
    }

    /// Ends the quarantine of a port or link: its queues are served again, with what
    /// waits in them. Nobody else is concerned.
    pub fn release(&mut self, name: &str) -> Result<Release, ApplyError> {
        let Some(device) = self.devices.get_mut(name) else {
            let hint = hint(name, self.devices.keys().map(String::as_str));
            return Err(ApplyError::NoSuchPort { name: name.to_owned(), hint });
        };
        if device.attached.condition() != Condition::Quarantined {
            return Ok(Release::NotQuarantined);
        }
        if let Some(plug) = device.source.plug() {
            plug.release();
        }
        self.end_quarantine(name);
        Ok(Release::Released)
    }

    /// Has workers serve the queues of a port or link again that is quarantined.
    pub(super) fn end_quarantine(&mut self, name: &str) {
        let Some(device) = self.devices.get_mut(name) else { return };
        device.faults.forget();
        // A worker leaves the queues of a device that failed alone for as long as it
        // has them: they come back and are handed out anew.
        device.attached.set_condition(Condition::Working);
        self.crew.dismiss(device.attached.id, &device.placement());
        let mut kept = Vec::new();
        for queue in &mut device.queues {
            if let Place::Underway { .. } = queue.place {
                continue;
            }
            let waiting = queue.place.give_up_waiting();
            let underway = Place::Underway { holder: queue.worker, waiting };
            match std::mem::replace(&mut queue.place, underway) {
                Place::Kept(queue) => kept.push(queue),
                Place::Served | Place::Handed { .. } | Place::Underway { .. } => {}
            }
        }
        kept.into_iter().for_each(|queue| self.hand_out(queue));
    }

    /// A queue that was opened, or that a worker gave back: handed to the one that is to
    /// serve it, or closed here if its device is none any more, and with the last of them
    /// the device's file.
    pub(super) fn hand_out(&mut self, queue: Box<ReceiveQueue>) {
        let Some(known) = self.queue_mut(&queue) else { return };
        let (device, index, worker) = (queue.device, queue.index, known.worker);
        let waiting = known.place.give_up_waiting();
        known.place = Place::Served;
        if let Err(queue) = self.crew.adopt(worker, queue) {
            return self.keep(queue, "its thread has ended");
        }
        if waiting.is_empty() {
            return;
        }
        self.reports += 1;
        let report = self.reports;
        // Those who wait hear in vain of a thread that has ended since.
        if self.crew.ask_report(worker, report).is_ok()
            && let Some((_, device)) = self.device_mut(device)
            && let Some(known) = device.queues.get_mut(usize::from(index))
        {
            known.place = Place::Handed { report, waiting };
        }
    }

    /// A worker has done what it was told before this report was asked for: it has the
    /// queue that was handed to it, and those who wait for that hear it.
    pub(super) fn note_arrival(&mut self, number: u64) {
        let mut queues = self.devices.values_mut().flat_map(|device| &mut device.queues);
        let is_meant = |place: &Place| match place {
            Place::Handed { report, .. } => *report == number,
            _ => false,
        };
        // Nobody's, if it was moved on, kept or closed meanwhile.
        let Some(queue) = queues.find(|queue| is_meant(&queue.place)) else { return };
        for waiting in queue.place.give_up_waiting() {
            // Who waits no longer need not hear it.
            let _ = waiting.send(());
        }
        queue.place = Place::Served;
    }

    /// Keeps a queue that its worker could not take: the port is quarantined until it is
    /// released, and then it is tried again.
    pub(super) fn keep(&mut self, queue: Box<ReceiveQueue>, cause: &str) {
        let index = queue.index;
        let attached = Arc::clone(&queue.attached);
        let Some(known) = self.queue_mut(&queue) else { return };
        let worker = known.worker;
        known.place = Place::Kept(queue);
        attached.set_condition(Condition::Quarantined);
        let Some((name, device)) = self.device_mut(attached.id) else { return };
        device.last_error = format!("worker {worker} could not take its queue {index}: {cause}");
        tracing::error!(port = name, worker, queue = index, cause, "the port is quarantined");
    }

    /// What is known of a queue that is here, if its device is still the one that it was
    /// opened as.
    fn queue_mut(&mut self, queue: &ReceiveQueue) -> Option<&mut Queue> {
        let (_, device) = self.device_mut(queue.device)?;
        let is_current = Arc::ptr_eq(&device.attached, &queue.attached);
        device.queues.get_mut(usize::from(queue.index)).filter(|_| is_current)
    }

    /// A device, and whose it is.
    pub(super) fn device_mut(&mut self, id: DeviceId) -> Option<(&str, &mut Device)> {
        let mut devices = self.devices.iter_mut();
        let found = devices.find(|(_, device)| device.attached.id == id);
        found.map(|(name, device)| (&**name, device))
    }

    /// Workers for so many queues: one each where there are as many, else those with the
    /// fewest to serve.
    pub(super) fn place(&self, queues: usize) -> Vec<usize> {
        let workers = self.crew.count();
        if queues == workers {
            return (0..queues).collect();
        }
        let mut served = vec![0_usize; workers];
        for queue in self.devices.values().flat_map(|device| &device.queues) {
            if let Some(served) = served.get_mut(queue.worker) {
                *served += 1;
            }
        }
        let mut least_loaded = || {
            let worker = (0..workers).min_by_key(|&worker| served[worker]).unwrap_or(0);
            served[worker] += 1;
            worker
        };
        (0..queues).map(|_| least_loaded()).collect()
    }

    /// Takes note of what queues and workers did since the last look.
    pub(super) fn measure(&mut self, now: Instant) {
        for queue in self.devices.values_mut().flat_map(|device| &mut device.queues) {
            let load = &queue.load;
            queue.meter.look(now, || reading(load));
        }
        self.crew.measure(now);
    }

    /// All queues, by port or link and number.
    pub(super) fn queues(&self) -> Vec<QueueStatus> {
        let each = self.devices.iter().flat_map(|(name, device)| {
            device.queues.iter().zip(0..).map(move |(queue, index)| queue.status(name, index))
        });
        each.collect()
    }
}

impl Queue {
    fn status(&self, port: &str, index: u16) -> QueueStatus {
        QueueStatus {
            port: port.to_owned(),
            index,
            worker: self.worker,
            state: match (&self.place, self.load.watched()) {
                (Place::Underway { .. } | Place::Handed { .. }, _) => QueueState::Moving,
                (Place::Kept(_), _) | (Place::Served, Watched::Dormant) => QueueState::Dormant,
                (Place::Served, Watched::Hot) => QueueState::Hot,
                (Place::Served, Watched::Armed) => QueueState::Armed,
                (Place::Served, Watched::Parked) => QueueState::Parked,
            },
            total: reading(&self.load),
            batches: self.load.batches.get(),
            rate: self.meter.rate(),
        }
    }
}

fn reading(load: &Load) -> Reading {
    Reading { frames: load.frames.get(), bytes: load.bytes.get(), busy_ns: load.busy_ns.get() }
}

#[cfg(test)]
mod tests;
