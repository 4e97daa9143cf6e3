//! A ring of frames from one thread to another: descriptors in a
//! [`spsc`] ring, bytes in a [`Memory`] beside it.
//!
//! The bytes of a frame are one piece, or several with gaps between them; the
//! receiving side sees them as addresses in the memory and may leave them there
//! until it releases them. With each frame travels a small value of the user's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::frame::{FRAME_BYTES_MAX, FRAME_SEGMENTS};
use crate::sys::memory::{Memory, Place, RegionHint};
use crate::sys::spsc::{self, Consumer, Doorbell, Peer, Producer, Rest};

/// Pieces start on cache lines.
const ALIGNMENT_BYTES: u64 = 64;
/// Between the pieces of a frame: a reader that runs on reads something else.
const GAP_BYTES: u64 = 64;
/// Room for the longest frame wherever in the ring the last one ended.
pub(crate) const RING_BYTES_MIN: usize = (2 * FRAME_BYTES_MAX).next_power_of_two();

/// One piece of a frame.
#[derive(Clone, Copy, Default, Debug)]
struct Descriptor<T> {
    address: u64,
    length: u32,
    chain: Chain,
    label: T,
}

/// Whether a frame goes on in the next descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Chain {
    #[default]
    Ends,
    GoesOn,
}

/// The ring has no room for the frame now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// The side that fills the ring.
#[derive(Debug)]
pub(crate) struct FrameSender<T> {
    descriptors: Producer<Descriptor<T>>,
    memory: Arc<Memory>,
    hint: RegionHint,
    bytes: u64,
    /// Positions count bytes since the beginning; the address is the remainder.
    head: u64,
    freed: u64,
    /// The byte position behind each descriptor in the ring.
    ends: Box<[u64]>,
    consumed: u64,
    published: u64,
    rung: u64,
    wake: Arc<OwnedFd>,
}

/// The side that empties it.
#[derive(Debug)]
pub(crate) struct FrameReceiver<T> {
    descriptors: Consumer<Descriptor<T>>,
    memory: Arc<Memory>,
    wake: Arc<OwnedFd>,
}

/// Zeros that were written: pages that the kernel gives only once they are touched would be
/// given in a worker's breath.
fn written(count: usize) -> Box<[u64]> {
    let mut ends = vec![1; count].into_boxed_slice();
    std::hint::black_box(&mut ends).fill(0);
    ends
}

/// A ring for `slots` pieces and `bytes` bytes (at least [`RING_BYTES_MIN`], and
/// raised to a power of two).
pub(crate) fn ring<T: Copy + Default>(
    slots: usize,
    bytes: usize,
) -> io::Result<(FrameSender<T>, FrameReceiver<T>)> {
    let bytes = bytes.max(RING_BYTES_MIN).next_power_of_two();
    let memory = Arc::new(Memory::arena(bytes)?);
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let wake = Arc::new(rustix::event::eventfd(0, flags)?);
    let (producer, consumer) = spsc::ring(slots);
    let sender = FrameSender {
        ends: written(producer.capacity().next_power_of_two()),
        descriptors: producer,
        memory: Arc::clone(&memory),
        hint: RegionHint::default(),
        bytes: bytes as u64,
        head: 0,
        freed: 0,
        consumed: 0,
        published: 0,
        rung: 0,
        wake: Arc::clone(&wake),
    };
    Ok((sender, FrameReceiver { descriptors: consumer, memory, wake }))
}

impl<T: Copy> FrameSender<T> {
    /// Looks what was released meanwhile.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        let consumed = self.descriptors.refresh();
        if consumed != self.consumed {
            // This descriptor was in use when we last looked, so its end has not been
            // overwritten since.
            self.freed = *self.end_behind(consumed - 1);
            self.consumed = consumed;
        }
        if self.freed == self.head {
            // Empty: start over at the front, where the cache is warm.
            self.head = self.head.next_multiple_of(self.bytes);
            self.freed = self.head;
        }
    }

    /// Frames of `length` bytes in one piece that would fit, `wanted` at most.
    pub(crate) fn room(&mut self, wanted: usize, length: usize) -> usize {
        self.refresh();
        let step = (length as u64).max(1).next_multiple_of(ALIGNMENT_BYTES);
        let free = self.bytes - (self.head - self.freed);
        let behind = self.bytes - self.offset(self.head);
        let fitting = free.min(behind) / step + free.saturating_sub(behind) / step;
        wanted.min(self.descriptors.free()).min(usize::try_from(fitting).unwrap_or(usize::MAX))
    }

    /// Adds a frame of one piece, whose bytes `fill` writes; not visible yet.
    #[inline]
    pub(crate) fn push(
        &mut self,
        length: usize,
        label: T,
        fill: impl FnOnce(Place<'_>),
    ) -> Result<(), Full> {
        if self.try_piece(length, Chain::Ends, label).is_err() {
            self.refresh();
            self.try_piece(length, Chain::Ends, label)?;
        }
        fill(self.last_piece(length));
        Ok(())
    }

    /// Adds a frame of several pieces with gaps between them; not visible yet.
    pub(crate) fn push_split(&mut self, pieces: &[&[u8]], label: T) -> Result<(), Full> {
        let Some((last, others)) = pieces.split_last() else {
            return self.push(0, label, |_| {});
        };
        self.refresh();
        let head = self.head;
        for (done, piece) in others.iter().enumerate() {
            if let Err(full) = self.write_piece(piece, Chain::GoesOn, label) {
                self.rewind(done, head);
                return Err(full);
            }
            self.head = (self.head + GAP_BYTES).min(self.freed + self.bytes);
        }
        let result = self.write_piece(last, Chain::Ends, label);
        if result.is_err() {
            self.rewind(others.len(), head);
        }
        result
    }

    fn write_piece(&mut self, piece: &[u8], chain: Chain, label: T) -> Result<(), Full> {
        self.try_piece(piece.len(), chain, label)?;
        self.last_piece(piece.len()).write(piece);
        Ok(())
    }

    fn rewind(&mut self, pieces: usize, head: u64) {
        self.descriptors.retract(pieces);
        self.head = head;
    }

    /// Reserves a piece and describes it.
    #[inline]
    fn try_piece(&mut self, length: usize, chain: Chain, label: T) -> Result<(), Full> {
        let size = (length as u64).max(1).next_multiple_of(ALIGNMENT_BYTES);
        let behind = self.bytes - self.offset(self.head);
        let start = if behind < size { self.head + behind } else { self.head };
        if start + size - self.freed > self.bytes {
            return Err(Full);
        }
        let address = self.offset(start);
        let length = u32::try_from(length).map_err(|_| Full)?;
        let position =
            self.descriptors.push(Descriptor { address, length, chain, label }).ok_or(Full)?;
        self.head = start + size;
        *self.end_behind(position) = self.head;
        Ok(())
    }

    /// A position as an address.
    #[inline]
    fn offset(&self, position: u64) -> u64 {
        position & (self.bytes - 1)
    }

    /// Where the bytes of the descriptor at this position end.
    #[inline]
    fn end_behind(&mut self, position: u64) -> &mut u64 {
        let slot = position as usize & (self.ends.len() - 1);
        &mut self.ends[slot]
    }

    /// The place of the piece that was just reserved.
    #[inline]
    fn last_piece(&mut self, length: usize) -> Place<'_> {
        let size = (length as u64).max(1).next_multiple_of(ALIGNMENT_BYTES);
        let address = self.offset(self.head - size);
        self.memory
            .place(&mut self.hint, address, length as u32)
            .expect("a reserved piece lies within the ring")
    }

    /// Makes everything pushed visible.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.published = self.descriptors.publish();
    }

    /// Wakes the receiving side if it sleeps and something was published since
    /// this was last asked.
    #[inline]
    pub(crate) fn wake(&mut self) {
        if self.rung != self.published {
            self.rung = self.published;
            if self.descriptors.doorbell() == Doorbell::Wanted {
                signal(&self.wake);
            }
        }
    }

    /// Whether anybody receives.
    #[inline]
    pub(crate) fn peer(&self) -> Peer {
        self.descriptors.peer()
    }
}

impl<T> Drop for FrameSender<T> {
    fn drop(&mut self) {
        self.descriptors.part();
        signal(&self.wake);
    }
}

/// Adds to an eventfd; it can only fail where it is signalled already.
fn signal(wake: &OwnedFd) {
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

impl<T: Copy> FrameReceiver<T> {
    /// Where the pieces lie.
    #[inline]
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The next frame's label, its pieces (address, length) in `pieces`. Of a frame
    /// with more than [`FRAME_SEGMENTS`] pieces one more than these is told.
    #[inline]
    pub(crate) fn take(&mut self, pieces: &mut Vec<(u64, u32)>) -> Option<T> {
        pieces.clear();
        loop {
            let descriptor = self.descriptors.take()?;
            if pieces.len() <= FRAME_SEGMENTS {
                pieces.push((descriptor.address, descriptor.length));
            }
            if descriptor.chain == Chain::Ends {
                return Some(descriptor.label);
            }
        }
    }

    /// Gives the frames taken so far back to the sender.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.descriptors.release();
    }
}

impl<T> FrameReceiver<T> {
    /// Whether no frame waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Whether there is a sender; one that is gone may have left frames.
    #[inline]
    pub(crate) fn peer(&self) -> Peer {
        self.descriptors.peer()
    }

    /// Asks for a wake-up, then looks again.
    pub(crate) fn arm(&mut self) -> Rest {
        self.descriptors.arm()
    }

    /// Takes the wake-up back and consumes it.
    pub(crate) fn disarm(&mut self) {
        self.descriptors.disarm();
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }

    /// What becomes readable when a wake-up was asked for and is due.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Sleeps until there is a frame, the sender is gone, or the time is over.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        if self.arm() == Rest::Granted {
            let timeout = Timespec::try_from(timeout).ok();
            let mut fds = [PollFd::new(&*self.wake, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        }
        self.disarm();
    }
}
