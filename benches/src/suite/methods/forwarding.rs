//! What is forwarded of a load that is always there.

use super::{Figure, Method, Needs, Taken};
use crate::error::Result;
use crate::suite::bench::{Bench, is_near_ceiling};
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;

/// A generator that waits for less of its time than this sets the rate itself.
pub const WAITING_SHARE: f64 = 0.1;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "forwarding",
    explanation: [
        "Frames forwarded in a second with 256 under way at all times (closed loop).",
        "Marked as bound by a generator that hardly waits, or is near its self-test.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let (value, waited) = bench.forwarding(site, bytes)?;
    let own = waited < WAITING_SHARE || is_near_ceiling(value, bench.ceiling(bytes)?);
    let figure = Figure {
        metric: "forwarding rate".to_owned(),
        unit: "frames/s",
        better: Better::Higher,
        load: None,
        value,
        bound: if own { Bound::Generator } else { Bound::None },
    };
    Ok(Taken { figures: vec![figure], ..Taken::default() })
}
