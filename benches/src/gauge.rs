//! The core-to-core gauge: what moving one cache line between two CPUs costs at this moment.
//!
//! A virtual machine's CPUs may be moved by its host between places that share a last-level cache
//! and places that do not. Nothing inside the guest tells, yet every rate between two CPUs changes
//! by about two. So each measured window carries the gauge's reading from before and after it.

use crate::error::{Result, RigError};
use core_affinity::CoreId;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rounds per mean; the least mean of a reading counts, since noise only ever adds.
const ROUNDS: u64 = 200;
/// How long one reading lasts.
const READING: Duration = Duration::from_millis(25);
/// At most this many nanoseconds a hand-over: the CPUs share a last-level cache. Seen: 35 to 60.
const NEAR_AT_MOST: f64 = 100.0;
/// At least this many: they do not. Seen: 147 to 160 (EPYC family 25), 275 to 325 (others).
const FAR_AT_LEAST: f64 = 130.0;
/// Tells the follower to leave.
const OVER: u64 = u64::MAX;

/// Where the two CPUs were during a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// Both readings say the CPUs share a last-level cache.
    Near,
    /// Both readings say they do not.
    Far,
    /// The readings differ, or lie in between.
    Mixed,
}

impl Placement {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Mixed => "mixed",
        }
    }

    /// The label of a window from the readings before and after it, in nanoseconds.
    pub fn of(before: f64, after: f64) -> Self {
        if before.max(after) <= NEAR_AT_MOST {
            Self::Near
        } else if before.min(after) >= FAR_AT_LEAST {
            Self::Far
        } else {
            Self::Mixed
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The gauge, read before and after each of several windows.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    cpus: (usize, usize),
    /// The last reading, in nanoseconds.
    last: f64,
}

impl Gauge {
    /// Reads it between two CPUs.
    ///
    /// # Errors
    /// As [`read`].
    pub fn new(first: usize, second: usize) -> Result<Gauge> {
        Ok(Gauge { cpus: (first, second), last: read(first, second)? })
    }

    /// Where the CPUs were when it was read last.
    #[must_use]
    pub fn now(&self) -> Placement {
        Placement::of(self.last, self.last)
    }

    /// Reads it again: where the CPUs were between the last reading and this one.
    ///
    /// # Errors
    /// As [`read`].
    pub fn since(&mut self) -> Result<Placement> {
        let before = std::mem::replace(&mut self.last, read(self.cpus.0, self.cpus.1)?);
        Ok(Placement::of(before, self.last))
    }
}

/// The line that travels. Two lines wide: the adjacent-line prefetcher moves pairs.
#[repr(align(128))]
struct Ball(AtomicU64);

/// One reading: nanoseconds for one hand-over of a cache line between the two CPUs.
///
/// Both CPUs must be free, or the reading shows the scheduler instead.
pub fn read(first: usize, second: usize) -> Result<f64> {
    let ball = Ball(AtomicU64::new(0));
    let pinned = AtomicBool::new(true);
    let pin = |id| {
        if !core_affinity::set_for_current(CoreId { id }) {
            pinned.store(false, Ordering::Relaxed);
        }
    };
    let least = std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(second);
            follow(&ball.0);
        });
        let leader = scope.spawn(|| {
            pin(first);
            lead(&ball.0)
        });
        leader.join()
    });
    if !pinned.into_inner() {
        return Err(RigError::new(format!(
            "cannot pin to CPUs {first} and {second}: the rig needs two CPUs"
        )));
    }
    least.map_err(|_| RigError::new("the gauge's thread panicked"))
}

/// Answers every odd number with the next even one.
fn follow(ball: &AtomicU64) {
    loop {
        match ball.load(Ordering::Acquire) {
            OVER => return,
            number if number % 2 == 1 => ball.store(number + 1, Ordering::Release),
            _ => {}
        }
    }
}

/// Plays batches of rounds; returns the least mean in nanoseconds per hand-over (half a round).
fn lead(ball: &AtomicU64) -> f64 {
    let end = Instant::now() + READING;
    let mut least = f64::INFINITY;
    let mut number = 0;
    while Instant::now() < end {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            ball.store(number + 1, Ordering::Release);
            number += 2;
            // No pause instruction: it costs more than the line's way.
            while ball.load(Ordering::Acquire) != number {}
        }
        let mean = start.elapsed().as_nanos() as f64 / (2 * ROUNDS) as f64;
        least = least.min(mean);
    }
    ball.store(OVER, Ordering::Release);
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_need_both_readings() {
        assert_eq!(Placement::of(55.0, 60.0), Placement::Near);
        assert_eq!(Placement::of(300.0, 280.0), Placement::Far);
        assert_eq!(Placement::of(55.0, 300.0), Placement::Mixed);
        assert_eq!(Placement::of(115.0, 115.0), Placement::Mixed);
    }
}
