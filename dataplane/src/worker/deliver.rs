//! From the groups into the receivers' memory: the one copy.

use std::io;

use arrayvec::ArrayVec;

use super::groups::{Copy, Groups};
use crate::frame::{BATCH_FRAMES, Batch, HEADER_BYTES};
use crate::ledger::{Counters, DropReason};
use crate::port::software::Software;
use crate::port::{Attached, Condition, Departure};
use crate::snapshot::{Device, DeviceId, Snapshot};
use crate::sys::lane::WorkerToken;
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
    /// Copies of the batch in hand that were counted at their egress.
    settled: usize,
    /// Devices whose doorbell is to be rung at the end of the breath.
    doorbells: Vec<DeviceId>,
    is_due: Box<[Doorbell]>,
}

/// Whether a device's doorbell is due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doorbell {
    Still,
    Due,
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
            doorbells: Vec::with_capacity(crate::snapshot::DEVICES_MAX),
            is_due: vec![Doorbell::Still; crate::snapshot::DEVICES_MAX].into_boxed_slice(),
        })
    }

    /// Delivers every copy and counts it at its egress, and in the `fan_out` of the
    /// device it came from.
    pub fn deliver(
        &mut self,
        snapshot: &Snapshot,
        token: &mut WorkerToken,
        batch: &Batch,
        groups: &Groups,
        ingress: &Counters,
    ) {
        self.settled = 0;
        for &id in groups.devices() {
            let Some(device) = snapshot.device(id) else { continue };
            let mut copies = groups.of(id).peekable();
            while copies.peek().is_some() {
                let chunk = copies.by_ref().take(CHUNK).collect();
                self.deliver_chunk(device, token, batch, &chunk);
                ingress.fan_out.add(chunk.len() as u64);
                self.settled += chunk.len();
            }
            self.note_doorbell(id);
        }
    }

    fn deliver_chunk(
        &mut self,
        device: &Device,
        token: &mut WorkerToken,
        batch: &Batch,
        chunk: &ArrayVec<&Copy, CHUNK>,
    ) {
        for (copy, edited) in chunk.iter().zip(self.edited.iter_mut()) {
            if !copy.edit.is_none() {
                copy.edit.apply(batch.header(usize::from(copy.frame)), edited);
            }
        }
        let mut departures: ArrayVec<Departure<'_>, CHUNK> = chunk
            .iter()
            .zip(self.edited.iter())
            .map(|(copy, edited)| depart(batch, copy, edited))
            .collect();
        transmit(&mut self.software, self.worker, &device.attached, token, &mut departures);
        count(&device.attached.counters[self.worker], &departures);
    }

    /// After a panic: the copies that were not delivered are lost by name.
    pub fn abandon(&mut self, snapshot: &Snapshot, groups: &Groups, ingress: &Counters) {
        let copies = groups.devices().iter().flat_map(|&id| groups.of(id).map(move |_| id));
        for id in copies.skip(self.settled) {
            let Some(device) = snapshot.device(id) else { continue };
            let egress = &device.attached.counters[self.worker];
            egress.offered.add(1);
            egress.drop_frames(DropReason::SenderFault, 1);
            ingress.fan_out.add(1);
        }
    }

    /// Nothing of the next batch is settled yet.
    pub fn begin(&mut self) {
        self.settled = 0;
    }

    fn note_doorbell(&mut self, id: DeviceId) {
        let due = &mut self.is_due[usize::from(id.0)];
        if *due == Doorbell::Still {
            *due = Doorbell::Due;
            self.doorbells.push(id);
        }
    }

    /// Rings every doorbell that is due, once.
    pub fn ring(&mut self, snapshot: &Snapshot, token: &mut WorkerToken) {
        for id in self.doorbells.drain(..) {
            self.is_due[usize::from(id.0)] = Doorbell::Still;
            let Some(device) = snapshot.device(id) else { continue };
            let lanes = &device.attached.transmitters;
            if let Some(mut lane) = lanes[self.worker % lanes.len()].enter(token) {
                lane.ring();
            }
        }
    }
}

/// The departure of one copy; its header is the edited one if it has an edit.
fn depart<'b>(batch: &'b Batch, copy: &Copy, edited: &'b [u8; EDITED_BYTES]) -> Departure<'b> {
    let view = batch.view(usize::from(copy.frame));
    let delta = copy.edit.delta();
    let header = if copy.edit.is_none() {
        view.header
    } else {
        &edited[..view.header.len().saturating_add_signed(delta.into())]
    };
    Departure { header, body: view.body, offload: view.offload.shifted(delta), fate: Ok(()) }
}

/// Brings departures to the device's transmitter for this worker.
fn transmit(
    software: &mut Software,
    worker: usize,
    attached: &Attached,
    token: &mut WorkerToken,
    departures: &mut [Departure<'_>],
) {
    let lanes = &attached.transmitters;
    let entered = match attached.condition() {
        Condition::Working if lanes.is_empty() => Err(DropReason::PortDown),
        Condition::Working => {
            lanes[worker % lanes.len()].enter(token).ok_or(DropReason::TransmitBusy)
        }
        Condition::Lost | Condition::Quarantined => Err(DropReason::PortDown),
    };
    match entered {
        Ok(mut lane) => {
            let counters = &attached.counters[worker];
            software.transmit(&mut lane, &attached.capabilities, departures, counters);
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
