//! Our half of a ring that is shared with the kernel.
//!
//! Positions count entries since the socket was made, modulo 2³²; an entry's slot is its
//! position modulo the ring's size. Each side writes its own position and reads the
//! other's: with acquire, and only when what was last seen is used up; its own is shown
//! with release, once per batch. A position that the kernel cannot have reached is taken
//! for no news.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::net::xdp::{XdpDescOptions, XdpRingFlags, XdpRingOffset};

use crate::sys::memory::Mapping;

/// What a ring's entries may be.
///
/// # Safety
/// Every pattern of bytes is a valid value.
pub unsafe trait Entry: Copy {}

/// A frame, or a piece of one: of the rings for received frames and for frames to send
/// (`struct xdp_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Descriptor {
    /// Where it begins in the UMEM, in bytes.
    pub address: u64,
    /// Its length in bytes.
    pub length: u32,
    /// [`CONTINUED`] and the like.
    pub options: u32,
}

/// Among a descriptor's options: the frame goes on in the next one (`XDP_PKT_CONTD`).
pub const CONTINUED: u32 = XdpDescOptions::XDP_PKT_CONTD.bits();

/// Whether a descriptor is the last of its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequel {
    /// It is.
    None,
    /// The frame goes on in the next one.
    Next,
}

impl Descriptor {
    /// Whether its frame goes on.
    #[inline(always)]
    #[must_use]
    pub fn sequel(&self) -> Sequel {
        if self.options & CONTINUED == 0 { Sequel::None } else { Sequel::Next }
    }
}

// SAFETY: integers only.
unsafe impl Entry for Descriptor {}
// SAFETY: an integer. The fill and completion rings have addresses in the UMEM only.
unsafe impl Entry for u64 {}

/// There is no room in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Whether a ring has room for some entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// For all of them.
    Enough,
    /// Not for all.
    Short,
}

/// Whether the kernel has to be told of new entries by a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wakeup {
    /// It looks by itself.
    Unneeded,
    /// It sleeps.
    Needed,
}

/// A mapped ring.
#[derive(Debug)]
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// A power of two.
    size: u32,
    /// What the pointers point into.
    _mapping: Mapping,
}

// SAFETY: the pointers are into a mapping that is owned here and that nobody of this
// process has besides; entries are copied by value.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// Maps the ring of `size` entries that begins at `start` of a socket's file.
    fn map(
        file: BorrowedFd<'_>,
        start: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> io::Result<Ring<T>> {
        let wrong = || io::Error::other("a ring that the kernel describes cannot be mapped");
        let entries_bytes = (size as usize).checked_mul(size_of::<T>()).ok_or_else(wrong)?;
        let place = |offset: u64| usize::try_from(offset).map_err(|_| wrong());
        let entries_at = place(offsets.desc)?;
        let length = entries_at.checked_add(entries_bytes).ok_or_else(wrong)?;
        let flags = offsets.flags.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let words = [place(offsets.producer)?, place(offsets.consumer)?, place(flags)?];
        let word_fits = |&at: &usize| {
            at.is_multiple_of(align_of::<AtomicU32>())
                && at.checked_add(size_of::<AtomicU32>()).is_some_and(|end| end <= length)
        };
        let fits = size.is_power_of_two()
            && entries_at.is_multiple_of(align_of::<T>())
            && words.iter().all(word_fits);
        if !fits {
            return Err(wrong());
        }
        let mapping = Mapping::shared(file, start, length)?;
        // SAFETY: the offset of each word, and of the entries with all their bytes, was
        // just found to be within the mapping's length.
        let [producer, consumer, flags] = words.map(|at| unsafe { mapping.base().add(at) }.cast());
        // SAFETY: as above.
        let entries = unsafe { mapping.base().add(entries_at) }.cast();
        Ok(Ring { producer, consumer, flags, entries, size, _mapping: mapping })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: an aligned word of the mapping, which lives as long as the ring and is
        // only ever used as an atomic.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's.
        unsafe { self.flags.as_ref() }
    }

    fn slot(&self, position: u32) -> NonNull<T> {
        // SAFETY: the remainder is below the number of entries that are mapped.
        unsafe { self.entries.add((position & (self.size - 1)) as usize) }
    }

    fn read(&self, position: u32) -> T {
        // SAFETY: a slot is mapped and aligned, any bytes in it are a value, and it is
        // copied: should the kernel write it meanwhile, the copy is of no use but valid.
        unsafe { self.slot(position).read_volatile() }
    }

    fn write(&mut self, position: u32, entry: T) {
        // SAFETY: a slot is mapped and aligned, and nothing borrows from it.
        unsafe { self.slot(position).write_volatile(entry) }
    }
}

/// The half that adds entries.
#[derive(Debug)]
pub struct Producer<T> {
    ring: Ring<T>,
    /// Behind the last entry written.
    next: u32,
    /// Behind the last entry that the kernel may take.
    published: u32,
    /// Behind the last entry that the kernel was seen to have taken.
    taken: u32,
}

impl<T: Entry> Producer<T> {
    /// Maps our half of a ring.
    ///
    /// # Errors
    /// Those of mmap(2); if the ring's parts do not lie where they can be used.
    pub(super) fn map(
        file: BorrowedFd<'_>,
        start: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> io::Result<Producer<T>> {
        let ring = Ring::map(file, start, offsets, size)?;
        let next = ring.producer().load(Ordering::Relaxed);
        Ok(Producer { ring, next, published: next, taken: next })
    }

    /// Adds an entry; the kernel does not see it before [`Producer::publish`].
    ///
    /// # Errors
    /// [`Full`] if the kernel has taken too few; nothing is added then.
    #[inline]
    pub fn push(&mut self, entry: T) -> Result<(), Full> {
        if self.next.wrapping_sub(self.taken) >= self.ring.size {
            self.refresh();
            if self.next.wrapping_sub(self.taken) >= self.ring.size {
                return Err(Full);
            }
        }
        self.ring.write(self.next, entry);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Whether so many more entries can be added.
    #[must_use]
    pub fn room(&mut self, wanted: u32) -> Room {
        if self.free() < wanted {
            self.refresh();
        }
        if self.free() < wanted { Room::Short } else { Room::Enough }
    }

    fn free(&self) -> u32 {
        self.ring.size.saturating_sub(self.next.wrapping_sub(self.taken))
    }

    /// Lets the kernel have everything that was added.
    #[inline]
    pub fn publish(&mut self) {
        self.published = self.next;
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Entries that the kernel was given and has not taken yet, as far as it says.
    #[must_use]
    pub fn left(&mut self) -> u32 {
        self.refresh();
        self.published.wrapping_sub(self.taken)
    }

    /// Whether the kernel has to be told of what was published.
    #[inline]
    #[must_use]
    pub fn wakeup(&self) -> Wakeup {
        // The kernel goes to sleep and then looks again: what was published must be
        // visible before its flag is read.
        fence(Ordering::SeqCst);
        match self.ring.flags().load(Ordering::Relaxed) & XdpRingFlags::XDP_RING_NEED_WAKEUP.bits()
        {
            0 => Wakeup::Unneeded,
            _ => Wakeup::Needed,
        }
    }

    fn refresh(&mut self) {
        let seen = self.ring.consumer().load(Ordering::Acquire);
        if seen.wrapping_sub(self.taken) <= self.published.wrapping_sub(self.taken) {
            self.taken = seen;
        }
    }
}

/// The half that takes entries.
#[derive(Debug)]
pub struct Consumer<T> {
    ring: Ring<T>,
    /// The entry to be taken next.
    next: u32,
    /// Behind the last entry that was seen to be there.
    end: u32,
    /// Behind the last entry whose slot the kernel may use again.
    released: u32,
}

impl<T: Entry> Consumer<T> {
    /// Maps our half of a ring.
    ///
    /// # Errors
    /// Those of mmap(2); if the ring's parts do not lie where they can be used.
    pub(super) fn map(
        file: BorrowedFd<'_>,
        start: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> io::Result<Consumer<T>> {
        let ring = Ring::map(file, start, offsets, size)?;
        let next = ring.consumer().load(Ordering::Relaxed);
        Ok(Consumer { ring, next, end: next, released: next })
    }

    /// The next entry, if there is one. Its slot stays taken until [`Consumer::release`].
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        if self.next == self.end {
            self.refresh();
            if self.next == self.end {
                return None;
            }
        }
        let entry = self.ring.read(self.next);
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Puts the last entries taken back, so many of them: they are taken again. What was
    /// released stays so.
    pub fn put_back(&mut self, count: u32) {
        let count = count.min(self.next.wrapping_sub(self.released));
        self.next = self.next.wrapping_sub(count);
    }

    /// Lets the kernel use the slots of all entries taken.
    #[inline]
    pub fn release(&mut self) {
        if self.released != self.next {
            self.released = self.next;
            self.ring.consumer().store(self.next, Ordering::Release);
        }
    }

    fn refresh(&mut self) {
        let seen = self.ring.producer().load(Ordering::Acquire);
        let there = seen.wrapping_sub(self.released);
        if there <= self.ring.size && there >= self.next.wrapping_sub(self.released) {
            self.end = seen;
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
