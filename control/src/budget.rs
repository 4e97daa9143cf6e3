//! What somebody may still do: so much at once, and one more every so often.

use std::time::{Duration, Instant};

/// How much of something is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Until one more is.
    pub refill: Duration,
}

/// What somebody has left of a rate.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Budget {
    /// All of it.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Budget {
        Budget { rate, left: f64::from(rate.burst), at: now }
    }

    /// Whether one more may come; it is counted if so.
    pub fn take(&mut self, now: Instant) -> bool {
        self.left = self.at(now);
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// Whether nothing was taken of late.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.at(now) >= f64::from(self.rate.burst)
    }

    fn at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed / self.rate.refill.as_secs_f64()).min(f64::from(self.rate.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_and_one_more_every_so_often() {
        let refill = Duration::from_secs(5);
        let now = Instant::now();
        let mut budget = Budget::full(Rate { burst: 3, refill }, now);
        assert_eq!((0..10).filter(|_| budget.take(now)).count(), 3);
        assert!(!budget.take(now + refill / 2));
        assert!(budget.take(now + 2 * refill) && !budget.is_full(now + 2 * refill));
        assert!(budget.is_full(now + 10 * refill));
        assert_eq!((0..10).filter(|_| budget.take(now + 90 * refill)).count(), 3);
    }
}
