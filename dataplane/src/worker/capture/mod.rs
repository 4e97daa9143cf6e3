//! Captures: frames of some devices, copied aside as they pass.
//!
//! A session ([`session`]) is a [`Tap`] for each worker, which only that worker writes to,
//! and a [`Collector`] for control, which empties them. A tap comes to its worker as a
//! command, as receive queues do, and goes back as an event: the policy knows nothing of
//! it, and a worker without taps looks once a batch at a length that is 0.
//!
//! A frame is captured where it is received and, for each copy, where that leaves: once it
//! is known what became of it, so that a drop and its reason are one record with it. The
//! worker never waits: it copies into a ring that was allocated beforehand, what does not
//! fit is counted as missed, and it wakes nobody.

mod collector;
pub mod filter;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;

use crate::frame::{Batch, View};
use crate::ledger::{Count, Counters, DropReason};
use crate::port::frame_ring::{self, FrameSender};
use crate::port::pcapng::Direction;
use crate::port::{Attached, Departure};
use crate::snapshot::{DEVICES_MAX, DeviceId};
use crate::sys::memory::Body;
pub use collector::{Captured, Collector};
use filter::Filter;

/// Captures that a worker takes part in at a time.
pub const CAPTURES_MAX: usize = 8;
/// Devices of a capture.
pub const CAPTURED_DEVICES_MAX: usize = 1024;
/// First bytes of a frame that are kept, at most.
pub const SNAPSHOT_BYTES_MAX: usize = 2048;
/// Bytes of one worker's ring, at least.
const RING_BYTES_MIN: usize = 512 * 1024;
/// Bytes of a ring for each of its slots, which take up half as much beside them: of frames
/// that are shorter than this on average a ring holds fewer than it has bytes for.
const SLOT_BYTES: usize = 128;

/// Tells captures apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CaptureId(pub u64);

/// What is captured.
#[derive(Debug)]
pub struct Plan {
    /// Which capture it is.
    pub id: CaptureId,
    /// Of which devices, [`CAPTURED_DEVICES_MAX`] at most, each once. In records they are
    /// known by their place here.
    pub devices: Vec<CapturedDevice>,
    /// Which of their frames.
    pub filter: Filter,
    /// First bytes of each frame that are kept, up to [`SNAPSHOT_BYTES_MAX`].
    pub snapshot_bytes: usize,
    /// Bytes of all workers' rings together; each has half a MiB at least.
    pub ring_bytes: usize,
    /// Workers that took part so far.
    pub joined: AtomicUsize,
}

/// A device that is captured, also when it is opened again.
#[derive(Clone, Debug)]
pub struct CapturedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its counters. Another one that gets the same id has others: its frames are none of
    /// the capture's.
    pub counters: Arc<[Counters]>,
}

impl CapturedDevice {
    /// Whether this is it.
    #[inline]
    #[must_use]
    pub fn is(&self, attached: &Attached) -> bool {
        self.id == attached.id && Arc::ptr_eq(&self.counters, &attached.counters)
    }
}

/// What travels with a captured frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Label {
    /// The breath's time, in nanoseconds of a steady clock.
    pub time_ns: u64,
    /// Its length in bytes when it passed; 0 if it could not be viewed.
    pub length: u32,
    /// Its device's place in [`Plan::devices`].
    pub device: u16,
    /// Which way it went.
    pub way: Direction,
    /// Why it was dropped, if it was.
    pub dropped: Option<DropReason>,
}

/// What one worker counted of one device.
#[derive(Default, Debug)]
struct Tally {
    missed: Count,
}

/// One worker's half of a capture.
#[derive(Debug)]
pub struct Tap {
    plan: Arc<Plan>,
    frames: FrameSender<Label>,
    /// By device.
    tallies: Arc<[Tally]>,
    /// Where each device stands in the plan, by its id; [`NOWHERE`] if it is not captured.
    places: Box<[u16]>,
}

/// The place of devices that are not captured.
const NOWHERE: u16 = u16::MAX;
const _: () = assert!(CAPTURED_DEVICES_MAX < NOWHERE as usize);

/// A capture: a tap for each of so many workers, and what they give. All memory is
/// allocated, and written once, here.
///
/// # Errors
/// Those of mmap(2) and eventfd(2).
pub fn session(plan: &Arc<Plan>, workers: usize) -> io::Result<(Vec<Box<Tap>>, Collector)> {
    let ring_bytes = (plan.ring_bytes / workers.max(1)).max(RING_BYTES_MIN);
    let mut places = vec![NOWHERE; DEVICES_MAX].into_boxed_slice();
    for (device, place) in plan.devices.iter().zip(0..) {
        places[usize::from(device.id.0)] = place;
    }
    let mut collector = Collector::new(Arc::clone(plan));
    let mut taps = Vec::with_capacity(workers);
    for _ in 0..workers {
        let (frames, receiver) = frame_ring::ring(ring_bytes / SLOT_BYTES, ring_bytes)?;
        let tallies: Arc<[Tally]> = plan.devices.iter().map(|_| Tally::default()).collect();
        collector.add(receiver, Arc::clone(&tallies));
        let plan = Arc::clone(plan);
        taps.push(Box::new(Tap { plan, frames, tallies, places: places.clone() }));
    }
    Ok((taps, collector))
}

impl Tap {
    /// Which capture it belongs to.
    #[must_use]
    pub fn id(&self) -> CaptureId {
        self.plan.id
    }

    /// A device's place in the plan, if it is captured.
    #[inline]
    fn place(&self, attached: &Attached) -> Option<u16> {
        let place = *self.places.get(usize::from(attached.id.0))?;
        let device = self.plan.devices.get(usize::from(place))?;
        device.is(attached).then_some(place)
    }

    /// Captures a frame if it is wanted.
    #[inline]
    fn record(&mut self, label: Label, header: &[u8], body: Body<'_>) {
        if !self.plan.filter.wants(label.way, label.dropped, header) {
            return;
        }
        let kept = (label.length as usize).min(self.plan.snapshot_bytes);
        let pushed = self.frames.push(kept, label, |place| {
            let (head, rest) = place.split(header.len());
            head.write(header);
            body.copy_to(rest);
        });
        if pushed.is_err() {
            self.tallies[usize::from(label.device)].missed.add(1);
        }
    }
}

/// The captures that a worker takes part in.
#[derive(Debug)]
pub struct Captures {
    taps: ArrayVec<Box<Tap>, CAPTURES_MAX>,
    now_ns: u64,
}

impl Captures {
    /// None yet.
    #[must_use]
    pub fn new() -> Captures {
        Captures { taps: ArrayVec::new(), now_ns: 0 }
    }

    /// Whether there is none: all that a worker asks where nothing is captured.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Starts a breath.
    #[inline]
    pub fn begin_breath(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Takes part in a capture.
    ///
    /// # Errors
    /// The tap, if there are [`CAPTURES_MAX`] already.
    pub fn add(&mut self, tap: Box<Tap>) -> Result<(), Box<Tap>> {
        if self.taps.is_full() {
            return Err(tap);
        }
        tap.plan.joined.fetch_add(1, Ordering::Relaxed);
        self.taps.push(tap);
        Ok(())
    }

    /// Takes part in it no more; its tap, if it did.
    pub fn remove(&mut self, id: CaptureId) -> Option<Box<Tap>> {
        let found = self.taps.iter().position(|tap| tap.id() == id)?;
        self.taps.swap_pop(found)
    }

    /// Frames received from a device, each with why it was dropped if it was; and those that
    /// could not be viewed.
    #[inline(never)]
    pub fn received(&mut self, attached: &Attached, batch: &Batch, fates: &[Option<DropReason>]) {
        self.each(attached, |tap, label| {
            for (index, dropped) in (0..batch.count()).zip(fates.iter().copied()) {
                let View { header, body, .. } = batch.view(index);
                let length = batch.length(index) as u32;
                tap.record(Label { length, dropped, ..label }, header, body);
            }
            for &reason in batch.rejected() {
                tap.record(Label { dropped: Some(reason), ..label }, &[], Body::EMPTY);
            }
        });
    }

    /// Copies that were brought to a device, whatever became of them.
    #[inline(never)]
    pub fn departed(&mut self, attached: &Attached, departures: &[Departure<'_>]) {
        self.each(attached, |tap, label| {
            for departure in departures {
                let (length, dropped) = (departure.length() as u32, departure.fate.err());
                let label = Label { length, dropped, way: Direction::Outbound, ..label };
                tap.record(label, departure.header, departure.body);
            }
        });
    }

    /// A copy that was decided and does not reach its device, as it was received.
    #[inline(never)]
    pub fn lost(&mut self, attached: &Attached, view: View<'_>, reason: DropReason) {
        let departure = Departure { fate: Err(reason), ..view.into() };
        self.departed(attached, &[departure]);
    }

    /// Shows some work to every tap that captures a device; what it puts there becomes
    /// visible at once.
    #[inline]
    fn each(&mut self, attached: &Attached, mut work: impl FnMut(&mut Tap, Label)) {
        for tap in &mut self.taps {
            let Some(device) = tap.place(attached) else { continue };
            work(tap, Label { time_ns: self.now_ns, device, ..Label::default() });
            tap.frames.publish();
        }
    }
}

impl Default for Captures {
    fn default() -> Captures {
        Captures::new()
    }
}
