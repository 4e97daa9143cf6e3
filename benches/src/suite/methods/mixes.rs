//! Frames of many flows, and of several lengths.

use super::{Figure, Method, Needs, Taken, bound_of_loop};
use crate::error::{Result, RigError};
use crate::suite::bench::{Bench, WINDOW};
use crate::suite::frame::{FLOWS_MAX, Size, Stream};
use crate::suite::record::Better;
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};

/// Flows, and what their figure is called.
const FLOWS: [(u32, &str); 3] = [
    (1, "forwarding rate, 1 flow"),
    (10_000, "forwarding rate, 10,000 flows"),
    (1_000_000, "forwarding rate, 1,000,000 flows"),
];
const _: () = assert!(FLOWS[2].0 <= FLOWS_MAX);

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "mixes",
    explanation: [
        "Frames forwarded of 1, 10,000 and 1,000,000 flows by turns, and of IMIX",
        "(7 of 64 bytes, 4 of 570, 1 of 1518): closed loop, as in forwarding.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let mut figures = Vec::new();
    for (stream, metric) in streams(site.stream(bytes)) {
        let outcome = bench.trial_of(site, stream, Load::Closed { window: WINDOW })?;
        figures.push(figure(metric, &outcome)?);
    }
    Ok(figures.into())
}

/// Frames like these, but of so many flows, or lengths; and what their figures are called.
fn streams(plain: Stream) -> impl Iterator<Item = (Stream, &'static str)> {
    let flows = FLOWS.map(|(flows, metric)| (Stream { flows, ..plain }, metric));
    let imix = (Stream { size: Size::Imix, ..plain }, "forwarding rate, IMIX");
    flows.into_iter().chain([imix])
}

/// What came of some of them.
fn figure(metric: &str, outcome: &Outcome) -> Result<Figure> {
    let rate = outcome.forwarded_per_second();
    let rate = rate.ok_or_else(|| RigError::new(format!("{metric}: no frame came")))?;
    let figure = Figure::new(metric, "frames/s", Better::Higher, rate);
    Ok(figure.bounded(bound_of_loop(outcome)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub;
    use crate::suite::ledger::Arrivals;
    use crate::suite::methods::tests::outcome;

    #[test]
    fn only_flows_or_lengths_differ_and_each_mix_is_called_something_else() {
        let plain = hub::stream(0, 1);
        let mixes: Vec<(Stream, &str)> = streams(plain).collect();
        let flows: Vec<u32> = mixes.iter().map(|(stream, _)| stream.flows).collect();
        assert_eq!(flows, [1, 10_000, 1_000_000, 1]);
        assert_eq!(mixes[3].0, Stream { size: Size::Imix, ..plain });
        for (index, (stream, metric)) in mixes.iter().enumerate() {
            assert_eq!((stream.source, stream.destination), (plain.source, plain.destination));
            assert!(mixes[..index].iter().all(|(_, other)| other != metric));
        }
    }

    #[test]
    fn what_is_forwarded_is_what_came_in_the_time_it_came_in() {
        let arrivals = Some(Arrivals { first_ns: 500, last_ns: 1_000_500, longest_gap_ns: 10 });
        let some = Outcome { arrivals, ..outcome(2000, 1001) };
        assert_eq!(figure("forwarding rate, IMIX", &some).unwrap().value, 1e6);
        assert!(figure("forwarding rate, IMIX", &outcome(2000, 0)).is_err());
    }
}
