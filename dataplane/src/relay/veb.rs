//! `veb`: switched locally, as by a virtual Ethernet bridge.

use super::owner::Destination;
use super::{Admitted, Audience, Reach, Roles, Verdict};
use crate::ledger::DropReason;
use crate::snapshot::{Mode, PortId, Role};

/// A frame from a `veb` port (DESIGN 3, first row).
#[inline]
#[must_use]
pub fn from_station(frame: &Admitted, destination: Destination, uplink: Option<PortId>) -> Verdict {
    match destination {
        Destination::Owned(owner, _) if owner == frame.ingress => {
            Verdict::Drop(DropReason::OwnAddress)
        }
        Destination::Owned(owner, Role::Station(Mode::Veb)) => Verdict::To(owner),
        Destination::Owned(..) => uplink.map_or(Verdict::Drop(DropReason::NoUplink), Verdict::To),
        Destination::Group => Verdict::Flood(others(frame, uplink, Reach::Members)),
        Destination::Unknown => Verdict::Flood(others(frame, uplink, Reach::Unregistered)),
    }
}

/// The other `veb` ports and the uplink.
#[inline(always)]
fn others(frame: &Admitted, uplink: Option<PortId>, reach: Reach) -> Audience {
    let nobody = match reach {
        Reach::Members => DropReason::NoReceiver,
        Reach::Unregistered => DropReason::UnknownUnicast,
    };
    let except = Some(frame.ingress);
    Audience { vid: frame.vid, except, roles: Roles::Veb, reach, uplink, nobody }
}
