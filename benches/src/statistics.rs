//! Medians and quartiles, and how sure we are of a ratio.

/// Resamples behind an interval: its ends then move by well under a percent between runs.
const RESAMPLES: usize = 10_000;

/// The middle of a sample, and where its inner half lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the sample lies below.
    pub low: f64,
    /// Half of it does.
    pub median: f64,
    /// Three quarters do.
    pub high: f64,
}

impl Spread {
    /// The spread of `sample`; `None` if it is empty.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { low: at(0.25)?, median: at(0.5)?, high: at(0.75)? })
    }
}

/// The median of `sample`; `None` if it is empty.
pub fn median(sample: &[f64]) -> Option<f64> {
    Spread::of(sample).map(|spread| spread.median)
}

/// The quantile of a sorted sample, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * sorted.len().checked_sub(1)? as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    Some(below + (above - below) * position.fract())
}

/// A ratio of medians with its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// The interval's lower end.
    pub low: f64,
    /// Median over median.
    pub value: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// What one round of a comparison gave: the numerator's sample and the denominator's.
pub type Round = (Vec<f64>, Vec<f64>);

/// The median of all numerators over that of all denominators, with a bootstrap interval.
///
/// Windows of one round share what its processes were dealt (where their memory lies), so rounds
/// are drawn anew, with replacement, and then the windows within each. The draws are the same in
/// every run. `None` for under three windows a side.
pub fn ratio(rounds: &[Round]) -> Option<Ratio> {
    // A round whose placement changed half-way may have only one side in this label.
    let rounds: Vec<&Round> =
        rounds.iter().filter(|r| !r.0.is_empty() && !r.1.is_empty()).collect();
    let numerator: Vec<f64> = rounds.iter().flat_map(|round| round.0.iter().copied()).collect();
    let denominator: Vec<f64> = rounds.iter().flat_map(|round| round.1.iter().copied()).collect();
    if numerator.len().min(denominator.len()) < 3 {
        return None;
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let (mut above, mut below) = (Vec::new(), Vec::new());
        for _ in 0..rounds.len() {
            let round = rounds[random.below(rounds.len())];
            random.draw(&round.0, &mut above);
            random.draw(&round.1, &mut below);
        }
        ratios.push(median(&above)? / median(&below)?);
    }
    ratios.sort_by(f64::total_cmp);
    Some(Ratio {
        low: quantile(&ratios, 0.025)?,
        value: median(&numerator)? / median(&denominator)?,
        high: quantile(&ratios, 0.975)?,
    })
}

/// The 95 % bootstrap interval of the median of `sample`; `None` if it is empty. The draws are the
/// same in every run.
pub fn median_interval(sample: &[f64]) -> Option<[f64; 2]> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut medians = Vec::with_capacity(RESAMPLES);
    let mut drawn = Vec::with_capacity(sample.len());
    for _ in 0..RESAMPLES {
        drawn.clear();
        random.draw(sample, &mut drawn);
        medians.push(median(&drawn)?);
    }
    medians.sort_by(f64::total_cmp);
    Some([quantile(&medians, 0.025)?, quantile(&medians, 0.975)?])
}

/// Jain's index of fairness: 1 where all shares are equal, 1/n where one of n has everything;
/// `None` if nobody has anything.
pub fn fairness(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// The upper end of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// The median.
    pub median: f64,
    /// One in a hundred lies above.
    pub percentile_99: f64,
    /// The largest.
    pub greatest: f64,
}

impl Tail {
    /// The tail of `sample`; `None` if it is empty.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { median: at(0.5)?, percentile_99: at(0.99)?, greatest: at(1.0)? })
    }
}

/// splitmix64: small, and good enough to pick windows and pauses. Equal seeds, equal numbers.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// Adds as many values as `sample` has, each drawn from all of it.
    fn draw(&mut self, sample: &[f64], drawn: &mut Vec<f64>) {
        drawn.extend((0..sample.len()).map(|_| sample[self.below(sample.len())]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_interpolate() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { low: 1.75, median: 2.5, high: 3.25 });
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_tail_is_the_upper_end() {
        let sample: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let tail = Tail { median: 50.0, percentile_99: 99.0, greatest: 100.0 };
        assert_eq!(Tail::of(&sample), Some(tail));
        assert_eq!(Tail::of(&[]), None);
    }

    #[test]
    fn interval_holds_the_ratio_and_narrows_with_the_spread() {
        let steady: Vec<f64> = (0..20).map(|i| 10.0 + f64::from(i % 5) * 0.01).collect();
        let noisy: Vec<f64> = (0..20).map(|i| 10.0 + f64::from(i % 5)).collect();
        let narrow = ratio(&[(steady.clone(), steady.clone())]).unwrap();
        let wide = ratio(&[(noisy, steady.clone())]).unwrap();
        assert!(narrow.low <= 1.0 && 1.0 <= narrow.high);
        assert!(wide.low <= wide.value && wide.value <= wide.high);
        assert!(narrow.high - narrow.low < wide.high - wide.low);
        assert!(ratio(&[(steady[..2].to_vec(), steady)]).is_none());
    }

    #[test]
    fn a_median_s_interval_holds_it_and_is_the_same_each_time() {
        let sample = [10.0, 11.0, 9.0, 10.5, 9.5, 30.0, 10.2];
        let [low, high] = median_interval(&sample).unwrap();
        assert!((9.0..10.2).contains(&low) && high > 10.2, "{low} {high}");
        assert_eq!(median_interval(&sample), Some([low, high]));
        assert_eq!(median_interval(&[4.0]), Some([4.0, 4.0]));
        assert_eq!(median_interval(&[]), None);
    }

    #[test]
    fn fairness_is_one_for_equals_and_a_share_for_one_who_has_all() {
        assert_eq!(fairness(&[3.0; 5]), Some(1.0));
        assert_eq!(fairness(&[0.0, 0.0, 8.0, 0.0]), Some(0.25));
        assert_eq!(fairness(&[1.0, 3.0]), Some(0.8));
        assert_eq!((fairness(&[]), fairness(&[0.0])), (None, None));
    }

    #[test]
    fn rounds_that_disagree_widen_the_interval() {
        let round = |bias: f64| (vec![10.0 + bias; 5], vec![10.0; 5]);
        let agreeing = ratio(&[round(0.0), round(0.0), round(0.0)]).unwrap();
        let differing = ratio(&[round(-0.5), round(0.0), round(0.5)]).unwrap();
        assert_eq!((agreeing.low, agreeing.high), (1.0, 1.0));
        assert!(differing.low < 0.96 && differing.high > 1.04);
        assert!(ratio(&[round(0.0), (vec![1.0], vec![])]).is_some());
    }
}
