//! One connection between two hosts: what it carries, and what that costs.

use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hairpin_tests::bed::{Family, Host, Stream};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cpu::{machine_seconds, process_seconds};
use crate::error::{Context, Result};
use crate::interrupt;

/// Until the connection is up to speed.
const WARM_UP: Duration = Duration::from_millis(400);

/// What runs where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// The scheduler places sender and receiver.
    Free,
    /// The sender on CPU 0, the receiver on CPU 1; the kernel's bridge is on the
    /// sender's CPU, in whose soft interrupts it runs.
    Ends,
}

/// How a connection is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long it is counted, after it has come up to speed.
    pub length: Duration,
    /// IP version.
    pub family: Family,
    /// What runs where.
    pub placement: Placement,
}

/// What a connection gave.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Carried {
    /// Payload received, in 10⁹ bits a second.
    pub gigabits_per_second: f64,
    /// CPU time of the whole machine, in seconds per 10⁹ bytes of payload.
    pub machine_seconds_per_gigabyte: f64,
    /// CPU time of the switch's process likewise; none for the kernel's switches.
    pub switch_seconds_per_gigabyte: Option<f64>,
}

/// Sends from the first host to the second as fast as TCP takes it; `switch` is the process
/// between them, if there is one. `None` if nothing came in the time that is counted.
///
/// # Errors
/// If there is no connection, or the run is interrupted.
pub fn carry([from, to]: [&Host; 2], switch: Option<u32>, plan: &Plan) -> Result<Option<Carried>> {
    let placement = plan.placement;
    let stream = Stream::start(from, to, plan.family, move |end| place(placement, end))
        .context("a TCP connection")?;
    interrupt::sleep(WARM_UP)?;
    let before = Reading::now(switch, &stream)?;
    interrupt::sleep(plan.length)?;
    let after = Reading::now(switch, &stream)?;
    Ok(after.since(&before))
}

/// Puts the calling thread where its end of the connection belongs.
fn place(placement: Placement, end: usize) {
    match placement {
        Placement::Free => {
            let mut cpus = CpuSet::new();
            (0..CpuSet::MAX_CPU).for_each(|cpu| cpus.set(cpu));
            // A thread that stays where its maker is works all the same.
            let _ = sched_setaffinity(None, &cpus);
        }
        Placement::Ends => {
            core_affinity::set_for_current(CoreId { id: end });
        }
    }
}

/// All counters at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    bytes: u64,
    machine: f64,
    switch: Option<f64>,
}

impl Reading {
    fn now(switch: Option<u32>, stream: &Stream) -> Result<Reading> {
        let switch = switch.map(process_seconds).transpose()?;
        let machine = machine_seconds()?;
        Ok(Reading { at: Instant::now(), bytes: stream.received(), machine, switch })
    }

    /// `None` if nothing came.
    fn since(&self, before: &Reading) -> Option<Carried> {
        let bytes = self.bytes.checked_sub(before.bytes).filter(|&bytes| bytes > 0)?;
        let gigabytes = bytes as f64 / 1e9;
        let seconds = (self.at - before.at).as_secs_f64();
        let switch = self.switch.zip(before.switch).map(|(after, before)| after - before);
        Some(Carried {
            gigabits_per_second: gigabytes * 8.0 / seconds,
            machine_seconds_per_gigabyte: (self.machine - before.machine) / gigabytes,
            switch_seconds_per_gigabyte: switch.map(|used| used / gigabytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_carried_is_the_difference_of_readings() {
        let before = Reading { at: Instant::now(), bytes: 7, machine: 1.0, switch: Some(0.5) };
        let at = before.at + Duration::from_secs(2);
        let after = Reading { at, bytes: 500_000_007, machine: 4.0, switch: Some(1.0) };
        let carried = Carried {
            gigabits_per_second: 2.0,
            machine_seconds_per_gigabyte: 6.0,
            switch_seconds_per_gigabyte: Some(1.0),
        };
        assert_eq!(after.since(&before), Some(carried));
        let kernel = Reading { switch: None, ..after }.since(&before).unwrap();
        assert_eq!(kernel.switch_seconds_per_gigabyte, None);
        assert_eq!(Reading { bytes: 7, ..after }.since(&before), None);
    }
}
