//! Whether the netdev gives us frames whose checksums are still to be filled in.
//!
//! A stack at the other end of a veth leaves TCP's and UDP's checksums to its netdev as
//! long as that has transmit checksumming on, and AF_XDP hands such frames on without a
//! word of it: every receiver drops them. Looking at all frames would cost what it is to
//! save, so samples are looked at, one a batch at most, in the bytes that are copied
//! anyway; only one that looks unfilled is summed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::frame::{Batch, View};
use crate::wire::checksum::Sum;
use crate::wire::transport::Transported;

/// Samples at first, and after each that is unfilled, before only some frames are looked
/// at; and how many that are filled in a row say that the peer was mended.
const EAGER_LOOKS: u32 = 64;
/// Frames from one look to the next otherwise.
const FRAMES_BETWEEN: u32 = 256;
/// Bytes that are summed at a time.
const PIECE_BYTES: usize = 512;

/// What was seen, by all queues of a netdev.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    unfilled: AtomicU64,
    /// Samples that were filled in since the last that was not.
    filled_since: AtomicU32,
}

/// What a netdev's checksums are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checksums {
    /// Samples that were not filled in since it was opened.
    pub unfilled: u64,
    /// As they are lately.
    pub lately: Lately,
}

/// What the last samples were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lately {
    /// All filled in, or there were none.
    #[default]
    Filled,
    /// One at least was not.
    Unfilled,
}

impl Sightings {
    pub(super) fn checksums(&self) -> Checksums {
        let unfilled = self.unfilled.load(Ordering::Relaxed);
        let mended = self.filled_since.load(Ordering::Relaxed) >= EAGER_LOOKS;
        let lately = if unfilled == 0 || mended { Lately::Filled } else { Lately::Unfilled };
        Checksums { unfilled, lately }
    }

    #[cold]
    fn note_unfilled(&self) {
        self.filled_since.store(0, Ordering::Relaxed);
        self.unfilled.fetch_add(1, Ordering::Relaxed);
    }

    /// Of interest up to where the peer counts as mended.
    fn note_filled(&self) {
        let filled = self.filled_since.load(Ordering::Relaxed);
        self.filled_since.store(filled.saturating_add(1).min(EAGER_LOOKS), Ordering::Relaxed);
    }
}

/// Chooses the samples of one queue.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Frames that are let pass before the next look.
    skip: u32,
    /// Looks before only some frames are looked at.
    eager: u32,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { skip: 0, eager: EAGER_LOOKS }
    }
}

impl Sampler {
    /// Looks at one frame of a batch, if it is time.
    #[inline]
    pub(super) fn look(&mut self, batch: &Batch, sightings: &Sightings) {
        let count = batch.count() as u32;
        if self.skip >= count {
            self.skip -= count;
        } else {
            self.sample(batch, sightings);
        }
    }

    fn sample(&mut self, batch: &Batch, sightings: &Sightings) {
        let view = batch.view(self.skip as usize);
        self.skip = 0;
        let Some(found) = Transported::find(view.header) else {
            // Neither TCP nor UDP: it is another's turn, and not always the first's.
            self.skip = 1;
            return;
        };
        if found.looks_unfilled() && !is_right(&found, &view) {
            sightings.note_unfilled();
            self.eager = EAGER_LOOKS;
            return;
        }
        sightings.note_filled();
        match self.eager.checked_sub(1) {
            Some(left) => self.eager = left,
            None => self.skip = FRAMES_BETWEEN,
        }
    }
}

/// Whether the checksum is right. What cannot be read whole is not complained of.
#[cold]
fn is_right(found: &Transported, view: &View<'_>) -> bool {
    let end = found.start + found.length;
    if end > view.length() {
        return true;
    }
    let visible = view.header.len().min(end);
    let mut sum = Sum::of(view.header.get(found.start..visible).unwrap_or_default());
    let mut piece = [0; PIECE_BYTES];
    for from in (0..end - visible).step_by(PIECE_BYTES) {
        let length = (end - visible - from).min(PIECE_BYTES);
        let read = view.body.slice(from, length).read(&mut piece[..length]);
        sum.add(&piece[..read]);
    }
    found.is_right(sum)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::sys::memory::{Memory, RegionHint};
    use crate::wire::checksum::pseudo_ipv4;
    use crate::wire::offload::Offload;

    /// A UDP frame with so much payload, the checksum filled in or as a stack leaves it.
    fn frame(payload: usize, lately: Lately) -> Vec<u8> {
        let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64).udp(1000, 2000);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &vec![7; payload]).unwrap();
        if lately == Lately::Unfilled {
            let pseudo = pseudo_ipv4(source, destination, 17, 8 + payload as u16);
            bytes[40..42].copy_from_slice(&pseudo.word().to_be_bytes());
        }
        bytes
    }

    struct Queue {
        sampler: Sampler,
        sightings: Sightings,
    }

    impl Queue {
        fn new() -> Queue {
            Queue { sampler: Sampler::default(), sightings: Sightings::default() }
        }

        /// Takes these frames as one batch.
        fn receive(&mut self, frames: &[Vec<u8>]) {
            let memory = Arc::new(Memory::arena(1 << 20).unwrap());
            let (mut batch, mut hint) = (Batch::new(), RegionHint::default());
            batch.begin(&memory);
            for (slot, frame) in (0_u64..).zip(frames) {
                let (at, length) = (slot * 4096, frame.len() as u32);
                memory.place(&mut hint, at, length).unwrap().write(frame);
                batch.push(&mut hint, &[(at, length)], Offload::NONE);
            }
            self.sampler.look(&batch, &self.sightings);
        }

        fn seen(&self) -> (u64, Lately) {
            let Checksums { unfilled, lately } = self.sightings.checksums();
            (unfilled, lately)
        }
    }

    #[test]
    fn unfilled_frames_are_seen_at_once_whatever_their_length() {
        for payload in [1, 18, 85, 86, 87, 700, 1472, 3000] {
            let mut queue = Queue::new();
            queue.receive(&[frame(payload, Lately::Filled)]);
            assert_eq!(queue.seen(), (0, Lately::Filled));
            queue.receive(&[frame(payload, Lately::Unfilled)]);
            assert_eq!(queue.seen(), (1, Lately::Unfilled), "{payload} bytes");
        }
    }

    #[test]
    fn a_finished_checksum_that_is_the_pseudo_header_s_sum_is_no_sighting() {
        // Bytes that bring the sum of all others to zero make the two the same.
        for payload in [2, 100, 1000] {
            let mut queue = Queue::new();
            let mut frame = frame(payload, Lately::Unfilled);
            let others = Sum::of(&frame[34..40]);
            let mut rest = Sum::of(&frame[44..]);
            rest.append(others);
            let pseudo = u16::from_be_bytes([frame[40], frame[41]]);
            // pseudo + field + others + word = 0xffff, with the field as the pseudo-header.
            let mut sum = rest;
            sum.append(Sum::of(&pseudo.to_be_bytes()));
            sum.append(Sum::of(&pseudo.to_be_bytes()));
            frame[42..44].copy_from_slice(&sum.checksum().to_be_bytes());
            assert!(Transported::find(&frame).unwrap().looks_unfilled());
            queue.receive(&[frame]);
            assert_eq!(queue.seen(), (0, Lately::Filled), "{payload} bytes");
        }
    }

    #[test]
    fn a_peer_that_turns_bad_later_is_found_and_one_that_was_mended_too() {
        let mut queue = Queue::new();
        let [good, bad] = [Lately::Filled, Lately::Unfilled].map(|it| vec![frame(60, it); 10]);
        for _ in 0..EAGER_LOOKS + 1 {
            queue.receive(&good);
        }
        // Now only some frames are looked at.
        queue.receive(&bad);
        assert_eq!(queue.seen(), (0, Lately::Filled));
        for _ in 0..FRAMES_BETWEEN / 10 + 1 {
            queue.receive(&bad);
        }
        assert!(matches!(queue.seen(), (1.., Lately::Unfilled)), "{:?}", queue.seen());
        for _ in 0..EAGER_LOOKS - 1 {
            queue.receive(&good);
        }
        assert_eq!(queue.seen().1, Lately::Unfilled);
        queue.receive(&good);
        assert_eq!(queue.seen().1, Lately::Filled);
    }

    #[test]
    fn frames_of_other_kinds_do_not_hide_those_that_count() {
        let mut queue = Queue::new();
        let arp = [&[2; 12][..], &[8, 6], &[0; 46]].concat();
        for _ in 0..1000 {
            queue.receive(std::slice::from_ref(&arp));
        }
        let mixed = [arp, frame(60, Lately::Unfilled)];
        queue.receive(&mixed);
        queue.receive(&mixed);
        assert_eq!(queue.seen().1, Lately::Unfilled);
    }
}
