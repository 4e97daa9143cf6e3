//! A guest's rings: where they lie, what the driver does with them, how the switch is told.

use std::sync::Arc;

use hairpin_dataplane::port::vhost_user::message::Addresses;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::eventfd::Eventfd;
use hairpin_dataplane::sys::virtqueue::driver::{
    Access, Buffer, Driver, Negotiated, PackedDriver, Returned, SplitDriver,
};
use hairpin_dataplane::sys::virtqueue::{self, LayoutError, PREFIX_BYTES, Position};
use std::os::fd::AsFd;

use super::connection::Connection;
use super::error::FrontEndError;
use super::layout::{Chains, Layout};
use super::memory::{GUEST, GuestMemory, PAGE_BYTES};
use super::message::{
    self, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK,
    SET_VRING_NUM,
};

/// Bytes of a table of descriptors: room for four.
const TABLE_BYTES: u64 = 64;
/// To what each area of a ring is aligned: a cache line.
const ALIGNMENT: u64 = 64;
/// Bytes of a cache line.
const LINE_BYTES: u32 = 64;
/// Cache lines that are fetched ahead: what a core waits for at a time.
const LINES_NEAR: u32 = 24;
/// Buffers that are fetched ahead, at least: long ones fill what there is.
const BUFFERS_NEAR_MIN: u32 = 2;
/// Cache lines that are fetched at once where time is left until they are written.
const LINES_FETCHED: u32 = 128;
/// The position of a packed ring that was never used.
const PACKED_START: u16 = 1 << 15;

/// The driver's half of either kind of ring.
#[derive(Debug)]
pub enum RingDriver {
    /// Of a split ring.
    Split(SplitDriver),
    /// Of a packed one.
    Packed(PackedDriver),
}

macro_rules! each {
    ($driver:expr, $ring:ident => $body:expr) => {
        match $driver {
            RingDriver::Split($ring) => $body,
            RingDriver::Packed($ring) => $body,
        }
    };
}

impl Driver for RingDriver {
    fn add(&mut self, chain: &[Buffer]) -> Option<u16> {
        each!(self, ring => ring.add(chain))
    }

    fn publish(&mut self) {
        each!(self, ring => ring.publish());
    }

    fn collect(&mut self, visit: impl FnMut(Returned)) {
        each!(self, ring => ring.collect(visit));
    }
}

impl Negotiated for RingDriver {
    fn add_indirect(&mut self, chain: &[Buffer], table: u64) -> Option<u16> {
        each!(self, ring => ring.add_indirect(chain, table))
    }

    fn kick_due(&mut self) -> bool {
        each!(self, ring => ring.kick_due())
    }

    fn want_calls(&mut self) {
        each!(self, ring => ring.want_calls());
    }

    fn refuse_calls(&mut self) {
        each!(self, ring => ring.refuse_calls());
    }

    fn has_returned(&self) -> bool {
        each!(self, ring => ring.has_returned())
    }
}

/// Where a queue lies, in the guest's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ground {
    /// The ring.
    pub ring: virtqueue::Layout,
    /// Its tables of descriptors, one for each buffer.
    pub tables: u64,
    /// Its buffers.
    pub buffers: u64,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// Bytes from one to the next.
    apart_bytes: u64,
}

impl Ground {
    /// That of the ring of this number.
    #[must_use]
    pub fn of(layout: &Layout, number: usize) -> Ground {
        let entries = u64::from(layout.entries);
        let descriptors = GUEST + number as u64 * Ground::stride(layout);
        let driver = descriptors + (16 * entries).next_multiple_of(ALIGNMENT);
        let device = driver + (6 + 2 * entries).next_multiple_of(ALIGNMENT);
        let tables = device + (6 + 8 * entries).next_multiple_of(ALIGNMENT);
        let buffers = tables + TABLE_BYTES * entries;
        let ring = virtqueue::Layout { size: layout.entries, descriptors, driver, device };
        let (buffer_bytes, apart_bytes) = (layout.buffer_bytes, apart_bytes(layout));
        Ground { ring, tables, buffers, buffer_bytes, apart_bytes }
    }

    /// Bytes from one ring to the next.
    fn stride(layout: &Layout) -> u64 {
        let entries = u64::from(layout.entries);
        let areas = 16 * entries + (6 + 2 * entries) + (6 + 8 * entries) + 3 * ALIGNMENT;
        let buffers = (TABLE_BYTES + apart_bytes(layout)) * entries;
        (areas + buffers).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of all rings and their buffers.
    #[must_use]
    pub fn bytes(layout: &Layout) -> u64 {
        2 * layout.pairs as u64 * Ground::stride(layout)
    }

    /// The buffer of this number.
    #[must_use]
    pub fn buffer(&self, number: u16) -> u64 {
        self.buffers + u64::from(number) * self.apart_bytes
    }

    /// The table that goes with it.
    #[must_use]
    pub fn table(&self, number: u16) -> u64 {
        self.tables + u64::from(number) * TABLE_BYTES
    }

    /// Where the ring lies, as the switch is told.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let virtqueue::Layout { descriptors, driver, device, .. } = self.ring;
        let [descriptors, driver, device] = [descriptors, driver, device].map(GuestMemory::user);
        Addresses { descriptors, device, driver }
    }
}

/// Bytes from one buffer to the next: an odd number of cache lines, so that the beginnings of all
/// buffers, which are what is touched most, do not share a few sets of the caches.
fn apart_bytes(layout: &Layout) -> u64 {
    (u64::from(layout.buffer_bytes).div_ceil(ALIGNMENT) | 1) * ALIGNMENT
}

/// A ring and its buffers.
#[derive(Debug)]
pub struct Queue {
    number: usize,
    kind: RingKind,
    chains: Chains,
    ground: Ground,
    pub(super) driver: RingDriver,
    kick: Arc<Eventfd>,
    call: Eventfd,
    /// Buffers that nobody has.
    free: Vec<u16>,
    /// The buffer of a chain, by its id.
    given: Vec<u16>,
    /// Buffers that came back and are being looked at, each with the bytes in it.
    returned: Vec<(u16, u32)>,
}

impl Queue {
    pub(super) fn new(
        memory: &GuestMemory,
        layout: &Layout,
        number: usize,
    ) -> Result<Queue, FrontEndError> {
        let ground = Ground::of(layout, number);
        let kind = layout.features.ring_kind();
        let (kick, call) = eventfds().map_err(FrontEndError::io("an eventfd"))?;
        Ok(Queue {
            number,
            kind,
            chains: layout.chains,
            ground,
            driver: driver(memory, layout, ground.ring)?,
            kick: Arc::new(kick),
            call,
            free: (0..layout.entries).rev().collect(),
            given: vec![0; usize::from(layout.entries)],
            returned: Vec::with_capacity(usize::from(layout.entries)),
        })
    }

    /// Has the switch serve it.
    pub(super) fn start(&self, connection: &mut Connection) -> Result<(), FrontEndError> {
        let number = self.number as u32;
        let base = match self.kind {
            RingKind::Split => 0,
            RingKind::Packed => u32::from(PACKED_START) << 16 | u32::from(PACKED_START),
        };
        let size = u32::from(self.ground.ring.size);
        connection.set(SET_VRING_NUM, &[message::state(number, size)], &[])?;
        connection.set(SET_VRING_BASE, &[message::state(number, base)], &[])?;
        self.tell_addresses(connection)?;
        connection.set(SET_VRING_CALL, &[self.number as u64], &[self.call.as_fd()])?;
        connection.set(SET_VRING_KICK, &[self.number as u64], &[self.kick.as_fd()])?;
        connection.set(SET_VRING_ENABLE, &[message::state(number, 1)], &[])
    }

    fn tell_addresses(&self, connection: &mut Connection) -> Result<(), FrontEndError> {
        let words = message::addresses(self.number as u32, self.ground.addresses());
        connection.set(SET_VRING_ADDR, &words, &[])
    }

    /// Where it lies.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// How it is laid out.
    #[must_use]
    pub fn kind(&self) -> RingKind {
        self.kind
    }

    /// What the switch is kicked by.
    #[must_use]
    pub fn kick(&self) -> &Arc<Eventfd> {
        &self.kick
    }

    /// What the switch calls by.
    #[must_use]
    pub fn call(&self) -> &Eventfd {
        &self.call
    }

    /// Takes a buffer that nobody has.
    pub(super) fn take_buffer(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Makes a buffer's first `length` bytes available; takes it back if there is no room
    /// in the ring.
    pub(super) fn give(&mut self, buffer: u16, length: u32, access: Access) -> Option<()> {
        let at = self.ground.buffer(buffer);
        let id = match self.chains {
            Chains::Whole => self.driver.add(&[Buffer { address: at, length, access }]),
            Chains::Apart => self.driver.add(&apart(at, length, access)),
            Chains::Tables => {
                self.driver.add_indirect(&apart(at, length, access), self.ground.table(buffer))
            }
        };
        let Some(id) = id else {
            self.free.push(buffer);
            return None;
        };
        self.given[usize::from(id)] = buffer;
        Some(())
    }

    /// Visits the buffers that came back, each with the bytes that the switch wrote; they
    /// are free again afterwards.
    pub(super) fn collect(&mut self, mut visit: impl FnMut(u16, u32)) {
        let Queue { driver, given, free, .. } = self;
        driver.collect(|Returned { id, length }| {
            let buffer = given[usize::from(id)];
            visit(buffer, length);
            free.push(buffer);
        });
    }

    /// Fetches the buffers that are taken next, to be written with so many bytes each.
    pub(super) fn fetch_free(&self, memory: &GuestMemory, count: usize, bytes: u32) {
        let fetched = count.min(buffers_of(LINES_FETCHED, bytes) as usize);
        for &buffer in self.free.iter().rev().take(fetched) {
            memory.prefetch_to_write(self.ground.buffer(buffer), bytes);
        }
    }

    /// As [`Queue::collect`], for buffers that are read: each is fetched while those before it
    /// are visited.
    pub(super) fn collect_near(&mut self, memory: &GuestMemory, mut visit: impl FnMut(u16, u32)) {
        let mut returned = std::mem::take(&mut self.returned);
        self.collect(|buffer, length| returned.push((buffer, length)));
        let fetch = |&(buffer, length): &(u16, u32)| {
            memory.prefetch(self.ground.buffer(buffer), length);
        };
        let near =
            returned.first().map_or(0, |&(_, length)| buffers_of(LINES_NEAR, length)) as usize;
        returned.iter().take(near).for_each(fetch);
        for (place, &(buffer, length)) in returned.iter().enumerate() {
            returned.get(place + near).into_iter().for_each(fetch);
            visit(buffer, length);
        }
        returned.clear();
        self.returned = returned;
    }

    /// Shows the switch what was made available; kicks it if it wants to be.
    pub(super) fn publish(&mut self) {
        self.driver.publish();
        if self.driver.kick_due() {
            self.kick.signal();
        }
    }
}

/// A buffer as two descriptors: header, and the rest.
fn apart(address: u64, length: u32, access: Access) -> [Buffer; 2] {
    let header = PREFIX_BYTES as u32;
    [
        Buffer { address, length: header, access },
        Buffer { address: address + u64::from(header), length: length - header, access },
    ]
}

/// Buffers of so many bytes that so many cache lines are.
fn buffers_of(lines: u32, bytes: u32) -> u32 {
    (lines / bytes.div_ceil(LINE_BYTES).max(1)).max(BUFFERS_NEAR_MIN)
}

fn eventfds() -> std::io::Result<(Eventfd, Eventfd)> {
    Ok((Eventfd::new()?, Eventfd::new()?))
}

fn driver(
    memory: &GuestMemory,
    layout: &Layout,
    ring: virtqueue::Layout,
) -> Result<RingDriver, LayoutError> {
    let (memory, features) = (memory.memory(), layout.features);
    let (order, wishes) = (features.order(), features.wishes());
    let mut driver = match features.ring_kind() {
        RingKind::Split => {
            let start = Position { available: 0, used: 0 };
            RingDriver::Split(SplitDriver::new(memory, ring, order)?.from_position(start, wishes))
        }
        RingKind::Packed => {
            let start = Position { available: PACKED_START, used: PACKED_START };
            RingDriver::Packed(
                PackedDriver::new(memory, ring, order)?.from_position(start, wishes)?,
            )
        }
    };
    driver.refuse_calls();
    Ok(driver)
}
