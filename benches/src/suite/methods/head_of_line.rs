//! Whether a receiver that hangs holds up what its sender has for others (RFC 2889, 5.5).

use super::{Figure, Method, Needs, Taken, bound_of, lane, missed_share, switch_loss};
use crate::error::Result;
use crate::suite::bench::Bench;
use crate::suite::joint::Lane;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::site::Site;

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
        "One port sends a quarter of PDR each to two, of which one takes nothing:",
        "what the other loses is head-of-line blocking (RFC 2889, 5.5).",
    ],
    needs: Needs { ports: 3, kinds: &[Kind::Vm] },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let rate = SHARE * bench.partial(site, bytes)?;
    let to = |port| lane(site.stream_between(SENDER, port, bytes), (SENDER, port), rate);
    let lanes = [to(RECEIVER), Lane { to: vec![], ..to(HANGING) }];
    let outcomes = bench.jointly(site, &lanes)?;
    let lost = outcomes[0].iter().map(switch_loss).sum::<f64>();
    let bound = bound_of(missed_share(&outcomes[0]));
    let figure = Figure::new("loss beside a port that hangs", "%", Better::Lower, 100.0 * lost);
    Ok(vec![figure.bounded(bound)].into())
}
