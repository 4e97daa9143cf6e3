//! Frames to many addresses.

use hairpin_dataplane::wire::Mac;

use super::{Figure, Method, Needs, Taken, bound_of_loop};
use crate::error::Result;
use crate::suite::bench::{Bench, WINDOW};
use crate::suite::frame::{FLOWS_MAX, Stations, Stream};
use crate::suite::joint::Lane;
use crate::suite::pace::Pace;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::setting::Addresses;
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};

/// Addresses, and what their figure is called.
const ADDRESSES: [(u32, &str); 4] = [
    (1, "forwarding rate, 1 address"),
    (1000, "forwarding rate, 1,000 addresses"),
    (100_000, "forwarding rate, 100,000 addresses"),
    (1_000_000, "forwarding rate, 1,000,000 addresses"),
];
const _: () = assert!(ADDRESSES[3].0 <= FLOWS_MAX);
/// Who gets what is flooded.
const MONITOR: usize = 2;
/// The first of them.
const FIRST: Mac = Mac::new([0x52, 0x54, 0x42, 0, 0, 0]);
/// Of the rate of a closed loop, that at which addresses speak.
const SHARE: f64 = 0.25;
/// How often addresses speak at most: a switch that learns more slowly than that rate loses some.
const ROUNDS: usize = 4;
/// Of the frames that were offered, so many have to come, and to nobody else.
const WHOLE: f64 = 0.99;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "scale",
    explanation: [
        "Frames forwarded to 1, 1,000, 100,000, 1,000,000 learned addresses by turns:",
        "closed loop, as in forwarding. A note says which a switch does not know.",
    ],
    needs: Needs { addresses: Addresses::Learned, ..Needs::at(3, &Kind::FRAMES) },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let (from, to) = site.scenario.path;
    let rate = SHARE * bench.forwarding_rate(site, bytes)?;
    let mut taken = Taken::default();
    for (count, metric) in ADDRESSES {
        let destination = Stations { first: FIRST, count };
        let plain = site.stream(bytes);
        let stream = Stream { destination, flows: plain.flows.max(count), ..plain };
        // As many frames as addresses, each from another one.
        let said = Stream { flows: count, ..stream.turned() };
        let load = Load::Open(Pace { frames_per_second: rate });
        let said = Lane { stream: said, load, from: to, to: vec![from] };
        let asked = Lane { stream, load, from, to: vec![to, MONITOR] };
        let length_ns = (f64::from(count) * 1e9 / rate) as u64;
        let mut flooded = 1.0;
        for _ in 0..ROUNDS {
            bench.jointly_for(site, std::slice::from_ref(&said), length_ns)?;
            let outcomes = bench.jointly_for(site, std::slice::from_ref(&asked), length_ns)?;
            flooded = outcomes[0].last().map_or(0.0, came);
            if is_known(flooded, 1.0) {
                break;
            }
        }
        let outcome = bench.trial_of(site, stream, Load::Closed { window: WINDOW })?;
        match outcome.forwarded_per_second() {
            Some(rate) if is_known(flooded, came(&outcome)) => {
                let figure = Figure::new(metric, "frames/s", Better::Higher, rate);
                taken.figures.push(figure.bounded(bound_of_loop(&outcome)));
            }
            _ => taken.notes.push(format!(
                "not measured: {metric}: {:.1} % were flooded, and {:.1} % came",
                100.0 * flooded,
                100.0 * came(&outcome)
            )),
        }
    }
    Ok(taken)
}

/// The share of frames that came to a port, 0 to 1.
fn came(outcome: &Outcome) -> f64 {
    outcome.counts.received as f64 / outcome.offered.max(1) as f64
}

/// Whether a switch knows addresses, if these shares of frames to them went to somebody else, too,
/// and came.
fn is_known(flooded: f64, came: f64) -> bool {
    flooded <= 1.0 - WHOLE && came >= WHOLE
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    #[test]
    fn a_rate_counts_only_if_frames_came_and_were_not_flooded() {
        assert_eq!(came(&outcome(1000, 990)), 0.99);
        assert!(is_known(0.0, 1.0) && is_known(0.005, 0.995));
        assert!(!is_known(0.02, 1.0), "flooded");
        assert!(!is_known(0.0, 0.98), "lost");
        assert!(!is_known(0.0, came(&outcome(0, 0))), "nothing was offered");
    }
}
