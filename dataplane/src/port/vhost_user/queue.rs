//! The two directions of a vhost-user queue pair: a driver's transmit queue as
//! frames, and frames into its receive queue.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::frame::{BATCH_FRAMES, Batch, Room};
use crate::ledger::DropReason;
use crate::port::{Departure, Received};
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::virtqueue::{
    Chain, ChainFault, Doorbell, LayoutError, Moment, PREFIX_BYTES, Piece, Position, Refusal, Sink,
    Source, Terms, Visit, packed, split,
};

/// How a device's rings are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingKind {
    /// Descriptor table, available and used ring.
    Split,
    /// One ring (`VIRTIO_F_RING_PACKED`).
    Packed,
}

#[derive(Debug)]
enum FromDriver {
    Split(split::Source),
    Packed(packed::Source),
}

#[derive(Debug)]
enum ToDriver {
    Split(split::Sink),
    Packed(packed::Sink),
}

macro_rules! each_ring {
    ($kind:ident, $queue:expr, $ring:ident => $body:expr) => {
        match $queue {
            $kind::Split($ring) => $body,
            $kind::Packed($ring) => $body,
        }
    };
}

/// The driver's transmit queue.
#[derive(Debug)]
pub struct QueueReceiver {
    queue: FromDriver,
    memory: Arc<Memory>,
    hint: RegionHint,
}

impl QueueReceiver {
    /// Opens the queue.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(kind: RingKind, terms: &Terms) -> Result<QueueReceiver, LayoutError> {
        let queue = match kind {
            RingKind::Split => FromDriver::Split(split::Source::open(terms)?),
            RingKind::Packed => FromDriver::Packed(packed::Source::open(terms)?),
        };
        let memory = Arc::clone(&terms.memory);
        Ok(QueueReceiver { queue, memory, hint: RegionHint::default() })
    }

    /// Fills the batch (begun here) with views of the frames that wait. They stay the
    /// driver's until [`QueueReceiver::release`].
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Received {
        batch.begin(&self.memory);
        let hint = &mut self.hint;
        let received =
            each_ring!(FromDriver, &mut self.queue, source => stage(source, hint, batch));
        batch.settle();
        received
    }

    /// Gives the frames of the last [`QueueReceiver::receive`] back to the driver, which
    /// may see it one burst, or some breaths, later.
    #[inline]
    pub fn release(&mut self) {
        each_ring!(FromDriver, &mut self.queue, source => source.give_back());
    }

    /// Whether the driver wants to hear of what was released.
    #[inline]
    pub fn doorbell(&mut self, moment: Moment) -> Doorbell {
        each_ring!(FromDriver, &mut self.queue, source => source.doorbell(moment))
    }

    /// Shows the driver all that was released: to be called before sleeping.
    pub fn flush(&mut self) {
        each_ring!(FromDriver, &mut self.queue, source => source.flush());
    }

    /// Where the queue stands.
    #[must_use]
    pub fn position(&mut self) -> Position {
        each_ring!(FromDriver, &mut self.queue, source => source.position())
    }
}

/// A batch that takes what a source has.
struct Staging<'a> {
    hint: &'a mut RegionHint,
    batch: &'a mut Batch,
}

impl Staging<'_> {
    #[inline(always)]
    fn flow(&self) -> ControlFlow<()> {
        match self.batch.room() {
            Room::More => ControlFlow::Continue(()),
            Room::Full => ControlFlow::Break(()),
        }
    }
}

impl Visit for Staging<'_> {
    #[inline(always)]
    fn piece(&mut self, piece: Piece) -> ControlFlow<()> {
        self.batch.stage_piece(self.hint, piece, PREFIX_BYTES as u16);
        self.flow()
    }

    #[cold]
    fn chain(&mut self, chain: Chain<'_>) -> ControlFlow<()> {
        match chain {
            Chain::Pieces(pieces) => self.batch.stage(self.hint, pieces, PREFIX_BYTES as u16),
            Chain::Unusable(ChainFault::TooLong) => self.batch.reject(DropReason::TooManySegments),
            Chain::Unusable(ChainFault::Descriptor) => self.batch.reject(DropReason::BadAddress),
        }
        self.flow()
    }
}

/// Stages the frames that wait in a batch.
#[inline]
fn stage(source: &mut impl Source, hint: &mut RegionHint, batch: &mut Batch) -> Received {
    let taken = source.take(BATCH_FRAMES, Staging { hint, batch: &mut *batch });
    match taken {
        Err(_) => Received::Lost,
        Ok(_) if batch.room() == Room::Full => Received::More,
        Ok(_) => Received::Drained,
    }
}

/// The driver's receive queue.
#[derive(Debug)]
pub struct QueueTransmitter {
    queue: ToDriver,
}

impl QueueTransmitter {
    /// Opens the queue.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(kind: RingKind, terms: &Terms) -> Result<QueueTransmitter, LayoutError> {
        let queue = match kind {
            RingKind::Split => ToDriver::Split(split::Sink::open(terms)?),
            RingKind::Packed => ToDriver::Packed(packed::Sink::open(terms)?),
        };
        Ok(QueueTransmitter { queue })
    }

    /// Copies these frames into the driver's buffers, in order, and shows them at once.
    /// Frames whose `fate` is an error already are passed over.
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        each_ring!(ToDriver, &mut self.queue, sink => transmit(sink, departures));
    }

    /// Finds the buffers for the next frames and brings them near.
    #[inline]
    pub fn look_ahead(&mut self) {
        each_ring!(ToDriver, &mut self.queue, sink => sink.look_ahead());
    }

    /// Shows the driver `count` frames of `length` bytes without writing them: what a
    /// generator can do at most. Says how many.
    pub fn recycle(&mut self, count: usize, length: u32) -> usize {
        each_ring!(ToDriver, &mut self.queue, sink => recycle(sink, count, length))
    }

    /// Whether the driver wants to hear of what was transmitted.
    #[inline]
    pub fn doorbell(&mut self, moment: Moment) -> Doorbell {
        each_ring!(ToDriver, &mut self.queue, sink => sink.doorbell(moment))
    }

    /// Where the queue stands.
    #[must_use]
    pub fn position(&self) -> Position {
        each_ring!(ToDriver, &self.queue, sink => sink.position())
    }
}

/// Copies the departures into the sink, each one's body brought near while the one
/// before it is copied.
#[inline]
fn transmit(sink: &mut impl Sink, departures: &mut [Departure<'_>]) {
    sink.look_ahead();
    for index in 0..departures.len() {
        if let Some(next) = departures.get(index + 1)
            && next.body.length() > 0
        {
            next.body.prefetch();
            sink.prefetch(1, next.length());
        }
        let departure = &mut departures[index];
        if departure.fate.is_ok() {
            departure.fate = sink.offer(departure.header, departure.body).map_err(DropReason::from);
        }
    }
    sink.publish();
}

fn recycle(sink: &mut impl Sink, count: usize, length: u32) -> usize {
    sink.look_ahead();
    let done = (0..count).take_while(|_| sink.recycle(length).is_ok()).count();
    sink.publish();
    done
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> DropReason {
        match refusal {
            Refusal::NoBuffer | Refusal::TooSmall => DropReason::RxRingFull,
            Refusal::Broken(_) => DropReason::DeviceError,
        }
    }
}
