//! A driver's receive queue, served by one worker or several in turn.

use super::seats::Outgoing;
use crate::ledger::DropReason;
use crate::port::{Departure, Rung};
use crate::sys::seat::Seat;
use crate::sys::virtqueue::{Doorbell, Moment};
use crate::wire::offload::{Capabilities, Lack};

/// The transmit side of a queue pair: whatever ring lies at its seat, or none.
#[derive(Debug)]
pub struct VhostUserTransmitter {
    seat: Seat<Outgoing>,
    news: News,
}

/// Whether the driver's wish was read since frames were transmitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// There are none: it was read so that none was missed.
    None,
    /// It was read between bursts, which may miss one.
    Told,
    /// It was not.
    Fresh,
}

impl VhostUserTransmitter {
    pub(super) fn new(seat: Seat<Outgoing>) -> VhostUserTransmitter {
        VhostUserTransmitter { seat, news: News::None }
    }

    /// What the driver takes of frames that are not complete, as it is now.
    #[inline]
    pub fn accepts(&mut self) -> Capabilities {
        let accepts = self.seat.sit().map_or(Capabilities::NONE, |outgoing| outgoing.accepts);
        self.seat.rise();
        accepts
    }

    /// See [`Transmitter::transmit`](crate::port::Transmitter::transmit).
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        match self.seat.sit() {
            Some(outgoing) => {
                outgoing.transmit(departures);
                self.news = News::Fresh;
            }
            None => departures.iter_mut().for_each(lose),
        }
        self.seat.rise();
    }

    /// See [`Transmitter::room`](crate::port::Transmitter::room).
    #[inline]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        let room = self.seat.sit().map_or(wanted, |outgoing| outgoing.queue.room(wanted, length));
        self.seat.rise();
        room
    }

    /// See [`Transmitter::ring`](crate::port::Transmitter::ring). Until a breath without
    /// frames for it the doorbell stays due, as a wish may have been missed.
    #[inline]
    pub fn ring(&mut self) -> Rung {
        let moment = match self.news {
            News::None => return Rung::Heard,
            News::Told => Moment::Idle,
            News::Fresh => Moment::Busy,
        };
        let doorbell = match self.seat.sit() {
            Some(outgoing) => outgoing.ring(moment),
            None => Doorbell::Wanted,
        };
        self.seat.rise();
        self.news = match (moment, doorbell) {
            (Moment::Busy, Doorbell::Silent) => News::Told,
            (Moment::Idle, _) | (Moment::Busy, Doorbell::Wanted) => News::None,
        };
        if self.news == News::None { Rung::Heard } else { Rung::Again }
    }
}

impl Outgoing {
    #[inline]
    fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        if self.accepts != Capabilities::ALL {
            // Its driver may be another than the one these were made for.
            let lacks = |it: &&mut Departure<'_>| self.accepts.lack(&it.offload) != Lack::Nothing;
            departures.iter_mut().filter(lacks).for_each(lose);
        }
        self.queue.transmit(departures);
        if let Some(fault) = self.queue.fault() {
            self.faults.note(fault);
        }
    }

    #[inline]
    fn ring(&mut self, moment: Moment) -> Doorbell {
        let doorbell = self.queue.doorbell(moment);
        if doorbell == Doorbell::Wanted
            && let Some(call) = &self.call
        {
            call.signal();
        }
        doorbell
    }
}

fn lose(departure: &mut Departure<'_>) {
    if departure.fate.is_ok() {
        departure.fate = Err(DropReason::PortDown);
    }
}
