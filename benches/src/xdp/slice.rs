//! One turn of a contestant, and what is counted in it.
//!
//! *Frames* are those that the counter's interface received. *Lost* is the share of those
//! the kernel took from the sender that did not get there. *CPU time* is what all CPUs of
//! the machine worked between the two readings: sender, forwarder, counter, and the
//! kernel's interrupts and soft interrupts on whichever CPU they ran, in whosever name;
//! less what the machine works when nobody sends ([`baseline`], taken once a round).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::contestant::{self, Contestant, Kind};
use super::generator::{self, Control, Generator, Load};
use super::sink::Sink;
use super::target::Target;
use crate::cpu::Idleness;
use crate::error::{Context, Result, RigError};
use crate::gauge::{self, Placement};
use crate::interrupt;

/// Until the flow is steady.
const WARM_UP: Duration = Duration::from_millis(200);

/// What is sent in a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Where to.
    pub target: Target,
    /// Length of a frame without checksum sequence.
    pub bytes: usize,
    /// How fast.
    pub load: Load,
}

/// What a turn gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose.
    pub kind: Kind,
    /// Of what.
    pub traffic: Traffic,
    /// In which round.
    pub round: usize,
    /// How far apart the two CPUs were before and after.
    pub placement: Placement,
    /// What was counted.
    pub rates: Rates,
}

/// What was counted in a turn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Frames that arrived, a second.
    pub frames_per_second: f64,
    /// The share of the frames sent that did not.
    pub lost: f64,
    /// CPU time of the whole machine for a frame that arrived, in seconds.
    pub cpu_seconds_per_frame: f64,
}

/// What the machine works by itself, in CPU-seconds a second, all contestants at rest.
///
/// # Errors
/// If the run is interrupted.
pub fn baseline(length: Duration) -> Result<f64> {
    let (before, start) = (Idleness::now()?, Instant::now());
    interrupt::sleep(length)?;
    Ok(Idleness::now()?.worked_since(&before) / start.elapsed().as_secs_f64())
}

/// Lets a contestant forward for one turn; `baseline` is that of the round.
///
/// # Errors
/// If nothing arrives, a part of it fails, or the run is interrupted.
pub fn take(
    contestant: &mut Contestant,
    traffic: Traffic,
    length: Duration,
    round: usize,
    baseline: f64,
) -> Result<Sample> {
    let gauge_before = gauge::read(generator::CPU, contestant::CPU)?;
    contestant.resume()?;
    let (generator, sink) = (&mut contestant.generator, &contestant.sink);
    let counted = count(generator, sink, traffic, length, baseline);
    contestant.rest()?;
    let rates = counted.context(contestant.kind)?;
    let gauge_after = gauge::read(generator::CPU, contestant::CPU)?;
    let placement = Placement::of(gauge_before, gauge_after);
    Ok(Sample { kind: contestant.kind, traffic, round, placement, rates })
}

/// Has the sender send, and reads the counters at both ends of the turn.
fn count(
    generator: &mut Generator,
    sink: &Sink,
    traffic: Traffic,
    length: Duration,
    baseline: f64,
) -> Result<Rates> {
    let control = Control::default();
    let rates = std::thread::scope(|scope| {
        let sender = scope.spawn(|| generator.run(traffic.bytes, traffic.load, &control));
        let counted = readings(sink, &control, length);
        control.over.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| RigError::new("the sender panicked"))?;
        sent.and(counted)
    });
    let [before, after] = rates?;
    after.since(&before, baseline).ok_or_else(|| RigError::new("no frame arrives"))
}

fn readings(sink: &Sink, control: &Control, length: Duration) -> Result<[Reading; 2]> {
    interrupt::sleep(WARM_UP)?;
    let before = Reading::now(sink, control)?;
    interrupt::sleep(length)?;
    Ok([before, Reading::now(sink, control)?])
}

/// All counters at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    sent: u64,
    arrived: u64,
    idleness: Idleness,
}

impl Reading {
    fn now(sink: &Sink, control: &Control) -> Result<Reading> {
        let idleness = Idleness::now()?;
        let sent = control.sent.load(Ordering::Relaxed);
        Ok(Reading { at: Instant::now(), sent, arrived: sink.frames()?, idleness })
    }

    /// Nothing if no frame arrived.
    fn since(&self, before: &Reading, baseline: f64) -> Option<Rates> {
        let seconds = (self.at - before.at).as_secs_f64();
        let worked = self.idleness.worked_since(&before.idleness) - baseline * seconds;
        rates(self.sent - before.sent, self.arrived - before.arrived, seconds, worked)
    }
}

fn rates(sent: u64, arrived: u64, seconds: f64, worked: f64) -> Option<Rates> {
    let frames = (arrived > 0).then_some(arrived as f64)?;
    Some(Rates {
        frames_per_second: frames / seconds,
        // Some were on their way at both readings: more may arrive than were sent between.
        lost: (1.0 - frames / sent as f64).max(0.0),
        cpu_seconds_per_frame: worked.max(0.0) / frames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_arrived() {
        let expected = Rates { frames_per_second: 500.0, lost: 0.75, cpu_seconds_per_frame: 0.002 };
        assert_eq!(rates(4000, 1000, 2.0, 2.0), Some(expected));
        assert_eq!(rates(990, 1000, 1.0, 1.0).map(|rates| rates.lost), Some(0.0));
        assert_eq!(rates(4000, 0, 2.0, 2.0), None);
    }
}
