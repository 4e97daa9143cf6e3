//! The relay's verdicts on a batch, in frame order, as copies by device.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::capture::Captures;
use super::deliver::lose;
use super::groups::{FLOOD_COPIES_MAX, Groups};
use crate::frame::{BATCH_FRAMES, Batch};
use crate::ledger::{Counters, DropReason};
use crate::relay::arrival::{Arrival, Arrivals};
use crate::relay::bucket::Reflections;
use crate::relay::{Admitted, Audience, Burst, Frame, Reach, Relay, Verdict, bridge, egress};
use crate::snapshot::{Device, PortId, Snapshot};

/// What a worker needs to decide, all of it allocated at its start.
pub(super) struct Decider {
    worker: usize,
    arrivals: Arrivals,
    /// Frames of the batch in hand that were counted as decided or dropped.
    settled: usize,
    /// Why frames of the batch in hand did not pass the checklist, in their order.
    refused: ArrayVec<DropReason, BATCH_FRAMES>,
    /// Copies of group frames that this breath may still make.
    flood_left: usize,
    /// Where floods start when the budget runs out: another port each breath.
    rotation: usize,
    /// What bridge channels may get back of their group frames, over all workers.
    reflections: Arc<Reflections>,
    pub captures: Captures,
    /// Whether the batch in hand has been shown to them.
    captured: bool,
}

/// A batch and the counters of the device it came from.
struct Source<'b> {
    batch: &'b Batch,
    counters: &'b Counters,
}

/// A frame of the batch.
struct Sent<'b> {
    frame: Frame<'b>,
    admitted: Admitted,
    source: &'b Source<'b>,
}

impl Decider {
    pub fn new(worker: usize, reflections: Arc<Reflections>) -> Decider {
        Decider {
            worker,
            arrivals: Arrivals::with_capacity(BATCH_FRAMES),
            settled: 0,
            refused: ArrayVec::new(),
            flood_left: FLOOD_COPIES_MAX,
            rotation: 0,
            reflections,
            captures: Captures::new(),
            captured: false,
        }
    }

    /// Starts a breath: the flood budget is whole again.
    pub fn begin_breath(&mut self, now_ns: u64) {
        self.captures.begin_breath(now_ns);
        self.flood_left = FLOOD_COPIES_MAX;
        self.rotation = self.rotation.wrapping_add(1);
    }

    /// Nothing of the next batch is settled yet.
    pub fn begin_batch(&mut self) {
        self.settled = 0;
        self.refused.clear();
        self.arrivals.clear();
        self.captured = false;
    }

    /// Whether this breath may still make copies of group frames.
    pub fn has_flood_budget(&self) -> bool {
        self.flood_left > 0
    }

    /// Frames of the batch in hand that are accounted for.
    pub fn settled(&self) -> usize {
        self.settled
    }

    /// Decides every frame of the batch and lays out its copies.
    pub fn decide(
        &mut self,
        relay: Relay<'_>,
        device: &Device,
        batch: &Batch,
        groups: &mut Groups,
    ) {
        let counters = &device.attached.counters[self.worker];
        let Decider { settled, refused, arrivals, .. } = self;
        let refuse = |reason| {
            settle(settled, counters, reason, 1);
            refused.push(reason);
        };
        match relay.entrance(device.attached.id) {
            None => {
                std::iter::repeat_n(device.entry.refusal(), batch.count()).for_each(refuse);
            }
            Some(entrance) => {
                relay.admit(entrance, &batch, arrivals, refuse);
                relay.decide(entrance, arrivals);
            }
        }
        if !self.captures.is_empty() {
            self.capture(device, batch);
        }
        let source = Source { batch, counters };
        for index in 0..self.arrivals.all().len() {
            let arrival = self.arrivals.all()[index];
            self.lay_out(relay, &arrival, &source, groups);
        }
    }

    /// Captures a batch whose verdicts stand, before its copies.
    #[inline(never)]
    fn capture(&mut self, device: &Device, batch: &Batch) {
        let fates = self.fates(|arrival| match arrival.verdict {
            Verdict::Drop(reason) => Some(reason),
            Verdict::To(_) | Verdict::Flood(_) => None,
        });
        self.captures.received(&device.attached, batch, &fates);
        self.captured = true;
    }

    /// Captures a batch after a panic: what was admitted is the port's loss. If copies were
    /// laid out already, all of it is there as received.
    pub fn capture_abandoned(&mut self, device: &Device, batch: &Batch) {
        if !self.captures.is_empty() && !self.captured {
            let fates = self.fates(|_| Some(DropReason::PortFault));
            self.captures.received(&device.attached, batch, &fates);
        }
    }

    /// Why frames of the batch in hand were dropped, by their places: those that were
    /// refused, and of the others what is said of their arrival.
    fn fates(
        &self,
        of: impl Fn(&Arrival) -> Option<DropReason>,
    ) -> [Option<DropReason>; BATCH_FRAMES] {
        let (mut fates, mut admitted) = ([None; BATCH_FRAMES], [false; BATCH_FRAMES]);
        for arrival in self.arrivals.all() {
            fates[arrival.run()].fill(of(arrival));
            admitted[arrival.run()].fill(true);
        }
        let others = fates.iter_mut().zip(admitted).filter(|(_, admitted)| !admitted);
        // After a panic, frames may not have been looked at.
        let refused = self.refused.iter().copied();
        let reasons = refused.chain(std::iter::repeat(DropReason::PortFault));
        others.zip(reasons).for_each(|((fate, _), reason)| *fate = Some(reason));
        fates
    }

    fn lay_out(
        &mut self,
        relay: Relay<'_>,
        arrival: &Arrival,
        source: &Source<'_>,
        groups: &mut Groups,
    ) {
        #[cfg(all(test, not(loom)))]
        for _ in arrival.run() {
            super::tests::mishap::at(super::tests::mishap::Place::Deciding);
        }
        let &Arrival { admitted, verdict, .. } = arrival;
        let &Source { batch, counters } = source;
        let sent = |index| Sent { frame: batch.frame(index), admitted, source };
        let frames = arrival.run().len();
        match verdict {
            Verdict::Drop(reason) => return settle(&mut self.settled, counters, reason, frames),
            Verdict::To(port) => self.copy_run(relay.snapshot, arrival.run(), sent, port, groups),
            Verdict::Flood(audience) => {
                arrival.run().for_each(|index| self.flood(relay, &sent(index), audience, groups));
            }
        }
        counters.decided.add(frames as u64);
        self.settled += frames;
    }

    /// Frames that are alike, the first the longest: if it fits, they all do.
    #[inline]
    fn copy_run<'b>(
        &mut self,
        snapshot: &Snapshot,
        run: Range<usize>,
        sent: impl Fn(usize) -> Sent<'b>,
        id: PortId,
        groups: &mut Groups,
    ) {
        let Some(port) = snapshot.port(id) else { return };
        let first = sent(run.start);
        match egress::plan(&first.admitted, port, &first.frame) {
            Ok(edit) => groups.push_run(port.device, run, edit),
            Err(_) => run.for_each(|index| self.copy_to(snapshot, &sent(index), id, groups)),
        }
    }

    fn flood(
        &mut self,
        relay: Relay<'_>,
        sent: &Sent<'_>,
        audience: Audience,
        groups: &mut Groups,
    ) {
        let audience = self.spare_the_uplink(relay, sent, audience, groups);
        let domain = sent.admitted.domain;
        let receivers = || audience.receivers(relay.snapshot, domain);
        if audience.candidates(relay.snapshot, domain).len() < self.flood_left {
            receivers().for_each(|port| self.flood_to(relay, sent, port, groups));
            return;
        }
        // The budget may run out on the way: not always on the same ports.
        let start = self.rotation % receivers().count().max(1);
        for port in receivers().skip(start).chain(receivers().take(start)) {
            self.flood_to(relay, sent, port, groups);
        }
    }

    /// Unicast to the outside is the uplink's whoever else gets a copy of it, and not
    /// charged to the flood budget; who is left.
    fn spare_the_uplink(
        &mut self,
        relay: Relay<'_>,
        sent: &Sent<'_>,
        audience: Audience,
        groups: &mut Groups,
    ) -> Audience {
        match (audience.reach, audience.uplink) {
            (Reach::Unregistered, Some(uplink)) => {
                self.copy_to(relay.snapshot, sent, uplink, groups);
                Audience { uplink: None, ..audience }
            }
            _ => audience,
        }
    }

    /// One copy of a flood, if the budget and the rate of reflections have it.
    fn flood_to(&mut self, relay: Relay<'_>, sent: &Sent<'_>, id: PortId, groups: &mut Groups) {
        if self.flood_left == 0 {
            return self.lose(relay.snapshot, sent, id, DropReason::FloodBudget);
        }
        if !self.may_reflect(relay, sent, id) {
            return self.lose(relay.snapshot, sent, id, DropReason::ReflectedGroupRate);
        }
        self.flood_left -= 1;
        self.copy_to(relay.snapshot, sent, id, groups);
    }

    /// Whether a copy is none of a group frame back to where it came from, or has a
    /// token for that.
    fn may_reflect(&self, relay: Relay<'_>, sent: &Sent<'_>, id: PortId) -> bool {
        let Some(port) = relay.snapshot.port(id) else { return true };
        let Some(rate) = bridge::reflected_group_rate(&sent.admitted, id, port) else {
            return true;
        };
        self.reflections.of(id).is_none_or(|bucket| bucket.take(rate, relay.now_ms).is_ok())
    }

    fn copy_to(&mut self, snapshot: &Snapshot, sent: &Sent<'_>, id: PortId, groups: &mut Groups) {
        let Some(port) = snapshot.port(id) else { return };
        match egress::plan(&sent.admitted, port, &sent.frame) {
            Ok(edit) => groups.push(port.device, usize::from(sent.frame.index), edit),
            Err(reason) => self.lose(snapshot, sent, id, reason),
        }
    }

    /// Counts a copy that was decided and does not reach its device.
    fn lose(&mut self, snapshot: &Snapshot, sent: &Sent<'_>, id: PortId, reason: DropReason) {
        let Some(device) = snapshot.port(id).and_then(|port| snapshot.device(port.device)) else {
            return;
        };
        lose(&device.attached.counters[self.worker], reason, sent.source.counters);
        if !self.captures.is_empty() {
            let view = sent.source.batch.view(usize::from(sent.frame.index));
            self.captures.lost(&device.attached, view, reason);
        }
    }
}

/// Counts frames that were dropped before they were decided.
fn settle(settled: &mut usize, counters: &Counters, reason: DropReason, frames: usize) {
    counters.drop_frames(reason, frames as u64);
    *settled += frames;
}

impl<'b> Burst<'b> for &'b Batch {
    #[inline(always)]
    fn count(&self) -> usize {
        Batch::count(self)
    }

    #[inline(always)]
    fn frame(&self, index: usize) -> Frame<'b> {
        Frame {
            index: index as u16,
            header: self.header(index),
            length: self.length(index),
            offload: self.offload(index),
        }
    }

    #[inline(always)]
    fn alike(&self) -> u64 {
        const { assert!(BATCH_FRAMES <= u64::BITS as usize, "a bit for each") };
        Batch::alike(self)
    }
}
