//! From the groups into the receivers' memory: the one copy.

use std::io;

use arrayvec::ArrayVec;

use super::capture::Captures;
use super::command::Event;
use super::contain::{contained, quarantine};
use super::groups::{Copy, Groups};
use crate::frame::{BATCH_FRAMES, Batch, HEADER_BYTES, View};
use crate::ledger::{Counters, DropReason};
use crate::port::software::Software;
use crate::port::{Attached, Condition, Departure, Rung, SenderQueue, Transmitter};
use crate::snapshot::{Device, DeviceId, Snapshot};
use crate::sys::lane::{Lane, WorkerToken};
use crate::wire::ethernet::TAG_BYTES;

/// Copies handed to a transmitter at once.
const CHUNK: usize = BATCH_FRAMES;
/// Room for a header that two tags were added to.
const EDITED_BYTES: usize = HEADER_BYTES + 2 * TAG_BYTES;

/// What a worker needs to deliver, all of it allocated at its start.
pub struct Delivery {
    worker: usize,
    edited: Box<[[u8; EDITED_BYTES]; CHUNK]>,
    software: Software,
    /// Copies for the device in hand that were counted there.
    settled: usize,
    /// Devices that failed.
    events: Vec<Event>,
    /// Devices whose doorbell is to be rung at the end of the breath.
    doorbells: Vec<DeviceId>,
    /// Which of each device's: see [`Attached::doorbell`].
    due: Box<[u16]>,
}

/// Where a batch came from, and who looks on.
#[derive(Debug)]
pub struct Ingress<'i> {
    /// The counters of its device.
    pub counters: &'i Counters,
    /// Its queue.
    pub queue: SenderQueue,
    /// What the worker captures.
    pub captures: &'i mut Captures,
}

impl Delivery {
    /// For the worker of this index.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(worker: usize) -> io::Result<Delivery> {
        Ok(Delivery {
            worker,
            edited: Box::new([[0; EDITED_BYTES]; CHUNK]),
            software: Software::new()?,
            settled: 0,
            events: Vec::with_capacity(crate::snapshot::DEVICES_MAX),
            doorbells: Vec::with_capacity(crate::snapshot::DEVICES_MAX),
            due: vec![0; crate::snapshot::DEVICES_MAX].into_boxed_slice(),
        })
    }

    /// Delivers every copy and counts it at its egress, and in the `fan_out` of the
    /// device it came from. A panic on the way costs the device it was for.
    pub fn deliver(
        &mut self,
        snapshot: &Snapshot,
        token: &mut WorkerToken,
        batch: &Batch,
        groups: &Groups,
        ingress: &mut Ingress<'_>,
    ) {
        for &id in groups.devices() {
            let Some(device) = snapshot.device(id) else { continue };
            let lane = device.attached.lane(self.worker, ingress.queue);
            self.settled = 0;
            match contained(|| {
                self.deliver_to(device, lane, token, batch, groups.of(id), ingress);
            }) {
                Ok(()) => self.note_doorbell(device, lane),
                Err(cause) => {
                    let left = groups.of(id).skip(self.settled);
                    self.lose_each(device, batch, left, DropReason::ReceiverFault, ingress);
                    self.events.push(quarantine(&device.attached, cause));
                }
            }
        }
    }

    fn deliver_to<'g>(
        &mut self,
        device: &Device,
        lane: Option<usize>,
        token: &mut WorkerToken,
        batch: &Batch,
        mut copies: impl Iterator<Item = &'g Copy>,
        ingress: &mut Ingress<'_>,
    ) {
        let Delivery { software, worker, edited, settled, .. } = self;
        loop {
            // Extended where it is: a collected one would be moved, all of it.
            let mut departures: ArrayVec<Departure<'_>, CHUNK> = ArrayVec::new();
            // In this order: what ends first must not have taken one of the other.
            let chunk = edited.iter_mut().zip(copies.by_ref());
            departures.extend(chunk.map(|(edited, copy)| depart(batch, copy, edited)));
            if departures.is_empty() {
                return;
            }
            transmit(software, *worker, &device.attached, lane, token, &mut departures);
            count(&device.attached.counters[*worker], &departures);
            ingress.counters.fan_out.add(departures.len() as u64);
            *settled += departures.len();
            if !ingress.captures.is_empty() {
                ingress.captures.departed(&device.attached, &departures);
            }
        }
    }

    /// After a panic while the sender was served: its copies are lost by name.
    pub fn abandon(
        &mut self,
        snapshot: &Snapshot,
        batch: &Batch,
        groups: &Groups,
        ingress: &mut Ingress<'_>,
    ) {
        for &id in groups.devices() {
            let Some(device) = snapshot.device(id) else { continue };
            self.lose_each(device, batch, groups.of(id), DropReason::SenderFault, ingress);
        }
    }

    /// Counts copies that a failure kept from their device.
    fn lose_each<'g>(
        &self,
        device: &Device,
        batch: &Batch,
        copies: impl Iterator<Item = &'g Copy>,
        reason: DropReason,
        ingress: &mut Ingress<'_>,
    ) {
        for copy in copies {
            lose(&device.attached.counters[self.worker], reason, ingress.counters);
            if !ingress.captures.is_empty() {
                let view = batch.view(usize::from(copy.frame));
                ingress.captures.lost(&device.attached, view, reason);
            }
        }
    }

    /// What control has to know since the last call.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> {
        self.events.drain(..)
    }

    fn note_doorbell(&mut self, device: &Device, lane: Option<usize>) {
        let Some(lane) = lane else { return };
        let id = device.attached.id;
        let due = &mut self.due[usize::from(id.0)];
        if *due == 0 {
            self.doorbells.push(id);
        }
        *due |= device.attached.doorbell(lane);
    }

    /// Rings every doorbell that is due, once; one that was not heard stays due.
    pub fn ring(&mut self, snapshot: &Snapshot, token: &mut WorkerToken) {
        let Delivery { worker, doorbells, due, events, .. } = self;
        doorbells.retain(|&id| {
            let due = &mut due[usize::from(id.0)];
            let wanted = std::mem::take(due);
            let Some(device) = snapshot.device(id) else { return false };
            let attached = &device.attached;
            match contained(|| ring_each(attached, *worker, wanted, token)) {
                Ok(still_due) => *due = still_due,
                Err(cause) => events.push(quarantine(attached, cause)),
            }
            *due != 0
        });
    }

    /// Whether a doorbell is still due: the worker must not sleep.
    pub fn must_ring(&self) -> bool {
        !self.doorbells.is_empty()
    }
}

/// Rings these doorbells of a device; those that were not heard.
fn ring_each(attached: &Attached, worker: usize, wanted: u16, token: &mut WorkerToken) -> u16 {
    if attached.condition() != Condition::Working {
        return 0;
    }
    let (mut left, mut still_due) = (wanted, 0);
    while left != 0 {
        let doorbell = left & left.wrapping_neg();
        left ^= doorbell;
        let Some(lane) = attached.lane_of(worker, doorbell) else { continue };
        let rung = lane.enter(token).map_or(Rung::Again, |mut lane| lane.ring());
        if rung == Rung::Again {
            still_due |= doorbell;
        }
    }
    still_due
}

/// Counts a copy that was decided and does not reach its device.
pub(super) fn lose(egress: &Counters, reason: DropReason, ingress: &Counters) {
    egress.offered.add(1);
    egress.drop_frames(reason, 1);
    ingress.fan_out.add(1);
}

/// The departure of one copy; its header is the edited one if it has an edit.
#[inline]
fn depart<'b>(batch: &'b Batch, copy: &Copy, edited: &'b mut [u8; EDITED_BYTES]) -> Departure<'b> {
    let view = batch.view(usize::from(copy.frame));
    if copy.edit.is_none() {
        return view.into();
    }
    let View { header, body, offload } = view;
    let delta = copy.edit.delta();
    copy.edit.apply(header, edited);
    let header = &edited[..header.len().saturating_add_signed(delta.into())];
    Departure { header, body, offload: offload.shifted(delta), fate: Ok(()) }
}

/// The transmitter of this lane, if its device is served.
#[inline]
pub(super) fn reachable(
    attached: &Attached,
    lane: Option<usize>,
) -> Result<&Lane<Transmitter>, DropReason> {
    let lane = lane.and_then(|lane| attached.transmitters.get(lane));
    match (attached.condition(), lane) {
        (Condition::Working, Some(lane)) => Ok(lane),
        (Condition::Working, None) | (Condition::Lost | Condition::Quarantined, _) => {
            Err(DropReason::PortDown)
        }
    }
}

/// Brings departures to the device's transmitter for this worker.
fn transmit(
    software: &mut Software,
    worker: usize,
    attached: &Attached,
    lane: Option<usize>,
    token: &mut WorkerToken,
    departures: &mut [Departure<'_>],
) {
    let entered = reachable(attached, lane)
        .and_then(|lane| lane.enter(token).ok_or(DropReason::TransmitBusy));
    match entered {
        Ok(mut lane) => {
            let counters = &attached.counters[worker];
            let capabilities = lane.accepts().unwrap_or(attached.capabilities);
            software.transmit(&mut lane, &capabilities, departures, counters);
        }
        Err(reason) => departures.iter_mut().for_each(|departure| departure.fate = Err(reason)),
    }
}

/// Counts what became of departures at their egress.
fn count(counters: &Counters, departures: &[Departure<'_>]) {
    let (mut frames, mut bytes) = (0, 0);
    for departure in departures {
        match departure.fate {
            Ok(()) => {
                frames += 1;
                bytes += departure.length() as u64;
            }
            Err(reason) => counters.drop_frames(reason, 1),
        }
    }
    counters.offered.add(departures.len() as u64);
    counters.tx_frames.add(frames);
    counters.tx_bytes.add(bytes);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::Totals;
    use crate::port::{Opened, memory};
    use crate::relay::tests::site::{Site, one_channel, registered, station};
    use crate::snapshot::Mode;
    use crate::snapshot::topology::VmPlan;
    use crate::sys::lane::Access;
    use crate::wire::ethernet::TagEdit;

    #[test]
    fn a_doorbell_that_another_worker_is_in_the_way_of_is_rung_later() {
        let (device, _endpoint) = memory::pair(memory::Config::default()).expect("memory");
        let Opened { transmitters, capabilities, .. } = device.into();
        let lanes = transmitters.into_iter().map(|one| Lane::new(Access::Shared, one)).collect();
        let counters = Attached::counters(1);
        let attached = Attached::new(DeviceId(2), "test", counters, capabilities, lanes);
        let attached = Arc::new(attached);
        let shared = VmPlan { attached: Arc::clone(&attached), ..registered(2) };
        let ports = [registered(1), shared].map(|port| station(0, Mode::Veb, port));
        let site = Site::new(&one_channel(ports.into()));
        let (mut token, mut another) = (WorkerToken::new(), WorkerToken::new());
        let mut delivery = Delivery::new(0).expect("memory");
        delivery
            .note_doorbell(site.snapshot.device(DeviceId(2)).expect("the site has it"), Some(0));
        let held = attached.transmitters[0].enter(&mut another);
        delivery.ring(&site.snapshot, &mut token);
        assert!(delivery.must_ring());
        drop(held);
        delivery.ring(&site.snapshot, &mut token);
        assert!(!delivery.must_ring());
    }

    #[test]
    fn the_copies_of_a_sender_that_failed_have_a_name() {
        let ports = [1, 2, 3].map(|port| station(0, Mode::Veb, registered(port)));
        let site = Site::new(&one_channel(ports.into()));
        let mut groups = Groups::new();
        for (device, frame) in [(2, 0), (3, 0), (2, 1)] {
            groups.push(DeviceId(device), frame, TagEdit::NONE);
        }
        let device = |id| site.snapshot.device(DeviceId(id)).expect("the site has it");
        let (counters, captures) = (&device(1).attached.counters[0], &mut Captures::new());
        let mut ingress = Ingress { counters, queue: SenderQueue(1), captures };
        let mut delivery = Delivery::new(0).expect("memory");
        delivery.abandon(&site.snapshot, &Batch::new(), &groups, &mut ingress);
        let lost = |totals: &Totals| totals.dropped(DropReason::SenderFault);
        let totals = [1, 2, 3].map(|id| device(id).attached.totals());
        assert_eq!(totals.each_ref().map(lost), [0, 2, 1]);
        assert_eq!(totals[0].fan_out, 3);
        assert!(totals.iter().all(Totals::is_balanced), "{totals:?}");
    }
}
