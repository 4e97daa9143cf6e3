//! What a queue of the netdev sends.

use std::sync::Arc;

use super::queue::{Line, Netdev, Queue, Transmitting};
use crate::ledger::DropReason;
use crate::port::{Departure, Rung};
use crate::sys::memory::Memory;
use crate::sys::xdp::{Descriptor, FRAME_BYTES};

/// The sending end of one queue.
#[derive(Debug)]
pub struct XdpTransmitter {
    netdev: Arc<Netdev>,
    queue: usize,
    bell: Bell,
}

/// Whether something was transmitted since the bell was rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bell {
    Still,
    Due,
}

impl XdpTransmitter {
    pub(super) fn new(netdev: Arc<Netdev>, queue: usize) -> XdpTransmitter {
        XdpTransmitter { netdev, queue, bell: Bell::Still }
    }

    fn queue(&self) -> &Queue {
        &self.netdev.queues[self.queue]
    }

    /// See [`Transmitter::transmit`](super::Transmitter::transmit). Fates are
    /// [`DropReason::RxRingFull`] when the budget is used up and nothing comes back, and
    /// [`DropReason::DeviceError`] as long as the netdev does not send.
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        let queue = &self.netdev.queues[self.queue];
        let mut transmitting = queue.transmitting();
        let line = transmitting.line(&queue.socket);
        transmitting.make_room(&queue.socket, departures.len());
        for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
            departure.fate = match line {
                Line::Up => send(&mut transmitting, &queue.memory, departure),
                Line::Down => Err(DropReason::DeviceError),
            };
        }
        transmitting.transmit.publish();
        self.bell = Bell::Due;
    }

    /// See [`Transmitter::room`](super::Transmitter::room).
    #[must_use]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        if length > FRAME_BYTES as usize {
            return 0;
        }
        let queue = self.queue();
        queue.transmitting().make_room(&queue.socket, wanted).min(wanted)
    }

    /// See [`Transmitter::ring`](super::Transmitter::ring).
    pub fn ring(&mut self) -> Rung {
        if self.bell == Bell::Still {
            return Rung::Heard;
        }
        let queue = self.queue();
        let rung = queue.transmitting().kick(&queue.socket);
        if rung == Rung::Heard {
            self.bell = Bell::Still;
        }
        rung
    }
}

/// Copies a frame into one of ours, and puts it into the ring. This is the one copy.
#[inline]
fn send(
    transmitting: &mut Transmitting,
    memory: &Memory,
    departure: &Departure<'_>,
) -> Result<(), DropReason> {
    let length = departure.length();
    if length > FRAME_BYTES as usize {
        return Err(DropReason::MtuExceeded);
    }
    let length = length as u32;
    let address = transmitting.budget.take().ok_or(DropReason::RxRingFull)?;
    let place = memory.place(&mut transmitting.hint, address, length);
    let place = place.ok_or(DropReason::DeviceError)?;
    let (head, rest) = place.split(departure.header.len());
    head.write(departure.header);
    departure.body.copy_to(rest);
    let descriptor = Descriptor { address, length, options: 0 };
    transmitting.transmit.push(descriptor).map_err(|_| {
        transmitting.budget.give_back(address);
        DropReason::RxRingFull
    })
}
