//! Whether all who send to one get the same of it.

use super::{Figure, Method, Needs, Taken, bound_of, lane, missed_share};
use crate::error::{Result, RigError};
use crate::statistics::fairness;
use crate::suite::bench::Bench;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::site::Site;

/// Who sends; the receiver is port 1.
const SENDERS: [usize; 3] = [0, 2, 3];
const RECEIVER: usize = 1;
/// What each offers, as a share of what one alone could have forwarded: too much together.
const SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "fairness",
    explanation: [
        "Three ports send to one, each half of what one alone gets through: the sum,",
        "and Jain's index of what comes of each (1: the same, 1/3: one has it all).",
    ],
    needs: Needs { ports: 4, kinds: &[Kind::Vm] },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let rate = SHARE * bench.forwarding_rate(site, bytes)?;
    let lanes = SENDERS.map(|from| lane(site, (from, RECEIVER), bytes, rate));
    let outcomes = bench.jointly(site, &lanes)?;
    let bound = bound_of(missed_share(outcomes.iter().flatten()));
    let came: Vec<f64> =
        outcomes.iter().flatten().map(|outcome| outcome.counts.received as f64).collect();
    let index = fairness(&came).ok_or_else(|| RigError::new("nothing of three loads came"))?;
    let seconds = bench.profile.trial_ns as f64 / 1e9;
    let sum = came.iter().sum::<f64>() / seconds;
    Ok(vec![
        Figure::new("Jain's index", "", Better::Higher, index).bounded(bound),
        Figure::new("sum", "frames/s", Better::Higher, sum).bounded(bound),
    ]
    .into())
}
