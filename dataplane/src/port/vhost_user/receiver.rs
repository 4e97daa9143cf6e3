//! A driver's transmit queue, served by one worker.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::ring::Service;
use super::seats::{Incoming, Waker};
use crate::frame::Batch;
use crate::ledger::DropReason;
use crate::port::{Arena, Armed, Received};
use crate::sys::seat::Seat;
use crate::sys::virtqueue::{Doorbell, Moment};

/// The receive side of a queue pair: whatever ring lies at its seat, or none.
#[derive(Debug)]
pub struct VhostUserReceiver {
    seat: Seat<Incoming>,
    waker: Arc<Waker>,
}

impl VhostUserReceiver {
    pub(super) fn new(seat: Seat<Incoming>, waker: Arc<Waker>) -> VhostUserReceiver {
        VhostUserReceiver { seat, waker }
    }

    /// See [`Receiver::receive`](crate::port::Receiver::receive). The worker stays seated
    /// until [`VhostUserReceiver::release`] if there are frames.
    #[inline]
    pub fn receive(&mut self, _: &mut Arena, batch: &mut Batch) -> Received {
        let received = match self.seat.sit() {
            Some(incoming) => incoming.receive(batch),
            None => {
                batch.end();
                Received::Drained
            }
        };
        if batch.is_empty() {
            self.seat.rise();
        }
        received
    }

    /// See [`Receiver::release`](crate::port::Receiver::release). The batch lets go of the
    /// guest's memory here: once the worker has risen nothing of it is used any more.
    #[inline]
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
        self.seat.with(|incoming| {
            incoming.queue.release();
            incoming.settle(Moment::Busy);
        });
    }

    /// See [`Receiver::arm`](crate::port::Receiver::arm).
    pub fn arm(&mut self) -> Armed {
        self.waker.consume();
        self.seat.with(Incoming::arm).unwrap_or(Armed::Asleep)
    }

    /// See [`Receiver::disarm`](crate::port::Receiver::disarm).
    pub fn disarm(&mut self) {
        self.waker.consume();
        self.seat.with(|incoming| {
            incoming.queue.refuse_kicks();
            incoming.consume_kick();
        });
    }

    /// What becomes readable when the driver kicks, and when a ring comes.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

impl Incoming {
    #[inline]
    fn receive(&mut self, batch: &mut Batch) -> Received {
        if !self.queue.has_frames() {
            batch.end();
            self.settle(Moment::Idle);
            return Received::Drained;
        }
        let received = match self.queue.receive(batch) {
            // Control looks why, and takes the port out of service.
            Received::Failing => Received::Drained,
            received => received,
        };
        if let Some(fault) = self.queue.fault() {
            self.faults.note(fault);
        }
        if batch.is_empty() {
            // It was begun on the guest's memory: nobody would release it.
            batch.end();
        }
        if self.service == Service::Disabled {
            self.discard(batch);
        }
        received
    }

    /// What a driver sends on a ring that is started but disabled is drained.
    #[cold]
    fn discard(&mut self, batch: &mut Batch) {
        batch.reject_all(DropReason::QueueDisabled);
    }

    /// Tells the driver of what was given back, if it wants to hear of it.
    #[inline]
    fn settle(&mut self, moment: Moment) {
        if self.queue.doorbell(moment) == Doorbell::Wanted
            && let Some(call) = &self.call
        {
            call.signal();
        }
    }

    fn arm(&mut self) -> Armed {
        self.queue.flush();
        self.settle(Moment::Idle);
        self.consume_kick();
        // A driver that cannot kick is polled.
        match self.queue.want_kicks() || (self.kick.is_none() && self.queue.fault().is_none()) {
            true => Armed::FramesWaiting,
            false => Armed::Asleep,
        }
    }

    fn consume_kick(&self) {
        if let Some(kick) = &self.kick {
            kick.consume();
        }
    }
}
