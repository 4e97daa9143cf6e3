//! Times, counted in buckets whose width is below a hundredth of the times in them.
//!
//! Each power of two has 128 buckets, as in HdrHistogram: a percentile is off by less than 0.8 %
//! whatever its size, and recording is an addition.

/// Bits of a value that a bucket keeps beside the leading one.
const PRECISION_BITS: u32 = 7;
/// Values below this have a bucket each.
const EXACT: u64 = 2 << PRECISION_BITS;
/// Buckets for all of `u64`.
const BUCKETS: usize = (65 - PRECISION_BITS as usize) << PRECISION_BITS;

/// How often each time came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    greatest: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// One with nothing in it.
    #[must_use]
    pub fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], count: 0, greatest: 0 }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.greatest = self.greatest.max(value);
    }

    /// Counts all that another has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.greatest = self.greatest.max(other.greatest);
    }

    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The greatest value; `None` if there was none.
    #[must_use]
    pub fn greatest(&self) -> Option<u64> {
        (self.count > 0).then_some(self.greatest)
    }

    /// The least value that a share of all (0 to 1) does not exceed, at most 0.8 % too high;
    /// `None` if there was none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        let index = self.counts.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        Some(last(index).min(self.greatest))
    }

    /// The complementary distribution: values, and the share of all above each.
    #[must_use]
    pub fn exceeding(&self) -> Vec<(u64, f64)> {
        let mut above = self.count;
        let mut points = Vec::new();
        for (index, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            above -= count;
            points.push((last(index).min(self.greatest), above as f64 / self.count as f64));
        }
        points
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let shift = value.ilog2() - PRECISION_BITS;
    ((shift as usize) << PRECISION_BITS) + (value >> shift) as usize
}

/// The greatest value of a bucket.
fn last(bucket: usize) -> u64 {
    if (bucket as u64) < EXACT {
        return bucket as u64;
    }
    let shift = (bucket >> PRECISION_BITS) - 1;
    let top = (bucket - (shift << PRECISION_BITS)) as u64;
    (top << shift) + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front_end::station::Noise;

    #[test]
    fn buckets_hold_what_falls_into_them_and_are_narrow() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1 << bits) + 1, (1_u64 << bits).wrapping_sub(1)] {
                let last = last(bucket(value));
                assert!(last >= value, "{value} in a bucket up to {last}");
                assert!(last - value <= value / 128, "{value} in a bucket up to {last}");
                assert!(last == u64::MAX || bucket(last + 1) == bucket(value) + 1, "{value}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        for seed in 0..20 {
            println!("seed {seed}");
            let mut noise = Noise::new(seed);
            let mut values: Vec<u64> =
                (0..1 + noise.below(2000)).map(|_| noise.next_word() >> noise.below(64)).collect();
            let mut histogram = Histogram::new();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            for share in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let rank = (share * values.len() as f64).ceil() as usize;
                let exact = values[rank.clamp(1, values.len()) - 1];
                let found = histogram.quantile(share).unwrap();
                assert!(
                    found >= exact && found - exact <= exact / 128,
                    "{share}: {found}, {exact}"
                );
            }
            assert_eq!(histogram.greatest(), values.last().copied());
        }
        assert_eq!(Histogram::new().quantile(0.5), None);
        assert_eq!(Histogram::new().greatest(), None);
    }

    #[test]
    fn two_added_are_one_and_the_last_point_has_nothing_above() {
        let (mut all, mut odd, mut even) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..1000_u64 {
            all.record(value);
            if value % 2 == 1 { odd.record(value) } else { even.record(value) }
        }
        odd.add(&even);
        assert_eq!(odd, all);
        let points = all.exceeding();
        assert_eq!(points[0], (0, 0.999));
        assert_eq!(points.last(), Some(&(999, 0.0)));
    }
}
