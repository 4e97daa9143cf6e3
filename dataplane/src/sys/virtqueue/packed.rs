//! Packed rings (virtio 1.2, 2.8): one ring of descriptors that driver and device
//! write in turn.
//!
//! A descriptor's length, id and flags are one word of eight bytes: it is read once,
//! and a used entry is one store.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::area::{Area, Descriptors, Table, Tail};
use super::bell::{self, Bell};
use super::indirect::{Direction, Linkage, Tables};
use super::sink::Buffers;
use super::window::{Link, Window};
use super::{
    CHAIN_DESCRIPTORS, Chain, ChainFault, Doorbell, INDIRECT, Layout, LayoutError, Moment, NEXT,
    Order, Piece, Position, RingFault, SIZE_MAX, Taken, Terms, Visit, WRITE, Wishes,
};

/// `VIRTQ_DESC_F_AVAIL`.
const AVAILABLE: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`.
pub const USED: u16 = 1 << 15;
/// `RING_EVENT_FLAGS_ENABLE`, in the second half of an event suppression area.
pub(super) const EVENT_ENABLE: u16 = 0;
/// `RING_EVENT_FLAGS_DISABLE`.
pub(super) const EVENT_DISABLE: u16 = 1;
/// `RING_EVENT_FLAGS_DESC`: at the place in the first half.
pub(super) const EVENT_AT: u16 = 2;
/// The wrap counter in a [`Position`].
const WRAP: u16 = 1 << 15;

/// Which of a descriptor's flags say that it is available in this lap; in the next
/// one it is the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum Lap {
    /// The wrap counter is 1.
    Odd = AVAILABLE,
    /// The wrap counter is 0.
    Even = USED,
}

impl Lap {
    #[inline(always)]
    pub(super) fn other(self) -> Lap {
        match self {
            Lap::Odd => Lap::Even,
            Lap::Even => Lap::Odd,
        }
    }

    /// The flags of an available descriptor.
    #[inline(always)]
    pub(super) fn available(self) -> u16 {
        self as u16
    }

    /// The flags of a used descriptor.
    #[inline(always)]
    pub(super) fn used(self) -> u16 {
        match self {
            Lap::Odd => AVAILABLE | USED,
            Lap::Even => 0,
        }
    }

    #[inline(always)]
    pub(super) fn is_available(self, flags: u16) -> bool {
        flags & (AVAILABLE | USED) == self.available()
    }

    #[inline(always)]
    pub(super) fn is_used(self, flags: u16) -> bool {
        flags & (AVAILABLE | USED) == self.used()
    }
}

/// A place in a packed ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    pub(super) index: u16,
    pub(super) lap: Lap,
}

impl Cursor {
    pub(super) const START: Cursor = Cursor { index: 0, lap: Lap::Odd };

    pub(super) fn at(position: u16, size: u16) -> Result<Cursor, LayoutError> {
        let index = position & !WRAP;
        let lap = if position & WRAP == 0 { Lap::Even } else { Lap::Odd };
        if index < size { Ok(Cursor { index, lap }) } else { Err(LayoutError::Position) }
    }

    pub(super) fn position(self) -> u16 {
        match self.lap {
            Lap::Odd => self.index | WRAP,
            Lap::Even => self.index,
        }
    }

    /// How many places this one is behind `event`, a place as a [`Position`] has it, that
    /// was passed at most a ring ago; nothing if it was not.
    pub(super) fn passed(self, event: u16, size: u16) -> Option<u32> {
        let (index, place) = (u32::from(self.index), u32::from(event & !WRAP));
        let same_lap = (event ^ self.position()) & WRAP == 0;
        let index = if same_lap { index } else { index + u32::from(size) };
        index.checked_sub(place)
    }

    /// The place `count` (at most `size`) descriptors on.
    #[inline(always)]
    pub(super) fn after(self, count: u16, size: u16) -> Cursor {
        let index = u32::from(self.index) + u32::from(count);
        match index.checked_sub(u32::from(size)) {
            Some(index) => Cursor { index: index as u16, lap: self.lap.other() },
            None => Cursor { index: index as u16, lap: self.lap },
        }
    }
}

/// How far a ring's available descriptors were taken.
#[derive(Clone, Copy, Debug)]
struct Walk {
    size: u16,
    /// Where to look for the next available descriptor.
    next: Cursor,
    /// Descriptors taken and not given back: never more than there are.
    held: u16,
}

/// A walk that is in registers whatever else is written meanwhile, and is put back where it
/// belongs when this is dropped: also if a visitor panics.
struct Underway<'w> {
    walk: Walk,
    kept: &'w mut Walk,
}

impl Underway<'_> {
    // Field by field, here and below: taken as one word they would stay one, and be shifted
    // for each use.
    #[inline(always)]
    fn on(kept: &mut Walk) -> Underway<'_> {
        let Walk { size, next: Cursor { index, lap }, held } = *kept;
        Underway { walk: Walk { size, next: Cursor { index, lap }, held }, kept }
    }
}

impl Drop for Underway<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.kept.next.index = self.walk.next.index;
        self.kept.next.lap = self.walk.next.lap;
        self.kept.held = self.walk.held;
    }
}

impl Walk {
    /// The next descriptor, if the driver has made it available.
    #[inline(always)]
    fn available(&self, table: Table<'_>) -> Option<Tail> {
        let tail = table.tail(self.next.index, Ordering::Acquire);
        self.next.lap.is_available(tail.high()).then_some(tail)
    }

    /// Takes the next descriptors. A driver that makes what the device still holds
    /// available again would have the ring run over itself.
    #[inline(always)]
    fn take(&mut self, descriptors: u16) -> Result<(), RingFault> {
        if descriptors > self.size - self.held {
            return Err(RingFault::Overrun);
        }
        self.held += descriptors;
        self.next = self.next.after(descriptors, self.size);
        Ok(())
    }
}

/// What both directions have.
#[derive(Debug)]
struct Ring {
    descriptors: Descriptors,
    /// The driver's event suppression, and the device's: a place and flags.
    driver: Area,
    device: Area,
    wishes: Wishes,
    walk: Walk,
    /// Where the next used entry goes.
    used: Cursor,
    bell: Bell,
}

impl Ring {
    fn new(terms: &Terms) -> Result<Ring, LayoutError> {
        let Layout { size, descriptors, driver, device } = terms.layout;
        if size == 0 || size > SIZE_MAX {
            return Err(LayoutError::Size(size));
        }
        let ring = Ring {
            descriptors: Descriptors::new(&terms.memory, descriptors, size)?,
            driver: Area::new(&terms.memory, driver, 4, 4)?,
            device: Area::new(&terms.memory, device, 4, 4)?,
            wishes: terms.wishes,
            walk: Walk { size, next: Cursor::at(terms.position.available, size)?, held: 0 },
            used: Cursor::at(terms.position.used, size)?,
            bell: Bell::new(size),
        };
        ring.refuse_kicks();
        Ok(ring)
    }

    /// Tells the driver that it need not kick.
    fn refuse_kicks(&self) {
        self.device.word16(1).store(EVENT_DISABLE.to_le(), Ordering::Relaxed);
    }

    /// Asks the driver to kick with the next descriptor; says whether it is there already.
    fn want_kicks(&self) -> bool {
        let suppression = match self.wishes {
            Wishes::Flags => u32::from(EVENT_ENABLE) << 16,
            Wishes::EventIndex => u32::from(EVENT_AT) << 16 | u32::from(self.walk.next.position()),
        };
        let ask = || self.device.word32(0).store(suppression.to_le(), Ordering::Relaxed);
        bell::ask_and_look(ask, || self.has_descriptors())
    }

    /// Whether the next descriptor is available.
    #[inline(always)]
    fn has_descriptors(&self) -> bool {
        self.walk.available(self.descriptors.table()).is_some()
    }

    /// Writes used entries, each `(length, id, descriptors)`, the first one last: a
    /// driver that polls sees all of them at once.
    #[inline(always)]
    fn give(&mut self, entries: impl Iterator<Item = (u32, u16, u16)>, flags: u16) {
        let table = self.descriptors.table();
        let (mut first, mut at, mut given) = (None, self.used, 0);
        for (length, id, descriptors) in entries {
            let tail = Tail::new(length, id, at.lap.used() | flags);
            match first {
                None => first = Some((at.index, tail)),
                Some(_) => table.set_tail(at.index, tail, Ordering::Relaxed),
            }
            at = at.after(descriptors, self.walk.size);
            given += descriptors;
        }
        if let Some((index, tail)) = first {
            table.set_tail(index, tail, Ordering::Release);
            self.used = at;
            self.walk.held -= given;
            self.bell.note_publication(given);
        }
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        let Ring { driver, bell, used, walk, wishes, .. } = self;
        bell.ask(moment, |pending| {
            // Both halves at once: the driver may write them as one.
            let suppression = u32::from_le(driver.word32(0).load(Ordering::Relaxed));
            let (event, flags) = (suppression as u16, (suppression >> 16) as u16 & 3);
            let wanted = match (flags, *wishes) {
                (EVENT_DISABLE, _) => false,
                (EVENT_AT, Wishes::EventIndex) => used
                    .passed(event, walk.size)
                    .is_some_and(|places| (1..=pending).contains(&places)),
                _ => true,
            };
            if wanted { Doorbell::Wanted } else { Doorbell::Silent }
        })
    }

    fn position(&self, untaken: Cursor) -> Position {
        Position { available: untaken.position(), used: self.used.position() }
    }
}

/// The driver's transmit queue.
#[derive(Debug)]
pub struct Source {
    ring: Ring,
    taken: Taken,
    pieces: Vec<Piece>,
    tables: Tables,
}

impl Source {
    /// Opens the queue, and tells the driver that it need not kick.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(terms: &Terms) -> Result<Source, LayoutError> {
        Ok(Source {
            ring: Ring::new(terms)?,
            taken: Taken::new(terms.order),
            pieces: Vec::with_capacity(CHAIN_DESCRIPTORS),
            tables: Tables::new(terms, Linkage::InPlace, Direction::FromDriver),
        })
    }

    /// Takes up to `limit` chains of one descriptor, until told to stop; says how
    /// many, and with what the next one begins if it is of another kind.
    #[inline(always)]
    fn take_simple(
        &mut self,
        limit: usize,
        visitor: &mut impl Visit,
    ) -> Result<(usize, Option<Tail>), RingFault> {
        let Source { ring, taken, .. } = self;
        let table = ring.descriptors.table();
        let mut on = Underway::on(&mut ring.walk);
        for count in 0..limit {
            let Some(tail) = on.walk.available(table) else { return Ok((count, None)) };
            if tail.high() & (NEXT | WRITE | INDIRECT) != 0 {
                return Ok((count, Some(tail)));
            }
            let piece = (table.address(on.walk.next.index), tail.length());
            on.walk.take(1)?;
            taken.push(tail.low(), 1);
            if visitor.piece(piece).is_break() {
                return Ok((count + 1, None));
            }
        }
        Ok((limit, None))
    }

    /// Takes a chain of several descriptors, or of kinds that cannot be used, that
    /// begins with `tail`.
    #[inline(never)]
    fn take_chain(
        &mut self,
        mut tail: Tail,
        visitor: &mut impl Visit,
    ) -> Result<ControlFlow<()>, RingFault> {
        self.pieces.clear();
        if tail.high() & (NEXT | INDIRECT) == INDIRECT {
            return self.take_table(tail, visitor);
        }
        let mut fault = None;
        let mut at = self.ring.walk.next;
        for count in 1..=self.ring.walk.size {
            if tail.high() & (WRITE | INDIRECT) != 0 {
                fault = Some(ChainFault::Descriptor);
            } else if self.pieces.len() == CHAIN_DESCRIPTORS {
                fault = fault.or(Some(ChainFault::TooLong));
            } else {
                self.pieces.push((self.ring.descriptors.address(at.index), tail.length()));
            }
            if tail.high() & NEXT == 0 {
                self.ring.walk.take(count)?;
                self.taken.push(tail.low(), count);
                let chain = fault.map_or(Chain::Pieces(&self.pieces), Chain::Unusable);
                return Ok(visitor.chain(chain));
            }
            at = at.after(1, self.ring.walk.size);
            tail = self.ring.descriptors.tail(at.index, Ordering::Relaxed);
        }
        Err(RingFault::Endless)
    }

    /// Takes a chain in the table that a descriptor names.
    fn take_table(
        &mut self,
        tail: Tail,
        visitor: &mut impl Visit,
    ) -> Result<ControlFlow<()>, RingFault> {
        let Source { ring, taken, pieces, tables } = self;
        let table = (ring.descriptors.address(ring.walk.next.index), tail.length());
        let walked = tables.walk(table, CHAIN_DESCRIPTORS, |piece, _| {
            pieces.push(piece);
            Ok(())
        });
        ring.walk.take(1)?;
        taken.push(tail.low(), 1);
        Ok(visitor.chain(walked.err().map_or(Chain::Pieces(pieces), Chain::Unusable)))
    }
}

impl super::Source for Source {
    #[inline]
    fn take(&mut self, limit: usize, mut visitor: impl Visit) -> Result<usize, RingFault> {
        let limit = limit.min(self.taken.room());
        let mut count = 0;
        loop {
            let (frames, tail) = self.take_simple(limit - count, &mut visitor)?;
            count += frames;
            let Some(tail) = tail else { return Ok(count) };
            count += 1;
            if self.take_chain(tail, &mut visitor)?.is_break() {
                return Ok(count);
            }
        }
    }

    #[inline]
    fn give_back(&mut self) {
        match (self.taken.order, self.taken.entries().last()) {
            (_, None) => return,
            (Order::InOrder, Some(&(id, _))) => {
                let all = (0, id, self.taken.descriptors);
                self.ring.give(std::iter::once(all), 0);
            }
            (Order::Any, Some(_)) => {
                let entries = self.taken.entries().iter();
                self.ring.give(entries.map(|&(id, descriptors)| (0, id, descriptors)), 0);
            }
        }
        self.taken.clear();
    }

    fn flush(&mut self) {}

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        self.ring.doorbell(moment)
    }

    #[inline]
    fn has_frames(&self) -> bool {
        self.ring.has_descriptors()
    }

    fn want_kicks(&mut self) -> bool {
        self.ring.want_kicks()
    }

    fn refuse_kicks(&mut self) {
        self.ring.refuse_kicks();
    }

    fn position(&mut self) -> Position {
        // What was taken but not given back begins where the next used entry goes.
        let untaken = if self.taken.count == 0 { self.ring.walk.next } else { self.ring.used };
        self.ring.position(untaken)
    }
}

/// The driver's receive queue.
pub type Sink = super::sink::Sink<Receive>;

/// A ring that the driver fills with empty buffers.
#[derive(Debug)]
pub struct Receive {
    ring: Ring,
    tables: Tables,
}

impl Receive {
    /// Finds buffers of one descriptor; says with what the next one begins if it is of
    /// another kind and still wanted.
    #[inline(always)]
    fn find_simple(
        &mut self,
        window: &mut Window,
        wanted: usize,
    ) -> Result<Option<Tail>, RingFault> {
        let Receive { ring, .. } = self;
        let table = ring.descriptors.table();
        let mut on = Underway::on(&mut ring.walk);
        while window.count() < wanted {
            let Some(tail) = on.walk.available(table) else { return Ok(None) };
            if tail.high() & (NEXT | WRITE | INDIRECT) != WRITE {
                return Ok(Some(tail));
            }
            let piece = (table.address(on.walk.next.index), tail.length());
            on.walk.take(1)?;
            window.push(piece, tail.low(), Link::ONE)?;
        }
        Ok(None)
    }

    /// Finds a buffer of several descriptors, or one in a table, that begins with `tail`.
    #[inline(never)]
    fn find_chain(&mut self, window: &mut Window, mut tail: Tail) -> Result<(), RingFault> {
        let Receive { ring, tables } = self;
        let mut at = ring.walk.next;
        if tail.high() & (NEXT | INDIRECT) == INDIRECT {
            let table = (ring.descriptors.address(at.index), tail.length());
            ring.walk.take(1)?;
            return window.push_table(tables, table, tail.low(), 1);
        }
        for count in 1..=CHAIN_DESCRIPTORS as u16 {
            if tail.high() & (WRITE | INDIRECT) != WRITE {
                return Err(RingFault::Buffer);
            }
            let piece = (ring.descriptors.address(at.index), tail.length());
            if tail.high() & NEXT == 0 {
                ring.walk.take(count)?;
                return window.push(piece, tail.low(), Link::last(count));
            }
            window.push(piece, tail.low(), Link::MORE)?;
            at = at.after(1, ring.walk.size);
            tail = ring.descriptors.tail(at.index, Ordering::Relaxed);
        }
        Err(RingFault::Endless)
    }
}

impl Buffers for Receive {
    fn open(terms: &Terms) -> Result<Receive, LayoutError> {
        let tables = Tables::new(terms, Linkage::InPlace, Direction::ToDriver);
        Ok(Receive { ring: Ring::new(terms)?, tables })
    }

    #[inline(always)]
    fn find(&mut self, window: &mut Window, wanted: usize) -> Result<(), RingFault> {
        while let Some(tail) = self.find_simple(window, wanted)? {
            self.find_chain(window, tail)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn publish(&mut self, window: &mut Window) {
        let Receive { ring, .. } = self;
        let first = ring.used.index;
        let filled = window.filled().iter();
        ring.give(filled.map(|entry| (entry.length, entry.id, entry.descriptors)), WRITE);
        window.clear_filled();
        let end = ring.used.index;
        ring.descriptors.hand_on(first, if end < first { ring.walk.size } else { end });
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        self.ring.doorbell(moment)
    }

    fn position(&self) -> Position {
        // What is found or filled but not published begins where the next used entry goes.
        self.ring.position(self.ring.used)
    }
}
