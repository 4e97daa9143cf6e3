//! Control's half of a capture: what the workers put aside, in the order of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Label, Plan, Tally};
use crate::port::frame_ring::FrameReceiver;
use crate::sys::memory::RegionHint;
use crate::sys::spsc::Peer;

/// Empties the rings of all workers that take part in a capture.
#[derive(Debug)]
pub struct Collector {
    plan: Arc<Plan>,
    tracks: Vec<Track>,
}

/// What one worker captured.
#[derive(Debug)]
struct Track {
    frames: FrameReceiver<Label>,
    tallies: Arc<[Tally]>,
    hint: RegionHint,
    pieces: Vec<(u64, u32)>,
    /// The frame at the head of the ring, whose pieces are in `pieces`.
    next: Option<Label>,
}

/// Whether a capture goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Captured {
    /// A worker still takes part.
    GoesOn,
    /// None does; what they left may still be taken.
    Over,
}

impl Collector {
    pub(super) fn new(plan: Arc<Plan>) -> Collector {
        Collector { plan, tracks: Vec::new() }
    }

    pub(super) fn add(&mut self, frames: FrameReceiver<Label>, tallies: Arc<[Tally]>) {
        let mut track = Track {
            frames,
            tallies,
            hint: RegionHint::default(),
            pieces: Vec::with_capacity(1),
            next: None,
        };
        track.warm();
        self.tracks.push(track);
    }

    /// What is captured.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Whether every worker takes part, or did: what passes now is captured.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.plan.joined.load(Ordering::Relaxed) == self.tracks.len()
    }

    /// Whether a worker still takes part. Ask this first, then take what is left.
    #[must_use]
    pub fn state(&self) -> Captured {
        let gone = self.tracks.iter().all(|track| track.frames.peer() == Peer::Gone);
        if gone { Captured::Over } else { Captured::GoesOn }
    }

    /// The earliest frame that waits, its first bytes in `bytes`. Frames of one worker come
    /// in order; of several, by the time of their breaths as far as they are there.
    pub fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Label> {
        let waiting = self.tracks.iter_mut().enumerate();
        let times = waiting.filter_map(|(index, track)| Some((track.peek()?.time_ns, index)));
        let (_, first) = times.min()?;
        self.tracks[first].take(bytes)
    }

    /// Frames of a device, by its place in the plan, that found the rings full.
    #[must_use]
    pub fn missed(&self, device: usize) -> u64 {
        let tallies = self.tracks.iter().filter_map(|track| track.tallies.get(device));
        tallies.map(|tally| tally.missed.get()).sum()
    }
}

impl Track {
    /// Has the kernel give every page of the ring now, not when a worker writes there first.
    fn warm(&mut self) {
        let memory = self.frames.memory();
        let mut at = 0;
        while let Some(place) = memory.place(&mut self.hint, at, PAGE_BYTES) {
            place.write(&[0]);
            at += u64::from(PAGE_BYTES);
        }
    }

    /// Looks at the first frame without giving its place back.
    fn peek(&mut self) -> Option<Label> {
        if self.next.is_none() {
            self.next = self.frames.take(&mut self.pieces);
        }
        self.next
    }

    fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Label> {
        let label = self.peek()?;
        bytes.clear();
        for &(address, length) in &self.pieces {
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            if let Some(place) = self.frames.memory().place(&mut self.hint, address, length) {
                place.read(&mut bytes[start..]);
            }
        }
        self.frames.release();
        self.next = None;
        Some(label)
    }
}

/// The least that the kernel gives.
const PAGE_BYTES: u32 = 4096;
