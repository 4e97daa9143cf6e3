//! The highest load with no more than some loss.
//!
//! Halving, between a load that passes and one that does not. Loss is verified (ETSI NFV-TST 009):
//! a trial that loses too much is done once more, and the load passes if the second trial does.
//! On a machine that is shared, one preemption would otherwise decide.

use crate::error::{Result, RigError};

/// What is searched for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Goal {
    /// The share of frames that may be lost, 0 to 1.
    pub loss: f64,
    /// The search ends when the two loads are no further apart than this share of the higher.
    pub precision: f64,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found {
    /// The highest load that passed, in frames a second; `None` if even the lowest did not.
    pub passed: Option<f64>,
    /// The lowest load that did not; `None` if even the highest did.
    pub failed: Option<f64>,
    /// Trials done.
    pub trials: u32,
}

/// Searches between two loads, in frames a second, both of which are tried. `attempt` does a
/// trial at a load and says which share of its frames was lost.
///
/// # Errors
/// Those of `attempt`, and bounds that are none.
pub fn search(
    goal: Goal,
    (lowest, highest): (f64, f64),
    mut attempt: impl FnMut(f64) -> Result<f64>,
) -> Result<Found> {
    if !(lowest > 0.0 && lowest <= highest && goal.precision > 0.0) {
        return Err(RigError::new(format!(
            "a search from {lowest} to {highest} frames/s to within {}: from above 0 upwards",
            goal.precision
        )));
    }
    let mut trials = 0;
    let mut passes = |load| -> Result<Verdict> {
        for _ in 0..2 {
            trials += 1;
            if attempt(load)? <= goal.loss {
                return Ok(Verdict::Passed);
            }
        }
        Ok(Verdict::Failed)
    };
    if passes(highest)? == Verdict::Passed {
        return Ok(Found { passed: Some(highest), failed: None, trials });
    }
    if passes(lowest)? == Verdict::Failed {
        return Ok(Found { passed: None, failed: Some(lowest), trials });
    }
    let (mut low, mut high) = (lowest, highest);
    while high - low > goal.precision * high {
        let middle = f64::midpoint(low, high);
        match passes(middle)? {
            Verdict::Passed => low = middle,
            Verdict::Failed => high = middle,
        }
    }
    Ok(Found { passed: Some(low), failed: Some(high), trials })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Passed,
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front_end::station::Noise;

    /// What a switch of this capacity loses.
    fn loss(capacity: f64, load: f64) -> f64 {
        (1.0 - capacity / load).max(0.0)
    }

    #[test]
    fn the_capacity_is_found_to_within_the_precision_whatever_it_is() {
        for seed in 0..100 {
            println!("seed {seed}");
            let mut noise = Noise::new(seed);
            let capacity = 1000.0 + noise.below(10_000_000) as f64;
            let allowed = [0.0, 0.001, 0.01][noise.below(3) as usize];
            let goal = Goal { loss: allowed, precision: 0.01 };
            let found = search(goal, (500.0, 20e6), |load| Ok(loss(capacity, load))).unwrap();
            // With so much loss allowed the bound is this much higher.
            let bound = capacity / (1.0 - allowed);
            let (passed, failed) = (found.passed.unwrap(), found.failed.unwrap());
            assert!(passed <= bound && bound < failed, "{passed} {bound} {failed}");
            assert!(failed - passed <= 0.01 * failed);
        }
    }

    #[test]
    fn one_bad_trial_does_not_decide_and_two_do() {
        let goal = Goal { loss: 0.001, precision: 0.01 };
        let mut number = 0;
        let found = search(goal, (1.0, 1e6), |load| {
            number += 1;
            Ok(if number % 2 == 1 { 0.5 } else { loss(300_000.0, load) })
        });
        let passed = found.unwrap().passed.unwrap();
        assert!((295_000.0..=300_301.0).contains(&passed), "{passed}");
        let found = search(goal, (1.0, 1e6), |_| Ok(0.002)).unwrap();
        assert_eq!(found, Found { passed: None, failed: Some(1.0), trials: 4 });
    }

    #[test]
    fn ends_of_the_range_are_said_to_be_so_and_nonsense_is_refused() {
        let goal = Goal { loss: 0.0, precision: 0.01 };
        let found = search(goal, (1.0, 1e6), |_| Ok(0.0)).unwrap();
        assert_eq!(found, Found { passed: Some(1e6), failed: None, trials: 1 });
        assert!(search(goal, (0.0, 1e6), |_| Ok(0.0)).is_err());
        assert!(search(goal, (2e6, 1e6), |_| Ok(0.0)).is_err());
        assert!(search(goal, (f64::NAN, 1e6), |_| Ok(0.0)).is_err());
    }
}
