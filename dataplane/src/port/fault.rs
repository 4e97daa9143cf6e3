//! Faults on purpose, around a memory device: what a bad cable or a bad guest does.
//!
//! *Inward* faults befall frames on their way from the endpoint into the switch,
//! *outward* ones those on their way to it. What is lost here is counted here
//! ([`FaultCounts`]): to the switch such a frame never came, or was delivered.
//! Everything is decided by a seeded generator, so that a run can be repeated.
//!
//! Inward frames are held in memory of this port until they are due. Outward
//! frames cannot wait – nobody would call back when they are due – so `delay_ms`
//! and `jitter_ms` do nothing outward, `reorder` lets a frame be overtaken within
//! its burst, and `stall` and `rate` refuse frames as a guest does whose ring is
//! full. A device with `stall` or `rate` outward keeps its worker awake.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{MemoryDevice, MemoryReceiver, MemoryTransmitter};
use super::{Arena, Armed, Departure, Opened, Received, Receiver, Rung, Steering, Transmitter};
use crate::frame::{BATCH_FRAMES, Batch, FRAME_BYTES_MAX, Room, View};
use crate::ledger::{Count, DropReason};
use crate::sys::memory::{Memory, Place, RegionHint};
use crate::wire::offload::{Capabilities, Offload};

/// Frames held at a time; more stay in the endpoint's ring.
const HELD_MAX: usize = 1024;
/// Room for one frame, with the tags that an egress may have added.
const SLOT_BYTES: usize = (FRAME_BYTES_MAX + 8).next_multiple_of(64);
/// What a rate saves up while nothing is sent.
const RATE_BURST_MS: u64 = 100;

/// A probability in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Chance(u32);

impl Chance {
    /// It does not happen.
    pub const NEVER: Chance = Chance(0);
    /// It always happens.
    pub const ALWAYS: Chance = Chance(1_000_000);

    /// It happens in so many of a million cases; more than a million is always.
    #[must_use]
    pub const fn per_million(count: u32) -> Chance {
        if count > 1_000_000 { Chance::ALWAYS } else { Chance(count) }
    }
}

/// Which faults befall frames in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Faults {
    /// Where the generator starts: the same faults befall the same frames.
    pub seed: u64,
    /// The program fails (panics) while it handles a frame: a defect of ours.
    pub crash: Chance,
    /// The same while it asks for a wake-up, inward.
    pub crash_arming: Chance,
    /// The same while it takes a wake-up, inward.
    pub crash_disarming: Chance,
    /// A frame vanishes.
    pub drop: Chance,
    /// A frame comes twice.
    pub duplicate: Chance,
    /// One bit of a frame is turned.
    pub corrupt: Chance,
    /// A frame is overtaken by those behind it.
    pub reorder: Chance,
    /// For how many milliseconds, inward.
    pub reorder_ms: u64,
    /// Milliseconds that every frame takes, inward.
    pub delay_ms: u64,
    /// Up to so many milliseconds more, evenly spread, inward.
    pub jitter_ms: u64,
    /// Times at which nothing passes.
    pub stall: Option<Stall>,
    /// Frames per second at most; a tenth of a second's worth in one burst.
    pub rate: Option<u32>,
}

/// The last `lasts_ms` of every `every_ms` milliseconds nothing passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// From one stall to the next, in milliseconds.
    pub every_ms: u64,
    /// How long each lasts, in milliseconds; `every_ms` or more is for ever.
    pub lasts_ms: u64,
}

/// What befell frames in one direction.
#[derive(Default, Debug)]
pub struct FaultCounts {
    /// Failures.
    pub crashed: Count,
    /// Frames that vanished.
    pub dropped: Count,
    /// Frames that came twice.
    pub duplicated: Count,
    /// Frames with a bit turned.
    pub corrupted: Count,
    /// Frames put behind others.
    pub reordered: Count,
    /// Outward frames refused for a stall or the rate.
    pub refused: Count,
}

/// A memory device with faults.
#[derive(Debug)]
pub struct FaultDevice {
    /// Its one receive queue.
    pub receiver: FaultReceiver,
    /// Its one transmitter.
    pub transmitter: FaultTransmitter,
    /// What the endpoint takes.
    pub capabilities: Capabilities,
    /// What befell frames from the endpoint.
    pub inward: Arc<FaultCounts>,
    /// What befell frames to the endpoint.
    pub outward: Arc<FaultCounts>,
}

impl From<FaultDevice> for Opened {
    fn from(device: FaultDevice) -> Opened {
        Opened {
            receivers: vec![Receiver::Fault(Box::new(device.receiver))],
            transmitters: vec![Transmitter::Fault(Box::new(device.transmitter))],
            capabilities: device.capabilities,
            steering: Steering::ByWorker,
        }
    }
}

/// Puts faults around a memory device.
///
/// # Errors
/// Those of mmap(2).
pub fn wrap(device: MemoryDevice, inward: Faults, outward: Faults) -> io::Result<FaultDevice> {
    let clock = Arc::new(AtomicU64::new(0));
    let outward_waits = if outward.stall.is_some() || outward.rate.is_some() {
        Waits::OnTime
    } else {
        Waits::OnNothing
    };
    let (inward, outward) = (Chaos::new(inward), Chaos::new(outward));
    Ok(FaultDevice {
        inward: Arc::clone(&inward.counts),
        outward: Arc::clone(&outward.counts),
        capabilities: device.capabilities,
        receiver: FaultReceiver {
            inner: device.receiver,
            pulled: Batch::new(),
            chaos: inward,
            held: Held::new()?,
            clock: Arc::clone(&clock),
            outward_waits,
        },
        transmitter: FaultTransmitter {
            inner: device.transmitter,
            chaos: outward,
            copy: Slot::new()?,
            clock,
        },
    })
}

/// A generator by Marsaglia (xorshift64*): small, repeatable, for no secrets.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // The state must not be zero, and small seeds should not start alike.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, 0 if that is 0.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// What is decided by chance and by time in one direction.
#[derive(Debug)]
struct Chaos {
    faults: Faults,
    random: Random,
    counts: Arc<FaultCounts>,
    started_ms: Option<u64>,
    /// Thousandths of frames that may still pass, and when that was so.
    credit: u64,
    credited_ms: u64,
}

impl Chaos {
    fn new(faults: Faults) -> Chaos {
        let random = Random::new(faults.seed);
        let counts = Arc::default();
        Chaos { faults, random, counts, started_ms: None, credit: 0, credited_ms: 0 }
    }

    /// Whether this happens now; counted if so.
    fn hits(&mut self, chance: Chance, count: impl Fn(&FaultCounts) -> &Count) -> Option<()> {
        let hit = self.random.below(1_000_000) < u64::from(chance.0);
        hit.then(|| count(&self.counts).add(1))
    }

    /// Fails if it hits. Nothing is drawn where it never does: how often a wake-up is
    /// asked for depends on the worker's pace, and frames' faults are to be repeatable.
    fn perhaps_crash(&mut self, chance: Chance) {
        if chance > Chance::NEVER && self.hits(chance, |counts| &counts.crashed).is_some() {
            panic!("a fault middleware was asked to fail");
        }
    }

    /// The frames that stall and rate let pass now, `wanted` at most.
    fn passing(&mut self, wanted: usize, now_ms: u64) -> usize {
        let started_ms = *self.started_ms.get_or_insert(now_ms);
        let age_ms = now_ms.saturating_sub(started_ms);
        if self.faults.stall.is_some_and(|stall| stall.holds(age_ms)) {
            return 0;
        }
        let Some(rate) = self.faults.rate else { return wanted };
        let since_ms = now_ms.saturating_sub(self.credited_ms);
        self.credited_ms = now_ms;
        let most = (u64::from(rate) * RATE_BURST_MS).max(1000);
        self.credit =
            u64::from(rate).saturating_mul(since_ms).saturating_add(self.credit).min(most);
        wanted.min((self.credit / 1000) as usize)
    }

    /// Uses up what [`Chaos::passing`] granted.
    fn pass(&mut self, count: usize) {
        self.credit = self.credit.saturating_sub(1000 * count as u64);
    }

    /// When an inward frame that comes now is due.
    fn due_ms(&mut self, now_ms: u64) -> u64 {
        let jitter_ms = self.random.below(self.faults.jitter_ms.saturating_add(1));
        let late = self.hits(self.faults.reorder, |counts| &counts.reordered);
        let overtaken_ms = late.map_or(0, |()| self.faults.reorder_ms);
        now_ms
            .saturating_add(self.faults.delay_ms)
            .saturating_add(jitter_ms)
            .saturating_add(overtaken_ms)
    }

    /// Turns one bit of a frame.
    fn turn_bit(&mut self, frame: Place<'_>) {
        if frame.length() == 0 {
            return;
        }
        let (_, at) = frame.split(self.random.below(frame.length() as u64) as usize);
        let mut byte = [0];
        at.read(&mut byte);
        byte[0] ^= 1 << self.random.below(8);
        at.write(&byte);
    }
}

impl Stall {
    fn holds(self, age_ms: u64) -> bool {
        let phase_ms = age_ms.checked_rem(self.every_ms).unwrap_or(0);
        phase_ms >= self.every_ms.saturating_sub(self.lasts_ms)
    }
}

/// Memory for one frame, into which a changed one is copied.
#[derive(Debug)]
struct Slot {
    memory: Arc<Memory>,
    batch: Batch,
}

impl Slot {
    fn new() -> io::Result<Slot> {
        Ok(Slot { memory: Arc::new(Memory::arena(SLOT_BYTES)?), batch: Batch::new() })
    }

    /// Copies the frame, has it changed, and shows it. Nothing if it is too long.
    fn changed(
        &mut self,
        departure: &Departure<'_>,
        change: impl FnOnce(Place<'_>),
    ) -> Option<View<'_>> {
        let mut hint = RegionHint::default();
        let length = u32::try_from(departure.length()).ok()?;
        let place = self.memory.place(&mut hint, 0, length)?;
        let (head, rest) = place.split(departure.header.len());
        head.write(departure.header);
        departure.body.copy_to(rest);
        change(place);
        self.batch.begin(&self.memory);
        self.batch.push(&mut hint, &[(0, length)], departure.offload);
        (self.batch.count() == 1).then(|| self.batch.view(0))
    }
}

/// A frame that waits for its time: earliest first, then in order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Waiting {
    due_ms: u64,
    arrival: u64,
    slot: usize,
}

/// The inward frames that wait, in memory of this port.
#[derive(Debug)]
struct Held {
    memory: Arc<Memory>,
    hint: RegionHint,
    frames: Box<[(u32, Offload)]>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    free: Vec<usize>,
    /// Slots that lie in the worker's batch.
    lent: Vec<usize>,
    arrivals: u64,
}

impl Held {
    fn new() -> io::Result<Held> {
        Ok(Held {
            memory: Arc::new(Memory::arena(HELD_MAX * SLOT_BYTES)?),
            hint: RegionHint::default(),
            frames: vec![(0, Offload::NONE); HELD_MAX].into_boxed_slice(),
            waiting: BinaryHeap::with_capacity(HELD_MAX),
            free: (0..HELD_MAX).collect(),
            lent: Vec::with_capacity(BATCH_FRAMES),
            arrivals: 0,
        })
    }

    /// Copies a frame in; has it changed if need be. The caller saw to room.
    fn hold(&mut self, view: &View<'_>, due_ms: u64, change: Option<impl FnOnce(Place<'_>)>) {
        let Some(slot) = self.free.pop() else { return };
        let length = view.length().min(SLOT_BYTES) as u32;
        let address = (slot * SLOT_BYTES) as u64;
        if let Some(place) = self.memory.place(&mut self.hint, address, length) {
            let (head, rest) = place.split(view.header.len());
            head.write(view.header);
            view.body.copy_to(rest);
            if let Some(change) = change {
                change(place);
            }
        }
        self.frames[slot] = (length, view.offload);
        self.waiting.push(Reverse(Waiting { due_ms, arrival: self.arrivals, slot }));
        self.arrivals += 1;
    }

    /// Whether a frame is due.
    fn is_due(&self, now_ms: u64) -> bool {
        self.waiting.peek().is_some_and(|Reverse(first)| first.due_ms <= now_ms)
    }

    /// Adds the first frame to a batch that has room.
    fn lend(&mut self, batch: &mut Batch) {
        let Some(Reverse(Waiting { slot, .. })) = self.waiting.pop() else { return };
        let (length, offload) = self.frames[slot];
        batch.push(&mut self.hint, &[((slot * SLOT_BYTES) as u64, length)], offload);
        self.lent.push(slot);
    }

    fn take_back(&mut self) {
        self.free.append(&mut self.lent);
    }
}

/// Whether the outward direction needs to know the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    OnTime,
    OnNothing,
}

/// What the switch receives from the endpoint, after the faults.
#[derive(Debug)]
pub struct FaultReceiver {
    inner: MemoryReceiver,
    pulled: Batch,
    chaos: Chaos,
    held: Held,
    /// The time for the outward direction.
    clock: Arc<AtomicU64>,
    outward_waits: Waits,
}

impl FaultReceiver {
    /// See [`Receiver::receive`].
    pub fn receive(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        let now_ms = arena.now_ms;
        self.clock.store(now_ms, Ordering::Relaxed);
        batch.begin(&self.held.memory);
        let passing = self.chaos.passing(BATCH_FRAMES, now_ms);
        if passing == 0 {
            return Received::Drained;
        }
        let pulled = self.pull(arena, batch);
        let mut lent = 0;
        while lent < passing && batch.room() == Room::More && self.held.is_due(now_ms) {
            self.held.lend(batch);
            lent += 1;
        }
        self.chaos.pass(lent);
        match pulled {
            Received::Lost if !self.held.waiting.is_empty() || lent > 0 => Received::Drained,
            _ if self.held.is_due(now_ms) => Received::More,
            pulled => pulled,
        }
    }

    /// Takes what the endpoint sent, if there is room for all that may come of it.
    fn pull(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        if self.held.free.len() < 2 * BATCH_FRAMES {
            return Received::More;
        }
        let received = self.inner.receive(arena, &mut self.pulled);
        self.pulled.rejected().iter().for_each(|&reason| batch.reject(reason));
        for index in 0..self.pulled.count() {
            self.chaos.perhaps_crash(self.chaos.faults.crash);
            let view = self.pulled.view(index);
            befall(&mut self.chaos, &mut self.held, &view, arena.now_ms);
        }
        self.inner.release(&mut self.pulled);
        received
    }

    /// See [`Receiver::release`].
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
        self.held.take_back();
    }

    /// Only the endpoint can wake: nothing may wait for the time.
    fn may_sleep(&self) -> bool {
        self.held.waiting.is_empty() && self.outward_waits == Waits::OnNothing
    }

    /// See [`Receiver::arm`].
    pub fn arm(&mut self) -> Armed {
        if !self.may_sleep() {
            return Armed::FramesWaiting;
        }
        self.chaos.perhaps_crash(self.chaos.faults.crash_arming);
        self.inner.arm()
    }

    /// See [`Receiver::disarm`].
    pub fn disarm(&mut self) {
        self.chaos.perhaps_crash(self.chaos.faults.crash_disarming);
        self.inner.disarm();
    }

    /// See [`Receiver::wake_fd`].
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.inner.wake_fd()
    }
}

/// What happens to one inward frame.
fn befall(chaos: &mut Chaos, held: &mut Held, view: &View<'_>, now_ms: u64) {
    if chaos.hits(chaos.faults.drop, |counts| &counts.dropped).is_some() {
        return;
    }
    let due_ms = chaos.due_ms(now_ms);
    let corrupt = chaos.hits(chaos.faults.corrupt, |counts| &counts.corrupted);
    held.hold(view, due_ms, corrupt.map(|()| |place: Place<'_>| chaos.turn_bit(place)));
    if chaos.hits(chaos.faults.duplicate, |counts| &counts.duplicated).is_some() {
        held.hold(view, due_ms, None::<fn(Place<'_>)>);
    }
}

/// What the switch transmits to the endpoint, before the faults.
#[derive(Debug)]
pub struct FaultTransmitter {
    inner: MemoryTransmitter,
    chaos: Chaos,
    copy: Slot,
    clock: Arc<AtomicU64>,
}

impl FaultTransmitter {
    /// See [`Transmitter::transmit`].
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        let now_ms = self.clock.load(Ordering::Relaxed);
        let mut late: Option<usize> = None;
        for index in 0..departures.len() {
            let departure = &mut departures[index];
            if departure.fate.is_err() {
                continue;
            }
            if self.chaos.passing(1, now_ms) == 0 {
                self.chaos.counts.refused.add(1);
                departure.fate = Err(DropReason::RxRingFull);
                continue;
            }
            self.chaos.pass(1);
            let overtaken = late.is_none()
                && self.chaos.hits(self.chaos.faults.reorder, |counts| &counts.reordered).is_some();
            if overtaken {
                late = Some(index);
                continue;
            }
            self.befall(departure);
            if let Some(late) = late.take() {
                self.befall(&mut departures[late]);
            }
        }
        if let Some(late) = late {
            self.befall(&mut departures[late]);
        }
    }

    /// What happens to one outward frame.
    fn befall(&mut self, departure: &mut Departure<'_>) {
        self.chaos.perhaps_crash(self.chaos.faults.crash);
        if self.chaos.hits(self.chaos.faults.drop, |counts| &counts.dropped).is_some() {
            return;
        }
        if self.chaos.hits(self.chaos.faults.corrupt, |counts| &counts.corrupted).is_some() {
            departure.fate = self.transmit_changed(departure);
        } else {
            self.inner.transmit(std::slice::from_mut(departure));
        }
        let twice = self.chaos.hits(self.chaos.faults.duplicate, |counts| &counts.duplicated);
        if twice.is_some() {
            // The copy is nobody's: it may find no room.
            self.inner.transmit(&mut [Departure { fate: Ok(()), ..*departure }]);
        }
    }

    fn transmit_changed(&mut self, departure: &Departure<'_>) -> Result<(), DropReason> {
        let FaultTransmitter { inner, chaos, copy, .. } = self;
        let view = copy
            .changed(departure, |place| chaos.turn_bit(place))
            .ok_or(DropReason::DeviceError)?;
        let View { header, body, offload } = view;
        let mut changed = [Departure { header, body, offload, fate: Ok(()) }];
        inner.transmit(&mut changed);
        changed[0].fate
    }

    /// See [`Transmitter::room`].
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        let wanted = self.chaos.passing(wanted, self.clock.load(Ordering::Relaxed));
        self.inner.room(wanted, length)
    }

    /// See [`Transmitter::ring`].
    pub fn ring(&mut self) -> Rung {
        self.inner.ring()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{self, Endpoint};
    use super::super::testing::{depart, frames, pattern};
    use super::*;

    struct Bed {
        device: FaultDevice,
        endpoint: Endpoint,
        arena: Arena,
        batch: Batch,
    }

    fn bed(inward: Faults, outward: Faults) -> Bed {
        println!("seeds {} and {}", inward.seed, outward.seed);
        let (device, endpoint) = memory::pair(memory::Config::default()).unwrap();
        let device = wrap(device, inward, outward).unwrap();
        Bed { device, endpoint, arena: Arena::new().unwrap(), batch: Batch::new() }
    }

    fn inward(faults: Faults) -> Bed {
        bed(faults, Faults::default())
    }

    fn outward(faults: Faults) -> Bed {
        bed(Faults::default(), faults)
    }

    impl Bed {
        fn send(&mut self, count: usize) -> Vec<Vec<u8>> {
            let sent: Vec<_> = (0..count).map(|n| pattern(n, 60 + n % 300)).collect();
            for frame in &sent {
                self.endpoint.send(frame, Offload::NONE).unwrap();
            }
            sent
        }

        /// Everything that comes by this time.
        fn receive(&mut self, now_ms: u64) -> Vec<Vec<u8>> {
            self.arena.now_ms = now_ms;
            let mut all = Vec::new();
            loop {
                let received = self.device.receiver.receive(&mut self.arena, &mut self.batch);
                all.extend(frames(&self.batch));
                self.device.receiver.release(&mut self.batch);
                if received != Received::More {
                    return all;
                }
            }
        }

        fn transmit(&mut self, sent: &[Vec<u8>]) -> Vec<Result<(), DropReason>> {
            let transmitter = &mut self.device.transmitter;
            depart(sent, Offload::NONE, |departures| transmitter.transmit(departures))
        }

        fn collect(&mut self) -> Vec<Vec<u8>> {
            let mut frame = Vec::new();
            std::iter::from_fn(|| self.endpoint.receive(&mut frame).map(|_| frame.clone()))
                .collect()
        }
    }

    fn bits_apart(a: &[u8], b: &[u8]) -> u32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    #[test]
    fn without_faults_it_is_a_wire() {
        let mut bed = inward(Faults::default());
        let sent = bed.send(200);
        assert_eq!(bed.receive(0), sent);
        assert_eq!(bed.device.receiver.arm(), Armed::Asleep);
        assert_eq!(bed.transmit(&sent[..64]), [Ok(()); 64]);
        assert_eq!(bed.collect(), sent[..64]);
    }

    #[test]
    fn chances_come_true_as_often_as_they_say_and_repeatably() {
        let faults = Faults {
            seed: 7,
            drop: Chance::per_million(100_000),
            duplicate: Chance::per_million(200_000),
            ..Faults::default()
        };
        let run = || {
            let mut bed = inward(faults);
            bed.send(1000);
            let received = bed.receive(0);
            let counts = &bed.device.inward;
            let (dropped, twice) = (counts.dropped.get(), counts.duplicated.get());
            assert_eq!(received.len() as u64, 1000 - dropped + twice);
            (received, dropped, twice)
        };
        let (received, dropped, twice) = run();
        assert!((60..140).contains(&dropped), "{dropped} of about 100");
        assert!((130..230).contains(&twice), "{twice} of about 180");
        assert!((received, dropped, twice) == run(), "the same seed, the same faults");
    }

    #[test]
    fn outward_frames_vanish_and_double_as_often_as_is_counted() {
        let faults = Faults {
            seed: 5,
            drop: Chance::per_million(200_000),
            duplicate: Chance::per_million(300_000),
            ..Faults::default()
        };
        let mut bed = outward(faults);
        let sent: Vec<_> = (0..640).map(|n| pattern(n, 60 + n)).collect();
        for burst in sent.chunks(64) {
            assert_eq!(bed.transmit(burst), [Ok(()); 64], "the switch does not notice");
        }
        let mut received = bed.collect();
        let counts = &bed.device.outward;
        let (dropped, twice) = (counts.dropped.get() as usize, counts.duplicated.get() as usize);
        assert_eq!(received.len(), 640 - dropped + twice);
        received.dedup();
        assert_eq!(received.len(), 640 - dropped, "each is there once or twice in a row");
        assert!((90..170).contains(&dropped), "{dropped} of about 128");
        assert!((110..200).contains(&twice), "{twice} of about 154");
        assert_eq!(counts.refused.get() + bed.device.inward.dropped.get(), 0);
    }

    #[test]
    fn an_outward_rate_refuses_what_is_above_it() {
        let mut bed = outward(Faults { rate: Some(1000), ..Faults::default() });
        let sent: Vec<_> = (0..64).map(|n| pattern(n, 60)).collect();
        let mut passed = 0;
        // A tenth of a second's worth at first, then one each millisecond.
        for (now_ms, expected) in [(10_000, 64), (10_000, 36), (10_010, 10), (10_010, 0)] {
            bed.receive(now_ms);
            assert_eq!(bed.device.transmitter.room(64, 60), expected, "at {now_ms}");
            let fates = bed.transmit(&sent);
            let refused = vec![Err(DropReason::RxRingFull); 64 - expected];
            assert_eq!(fates, [vec![Ok(()); expected], refused].concat());
            passed += expected;
        }
        assert_eq!(bed.collect().len(), passed);
        assert_eq!(bed.device.outward.refused.get() as usize, 4 * 64 - passed);
        assert_eq!(bed.device.receiver.arm(), Armed::FramesWaiting, "the time must be kept");
    }

    #[test]
    fn a_corrupted_frame_differs_in_one_bit() {
        let faults = Faults { seed: 3, corrupt: Chance::ALWAYS, ..Faults::default() };
        let mut bed = inward(faults);
        let sent = bed.send(300);
        for (sent, received) in sent.iter().zip(bed.receive(0)) {
            assert_eq!(bits_apart(sent, &received), 1);
        }
        let mut bed = outward(faults);
        assert_eq!(bed.transmit(&sent[200..260]), [Ok(()); 60]);
        let received = bed.collect();
        assert_eq!(received.len(), 60);
        for (sent, received) in sent[200..260].iter().zip(received) {
            assert_eq!(bits_apart(sent, &received), 1);
        }
        assert_eq!(bed.device.outward.corrupted.get(), 60);
    }

    #[test]
    fn delayed_frames_come_when_they_are_due() {
        let mut bed = inward(Faults { delay_ms: 50, ..Faults::default() });
        let sent = bed.send(100);
        assert_eq!(bed.receive(1000), Vec::<Vec<u8>>::new());
        assert_eq!(bed.device.receiver.arm(), Armed::FramesWaiting);
        assert_eq!(bed.receive(1049), Vec::<Vec<u8>>::new());
        assert_eq!(bed.receive(1050), sent);
        assert_eq!(bed.device.receiver.arm(), Armed::Asleep);
    }

    #[test]
    fn reordered_frames_are_overtaken_and_none_is_lost() {
        let faults = Faults {
            seed: 11,
            reorder: Chance::per_million(300_000),
            reorder_ms: 5,
            ..Faults::default()
        };
        let mut bed = inward(faults);
        let sent = bed.send(100);
        let mut received = bed.receive(0);
        assert!(received.len() < 100);
        received.extend(bed.receive(5));
        assert!(received != sent && bed.device.inward.reordered.get() > 10);
        let sorted = |mut frames: Vec<Vec<u8>>| {
            frames.sort();
            frames
        };
        assert!(sorted(received) == sorted(sent.clone()));

        let mut bed = outward(faults);
        assert_eq!(bed.transmit(&sent[..64]), [Ok(()); 64]);
        let received = bed.collect();
        assert!(received != sent[..64]);
        assert!(sorted(received) == sorted(sent[..64].to_vec()));
    }

    #[test]
    fn a_stall_holds_inward_frames_back_and_refuses_outward_ones() {
        let stall = Some(Stall { every_ms: 100, lasts_ms: 40 });
        let mut bed =
            bed(Faults { stall, ..Faults::default() }, Faults { stall, ..Faults::default() });
        assert_eq!(bed.receive(1000).len(), 0);
        let sent = bed.send(10);
        assert_eq!(bed.transmit(&sent), [Ok(()); 10]);
        assert_eq!(bed.receive(1060).len(), 0);
        assert_eq!(bed.device.transmitter.room(10, 60), 0);
        assert_eq!(bed.transmit(&sent), [Err(DropReason::RxRingFull); 10]);
        assert_eq!(bed.device.outward.refused.get(), 10);
        assert_eq!(bed.receive(1100), sent);
        assert_eq!(bed.transmit(&sent), [Ok(()); 10]);
        assert_eq!(bed.device.receiver.arm(), Armed::FramesWaiting, "the time must be kept");
    }

    #[test]
    fn a_rate_spreads_frames_over_time() {
        let mut bed = inward(Faults { rate: Some(1000), ..Faults::default() });
        let sent = bed.send(500);
        let mut received = Vec::new();
        for now_ms in 10_000..10_400 {
            let arrived = bed.receive(now_ms).len();
            assert!(now_ms == 10_000 || arrived <= 1, "{arrived} at {now_ms}");
            received.push(arrived);
        }
        assert_eq!(
            received.iter().sum::<usize>(),
            499,
            "a burst of 100, then one each millisecond"
        );
        assert_eq!(bed.receive(20_000), sent[499..]);
    }

    #[test]
    fn a_vanished_endpoint_is_lost_after_the_last_held_frame() {
        let mut bed = inward(Faults { delay_ms: 10, ..Faults::default() });
        let sent = bed.send(3);
        let (_, spare) = memory::pair(memory::Config::default()).unwrap();
        drop(std::mem::replace(&mut bed.endpoint, spare));
        assert_eq!(bed.receive(100), Vec::<Vec<u8>>::new());
        assert_eq!(bed.receive(110), sent);
        let last = bed.device.receiver.receive(&mut bed.arena, &mut bed.batch);
        assert_eq!(last, Received::Lost);
    }
}
