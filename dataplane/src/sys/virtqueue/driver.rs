//! The driver's half of both rings: what a guest does, in a form that tests and
//! measuring programs share. It puts its rings and buffers into memory of its own and
//! trusts the device, as guests do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::area::{Area, Descriptors, Tail};
use super::packed::Cursor;
use super::{Layout, LayoutError, NEXT, Order, WRITE};
use crate::sys::memory::Memory;

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

/// The driver's half of a split ring.
#[derive(Debug)]
pub struct SplitDriver {
    descriptors: Descriptors,
    available: Area,
    used: Area,
    size: u16,
    order: Order,
    /// Free descriptors, the next one last; in order: by position instead.
    free: Vec<u16>,
    /// Descriptors of the chain that begins at a head.
    lengths: Vec<u16>,
    /// Heads in the order they were made available.
    sent: std::collections::VecDeque<u16>,
    next: u16,
    index: u16,
    collected: u16,
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
        })
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
            let tail = self.descriptors.tail(index, Ordering::Relaxed);
            self.free.push(index);
            index = tail.high();
        }
    }
}

impl Driver for SplitDriver {
    fn add(&mut self, chain: &[Buffer]) -> Option<u16> {
        if chain.is_empty() || chain.len() > self.free.len() {
            return None;
        }
        let indexes: Vec<u16> = chain.iter().map(|_| self.allocate()).collect();
        for (place, buffer) in chain.iter().enumerate() {
            let next = indexes.get(place + 1).copied();
            let flags = buffer.access.flag() | next.map_or(0, |_| NEXT);
            let tail = Tail::new(buffer.length, flags, next.unwrap_or(0));
            self.descriptors.set_address(indexes[place], buffer.address);
            self.descriptors.set_tail(indexes[place], tail, Ordering::Relaxed);
        }
        let head = indexes[0];
        let slot = 2 + usize::from(self.index % self.size);
        self.available.word16(slot).store(head.to_le(), Ordering::Relaxed);
        self.index = self.index.wrapping_add(1);
        self.lengths[usize::from(head)] = chain.len() as u16;
        self.sent.push_back(head);
        Some(head)
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
    /// Ids in the order they were made available.
    sent: std::collections::VecDeque<u16>,
    /// Heads not yet shown: place and second word.
    hidden: Vec<(u16, Tail)>,
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
        suppression.word16(1).store(1_u16.to_le(), Ordering::Relaxed);
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
        })
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
        self.lengths[usize::from(id)] = chain.len() as u16;
        self.room -= chain.len() as u16;
        self.sent.push_back(id);
        Some(id)
    }

    fn publish(&mut self) {
        for (index, tail) in self.hidden.drain(..) {
            self.descriptors.set_tail(index, tail, Ordering::Release);
        }
    }

    fn collect(&mut self, mut visit: impl FnMut(Returned)) {
        loop {
            let tail = self.descriptors.tail(self.used.index, Ordering::Acquire);
            let full = usize::from(self.room) == usize::from(self.size);
            if full || !self.used.lap.is_used(tail.high()) {
                return;
            }
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
