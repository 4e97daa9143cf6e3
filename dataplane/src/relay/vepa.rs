//! `vepa` and `private`: everything goes to the adjacent bridge.

use super::owner::Destination;
use super::{Admitted, Verdict};
use crate::ledger::DropReason;
use crate::snapshot::PortId;

/// A frame from a `vepa` or `private` port (DESIGN 3, second row).
#[inline]
#[must_use]
pub fn from_station(frame: &Admitted, destination: Destination, uplink: Option<PortId>) -> Verdict {
    match destination {
        Destination::Owned(owner, _) if owner == frame.ingress => {
            Verdict::Drop(DropReason::OwnAddress)
        }
        _ => uplink.map_or(Verdict::Drop(DropReason::NoUplink), Verdict::To),
    }
}
