//! A guest in our own memory: the driver's half of one queue pair, which sends bursts
//! of one frame and checks what it receives.

use super::worker::{Counts, Port};
use hairpin_dataplane::port::vhost_user::queue::{QueueReceiver, QueueTransmitter, RingKind};
use hairpin_dataplane::sys::memory::{Memory, RegionHint};
use hairpin_dataplane::sys::virtqueue::driver::{
    Access, Buffer, Driver, PackedDriver, Returned, SplitDriver,
};
use hairpin_dataplane::sys::virtqueue::{
    Indirect, Layout, LayoutError, Merge, Order, PREFIX_BYTES, Position, Terms, Wishes,
};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Entries of each ring.
const SIZE: u16 = 1024;
/// Bytes of each buffer, as DPDK's mbufs have them; frames begin on a cache line.
const BUFFER_BYTES: u64 = 2304;
/// The virtio-net header lies before that line.
const HEADROOM: u64 = 256;
/// What one ring takes.
const RING_BYTES: u64 = 0x20000;
/// First buffer of the receive ring, and of the transmit ring.
const BUFFERS: [u64; 2] = [2 * RING_BYTES, 2 * RING_BYTES + SIZE as u64 * BUFFER_BYTES];

/// Why there is no guest.
#[derive(Debug)]
pub enum GuestError {
    /// No memory.
    Memory(io::Error),
    /// A ring could not be opened.
    Ring(LayoutError),
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestError::Memory(error) => write!(f, "the guest's memory: {error}"),
            GuestError::Ring(error) => write!(f, "the guest's rings: {error}"),
        }
    }
}

impl std::error::Error for GuestError {}

#[derive(Debug)]
enum AnyDriver {
    Split(SplitDriver),
    Packed(PackedDriver),
}

impl Driver for AnyDriver {
    fn add(&mut self, chain: &[Buffer]) -> Option<u16> {
        match self {
            AnyDriver::Split(driver) => driver.add(chain),
            AnyDriver::Packed(driver) => driver.add(chain),
        }
    }

    fn publish(&mut self) {
        match self {
            AnyDriver::Split(driver) => driver.publish(),
            AnyDriver::Packed(driver) => driver.publish(),
        }
    }

    fn collect(&mut self, visit: impl FnMut(Returned)) {
        match self {
            AnyDriver::Split(driver) => driver.collect(visit),
            AnyDriver::Packed(driver) => driver.collect(visit),
        }
    }
}

/// A guest with one queue pair.
#[derive(Debug)]
pub struct Guest {
    memory: Arc<Memory>,
    receive: AnyDriver,
    transmit: AnyDriver,
    /// Buffers of the receive ring by the ids they were posted under.
    posted: Vec<u64>,
    next: u64,
    returned: Vec<Returned>,
}

/// How a guest's rings are to be.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Split or packed.
    pub kind: RingKind,
    /// In which order buffers come back.
    pub order: Order,
    /// Whether receive buffers are merged.
    pub merge: Merge,
}

impl Guest {
    /// A guest whose receive buffers are posted, and the port it is plugged into.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn plug(rings: Rings) -> Result<(Guest, Port), GuestError> {
        let (guest, terms) = Guest::new(rings)?;
        let port = Port {
            transmitter: QueueTransmitter::open(rings.kind, &terms[0]).map_err(GuestError::Ring)?,
            receiver: QueueReceiver::open(rings.kind, &terms[1]).map_err(GuestError::Ring)?,
            receiver_call: None,
            transmitter_call: None,
            counts: Counts::default(),
        };
        Ok((guest, port))
    }

    /// A guest whose receive buffers are posted, and what its rings are opened with: its
    /// receive ring's first.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn new(rings: Rings) -> Result<(Guest, [Terms; 2]), GuestError> {
        let bytes = BUFFERS[1] + u64::from(SIZE) * BUFFER_BYTES;
        let memory = Arc::new(Memory::arena(bytes as usize).map_err(GuestError::Memory)?);
        let terms = [0, RING_BYTES].map(|base| terms(&memory, rings, base));
        let driver = |terms: &Terms| match rings.kind {
            RingKind::Split => {
                SplitDriver::new(&memory, terms.layout, rings.order).map(AnyDriver::Split)
            }
            RingKind::Packed => {
                PackedDriver::new(&memory, terms.layout, rings.order).map(AnyDriver::Packed)
            }
        };
        let mut guest = Guest {
            receive: driver(&terms[0]).map_err(GuestError::Ring)?,
            transmit: driver(&terms[1]).map_err(GuestError::Ring)?,
            posted: vec![0; usize::from(SIZE)],
            next: 0,
            returned: Vec::with_capacity(usize::from(SIZE)),
            memory: Arc::clone(&memory),
        };
        (0..u64::from(SIZE)).for_each(|index| guest.post(index));
        guest.receive.publish();
        Ok((guest, terms))
    }

    /// Posts a receive buffer.
    fn post(&mut self, index: u64) {
        let before = HEADROOM - PREFIX_BYTES as u64;
        let buffer = Buffer {
            address: BUFFERS[0] + index * BUFFER_BYTES + before,
            length: (BUFFER_BYTES - before) as u32,
            access: Access::Write,
        };
        if let Some(id) = self.receive.add(&[buffer]) {
            self.posted[usize::from(id)] = index;
        }
    }

    /// Sends a frame `count` times; says how often there was room.
    pub fn send(&mut self, frame: &[u8], count: usize) -> usize {
        self.transmit.collect(|_| {});
        let sent = (0..count).take_while(|_| self.send_one(frame)).count();
        self.transmit.publish();
        sent
    }

    fn send_one(&mut self, frame: &[u8]) -> bool {
        let at = BUFFERS[1] + self.next % u64::from(SIZE) * BUFFER_BYTES + HEADROOM;
        let address = at - PREFIX_BYTES as u64;
        let length = (PREFIX_BYTES + frame.len()) as u32;
        let Some(place) = self.memory.place(&mut RegionHint::default(), at, frame.len() as u32)
        else {
            return false;
        };
        if self.transmit.add(&[Buffer { address, length, access: Access::Read }]).is_none() {
            return false;
        }
        place.write(frame);
        self.next += 1;
        true
    }

    /// Receives what waits and posts its buffers again; says how many frames were this
    /// one, and how many were not.
    pub fn receive(&mut self, frame: &[u8]) -> (usize, usize) {
        let returned = &mut self.returned;
        self.receive.collect(|buffer| returned.push(buffer));
        let mut bytes = vec![0; frame.len()];
        let (mut good, mut bad) = (0, 0);
        while let Some(Returned { id, length }) = self.returned.pop() {
            let index = self.posted[usize::from(id)];
            let at = BUFFERS[0] + index * BUFFER_BYTES + HEADROOM;
            let place = self.memory.place(&mut RegionHint::default(), at, frame.len() as u32);
            let read = place.map_or(0, |place| place.read(&mut bytes));
            let whole = length as usize == PREFIX_BYTES + frame.len() && read == frame.len();
            if whole && bytes == frame {
                good += 1;
            } else {
                bad += 1;
            }
            self.post(index);
        }
        self.receive.publish();
        (good, bad)
    }
}

fn terms(memory: &Arc<Memory>, rings: Rings, base: u64) -> Terms {
    let layout =
        Layout { size: SIZE, descriptors: base, driver: base + 0x8000, device: base + 0x10000 };
    let start = match rings.kind {
        RingKind::Split => 0,
        RingKind::Packed => 1 << 15,
    };
    Terms {
        memory: Arc::clone(memory),
        layout,
        position: Position { available: start, used: start },
        order: rings.order,
        merge: rings.merge,
        indirect: Indirect::Refused,
        wishes: Wishes::Flags,
    }
}
