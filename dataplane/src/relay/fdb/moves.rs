//! Which addresses moved of late, for control to tell of: the last 64, written by workers
//! without a lock, and read now and then.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::Address;
use crate::snapshot::{DomainId, PortId};
use crate::wire::{Mac, Vid};

/// Moves that are remembered.
pub const RECENT: usize = 64;
/// In the place of a port: the address was seen behind the uplink.
const OUTSIDE: u64 = 0xffff;

/// An address that moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Which.
    pub address: Address,
    /// The relay port that had it.
    pub from: PortId,
    /// The relay port that has it; none: it is outside.
    pub to: Option<PortId>,
}

/// A move in three words, the first of which says whose the others are.
#[derive(Debug, Default)]
struct Slot {
    /// The move's number, from 1; 0 while it is written.
    stamp: AtomicU64,
    /// The domain above the address.
    address: AtomicU64,
    /// The VID above the ports it went to and came from.
    way: AtomicU64,
}

/// How many there were, and the last of them.
#[derive(Debug)]
pub struct Moves {
    count: AtomicU64,
    recent: [Slot; RECENT],
}

impl Default for Moves {
    fn default() -> Moves {
        Moves { count: AtomicU64::new(0), recent: std::array::from_fn(|_| Slot::default()) }
    }
}

impl Moves {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes one. Two writers meet in a slot only if one of them is held up for 64 moves of
    /// others; what is read there then may be of both, which costs a wrong line in a log.
    pub fn note(&self, moved: Move) {
        let Move { address: Address { domain, vid, mac }, from, to } = moved;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let slot = &self.recent[number as usize % RECENT];
        slot.stamp.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.address.store(u64::from(domain.0) << 48 | mac.to_u64(), Ordering::Relaxed);
        let to = to.map_or(OUTSIDE, |to| u64::from(to.0));
        let way = u64::from(vid.get()) << 32 | to << 16 | u64::from(from.0);
        slot.way.store(way, Ordering::Relaxed);
        slot.stamp.store(number + 1, Ordering::Release);
    }

    /// Moves behind the first `seen`, as far as they are remembered and written.
    #[must_use]
    pub fn since(&self, seen: u64) -> Told {
        let count = self.count();
        let first = seen.max(count.saturating_sub(RECENT as u64));
        let (mut moves, mut forgotten, mut next) = (Vec::new(), first - seen, first);
        while next < count {
            match self.read(next) {
                Read::Whole(moved) => moves.push(moved),
                Read::Another => forgotten += 1,
                Read::Unwritten => break,
            }
            next += 1;
        }
        Told { moves, forgotten, next }
    }

    fn read(&self, number: u64) -> Read {
        let slot = &self.recent[number as usize % RECENT];
        let stamp = slot.stamp.load(Ordering::Acquire);
        let address = slot.address.load(Ordering::Relaxed);
        let way = slot.way.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if stamp <= number {
            // Its writer, or that of the one 64 before it, is at it.
            return Read::Unwritten;
        }
        if stamp > number + 1 || slot.stamp.load(Ordering::Relaxed) != stamp {
            return Read::Another;
        }
        let to = Some((way >> 16) & OUTSIDE).filter(|&to| to != OUTSIDE);
        Read::Whole(Move {
            address: Address {
                domain: DomainId((address >> 48) as u16),
                vid: Vid::new((way >> 32) as u16).unwrap_or(Vid::UNTAGGED),
                mac: Mac::from_u64(address & ((1 << 48) - 1)),
            },
            from: PortId(way as u16),
            to: to.map(|to| PortId(to as u16)),
        })
    }
}

/// Moves that somebody has not been told of yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The moves, in their order.
    pub moves: Vec<Move>,
    /// How many more there were, which are not remembered.
    pub forgotten: u64,
    /// How many were told of, or forgotten, since the start: where to go on.
    pub next: u64,
}

/// What is in a slot.
enum Read {
    /// The move that was asked for.
    Whole(Move),
    /// Nothing yet.
    Unwritten,
    /// A later one.
    Another,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn moved(number: u16, to: Option<PortId>) -> Move {
        let mac = Mac::from_u64(0x5254_0000_0000 | u64::from(number));
        let vid = Vid::new(10).expect("10 is a VID");
        let address = Address { domain: DomainId(7), vid, mac };
        Move { address, from: PortId(number), to }
    }

    #[test]
    fn the_last_ones_are_told_and_none_twice() {
        let moves = Moves::default();
        for number in 0..3 {
            moves.note(moved(number, Some(PortId(8))));
        }
        let told = moves.since(1);
        assert_eq!(told.moves, [moved(1, Some(PortId(8))), moved(2, Some(PortId(8)))]);
        assert_eq!((told.forgotten, told.next), (0, 3));
        assert!(moves.since(told.next).moves.is_empty());
        for number in 3..200 {
            moves.note(moved(number, None));
        }
        let told = moves.since(3);
        let last: Vec<Move> =
            (200 - RECENT as u16..200).map(|number| moved(number, None)).collect();
        assert_eq!(told.moves, last);
        assert_eq!((told.forgotten, told.next), (200 - 3 - RECENT as u64, 200));
    }

    #[test]
    fn what_is_not_written_yet_is_told_later() {
        let moves = Moves::default();
        moves.note(moved(0, None));
        // A writer has its number, and is held up.
        moves.count.fetch_add(1, Ordering::Relaxed);
        moves.note(moved(2, None));
        let told = moves.since(0);
        assert_eq!((told.moves.len(), told.next), (1, 1));
        moves.recent[1].stamp.store(2, Ordering::Relaxed);
        let told = moves.since(told.next);
        assert_eq!((told.moves.len(), told.next), (2, 3));
        assert_eq!(told.moves[1], moved(2, None));
    }
}
