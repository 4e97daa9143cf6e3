//! The wire's worker: receives from one port, transmits to the other, gives back.

use arrayvec::ArrayVec;
use hairpin_dataplane::frame::{BATCH_FRAMES, Batch};
use hairpin_dataplane::port::Departure;
use hairpin_dataplane::port::vhost_user::queue::{QueueReceiver, QueueTransmitter};
use hairpin_dataplane::sys::virtqueue::{Doorbell, Moment};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// It is copied to the other port.
    Copy,
    /// Its descriptors are recycled, a buffer of the other port's is used in its place as
    /// it is: no frame's byte is touched.
    Recycle,
}

/// One port's queues.
#[derive(Debug)]
pub struct Port {
    /// The driver's transmit queue.
    pub receiver: QueueReceiver,
    /// The driver's receive queue.
    pub transmitter: QueueTransmitter,
    /// The call eventfd of the transmit queue.
    pub receiver_call: Option<File>,
    /// The call eventfd of the receive queue.
    pub transmitter_call: Option<File>,
    /// What was counted.
    pub counts: Counts,
}

/// What was counted at a port.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Frames received.
    pub received: u64,
    /// Received but not viewable.
    pub rejected: u64,
    /// Frames transmitted.
    pub transmitted: u64,
    /// Frames for which there was no buffer.
    pub dropped: u64,
    /// Bursts that were not empty.
    pub bursts: u64,
    /// Bursts that were.
    pub empty: u64,
    /// Calls made.
    pub calls: u64,
}

/// Where the worker's time goes, in nanoseconds of the bursts that were not empty.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stages {
    /// Finding the frames, copying their headers.
    pub receive: u64,
    /// Finding buffers, copying into them, showing them.
    pub transmit: u64,
    /// Giving the sender's descriptors back.
    pub release: u64,
}

/// What looks at the clock between stages, or does not.
pub trait Probe {
    /// Counts the time since the last call to a stage.
    fn lap(&mut self, stage: impl Fn(&mut Stages) -> &mut u64);
    /// Forgets the time since the last call.
    fn start(&mut self);
}

/// Looks at no clock.
#[derive(Clone, Copy, Debug)]
pub struct Unprobed;

impl Probe for Unprobed {
    #[inline(always)]
    fn lap(&mut self, _: impl Fn(&mut Stages) -> &mut u64) {}
    #[inline(always)]
    fn start(&mut self) {}
}

/// Looks at the clock four times a burst.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    last: Instant,
    /// What was found.
    pub stages: Stages,
}

impl Default for Probed {
    fn default() -> Probed {
        Probed { last: Instant::now(), stages: Stages::default() }
    }
}

impl Probe for Probed {
    fn lap(&mut self, stage: impl Fn(&mut Stages) -> &mut u64) {
        let now = Instant::now();
        *stage(&mut self.stages) += (now - self.last).as_nanos() as u64;
        self.last = now;
    }

    fn start(&mut self) {
        self.last = Instant::now();
    }
}

/// Moves frames between the ports until `stop`.
pub fn run(ports: &mut [Port; 2], work: Work, stop: &AtomicBool, probe: &mut impl Probe) {
    let mut batch = Batch::new();
    let [a, b] = ports;
    while !stop.load(Ordering::Relaxed) {
        let there = carry(a, b, &mut batch, work, probe);
        let moved = there + carry(b, a, &mut batch, work, probe);
        let moment = if moved == 0 { Moment::Idle } else { Moment::Busy };
        a.ring(moment);
        b.ring(moment);
    }
    a.ring(Moment::Idle);
    b.ring(Moment::Idle);
}

/// Carries one burst; says how many frames. A function of its own, so that profiles
/// show it.
#[inline(never)]
pub fn carry(
    from: &mut Port,
    to: &mut Port,
    batch: &mut Batch,
    work: Work,
    probe: &mut impl Probe,
) -> usize {
    probe.start();
    from.receiver.receive(batch);
    let (count, rejected) = (batch.count(), batch.rejected().len());
    from.counts.received += count as u64;
    if count + rejected == 0 {
        from.counts.empty += 1;
        return 0;
    }
    from.counts.bursts += 1;
    from.counts.rejected += rejected as u64;
    probe.lap(|stages| &mut stages.receive);
    let sent = match work {
        Work::Copy => copy(to, batch),
        Work::Recycle => to.transmitter.recycle(count, batch.length(0) as u32 + 12),
    };
    to.counts.transmitted += sent as u64;
    to.counts.dropped += (count - sent) as u64;
    probe.lap(|stages| &mut stages.transmit);
    from.receiver.release();
    probe.lap(|stages| &mut stages.release);
    count
}

/// Copies the frames of a batch to a port; says how many it took.
#[inline]
fn copy(to: &mut Port, batch: &Batch) -> usize {
    let mut departures = ArrayVec::<Departure<'_>, BATCH_FRAMES>::new();
    departures.extend((0..batch.count()).map(|index| Departure::from(batch.view(index))));
    to.transmitter.transmit(&mut departures);
    departures.iter().filter(|departure| departure.fate.is_ok()).count()
}

impl Port {
    /// Rings the driver's doorbells if it wants them.
    #[inline]
    fn ring(&mut self, moment: Moment) {
        if self.receiver.doorbell(moment) == Doorbell::Wanted {
            self.counts.calls += 1;
            call(&mut self.receiver_call);
        }
        if self.transmitter.doorbell(moment) == Doorbell::Wanted {
            self.counts.calls += 1;
            call(&mut self.transmitter_call);
        }
    }
}

/// Signals an eventfd; one that cannot be signalled is signalled already.
#[cold]
fn call(eventfd: &mut Option<File>) {
    if let Some(file) = eventfd {
        let _ = file.write(&1_u64.to_ne_bytes());
    }
}
