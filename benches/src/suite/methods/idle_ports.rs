//! What ports cost that have nothing to say.

use super::{Figure, Method, Needs, Taken, forwarding};
use crate::error::Result;
use crate::suite::bench::{Bench, is_near_ceiling};
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;

/// Ports beside the two that are busy.
const SILENT: usize = 64;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "idle-ports",
    explanation: [
        "Frames forwarded as in forwarding, beside 64 more ports with silent VMs: to",
        "be compared with that test's figure.",
    ],
    needs: Needs::vms(2 + SILENT),
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let (rate, waited) = bench.forwarding(site, bytes)?;
    let own = waited < forwarding::WAITING_SHARE || is_near_ceiling(rate, bench.ceiling(bytes)?);
    let bound = if own { Bound::Generator } else { Bound::None };
    let figure =
        Figure::new("forwarding rate beside 64 silent ports", "frames/s", Better::Higher, rate);
    Ok(vec![figure.bounded(bound)].into())
}
