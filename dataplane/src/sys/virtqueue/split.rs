//! Split rings (virtio 1.2, 2.7): a table of descriptors, a ring of heads that the
//! driver makes available, a ring of those that the device has used.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU16, Ordering};

use super::area::{Area, Descriptors, Tail};
use super::bell::{self, Bell};
use super::indirect::{Direction, Linkage, Tables};
use super::sink::Buffers;
use super::window::{Link, Window};
use super::{
    CHAIN_DESCRIPTORS, Chain, ChainFault, Doorbell, INDIRECT, Layout, LayoutError, Moment, NEXT,
    Piece, Position, RingFault, SIZE_MAX, Taken, Terms, Visit, WRITE, Wishes,
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;
/// The flags of a descriptor that names a table: [`WRITE`] means nothing there.
const INDIRECT_WRITE: u16 = INDIRECT | WRITE;
/// The flags of a receive buffer's descriptor that is not its last.
const WRITE_NEXT: u16 = WRITE | NEXT;
/// Used entries of a transmit queue that are shown late, as far as the ring has four
/// times as many: the number at which DPDK's driver frees a whole ring at once.
const LATE: u16 = 32;
/// Moments without a burst after which they are shown all the same.
const LATE_MOMENTS: u32 = 1024;

/// What both directions have.
#[derive(Debug)]
struct Ring {
    descriptors: Descriptors,
    /// u16 words: flags, index, heads, used event.
    available: Area,
    /// u16 words flags and index, then pairs of u32 words: id, length; then, as a u16 word,
    /// the available event.
    used: Area,
    mask: u16,
    /// The index as the driver last wrote it.
    seen: u16,
    /// The next head to take.
    next: u16,
    /// Where the next used entry goes.
    given: u16,
    /// The used index as the driver sees it.
    shown: u16,
    wishes: Wishes,
    bell: Bell,
}

impl Ring {
    fn new(terms: &Terms) -> Result<Ring, LayoutError> {
        let Layout { size, descriptors, driver, device } = terms.layout;
        if !size.is_power_of_two() || size > SIZE_MAX {
            return Err(LayoutError::Size(size));
        }
        let entries = usize::from(size);
        let used = Area::new(&terms.memory, device, 6 + 8 * entries, 4)?;
        let ring = Ring {
            descriptors: Descriptors::new(&terms.memory, descriptors, size)?,
            available: Area::new(&terms.memory, driver, 6 + 2 * entries, 2)?,
            used,
            mask: size - 1,
            seen: terms.position.available,
            next: terms.position.available,
            given: terms.position.used,
            shown: terms.position.used,
            wishes: terms.wishes,
            bell: Bell::new(size),
        };
        ring.refuse_kicks();
        Ok(ring)
    }

    /// Where the driver finds the head at which it is to kick.
    fn available_event(&self) -> &AtomicU16 {
        self.used.word16(2 + 4 * (usize::from(self.mask) + 1))
    }

    /// Tells the driver that it need not kick: by event index, that it should have with
    /// the last head.
    fn refuse_kicks(&self) {
        match self.wishes {
            Wishes::Flags => self.used.word16(0).store(NO_NOTIFY.to_le(), Ordering::Relaxed),
            Wishes::EventIndex => {
                self.used.word16(0).store(0, Ordering::Relaxed);
                let last = self.next.wrapping_sub(1);
                self.available_event().store(last.to_le(), Ordering::Relaxed);
            }
        }
    }

    /// Asks the driver to kick with the next head; says whether there is one already.
    fn want_kicks(&self) -> bool {
        let ask = || match self.wishes {
            Wishes::Flags => self.used.word16(0).store(0, Ordering::Relaxed),
            Wishes::EventIndex => {
                self.available_event().store(self.next.to_le(), Ordering::Relaxed);
            }
        };
        bell::ask_and_look(ask, || self.has_heads())
    }

    /// Whether the driver's index says that heads wait, or what it must not.
    #[inline(always)]
    fn has_heads(&self) -> bool {
        u16::from_le(self.available.word16(1).load(Ordering::Relaxed)) != self.next
    }

    /// How many heads wait; the driver's index is read only if none was left over.
    #[inline(always)]
    fn waiting(&mut self) -> Result<u16, RingFault> {
        let left = self.seen.wrapping_sub(self.next);
        if left > 0 {
            return Ok(left);
        }
        self.refresh()
    }

    /// How many heads wait by the driver's index as it is now.
    #[inline(always)]
    fn refresh(&mut self) -> Result<u16, RingFault> {
        let index = u16::from_le(self.available.word16(1).load(Ordering::Acquire));
        let waiting = index.wrapping_sub(self.next);
        if waiting > self.mask.wrapping_add(1) {
            return Err(RingFault::Overrun);
        }
        self.seen = index;
        Ok(waiting)
    }

    /// The next head.
    #[inline(always)]
    fn head(&self) -> Result<u16, RingFault> {
        let slot = usize::from(self.next & self.mask);
        let head = u16::from_le(self.available.word16(2 + slot).load(Ordering::Relaxed));
        if head > self.mask { Err(RingFault::Index) } else { Ok(head) }
    }

    /// Writes a used entry `ahead` places on.
    #[inline(always)]
    fn set_used(&self, ahead: u16, id: u16, length: u32) {
        let slot = usize::from(self.given.wrapping_add(ahead) & self.mask);
        self.used.word32(1 + 2 * slot).store(u32::from(id).to_le(), Ordering::Relaxed);
        self.used.word32(2 + 2 * slot).store(length.to_le(), Ordering::Relaxed);
    }

    /// Hands the lines of the last `count` used entries on to the driver, but not the
    /// one that is not full yet.
    #[inline(always)]
    fn hand_on(&self, count: u16) {
        let first = usize::from(self.given.wrapping_sub(count) & self.mask);
        let end = usize::from(self.given & self.mask);
        let end = if end < first { usize::from(self.mask) + 1 } else { end };
        self.used.hand_on(4 + 8 * first, 4 + 8 * end);
    }

    /// Counts `count` used entries as written, not yet as shown.
    #[inline(always)]
    fn give(&mut self, count: u16) {
        self.given = self.given.wrapping_add(count);
    }

    /// Shows the driver all used entries but the last `late`.
    #[inline(always)]
    fn show(&mut self, late: u16) {
        let index = self.given.wrapping_sub(late);
        // Never backwards: `late` may be more than was given since the last time.
        if (index.wrapping_sub(self.shown) as i16) > 0 {
            self.bell.note_publication(index.wrapping_sub(self.shown));
            self.shown = index;
            self.used.word16(1).store(index.to_le(), Ordering::Release);
        }
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        let Ring { available, bell, shown, mask, wishes, .. } = self;
        bell.ask(moment, |pending| {
            let wanted = match wishes {
                Wishes::Flags => {
                    u16::from_le(available.word16(0).load(Ordering::Relaxed)) & NO_INTERRUPT == 0
                }
                Wishes::EventIndex => {
                    let event = 2 + usize::from(*mask) + 1;
                    let event = u16::from_le(available.word16(event).load(Ordering::Relaxed));
                    // The entry at the event is among those published.
                    u32::from(shown.wrapping_sub(event).wrapping_sub(1)) < pending
                }
            };
            if wanted { Doorbell::Wanted } else { Doorbell::Silent }
        })
    }
}

/// The driver's transmit queue. The last entries given back are shown late: see
/// [`super::Source::give_back`].
#[derive(Debug)]
pub struct Source {
    ring: Ring,
    taken: Taken,
    /// How many of the last used entries are shown late.
    late: u16,
    /// Times the doorbell was asked for since the last burst.
    moments: u32,
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
            late: LATE.min(terms.layout.size / 4),
            moments: 0,
            pieces: Vec::with_capacity(CHAIN_DESCRIPTORS),
            tables: Tables::new(terms, Linkage::ByIndex, Direction::FromDriver),
        })
    }

    /// Takes a chain of several descriptors, or of kinds that cannot be used, that
    /// begins with `tail`.
    #[inline(never)]
    fn take_chain(&mut self, head: u16, tail: Tail, visitor: &mut impl Visit) -> ControlFlow<()> {
        self.pieces.clear();
        let fault = self.gather(head, tail).err();
        visitor.chain(fault.map_or(Chain::Pieces(&self.pieces), Chain::Unusable))
    }

    /// Collects the pieces of a chain, which a table may end.
    fn gather(&mut self, head: u16, mut tail: Tail) -> Result<(), ChainFault> {
        let mut index = head;
        for _ in 0..CHAIN_DESCRIPTORS {
            let (flags, next) = (tail.low(), tail.high());
            let piece = (self.ring.descriptors.address(index), tail.length());
            match flags & (NEXT | WRITE | INDIRECT) {
                INDIRECT | INDIRECT_WRITE => return self.gather_table(piece),
                0 | NEXT => self.pieces.push(piece),
                _ => return Err(ChainFault::Descriptor),
            }
            if flags & NEXT == 0 {
                return Ok(());
            }
            if next > self.ring.mask {
                return Err(ChainFault::Descriptor);
            }
            index = next;
            tail = self.ring.descriptors.tail(index, Ordering::Relaxed);
        }
        Err(ChainFault::TooLong)
    }

    /// Collects the pieces of a table.
    fn gather_table(&mut self, table: Piece) -> Result<(), ChainFault> {
        let Source { tables, pieces, .. } = self;
        tables.walk(table, CHAIN_DESCRIPTORS - pieces.len(), |piece, _| {
            pieces.push(piece);
            Ok(())
        })
    }
}

impl super::Source for Source {
    #[inline]
    fn take(&mut self, limit: usize, mut visitor: impl Visit) -> Result<usize, RingFault> {
        let limit = limit.min(self.taken.room()).min(usize::from(self.ring.refresh()?));
        for count in 0..limit {
            let head = self.ring.head()?;
            let tail = self.ring.descriptors.tail(head, Ordering::Relaxed);
            self.ring.next = self.ring.next.wrapping_add(1);
            self.taken.push(head, 1);
            let flow = if tail.low() & (NEXT | WRITE | INDIRECT) == 0 {
                visitor.piece((self.ring.descriptors.address(head), tail.length()))
            } else {
                self.take_chain(head, tail, &mut visitor)
            };
            if flow.is_break() {
                return Ok(count + 1);
            }
        }
        Ok(limit)
    }

    // The last entries are shown when more follow. DPDK's driver frees what has come
    // back one by one as long as it has to, but all at once as soon as nearly the whole
    // ring has come back: a device that is fast enough for that makes it cycle through
    // all of its memory, and halves its rate. In order, too, each chain has its entry,
    // for the index may stop anywhere.
    #[inline]
    fn give_back(&mut self) {
        let count = self.taken.entries().len();
        if count == 0 {
            return;
        }
        for (ahead, &(id, _)) in self.taken.entries().iter().enumerate() {
            self.ring.set_used(ahead as u16, id, 0);
        }
        self.ring.give(count as u16);
        self.ring.show(self.late);
        self.taken.clear();
        self.moments = 0;
    }

    #[inline]
    fn flush(&mut self) {
        self.ring.show(0);
        self.moments = 0;
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        self.moments += 1;
        if self.moments >= LATE_MOMENTS {
            self.flush();
        }
        self.ring.doorbell(moment)
    }

    #[inline]
    fn has_frames(&self) -> bool {
        self.ring.has_heads()
    }

    fn want_kicks(&mut self) -> bool {
        self.ring.want_kicks()
    }

    fn refuse_kicks(&mut self) {
        self.ring.refuse_kicks();
    }

    fn position(&mut self) -> Position {
        self.flush();
        let untaken = self.ring.next.wrapping_sub(self.taken.count as u16);
        Position { available: untaken, used: self.ring.given }
    }
}

/// The driver's receive queue.
pub type Sink = super::sink::Sink<Receive>;

/// A ring that the driver fills with empty buffers.
#[derive(Debug)]
pub struct Receive {
    ring: Ring,
    /// Buffers found and not published.
    found: u16,
    tables: Tables,
}

impl Receive {
    /// Finds the next buffer, of which there is one.
    #[inline(always)]
    fn find_next(&mut self, window: &mut Window) -> Result<(), RingFault> {
        let head = self.ring.head()?;
        let tail = self.ring.descriptors.tail(head, Ordering::Relaxed);
        if tail.low() & (NEXT | WRITE | INDIRECT) == WRITE {
            let piece = (self.ring.descriptors.address(head), tail.length());
            window.push(piece, head, Link::ONE)?;
        } else {
            self.find_chain(window, head, tail)?;
        }
        self.ring.next = self.ring.next.wrapping_add(1);
        self.found += 1;
        Ok(())
    }

    /// Finds a buffer of several pieces, which a table may end.
    #[inline(never)]
    fn find_chain(
        &mut self,
        window: &mut Window,
        head: u16,
        mut tail: Tail,
    ) -> Result<(), RingFault> {
        let mut index = head;
        for count in 1..=CHAIN_DESCRIPTORS as u16 {
            let piece = (self.ring.descriptors.address(index), tail.length());
            match tail.low() & (NEXT | WRITE | INDIRECT) {
                INDIRECT | INDIRECT_WRITE => {
                    return window.push_table(&mut self.tables, piece, head, count);
                }
                WRITE => return window.push(piece, head, Link::last(count)),
                WRITE_NEXT => window.push(piece, head, Link::MORE)?,
                _ => return Err(RingFault::Buffer),
            }
            index = tail.high();
            if index > self.ring.mask {
                return Err(RingFault::Index);
            }
            tail = self.ring.descriptors.tail(index, Ordering::Relaxed);
        }
        Err(RingFault::Endless)
    }
}

impl Buffers for Receive {
    fn open(terms: &Terms) -> Result<Receive, LayoutError> {
        let tables = Tables::new(terms, Linkage::ByIndex, Direction::ToDriver);
        Ok(Receive { ring: Ring::new(terms)?, found: 0, tables })
    }

    #[inline(always)]
    fn find(&mut self, window: &mut Window, wanted: usize) -> Result<(), RingFault> {
        while window.count() < wanted && self.ring.waiting()? > 0 {
            self.find_next(window)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn publish(&mut self, window: &mut Window) {
        let count = window.filled().len() as u16;
        if count == 0 {
            return;
        }
        for (ahead, filled) in window.filled().iter().enumerate() {
            self.ring.set_used(ahead as u16, filled.id, filled.length);
        }
        self.ring.give(count);
        self.ring.show(0);
        self.ring.hand_on(count);
        self.found -= count;
        window.clear_filled();
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        self.ring.doorbell(moment)
    }

    fn position(&self) -> Position {
        Position { available: self.ring.next.wrapping_sub(self.found), used: self.ring.given }
    }
}
