//! A guest that does as it should, at a vhost-user port that needs no front end.

use std::sync::Arc;

use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::vhost_user::queue::{NetHeaders, RingKind};
use hairpin_dataplane::port::vhost_user::ring::{RingHost, RingIndex, Service, Start};
use hairpin_dataplane::port::vhost_user::{Host, open};
use hairpin_dataplane::sys::memory::{Memory, RegionHint};
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer, Driver};
use hairpin_dataplane::sys::virtqueue::{
    Indirect, Layout, Merge, Order, PREFIX_BYTES, Position, Terms, Wishes,
};
use hairpin_dataplane::wire::offload::Capabilities;

/// Entries of both rings.
const SIZE: u16 = 256;
/// From one ring to the other; its areas lie apart in it.
const RING_BYTES: u64 = 0x4000;
/// Buffers of the one ring, then of the other.
const BUFFERS: u64 = 2 * RING_BYTES;
const BUFFER_BYTES: u32 = 512;
const MEMORY_BYTES: usize = (BUFFERS as usize) + 2 * (SIZE as usize) * (BUFFER_BYTES as usize);

/// A guest: the ring it receives by, then the one it sends by.
#[derive(Debug)]
pub struct Guest<D> {
    memory: Arc<Memory>,
    drivers: [D; 2],
    /// Held: its rings run as long.
    _host: Host,
    /// Where buffers lie, by the ids of their chains.
    places: [Vec<u64>; 2],
    /// Buffers to send that are free.
    free: Vec<u64>,
}

impl<D: Driver> Guest<D> {
    /// A port, and its guest with both rings running.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(
        kind: RingKind,
        accepts: Capabilities,
        driver: impl Fn(&Terms) -> D,
    ) -> (Opened, Guest<D>) {
        let memory = Arc::new(Memory::arena(MEMORY_BYTES).expect("memory"));
        let (opened, mut host) = open(1).expect("descriptors");
        let at = match kind {
            RingKind::Split => 0,
            RingKind::Packed => 1 << 15,
        };
        let drivers = [0, 1].map(|ring| {
            let base = u64::from(ring) * RING_BYTES;
            let layout = Layout {
                size: SIZE,
                descriptors: base,
                driver: base + 0x1000,
                device: base + 0x2000,
            };
            let terms = Terms {
                memory: Arc::clone(&memory),
                layout,
                position: Position { available: at, used: at },
                order: Order::Any,
                merge: Merge::Mergeable,
                indirect: Indirect::Refused,
                wishes: Wishes::Flags,
            };
            let driver = driver(&terms);
            let (service, headers) = (Service::Enabled, NetHeaders::Read);
            let (kick, call) = (None, None);
            let start = Start { kind, terms, service, headers, accepts, kick, call };
            let index = RingIndex::new(ring, 1).expect("one of two rings");
            host.start(index, start).expect("its ring can run");
            driver
        });
        let buffer = |number: u64| BUFFERS + number * u64::from(BUFFER_BYTES);
        let free = (0..SIZE).map(|number| buffer(u64::from(SIZE + number))).collect();
        let places = [vec![0; SIZE.into()], vec![0; SIZE.into()]];
        let mut guest = Guest { memory, drivers, _host: host, places, free };
        (0..SIZE).for_each(|number| guest.give(buffer(number.into())));
        guest.drivers[0].publish();
        (opened, guest)
    }

    /// Gives a buffer to receive into.
    fn give(&mut self, address: u64) {
        let buffer = Buffer { address, length: BUFFER_BYTES, access: Access::Write };
        let id = self.drivers[0].add(&[buffer]).expect("as many buffers as entries");
        self.places[0][usize::from(id)] = address;
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If what it sent before does not come back.
    pub fn send(&mut self, frame: &[u8]) {
        let Guest { memory, drivers, places, free, .. } = self;
        drivers[1].collect(|returned| free.push(places[1][usize::from(returned.id)]));
        let address = free.pop().expect("what was sent comes back");
        let bytes = [&[0; PREFIX_BYTES], frame].concat();
        let length = bytes.len() as u32;
        let place = memory.place(&mut RegionHint::default(), address, length);
        place.expect("buffers lie in memory").write(&bytes);
        let buffer = Buffer { address, length, access: Access::Read };
        let id = drivers[1].add(&[buffer]).expect("the ring has room");
        places[1][usize::from(id)] = address;
        drivers[1].publish();
    }

    /// The frames that came, and the first part only of those in several buffers; their
    /// buffers are given again.
    ///
    /// # Panics
    /// If a buffer comes back with more than it has room for.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let Guest { memory, drivers, places, .. } = self;
        let (mut frames, mut used) = (Vec::new(), Vec::new());
        drivers[0].collect(|returned| {
            let address = places[0][usize::from(returned.id)];
            assert!(returned.length <= BUFFER_BYTES);
            let mut bytes = vec![0; returned.length as usize];
            let place = memory.place(&mut RegionHint::default(), address, returned.length);
            place.expect("buffers lie in memory").read(&mut bytes);
            frames.push(bytes.split_off(PREFIX_BYTES.min(bytes.len())));
            used.push(address);
        });
        used.into_iter().for_each(|address| self.give(address));
        self.drivers[0].publish();
        frames
    }
}
