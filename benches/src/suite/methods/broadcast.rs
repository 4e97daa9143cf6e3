//! Frames to everybody (RFC 2889, 5.10): how many, and how long they take.
//!
//! How many is found by a closed loop. The highest load without loss is none of the switch's on a
//! machine that is shared: whenever it has to wait for its CPU for a tick of 4 ms, what exceeds a
//! ring of 1024 in that time is lost, which befalls every load above 256,000 frames/s.

use super::{Figure, Method, Needs, Taken, forwarding};
use crate::error::{Result, RigError};
use crate::suite::bench::{Bench, WINDOW};
use crate::suite::frame::Stream;
use crate::suite::joint::Lane;
use crate::suite::pace::Pace;
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};
use hairpin_dataplane::wire::Mac;

/// Ports: one sends, the others receive.
const PORTS: usize = 4;
/// Of what is forwarded, the load at which latency is looked at.
const LATENCY_SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "broadcast",
    explanation: [
        "Broadcasts that come to the slowest of three ports, 256 under way, and lost",
        "copies; at half of that rate, the mean of the three median latencies.",
    ],
    needs: Needs::vms(PORTS),
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let unicast = site.stream_between(0, 1, bytes);
    let closed = lane(unicast, Load::Closed { window: WINDOW });
    let copies = bench.jointly(site, &[closed])?.concat();
    let rate = slowest(&copies)?;
    let load = Load::Open(Pace { frames_per_second: LATENCY_SHARE * rate });
    let half = bench.jointly(site, &[lane(unicast, load)])?.concat();
    let mut figures = vec![
        Figure::new("broadcasts", "frames/s", Better::Higher, rate).bounded(bound(&copies)),
        Figure::new("copies lost", "%", Better::Lower, 100.0 * copies_lost(&copies)),
    ];
    if let Some(us) = mean_median_us(&half) {
        figures.push(Figure::new("latency p50, mean", "µs", Better::Lower, us));
    }
    Ok(figures.into())
}

/// Frames like these, but to everybody.
fn lane(unicast: Stream, load: Load) -> Lane {
    let stream = Stream { destination: Mac::new([0xff; 6]).into(), ..unicast };
    Lane { stream, load, from: 0, to: (1..PORTS).collect() }
}

/// What the port gets that gets least, in frames a second.
fn slowest(copies: &[Outcome]) -> Result<f64> {
    let rates = copies.iter().map(Outcome::forwarded_per_second).collect::<Option<Vec<_>>>();
    let slowest = rates.and_then(|rates| rates.into_iter().reduce(f64::min));
    slowest.ok_or_else(|| RigError::new("there is a port to which no broadcast came"))
}

/// The generator sends once what it receives thrice: it hardly waits where it sets the rate.
fn bound(copies: &[Outcome]) -> Bound {
    let own = copies.iter().any(|copy| copy.waited() < forwarding::WAITING_SHARE);
    if own { Bound::Generator } else { Bound::None }
}

/// The share of all copies that did not come.
fn copies_lost(copies: &[Outcome]) -> f64 {
    let (lost, offered) = copies
        .iter()
        .fold((0, 0), |(lost, offered), copy| (lost + copy.lost(), offered + copy.offered));
    lost as f64 / offered.max(1) as f64
}

/// The mean over the ports of their median latency, in microseconds; `None` if there is a port to
/// which nothing came.
fn mean_median_us(copies: &[Outcome]) -> Option<f64> {
    let medians = copies.iter().map(|copy| copy.latency.quantile(0.5));
    let medians = medians.collect::<Option<Vec<u64>>>()?;
    Some(medians.iter().sum::<u64>() as f64 / medians.len() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub::{self, Law};
    use crate::suite::ledger::Arrivals;
    use crate::suite::methods::tests::outcome;

    /// What came of broadcasts at a hub, 256 under way.
    fn copies(law: Law) -> Vec<Outcome> {
        let lanes = [lane(hub::stream(0, 1), Load::Closed { window: WINDOW })];
        hub::offer(law, 1024, hub::joint(&lanes)).0.concat()
    }

    #[test]
    fn a_copy_that_one_port_does_not_get_is_a_third_of_a_loss() {
        let copies = [outcome(1000, 1000), outcome(1000, 997), outcome(1000, 1000)];
        assert_eq!(copies_lost(&copies), 0.001);
    }

    #[test]
    fn a_switch_that_carries_so_many_forwards_so_many_and_loses_none() {
        let law = Law::ByTurns { frames_per_second: 100_000.0, turns: vec![1; 4] };
        let copies = copies(law);
        let rate = slowest(&copies).unwrap();
        assert!((99_000.0..101_000.0).contains(&rate), "{rate}");
        assert_eq!((copies_lost(&copies), bound(&copies)), (0.0, Bound::None));
        // 256 are under way.
        let us = mean_median_us(&copies).unwrap();
        assert!((2400.0..2700.0).contains(&us), "{us} µs");
    }

    #[test]
    fn one_in_a_hundred_lost_at_one_port_is_a_third_of_a_percent_and_the_slowest_s_rate() {
        let copies = copies(Law::Loses { port: 2, one_in: 100 });
        let lost: Vec<u64> = copies.iter().map(Outcome::lost).collect();
        let offered = copies[0].offered;
        assert_eq!(lost, [0, offered / 100, 0]);
        let share = copies_lost(&copies);
        assert!((share - 0.01 / 3.0).abs() < 1e-5, "{share}");
        let (least, first) = (slowest(&copies).unwrap(), copies[0].forwarded_per_second().unwrap());
        assert!((0.985..0.995).contains(&(least / first)), "{least} of {first}");
        assert_eq!(bound(&copies), Bound::Generator, "the hub is faster than time");
    }

    #[test]
    fn a_port_to_which_nothing_comes_is_no_rate() {
        let arrivals = Some(Arrivals { first_ns: 0, last_ns: 1_000_000, longest_gap_ns: 10 });
        let there = Outcome { arrivals, ..outcome(1001, 1001) };
        assert_eq!(slowest(&[there.clone(), there.clone()]).unwrap(), 1e6);
        assert!(slowest(&[there, outcome(1001, 0)]).is_err());
        assert_eq!(mean_median_us(&[outcome(10, 0)]), None);
    }
}
