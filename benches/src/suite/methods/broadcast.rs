//! Frames to everybody (RFC 2889, 5.10): how many, and how long they take.

use super::{Figure, Method, Needs, Taken, bound_of, missed_share};
use crate::error::Result;
use crate::suite::bench::{Bench, PARTIAL};
use crate::suite::frame::Stream;
use crate::suite::joint::Lane;
use crate::suite::pace::Pace;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::search::{Goal, search};
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};
use hairpin_dataplane::wire::Mac;

/// Ports: one sends, the others receive.
const PORTS: usize = 4;
/// How far below unicast's rate the search may end.
const LEAST: f64 = 0.005;
/// Of the highest load, that at which latency is looked at.
const LATENCY_SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "broadcast",
    explanation: [
        "The highest load of broadcasts to three ports of whose copies at most 0.1 %",
        "is lost; at half of it, the mean over the ports of their median latency.",
    ],
    needs: Needs { ports: PORTS, kinds: &[Kind::Vm] },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let highest = bench.forwarding_rate(site, bytes)?;
    let goal = Goal { loss: PARTIAL, precision: bench.profile.precision };
    let mut missed = 0.0;
    let found = search(goal, (LEAST * highest, highest), |rate| {
        let copies = offer(bench, site, bytes, rate)?;
        let loss = copies_lost(&copies);
        if loss > PARTIAL {
            missed = missed_share(&copies);
        }
        Ok(loss)
    })?;
    let Some(passed) = found.passed else { return Ok(Taken::default()) };
    let copies = offer(bench, site, bytes, LATENCY_SHARE * passed)?;
    let mut figures = vec![
        Figure::new("broadcasts", "frames/s", Better::Higher, passed).bounded(bound_of(missed)),
    ];
    let medians = copies.iter().map(|copy| copy.latency.quantile(0.5));
    if let Some(medians) = medians.collect::<Option<Vec<u64>>>() {
        let mean = medians.iter().sum::<u64>() as f64 / medians.len() as f64;
        figures.push(Figure::new("latency p50, mean", "µs", Better::Lower, mean / 1000.0));
    }
    Ok(figures.into())
}

/// So many broadcasts a second: what came of them at each other port.
fn offer(bench: &mut Bench, site: &mut Site, bytes: usize, rate: f64) -> Result<Vec<Outcome>> {
    let unicast = site.stream_between(0, 1, bytes);
    let stream = Stream { destination: Mac::new([0xff; 6]).into(), ..unicast };
    let load = Load::Open(Pace { frames_per_second: rate });
    let lane = Lane { stream, load, from: 0, to: (1..PORTS).collect() };
    Ok(bench.jointly(site, &[lane])?.remove(0))
}

/// The share of all copies that did not come.
fn copies_lost(copies: &[Outcome]) -> f64 {
    let (lost, offered) = copies
        .iter()
        .fold((0, 0), |(lost, offered), copy| (lost + copy.lost(), offered + copy.offered));
    lost as f64 / offered.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::methods::tests::outcome;

    #[test]
    fn a_copy_that_one_port_does_not_get_is_a_third_of_a_loss() {
        let copies = [outcome(1000, 1000), outcome(1000, 997), outcome(1000, 1000)];
        assert_eq!(copies_lost(&copies), 0.001);
    }
}
