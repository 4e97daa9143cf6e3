//! Whether a receiver that hangs holds up what its sender has for others (RFC 2889, 5.5).

use super::{
    Figure, Method, Needs, ROUNDS, Taken, beyond, bound_of, lane, missed_share, switch_loss,
};
use crate::error::Result;
use crate::statistics::median;
use crate::suite::bench::Bench;
use crate::suite::frame::Stream;
use crate::suite::joint::{Joint, Lane};
use crate::suite::record::Better;
use crate::suite::site::Site;
use crate::suite::trial::Outcome;

/// Who sends, who receives, who hangs.
const SENDER: usize = 0;
const RECEIVER: usize = 1;
const HANGING: usize = 2;
/// What goes to either receiver, as a share of PDR: together it is no challenge.
const SHARE: f64 = 0.25;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "head-of-line",
    explanation: [
        "One port sends a quarter of PDR each to two. What one of these loses more",
        "when the other one hangs is head-of-line blocking (RFC 2889, 5.5).",
    ],
    needs: Needs::vms(3),
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let rate = SHARE * bench.partial(site, bytes)?;
    let length_ns = bench.profile.trial_ns / ROUNDS as u64;
    let lanes = lanes(|from, to| site.stream_between(from, to, bytes), rate);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut trial = |lanes| -> Result<Vec<Outcome>> {
            let joint = Joint { length_ns, ..bench.joint(lanes) };
            Ok(bench.jointly_by(site, joint)?.remove(0))
        };
        rounds.push([trial(&lanes)?, trial(&hung(&lanes))?]);
    }
    Ok(figures(&rounds).into())
}

/// So many frames a second to either receiver.
fn lanes(stream: impl Fn(usize, usize) -> Stream, frames_per_second: f64) -> [Lane; 2] {
    [RECEIVER, HANGING].map(|to| lane(stream(SENDER, to), (SENDER, to), frames_per_second))
}

/// The same while the second receiver is not looked at.
fn hung(lanes: &[Lane; 2]) -> [Lane; 2] {
    let [taken, hanging] = lanes.clone();
    [taken, Lane { to: vec![], ..hanging }]
}

/// What came of the frames to the first receiver, in pairs of trials in which the second one takes
/// its frames and hangs.
fn figures(rounds: &[[Vec<Outcome>; 2]]) -> Vec<Figure> {
    let bound = bound_of(missed_share(rounds.iter().flatten().flatten()));
    let loss = |trial: &Vec<Outcome>| 100.0 * trial.iter().map(switch_loss).sum::<f64>();
    let losses = rounds.iter().map(|[free, hung]| (loss(free), loss(hung)));
    let free: Vec<f64> = losses.clone().map(|(free, _)| free).collect();
    let figure = |metric, value: Option<f64>| {
        Some(Figure::new(metric, "%", Better::Lower, value?).bounded(bound))
    };
    let figures = [
        figure("extra loss beside a port that hangs", beyond(losses)),
        figure("loss beside one that does not", median(&free)),
    ];
    figures.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub::{self, Law};
    use crate::suite::methods::tests::outcome;
    use crate::suite::record::Bound;

    /// The figures of a hub with queues of 100 frames, at 50,000 frames a second to either port;
    /// and what is in the one of the port that hangs.
    fn losses(law: Law) -> ([f64; 2], usize) {
        let free = lanes(hub::stream, 50_000.0);
        let (mut free_outcomes, _) = hub::offer(law.clone(), 100, hub::joint(&free));
        let (mut outcomes, left) = hub::offer(law, 100, hub::joint(&hung(&free)));
        let figures = figures(&[[free_outcomes.remove(0), outcomes.remove(0)]]);
        ([figures[0].value, figures[1].value], left[HANGING])
    }

    #[test]
    fn a_switch_in_which_all_wait_behind_the_first_blocks_nearly_everything() {
        let ([loss, free], left) = losses(Law::InOrder);
        // Of 5,000 frames to the other port those come that are before the 101st to the one that
        // hangs, which all behind it wait for: 1 in 50.
        assert!((97.5..98.5).contains(&loss) && left == 100, "{loss} %, {left}");
        assert_eq!(free, 0.0);
    }

    #[test]
    fn a_switch_that_drops_what_has_no_room_blocks_nothing() {
        assert_eq!(losses(Law::AtOnce), ([0.0, 0.0], 100));
    }

    #[test]
    fn what_is_lost_beside_a_port_that_takes_all_is_not_blocked_nor_is_what_was_missed() {
        let of = |received| vec![outcome(1000, received)];
        let figures = figures(&[[of(990), of(980)], [of(700), of(980)], [of(990), of(980)]]);
        let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        assert!((values[0] - 1.0).abs() < 1e-9 && (values[1] - 1.0).abs() < 1e-9, "{values:?}");
        let late = || vec![Outcome { missed: 100, ..outcome(1000, 891) }];
        let figures = super::figures(&[[late(), late()]]);
        assert_eq!((figures[0].value, figures[0].bound), (0.0, Bound::Generator));
        assert_eq!(figures[1].value, 1.0);
    }
}
