//! The adjacent bridge's side: a learning VLAN bridge, whose channel members may
//! get frames back that came from them (reflective relay, 802.1Q-2022 8.6.1).

use super::owner::Destination;
use super::{Admitted, Audience, Reach, Roles, Verdict};
use crate::ledger::DropReason;
use crate::snapshot::{PortId, ReflectiveRelay, RelayPort, Role};

/// A frame from a VM's port on a bridge.
#[inline]
#[must_use]
pub fn from_port(frame: &Admitted, destination: Destination) -> Verdict {
    match destination {
        Destination::Owned(owner, _) if owner == frame.ingress => {
            Verdict::Drop(DropReason::OwnAddress)
        }
        Destination::Owned(owner, _) => Verdict::To(owner),
        Destination::Group => members(frame, Some(frame.ingress), Reach::Members),
        Destination::Unknown => members(frame, Some(frame.ingress), Reach::Unregistered),
    }
}

/// A frame from a channel of a bridge link; `role` is the channel's.
#[inline]
#[must_use]
pub fn from_channel(frame: &Admitted, role: Role, destination: Destination) -> Verdict {
    let reflects = matches!(role, Role::BridgeChannel(ReflectiveRelay::On { .. }));
    let except = (!reflects).then_some(frame.ingress);
    match destination {
        Destination::Owned(owner, _) if Some(owner) == except => {
            Verdict::Drop(DropReason::ReflectionOff)
        }
        Destination::Owned(owner, _) => Verdict::To(owner),
        Destination::Group => members(frame, except, Reach::Members),
        Destination::Unknown => members(frame, except, Reach::Unregistered),
    }
}

fn members(frame: &Admitted, except: Option<PortId>, reach: Reach) -> Verdict {
    let nobody = match reach {
        Reach::Members => DropReason::NoReceiver,
        Reach::Unregistered => DropReason::UnknownUnicast,
    };
    let roles = Roles::All;
    Verdict::Flood(Audience { vid: frame.vid, except, roles, reach, uplink: None, nobody })
}

/// For the copy of a group frame that goes back to the channel it came from, the
/// rate in frames per second that such copies may have; nothing for others.
#[inline]
#[must_use]
pub fn reflected_group_rate(frame: &Admitted, egress: PortId, port: &RelayPort) -> Option<u32> {
    match port.role {
        Role::BridgeChannel(ReflectiveRelay::On { group_rate })
            if egress == frame.ingress && frame.destination.is_group() =>
        {
            Some(group_rate)
        }
        _ => None,
    }
}
