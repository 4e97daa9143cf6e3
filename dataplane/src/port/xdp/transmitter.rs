//! What a queue of the netdev sends.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::queue::{Line, Netdev, Queue, Transmitting};
use super::{MTU_BYTES_MAX, PIECES_MAX};
use crate::ledger::DropReason;
use crate::port::{Departure, Rung};
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::xdp::{CONTINUED, Descriptor, FRAME_BYTES, Room};

const _: () = assert!(MTU_BYTES_MAX + 64 <= PIECES_MAX as u32 * FRAME_BYTES);

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
    /// [`DropReason::MtuExceeded`] for a frame that the kernel would lose,
    /// [`DropReason::RxRingFull`] when the budget is used up and nothing comes back, and
    /// [`DropReason::DeviceError`] as long as the netdev does not send.
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        let queue = &self.netdev.queues[self.queue];
        let mut transmitting = queue.transmitting();
        let line = transmitting.line(&queue.socket);
        transmitting.make_room(&queue.socket, departures.len());
        let mut sending =
            Sending { queue, longest: self.netdev.longest(), half: &mut transmitting };
        for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
            departure.fate = match line {
                Line::Up => sending.send(departure),
                Line::Down => Err(DropReason::DeviceError),
            };
        }
        transmitting.transmit.publish();
        self.bell = Bell::Due;
    }

    /// See [`Transmitter::room`](super::Transmitter::room).
    #[must_use]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        let queue = self.queue();
        let pieces = length.div_ceil(FRAME_BYTES as usize).max(1);
        let frames = queue.transmitting().make_room(&queue.socket, wanted * pieces);
        (frames / pieces).min(wanted)
    }

    /// See [`Transmitter::fits`](super::Transmitter::fits).
    pub fn fits(&self, length: usize) -> Result<(), DropReason> {
        match length <= self.netdev.longest() as usize {
            true => Ok(()),
            false => Err(DropReason::MtuExceeded),
        }
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

/// One call's frames on their way into the ring.
struct Sending<'q> {
    queue: &'q Queue,
    /// Bytes of the longest frame that the netdev takes.
    longest: u32,
    half: &'q mut Transmitting,
}

impl Sending<'_> {
    /// Copies a frame into one of ours, and puts it into the ring. This is the one copy.
    #[inline]
    fn send(&mut self, departure: &Departure<'_>) -> Result<(), DropReason> {
        let length = departure.length();
        if length > self.longest.min(FRAME_BYTES) as usize {
            return self.send_pieces(departure);
        }
        let length = length as u32;
        let Transmitting { transmit, budget, hint, .. } = &mut *self.half;
        let address = budget.take().ok_or(DropReason::RxRingFull)?;
        let place = self.queue.memory.place(hint, address, length);
        let place = place.ok_or(DropReason::DeviceError)?;
        let (head, rest) = place.split(departure.header.len());
        head.write(departure.header);
        departure.body.copy_to(rest);
        let descriptor = Descriptor { address, length, options: 0 };
        transmit.push(descriptor).map_err(|_| {
            budget.give_back(address);
            DropReason::RxRingFull
        })
    }

    /// The same for a frame that is longer than one of ours: into several, all of it or
    /// nothing.
    #[cold]
    fn send_pieces(&mut self, departure: &Departure<'_>) -> Result<(), DropReason> {
        let length = departure.length();
        if length > self.longest as usize {
            return Err(DropReason::MtuExceeded);
        }
        let descriptors = self.take(length as u32)?;
        let half = &mut *self.half;
        if write(&self.queue.memory, &mut half.hint, &descriptors, departure).is_none() {
            descriptors.iter().for_each(|piece| half.budget.give_back(piece.address));
            return Err(DropReason::DeviceError);
        }
        for descriptor in descriptors {
            // There was room for all of them.
            let _ = half.transmit.push(descriptor);
        }
        Ok(())
    }

    /// As many frames of ours as so many bytes need.
    fn take(&mut self, length: u32) -> Result<ArrayVec<Descriptor, PIECES_MAX>, DropReason> {
        let half = &mut *self.half;
        let count = length.div_ceil(FRAME_BYTES);
        if half.budget.count() < count as usize {
            half.transmit.publish();
            half.make_room(&self.queue.socket, count as usize);
        }
        if half.budget.count() < count as usize || half.transmit.room(count) == Room::Short {
            return Err(DropReason::RxRingFull);
        }
        let mut left = length;
        let piece = std::iter::from_fn(|| {
            let length = left.min(FRAME_BYTES);
            let address = if length > 0 { half.budget.take() } else { None }?;
            left -= length;
            let options = if left > 0 { CONTINUED } else { 0 };
            Some(Descriptor { address, length, options })
        });
        Ok(piece.take(PIECES_MAX).collect())
    }
}

/// Copies a frame into these pieces. This is its one copy.
fn write(
    memory: &Memory,
    hint: &mut RegionHint,
    pieces: &[Descriptor],
    departure: &Departure<'_>,
) -> Option<()> {
    let (mut header, mut done) = (departure.header, 0);
    for piece in pieces {
        let place = memory.place(hint, piece.address, piece.length)?;
        let (head, rest) = place.split(header.len());
        header = &header[head.write(header)..];
        done += departure.body.slice(done, rest.length()).copy_to(rest);
    }
    Some(())
}
