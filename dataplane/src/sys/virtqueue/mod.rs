//! Virtqueues (virtio 1.2, 2.6 to 2.8), the device's half: [`split`] and [`packed`].
//!
//! A [`Source`] is a queue that the driver fills with frames (its transmit queue), a
//! [`Sink`] one that it fills with empty buffers (its receive queue). Both pin the
//! memory that rings and buffers lie in. Ring addresses are translated once, buffer
//! addresses at each use; every value of the driver's is read once, as one word where
//! it is believed as one.
//!
//! A source's chain and a sink's buffer may each lie in a table that a descriptor names
//! ([`Indirect`]); both halves may say at which place of the ring they want to be woken
//! ([`Wishes`]).
//!
//! What the driver can do wrong is either a chain that is unusable, which costs that
//! frame ([`Chain::Unusable`]), or a ring in which nothing can be found any more,
//! which ends its use ([`RingFault`]).
//!
//! [`driver`] is the driver's half, for tests and the measuring programs.

mod area;
mod bell;
pub mod driver;
mod indirect;
pub mod packed;
mod sink;
pub mod split;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use super::memory::Piece;
use super::memory::{Body, Memory};

/// Frames taken at a time, and used entries published at a time.
pub const BURST: usize = 64;
/// Descriptors in a chain.
pub const CHAIN_DESCRIPTORS: usize = 256;
/// Bytes of the virtio-net header as negotiated here (5.1.6.1, with `num_buffers`).
pub const PREFIX_BYTES: usize = 12;
/// Entries of a split ring, and of a packed one (2.7, 2.8.10.1).
pub const SIZE_MAX: u16 = 32768;

/// `VIRTQ_DESC_F_NEXT`: the chain goes on.
pub(crate) const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the buffer is the device's to write.
pub(crate) const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`: the descriptor names a table of descriptors.
pub(crate) const INDIRECT: u16 = 4;

/// Where a queue lies, in the addresses that buffers have too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Entries.
    pub size: u16,
    /// The descriptor table, or the packed descriptor ring.
    pub descriptors: u64,
    /// What the driver writes: the available ring, or its event suppression.
    pub driver: u64,
    /// What the device writes: the used ring, or its event suppression.
    pub device: u64,
}

/// Why a queue cannot be where a layout says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// The size is 0, beyond [`SIZE_MAX`], or (split) not a power of two.
    Size(u16),
    /// No region holds the area that begins here.
    Unmapped(u64),
    /// The area that begins here is not aligned as 2.7 and 2.8.10.1 demand.
    Misaligned(u64),
    /// The position to start at is outside the ring.
    Position,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Size(size) => {
                write!(f, "ring size {size}: 1 to {SIZE_MAX}, a power of two for split rings")
            }
            LayoutError::Unmapped(at) => write!(f, "ring address {at:#x}: in no memory region"),
            LayoutError::Misaligned(at) => {
                write!(f, "ring address {at:#x}: not aligned to its area")
            }
            LayoutError::Position => write!(f, "ring position: outside the ring"),
        }
    }
}

impl std::error::Error for LayoutError {}

/// The order in which buffers are given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Each by its own used entry.
    Any,
    /// In that in which they were made available (`VIRTIO_F_IN_ORDER`): one used entry
    /// gives back all before it.
    InOrder,
}

/// Whether a frame may be spread over several receive buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// One buffer, one frame.
    Single,
    /// As many as the frame needs (`VIRTIO_NET_F_MRG_RXBUF`).
    Mergeable,
}

/// Whether a descriptor may name a table of descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indirect {
    /// It may not.
    Refused,
    /// It may (`VIRTIO_F_INDIRECT_DESC`).
    Allowed,
}

/// How the two halves say when they want to be woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wishes {
    /// By a flag: always or never.
    Flags,
    /// By the place in the ring at which to (`VIRTIO_F_EVENT_IDX`).
    EventIndex,
}

/// The virtio-net header before a frame for the driver, but for `num_buffers`, which is
/// the ring's to say: its first 10 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetHeader {
    front: u64,
    back: u16,
}

impl NetHeader {
    /// That of a complete frame: zeros.
    pub const COMPLETE: NetHeader = NetHeader { front: 0, back: 0 };

    /// All its bytes.
    fn bytes(self, buffers: u16) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..8].copy_from_slice(&self.front.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.back.to_le_bytes());
        bytes[10..].copy_from_slice(&buffers.to_le_bytes());
        bytes
    }
}

impl From<[u8; 10]> for NetHeader {
    fn from(bytes: [u8; 10]) -> NetHeader {
        let [front @ .., a, b] = bytes;
        NetHeader { front: u64::from_le_bytes(front), back: u16::from_le_bytes([a, b]) }
    }
}

/// What is found at the head of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chain<'c> {
    /// A frame in these pieces, not yet translated.
    Pieces(&'c [Piece]),
    /// Something that is no frame; it is given back like one.
    Unusable(ChainFault),
}

/// Why a chain is no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainFault {
    /// More than [`CHAIN_DESCRIPTORS`] descriptors, or a loop of them.
    TooLong,
    /// A descriptor of a kind that was not negotiated or that must not stand there, the
    /// device's to write, or one that names a table in no region.
    Descriptor,
}

/// Why a ring cannot be used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingFault {
    /// More buffers were made available than the ring has.
    Overrun,
    /// A descriptor index is outside the table.
    Index,
    /// A chain does not end within the ring.
    Endless,
    /// A receive buffer is not the device's to write, in no region, or of a kind that
    /// was not negotiated.
    Buffer,
    /// The memory that it lies in was cut short ([`Memory::is_poisoned`]). No queue finds
    /// that itself: what was cut off reads as zeros.
    Memory,
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingFault::Overrun => "its driver made more buffers available than it has entries",
            RingFault::Index => "its driver named a descriptor beyond its table",
            RingFault::Endless => "its driver made a chain of descriptors that does not end",
            RingFault::Buffer => {
                "its driver made a receive buffer available that is read-only, in no memory \
                 region, or of a kind that was not negotiated"
            }
            RingFault::Memory => "the file of the memory that it lies in was cut short",
        })
    }
}

/// Why a frame did not go into a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The driver has no (or too little) room for it now.
    NoBuffer,
    /// It would not fit into a buffer of this driver's.
    TooSmall,
    /// The ring is broken.
    Broken(RingFault),
}

/// A queue's position, for whoever serves it next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The next entry to take: an index, in packed rings with the wrap counter in bit 15.
    pub available: u16,
    /// Where the next used entry goes, likewise.
    pub used: u16,
}

/// Whether the other side wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doorbell {
    /// It does.
    Wanted,
    /// It polls.
    Silent,
}

/// When a doorbell is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Between bursts: a wish may be missed, and is found at the next idle moment.
    Busy,
    /// Without frames: no wish is missed. To be reached within a bounded time.
    Idle,
}

/// What is done with the chains of a source. Breaking ends the visit behind this one.
pub trait Visit {
    /// A frame in one piece: nearly all are, so this is what has to be fast.
    fn piece(&mut self, piece: Piece) -> ControlFlow<()>;

    /// Any other chain.
    fn chain(&mut self, chain: Chain<'_>) -> ControlFlow<()>;
}

/// A queue of frames from the driver.
pub trait Source {
    /// Visits up to `limit` chains (and [`BURST`]), in order, until told to stop. They
    /// stay the device's until [`Source::give_back`]; says how many were visited.
    ///
    /// # Errors
    /// [`RingFault`] if the driver broke the ring; what was visited before stays valid.
    fn take(&mut self, limit: usize, visitor: impl Visit) -> Result<usize, RingFault>;

    /// Gives all visited chains back to the driver. They are not the device's any more;
    /// a ring may show it to the driver later: with the next bursts, after a number of
    /// breaths ([`Source::doorbell`]), or by [`Source::flush`].
    fn give_back(&mut self);

    /// Shows the driver all that was given back: to be called before sleeping.
    fn flush(&mut self);

    /// Whether the driver wants to hear of what was given back; to be asked once a breath.
    fn doorbell(&mut self, moment: Moment) -> Doorbell;

    /// Whether chains wait: a look at the ring that changes nothing. A ring that is
    /// broken may say so too.
    fn has_frames(&self) -> bool;

    /// Asks the driver to kick with the next chain, then says whether chains wait now:
    /// the driver saw the wish, or its chains are seen here.
    fn want_kicks(&mut self) -> bool;

    /// Tells the driver that it need not kick. With [`Wishes::EventIndex`] a split ring's
    /// driver still does once in 65,536 chains.
    fn refuse_kicks(&mut self);

    /// Where it stands, once all that was given back is shown. Chains that were not
    /// given back count as not taken.
    fn position(&mut self) -> Position;
}

/// A queue of empty buffers from the driver.
pub trait Sink {
    /// Copies a frame into the next buffers: the virtio-net header with its
    /// `num_buffers`, the frame's header, the body. The driver sees it after
    /// [`Sink::publish`].
    ///
    /// # Errors
    /// [`Refusal`]; the ring is then as before.
    fn offer(&mut self, net: NetHeader, header: &[u8], body: Body<'_>) -> Result<(), Refusal>;

    /// Shows the driver all frames offered so far.
    fn publish(&mut self);

    /// Finds the next buffers and brings them near, before they are needed.
    fn look_ahead(&mut self);

    /// Brings the buffer near that a frame of `length` bytes will go into after `ahead`
    /// other ones: a hint.
    fn prefetch(&self, ahead: usize, length: usize);

    /// How many frames of up to `length` bytes there is room for now, `wanted` at most.
    /// Looks for buffers as far as it can note them.
    fn room(&mut self, wanted: usize, length: usize) -> usize;

    /// Uses the next buffer without writing to it, as a frame of this many bytes: what
    /// a generator can do at most.
    ///
    /// # Errors
    /// [`Refusal`]; the ring is then as before.
    fn recycle(&mut self, length: u32) -> Result<(), Refusal>;

    /// Whether the driver wants to hear of what was published.
    fn doorbell(&mut self, moment: Moment) -> Doorbell;

    /// How the driver broke the ring, if it did. Buffers found before are still used.
    fn fault(&self) -> Option<RingFault>;

    /// Where it stands. Buffers found ahead count as not taken.
    fn position(&self) -> Position;
}

/// What all queues are opened with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The memory rings and buffers lie in.
    pub memory: Arc<Memory>,
    /// The ring.
    pub layout: Layout,
    /// Where to start.
    pub position: Position,
    /// In which order buffers go back.
    pub order: Order,
    /// Whether receive buffers may be merged.
    pub merge: Merge,
    /// Whether descriptors may be indirect.
    pub indirect: Indirect,
    /// How wake-ups are asked for.
    pub wishes: Wishes,
}

/// Chains taken and not yet given back.
#[derive(Debug)]
struct Taken {
    order: Order,
    chains: Box<[(u16, u16); BURST]>,
    count: usize,
    descriptors: u16,
}

impl Taken {
    fn new(order: Order) -> Taken {
        Taken { order, chains: Box::new([(0, 0); BURST]), count: 0, descriptors: 0 }
    }

    /// Notes a chain by its id and the descriptors it has.
    #[inline(always)]
    fn push(&mut self, id: u16, descriptors: u16) {
        if let Some(chain) = self.chains.get_mut(self.count) {
            *chain = (id, descriptors);
            self.count += 1;
            self.descriptors = self.descriptors.wrapping_add(descriptors);
        }
    }

    fn room(&self) -> usize {
        BURST - self.count
    }

    /// The entries to be written for them: (id, descriptors given back by it).
    #[inline]
    fn entries(&self) -> &[(u16, u16)] {
        &self.chains[..self.count]
    }

    fn clear(&mut self) {
        (self.count, self.descriptors) = (0, 0);
    }
}
