//! What a switch takes of the CPUs: for a frame, for nothing, and for waking up.

use std::time::{Duration, Instant};

use super::{Figure, Method, Needs, Taken};
use crate::cpu::Idleness;
use crate::error::{Result, RigError};
use crate::interrupt;
use crate::statistics::Tail;
use crate::suite::bench::Bench;
use crate::suite::pace::Pace;
use crate::suite::record::Better;
use crate::suite::site::Site;
use crate::suite::trial::{Load, Plan};

/// Of PDR, what it is loaded with.
const LOAD_SHARE: f64 = 0.5;
/// For how long: the kernel counts ticks of 10 ms.
const LENGTH: Duration = Duration::from_secs(2);
/// Without a frame for so long a switch sleeps, if it ever does.
const SILENCE: Duration = Duration::from_millis(20);

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "cpu",
    explanation: [
        "CPU time a frame at 50 % of PDR: the switch's process, and the whole machine",
        "(generator, kernel); its share of a CPU when idle; what a lone frame waits.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let frames_per_second = LOAD_SHARE * bench.partial(site, bytes)?;
    let plan = bench.plan(site.stream(bytes), Load::Open(Pace { frames_per_second }));
    let plan = Plan { length_ns: LENGTH.as_nanos() as u64, ..plan };
    let before = Reading::now(site)?;
    let outcome = bench.trial_by(site, plan)?;
    let loaded = Reading::now(site)?.since(&before);
    site.greet()?;
    let before = Reading::now(site)?;
    interrupt::sleep(LENGTH)?;
    let idle = Reading::now(site)?.since(&before);
    let frames = outcome.counts.received as f64;
    if frames == 0.0 {
        return Err(RigError::new("no frame came of half of PDR"));
    }
    let mut figures = Vec::new();
    let mut tell = |metric: &str, unit, value| {
        figures.push(Figure::new(metric, unit, Better::Lower, value));
    };
    tell("CPU time of the machine", "ns/frame", 1e9 * loaded.machine / frames);
    tell("CPU share of the machine, idle", "%", 100.0 * idle.machine / idle.wall);
    // The kernel's switches have no process: their time is the machine's.
    if let (Some(loaded), Some(share)) = (loaded.process, idle.process) {
        tell("CPU time of the switch's process", "ns/frame", 1e9 * loaded / frames);
        tell("CPU share of the switch's process, idle", "%", 100.0 * share / idle.wall);
    }
    if let Some(tail) = wake_ups(bench, site, bytes)? {
        tell("lone frame, median", "µs", tail.median);
        tell("lone frame, slowest", "µs", tail.greatest);
    }
    Ok(figures.into())
}

/// What lone frames take, each after a silence, in microseconds.
fn wake_ups(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Option<Tail>> {
    let mut sample = Vec::new();
    for _ in 0..bench.profile.repeats {
        site.greet()?;
        interrupt::sleep(SILENCE)?;
        let plan = bench.plan(site.stream(bytes), Load::Burst { frames: 1 });
        let outcome = bench.trial_in_silence(site, plan)?;
        sample.extend(outcome.latency.greatest().map(|ns| ns as f64 / 1000.0));
    }
    Ok(Tail::of(&sample))
}

/// CPU time so far.
struct Reading {
    at: Instant,
    machine: Idleness,
    /// Of the switch's process, in clock ticks.
    process: Option<u64>,
}

/// CPU time between two readings, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Spent {
    wall: f64,
    machine: f64,
    process: Option<f64>,
}

impl Reading {
    fn now(site: &mut Site) -> Result<Reading> {
        let process = site.switch().process().map(|process| process.ticks()).transpose()?;
        Ok(Reading { at: Instant::now(), machine: Idleness::now()?, process })
    }

    fn since(&self, before: &Reading) -> Spent {
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Spent {
            wall: (self.at - before.at).as_secs_f64(),
            machine: self.machine.worked_since(&before.machine),
            process: self.process.zip(before.process).map(|(now, then)| seconds(now - then)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spent_is_the_difference_of_readings() {
        let (at, machine) = (Instant::now(), Idleness::now().unwrap());
        let before = Reading { at, machine, process: Some(100) };
        let ticks = rustix::param::clock_ticks_per_second();
        let after =
            Reading { at: at + Duration::from_secs(4), machine, process: Some(100 + 2 * ticks) };
        let spent = after.since(&before);
        assert_eq!((spent.wall, spent.process), (4.0, Some(2.0)));
        assert_eq!(Reading { process: None, ..after }.since(&before).process, None);
    }
}
