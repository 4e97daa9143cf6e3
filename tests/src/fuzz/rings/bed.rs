//! Memory, a driver's two rings in it, and the device's half of both.

use std::sync::Arc;

use hairpin_dataplane::frame::Batch;
use hairpin_dataplane::port::vhost_user::queue::{
    NetHeaders, QueueReceiver, QueueTransmitter, RingKind,
};
use hairpin_dataplane::sys::memory::{Mapping, Memory, Region, RegionHint};
use hairpin_dataplane::sys::virtqueue::driver::Negotiated;
use hairpin_dataplane::sys::virtqueue::{
    Indirect, Layout, Merge, Moment, Order, Position, Terms, Wishes,
};

use super::OPERATIONS_MAX;
use super::received::Received;
use super::sent::Sent;
use crate::fuzz::forger::Grounds;
use crate::fuzz::input::Input;

/// Where the rings lie: the one that the driver sends by, then the other.
const RINGS: [u64; 2] = [0, 0x2000];
/// Where a ring's areas lie in it.
const DRIVER: u64 = 0x1000;
const DEVICE: u64 = 0x1400;
/// Buffers: those that the driver sends, then those it receives into.
pub const SENT_AT: u64 = 0x4000;
/// See [`SENT_AT`].
pub const RECEIVED_AT: u64 = 0xc000;
const MEMORY_BYTES: u64 = 0x1_c000;
/// A second region, with a hole before it: tables of descriptors.
pub const TABLES_AT: u64 = 0x4_0000;
/// Of what the driver receives into, two entries each, behind the others.
pub const RECEIVED_TABLES_AT: u64 = TABLES_AT + 0x8000;
/// See [`RECEIVED_TABLES_AT`].
pub const RECEIVED_TABLE_BYTES: u64 = 32;
const TABLES_BYTES: u64 = 0xa000;
/// Bytes of a buffer, and of a table.
pub const SLOT_BYTES: u64 = 256;
/// Buffers that are sent.
pub const SENT_SLOTS: usize = ((RECEIVED_AT - SENT_AT) / SLOT_BYTES) as usize;
/// Buffers that are received into: as many as the largest ring here has entries.
pub const RECEIVED_SLOTS: usize = ((MEMORY_BYTES - RECEIVED_AT) / SLOT_BYTES) as usize;

/// What both halves agree on.
#[derive(Debug)]
pub struct Plan {
    /// The guest's memory.
    pub memory: Arc<Memory>,
    kind: RingKind,
    /// Of each ring.
    terms: [Terms; 2],
}

impl Plan {
    /// Draws one.
    pub fn draw(kind: RingKind, input: &mut Input<'_>) -> Plan {
        let region = |at, bytes: u64| {
            let mapping = Mapping::anonymous(bytes as usize).expect("memory");
            Region::new(at, mapping).expect("it does not wrap")
        };
        let regions = vec![region(0, MEMORY_BYTES), region(TABLES_AT, TABLES_BYTES)];
        let memory = Arc::new(Memory::new(regions));
        let (features, size, start) = (input.byte(), input.byte(), input.word16());
        let size = match kind {
            RingKind::Split => 1 << (size % 9),
            RingKind::Packed => 1 + u16::from(size),
        };
        let at = match kind {
            RingKind::Split => start,
            RingKind::Packed => (start & (1 << 15)) | ((start & !(1 << 15)) % size),
        };
        let choose = |bit: u8| features >> bit & 1 == 0;
        let terms = RINGS.map(|ring| Terms {
            memory: Arc::clone(&memory),
            layout: Layout {
                size,
                descriptors: ring,
                driver: ring + DRIVER,
                device: ring + DEVICE,
            },
            position: Position { available: at, used: at },
            order: if choose(0) { Order::Any } else { Order::InOrder },
            merge: if choose(1) { Merge::Mergeable } else { Merge::Single },
            indirect: if choose(2) { Indirect::Allowed } else { Indirect::Refused },
            wishes: if choose(3) { Wishes::EventIndex } else { Wishes::Flags },
        });
        let plan = Plan { memory, kind, terms };
        if kind == RingKind::Split {
            // The indexes are where they are said to be.
            for ring in RINGS {
                plan.write(ring + DRIVER + 2, &at.to_le_bytes());
                plan.write(ring + DEVICE + 2, &at.to_le_bytes());
            }
        }
        plan
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        write(&self.memory, address, bytes);
    }
}

/// Writes to memory, as far as one region has it.
pub fn write(memory: &Memory, address: u64, bytes: &[u8]) {
    if let Some(place) = memory.place(&mut RegionHint::default(), address, bytes.len() as u32) {
        place.write(bytes);
    }
}

/// How the driver behaved so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// As it should.
    Honest,
    /// Otherwise.
    Hostile,
}

/// Both halves.
#[derive(Debug)]
pub struct Bed<D> {
    /// The guest's memory.
    pub memory: Arc<Memory>,
    pub(super) kind: RingKind,
    pub(super) terms: [Terms; 2],
    pub(super) conduct: Conduct,
    /// The driver's half of either ring.
    pub(super) drivers: [D; 2],
    pub(super) receiver: QueueReceiver,
    pub(super) transmitter: QueueTransmitter,
    pub(super) headers: NetHeaders,
    pub(super) batch: Batch,
    pub(super) sent: Sent,
    pub(super) received: Received,
    /// Chains taken from the ring since it was opened.
    pub(super) visited: u16,
    pub(super) grounds: [Grounds; 2],
}

impl<D: Negotiated> Bed<D> {
    /// By a plan.
    ///
    /// # Panics
    /// If the rings cannot be opened.
    pub fn new(plan: &Plan, driver: impl FnMut(&Terms) -> D) -> Bed<D> {
        let terms = plan.terms.clone();
        let drivers = terms.each_ref().map(driver);
        let receiver = QueueReceiver::open(plan.kind, &terms[0]).expect("an honest ring opens");
        let transmitter =
            QueueTransmitter::open(plan.kind, &terms[1]).expect("an honest ring opens");
        let addresses = vec![
            SENT_AT,
            RECEIVED_AT,
            TABLES_AT,
            TABLES_AT + SLOT_BYTES,
            SENT_AT + 2 * SLOT_BYTES,
            MEMORY_BYTES - 72,
            MEMORY_BYTES - 8,
            MEMORY_BYTES,
            TABLES_AT - 8,
            TABLES_AT + TABLES_BYTES - 16,
            0,
            RINGS[1],
            u64::MAX - 71,
        ];
        let grounds = terms
            .each_ref()
            .map(|terms| Grounds { addresses: addresses.clone(), layout: terms.layout });
        Bed {
            memory: Arc::clone(&plan.memory),
            kind: plan.kind,
            terms,
            conduct: Conduct::Honest,
            drivers,
            receiver,
            transmitter,
            headers: NetHeaders::Read,
            batch: Batch::new(),
            sent: Sent::default(),
            received: Received::default(),
            visited: 0,
            grounds,
        }
    }

    /// Does what an input says.
    pub fn run(mut self, input: &mut Input<'_>) {
        for _ in 0..OPERATIONS_MAX {
            if input.is_over() {
                break;
            }
            self.step(input);
        }
        if self.conduct == Conduct::Honest {
            self.finish();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let moment = |input: &mut Input<'_>| input.one_of(&[Moment::Busy, Moment::Idle]);
        match input.below(16) {
            0 | 1 => self.send(input),
            2 => self.receive(),
            3 => self.relay(),
            4 => self.transmit(input),
            5 => self.offer_buffers(input),
            6 => self.collect(),
            7 => self.sleep_device(input),
            8 => self.sleep_driver(input),
            9 => {
                let moment = moment(input);
                self.ring(moment);
            }
            10 => self.receiver.flush(),
            11 => self.reopen(input),
            12 => self.renegotiate(input),
            13 => self.forge(input),
            14 => self.forge_table(input),
            _ => self.scribble(input),
        }
    }

    /// What may change without the rings.
    fn renegotiate(&mut self, input: &mut Input<'_>) {
        self.headers = input.one_of(&[NetHeaders::Read, NetHeaders::Ignored]);
        self.receiver.set_headers(self.headers);
    }

    /// Both rings are halted and opened again where they stood.
    fn reopen(&mut self, input: &mut Input<'_>) {
        if input.below(2) == 0 {
            self.terms[0].position = self.receiver.position();
            let receiver = QueueReceiver::open(self.kind, &self.terms[0]);
            self.receiver = receiver.expect("where it stood is within the ring");
            self.receiver.set_headers(self.headers);
            self.visited = 0;
            self.sent.device_sleeps = false;
        } else {
            self.terms[1].position = self.transmitter.position();
            let transmitter = QueueTransmitter::open(self.kind, &self.terms[1]);
            self.transmitter = transmitter.expect("where it stood is within the ring");
        }
    }

    /// Everything that was sent is received and comes back, and everybody is woken.
    fn finish(&mut self) {
        while !self.sent.is_taken() {
            self.receive();
        }
        self.receiver.flush();
        self.ring(Moment::Idle);
        self.collect();
        assert!(self.sent.is_back(), "chains were lost: {:?}", self.sent);
        assert!(self.received.is_back(), "frames were lost: {:?}", self.received);
    }
}
