//! What comes from the cable to a station channel: frames of others, and frames of
//! our own that the adjacent bridge reflected.

use super::owner::{Destination, Source};
use super::{Admitted, Audience, Reach, Roles, Verdict};
use crate::ledger::DropReason;
use crate::snapshot::{Mode, PortId, Role};

/// A frame from the uplink (DESIGN 3, the lower rows): the owner of its source
/// says who has had it already.
#[inline]
#[must_use]
pub fn from_uplink(frame: &Admitted, source: Source, destination: Destination) -> Verdict {
    match destination {
        Destination::Owned(owner, role) => to_owner(source, owner, role),
        Destination::Group => {
            let nobody = match source {
                Source::Foreign | Source::Local(_, Mode::Direct) => DropReason::NoReceiver,
                Source::Local(_, Mode::Veb) => DropReason::LocalFrameReturned,
                Source::Local(_, Mode::Vepa | Mode::Private) => DropReason::OwnFrameReturned,
            };
            to_all(frame, source, Reach::Members, nobody)
        }
        Destination::Unknown => {
            to_all(frame, source, Reach::Unregistered, DropReason::UnknownUnicast)
        }
    }
}

/// Unicast to a local address.
fn to_owner(source: Source, owner: PortId, role: Role) -> Verdict {
    match (source, role) {
        (Source::Local(sender, _), _) if sender == owner => {
            Verdict::Drop(DropReason::OwnFrameReturned)
        }
        (Source::Local(_, Mode::Private), _)
        | (Source::Local(..), Role::Station(Mode::Private)) => Verdict::Drop(DropReason::Private),
        (Source::Local(_, Mode::Veb), Role::Station(Mode::Veb)) => {
            Verdict::Drop(DropReason::LocalFrameReturned)
        }
        _ => Verdict::To(owner),
    }
}

/// A group frame, or unicast that nobody here owns.
fn to_all(frame: &Admitted, source: Source, reach: Reach, nobody: DropReason) -> Verdict {
    let (roles, except) = match source {
        Source::Foreign | Source::Local(_, Mode::Direct) => (Roles::All, None),
        Source::Local(_, Mode::Veb) => (Roles::Vepa, None),
        Source::Local(owner, Mode::Vepa) => (Roles::VebAndVepa, Some(owner)),
        Source::Local(_, Mode::Private) => return Verdict::Drop(DropReason::OwnFrameReturned),
    };
    Verdict::Flood(Audience { vid: frame.vid, except, roles, reach, uplink: None, nobody })
}
