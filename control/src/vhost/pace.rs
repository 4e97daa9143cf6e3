//! How soon something is tried again: retries of what is not there, and the time that a
//! VMM is kept out after a fault of its. Pure; times are arguments.

use std::time::{Duration, Instant};

/// The first wait before a socket is tried again, and the longest.
pub const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a VMM is kept out after its first fault, and at most.
pub const PENALTY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// So long without a fault, and the next one is a first one.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Less and less often.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    wait: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { wait: RETRY.0 }
    }
}

impl Retry {
    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (2 * wait).min(RETRY.1);
        wait
    }
}

/// How long a VMM is kept out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Penalty {
    /// The last one, and when it began.
    last: Option<(Duration, Instant)>,
}

impl Penalty {
    /// A fault: how long it is kept out.
    pub fn fault(&mut self, now: Instant) -> Duration {
        let wait = match self.last {
            Some((wait, at)) if now.saturating_duration_since(at) < wait + FORGIVEN => {
                (2 * wait).min(PENALTY.1)
            }
            _ => PENALTY.0,
        };
        self.last = Some((wait, now));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_tried_less_and_less_often() {
        let mut retry = Retry::default();
        let waits: Vec<u128> = (0..9).map(|_| retry.pause().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn faults_cost_more_each_time_and_are_forgiven_in_the_end() {
        let (mut penalty, mut now) = (Penalty::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..11 {
            let wait = penalty.fault(now);
            waits.push(wait.as_secs());
            // It comes back as soon as it may, and does it again.
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += FORGIVEN;
        assert_eq!(penalty.fault(now), PENALTY.0);
    }
}
