//! One queue's turn in a breath: receive → decide → deliver → release.

use std::io;
use std::sync::Arc;

use super::capture::Captures;
use super::command::{Event, ReceiveQueue};
use super::contain::contained;
use super::deliver::Ingress;
use super::foresee::Pull;
use super::load::Load;
use super::{Activity, Decider, Delivery, Doing, Groups, HOT, Progress, mirror};
use crate::frame::Batch;
use crate::ledger::{Counters, DropReason};
use crate::port::{Arena, Condition, Received, SenderQueue};
use crate::relay::Relay;
use crate::relay::bucket::Reflections;
use crate::relay::fdb::Fdb;
use crate::snapshot::{Device, DeviceId, Snapshot};
use crate::sys::lane::WorkerToken;

/// Everything a worker lays out to serve one queue after the other.
pub(super) struct Bench {
    worker: usize,
    arena: Arena,
    batch: Batch,
    decider: Decider,
    groups: Groups,
    /// Copies for monitors: with room of their own, they take nobody else's.
    mirrored: Groups,
    delivery: Delivery,
    /// Frames of the batch in hand that are counted as received.
    received: usize,
}

/// What a queue's turn led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Frames, or none.
    Received(usize),
    /// Its device is down: it was not pulled.
    Idle,
    /// Its device is gone.
    Lost,
    /// Serving it failed: it is quarantined.
    Failed(&'static str),
}

impl Turn {
    pub fn frames(self) -> usize {
        match self {
            Turn::Received(frames) => frames,
            Turn::Idle | Turn::Lost | Turn::Failed(_) => 0,
        }
    }

    /// How to watch the queue after this turn.
    pub fn next_activity(self, empty_polls: u32) -> Activity {
        match self {
            Turn::Received(0) => Activity::Hot { empty_polls: empty_polls + 1 },
            Turn::Received(_) => HOT,
            Turn::Idle => Activity::Parked,
            Turn::Lost | Turn::Failed(_) => Activity::Dormant,
        }
    }

    /// What control has to know.
    pub fn into_event(self, device: DeviceId) -> Option<Event> {
        match self {
            Turn::Received(_) | Turn::Idle => None,
            Turn::Lost => Some(Event::Lost(device)),
            Turn::Failed(cause) => Some(Event::Quarantined { device, cause }),
        }
    }
}

impl Bench {
    pub fn new(worker: usize, arena: Arena, reflections: Arc<Reflections>) -> io::Result<Bench> {
        Ok(Bench {
            worker,
            arena,
            batch: Batch::new(),
            decider: Decider::new(worker, reflections),
            groups: Groups::new(),
            mirrored: Groups::new(),
            delivery: Delivery::new(worker)?,
            received: 0,
        })
    }

    /// Starts a breath.
    pub fn begin(&mut self, now_ns: u64) {
        self.arena.now_ms = now_ns / 1_000_000;
        self.decider.begin_breath(now_ns);
    }

    /// The captures that the worker takes part in.
    pub fn captures(&mut self) -> &mut Captures {
        &mut self.decider.captures
    }

    /// Whether another queue may be served: once the flood budget is spent, frames
    /// wait in their own rings for the next breath.
    pub fn may_go_on(&self) -> bool {
        self.decider.has_flood_budget()
    }

    /// Ends a breath: rings every doorbell that is due.
    pub fn end(&mut self, snapshot: &Snapshot, token: &mut WorkerToken) {
        self.delivery.ring(snapshot, token);
    }

    /// Whether a doorbell could not be rung and has to be in the next breath.
    pub fn must_ring(&self) -> bool {
        self.delivery.must_ring()
    }

    /// What control has to know of the devices that frames were to leave by.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> {
        self.delivery.take_events()
    }

    /// Serves one queue; a panic on the way costs this queue's device only.
    pub fn serve(
        &mut self,
        snapshot: &Snapshot,
        fdb: &Fdb,
        token: &mut WorkerToken,
        queue: &mut ReceiveQueue,
        progress: &Progress,
    ) -> Turn {
        let Some(device) = snapshot.device(queue.device) else { return Turn::Idle };
        let is_current = Arc::ptr_eq(&queue.attached, &device.attached);
        if !is_current || Pull::of(snapshot, device) != Pull::Taken {
            return Turn::Idle;
        }
        progress.set(Doing::Serving(queue.device));
        let turn = contained(|| self.turn(snapshot, fdb, token, queue, device));
        progress.set(Doing::Nothing);
        turn.unwrap_or_else(|cause| {
            self.abandon(snapshot, device, queue);
            Turn::Failed(cause)
        })
    }

    fn turn(
        &mut self,
        snapshot: &Snapshot,
        fdb: &Fdb,
        token: &mut WorkerToken,
        queue: &mut ReceiveQueue,
        device: &Device,
    ) -> Turn {
        self.received = 0;
        self.decider.begin_batch();
        let received = queue.receiver.receive(&mut self.arena, &mut self.batch);
        let frames = self.batch.count() + self.batch.rejected().len();
        if frames > 0 {
            let counters = &device.attached.counters[self.worker];
            count_received(counters, &queue.load, &self.batch);
            self.received = self.batch.count();
            let relay = Relay { snapshot, fdb, now_ms: self.arena.now_ms };
            self.decider.decide(relay, device, &self.batch, &mut self.groups);
            let captures = &mut self.decider.captures;
            let mut ingress = Ingress { counters, queue: queue.sender(), captures };
            self.delivery.deliver(snapshot, token, &self.batch, &self.groups, &mut ingress);
            if !snapshot.mirrors.is_empty() {
                self.mirror(snapshot, token, queue.sender(), device);
            }
            self.groups.clear();
            queue.receiver.release(&mut self.batch);
        }
        match received {
            Received::Drained | Received::More => Turn::Received(frames),
            Received::Lost => {
                device.attached.set_condition(Condition::Lost);
                Turn::Lost
            }
            Received::Failing => {
                device.attached.set_condition(Condition::Quarantined);
                Turn::Failed("its device gave nothing but errors")
            }
        }
    }

    /// Brings monitors what they get of the batch, once everybody else has theirs.
    #[inline(never)]
    fn mirror(
        &mut self,
        snapshot: &Snapshot,
        token: &mut WorkerToken,
        queue: SenderQueue,
        device: &Device,
    ) {
        let Bench { worker, batch, groups, mirrored, .. } = self;
        let counters = &device.attached.counters[*worker];
        let lost = |monitor, frames: usize| {
            let Some(monitor) = snapshot.device(monitor).filter(|_| frames > 0) else { return };
            let egress = &monitor.attached.counters[*worker];
            egress.offered.add(frames as u64);
            egress.drop_frames(DropReason::MirrorBudget, frames as u64);
            counters.fan_out.add(frames as u64);
        };
        let is_shown =
            |&at: &usize| mirror::is_shown(batch.header(at), batch.length(at), batch.offload(at));
        let received = (0..batch.count()).filter(is_shown);
        mirror::lay_out(&snapshot.mirrors, device.attached.id, received, groups, mirrored, lost);
        let mut ingress = Ingress { counters, queue, captures: &mut self.decider.captures };
        self.delivery.deliver(snapshot, token, batch, mirrored, &mut ingress);
        mirrored.clear();
    }

    /// After a panic: the frames not yet settled are the port's loss, nothing of the batch
    /// is left, and what it lay in is its sender's again.
    fn abandon(&mut self, snapshot: &Snapshot, device: &Device, queue: &mut ReceiveQueue) {
        let counters = &device.attached.counters[self.worker];
        let unsettled = self.received.saturating_sub(self.decider.settled());
        counters.drop_frames(DropReason::PortFault, unsettled as u64);
        if unsettled > 0 {
            self.decider.capture_abandoned(device, &self.batch);
        }
        let captures = &mut self.decider.captures;
        let mut ingress = Ingress { counters, queue: queue.sender(), captures };
        self.delivery.abandon(snapshot, &self.batch, &self.groups, &mut ingress);
        device.attached.set_condition(Condition::Quarantined);
        self.groups.clear();
        // Of these nothing was offered to anybody.
        self.mirrored.clear();
        // Where that fails, too, at least nothing of the sender's memory stays in hand.
        let Bench { batch, .. } = self;
        if contained(|| queue.receiver.release(batch)).is_err() {
            batch.end();
        }
    }
}

/// Counts a batch at its ingress, with the frames that could not be viewed.
fn count_received(counters: &Counters, load: &Load, batch: &Batch) {
    let (frames, bytes) = (batch.count() + batch.rejected().len(), batch.bytes());
    counters.rx_frames.add(frames as u64);
    counters.rx_bytes.add(bytes as u64);
    load.count_batch(frames, bytes);
    for &reason in batch.rejected() {
        counters.drop_frames(reason, 1);
    }
}
