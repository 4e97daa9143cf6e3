//! The two directions of a vhost-user queue pair: a driver's transmit queue as
//! frames, and frames into its receive queue.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::frame::{BATCH_FRAMES, Batch, Prefix, Room};
use crate::ledger::DropReason;
use crate::port::{Departure, Received};
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::virtqueue::{
    Chain, ChainFault, Doorbell, LayoutError, Moment, NetHeader, Piece, Position, Refusal,
    RingFault, Sink, Source, Terms, Visit, packed, split,
};
use crate::wire::offload::Offload;
use crate::wire::virtio_net;

/// How a device's rings are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingKind {
    /// Descriptor table, available and used ring.
    Split,
    /// One ring (`VIRTIO_F_RING_PACKED`).
    Packed,
}

/// Whether the virtio-net headers that a driver sends may say anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetHeaders {
    /// They may: each is read.
    Read,
    /// No offload was negotiated, so they are zeros (5.1.6.2.1): none is looked at, which
    /// spares a cache line a frame where the driver lays it on one of its own.
    Ignored,
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
    headers: NetHeaders,
    fault: Option<RingFault>,
}

impl QueueReceiver {
    /// Opens the queue, tells the driver that it need not kick, and reads virtio-net
    /// headers.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(kind: RingKind, terms: &Terms) -> Result<QueueReceiver, LayoutError> {
        let queue = match kind {
            RingKind::Split => FromDriver::Split(split::Source::open(terms)?),
            RingKind::Packed => FromDriver::Packed(packed::Source::open(terms)?),
        };
        let memory = Arc::clone(&terms.memory);
        let (hint, headers) = (RegionHint::default(), NetHeaders::Read);
        Ok(QueueReceiver { queue, memory, hint, headers, fault: None })
    }

    /// Sets whether the frames' virtio-net headers are read.
    pub fn set_headers(&mut self, headers: NetHeaders) {
        self.headers = headers;
    }

    /// Fills the batch (begun here) with views of the frames that wait. They stay the
    /// driver's until [`QueueReceiver::release`]. A ring that the driver broke gives what
    /// was found before, and afterwards is [`Received::Failing`] and not touched any more:
    /// [`QueueReceiver::fault`].
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Received {
        batch.begin(&self.memory);
        if self.fault.is_some() {
            return Received::Failing;
        }
        let QueueReceiver { queue, hint, headers, .. } = self;
        let staging = Staging { hint, headers: *headers, batch: &mut *batch };
        let taken = each_ring!(FromDriver, queue, source => source.take(BATCH_FRAMES, staging));
        batch.settle();
        match taken {
            Err(fault) => self.fail(fault, batch),
            Ok(_) if batch.room() == Room::Full => Received::More,
            Ok(_) => Received::Drained,
        }
    }

    /// Notes that the ring is broken; says so when there is nothing else to say.
    #[cold]
    fn fail(&mut self, fault: RingFault, batch: &Batch) -> Received {
        self.fault = Some(fault);
        match batch.count() + batch.rejected().len() {
            0 => Received::Failing,
            _ => Received::More,
        }
    }

    /// How the driver broke the ring, if it did.
    #[must_use]
    pub fn fault(&self) -> Option<RingFault> {
        self.fault
    }

    /// Whether [`QueueReceiver::receive`] would find something, be it a fault: a look that
    /// changes nothing.
    #[inline]
    #[must_use]
    pub fn has_frames(&self) -> bool {
        self.fault.is_none() && each_ring!(FromDriver, &self.queue, source => source.has_frames())
    }

    /// Asks the driver to kick with its next frame, then says whether frames wait now: one
    /// that was sent meanwhile without a kick is seen here. To be called after
    /// [`QueueReceiver::flush`] and the doorbell, before sleeping.
    #[must_use]
    pub fn want_kicks(&mut self) -> bool {
        let waiting = each_ring!(FromDriver, &mut self.queue, source => source.want_kicks());
        waiting && self.fault.is_none()
    }

    /// Tells the driver that it need not kick.
    pub fn refuse_kicks(&mut self) {
        each_ring!(FromDriver, &mut self.queue, source => source.refuse_kicks());
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
    headers: NetHeaders,
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
        match self.headers {
            NetHeaders::Read => self.batch.stage_piece(self.hint, piece, Prefix::VirtioNet),
            NetHeaders::Ignored => self.batch.stage_piece(self.hint, piece, Prefix::Ignored),
        }
        self.flow()
    }

    #[inline(never)]
    fn chain(&mut self, chain: Chain<'_>) -> ControlFlow<()> {
        let prefix = match self.headers {
            NetHeaders::Read => Prefix::VirtioNet,
            NetHeaders::Ignored => Prefix::Ignored,
        };
        match chain {
            Chain::Pieces(pieces) => self.batch.stage(self.hint, pieces, prefix),
            Chain::Unusable(ChainFault::TooLong) => self.batch.reject(DropReason::TooManySegments),
            Chain::Unusable(ChainFault::Descriptor) => self.batch.reject(DropReason::BadAddress),
        }
        self.flow()
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

    /// How the driver broke the ring, if it did. Buffers found before are still used.
    #[must_use]
    pub fn fault(&self) -> Option<RingFault> {
        each_ring!(ToDriver, &self.queue, sink => sink.fault())
    }

    /// Copies these frames into the driver's buffers, in order, each behind a virtio-net
    /// header that says what is left to do on it, which is to be no more than the driver
    /// takes, and shows them at once. Frames whose `fate` is an error already are passed over.
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        each_ring!(ToDriver, &mut self.queue, sink => transmit(sink, departures));
    }

    /// How many frames of up to `length` bytes there is room for now, `wanted` at most.
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        each_ring!(ToDriver, &mut self.queue, sink => sink.room(wanted, length))
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
            let net = match departure.offload {
                Offload::NONE => NetHeader::COMPLETE,
                offload => net_header(&offload, departure.header),
            };
            if let Err(refusal) = sink.offer(net, departure.header, departure.body) {
                departure.fate = Err(refusal.into());
            }
        }
    }
    sink.publish();
}

/// The header of a frame that is not complete, or whose checksum was verified.
#[inline(never)]
fn net_header(offload: &Offload, first: &[u8]) -> NetHeader {
    NetHeader::from(virtio_net::encode_legacy(offload, first))
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

#[cfg(test)]
mod tests;
