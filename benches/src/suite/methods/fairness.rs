//! Whether all who send to one that cannot take it all get the same of it.

use super::{CONTESTED_SHARE, Figure, Method, Needs, Taken, lane, switch_loss};
use crate::error::{Result, RigError};
use crate::statistics::fairness;
use crate::suite::bench::Bench;
use crate::suite::frame::Stream;
use crate::suite::joint::{Dozer, Joint, Lane};
use crate::suite::record::{Better, Bound};
use crate::suite::setting::Lengths;
use crate::suite::site::Site;
use crate::suite::trial::Outcome;

/// Who sends; the receiver is port 1.
const SENDERS: [usize; 3] = [0, 2, 3];
const RECEIVER: usize = 1;
/// What each offers, as a share of what one alone gets through.
const SHARE: f64 = 0.5;
/// What the receiver takes, as a share of the same. Two thirds of what is offered have to be lost
/// however fast the switch is, and more than half of it where the generator comes to no more than
/// what one alone gets through.
const TAKEN_SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "fairness",
    explanation: [
        "Three ports send to one, each half of what one alone gets through, all that",
        "the one takes: Jain's index of the three (1: the same, 1/3: one has all).",
    ],
    needs: Needs::vms(4),
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let alone = bench.forwarding_rate(site, bytes)?;
    let lanes = lanes(|from, to| site.stream_between(from, to, bytes), SHARE * alone);
    let taken = TAKEN_SHARE * alone;
    let dozer = Some(Dozer::taking(RECEIVER, taken, Lengths::of(bytes).layout().entries));
    let outcomes = bench.jointly_by(site, Joint { dozer, ..bench.joint(&lanes) })?;
    Ok(figures(&outcomes.concat(), taken)?.into())
}

/// So many frames a second of each sender.
fn lanes(stream: impl Fn(usize, usize) -> Stream, frames_per_second: f64) -> [Lane; 3] {
    SENDERS.map(|from| lane(stream(from, RECEIVER), (from, RECEIVER), frames_per_second))
}

/// What came of each sender's frames at a receiver that takes so many a second.
fn figures(senders: &[Outcome], taken: f64) -> Result<Vec<Figure>> {
    // What the generator did not get to is nothing that a sender was refused.
    let shares: Vec<f64> = senders.iter().map(|one| 1.0 - switch_loss(one)).collect();
    let index = fairness(&shares).ok_or_else(|| RigError::new("nothing of three loads came"))?;
    let lost = 1.0 - shares.iter().sum::<f64>() / shares.len() as f64;
    let bound = if lost < CONTESTED_SHARE { Bound::Generator } else { Bound::None };
    let came: u64 = senders.iter().map(|one| one.counts.received).sum();
    let seconds = senders.iter().map(|one| one.length_ns).max().unwrap_or_default() as f64 / 1e9;
    let used = 100.0 * came as f64 / (taken * seconds);
    Ok(vec![
        Figure::new("Jain's index", "", Better::Higher, index).bounded(bound),
        Figure::new("of what the receiver takes, used", "%", Better::Higher, used).bounded(bound),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub::{self, Law};
    use crate::suite::methods::tests::outcome;

    /// What three senders of 50,000 frames a second each get through a hub that carries as many
    /// as the receiver takes, of each so many in a row.
    fn index(turns: [usize; 4]) -> (f64, Bound) {
        let law = Law::ByTurns { frames_per_second: 50_000.0, turns: turns.to_vec() };
        let lanes = lanes(hub::stream, 50_000.0);
        let (outcomes, _) = hub::offer(law, 8, hub::joint(&lanes));
        let figures = figures(&outcomes.concat(), 50_000.0).unwrap();
        let used = figures[1].value;
        // What waits at the end comes, too.
        assert!((99.0..105.0).contains(&used), "{used} %");
        (figures[0].value, figures[0].bound)
    }

    #[test]
    fn a_switch_that_serves_all_alike_is_fair() {
        let (index, bound) = index([1, 0, 1, 1]);
        assert!(index > 0.999, "{index}");
        assert_eq!(bound, Bound::None);
    }

    #[test]
    fn one_that_serves_one_more_than_others_is_as_unfair_as_that() {
        // Shares of 4, 2 and 1: (4 + 2 + 1)² / 3 (4² + 2² + 1²).
        let (unfair, _) = index([4, 0, 2, 1]);
        assert!((unfair - 49.0 / 63.0).abs() < 0.01, "{unfair}");
        let (starving, _) = index([64, 0, 0, 0]);
        assert!((starving - 1.0 / 3.0).abs() < 0.01, "{starving}");
    }

    #[test]
    fn a_receiver_that_takes_less_makes_them_contend_at_a_switch_that_could_carry_all() {
        let lanes = lanes(hub::stream, 50_000.0);
        let dozer = Some(Dozer::taking(RECEIVER, 50_000.0, 100));
        let joint = Joint { dozer, ..hub::joint(&lanes) };
        let (outcomes, _) = hub::offer(Law::AtOnce, 100, joint);
        let figures = figures(&outcomes.concat(), 50_000.0).unwrap();
        assert!(figures[0].value > 0.99 && figures[0].bound == Bound::None, "{figures:?}");
        assert!((98.0..102.0).contains(&figures[1].value), "{figures:?}");
    }

    #[test]
    fn what_the_generator_missed_makes_nobody_unfair_and_who_lost_nothing_had_no_need() {
        let late = Outcome { missed: 500, ..outcome(1000, 250) };
        let figures = figures(&[late, outcome(1000, 500), outcome(1000, 500)], 1250.0).unwrap();
        assert_eq!((figures[0].value, figures[0].bound), (1.0, Bound::None));
        assert_eq!(figures[1].value, 100.0);
        let whole = [outcome(1000, 1000), outcome(1000, 1000), outcome(1000, 990)];
        assert_eq!(super::figures(&whole, 1e4).unwrap()[0].bound, Bound::Generator);
        assert!(super::figures(&[outcome(1000, 0), outcome(10, 0)], 1e4).is_err());
    }
}
