//! The driver's half of both rings: what a guest does, in a form that tests and
//! measuring programs share. It puts its rings and buffers into memory of its own and
//! trusts the device, as guests do.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::area::{Area, Descriptors, Tail};
use super::packed::{Cursor, EVENT_AT, EVENT_DISABLE, EVENT_ENABLE};
use super::{INDIRECT, Layout, LayoutError, NEXT, Order, Position, WRITE, Wishes};
use crate::sys::memory::{Memory, RegionHint};

/// A buffer of a chain: address, length, and who may write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Where it lies.
    pub address: u64,
    /// Its size in bytes.
    pub length: u32,
    /// Whose it is to write.
    pub access: Access,
}

/// Who may write a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The driver: the device reads it.
    Read,
    /// The device.
    Write,
}

impl Access {
    fn flag(self) -> u16 {
        match self {
            Access::Read => 0,
            Access::Write => WRITE,
        }
    }
}

/// A chain that the device gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Returned {
    /// The id [`Driver::add`] said.
    pub id: u16,
    /// The bytes the device wrote; of a batch in order, 0 for all but the last.
    pub length: u32,
}

/// The driver's half of a ring.
pub trait Driver {
    /// Makes a chain available, to be seen after [`Driver::publish`]; says its id, or
    /// nothing if the ring has no room for it.
    fn add(&mut self, chain: &[Buffer]) -> Option<u16>;
    /// Shows the device what was added.
    fn publish(&mut self);
    /// Visits the chains that the device has given back since the last time.
    fn collect(&mut self, visit: impl FnMut(Returned));
}

/// What a driver does by features that it may have negotiated.
pub trait Negotiated: Driver {
    /// As [`Driver::add`], the chain in a table at this address of 16 bytes a buffer.
    fn add_indirect(&mut self, chain: &[Buffer], table: u64) -> Option<u16>;
    /// Whether the device wants a kick for what was published since this was asked last.
    fn kick_due(&mut self) -> bool;
    /// Asks the device for a call with the next chain that it gives back. A driver looks
    /// then ([`Negotiated::has_returned`]), and sleeps only if there is none.
    fn want_calls(&mut self);
    /// Tells the device that no call is needed.
    fn refuse_calls(&mut self);
    /// Whether chains were given back that are not collected.
    fn has_returned(&self) -> bool;
}

/// Writes a table; `tail` says an entry's second word, given its place.
fn write_table(
    memory: &Memory,
    table: u64,
    chain: &[Buffer],
    tail: impl Fn(usize, &Buffer) -> Tail,
) {
    let bytes: Vec<u8> = chain
        .iter()
        .enumerate()
        .flat_map(|(place, buffer)| [buffer.address, tail(place, buffer).0])
        .flat_map(u64::to_le_bytes)
        .collect();
    let place = memory.place(&mut RegionHint::default(), table, bytes.len() as u32);
    place.expect("the table lies in the driver's memory").write(&bytes);
}

/// The driver's half of a split ring.
#[derive(Debug)]
pub struct SplitDriver {
    descriptors: Descriptors,
    /// What they say.
    written: Vec<(u64, Tail)>,
    available: Area,
    used: Area,
    size: u16,
    order: Order,
    /// Free descriptors, the next one last; in order: by position instead.
    free: Vec<u16>,
    /// Descriptors of the chain that begins at a head.
    lengths: Vec<u16>,
    /// In order: heads as they were made available.
    sent: std::collections::VecDeque<u16>,
    next: u16,
    index: u16,
    collected: u16,
    memory: Arc<Memory>,
    wishes: Wishes,
    /// The index when the last kick was decided on.
    kicked: u16,
}

impl SplitDriver {
    /// A driver for the ring at `layout`, whose memory is zeroed.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(
        memory: &Arc<Memory>,
        layout: Layout,
        order: Order,
    ) -> Result<SplitDriver, LayoutError> {
        let entries = usize::from(layout.size);
        Ok(SplitDriver {
            descriptors: Descriptors::new(memory, layout.descriptors, layout.size)?,
            written: vec![(0, Tail::new(0, 0, 0)); entries],
            available: Area::new(memory, layout.driver, 6 + 2 * entries, 2)?,
            used: Area::new(memory, layout.device, 6 + 8 * entries, 4)?,
            size: layout.size,
            order,
            free: (0..layout.size).rev().collect(),
            lengths: vec![0; entries],
            sent: std::collections::VecDeque::with_capacity(entries),
            next: 0,
            index: 0,
            collected: 0,
            memory: Arc::clone(memory),
            wishes: Wishes::Flags,
            kicked: 0,
        })
    }

    /// The same, unused so far, from this position on and with these wishes.
    #[must_use]
    pub fn from_position(self, position: Position, wishes: Wishes) -> SplitDriver {
        let (index, collected) = (position.available, position.used);
        SplitDriver { index, kicked: index, collected, wishes, ..self }
    }

    /// Writes a descriptor that does not say this already: the device has its cache line then,
    /// and keeps it.
    fn describe(&mut self, index: u16, address: u64, tail: Tail) {
        let written = &mut self.written[usize::from(index)];
        if *written != (address, tail) {
            *written = (address, tail);
            self.descriptors.set_address(index, address);
            self.descriptors.set_tail(index, tail, Ordering::Relaxed);
        }
    }

    /// Notes a chain of so many descriptors as available.
    fn send(&mut self, head: u16, descriptors: usize) -> u16 {
        let slot = 2 + usize::from(self.index % self.size);
        self.available.word16(slot).store(head.to_le(), Ordering::Relaxed);
        self.index = self.index.wrapping_add(1);
        self.lengths[usize::from(head)] = descriptors as u16;
        if self.order == Order::InOrder {
            self.sent.push_back(head);
        }
        head
    }

    /// Takes a free descriptor.
    fn allocate(&mut self) -> u16 {
        match self.order {
            Order::InOrder => {
                self.free.pop();
                let index = self.next;
                self.next = (self.next + 1) % self.size;
                index
            }
            Order::Any => self.free.pop().expect("add() counted the free ones"),
        }
    }

    fn release(&mut self, head: u16) {
        let mut index = head;
        for _ in 0..self.lengths[usize::from(head)] {
            self.free.push(index);
            index = self.written[usize::from(index)].1.high();
        }
    }
}

impl Driver for SplitDriver {
    fn add(&mut self, chain: &[Buffer]) -> Option<u16> {
        if chain.is_empty() || chain.len() > self.free.len() {
            return None;
        }
        let head = self.allocate();
        let mut index = head;
        for (place, buffer) in chain.iter().enumerate() {
            let next = (place + 1 < chain.len()).then(|| self.allocate());
            let flags = buffer.access.flag() | next.map_or(0, |_| NEXT);
            let tail = Tail::new(buffer.length, flags, next.unwrap_or(0));
            self.describe(index, buffer.address, tail);
            index = next.unwrap_or(index);
        }
        Some(self.send(head, chain.len()))
    }

    fn publish(&mut self) {
        self.available.word16(1).store(self.index.to_le(), Ordering::Release);
    }

    fn collect(&mut self, mut visit: impl FnMut(Returned)) {
        let index = u16::from_le(self.used.word16(1).load(Ordering::Acquire));
        while self.collected != index {
            let slot = usize::from(self.collected % self.size);
            let id = u32::from_le(self.used.word32(1 + 2 * slot).load(Ordering::Relaxed)) as u16;
            let length = u32::from_le(self.used.word32(2 + 2 * slot).load(Ordering::Relaxed));
            loop {
                let head = match self.order {
                    Order::InOrder => self.sent.pop_front().expect("the device invented a buffer"),
                    Order::Any => id,
                };
                self.release(head);
                self.collected = self.collected.wrapping_add(1);
                visit(Returned { id: head, length: if head == id { length } else { 0 } });
                if head == id {
                    break;
                }
            }
        }
    }
}

impl Negotiated for SplitDriver {
    fn add_indirect(&mut self, chain: &[Buffer], table: u64) -> Option<u16> {
        if chain.is_empty() || self.free.is_empty() {
            return None;
        }
        write_table(&self.memory, table, chain, |place, buffer| {
            let next = if place + 1 < chain.len() { NEXT } else { 0 };
            Tail::new(buffer.length, buffer.access.flag() | next, place as u16 + 1)
        });
        let head = self.allocate();
        self.describe(head, table, Tail::new(chain.len() as u32 * 16, INDIRECT, 0));
        Some(self.send(head, 1))
    }

    fn kick_due(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let since = self.index.wrapping_sub(std::mem::replace(&mut self.kicked, self.index));
        match self.wishes {
            Wishes::Flags => u16::from_le(self.used.word16(0).load(Ordering::Relaxed)) & 1 == 0,
            Wishes::EventIndex => {
                let event = self.used.word16(2 + 4 * usize::from(self.size));
                let event = u16::from_le(event.load(Ordering::Relaxed));
                self.index.wrapping_sub(event).wrapping_sub(1) < since
            }
        }
    }

    fn want_calls(&mut self) {
        match self.wishes {
            Wishes::Flags => self.available.word16(0).store(0, Ordering::Relaxed),
            Wishes::EventIndex => self.set_event(self.collected),
        }
        fence(Ordering::SeqCst);
    }

    fn refuse_calls(&mut self) {
        match self.wishes {
            Wishes::Flags => self.available.word16(0).store(1_u16.to_le(), Ordering::Relaxed),
            Wishes::EventIndex => self.set_event(self.collected.wrapping_sub(1)),
        }
    }

    fn has_returned(&self) -> bool {
        u16::from_le(self.used.word16(1).load(Ordering::Acquire)) != self.collected
    }
}

impl SplitDriver {
    /// Has the device call with the used entry at this index.
    fn set_event(&self, index: u16) {
        let event = self.available.word16(2 + usize::from(self.size));
        event.store(index.to_le(), Ordering::Relaxed);
    }
}

/// The driver's half of a packed ring.
#[derive(Debug)]
pub struct PackedDriver {
    descriptors: Descriptors,
    size: u16,
    order: Order,
    next: Cursor,
    used: Cursor,
    room: u16,
    ids: Vec<u16>,
    /// Descriptors of the chain with an id.
    lengths: Vec<u16>,
    /// In order: ids as they were made available.
    sent: std::collections::VecDeque<u16>,
    /// Heads not yet shown: place and second word.
    hidden: Vec<(u16, Tail)>,
    memory: Arc<Memory>,
    wishes: Wishes,
    /// Event suppression, this half's and the device's.
    suppression: Area,
    device: Area,
    /// Descriptors made available since the last kick was decided on, at most a ring.
    unkicked: u32,
}

impl PackedDriver {
    /// A driver for the ring at `layout`, whose memory is zeroed. It wants no calls.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(
        memory: &Arc<Memory>,
        layout: Layout,
        order: Order,
    ) -> Result<PackedDriver, LayoutError> {
        let entries = usize::from(layout.size);
        let suppression = Area::new(memory, layout.driver, 4, 4)?;
        suppression.word16(1).store(EVENT_DISABLE.to_le(), Ordering::Relaxed);
        Ok(PackedDriver {
            descriptors: Descriptors::new(memory, layout.descriptors, layout.size)?,
            size: layout.size,
            order,
            next: Cursor::START,
            used: Cursor::START,
            room: layout.size,
            ids: (0..layout.size).rev().collect(),
            lengths: vec![0; entries],
            sent: std::collections::VecDeque::with_capacity(entries),
            hidden: Vec::with_capacity(entries),
            memory: Arc::clone(memory),
            wishes: Wishes::Flags,
            suppression,
            device: Area::new(memory, layout.device, 4, 4)?,
            unkicked: 0,
        })
    }

    /// The same, unused so far, from this position on and with these wishes.
    ///
    /// # Errors
    /// [`LayoutError::Position`].
    pub fn from_position(
        self,
        position: Position,
        wishes: Wishes,
    ) -> Result<PackedDriver, LayoutError> {
        let next = Cursor::at(position.available, self.size)?;
        let used = Cursor::at(position.used, self.size)?;
        // Descriptors must not look available in the first lap.
        for index in 0..self.size {
            let lap = if index < next.index { next.lap } else { next.lap.other() };
            let tail = Tail::new(0, 0, lap.used());
            self.descriptors.set_tail(index, tail, Ordering::Relaxed);
        }
        Ok(PackedDriver { next, used, wishes, ..self })
    }

    /// Notes a chain of so many descriptors as sent.
    fn send(&mut self, id: u16, descriptors: usize) -> u16 {
        self.lengths[usize::from(id)] = descriptors as u16;
        self.room -= descriptors as u16;
        self.unkicked = (self.unkicked + descriptors as u32).min(self.size.into());
        if self.order == Order::InOrder {
            self.sent.push_back(id);
        }
        id
    }

    /// In order, a chain's id is its first place: no table of free ids is needed.
    fn id(&mut self) -> u16 {
        match self.order {
            Order::InOrder => self.next.index,
            Order::Any => self.ids.pop().expect("there are as many ids as places"),
        }
    }

    /// Takes one chain back.
    fn release(&mut self, id: u16) {
        let length = self.lengths[usize::from(id)];
        self.room += length;
        self.used = self.used.after(length, self.size);
        if self.order == Order::Any {
            self.ids.push(id);
        }
    }
}

impl Driver for PackedDriver {
    fn add(&mut self, chain: &[Buffer]) -> Option<u16> {
        if chain.is_empty() || chain.len() > usize::from(self.room) {
            return None;
        }
        let id = self.id();
        for (place, buffer) in chain.iter().enumerate() {
            let link = if place + 1 < chain.len() { NEXT } else { 0 };
            let flags = buffer.access.flag() | link | self.next.lap.available();
            let tail = Tail::new(buffer.length, id, flags);
            self.descriptors.set_address(self.next.index, buffer.address);
            match place {
                0 => self.hidden.push((self.next.index, tail)),
                _ => self.descriptors.set_tail(self.next.index, tail, Ordering::Relaxed),
            }
            self.next = self.next.after(1, self.size);
        }
        Some(self.send(id, chain.len()))
    }

    fn publish(&mut self) {
        for (index, tail) in self.hidden.drain(..) {
            self.descriptors.set_tail(index, tail, Ordering::Release);
        }
    }

    fn collect(&mut self, mut visit: impl FnMut(Returned)) {
        while self.has_returned() {
            let tail = self.descriptors.tail(self.used.index, Ordering::Acquire);
            let last = tail.low();
            loop {
                let id = match self.order {
                    Order::InOrder => self.sent.pop_front().expect("the device invented a buffer"),
                    Order::Any => last,
                };
                self.release(id);
                visit(Returned { id, length: if id == last { tail.length() } else { 0 } });
                if id == last {
                    break;
                }
            }
        }
    }
}

impl Negotiated for PackedDriver {
    fn add_indirect(&mut self, chain: &[Buffer], table: u64) -> Option<u16> {
        if chain.is_empty() || self.room == 0 {
            return None;
        }
        write_table(&self.memory, table, chain, |_, buffer| {
            Tail::new(buffer.length, 0, buffer.access.flag())
        });
        let id = self.id();
        self.descriptors.set_address(self.next.index, table);
        let flags = INDIRECT | self.next.lap.available();
        let tail = Tail::new(chain.len() as u32 * 16, id, flags);
        self.hidden.push((self.next.index, tail));
        self.next = self.next.after(1, self.size);
        Some(self.send(id, 1))
    }

    fn kick_due(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let since = std::mem::take(&mut self.unkicked);
        let suppression = u32::from_le(self.device.word32(0).load(Ordering::Relaxed));
        match (suppression >> 16) as u16 {
            EVENT_ENABLE => true,
            EVENT_AT => {
                let passed = self.next.passed(suppression as u16, self.size);
                passed.is_some_and(|places| (1..=since).contains(&places))
            }
            _ => false,
        }
    }

    fn want_calls(&mut self) {
        let suppression = match self.wishes {
            Wishes::Flags => u32::from(EVENT_ENABLE) << 16,
            Wishes::EventIndex => u32::from(EVENT_AT) << 16 | u32::from(self.used.position()),
        };
        self.suppression.word32(0).store(suppression.to_le(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn refuse_calls(&mut self) {
        self.suppression.word16(1).store(EVENT_DISABLE.to_le(), Ordering::Relaxed);
    }

    fn has_returned(&self) -> bool {
        let tail = self.descriptors.tail(self.used.index, Ordering::Acquire);
        self.room != self.size && self.used.lap.is_used(tail.high())
    }
}
