//! Drivers, as the standard has them (virtio 1.2, 2.7.13, 2.7.14, 2.8.21, 2.8.22), that stop
//! before each of their loads and stores.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::CHAINS;
use super::{
    Access, Arc, BUFFERS, Indirect, Layout, Memory, Merge, NEXT, Order, Position, RegionHint,
    Terms, WRITE, Wishes,
};

const DRIVER: u64 = 0x40;
const DEVICE: u64 = 0x60;
/// All areas of a ring, of 4 entries at most.
const RING_BYTES: usize = 0x90;
/// `VIRTQ_DESC_F_AVAIL` and `_USED`.
const AVAILABLE: u64 = 1 << 7;
const USED: u64 = 1 << 15;

/// What a driver and the device agree on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Whether the driver sends or receives.
    pub direction: Access,
    /// How wake-ups are asked for.
    pub wishes: Wishes,
    /// In which order buffers come back.
    pub order: Order,
    /// Entries.
    pub size: u16,
    /// Where both begin.
    pub start: u16,
    /// Descriptors of every second chain; the others have one.
    pub longest: u16,
}

/// The ring, and how both sides wake each other.
pub struct World {
    plan: Plan,
    memory: Arc<Memory>,
    base: usize,
    /// A hash of what the driver has read and written.
    pub history: Cell<u64>,
    /// Whether the driver waits to be called, and was.
    pub sleeps: Cell<bool>,
    pub called: Cell<bool>,
    /// Whether the device was kicked.
    pub kicked: Cell<bool>,
    /// Chains that were made available.
    pub sent: Cell<u16>,
    collected: Cell<u16>,
}

impl World {
    /// In memory that may have been used before.
    pub fn new(plan: &Plan, memory: &Arc<Memory>) -> World {
        let memory = Arc::clone(memory);
        let base = memory.place(&mut RegionHint::default(), 0, 0).unwrap().as_ptr().addr();
        let (history, sleeps, called, kicked) = Default::default();
        let (sent, collected) = Default::default();
        let plan = *plan;
        let world = World { plan, memory, base, history, sleeps, called, kicked, sent, collected };
        world.place(0, RING_BYTES).write(&[0; RING_BYTES]);
        world.place(BUFFERS, 64 * usize::from(CHAINS)).write(&[0xff; 64 * CHAINS as usize]);
        world
    }

    pub fn terms(&self) -> Terms {
        let Plan { wishes, order, size, start, .. } = self.plan;
        Terms {
            memory: Arc::clone(&self.memory),
            layout: Layout { size, descriptors: 0, driver: DRIVER, device: DEVICE },
            position: Position { available: start, used: start },
            order,
            merge: Merge::Single,
            indirect: Indirect::Refused,
            wishes,
        }
    }

    /// Where the memory lies.
    pub fn base(&self) -> usize {
        self.base
    }

    /// All bytes of the ring.
    pub fn snapshot(&self) -> [u8; RING_BYTES] {
        let mut bytes = [0; RING_BYTES];
        self.place(0, RING_BYTES).read(&mut bytes);
        bytes
    }

    /// The 8 bytes at an address.
    pub fn peek(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.place(at, 8).read(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn place(&self, at: u64, bytes: usize) -> crate::sys::memory::Place<'_> {
        self.memory.place(&mut RegionHint::default(), at, bytes as u32).unwrap()
    }

    fn set(&self, at: u64, bytes: usize, value: u64) {
        self.place(at, bytes).write(&value.to_le_bytes()[..bytes]);
    }

    fn note(&self, what: u64, value: u64) {
        let mut hash = self.history.get();
        for word in [what, value] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.history.set(hash);
    }

    /// What was read and written so far matters no more, but for what is left of it.
    fn forget(&self, left: impl IntoIterator<Item = u16>) {
        self.history.set(0);
        left.into_iter().for_each(|word| self.note(1 << 37, word.into()));
    }

    /// Lets others go on.
    async fn pause(&self) {
        let mut paused = false;
        poll_fn(|_| match std::mem::replace(&mut paused, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    async fn load(&self, at: u64, bytes: usize) -> u64 {
        self.pause().await;
        let value = self.peek(at) & (u64::MAX >> (64 - 8 * bytes));
        self.note(at, value);
        value
    }

    async fn store(&self, at: u64, bytes: usize, value: u64) {
        self.pause().await;
        self.set(at, bytes, value);
        self.note(at | 1 << 32, value);
    }

    async fn kick(&self) {
        self.pause().await;
        self.kicked.set(true);
        self.note(1 << 33, 0);
    }

    async fn forget_calls(&self) {
        self.pause().await;
        self.called.set(false);
        self.note(1 << 34, 0);
    }

    /// Does nothing until the device calls.
    async fn sleep(&self) {
        self.sleeps.set(true);
        self.note(1 << 35, 0);
        poll_fn(|_| if self.called.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        self.sleeps.set(false);
        self.note(1 << 36, 0);
    }

    /// How many descriptors a chain has.
    fn length(&self, chain: u16) -> u16 {
        if chain % 2 == 1 { self.plan.longest } else { 1 }
    }

    /// Pieces of a chain: addresses and lengths.
    fn pieces(&self, chain: u16) -> impl Iterator<Item = (u64, u64)> {
        let length = self.length(chain);
        let at = BUFFERS + 64 * u64::from(chain);
        (0..u64::from(length)).map(move |piece| (at + 32 * piece, 64 / u64::from(length)))
    }

    fn flags(&self) -> u16 {
        if self.plan.direction == Access::Write { WRITE } else { 0 }
    }

    /// A chain came back: it is the next one, and the device did with it what it should.
    fn collect(&self, chain: u16, length: Option<u64>) {
        assert_eq!(chain, self.collected.get(), "chains come back in order here, once each");
        self.collected.set(chain + 1);
        let Some(length) = length else { return };
        match self.plan.direction {
            Access::Read => assert_eq!(length, 0),
            Access::Write => {
                assert_eq!(length, 32);
                let at = BUFFERS + 64 * u64::from(chain) + 24;
                assert_eq!(self.peek(at), u64::from_le_bytes([chain as u8; 8]), "its frame");
            }
        }
    }
}

/// A split ring's driver: chains with their descriptors, and what is free.
struct Split {
    world: Rc<World>,
    free: Vec<u16>,
    out: VecDeque<(u16, Vec<u16>)>,
    sent: u16,
    collected: u16,
}

/// The driver's half of a split ring.
pub async fn split_driver(world: Rc<World>) {
    let Plan { size, start, .. } = world.plan;
    // The indexes are there before anybody begins.
    [DRIVER, DEVICE].iter().for_each(|area| world.set(area + 2, 2, start.into()));
    let free = (0..size).rev().collect();
    let mut split = Split { world, free, out: VecDeque::new(), sent: 0, collected: 0 };
    while split.collected < CHAINS {
        let out = split.out.iter().flat_map(|(_, indexes)| indexes).copied();
        let left = [split.sent, split.collected].into_iter().chain(out);
        split.world.forget(left.chain(split.free.iter().copied()));
        while split.sent < CHAINS && usize::from(split.world.length(split.sent)) <= split.free.len()
        {
            split.send().await;
        }
        let index = split.await_used().await;
        while split.next() != index {
            split.collect().await;
        }
    }
}

impl Split {
    /// The used index that it has not seen yet.
    fn next(&self) -> u16 {
        self.world.plan.start.wrapping_add(self.collected)
    }

    async fn send(&mut self) {
        let Split { world, free, out, sent, .. } = self;
        let Plan { wishes, size, start, direction, .. } = world.plan;
        let indexes: Vec<u16> = (0..world.length(*sent)).filter_map(|_| free.pop()).collect();
        for (place, (address, bytes)) in world.pieces(*sent).enumerate() {
            let at = 16 * u64::from(indexes[place]);
            let next = indexes.get(place + 1);
            let flags = u64::from(world.flags() | next.map_or(0, |_| NEXT));
            let next = u64::from(next.copied().unwrap_or(0));
            world.store(at, 8, address).await;
            world.store(at + 8, 8, bytes | flags << 32 | next << 48).await;
        }
        let index = start.wrapping_add(*sent);
        let slot = DRIVER + 4 + 2 * u64::from(index % size);
        world.store(slot, 2, indexes[0].into()).await;
        world.store(DRIVER + 2, 2, index.wrapping_add(1).into()).await;
        out.push_back((*sent, indexes));
        *sent += 1;
        world.sent.set(*sent);
        let event = DEVICE + 4 + 8 * u64::from(size);
        let due = match (direction, wishes) {
            (Access::Write, _) => false,
            (_, Wishes::Flags) => world.load(DEVICE, 2).await & 1 == 0,
            (_, Wishes::EventIndex) => world.load(event, 2).await == u64::from(index),
        };
        if due {
            world.kick().await;
        }
    }

    /// Sleeps if nothing has come back; the used index.
    async fn await_used(&self) -> u16 {
        let (world, next) = (&self.world, self.next());
        let Plan { wishes, size, .. } = world.plan;
        let event = DRIVER + 4 + 2 * u64::from(size);
        let mut index = world.load(DEVICE + 2, 2).await as u16;
        if index != next {
            return index;
        }
        world.forget_calls().await;
        match wishes {
            Wishes::Flags => world.store(DRIVER, 2, 0).await,
            Wishes::EventIndex => world.store(event, 2, next.into()).await,
        }
        index = world.load(DEVICE + 2, 2).await as u16;
        if index == next {
            world.sleep().await;
            index = world.load(DEVICE + 2, 2).await as u16;
        }
        match wishes {
            Wishes::Flags => world.store(DRIVER, 2, 1).await,
            Wishes::EventIndex => world.store(event, 2, next.wrapping_sub(1).into()).await,
        }
        index
    }

    async fn collect(&mut self) {
        let slot = u64::from(self.next() % self.world.plan.size);
        let entry = DEVICE + 4 + 8 * slot;
        let id = self.world.load(entry, 4).await;
        let length = self.world.load(entry + 4, 4).await;
        let (chain, indexes) = self.out.pop_front().expect("the device invented a chain");
        assert_eq!(id, u64::from(indexes[0]), "another chain than that of this place");
        match self.world.plan.order {
            Order::Any => self.free.extend(indexes),
            // Taken in the order of the table again.
            Order::InOrder => indexes.into_iter().for_each(|index| self.free.insert(0, index)),
        }
        self.world.collect(chain, Some(length));
        self.collected += 1;
    }
}

/// A place in a packed ring: its index and wrap counter.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    index: u16,
    wrap: u64,
}

impl At {
    fn new(position: u16) -> At {
        At { index: position & 0x7fff, wrap: u64::from(position >> 15) }
    }

    fn after(self, count: u16, size: u16) -> At {
        match self.index + count {
            index if index < size => At { index, ..self },
            index => At { index: index - size, wrap: self.wrap ^ 1 },
        }
    }

    fn position(self) -> u64 {
        u64::from(self.index) | self.wrap << 15
    }

    fn is_used(self, flags: u64) -> bool {
        (flags & USED != 0, flags & AVAILABLE != 0) == (self.wrap == 1, self.wrap == 1)
    }

    fn available(self) -> u64 {
        if self.wrap == 1 { AVAILABLE } else { USED }
    }
}

/// A packed ring's driver: chains with their ids, and where it stands.
struct Packed {
    world: Rc<World>,
    next: At,
    used: At,
    room: u16,
    out: VecDeque<(u16, u64)>,
    sent: u16,
    collected: u16,
}

/// The driver's half of a packed ring.
pub async fn packed_driver(world: Rc<World>) {
    let Plan { size, start, .. } = world.plan;
    let at = At::new(start);
    // As the lap before has left it: all used. It wants no calls.
    for index in 0..size {
        let wrap = if index < at.index { at.wrap } else { at.wrap ^ 1 };
        let flags = if wrap == 1 { AVAILABLE | USED } else { 0 };
        world.set(16 * u64::from(index) + 8, 8, flags << 48);
    }
    world.set(DRIVER + 2, 2, 1);
    let out = VecDeque::new();
    let mut packed = Packed { world, next: at, used: at, room: size, out, sent: 0, collected: 0 };
    while packed.collected < CHAINS {
        packed.world.forget([packed.sent, packed.collected]);
        while packed.sent < CHAINS && packed.world.length(packed.sent) <= packed.room {
            packed.send().await;
        }
        let tail = packed.await_used().await;
        if packed.used.is_used(tail >> 48) {
            packed.collect(tail);
        }
    }
}

impl Packed {
    async fn send(&mut self) {
        let Plan { size, order, direction, .. } = self.world.plan;
        let (world, chain, first) = (&self.world, self.sent, self.next);
        let length = world.length(chain);
        let id = match order {
            Order::Any => u64::from(chain),
            Order::InOrder => first.index.into(),
        };
        let (mut at, mut head) = (first, 0);
        for (place, (address, bytes)) in (1..).zip(world.pieces(chain)) {
            let more = if place < length { NEXT } else { 0 };
            let flags = u64::from(world.flags() | more) | at.available();
            let tail = bytes | id << 32 | flags << 48;
            let descriptor = 16 * u64::from(at.index);
            world.store(descriptor, 8, address).await;
            match place {
                1 => head = tail,
                _ => world.store(descriptor + 8, 8, tail).await,
            }
            at = at.after(1, size);
        }
        // The first one last: it makes the chain available.
        world.store(16 * u64::from(first.index) + 8, 8, head).await;
        world.sent.set(chain + 1);
        if direction == Access::Read {
            let wish = world.load(DEVICE, 4).await;
            let due = match wish >> 16 {
                0 => true,
                2 => {
                    let mut places = (0..length).map(|place| first.after(place, size));
                    places.any(|place| place.position() == wish & 0xffff)
                }
                _ => false,
            };
            if due {
                world.kick().await;
            }
        }
        self.next = at;
        self.room -= length;
        self.out.push_back((chain, id));
        self.sent += 1;
    }

    /// Sleeps if nothing has come back; the second word of what may have.
    async fn await_used(&self) -> u64 {
        let (world, used) = (&self.world, self.used);
        let entry = 16 * u64::from(used.index) + 8;
        let mut tail = world.load(entry, 8).await;
        if used.is_used(tail >> 48) {
            return tail;
        }
        world.forget_calls().await;
        let wish = match world.plan.wishes {
            Wishes::Flags => 0,
            Wishes::EventIndex => 2 << 16 | used.position(),
        };
        world.store(DRIVER, 4, wish).await;
        tail = world.load(entry, 8).await;
        if !used.is_used(tail >> 48) {
            world.sleep().await;
            tail = world.load(entry, 8).await;
        }
        world.store(DRIVER + 2, 2, 1).await;
        tail
    }

    fn collect(&mut self, tail: u64) {
        let last = tail >> 32 & 0xffff;
        loop {
            let (chain, id) = self.out.pop_front().expect("the device invented a chain");
            let (is_last, length) = (id == last, self.world.length(chain));
            let in_order = self.world.plan.order == Order::InOrder;
            assert!(is_last || in_order, "another chain than that of this place");
            self.used = self.used.after(length, self.world.plan.size);
            self.room += length;
            self.world.collect(chain, is_last.then_some(tail & 0xffff_ffff));
            self.collected += 1;
            if is_last {
                return;
            }
        }
    }
}
