//! `direct`: a port that has its channel for itself, and the cable behind it.

use super::Verdict;
use crate::ledger::DropReason;
use crate::snapshot::PortId;

/// A frame from a `direct` port.
#[inline]
#[must_use]
pub fn from_station(uplink: Option<PortId>) -> Verdict {
    uplink.map_or(Verdict::Drop(DropReason::NoUplink), Verdict::To)
}

/// A frame for its channel.
#[inline]
#[must_use]
pub fn from_uplink(port: PortId) -> Verdict {
    Verdict::To(port)
}
