//! Frames of many flows, and of several lengths.

use super::{Figure, Method, Needs, Taken};
use crate::error::{Result, RigError};
use crate::suite::bench::{Bench, WINDOW};
use crate::suite::frame::{FLOWS_MAX, Size, Stream};
use crate::suite::record::Better;
use crate::suite::site::Site;
use crate::suite::trial::Load;

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
    let plain = site.stream(bytes);
    let flows = FLOWS.map(|(flows, metric)| (Stream { flows, ..plain }, metric));
    let imix = (Stream { size: Size::Imix, ..plain }, "forwarding rate, IMIX");
    let mut figures = Vec::new();
    for (stream, metric) in flows.into_iter().chain([imix]) {
        let outcome = bench.trial_of(site, stream, Load::Closed { window: WINDOW })?;
        let rate = outcome.forwarded_per_second();
        let rate = rate.ok_or_else(|| RigError::new(format!("{metric}: no frame came")))?;
        figures.push(Figure::new(metric, "frames/s", Better::Higher, rate));
    }
    Ok(figures.into())
}
