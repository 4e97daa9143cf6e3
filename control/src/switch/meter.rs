//! Rates, from counters that only grow.

use std::time::{Duration, Instant};

/// Between two readings that make a rate.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counters at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// Frames so far.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Nanoseconds of a worker's time that they took.
    pub busy_ns: u64,
}

/// How fast they grew of late.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rate {
    /// Frames a second.
    pub frames: f64,
    /// Bytes a second.
    pub bytes: f64,
    /// The share of a worker's time, 0 to 1.
    pub load: f64,
}

/// Makes rates of readings: each over the last second that is complete.
#[derive(Clone, Debug)]
pub struct Meter {
    at: Instant,
    reading: Reading,
    rate: Rate,
}

impl Meter {
    /// Of counters that begin at 0 now.
    #[must_use]
    pub fn begin(now: Instant) -> Meter {
        Meter { at: now, reading: Reading::default(), rate: Rate::default() }
    }

    /// Takes note of the counters if it is time.
    pub fn look(&mut self, now: Instant, read: impl FnOnce() -> Reading) {
        let passed = now.saturating_duration_since(self.at);
        if passed < INTERVAL {
            return;
        }
        let reading = read();
        let seconds = passed.as_secs_f64();
        let grown = |to: u64, from: u64| to.wrapping_sub(from) as f64 / seconds;
        self.rate = Rate {
            frames: grown(reading.frames, self.reading.frames),
            bytes: grown(reading.bytes, self.reading.bytes),
            // The last breath of a second may be counted in the next.
            load: (grown(reading.busy_ns, self.reading.busy_ns) / 1e9).min(1.0),
        };
        (self.at, self.reading) = (now, reading);
    }

    /// The rate over the last second that is complete; 0 in the first.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_whole_second() {
        let start = Instant::now();
        let mut meter = Meter::begin(start);
        let mut look = |tenths: u32, frames| {
            let reading = || Reading { frames, bytes: 100 * frames, busy_ns: 1_000_000 * frames };
            meter.look(start + tenths * INTERVAL / 10, reading);
            meter.rate()
        };
        assert_eq!(look(9, 500), Rate::default());
        assert_eq!(look(10, 500), Rate { frames: 500.0, bytes: 50_000.0, load: 0.5 });
        assert_eq!(look(19, 600).frames, 500.0, "the second is not over");
        assert_eq!(look(30, 700), Rate { frames: 100.0, bytes: 10_000.0, load: 0.1 });
        assert_eq!(look(40, 700), Rate::default());
    }
}
