//! What the driver receives.

use std::collections::{HashMap, VecDeque};

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::Departure;
use hairpin_dataplane::sys::memory::{Body, RegionHint};
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer, Negotiated};
use hairpin_dataplane::sys::virtqueue::{Indirect, Merge, PREFIX_BYTES};
use hairpin_dataplane::wire::offload::Offload;

use super::bed::{
    Bed, Conduct, RECEIVED_AT, RECEIVED_SLOTS, RECEIVED_TABLE_BYTES, RECEIVED_TABLES_AT, SLOT_BYTES,
};
use super::sent::bytes_of;
use crate::fuzz::input::Input;

/// A buffer that the driver gave.
#[derive(Clone, Debug)]
struct Given {
    slot: usize,
    length: u32,
}

/// What was offered and received.
#[derive(Debug, Default)]
pub struct Received {
    buffers: HashMap<u16, Given>,
    /// Their lengths, in order, as far as the device may have them.
    free: VecDeque<u32>,
    /// Frames that the device took for delivered.
    frames: VecDeque<Vec<u8>>,
    /// Of the frame that is being collected: its bytes, and the buffers they were in.
    partial: (Vec<u8>, u16),
    slots: Vec<bool>,
}

impl Received {
    /// Whether all that was delivered was received.
    pub fn is_back(&self) -> bool {
        self.frames.is_empty() && self.partial.1 == 0
    }
}

impl<D: Negotiated> Bed<D> {
    /// The driver gives buffers.
    pub(super) fn offer_buffers(&mut self, input: &mut Input<'_>) {
        let (count, length, shape) = (1 + input.below(16), input.byte(), input.byte());
        if self.conduct == Conduct::Hostile {
            return;
        }
        // One that is in a table where that is refused breaks the ring.
        let in_table = shape & 4 != 0 && self.terms[1].indirect == Indirect::Allowed;
        for _ in 0..count {
            let length = u32::from(length.max(1));
            self.received.slots.resize(RECEIVED_SLOTS, false);
            let Some(slot) = self.received.slots.iter().position(|used| !used) else { return };
            let at = RECEIVED_AT + slot as u64 * SLOT_BYTES;
            let first = length * u32::from(shape & 3) / 4;
            let parts = [(at, first), (at + u64::from(first), length - first)];
            let chain: Vec<Buffer> = parts
                .into_iter()
                .filter(|(_, length)| *length > 0)
                .map(|(address, length)| Buffer { address, length, access: Access::Write })
                .collect();
            let table = RECEIVED_TABLES_AT + slot as u64 * RECEIVED_TABLE_BYTES;
            let id = match in_table {
                true => self.drivers[1].add_indirect(&chain, table),
                false => self.drivers[1].add(&chain),
            };
            let Some(id) = id else { break };
            self.received.slots[slot] = true;
            self.received.free.push_back(length);
            let given = Given { slot, length };
            assert!(self.received.buffers.insert(id, given).is_none(), "an id that is in use");
        }
        self.drivers[1].publish();
    }

    /// The device sends a few frames of its own.
    pub(super) fn transmit(&mut self, input: &mut Input<'_>) {
        let (count, length, tag) = (1 + input.below(4), input.below(128), input.byte());
        let header = vec![tag; length];
        let departure =
            Departure { header: &header, body: Body::EMPTY, offload: Offload::NONE, fate: Ok(()) };
        let mut departures = vec![departure; count];
        self.transmitter.transmit(&mut departures);
        let fates: Vec<_> = departures.iter().map(|it| (header.clone(), it.fate)).collect();
        self.note(fates);
    }

    /// The device sends back what it receives.
    pub(super) fn relay(&mut self) {
        self.receive_and(|bed, batch| {
            let views = (0..batch.count()).map(|index| batch.view(index));
            let mut departures: Vec<_> = views.map(Departure::from).collect();
            bed.transmitter.transmit(&mut departures);
            if bed.conduct == Conduct::Honest {
                let fates = departures.iter().enumerate();
                let fates = fates.map(|(index, it)| (bytes_of(batch, index), it.fate)).collect();
                bed.note(fates);
            }
        });
    }

    /// Notes what became of frames: lost only for want of room.
    fn note(&mut self, fates: Vec<(Vec<u8>, Result<(), DropReason>)>) {
        if self.conduct == Conduct::Hostile {
            return;
        }
        let merge = self.terms[1].merge;
        for (bytes, fate) in fates {
            let need = (PREFIX_BYTES + bytes.len()) as u32;
            let free = &mut self.received.free;
            let buffers = match merge {
                Merge::Single => free.front().filter(|room| **room >= need).map(|_| 1),
                Merge::Mergeable => {
                    let mut room = 0;
                    let enough = |length: &u32| {
                        room += length;
                        room >= need
                    };
                    free.iter().position(enough).map(|last| last + 1)
                }
            };
            match (buffers, fate) {
                (Some(buffers), Ok(())) => {
                    free.drain(..buffers);
                    self.received.frames.push_back(bytes);
                }
                (None, Err(DropReason::RxRingFull)) => {}
                // What lies ahead is bounded: 512 descriptors.
                (Some(buffers), Err(DropReason::RxRingFull)) if buffers > 128 => {}
                (buffers, fate) => panic!("{need} bytes into {buffers:?} buffers: {fate:?}"),
            }
        }
    }

    /// The driver takes back the buffers that came back.
    pub(super) fn collect_received(&mut self) {
        let Bed { drivers, received, memory, .. } = self;
        drivers[1].collect(|returned| {
            let given = received.buffers.remove(&returned.id).expect("given back twice");
            received.slots[given.slot] = false;
            assert!(returned.length <= given.length, "more than fits");
            let at = RECEIVED_AT + given.slot as u64 * SLOT_BYTES;
            let mut bytes = vec![0; returned.length as usize];
            let place = memory.place(&mut RegionHint::default(), at, returned.length);
            place.expect("it lies in memory").read(&mut bytes);
            received.collect(&bytes);
        });
    }
}

impl Received {
    /// Takes what one buffer holds.
    fn collect(&mut self, bytes: &[u8]) {
        let (frame, buffers) = &mut self.partial;
        frame.extend(bytes);
        *buffers += 1;
        let Some((header, rest)) = frame.split_first_chunk::<PREFIX_BYTES>() else { return };
        if u16::from_le_bytes([header[10], header[11]]) == *buffers {
            let expected = self.frames.pop_front().expect("the device invented a frame");
            assert_eq!(rest, expected);
            self.partial = (Vec::new(), 0);
        }
    }
}
