//! What no honest guest or VMM does: any bytes on the socket, anything in rings and memory,
//! at any time and from any thread.

use std::sync::Arc;

use hairpin_dataplane::port::vhost_user::message::RegionSpec;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::eventfd::Eventfd;
use hairpin_dataplane::sys::virtqueue::PREFIX_BYTES;
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer, Driver, Negotiated};
use std::os::fd::{AsFd, BorrowedFd};

use super::error::FrontEndError;
use super::memory::GuestMemory;
use super::message::{self, SET_MEM_TABLE};
use super::rings::{Ground, Queue};
use super::{COMPLETE, FrontEnd, NetHeader};

/// `VIRTQ_DESC_F_NEXT`: the chain goes on.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the buffer is the device's to write.
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`: the descriptor names a table of descriptors.
pub const INDIRECT: u16 = 4;
/// `VIRTQ_DESC_F_AVAIL`: in the first lap, the descriptor of a packed ring is available.
pub const PACKED_AVAILABLE: u16 = 1 << 7;

/// A descriptor as it lies in memory. Split: `low` is its flags, `high` the next one's
/// index. Packed: `low` is its id, `high` its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawDescriptor {
    /// Where its buffer lies.
    pub address: u64,
    /// Its size in bytes.
    pub length: u32,
    /// The first 16-bit field behind that.
    pub low: u16,
    /// The second one.
    pub high: u16,
}

/// A ring as bytes: to be written by whoever has this, whatever the driver does.
#[derive(Clone, Debug)]
pub struct RawRing {
    memory: GuestMemory,
    kind: RingKind,
    ground: Ground,
    kick: Arc<Eventfd>,
}

impl RawRing {
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

    /// Writes a descriptor.
    pub fn set_descriptor(&self, index: u16, descriptor: RawDescriptor) {
        let RawDescriptor { address, length, low, high } = descriptor;
        let tail = u64::from(length) | u64::from(low) << 32 | u64::from(high) << 48;
        let at = self.ground.ring.descriptors + 16 * u64::from(index);
        self.memory.write(at, &address.to_le_bytes());
        self.memory.write(at + 8, &tail.to_le_bytes());
    }

    /// Makes the first descriptor available, of a ring that was not used yet, with these
    /// flags beside those that say so.
    pub fn publish_first(&self, address: u64, length: u32, flags: u16) {
        match self.kind {
            RingKind::Split => {
                self.set_descriptor(0, RawDescriptor { address, length, low: flags, high: 0 });
                self.replay(0);
            }
            RingKind::Packed => {
                let high = flags | PACKED_AVAILABLE;
                self.set_descriptor(0, RawDescriptor { address, length, low: 0, high });
            }
        }
        self.kick();
    }

    /// Writes a split ring's head at a place of the available ring.
    pub fn set_head(&self, place: u16, head: u16) {
        let place = u64::from(place % self.ground.ring.size);
        self.memory.write(self.ground.ring.driver + 4 + 2 * place, &head.to_le_bytes());
    }

    /// Writes a split ring's available index.
    pub fn set_available(&self, index: u16) {
        self.memory.write(self.ground.ring.driver + 2, &index.to_le_bytes());
    }

    /// Reads it.
    #[must_use]
    pub fn available(&self) -> u16 {
        self.index(self.ground.ring.driver)
    }

    /// Reads a split ring's used index.
    #[must_use]
    pub fn used(&self) -> u16 {
        self.index(self.ground.ring.device)
    }

    fn index(&self, area: u64) -> u16 {
        let mut index = [0; 2];
        self.memory.read(area + 2, &mut index);
        u16::from_le_bytes(index)
    }

    /// Makes a split ring's head available once more.
    pub fn replay(&self, head: u16) {
        let index = self.available();
        self.set_head(index, head);
        self.set_available(index.wrapping_add(1));
    }

    /// Has the switch look, whether it wants to or not.
    pub fn kick(&self) {
        self.kick.signal();
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}

/// Raw access to all that a front end has.
#[derive(Debug)]
pub struct Hostile<'f> {
    front: &'f mut FrontEnd,
}

impl<'f> Hostile<'f> {
    pub(super) fn new(front: &'f mut FrontEnd) -> Hostile<'f> {
        Hostile { front }
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.front.memory
    }

    /// A ring by its number: even ones are those to receive by.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn queue(&self, ring: usize) -> &Queue {
        match ring % 2 {
            0 => &self.front.receive[ring / 2],
            _ => &self.front.transmit[ring / 2],
        }
    }

    fn queue_mut(&mut self, ring: usize) -> &mut Queue {
        match ring % 2 {
            0 => &mut self.front.receive[ring / 2],
            _ => &mut self.front.transmit[ring / 2],
        }
    }

    /// The same as bytes.
    ///
    /// # Panics
    /// As [`Hostile::queue`].
    #[must_use]
    pub fn ring(&self, ring: usize) -> RawRing {
        let queue = self.queue(ring);
        RawRing {
            memory: self.front.memory.clone(),
            kind: queue.kind(),
            ground: *queue.ground(),
            kick: Arc::clone(queue.kick()),
        }
    }

    /// Where memory lies that neither rings nor buffers use: [`Layout::spare_bytes`] of it.
    ///
    /// [`Layout::spare_bytes`]: super::Layout::spare_bytes
    #[must_use]
    pub fn spare(&self) -> u64 {
        super::memory::GUEST + Ground::bytes(&self.front.layout)
    }

    /// Lays a frame behind a virtio-net header into a transmit buffer of the first pair,
    /// whoever has it; where it is.
    pub fn lay(&mut self, buffer: u16, net: NetHeader, frame: &[u8]) -> Buffer {
        let address = self.queue(1).ground().buffer(buffer);
        self.front.memory.write(address, &net);
        self.front.memory.write(address + PREFIX_BYTES as u64, frame);
        let length = (PREFIX_BYTES + frame.len()) as u32;
        Buffer { address, length, access: Access::Read }
    }

    /// The same behind the header of a complete frame.
    pub fn lay_complete(&mut self, buffer: u16, frame: &[u8]) -> Buffer {
        self.lay(buffer, COMPLETE, frame)
    }

    /// Makes a chain available, whatever it names; nothing if the ring has no room. Shown
    /// by [`Hostile::publish`].
    pub fn offer(&mut self, ring: usize, chain: &[Buffer]) -> Option<u16> {
        self.queue_mut(ring).driver.add(chain)
    }

    /// The same by a table at this address, of 16 bytes a buffer.
    pub fn offer_table(&mut self, ring: usize, chain: &[Buffer], table: u64) -> Option<u16> {
        self.queue_mut(ring).driver.add_indirect(chain, table)
    }

    /// Shows what was made available.
    pub fn publish(&mut self, ring: usize) {
        self.queue_mut(ring).publish();
    }

    /// Takes back the chains that were given back; says how many.
    pub fn collect(&mut self, ring: usize) -> usize {
        let mut count = 0;
        self.queue_mut(ring).driver.collect(|_| count += 1);
        count
    }

    /// Has the switch call with the next chain that it gives back.
    pub fn want_calls(&mut self, ring: usize) {
        self.queue_mut(ring).driver.want_calls();
    }

    /// Lends memory in these regions, in the place of what was lent before.
    ///
    /// # Errors
    /// [`FrontEndError`].
    pub fn lend(&mut self, regions: &[RegionSpec]) -> Result<(), FrontEndError> {
        let file = self.front.memory.clone();
        let files: Vec<BorrowedFd<'_>> = regions.iter().map(|_| file.as_fd()).collect();
        self.front.connection.set(SET_MEM_TABLE, &message::table(regions), &files)
    }
}
