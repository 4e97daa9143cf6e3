//! One turn of a contestant.

use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hairpin_tests::bed::{Family, Stream};

use super::contestant::{Contestant, Kind};
use crate::cpu::{machine_seconds, process_seconds};
use crate::error::{Context, Result};
use crate::interrupt;

/// Until the connection is up to speed.
const WARM_UP: Duration = Duration::from_millis(400);

/// What runs where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Nothing is pinned: the scheduler places sender, receiver and switch.
    Free,
    /// The sender on CPU 0, the receiver on CPU 1; a switch's process where the
    /// scheduler puts it, the kernel's bridge on the sender's CPU, in whose soft
    /// interrupts it runs.
    Ends,
}

/// How the turns are taken.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long a turn is counted.
    pub length: Duration,
    /// IP version.
    pub family: Family,
    /// What runs where.
    pub placement: Placement,
}

/// What a turn gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose.
    pub kind: Kind,
    /// Payload received, in 10⁹ bits a second.
    pub gigabits_per_second: f64,
    /// CPU time of the whole machine, in seconds per 10⁹ bytes of payload.
    pub machine_seconds_per_gigabyte: f64,
    /// CPU time of the switch's process likewise; none for the kernel's bridge.
    pub switch_seconds_per_gigabyte: Option<f64>,
}

/// Lets a contestant send for one turn.
///
/// # Errors
/// If the connection fails, or the run is interrupted.
pub fn take(contestant: &Contestant, plan: &Plan) -> Result<Sample> {
    let [from, to] = &contestant.hosts;
    let placement = plan.placement;
    let stream = Stream::start(from, to, plan.family, move |end| place(placement, end))
        .context(format_args!("{}", contestant.kind))?;
    interrupt::sleep(WARM_UP)?;
    let before = Reading::now(contestant, &stream)?;
    interrupt::sleep(plan.length)?;
    let after = Reading::now(contestant, &stream)?;
    Ok(after.since(&before, contestant.kind))
}

/// Puts the calling thread where its end of the connection belongs.
fn place(placement: Placement, end: usize) {
    if placement == Placement::Ends {
        core_affinity::set_for_current(CoreId { id: end });
    }
}

/// All counters at one moment.
struct Reading {
    at: Instant,
    bytes: u64,
    machine: f64,
    switch: Option<f64>,
}

impl Reading {
    fn now(contestant: &Contestant, stream: &Stream) -> Result<Reading> {
        let switch = contestant.pid().map(process_seconds).transpose()?;
        let machine = machine_seconds()?;
        Ok(Reading { at: Instant::now(), bytes: stream.received(), machine, switch })
    }

    fn since(&self, before: &Reading, kind: Kind) -> Sample {
        let gigabytes = (self.bytes - before.bytes) as f64 / 1e9;
        let seconds = (self.at - before.at).as_secs_f64();
        let switch = self.switch.zip(before.switch).map(|(after, before)| after - before);
        Sample {
            kind,
            gigabits_per_second: gigabytes * 8.0 / seconds,
            machine_seconds_per_gigabyte: (self.machine - before.machine) / gigabytes,
            switch_seconds_per_gigabyte: switch.map(|used| used / gigabytes),
        }
    }
}
