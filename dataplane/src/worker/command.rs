//! What control tells a worker, and what a worker tells control.
//!
//! Nothing is destroyed in a worker: receive queues and taps travel back in events.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::{SendError, Sender};

use super::capture::{CaptureId, Tap};
use super::load::Load;
use crate::port::{Attached, Receiver, SenderQueue};
use crate::snapshot::DeviceId;

/// One receive queue of a device, on its way to or from a worker.
#[derive(Debug)]
pub struct ReceiveQueue {
    /// The device it belongs to.
    pub device: DeviceId,
    /// That device as it was opened: a queue is served only as long as this is what
    /// the policy names, not what was opened anew in its place.
    pub attached: Arc<Attached>,
    /// Which of the device's queues it is.
    pub index: u16,
    /// The queue itself.
    pub receiver: Receiver,
    /// What it gave so far, and what it cost, whoever served it.
    pub load: Arc<Load>,
}

impl ReceiveQueue {
    /// What tells it from the others.
    #[inline]
    #[must_use]
    pub fn sender(&self) -> SenderQueue {
        SenderQueue(u32::from(self.device.0) + u32::from(self.index))
    }
}

/// Control to worker.
#[derive(Debug)]
pub enum Command {
    /// Serve this queue from now on.
    Adopt(Box<ReceiveQueue>),
    /// Give back all queues of this device ([`Event::Dismissed`]).
    Dismiss(DeviceId),
    /// Give back one queue ([`Event::Dismissed`]); nothing is said of one that is not
    /// served here.
    DismissQueue {
        /// The device.
        device: DeviceId,
        /// Which of its queues.
        index: u16,
    },
    /// Say so ([`Event::Reported`], with this number) when all that was commanded before is
    /// done.
    Report(u64),
    /// Take part in a capture from now on.
    BeginCapture(Box<Tap>),
    /// Take part in it no more ([`Event::CaptureEnded`], if it did).
    EndCapture(CaptureId),
    /// Give everything back and end.
    Stop,
}

/// Worker to control.
#[derive(Debug)]
pub enum Event {
    /// A queue that the worker no longer serves.
    Dismissed(Box<ReceiveQueue>),
    /// The worker gave back all queues of this device.
    DismissedAll(DeviceId),
    /// All that was commanded before the report of this number was asked for is done.
    Reported(u64),
    /// The worker takes no part in the tap's capture any more, or could not: it takes part
    /// in as many as it can.
    CaptureEnded(Box<Tap>),
    /// A queue that was to be adopted and could not be; it is served by nobody.
    Refused {
        /// The queue.
        queue: Box<ReceiveQueue>,
        /// What stood against it.
        cause: &'static str,
    },
    /// The device is gone; its queues are left alone until control dismisses them.
    Lost(DeviceId),
    /// Serving the device panicked, or the device gave nothing but errors; it is
    /// quarantined.
    Quarantined {
        /// The device.
        device: DeviceId,
        /// What it gave, or what the panic said as far as it could be read without
        /// allocating.
        cause: &'static str,
    },
    /// Looking through the table for learned addresses that aged panicked; told once.
    /// It is done again with every tick.
    SweepFailed {
        /// What the panic said, as far as it could be read without allocating.
        cause: &'static str,
    },
}

/// Control's end of the way to a worker; wakes it if it sleeps.
#[derive(Clone, Debug)]
pub struct CommandSender {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<OwnedFd>,
}

impl CommandSender {
    /// Sends a command; the worker takes it before its next breath.
    ///
    /// # Errors
    /// The command, if the worker has ended.
    pub fn send(&self, command: Command) -> Result<(), SendError<Command>> {
        self.commands.send(command)?;
        self.wake();
        Ok(())
    }

    /// Wakes the worker, so that it sees a new snapshot although no frame comes.
    pub fn wake(&self) {
        // An eventfd refuses only when its counter is full: it is awake then.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}
