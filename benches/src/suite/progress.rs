//! How far a run is, and how long it may still take.

use std::collections::BTreeMap;
use std::time::Duration;

/// A start of a switch, as a kind of step.
pub const START: &str = "start";
/// How many trials' lengths a step may take of whose kind none was done: a search has some twenty.
const TRIALS: u64 = 20;

/// The steps of a run by their kind, that is a test's name or [`START`]: those of a kind take
/// about as long as each other.
#[derive(Debug)]
pub struct Progress {
    left: BTreeMap<&'static str, u32>,
    done: BTreeMap<&'static str, (u32, Duration)>,
    guess: Duration,
}

impl Progress {
    /// At a run's beginning; its trials are so many nanoseconds long.
    #[must_use]
    pub fn new(trial_ns: u64) -> Progress {
        let guess = Duration::from_nanos(trial_ns.saturating_mul(TRIALS));
        Progress { left: BTreeMap::new(), done: BTreeMap::new(), guess }
    }

    /// So many steps more are to be done.
    pub fn plan(&mut self, kind: &'static str, steps: usize) {
        *self.left.entry(kind).or_default() += steps as u32;
    }

    /// So many steps are not to be done after all.
    pub fn drop(&mut self, kind: &'static str, steps: usize) {
        if let Some(left) = self.left.get_mut(kind) {
            *left = left.saturating_sub(steps as u32);
        }
    }

    /// A step is done; it took so long.
    pub fn did(&mut self, kind: &'static str, taken: Duration) {
        self.drop(kind, 1);
        let (count, sum) = self.done.entry(kind).or_default();
        *count += 1;
        *sum += taken;
    }

    /// How long the steps that are left may take.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left.iter().map(|(kind, &left)| self.each(kind) * left).sum()
    }

    /// How long a step of a kind takes, by those that were done.
    fn each(&self, kind: &str) -> Duration {
        match self.done.get(kind) {
            Some(&(count, sum)) => sum / count,
            None => self.guess,
        }
    }
}

/// A time as a reader wants to know it.
#[must_use]
pub fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..100 => format!("{seconds} s"),
        seconds @ ..6000 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_known_by_what_was_done() {
        let second = Duration::from_secs(1);
        let mut progress = Progress::new(100_000_000);
        progress.plan(START, 2);
        progress.plan("loss", 10);
        assert_eq!(progress.left(), 24 * second, "a guess");
        progress.did(START, 4 * second);
        progress.did("loss", 7 * second);
        progress.did("loss", 9 * second);
        assert_eq!(progress.left(), (4 + 8 * 8) * second);
        progress.drop("loss", 8);
        progress.drop("loss", 1);
        assert_eq!(progress.left(), 4 * second);
    }

    #[test]
    fn times_are_rounded() {
        for (seconds, expected) in [(5, "5 s"), (121, "3 min"), (5400, "90 min"), (9000, "2.5 h")] {
            assert_eq!(rounded(Duration::from_secs(seconds)), expected);
        }
    }
}
