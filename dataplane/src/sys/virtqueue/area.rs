//! One area of a ring in a peer's memory: translated once, pinned, read and written
//! as atomic words, because the peer does the same meanwhile.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::LayoutError;
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::prefetch;

/// An area of a ring. Indexes count words of the size that is asked for.
#[derive(Debug)]
pub(super) struct Area {
    at: NonNull<u8>,
    length: usize,
    /// Keeps the area mapped.
    _memory: Arc<Memory>,
}

// SAFETY: the area is kept mapped by `_memory`, and is touched by atomics only.
unsafe impl Send for Area {}

impl Area {
    /// The `length` bytes at `address`.
    pub(super) fn new(
        memory: &Arc<Memory>,
        address: u64,
        length: usize,
        alignment: usize,
    ) -> Result<Area, LayoutError> {
        let unmapped = LayoutError::Unmapped(address);
        let bytes = u32::try_from(length).map_err(|_| unmapped)?;
        let place = memory.place(&mut RegionHint::default(), address, bytes).ok_or(unmapped)?;
        let at = NonNull::new(place.as_ptr()).ok_or(unmapped)?;
        if !at.addr().get().is_multiple_of(alignment) {
            return Err(LayoutError::Misaligned(address));
        }
        Ok(Area { at, length, _memory: Arc::clone(memory) })
    }

    /// The word at `index`, for reading and writing.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment)]
    pub(super) fn word32(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.length / 4, "word {index} of a ring's area");
        #[cfg(test)]
        probe::before(self.at.addr().get() + 4 * index);
        // SAFETY: within the area by the line above; areas with 4-byte words are aligned
        // to 4.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().cast::<u32>().add(index)) }
    }

    /// The word at `index`, for reading and writing.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment)]
    pub(super) fn word16(&self, index: usize) -> &AtomicU16 {
        assert!(index < self.length / 2, "word {index} of a ring's area");
        #[cfg(test)]
        probe::before(self.at.addr().get() + 2 * index);
        // SAFETY: as for `word32`; every area is aligned to 2.
        unsafe { AtomicU16::from_ptr(self.at.as_ptr().cast::<u16>().add(index)) }
    }

    /// Hands the lines from an offset up to another (not its own) on to their reader.
    #[inline(always)]
    pub(super) fn hand_on(&self, from: usize, to: usize) {
        let line = |offset: usize| (self.at.addr().get() + offset) / prefetch::LINE;
        for index in 0..line(to).saturating_sub(line(from)) {
            prefetch::hand_on(self.at.as_ptr().wrapping_add(from + index * prefetch::LINE));
        }
    }
}

/// A table of descriptors: both rings' descriptors have 16 bytes, an address and a
/// word of length and two halves.
#[derive(Debug)]
pub(super) struct Descriptors(Area);

/// A descriptor's second word, read as one: length, and the two 16-bit fields behind it
/// (split: flags, next; packed: id, flags).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tail(pub(super) u64);

impl Tail {
    #[inline(always)]
    pub(super) fn new(length: u32, low: u16, high: u16) -> Tail {
        Tail(u64::from(length) | u64::from(low) << 32 | u64::from(high) << 48)
    }

    #[inline(always)]
    pub(super) fn length(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(super) fn low(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline(always)]
    pub(super) fn high(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

impl Descriptors {
    pub(super) fn new(
        memory: &Arc<Memory>,
        at: u64,
        size: u16,
    ) -> Result<Descriptors, LayoutError> {
        Area::new(memory, at, usize::from(size) * 16, 16).map(Descriptors)
    }

    #[inline(always)]
    pub(super) fn address(&self, index: u16) -> u64 {
        self.table().address(index)
    }

    #[inline(always)]
    pub(super) fn tail(&self, index: u16, order: Ordering) -> Tail {
        self.table().tail(index, order)
    }

    #[inline(always)]
    pub(super) fn set_address(&self, index: u16, address: u64) {
        self.table().probe(index, 0);
        let [word, _] = self.table().words(index);
        word.store(address.to_le(), Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn set_tail(&self, index: u16, tail: Tail, order: Ordering) {
        self.table().set_tail(index, tail, order);
    }

    /// The descriptors for a walk over many: what a walk needs, in registers.
    #[inline(always)]
    pub(super) fn table(&self) -> Table<'_> {
        Table { at: self.0.at, size: self.0.length / 16, area: PhantomData }
    }

    /// Hands the lines of these descriptors on, but not the one of `to`.
    #[inline(always)]
    pub(super) fn hand_on(&self, from: u16, to: u16) {
        self.0.hand_on(usize::from(from) * 16, usize::from(to) * 16);
    }
}

/// Where descriptors lie: what [`Descriptors`] knows, by value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    at: NonNull<u8>,
    size: usize,
    area: PhantomData<&'a Area>,
}

impl<'a> Table<'a> {
    /// A descriptor's two words.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment)]
    fn words(self, index: u16) -> [&'a AtomicU64; 2] {
        // Without values in its message: they would be kept in memory for it.
        assert!(usize::from(index) < self.size, "a descriptor beyond its ring");
        // SAFETY: within the area by the line above; descriptors are aligned to 16.
        unsafe {
            let first = self.at.as_ptr().cast::<u64>().add(usize::from(index) * 2);
            [AtomicU64::from_ptr(first), AtomicU64::from_ptr(first.add(1))]
        }
    }

    #[inline(always)]
    pub(super) fn address(self, index: u16) -> u64 {
        self.probe(index, 0);
        u64::from_le(self.words(index)[0].load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn tail(self, index: u16, order: Ordering) -> Tail {
        self.probe(index, 8);
        Tail(u64::from_le(self.words(index)[1].load(order)))
    }

    #[inline(always)]
    pub(super) fn set_tail(self, index: u16, tail: Tail, order: Ordering) {
        self.probe(index, 8);
        self.words(index)[1].store(tail.0.to_le(), order);
    }
    #[inline(always)]
    #[allow(unused_variables, reason = "of no effect outside tests")]
    fn probe(self, index: u16, byte: usize) {
        #[cfg(test)]
        probe::before(self.at.addr().get() + 16 * usize::from(index) + byte);
    }
}

/// Lets a test do something before each load and store of a ring's words.
#[cfg(test)]
pub(super) mod probe {
    use std::cell::RefCell;

    type Probe = Box<dyn FnMut(usize)>;

    thread_local! {
        static PROBE: RefCell<Option<Probe>> = const { RefCell::new(None) };
    }

    /// Has `probe` called with the address of each word that `run` loads or stores, in this
    /// thread, before it does.
    pub fn watch<R>(probe: impl FnMut(usize) + 'static, run: impl FnOnce() -> R) -> R {
        PROBE.set(Some(Box::new(probe)));
        let result = run();
        PROBE.set(None);
        result
    }

    pub fn before(at: usize) {
        if let Some(mut probe) = PROBE.take() {
            probe(at);
            PROBE.set(Some(probe));
        }
    }
}
