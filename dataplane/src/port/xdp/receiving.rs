//! What a socket has received: its frames into a batch, their places back into the fill
//! ring.
//!
//! A frame longer than a place lies in several, whose descriptors follow each other, all
//! but the last marked as continued. The kernel shows them together; one whose last is not
//! there is nevertheless left in the ring until it is, and one of too many is passed over
//! to its end, whenever that comes.

use arrayvec::ArrayVec;

use super::{PIECES_MAX, RECEIVE_FRAMES};
use crate::frame::{Batch, Prefix, Room};
use crate::ledger::DropReason;
use crate::port::Received;
use crate::sys::memory::{Piece, RegionHint};
use crate::sys::xdp::{Consumer, Descriptor, FRAME_BYTES, Producer, Sequel, Wakeup};

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct Receiving {
    fill: Producer<u64>,
    received: Consumer<Descriptor>,
    rest: Rest,
}

/// What the ring still has of a frame that was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    Nothing,
    /// The next descriptors, up to one that is not continued.
    ToSkip,
}

/// Whether all of a frame is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whole {
    Now,
    NotYet,
}

impl Receiving {
    pub(super) fn new(fill: Producer<u64>, received: Consumer<Descriptor>) -> Receiving {
        Receiving { fill, received, rest: Rest::Nothing }
    }

    /// Gives places, by their addresses, to the kernel; says whether it wants to know.
    pub(super) fn give_back(&mut self, places: impl IntoIterator<Item = u64>) -> Wakeup {
        for place in places {
            // The ring has twice as many entries as there are places (see `Sizes`).
            let pushed = self.fill.push(place);
            debug_assert!(pushed.is_ok(), "place {place} finds no room in the fill ring");
        }
        self.fill.publish();
        self.fill.wakeup()
    }

    /// Fills a batch (begun) with the frames that wait, and adds the places that they lie
    /// in to `held`, which has room for all that a batch can have.
    pub(super) fn stage(
        &mut self,
        hint: &mut RegionHint,
        held: &mut Vec<u64>,
        batch: &mut Batch,
    ) -> Received {
        if self.rest == Rest::ToSkip {
            self.skip_rest();
        }
        let received = self.stage_frames(hint, held, batch);
        batch.settle();
        self.received.release();
        received
    }

    #[inline]
    fn stage_frames(
        &mut self,
        hint: &mut RegionHint,
        held: &mut Vec<u64>,
        batch: &mut Batch,
    ) -> Received {
        while batch.room() == Room::More {
            let Some(descriptor) = self.received.take() else { return Received::Drained };
            if descriptor.sequel() == Sequel::Next {
                match self.stage_pieces(descriptor, hint, held, batch) {
                    Whole::Now => continue,
                    Whole::NotYet => return Received::Drained,
                }
            }
            match locate(descriptor) {
                Some((place, piece)) => {
                    held.push(place);
                    batch.stage_piece(hint, piece, Prefix::None);
                }
                None => batch.reject(DropReason::BadAddress),
            }
        }
        Received::More
    }

    /// Stages a frame that begins with this descriptor and goes on, if all of it is there.
    #[cold]
    fn stage_pieces(
        &mut self,
        first: Descriptor,
        hint: &mut RegionHint,
        held: &mut Vec<u64>,
        batch: &mut Batch,
    ) -> Whole {
        let mut frame = ArrayVec::<Descriptor, PIECES_MAX>::new();
        let mut next = first;
        loop {
            if frame.try_push(next).is_err() {
                self.give_up(&frame, next);
                batch.reject(DropReason::TooManySegments);
                return Whole::Now;
            }
            if next.sequel() == Sequel::None {
                break;
            }
            let Some(descriptor) = self.received.take() else {
                self.received.put_back(frame.len() as u32);
                return Whole::NotYet;
            };
            next = descriptor;
        }
        let located =
            frame.iter().copied().map(locate).collect::<Option<ArrayVec<_, PIECES_MAX>>>();
        let Some(located) = located else {
            self.give_back_all(&frame);
            batch.reject(DropReason::BadAddress);
            return Whole::Now;
        };
        held.extend(located.iter().map(|&(place, _)| place));
        let pieces: ArrayVec<Piece, PIECES_MAX> = located.iter().map(|&(_, piece)| piece).collect();
        batch.stage(hint, &pieces, Prefix::None);
        Whole::Now
    }

    /// Gives a frame of too many pieces back, up to `last`, and what there is behind it.
    fn give_up(&mut self, frame: &[Descriptor], last: Descriptor) {
        self.give_back_all(frame);
        self.give_back_all(&[last]);
        if last.sequel() == Sequel::Next {
            self.skip_rest();
        }
    }

    /// Passes over the rest of a frame that was given up, as far as it is there; a ring
    /// full of it at most.
    fn skip_rest(&mut self) {
        self.rest = Rest::ToSkip;
        for _ in 0..RECEIVE_FRAMES {
            let Some(descriptor) = self.received.take() else { return };
            self.give_back_all(&[descriptor]);
            if descriptor.sequel() == Sequel::None {
                self.rest = Rest::Nothing;
                return;
            }
        }
    }

    /// Gives the places back that a lost frame lay in, as far as they are places. If the
    /// kernel wants to know, it is told with the next ones.
    fn give_back_all(&mut self, frame: &[Descriptor]) {
        let places = frame.iter().copied().filter_map(locate).map(|(place, _)| place);
        let _ = self.give_back(places);
    }
}

/// Where a frame, or a piece of one, lies: its place in the UMEM, and itself; nothing if
/// it does not lie in one of the places for received frames.
#[inline]
fn locate(descriptor: Descriptor) -> Option<(u64, Piece)> {
    let Descriptor { address, length, .. } = descriptor;
    let within = address % u64::from(FRAME_BYTES);
    let place = address - within;
    let fits = place < u64::from(RECEIVE_FRAMES) * u64::from(FRAME_BYTES)
        && within + u64::from(length) <= u64::from(FRAME_BYTES);
    fits.then_some((place, (address, length)))
}

#[cfg(test)]
mod tests;
