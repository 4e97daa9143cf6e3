//! Tables of descriptors that a descriptor names (virtio 1.2, 2.7.5.3 and 2.8.7).
//!
//! A table lies in one region of the driver's memory, anywhere in it, so its entries are
//! copied out, each once, before they are believed.

use std::sync::Arc;

use super::area::Tail;
use super::{CHAIN_DESCRIPTORS, ChainFault, INDIRECT, Indirect, NEXT, Piece, Terms, WRITE};
use crate::sys::memory::{Memory, Place, RegionHint};

/// Bytes of a table's entry.
const ENTRY_BYTES: usize = 16;

/// How a table's entries follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Linkage {
    /// As their `next` fields say (split).
    ByIndex,
    /// As they lie, all of them (packed). Other flags than [`WRITE`] are reserved there:
    /// DPDK's driver leaves some behind.
    InPlace,
}

/// Who may write the buffers of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// The device reads them.
    FromDriver,
    /// The device writes them.
    ToDriver,
}

/// Where a queue's tables are looked up.
#[derive(Debug)]
pub(super) struct Tables {
    memory: Arc<Memory>,
    hint: RegionHint,
    indirect: Indirect,
    linkage: Linkage,
    direction: Direction,
}

impl Tables {
    pub(super) fn new(terms: &Terms, linkage: Linkage, direction: Direction) -> Tables {
        Tables {
            memory: Arc::clone(&terms.memory),
            hint: RegionHint::default(),
            indirect: terms.indirect,
            linkage,
            direction,
        }
    }

    /// Visits the pieces of the table that a ring's descriptor names, up to `room` of
    /// them.
    ///
    /// # Errors
    /// [`ChainFault`]; some pieces may have been visited.
    pub(super) fn walk(
        &mut self,
        (address, length): Piece,
        room: usize,
        mut visit: impl FnMut(Piece, More) -> Result<(), ChainFault>,
    ) -> Result<(), ChainFault> {
        let bytes = length as usize;
        if self.indirect == Indirect::Refused || bytes == 0 || !bytes.is_multiple_of(ENTRY_BYTES) {
            return Err(ChainFault::Descriptor);
        }
        let table = self.memory.place(&mut self.hint, address, length);
        let table = table.ok_or(ChainFault::Descriptor)?;
        let mut index = 0;
        for _ in 0..room.min(CHAIN_DESCRIPTORS) {
            let (address, tail) = entry(table, index).ok_or(ChainFault::Descriptor)?;
            self.check(tail)?;
            let next = match self.linkage {
                Linkage::ByIndex => (tail.low() & NEXT != 0).then(|| usize::from(tail.high())),
                Linkage::InPlace => Some(index + 1).filter(|next| next * ENTRY_BYTES < bytes),
            };
            let more = if next.is_some() { More::Follow } else { More::None };
            visit((address, tail.length()), more)?;
            match next {
                Some(next) => index = next,
                None => return Ok(()),
            }
        }
        Err(ChainFault::TooLong)
    }

    /// Whether an entry may stand in a table.
    fn check(&self, tail: Tail) -> Result<(), ChainFault> {
        let flags = match self.linkage {
            Linkage::ByIndex => tail.low(),
            Linkage::InPlace => tail.high(),
        };
        let expected = match (self.direction, self.linkage) {
            (Direction::ToDriver, _) => flags & WRITE != 0,
            (Direction::FromDriver, Linkage::ByIndex) => flags & WRITE == 0,
            // DPDK's driver marks the virtio-net header that it sends as ours to write.
            // Reading what is the driver's anyway harms nobody.
            (Direction::FromDriver, Linkage::InPlace) => true,
        };
        if expected && flags & INDIRECT == 0 { Ok(()) } else { Err(ChainFault::Descriptor) }
    }
}

/// Whether pieces follow one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum More {
    None,
    Follow,
}

/// An entry of a table, read once; nothing beyond its end.
fn entry(table: Place<'_>, index: usize) -> Option<(u64, Tail)> {
    let mut bytes = [[0; ENTRY_BYTES / 2]; 2];
    let (_, rest) = table.split(index.checked_mul(ENTRY_BYTES)?);
    let whole = rest.read(bytes.as_flattened_mut()) == ENTRY_BYTES;
    let [address, tail] = bytes.map(u64::from_le_bytes);
    whole.then_some((address, Tail(tail)))
}
