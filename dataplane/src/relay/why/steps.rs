//! The steps of an explanation: which checks a frame passed, in their order, and what each
//! found. Whether it passed is [`admit`]'s to say, and the mode's.

use super::{Check, Foresight, Rule, Source, Standing, Step, Title};
use crate::ledger::DropReason;
use crate::relay::fdb::{Learn, Table};
use crate::relay::{Admitted, Entrance, Frame, Relay, Service, Verdict, admit, owner};
use crate::snapshot::{Addresses, Mode, PortId, RelayPort, Role, Snapshot};
use crate::wire::ethernet::{self, ADDRESSES_BYTES, HEADER_BYTES, Outer};
use crate::wire::{Mac, Vid};

/// The checks on frames of a VM's port, in the order of [`admit::from_vm`].
const FROM_VM: &[Check] = &[
    Check::Length,
    Check::Reserved,
    Check::SourceForm,
    Check::Tag,
    Check::Vlan,
    Check::Offload,
    Check::Source,
];
/// The same for a `direct` one: [`admit::from_direct`].
const FROM_DIRECT: &[Check] = &[Check::Length, Check::Reserved, Check::Tag, Check::Offload];
/// The same for a link: [`admit::from_link`].
const FROM_LINK: &[Check] = &[
    Check::Length,
    Check::Channel,
    Check::Reserved,
    Check::SourceForm,
    Check::Tag,
    Check::Vlan,
    Check::Offload,
];
/// The same behind the S-tag of a `direct` port's channel.
const FROM_LINK_DIRECT: &[Check] =
    &[Check::Length, Check::Channel, Check::Reserved, Check::Offload];

/// A frame at its checklist.
pub(super) struct Checklist<'r, 'f> {
    pub snapshot: &'r Snapshot,
    pub entrance: Entrance<'r>,
    pub frame: &'f Frame<'f>,
}

impl Checklist<'_, '_> {
    /// The steps up to the one that refused the frame; without a reason, all but those that
    /// come with the decision.
    pub fn steps(&self, refused: Option<DropReason>) -> Vec<Step> {
        let decided_later = |check: &Check| *check == Check::Source && refused.is_none();
        let failed = refused.map(|reason| self.check_of(reason));
        let mut steps = Vec::new();
        for &check in self.checks().iter().filter(|check| !decided_later(check)) {
            steps.push(self.step(check));
            if failed == Some(check) {
                break;
            }
        }
        steps
    }

    /// The relay port that the frame comes in by.
    pub fn ingress(&self) -> Option<PortId> {
        match self.entrance {
            Entrance::Port(inlet) | Entrance::Direct(inlet, _) => Some(inlet.id),
            Entrance::Link(..) => self.channel().ok().map(|(_, port)| port),
        }
    }

    fn checks(&self) -> &'static [Check] {
        match self.entrance {
            Entrance::Port(_) => FROM_VM,
            Entrance::Direct(..) => FROM_DIRECT,
            Entrance::Link(..) => match self.ingress_port().map(|port| port.role) {
                Some(Role::DirectUplink(_)) => FROM_LINK_DIRECT,
                _ => FROM_LINK,
            },
        }
    }

    /// Which check gives a reason.
    fn check_of(&self, reason: DropReason) -> Check {
        match reason {
            DropReason::Runt | DropReason::Giant => Check::Length,
            DropReason::UnknownSvid | DropReason::ChannelUnused => Check::Channel,
            // Of the S-tag, or of the C-tag behind it.
            DropReason::TruncatedTag if self.channel().is_err() => Check::Channel,
            DropReason::ReservedAddress => Check::Reserved,
            DropReason::SourceInvalid => Check::SourceForm,
            DropReason::TagNotAllowed | DropReason::TruncatedTag | DropReason::VlanInvalid => {
                Check::Tag
            }
            DropReason::VlanTagged | DropReason::VlanUntagged | DropReason::VlanNotMember => {
                Check::Vlan
            }
            DropReason::OffloadInvalid => Check::Offload,
            _ => Check::Source,
        }
    }

    fn step(&self, check: Check) -> Step {
        let (destination, source) = self.addresses();
        match check {
            Check::Length => Step::Length { bytes: self.frame.length, mtu: self.mtu() },
            Check::Channel => Step::Channel {
                svid: match ethernet::outer(self.frame.header, ADDRESSES_BYTES) {
                    Outer::S(tci) => Some(tci.vid_bits()),
                    _ => None,
                },
                port: self.channel().ok().map(|(_, port)| port),
            },
            Check::Reserved => Step::Reserved { destination },
            Check::SourceForm => Step::SourceForm { source },
            Check::Tag => {
                let outer = ethernet::outer(self.frame.header, ADDRESSES_BYTES + self.behind());
                Step::Tag { outer }
            }
            Check::Vlan => Step::Vlan { vid: self.vid() },
            Check::Offload => Step::Offload { offload: self.frame.offload },
            // The checklist looks at sources of ports that registered theirs.
            _ => Step::Source { source, standing: Standing::NotOwn },
        }
    }

    fn addresses(&self) -> (Mac, Mac) {
        match self.frame.header.len() {
            HEADER_BYTES.. => ethernet::addresses(self.frame.header),
            _ => (Mac::ZERO, Mac::ZERO),
        }
    }

    fn mtu(&self) -> u32 {
        match self.entrance {
            Entrance::Port(inlet) | Entrance::Direct(inlet, _) => inlet.port.mtu,
            Entrance::Link(device, _) => device.mtu,
        }
    }

    /// The channel of a link's frame, if it is used.
    fn channel(&self) -> Result<(Service, PortId), DropReason> {
        match self.entrance {
            Entrance::Link(_, channels) => admit::demultiplex(channels, self.frame.header),
            Entrance::Port(inlet) | Entrance::Direct(inlet, _) => Ok((Service::Absent, inlet.id)),
        }
    }

    fn ingress_port(&self) -> Option<&RelayPort> {
        self.snapshot.port(self.ingress()?)
    }

    /// Bytes of the S-tag that named the channel.
    fn behind(&self) -> usize {
        self.channel().map_or(0, |(service, _)| admit::service_bytes(service))
    }

    fn vid(&self) -> Option<Vid> {
        let header = self.frame.header;
        match self.entrance {
            Entrance::Port(inlet) => {
                let customer = admit::vm_tag(header).ok()?;
                admit::classify(&inlet.port.vlan, customer).ok()
            }
            Entrance::Direct(..) => Some(Vid::UNTAGGED),
            Entrance::Link(..) => {
                let (destination, source) = self.addresses();
                let tag = admit::link_tag(header, self.behind(), destination, source);
                tag.ok().map(|(vid, _)| vid)
            }
        }
    }
}

/// Whose the source of an admitted frame is, as long as it has taught nothing; nothing where
/// nobody asks.
pub(super) fn source(relay: &Relay<'_, Foresight<'_>>, admitted: &Admitted) -> Option<Standing> {
    let port = relay.snapshot.port(admitted.ingress)?;
    match (port.role, &port.addresses) {
        (Role::DirectUplink(_) | Role::Station(Mode::Direct), _) => None,
        (Role::Uplink, _) => Some(from_uplink(relay, admitted)),
        (_, Addresses::Registered(_)) => Some(Standing::Own),
        (_, &Addresses::Learned { limit }) => Some(from_learner(relay, admitted, port, limit)),
    }
}

fn from_uplink(relay: &Relay<'_, Foresight<'_>>, admitted: &Admitted) -> Standing {
    match owner::source_from_uplink(relay, admitted) {
        (_, Learn::Release { tenant, .. }) => Standing::Leaves(tenant.port),
        (Source::Foreign, _) => Standing::Foreign,
        (Source::Local(port, mode), _) => {
            let title = title(relay, admitted, admitted.source).unwrap_or(Title::Registered);
            Standing::Local(port, mode, title)
        }
    }
}

fn from_learner(
    relay: &Relay<'_, Foresight<'_>>,
    admitted: &Admitted,
    port: &RelayPort,
    limit: u32,
) -> Standing {
    let known = learned(relay, admitted, admitted.source);
    let Ok(learn) = owner::learn_source(relay, port, limit, admitted) else {
        let elsewhere = relay.registered(admitted, admitted.source).unwrap_or(admitted.ingress);
        return Standing::RegisteredElsewhere(elsewhere);
    };
    match (relay.fdb.foresee(learn), learn, known) {
        (Err(_), ..) => Standing::NoRoom { limit },
        (Ok(()), Learn::Move(_), Some((from, _))) => Standing::Moves(from),
        (Ok(()), Learn::Refresh(_) | Learn::Nothing, Some((_, idle_ms))) => {
            Standing::Known { idle_ms }
        }
        (Ok(()), ..) => Standing::New,
    }
}

/// Who has learned an address that counts, and for how long it has not been used, in
/// milliseconds.
fn learned(
    relay: &Relay<'_, Foresight<'_>>,
    admitted: &Admitted,
    mac: Mac,
) -> Option<(PortId, u32)> {
    let address = admitted.address(mac);
    let found = relay.learned(relay.fdb.hash(address), address)?;
    Some((found.tenant.port, found.idle_ms))
}

fn title(relay: &Relay<'_, Foresight<'_>>, admitted: &Admitted, mac: Mac) -> Option<Title> {
    if relay.registered(admitted, mac).is_some() {
        return Some(Title::Registered);
    }
    learned(relay, admitted, mac).map(|(_, idle_ms)| Title::Learned { idle_ms })
}

/// The steps behind the checklist, once the decision has taught the foresight what it
/// teaches: the source; and unless that was refused, the destination and the rule.
pub(super) fn behind(
    relay: &Relay<'_, Foresight<'_>>,
    admitted: &Admitted,
    standing: Option<Standing>,
    verdict: Verdict,
) -> Vec<Step> {
    let source = standing.map(|standing| Step::Source { source: admitted.source, standing });
    let mut steps: Vec<Step> = source.into_iter().collect();
    let refused = [DropReason::SourceRegisteredElsewhere, DropReason::LearnLimit];
    let is_refused = |reason| verdict == Verdict::Drop(reason);
    let Some(port) = relay.snapshot.port(admitted.ingress) else { return steps };
    if refused.into_iter().any(is_refused) {
        return steps;
    }
    let registered = relay.registered(admitted, admitted.destination);
    let owner = owner::destination(relay, admitted, registered);
    let source = match standing {
        Some(Standing::Local(port, mode, _)) => Source::Local(port, mode),
        _ => Source::Foreign,
    };
    if standing.is_some() {
        let destination = admitted.destination;
        let title = match owner {
            owner::Destination::Owned(..) => title(relay, admitted, destination),
            _ => None,
        };
        steps.push(Step::Destination { destination, owner, title });
    }
    steps.push(Step::Rule(Rule::of(port.role, source, owner)));
    steps
}
