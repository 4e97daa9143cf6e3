//! How much of something comes within a second. Pure; times are arguments.

use std::time::{Duration, Instant};

/// What counts as at once.
const SECOND: Duration = Duration::from_secs(1);

/// A count that only grows, second by second.
#[derive(Clone, Copy, Debug)]
pub struct Spate {
    /// When the second that is looked at began, and where the count stood then.
    since: Instant,
    before: u64,
}

impl Spate {
    /// Of a count that stands there now.
    #[must_use]
    pub fn begin(count: u64, now: Instant) -> Spate {
        Spate { since: now, before: count }
    }

    /// By how much the count has grown in the second that is looked at. Where it was
    /// looked at less often than that, so much in a second on average.
    pub fn look(&mut self, count: u64, now: Instant) -> u64 {
        let grown = count.saturating_sub(self.before);
        let passed = now.saturating_duration_since(self.since);
        if passed < SECOND {
            return grown;
        }
        *self = Spate::begin(count, now);
        (grown as f64 / passed.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_within_a_second_counts_together() {
        let begin = Instant::now();
        let after = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut spate = Spate::begin(100, begin);
        let looks = [(100, 140, 40), (900, 160, 60), (1000, 170, 70), (1100, 170, 0)];
        // Nobody looked for ten seconds.
        let looks = looks.into_iter().chain([(11_000, 1170, 100), (11_500, 1171, 1)]);
        for (at, count, grown) in looks {
            assert_eq!(spate.look(count, after(at)), grown, "after {at} ms");
        }
    }
}
