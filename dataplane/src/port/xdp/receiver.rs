//! What a queue of the netdev receives.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::PIECES_MAX;
use super::queue::{Netdev, Queue};
use super::unfilled::Sampler;
use crate::frame::{BATCH_FRAMES, Batch};
use crate::port::failures::Failures;
use crate::port::{Arena, Armed, Received};
use crate::sys::memory::RegionHint;
use crate::sys::xdp::Wakeup;

/// Empty looks in a row after which the netdev itself is asked whether it is there: a ring
/// does not tell, and neither does waiting for one.
const EMPTY_LOOKS_MAX: u32 = 16;

/// The receiving end of one queue.
#[derive(Debug)]
pub struct XdpReceiver {
    netdev: Arc<Netdev>,
    queue: usize,
    hint: RegionHint,
    /// The places of the batch in hand; has room for all it can have.
    held: Vec<u64>,
    empty_looks: u32,
    failures: Failures,
    sampler: Sampler,
}

impl XdpReceiver {
    pub(super) fn new(netdev: Arc<Netdev>, queue: usize) -> XdpReceiver {
        XdpReceiver {
            netdev,
            queue,
            hint: RegionHint::default(),
            held: Vec::with_capacity(BATCH_FRAMES * PIECES_MAX),
            empty_looks: 0,
            failures: Failures::default(),
            sampler: Sampler::default(),
        }
    }

    fn queue(&self) -> &Queue {
        &self.netdev.queues[self.queue]
    }

    /// See [`Receiver::receive`](super::Receiver::receive). Frames stay where they are.
    pub fn receive(&mut self, _: &mut Arena, batch: &mut Batch) -> Received {
        // What a batch that was not released had: serving it failed.
        self.give_back();
        let queue = &self.netdev.queues[self.queue];
        batch.begin(&queue.memory);
        let received = queue.receiving().stage(&mut self.hint, &mut self.held, batch);
        if batch.count() + batch.rejected().len() > 0 {
            self.sampler.look(batch, &self.netdev.sightings);
            self.empty_looks = 0;
            self.failures.end();
            return received;
        }
        self.found_nothing(batch)
    }

    /// Now and then, looks whether there is a reason.
    fn found_nothing(&mut self, batch: &mut Batch) -> Received {
        self.empty_looks += 1;
        if self.empty_looks < EMPTY_LOOKS_MAX {
            return Received::Drained;
        }
        self.empty_looks = 0;
        match self.queue().socket.nudge() {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => {
                self.failures.end();
                Received::Drained
            }
            Err(Errno::NXIO) => Received::Lost,
            Err(_) => self.failures.note(batch),
        }
    }

    /// See [`Receiver::release`](super::Receiver::release).
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let queue = &self.netdev.queues[self.queue];
        let wakeup = queue.receiving().give_back(self.held.drain(..));
        if wakeup == Wakeup::Needed {
            // If it cannot now, it is asked again with the next frames.
            let _ = queue.socket.nudge();
        }
    }

    /// See [`Receiver::arm`](super::Receiver::arm): the socket is readable as long as
    /// frames wait, so waiting for it (level-triggered) is looking again.
    pub fn arm(&mut self) -> Armed {
        Armed::Asleep
    }

    /// See [`Receiver::disarm`](super::Receiver::disarm).
    pub fn disarm(&mut self) {}

    /// See [`Receiver::wake_fd`](super::Receiver::wake_fd).
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.queue().socket.as_fd()
    }
}

/// Whoever has the queue next is to have all of its frames.
impl Drop for XdpReceiver {
    fn drop(&mut self) {
        self.give_back();
    }
}
