//! A driver's receive queue, served by one worker or several in turn.

use super::ring::Service;
use super::seats::Outgoing;
use crate::ledger::DropReason;
use crate::port::{Departure, Rung};
use crate::sys::seat::Seat;
use crate::sys::virtqueue::{Doorbell, Moment};
use crate::wire::offload::{Capabilities, Checksum, Lack, Support};

/// The transmit side of a queue pair: whatever ring lies at its seat, or none.
#[derive(Debug)]
pub struct VhostUserTransmitter {
    seat: Seat<Outgoing>,
    /// What its driver takes, as was last told: frames are made for that.
    told: Capabilities,
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
        // As is told of a device before it has a driver.
        VhostUserTransmitter { seat, told: Capabilities::ALL, news: News::None }
    }

    /// What the driver takes of frames that are not complete, as it is now.
    #[inline]
    pub fn accepts(&mut self) -> Capabilities {
        let accepts = self.seat.with(|outgoing| outgoing.accepts);
        self.told = accepts.unwrap_or(Capabilities::NONE);
        self.told
    }

    /// See [`Transmitter::transmit`](crate::port::Transmitter::transmit).
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        let VhostUserTransmitter { seat, told, news } = self;
        match seat.with(|outgoing| outgoing.transmit(departures, *told)) {
            Some(()) => *news = News::Fresh,
            None => departures.iter_mut().for_each(lose),
        }
    }

    /// See [`Transmitter::room`](crate::port::Transmitter::room).
    #[inline]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        self.seat.with(|outgoing| outgoing.room(wanted, length)).unwrap_or(wanted)
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
        let doorbell = self.seat.with(|outgoing| outgoing.ring(moment));
        self.news = match (moment, doorbell) {
            (Moment::Busy, Some(Doorbell::Silent)) => News::Told,
            (Moment::Idle, _) | (Moment::Busy, Some(Doorbell::Wanted) | None) => News::None,
        };
        if self.news == News::None { Rung::Heard } else { Rung::Again }
    }
}

impl Outgoing {
    /// Transmits frames that were made for a driver that takes what was `told`.
    #[inline]
    fn transmit(&mut self, departures: &mut [Departure<'_>], told: Capabilities) {
        if self.service == Service::Disabled {
            return departures.iter_mut().for_each(lose);
        }
        if self.accepts != told {
            self.reconsider(departures);
        }
        self.queue.transmit(departures);
        self.note_fault();
    }

    /// The driver is another than the one that these frames were made for.
    #[cold]
    fn reconsider(&self, departures: &mut [Departure<'_>]) {
        for departure in departures {
            let offload = &mut departure.offload;
            if self.accepts.lack(offload) != Lack::Nothing {
                lose(departure);
            } else if self.accepts.checksum == Support::Lacking {
                // All that is left that it must not be told (virtio 1.2, 5.1.6.4.1).
                offload.checksum = Checksum::Unknown;
            }
        }
    }

    #[inline]
    fn room(&mut self, wanted: usize, length: usize) -> usize {
        if self.service == Service::Disabled {
            // What is handed over then is lost by its own reason.
            return wanted;
        }
        let room = self.queue.room(wanted, length);
        self.note_fault();
        room
    }

    #[inline]
    fn note_fault(&self) {
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
