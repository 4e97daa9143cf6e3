//! When the frames of an open loop are due: frame `n` is so many periods after the first.

/// So many frames a second, exactly.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Frames a second, above 0.
    pub frames_per_second: f64,
}

impl Pace {
    /// Frames that are due once so many nanoseconds have passed: the first is due at once.
    #[must_use]
    pub fn due(self, elapsed_ns: u64) -> u64 {
        (elapsed_ns as f64 * self.frames_per_second / 1e9) as u64 + 1
    }

    /// Frames that an offer of so many nanoseconds has: those due before its end.
    #[must_use]
    pub fn total(self, length_ns: u64) -> u64 {
        (length_ns as f64 * self.frames_per_second / 1e9).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_is_due_early_and_none_is_forgotten() {
        for frames_per_second in [1.0, 3.0, 1e3, 999_983.0, 14_880_952.0] {
            let pace = Pace { frames_per_second };
            assert_eq!(pace.due(0), 1);
            for number in 1..1000_u64 {
                let at = number as f64 * 1e9 / frames_per_second;
                assert!(pace.due(at as u64 + 1) > number, "{number} at {frames_per_second}");
                assert!(pace.due((at - 1.0) as u64) <= number, "{number} at {frames_per_second}");
            }
            assert_eq!(pace.total(1_000_000_000), frames_per_second as u64);
        }
        assert_eq!(Pace { frames_per_second: 2.5 }.total(1_000_000_000), 3);
    }
}
