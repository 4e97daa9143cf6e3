//! The way out: who gets a copy, and with which tags.

use super::{Admitted, Audience, Customer, Frame, Reach, Roles, Service, admit};
use crate::ledger::DropReason;
use crate::snapshot::{Admin, DomainId, Mode, PortId, RelayPort, Role, Snapshot, VlanPolicy};
use crate::wire::ethernet::TagEdit;
use crate::wire::offload::Segmentation;
use crate::wire::{Tci, Vid};

impl Audience {
    /// The relay ports that are asked whether they get a copy.
    #[inline]
    #[must_use]
    pub fn candidates<'s>(&self, snapshot: &'s Snapshot, domain: DomainId) -> &'s [PortId] {
        let Some(domain) = snapshot.domain(domain) else { return &[] };
        match self.reach {
            Reach::Members => &domain.ports,
            Reach::Unregistered => &domain.learners,
        }
    }

    /// Whether one of the candidates gets a copy. The uplink is apart.
    #[inline]
    fn includes(&self, id: PortId, port: &RelayPort) -> bool {
        port.admin == Admin::Up
            && self.except != Some(id)
            && self.roles.contain(port.role)
            && port.vlan.contains(self.vid)
    }

    /// Everybody who gets a copy, in the domain's order, the uplink last.
    #[inline]
    pub fn receivers<'s>(
        &self,
        snapshot: &'s Snapshot,
        domain: DomainId,
    ) -> impl Iterator<Item = PortId> + use<'s> {
        let audience = *self;
        let ports = self.candidates(snapshot, domain);
        let included =
            move |id: &PortId| snapshot.port(*id).is_some_and(|port| audience.includes(*id, port));
        ports.iter().copied().filter(included).chain(audience.uplink)
    }
}

impl Roles {
    #[inline]
    fn contain(self, role: Role) -> bool {
        match self {
            Roles::Veb => role == Role::Station(Mode::Veb),
            Roles::Vepa => role == Role::Station(Mode::Vepa),
            Roles::VebAndVepa => matches!(role, Role::Station(Mode::Veb | Mode::Vepa)),
            Roles::All => true,
        }
    }
}

/// How one copy of a frame leaves by a relay port: the change to its tags. Its
/// offload is to be shifted by [`TagEdit::delta`].
///
/// # Errors
/// [`DropReason::PortDown`], [`DropReason::MtuExceeded`].
#[inline]
pub fn plan(
    admitted: &Admitted,
    egress: &RelayPort,
    frame: &Frame<'_>,
) -> Result<TagEdit, DropReason> {
    if egress.admin == Admin::Down {
        return Err(DropReason::PortDown);
    }
    if !fits(egress.mtu, frame) {
        return Err(DropReason::MtuExceeded);
    }
    Ok(tags(admitted, egress))
}

/// Whether the frame's payload (its segments', if it is to be cut) is within an
/// MTU. Tags do not count, so it is asked of the frame as it was received.
#[inline]
fn fits(mtu: u32, frame: &Frame<'_>) -> bool {
    match frame.offload.segmentation {
        Segmentation::None => admit::is_within(mtu, frame),
        _ => admit::offload(mtu, frame).is_ok(),
    }
}

/// The tags a frame leaves with (ARCHITECTURE.md, "Tags on the way out").
#[inline]
fn tags(admitted: &Admitted, egress: &RelayPort) -> TagEdit {
    let (vid, customer) = (admitted.vid, admitted.tags.customer);
    let service = match admitted.tags.service {
        Service::Absent => 0,
        Service::Present => 1,
    };
    let (edit, outermost) = match customer {
        Customer::Opaque(outermost) => (TagEdit::strip(service), outermost),
        _ if is_untagged_at(&egress.vlan, vid) => match customer {
            Customer::Untagged => (TagEdit::strip(service), Tci::default()),
            _ => (TagEdit::strip(service + 1), Tci::default()),
        },
        Customer::Tagged(tci) => (TagEdit::strip(service), tci),
        Customer::Priority(tci) if vid == Vid::UNTAGGED => (TagEdit::strip(service), tci),
        Customer::Priority(tci) => {
            let tci = tci.with_vid(vid.get());
            (TagEdit::strip(service + 1).push_c(tci), tci)
        }
        Customer::Untagged if vid == Vid::UNTAGGED => (TagEdit::strip(service), Tci::default()),
        Customer::Untagged => {
            let tci = Tci::from_bits(vid.get());
            (TagEdit::strip(service).push_c(tci), tci)
        }
    };
    egress.svid.map_or(edit, |svid| edit.push_s(svid, outermost))
}

/// Whether frames of this VID leave the port untagged.
#[inline]
fn is_untagged_at(vlan: &VlanPolicy, vid: Vid) -> bool {
    match vlan {
        VlanPolicy::Transparent => false,
        VlanPolicy::Access(_) => true,
        VlanPolicy::Trunk { native, .. } => native.is_some_and(|native| vid == native.into()),
    }
}
