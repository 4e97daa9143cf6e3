//! The receive buffers that a sink has found ahead, and the frames it has put into
//! them: what split and packed rings have in common.

use std::num::NonZeroU16;
use std::ptr::NonNull;
use std::sync::Arc;

use super::indirect::{More, Tables};
use super::{
    BURST, CHAIN_DESCRIPTORS, ChainFault, Merge, NetHeader, PREFIX_BYTES, Refusal, RingFault,
};
use crate::sys::memory::{Body, Memory, Place, RegionHint};
use crate::sys::{copy, prefetch};

/// Slots; a power of two, with room for one chain beside a burst of buffers.
const SLOTS: usize = 2 * CHAIN_DESCRIPTORS;
/// Buffers that are wanted ahead.
pub(super) const AHEAD: usize = BURST;
/// Used entries that wait for publication.
pub(super) const FILLED_MAX: usize = SLOTS;

/// The descriptors of the ring that a buffer takes, known at its last slot: as many as
/// it has slots, or one that names a table of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link(Option<NonZeroU16>);

impl Link {
    /// The buffer goes on in the next slot.
    pub(super) const MORE: Link = Link(None);
    /// The last slot of a buffer that one descriptor describes.
    pub(super) const ONE: Link = Link(Some(NonZeroU16::MIN));

    /// The last slot of a buffer of so many descriptors.
    pub(super) fn last(descriptors: u16) -> Link {
        Link(NonZeroU16::new(descriptors))
    }
}

/// One descriptor of a receive buffer, translated.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: NonNull<u8>,
    length: u32,
    id: u16,
    link: Link,
}

impl Slot {
    /// The descriptors of the ring that a buffer takes whose last slot this is.
    #[inline(always)]
    fn descriptors(&self) -> u16 {
        self.link.0.map_or(0, NonZeroU16::get)
    }
}

/// A used entry that waits for publication.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Filled {
    pub(super) length: u32,
    pub(super) id: u16,
    pub(super) descriptors: u16,
}

#[derive(Debug)]
pub struct Window {
    memory: Arc<Memory>,
    hint: RegionHint,
    merge: Merge,
    slots: Box<[Slot; SLOTS]>,
    first: usize,
    count: usize,
    filled: Box<[Filled; FILLED_MAX]>,
    filled_count: usize,
}

// SAFETY: slots point into `memory`, which is owned here.
unsafe impl Send for Window {}

impl Window {
    pub(super) fn new(memory: &Arc<Memory>, merge: Merge) -> Window {
        let slot = Slot { at: NonNull::dangling(), length: 0, id: 0, link: Link::ONE };
        Window {
            memory: Arc::clone(memory),
            hint: RegionHint::default(),
            merge,
            slots: Box::new([slot; SLOTS]),
            first: 0,
            count: 0,
            filled: Box::new([Filled::default(); FILLED_MAX]),
            filled_count: 0,
        }
    }

    /// Descriptors found ahead.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds a descriptor and brings its first lines near.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        (address, length): super::Piece,
        id: u16,
        link: Link,
    ) -> Result<(), RingFault> {
        let place = self.memory.place(&mut self.hint, address, length).ok_or(RingFault::Buffer)?;
        if self.count == SLOTS {
            return Err(RingFault::Endless);
        }
        let at = NonNull::new(place.as_ptr()).ok_or(RingFault::Buffer)?;
        // Header and a short frame reach into two lines, wherever in a line they begin.
        prefetch::to_write(at.as_ptr());
        prefetch::to_write(at.as_ptr().wrapping_add(prefetch::LINE));
        self.slots[(self.first + self.count) % SLOTS] = Slot { at, length, id, link };
        self.count += 1;
        Ok(())
    }

    /// Adds the pieces of a table, which the last of a buffer's `descriptors` names.
    pub(super) fn push_table(
        &mut self,
        tables: &mut Tables,
        table: super::Piece,
        id: u16,
        descriptors: u16,
    ) -> Result<(), RingFault> {
        let before = usize::from(descriptors) - 1;
        let walked = tables.walk(table, CHAIN_DESCRIPTORS - before, |piece, more| {
            let link = match more {
                More::Follow => Link::MORE,
                More::None => Link::last(descriptors),
            };
            self.push(piece, id, link).map_err(|_| ChainFault::Descriptor)
        });
        walked.map_err(|fault| match fault {
            ChainFault::TooLong => RingFault::Endless,
            ChainFault::Descriptor => RingFault::Buffer,
        })
    }

    /// The used entries that wait, and their end.
    #[inline(always)]
    pub(super) fn filled(&self) -> &[Filled] {
        &self.filled[..self.filled_count]
    }

    #[inline(always)]
    pub(super) fn clear_filled(&mut self) {
        self.filled_count = 0;
    }

    #[inline(always)]
    fn note(&mut self, filled: Filled, slots: usize) {
        self.filled[self.filled_count] = filled;
        self.filled_count += 1;
        self.first = (self.first + slots) % SLOTS;
        self.count -= slots;
    }

    /// The next slot, if it is a whole buffer of at least this many bytes and there is
    /// room to note it.
    #[inline(always)]
    fn whole(&self, need: usize) -> Option<Slot> {
        if self.count == 0 || self.filled_count >= FILLED_MAX {
            return None;
        }
        let slot = self.slots[self.first % SLOTS];
        if slot.link == Link::MORE || need > slot.length as usize {
            return None;
        }
        Some(slot)
    }

    /// Copies a frame into the next buffers.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        net: NetHeader,
        header: &[u8],
        body: Body<'_>,
    ) -> Result<(), Refusal> {
        let need = PREFIX_BYTES + header.len() + body.length();
        let Some(slot) = self.whole(need) else { return self.fill_several(net, header, body) };
        let at = slot.at.as_ptr();
        // SAFETY: the slot has `need` bytes in pinned memory. The header is private, so
        // it does not overlap them.
        let rest = unsafe {
            write_prefix(at, net, 1);
            copy::apart(header.as_ptr(), at.add(PREFIX_BYTES), header.len());
            at.add(PREFIX_BYTES + header.len())
        };
        if body.length() > 0 {
            // SAFETY: `need` counted the body.
            unsafe { copy_body(body, rest) };
        }
        prefetch::hand_on(at.wrapping_add(PREFIX_BYTES));
        self.note(Filled { length: need as u32, id: slot.id, descriptors: slot.descriptors() }, 1);
        Ok(())
    }

    /// Brings the buffer after `ahead` other ones near, beyond the lines that
    /// [`Window::push`] did.
    #[inline(always)]
    pub(super) fn prefetch(&self, ahead: usize, length: usize) {
        if ahead < self.count {
            let slot = self.slots[(self.first + ahead) % SLOTS];
            let end = (PREFIX_BYTES + length).min(slot.length as usize);
            prefetch::lines(slot.at.as_ptr(), 2 * prefetch::LINE, end).for_each(prefetch::to_write);
        }
    }

    /// Uses the next buffer without writing to it.
    #[inline(always)]
    pub(super) fn skip(&mut self, length: u32) -> Result<(), Refusal> {
        let slot = self.whole(length as usize).ok_or(Refusal::NoBuffer)?;
        self.note(Filled { length, id: slot.id, descriptors: slot.descriptors() }, 1);
        Ok(())
    }

    /// Copies a frame over several descriptors, or several buffers.
    #[inline(never)]
    fn fill_several(
        &mut self,
        net: NetHeader,
        header: &[u8],
        body: Body<'_>,
    ) -> Result<(), Refusal> {
        let need = PREFIX_BYTES + header.len() + body.length();
        let plan = self.plan(need)?;
        let prefix = net.bytes(plan.buffers as u16);
        let mut writer = Writer { window: self, slot: 0, offset: 0 };
        writer.write(&prefix);
        writer.write(header);
        for piece in body.places() {
            writer.copy(piece);
        }
        self.note_plan(need, plan);
        Ok(())
    }

    /// How many slots and buffers a frame of `need` bytes takes.
    fn plan(&self, need: usize) -> Result<Plan, Refusal> {
        let mut room = 0;
        let mut buffers = 0;
        for index in 0..self.count {
            let slot = self.slots[(self.first + index) % SLOTS];
            room += slot.length as usize;
            if slot.link == Link::MORE {
                continue;
            }
            buffers += 1;
            let full = self.filled_count + buffers > FILLED_MAX;
            match (room >= need, self.merge) {
                _ if full => return Err(Refusal::NoBuffer),
                (true, _) => return Ok(Plan { slots: index + 1, buffers }),
                (false, Merge::Single) => return Err(Refusal::TooSmall),
                (false, Merge::Mergeable) => {}
            }
        }
        Err(Refusal::NoBuffer)
    }

    /// How many frames of `length` bytes fit into what was found, `wanted` at most.
    pub(super) fn room(&self, wanted: usize, length: usize) -> usize {
        let need = PREFIX_BYTES + length;
        let (mut frames, mut room) = (0, 0);
        for index in 0..self.count {
            let slot = self.slots[(self.first + index) % SLOTS];
            room += slot.length as usize;
            if slot.link == Link::MORE {
                continue;
            }
            match (room >= need, self.merge) {
                (true, _) => (frames, room) = (frames + 1, 0),
                (false, Merge::Single) => return frames,
                (false, Merge::Mergeable) => {}
            }
            if frames == wanted {
                return frames;
            }
        }
        frames
    }

    /// Notes the used entries of a frame written by plan.
    fn note_plan(&mut self, need: usize, plan: Plan) {
        let (mut left, mut length, mut chained) = (need, 0, 0_usize);
        for _ in 0..plan.slots {
            let slot = self.slots[(self.first + chained) % SLOTS];
            let used = left.min(slot.length as usize);
            left -= used;
            length += used as u32;
            chained += 1;
            if slot.link != Link::MORE {
                let descriptors = slot.descriptors();
                self.note(Filled { length, id: slot.id, descriptors }, chained);
                (length, chained) = (0, 0);
            }
        }
    }
}

/// The descriptors and buffers that a frame takes.
#[derive(Clone, Copy)]
struct Plan {
    slots: usize,
    buffers: usize,
}

/// Writes one byte after the other into the slots that a plan found.
struct Writer<'w> {
    window: &'w Window,
    slot: usize,
    offset: usize,
}

impl Writer<'_> {
    /// What is left of the current slot, going on to the next where nothing is.
    fn rest(&mut self) -> Option<Place<'_>> {
        while self.slot < self.window.count {
            let slot = &self.window.slots[(self.window.first + self.slot) % SLOTS];
            if self.offset < slot.length as usize {
                // SAFETY: the slot lies in the window's pinned memory, which the
                // result borrows.
                let place = unsafe { Place::pinned(slot.at, slot.length as usize) };
                return Some(place.split(self.offset).1);
            }
            (self.slot, self.offset) = (self.slot + 1, 0);
        }
        None
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(place) = self.rest() else { return };
            let written = place.write(bytes);
            self.offset += written;
            bytes = &bytes[written..];
        }
    }

    fn copy(&mut self, mut from: Place<'_>) {
        while from.length() > 0 {
            let Some(place) = self.rest() else { return };
            let copied = place.copy_from(from);
            self.offset += copied;
            from = from.split(copied).1;
        }
    }
}

/// Writes the virtio-net header of a frame that lies in `buffers` buffers,
/// unless it stands there already: buffers come round again, and a line that is only
/// read stays with both CPUs.
///
/// # Safety
/// `at` is valid for [`PREFIX_BYTES`].
#[inline(always)]
#[allow(clippy::cast_ptr_alignment)]
unsafe fn write_prefix(at: *mut u8, net: NetHeader, buffers: u16) {
    let first = net.front.to_le();
    let last = (u32::from(buffers) << 16 | u32::from(net.back)).to_le();
    // SAFETY: two words of together PREFIX_BYTES.
    unsafe {
        let (front, back) = (at.cast::<u64>(), at.add(8).cast::<u32>());
        if front.read_unaligned() != first || back.read_unaligned() != last {
            front.write_unaligned(first);
            back.write_unaligned(last);
        }
    }
}

/// Copies a body.
///
/// # Safety
/// `at` is valid for as many bytes as the body has.
#[inline(always)]
unsafe fn copy_body(body: Body<'_>, at: *mut u8) {
    let mut at = at;
    if let Some(place) = body.only() {
        // SAFETY: as the caller promises.
        unsafe { copy::payload(place.as_ptr(), at, place.length()) };
        return;
    }
    for place in body.places() {
        // SAFETY: the places are together as long as the body.
        unsafe {
            copy::payload(place.as_ptr(), at, place.length());
            at = at.add(place.length());
        }
    }
}
