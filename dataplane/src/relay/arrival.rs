//! Frames between the relay's phases, each written once, where it stays.
//!
//! Heads up: an [`Arrival`] is filled in place and case by case. As a value that is
//! handed on, its parts would be stored and loaded one by one at each step: that was a
//! third of the relay's instructions.
//!
//! A station sends many frames in a row to the same other: what was found of the first
//! holds for those behind it that are *alike*, so one arrival stands for them all.

use std::ops::Range;

use super::{Admitted, Burst, Customer, Frame, Service, Tags, Verdict};
use crate::ledger::DropReason;
use crate::snapshot::{DomainId, PortId};
use crate::wire::{Mac, Vid};

/// A frame between the phases, and behind them with its verdict; and those directly behind
/// it that are alike.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The frame's place in its batch.
    pub index: u16,
    /// How many frames this stands for, itself included.
    pub frames: u16,
    /// What the checklist found.
    pub admitted: Admitted,
    pub(super) stage: Stage,
    /// Where it goes, once decided.
    pub verdict: Verdict,
}

/// How far an arrival has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// Its verdict stands.
    Decided,
    /// Phase two decides; this is who registered its destination, if anybody did.
    Pending(Option<PortId>),
}

impl Arrival {
    /// What stands where no frame was put yet.
    const NONE: Arrival = Arrival {
        index: 0,
        frames: 0,
        admitted: Admitted {
            ingress: PortId(0),
            domain: DomainId(0),
            destination: Mac::ZERO,
            source: Mac::ZERO,
            vid: Vid::UNTAGGED,
            tags: Tags { service: Service::Absent, customer: Customer::Untagged },
        },
        stage: Stage::Pending(None),
        verdict: Verdict::Drop(DropReason::NoReceiver),
    };

    #[inline(always)]
    fn put(&mut self, frame: &Frame<'_>, frames: usize, admitted: Admitted) {
        (self.index, self.frames) = (frame.index, frames as u16);
        self.admitted = admitted;
        self.stage = Stage::Pending(None);
    }

    /// The places of the frames that this stands for.
    #[inline]
    #[must_use]
    pub fn run(&self) -> Range<usize> {
        let first = usize::from(self.index);
        first..first + usize::from(self.frames)
    }
}

/// The arrivals of one batch.
#[derive(Debug)]
pub struct Arrivals {
    slots: Box<[Arrival]>,
    count: usize,
}

impl Arrivals {
    /// None yet, and room for so many; allocates once, here.
    #[must_use]
    pub fn with_capacity(frames: usize) -> Arrivals {
        Arrivals { slots: vec![Arrival::NONE; frames].into_boxed_slice(), count: 0 }
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// All, in the order of their frames.
    #[inline]
    #[must_use]
    pub fn all(&self) -> &[Arrival] {
        &self.slots[..self.count]
    }

    #[inline]
    pub(super) fn all_mut(&mut self) -> &mut [Arrival] {
        &mut self.slots[..self.count]
    }

    /// Adds each frame that passes `check`, to be decided, and has `begin` do what can be
    /// done on it at once; the others are `refused`. Frames that are `alike` to the one
    /// before them (bits as of [`Burst::alike`]) are added to its arrival, unless they have
    /// a tag: what follows its first four bytes may differ.
    ///
    /// # Panics
    /// If there are more than room was made for.
    #[inline(always)]
    pub(super) fn fill<'f>(
        &mut self,
        burst: &impl Burst<'f>,
        alike: u64,
        mut refused: impl FnMut(DropReason),
        check: impl Fn(&Frame<'f>) -> Result<Admitted, DropReason>,
        begin: impl Fn(&mut Arrival),
    ) {
        let mut index = 0;
        while index < burst.count() {
            let frame = burst.frame(index);
            let slot = self.slots.get_mut(self.count).expect("arrivals have room for a batch");
            let mut frames = 1;
            match check(&frame) {
                Ok(admitted) => {
                    if admitted.tags.customer == Customer::Untagged {
                        frames += (alike >> index >> 1).trailing_ones() as usize;
                    }
                    slot.put(&frame, frames, admitted);
                    begin(slot);
                    self.count += 1;
                }
                Err(reason) => refused(reason),
            }
            index += frames;
        }
    }
}
