//! What a receive queue gave, and what of its worker's time it took.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::ledger::Count;

/// How a worker watches a receive queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Watched {
    /// It is polled every breath.
    #[default]
    Hot,
    /// It is silent: its device wakes the worker.
    Armed,
    /// Its device is down: it is left alone until the policy changes.
    Parked,
    /// Its device is lost or quarantined: it is left alone until control takes it.
    Dormant,
}

/// The load of one receive queue since it was opened, whichever worker serves it: the
/// one that does writes it, anybody reads it.
///
/// What a queue costs is [`Load::busy_ns`]: a breath that received frames is charged, as
/// long as it took, to the queues that gave them, in proportion to their frames. A worker
/// reads the clock once a breath, so what a breath took is known when the next one
/// begins. Breaths that received nothing, arming and sleep are charged to nobody: a
/// worker with charges of a second per second has no time left, where the CPU time of one
/// that spins says nothing. Frames weigh alike, so of two queues served in the same
/// breaths the one with the larger frames is charged too little; time in which the kernel
/// ran somebody else in the worker's place is charged too.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    /// Frames received.
    pub frames: Count,
    /// Their bytes, without offload headers.
    pub bytes: Count,
    /// Turns in which it gave frames: at most 64 each.
    pub batches: Count,
    /// Nanoseconds of breaths, by the frames that it gave to each.
    pub busy_ns: Count,
    watched: AtomicU8,
}

impl Load {
    /// How it is watched.
    #[must_use]
    pub fn watched(&self) -> Watched {
        match self.watched.load(Ordering::Relaxed) {
            0 => Watched::Hot,
            1 => Watched::Armed,
            2 => Watched::Parked,
            _ => Watched::Dormant,
        }
    }

    pub(super) fn set_watched(&self, watched: Watched) {
        self.watched.store(watched as u8, Ordering::Relaxed);
    }

    /// Counts a batch.
    #[inline]
    pub(super) fn count_batch(&self, frames: usize, bytes: usize) {
        self.frames.add(frames as u64);
        self.bytes.add(bytes as u64);
        self.batches.add(1);
    }
}

/// Binary digits behind the point of nanoseconds per frame.
const FRACTION: u32 = 8;

/// Which queues gave the frames of the breath in hand.
pub(super) struct Tally {
    began_ns: u64,
    frames: u64,
    turns: Vec<Turned>,
}

struct Turned {
    /// The queue's place with the worker.
    key: usize,
    frames: u64,
}

impl Tally {
    /// Of a worker with so many queues at most: it allocates nothing later.
    pub fn new(queues_max: usize) -> Tally {
        Tally { began_ns: 0, frames: 0, turns: Vec::with_capacity(queues_max) }
    }

    /// Notes that a queue gave frames.
    #[inline]
    pub fn note(&mut self, key: usize, frames: usize) {
        if frames > 0 {
            self.frames += frames as u64;
            self.turns.push(Turned { key, frames: frames as u64 });
        }
    }

    /// Ends a breath and begins the next: charges each queue its share of the time
    /// between the two, and the worker all of it, if there were frames.
    #[inline]
    pub fn charge<'q>(
        &mut self,
        now_ns: u64,
        load: impl Fn(usize) -> Option<&'q Load>,
        worker_busy_ns: &Count,
    ) {
        let took_ns = now_ns.saturating_sub(self.began_ns);
        self.began_ns = now_ns;
        if self.frames == 0 {
            return;
        }
        let per_frame = (took_ns << FRACTION) / self.frames;
        self.frames = 0;
        worker_busy_ns.add(took_ns);
        for Turned { key, frames } in self.turns.drain(..) {
            if let Some(load) = load(key) {
                load.busy_ns.add((per_frame * frames) >> FRACTION);
            }
        }
    }

    /// A queue goes: what is in its place later is another.
    pub fn forget(&mut self, key: usize) {
        self.turns.retain(|turned| turned.key != key);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_breath_is_charged_by_frames_and_nobody_pays_for_silence() {
        let (loads, busy) = ([Load::default(), Load::default()], Count::default());
        let mut tally = Tally::new(2);
        let charge = |tally: &mut Tally, now_ns| tally.charge(now_ns, |key| loads.get(key), &busy);
        charge(&mut tally, 1_000);
        charge(&mut tally, 5_000);
        tally.note(0, 3);
        tally.note(1, 1);
        charge(&mut tally, 5_800);
        // Silence, then a breath of one queue, then one of a queue that has left.
        charge(&mut tally, 9_000);
        tally.note(1, 64);
        charge(&mut tally, 9_500);
        tally.note(1, 64);
        tally.forget(1);
        charge(&mut tally, 9_600);
        let charged = loads.each_ref().map(|load| load.busy_ns.get());
        // Within what a 256th of a nanosecond per frame amounts to.
        assert_eq!(charged[0], 600);
        assert!((699..=700).contains(&charged[1]), "{charged:?}");
        assert_eq!(busy.get(), 800 + 500 + 100);
    }
}
