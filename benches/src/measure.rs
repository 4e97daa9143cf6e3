//! Alternating windows over several pairs, of which one runs at a time.

use crate::error::{Result, RigError};
use crate::gauge::{self, Placement};
use crate::pair::Pair;
use crate::testpmd::{Effort, GENERATOR_CPU, Traffic, WIRE_CPU, rate};
use crate::{interrupt, load};
use std::time::Duration;

/// From resuming a pair to the first reading: its caches are cold, the loop has to settle.
const WARM: Duration = Duration::from_millis(50);
/// The share of one CPU that others may use in a window. The machine's ticks are sampled: up to
/// 0.05 shows where nothing else runs.
const FOREIGN_AT_MOST: f64 = 0.08;
/// Windows thrown away in a row before the machine counts as too busy to measure on.
const ATTEMPTS: usize = 10;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Frame length without the checksum.
    pub bytes: u32,
    /// Which start of the processes this is.
    pub round: usize,
    /// Windows per side in this round.
    pub windows: usize,
    /// How long one lasts.
    pub length: Duration,
    /// What the generators do.
    pub traffic: Traffic,
}

/// One side's window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The side's name.
    pub side: &'static str,
    /// Which start of the processes it belongs to.
    pub round: usize,
    /// How many windows this side had in the round before.
    pub index: usize,
    /// Nanoseconds a cache line took between the CPUs right before.
    pub gauge_before: f64,
    /// And right after.
    pub gauge_after: f64,
    /// Frames received, both directions summed, in millions per second.
    pub mpps: f64,
    /// Seconds between the readings.
    pub seconds: f64,
    /// What the generator spent.
    pub effort: Option<Effort>,
    /// The share of one CPU that something else used meanwhile.
    pub foreign: f64,
    /// The loop had run dry and was primed anew before this window.
    pub primed_anew: bool,
}

impl Window {
    /// Where the CPUs were.
    pub fn placement(&self) -> Placement {
        Placement::of(self.gauge_before, self.gauge_after)
    }

    /// The share of its CPU the generator was busy with frames: near 1, it is the bottleneck.
    pub fn busy(&self) -> Option<f64> {
        self.effort.map(|effort| effort.cycles / (effort.hertz * self.seconds))
    }
}

/// All windows of one layout and length.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In the order they were taken.
    pub windows: Vec<Window>,
    /// Per round and side, the frames that were still in flight at the end.
    pub in_flight: Vec<(&'static str, u64)>,
}

impl Outcome {
    /// Adds another round's.
    pub fn extend(&mut self, other: Self) {
        self.windows.extend(other.windows);
        self.in_flight.extend(other.in_flight);
    }
}

/// Takes the planned windows, all pairs in turn. All are paused before and after.
pub fn measure(pairs: &mut [Pair], plan: &Plan) -> Result<Outcome> {
    for pair in pairs.iter_mut() {
        pair.resume()?;
        pair.generator.start_traffic(plan.bytes, &plan.traffic)?;
        pair.pause()?;
    }
    let mut windows = Vec::with_capacity(plan.windows * pairs.len());
    // While all pairs are paused, both CPUs are the gauge's.
    let mut gauge = gauge::read(GENERATOR_CPU, WIRE_CPU)?;
    for index in 0..plan.windows {
        for pair in pairs.iter_mut() {
            windows.push(undisturbed(pair, plan, index, &mut gauge)?);
        }
    }
    let mut in_flight = Vec::with_capacity(pairs.len());
    for pair in pairs.iter_mut() {
        pair.resume()?;
        in_flight.push((pair.side().name, pair.generator.drain()?));
        pair.pause()?;
    }
    Ok(Outcome { windows, in_flight })
}

/// Takes a window in which nothing else ran, and the gauge after it.
fn undisturbed(pair: &mut Pair, plan: &Plan, index: usize, gauge: &mut f64) -> Result<Window> {
    let mut foreign = 0.0;
    for _ in 0..ATTEMPTS {
        let mut window = take(pair, plan, index)?;
        window.gauge_before = *gauge;
        *gauge = gauge::read(GENERATOR_CPU, WIRE_CPU)?;
        window.gauge_after = *gauge;
        foreign = window.foreign;
        if foreign <= FOREIGN_AT_MOST {
            return Ok(window);
        }
    }
    Err(RigError::new(format!(
        "something else keeps using the CPUs ({:.0} % of one in the last window, {ATTEMPTS} \
         windows thrown away): measure on a machine that is idle",
        foreign * 100.0
    )))
}

/// Runs a pair for one window. A loop that has run dry gets one more chance.
fn take(pair: &mut Pair, plan: &Plan, index: usize) -> Result<Window> {
    pair.resume()?;
    let mut primed_anew = false;
    let mut window = run(pair, plan, index)?;
    if window.mpps == 0.0 {
        pair.generator.drain()?;
        pair.generator.start_traffic(plan.bytes, &plan.traffic)?;
        primed_anew = true;
        window = run(pair, plan, index)?;
    }
    pair.pause()?;
    if window.mpps == 0.0 {
        return Err(RigError::new(format!(
            "no frame comes back through the wire of {} ({} bytes)",
            pair.side().name,
            plan.bytes
        )));
    }
    Ok(Window { primed_anew, ..window })
}

fn run(pair: &mut Pair, plan: &Plan, index: usize) -> Result<Window> {
    interrupt::sleep(WARM)?;
    let foreign_before = foreign_ticks(pair)?;
    let before = pair.generator.begin()?;
    interrupt::sleep(plan.length)?;
    let (after, effort) = pair.generator.end()?;
    let seconds = after[0].at.duration_since(before[0].at).as_secs_f64();
    let foreign = (foreign_ticks(pair)? - foreign_before) as f64;
    Ok(Window {
        side: pair.side().name,
        round: plan.round,
        index,
        gauge_before: 0.0,
        gauge_after: 0.0,
        mpps: rate(&before, &after) / 1e6,
        seconds,
        effort,
        foreign: foreign / rustix::param::clock_ticks_per_second() as f64 / seconds,
        primed_anew: false,
    })
}

/// Clock ticks spent by all but this pair and the rig, up to a constant.
fn foreign_ticks(pair: &mut Pair) -> Result<i64> {
    let own = pair.ticks()? + load::process_ticks("self")?;
    Ok(load::machine_ticks()? as i64 - own as i64)
}
