//! Memory that somebody else writes while we read: guest RAM, a UMEM, an arena.
//!
//! It is reached by address (as the peer counts: guest physical, UMEM offset)
//! through [`Memory`], copied from and to by value, and never turned into a Rust
//! reference. A [`Place`] borrows the [`Memory`] that keeps it mapped; the
//! [`Spans`] of a batch own a share of it instead, so that a frame's segments
//! can outlive the call that received them – to the end of the breath.

mod scratch;

pub use scratch::Scratch;

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags};

use super::sigbus::{self, Watch};
use super::{copy, prefetch};

/// A range of this process's address space, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
    watch: Option<Watch>,
}

// SAFETY: a mapping is an address range; it is only copied from and to by value,
// which any thread may do at any time, racing with its other writers.
unsafe impl Send for Mapping {}
// SAFETY: as for Send: no method hands out a reference to the bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of zeroed private memory, populated on first touch.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn anonymous(length: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses
        // aliases nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        Mapping::adopt(base, length)
    }

    /// Maps `length` bytes of a file, shared with its other users.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn shared(file: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh mapping at an address the kernel chooses aliases no
        // Rust object; its bytes are never turned into references.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )?
        };
        Mapping::adopt(base, length)
    }

    fn adopt(base: *mut core::ffi::c_void, length: usize) -> io::Result<Mapping> {
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, length, watch: None })
    }

    /// Has it survive that its file is cut short by somebody else: anonymous memory is
    /// then in its place, and it [is poisoned](Mapping::is_poisoned).
    ///
    /// # Errors
    /// Those of sigaction(2); `QuotaExceeded` if [`WATCHED_MAX`](super::sigbus::WATCHED_MAX)
    /// are watched.
    pub fn watched(mut self) -> io::Result<Mapping> {
        self.watch = Some(sigbus::watch(self.base, self.length)?);
        Ok(self)
    }

    /// Whether its file was cut short: its bytes are none of its owner's any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_poisoned)
    }

    /// The mapping's size in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where it begins, for rings that are shared with the kernel within `sys`.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First: the address may be another's as soon as it is unmapped.
        self.watch = None;
        // SAFETY: base and length came from mmap, and every Place and Spans that
        // points here borrows or shares this mapping, so none is left.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// A mapping and the address at which the peer sees it. A clone shares the mapping.
#[derive(Clone, Debug)]
pub struct Region {
    start: u64,
    length: usize,
    base: NonNull<u8>,
    mapping: Arc<Mapping>,
}

// SAFETY: `base` points into `mapping`, which is Send and Sync, and kept here.
unsafe impl Send for Region {}
// SAFETY: as for Send: `base` is only an address within `mapping`.
unsafe impl Sync for Region {}

impl Region {
    /// A region from `start` to `start + mapping.length()`, or nothing if that
    /// wraps past the end of the address space.
    #[must_use]
    pub fn new(start: u64, mapping: Mapping) -> Option<Region> {
        Region::within(start, mapping, 0)
    }

    /// A region that begins `offset` bytes into its mapping: huge pages can be
    /// mapped from page boundaries only, vhost-user regions begin anywhere. Nothing
    /// if the offset is outside or the region wraps.
    #[must_use]
    pub fn within(start: u64, mapping: Mapping, offset: usize) -> Option<Region> {
        let length = mapping.length.checked_sub(offset)?;
        Region::part(start, mapping, offset, length)
    }

    /// As [`Region::within`], `length` bytes long: huge pages are mapped to the end of
    /// the last one. Nothing if that is more than the mapping has.
    #[must_use]
    pub fn part(start: u64, mapping: Mapping, offset: usize, length: usize) -> Option<Region> {
        let room = mapping.length.checked_sub(offset)?;
        start.checked_add(length as u64)?;
        if length > room {
            return None;
        }
        // SAFETY: the offset was just found to lie within the mapping.
        let base = unsafe { mapping.base.add(offset) };
        Some(Region { start, length, base, mapping: Arc::new(mapping) })
    }

    /// The mapping's size in bytes, the part before the region included.
    #[must_use]
    pub fn mapped_length(&self) -> usize {
        self.mapping.length()
    }
}

/// A piece of a frame: its address as the peer counts, and its length in bytes.
pub type Piece = (u64, u32);

/// A device's memory: regions by the addresses its peer uses.
#[derive(Debug)]
pub struct Memory {
    regions: Box<[Region]>,
}

/// The region that served last; only a hint, checked at every use.
#[derive(Clone, Copy, Default, Debug)]
pub struct RegionHint(usize);

impl Memory {
    /// Memory of these regions; a lookup takes the first that holds the range.
    #[must_use]
    pub fn new(regions: Vec<Region>) -> Memory {
        Memory { regions: regions.into_boxed_slice() }
    }

    /// Whether the file of a region that is watched was cut short.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.regions.iter().any(|region| region.mapping.is_poisoned())
    }

    /// One zeroed private region at address 0: a receive arena, a test's RAM.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn arena(length: usize) -> io::Result<Memory> {
        let mapping = Mapping::anonymous(length)?;
        let region = Region::new(0, mapping).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Memory::new(vec![region]))
    }

    /// The bytes `address..address + length`, if one region holds them all.
    #[inline]
    #[must_use]
    pub fn place(&self, hint: &mut RegionHint, address: u64, length: u32) -> Option<Place<'_>> {
        let region = match self.regions.get(hint.0) {
            Some(region) if region.holds(address, length) => region,
            _ => self.search(hint, address, length)?,
        };
        // SAFETY: `holds` checked that the offset lies within the mapping.
        let at = unsafe { region.base.add((address - region.start) as usize) };
        Some(Place { at, length: length as usize, memory: PhantomData })
    }

    #[cold]
    fn search(&self, hint: &mut RegionHint, address: u64, length: u32) -> Option<&Region> {
        let index = self.regions.iter().position(|region| region.holds(address, length))?;
        hint.0 = index;
        self.regions.get(index)
    }
}

impl Region {
    #[inline]
    fn holds(&self, address: u64, length: u32) -> bool {
        let size = self.length as u64;
        let Some(offset) = address.checked_sub(self.start) else { return false };
        offset <= size && u64::from(length) <= size - offset
    }
}

/// Bytes in a [`Memory`], still mapped as long as it is borrowed.
///
/// Its owner may change them at any time: reading the same byte twice may give
/// two values.
#[derive(Clone, Copy, Debug)]
pub struct Place<'m> {
    at: NonNull<u8>,
    length: usize,
    memory: PhantomData<&'m Memory>,
}

impl<'m> Place<'m> {
    /// A place of which only the address is left.
    ///
    /// # Safety
    /// The bytes lie in a [`Memory`] that stays mapped for `'m`.
    pub(super) unsafe fn pinned(at: NonNull<u8>, length: usize) -> Place<'m> {
        Place { at, length, memory: PhantomData }
    }

    /// The size in bytes.
    #[inline]
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Splits after `count` bytes (at most all of them).
    #[inline]
    #[must_use]
    pub fn split(self, count: usize) -> (Place<'m>, Place<'m>) {
        let count = count.min(self.length);
        // SAFETY: count is within the place.
        let rest = unsafe { self.at.add(count) };
        (
            Place { length: count, ..self },
            Place { at: rest, length: self.length - count, memory: PhantomData },
        )
    }

    /// Copies the first bytes out, as many as both sides have; says how many.
    #[inline]
    pub fn read(&self, into: &mut [u8]) -> usize {
        let count = self.length.min(into.len());
        // SAFETY: both ranges are valid for `count` bytes and cannot overlap: one
        // is a mapping, the other a Rust object. The source may be written by its
        // owner meanwhile: the copy then holds some of both, which callers expect.
        unsafe { copy::apart(self.at.as_ptr(), into.as_mut_ptr(), count) };
        count
    }

    /// Copies in from private bytes, as many as both sides have; says how many.
    #[inline]
    pub fn write(&self, from: &[u8]) -> usize {
        let count = self.length.min(from.len());
        // SAFETY: as for `read`, in the other direction.
        unsafe { copy::apart(from.as_ptr(), self.at.as_ptr(), count) };
        count
    }

    /// Copies in from another place, as many bytes as both have; says how many.
    /// This is *the* copy of a frame's payload from VM to VM.
    #[inline]
    pub fn copy_from(&self, from: Place<'_>) -> usize {
        let count = self.length.min(from.length);
        // SAFETY: both ranges are valid for `count` bytes. They may overlap when a
        // guest gave one buffer for both directions, which the copy
        // allows.
        unsafe { copy::payload(from.at.as_ptr(), self.at.as_ptr(), count) };
        count
    }

    /// Brings the first bytes near, to be read soon: a hint, one cache line.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::to_read(self.at.as_ptr());
    }

    /// Brings all of it near, to be read soon: a hint.
    #[inline]
    pub fn prefetch_all(&self) {
        prefetch::lines(self.at.as_ptr(), 0, self.length).for_each(prefetch::to_read);
    }

    /// Brings all of it near and takes it from other CPUs, to be written soon: a hint.
    #[inline]
    pub fn prefetch_to_write(&self) {
        prefetch::lines(self.at.as_ptr(), 0, self.length).for_each(prefetch::to_write);
    }

    /// The address, for the kernel's iovecs within `sys`.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }
}

/// One segment of a frame in the pinned memory of its [`Spans`].
#[derive(Clone, Copy, Debug)]
struct Span {
    at: NonNull<u8>,
    length: u32,
    /// Bytes before it that lie in the same memory, and are none of the frame's.
    before: u32,
}

impl Span {
    /// The 12 bytes before it, read once, as two little-endian words; zeros where there are
    /// not as many.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment)]
    fn words_before(&self) -> [u64; 2] {
        if self.before < 12 {
            return [0; 2];
        }
        // SAFETY: the span has at least 12 bytes before it in the pinned memory, which are
        // what the two words read.
        let (front, back) = unsafe {
            let at = self.at.as_ptr().sub(12);
            (at.cast::<u64>().read_unaligned(), at.add(8).cast::<u32>().read_unaligned())
        };
        [u64::from_le(front), u64::from(u32::from_le(back))]
    }
}

/// The segments of one batch, and a share in the memory they lie in.
#[derive(Debug)]
pub struct Spans {
    memory: Option<Arc<Memory>>,
    /// Room for all; those beyond `count` are left over.
    spans: Box<[Span]>,
    count: usize,
}

// SAFETY: the first `count` spans, the only ones that are looked at, point into `memory`,
// which is Send and Sync and owned here.
unsafe impl Send for Spans {}

/// Why a segment could not be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanError {
    /// No region of the pinned memory holds it.
    Unmapped,
    /// The batch has no room for more segments.
    Full,
}

impl Spans {
    /// Room for `capacity` segments; allocates once, here.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Spans {
        let none = Span { at: NonNull::dangling(), length: 0, before: 0 };
        Spans { memory: None, spans: vec![none; capacity].into_boxed_slice(), count: 0 }
    }

    /// Forgets all segments and pins the memory the next ones lie in.
    pub fn begin(&mut self, memory: &Arc<Memory>) {
        self.count = 0;
        match &self.memory {
            Some(pinned) if Arc::ptr_eq(pinned, memory) => {}
            _ => self.memory = Some(Arc::clone(memory)),
        }
    }

    /// Forgets all segments and lets the memory go.
    pub fn end(&mut self) {
        self.count = 0;
        self.memory = None;
    }

    /// The number of segments, and the index the next one gets.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The pinned memory, if any is.
    #[inline]
    #[must_use]
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.as_ref()
    }

    /// The pinned memory's bytes at `address`, to be read now.
    #[inline]
    #[must_use]
    pub fn place(&self, hint: &mut RegionHint, address: u64, length: u32) -> Option<Place<'_>> {
        self.memory.as_ref()?.place(hint, address, length)
    }

    /// Adds the segment that begins `before` bytes into a piece (at most all of it), and
    /// brings near its first two lines, in which a short frame lies wherever it begins, and the
    /// bytes before it ([`Body::read_with_words`]).
    ///
    /// # Errors
    /// [`SpanError`]; nothing is added then.
    #[inline(always)]
    pub fn push(
        &mut self,
        hint: &mut RegionHint,
        (address, length): Piece,
        before: u16,
    ) -> Result<(), SpanError> {
        let slot = self.spans.get_mut(self.count).ok_or(SpanError::Full)?;
        let memory = self.memory.as_ref().ok_or(SpanError::Unmapped)?;
        let whole = memory.place(hint, address, length).ok_or(SpanError::Unmapped)?;
        let (first, rest) = whole.split(usize::from(before));
        *slot = Span { at: rest.at, length: rest.length as u32, before: first.length as u32 };
        self.count += 1;
        rest.prefetch();
        if rest.at.addr().get() % prefetch::LINE + rest.length > prefetch::LINE {
            prefetch::to_read(rest.at.as_ptr().wrapping_add(prefetch::LINE));
        }
        if before > 0 {
            // They often end the line before the segment's first.
            first.prefetch();
        }
        Ok(())
    }

    /// Forgets the segments from `count` on: a frame that turned out unusable.
    pub fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    /// The segments `first..first + count`, empty where there are none.
    #[inline]
    #[must_use]
    pub fn body(&self, first: usize, count: usize) -> Body<'_> {
        let spans = self.spans[..self.count].get(first..first + count).unwrap_or_default();
        Body { spans, skip: 0, length: spans.iter().map(|span| span.length).sum() }
    }

    /// As [`Spans::body`], where the caller knows where in the first segment the body
    /// begins and how long it is; cut to what the segments have.
    ///
    /// # Panics
    /// If there are no such segments.
    #[inline]
    #[must_use]
    pub fn body_from(&self, first: usize, count: usize, skip: u32, length: u32) -> Body<'_> {
        let end = first.saturating_add(count);
        assert!(end <= self.count, "segments that a batch does not have");
        // SAFETY: `first <= end <= self.count`, which is never more than there is room for.
        let spans = unsafe { self.spans.get_unchecked(first..end) };
        Body { spans, skip, length }
    }
}

/// Bytes of the smallest page: to take them for larger ones than they are would be wrong.
const PAGE_BYTES: usize = 4096;

/// The part of a frame that still lies in its sender's memory.
#[derive(Clone, Copy, Debug)]
pub struct Body<'b> {
    spans: &'b [Span],
    skip: u32,
    length: u32,
}

impl<'b> Body<'b> {
    /// No bytes.
    pub const EMPTY: Body<'static> = Body { spans: &[], skip: 0, length: 0 };

    /// The size in bytes.
    #[inline]
    #[must_use]
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// The pieces in order, none empty.
    pub fn places(&self) -> impl Iterator<Item = Place<'b>> + use<'b> {
        let mut skip = self.skip as usize;
        let mut left = self.length as usize;
        self.spans
            .iter()
            .map_while(move |span| {
                if left == 0 {
                    return None;
                }
                let whole =
                    Place { at: span.at, length: span.length as usize, memory: PhantomData };
                let (_, rest) = whole.split(std::mem::take(&mut skip));
                let (piece, _) = rest.split(left);
                left -= piece.length;
                Some(piece)
            })
            .filter(|piece| piece.length > 0)
    }

    /// Brings the body near, to be copied soon: a hint.
    #[inline]
    pub fn prefetch(&self) {
        if let Some(place) = self.only() {
            place.prefetch_all();
        }
    }

    /// Copies the first bytes to private memory, and reads the 12 before the first segment;
    /// how many were copied, and those as little-endian words.
    #[inline(always)]
    pub fn read_with_words(&self, into: &mut [u8]) -> (usize, [u64; 2]) {
        match (self.spans, self.only()) {
            ([span, ..], Some(place)) => (place.read(into), span.words_before()),
            _ => (self.read_pieces(into), [0; 2]),
        }
    }

    /// The body as one place, where it lies in one segment.
    #[inline]
    #[must_use]
    pub fn only(&self) -> Option<Place<'b>> {
        let span = self.spans.first()?;
        let rest = span.length.checked_sub(self.skip).filter(|rest| *rest >= self.length)?;
        debug_assert!(rest >= self.length);
        // SAFETY: the first segment reaches beyond `skip` by at least the length.
        let at = unsafe { span.at.add(self.skip as usize) };
        Some(Place { at, length: self.length as usize, memory: PhantomData })
    }

    /// The bytes `from..from + length`, less where the body ends sooner.
    #[must_use]
    pub fn slice(self, from: usize, length: usize) -> Body<'b> {
        let from = u32::try_from(from).unwrap_or(u32::MAX).min(self.length);
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(self.length - from);
        let mut skip = self.skip + from;
        let mut spans = self.spans;
        while let [first, rest @ ..] = spans
            && skip >= first.length
        {
            skip -= first.length;
            spans = rest;
        }
        Body { spans, skip, length }
    }

    /// Copies the first bytes to private memory; says how many.
    #[inline(always)]
    pub fn read(&self, into: &mut [u8]) -> usize {
        match self.only() {
            Some(place) => place.read(into),
            None => self.read_pieces(into),
        }
    }

    #[inline(never)]
    fn read_pieces(&self, into: &mut [u8]) -> usize {
        self.places().fold(0, |done, piece| done + piece.read(&mut into[done..]))
    }

    /// Reads a byte of every page that it lies in, so that memory which was cut short is
    /// found by us, too ([`Memory::is_poisoned`]): the kernel, where it was to read there,
    /// only says `EFAULT`.
    pub fn touch(&self) {
        for place in self.places() {
            let last = place.length() - 1;
            for at in (0..last).step_by(PAGE_BYTES).chain([last]) {
                place.split(at).1.read(&mut [0]);
            }
        }
    }

    /// Copies the first bytes into another place; says how many.
    #[inline]
    pub fn copy_to(&self, into: Place<'_>) -> usize {
        if let Some(place) = self.only() {
            return into.copy_from(place);
        }
        self.places().fold(0, |done, piece| done + into.split(done).1.copy_from(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn segments_that_were_forgotten_are_not_to_be_had() {
        let memory = Arc::new(Memory::arena(4096).unwrap());
        let mut hint = RegionHint::default();
        let mut spans = Spans::with_capacity(2);
        let there = |spans: &Spans| {
            let from =
                std::panic::AssertUnwindSafe(|| spans.body_from(0, 2, 0, 3).places().count());
            [spans.body(0, 2).length(), std::panic::catch_unwind(from).unwrap_or(0)]
        };
        spans.begin(&memory);
        spans.push(&mut hint, (0, 1), 0).unwrap();
        spans.push(&mut hint, (1, 2), 0).unwrap();
        assert_eq!(there(&spans), [3, 2]);
        spans.truncate(1);
        assert_eq!(there(&spans), [0, 0]);
        spans.push(&mut hint, (1, 2), 0).unwrap();
        spans.end();
        assert_eq!(there(&spans), [0, 0]);
    }

    #[test]
    fn a_body_is_cut_and_copied_across_segments() {
        let memory = Arc::new(Memory::arena(4096).unwrap());
        let mut hint = RegionHint::default();
        memory.place(&mut hint, 0, 10).unwrap().write(b"0123456789");
        memory.place(&mut hint, 100, 5).unwrap().write(b"abcde");
        let mut spans = Spans::with_capacity(2);
        spans.begin(&memory);
        spans.push(&mut hint, (0, 10), 0).unwrap();
        spans.push(&mut hint, (100, 5), 0).unwrap();
        assert_eq!(spans.push(&mut hint, (0, 1), 0), Err(SpanError::Full));
        let mut out = [0; 8];
        assert_eq!(spans.body(0, 2).slice(8, 4).read(&mut out), 4);
        assert_eq!(&out[..4], b"89ab");
        let body = spans.body(0, 2);
        assert_eq!(body.length(), 15);
        let target = memory.place(&mut hint, 200, 15).unwrap();
        assert_eq!(body.copy_to(target), 15);
        let mut all = [0; 15];
        target.read(&mut all);
        assert_eq!(&all, b"0123456789abcde");
    }

    #[test]
    fn memory_that_is_cut_short_is_replaced_and_costs_no_life() {
        let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 16 * 4096).unwrap();
        let map = || Mapping::shared(file.as_fd(), 0, 16 * 4096).unwrap().watched().unwrap();
        let region = |start| Region::new(start, map()).unwrap();
        let memory = Memory::new(vec![region(0), region(1 << 20)]);
        let other = Memory::new(vec![region(0)]);
        let mut hint = RegionHint::default();
        let mut place = |address| memory.place(&mut hint, address, 8).unwrap();
        place(15 * 4096).write(b"guest's.");
        assert!(!memory.is_poisoned() && !other.is_poisoned());
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let mut bytes = [1; 8];
        assert_eq!(place(15 * 4096).read(&mut bytes), 8);
        assert_eq!(bytes, [0; 8]);
        assert!(memory.is_poisoned());
        assert!(!other.is_poisoned(), "it was not touched, nor was it replaced");
        place(0).write(b"ours now");
        assert!(place(1 << 20).read(&mut bytes) == 8 && bytes == [0; 8]);
        // Both ways in which it is touched.
        let target = other.place(&mut RegionHint::default(), 8 * 4096, 8).unwrap();
        assert_eq!(target.copy_from(place(0)), 8);
        assert!(other.is_poisoned());
    }

    #[test]
    fn a_part_of_a_mapping_ends_where_it_was_said() {
        let part = |offset, length| {
            Region::part(0x1000, Mapping::anonymous(8192).unwrap(), offset, length)
        };
        assert!(part(4096, 4097).is_none() && part(8193, 0).is_none());
        let memory = Memory::new(vec![part(4096, 100).unwrap()]);
        let mut hint = RegionHint::default();
        assert!(memory.place(&mut hint, 0x1000, 100).is_some());
        assert!(memory.place(&mut hint, 0x1000, 101).is_none());
    }

    #[test]
    fn addresses_outside_are_refused() {
        let memory = Memory::arena(4096).unwrap();
        let mut hint = RegionHint::default();
        assert!(memory.place(&mut hint, 4096, 0).is_some());
        assert!(memory.place(&mut hint, 4096, 1).is_none());
        assert!(memory.place(&mut hint, u64::MAX, 1).is_none());
        assert!(memory.place(&mut hint, 0, u32::MAX).is_none());
    }
}
