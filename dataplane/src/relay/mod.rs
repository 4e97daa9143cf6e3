//! What happens to a frame: pure decisions, no devices, no clock.
//!
//! A worker asks in two phases, so that memory is fetched while it works:
//!
//! 1. for each frame, [`Relay::admit`]: the ingress checklist ([`admit`]), who
//!    registered its destination, and the lines that further lookups will read are
//!    asked for;
//! 2. for the batch, in frame order, [`Relay::decide`]: the source is checked and
//!    learned ([`owner`], [`fdb`]), then the mode decides: [`veb`], [`vepa`],
//!    [`direct`] for what comes from a VM; [`uplink`] for what comes back from the
//!    cable; [`bridge`] for the adjacent bridge's side.
//!
//! For each copy of a frame, [`egress`] then plans the tags it leaves with.
//!
//! The leaves are pure: they take values and return a [`Verdict`] or an intent
//! ([`fdb::Learn`]). Only [`Relay::decide`] applies intents.

pub mod admit;
pub mod bridge;
pub mod bucket;
pub mod direct;
pub mod egress;
pub mod fdb;
pub mod owner;
pub mod uplink;
pub mod veb;
pub mod vepa;

#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

use crate::ledger::DropReason;
use crate::snapshot::{
    Addresses, Channels, Device, DeviceId, DomainId, DomainKind, Entry, Mode, PortId, RelayPort,
    Role, Snapshot,
};
use crate::wire::offload::Offload;
use crate::wire::{Mac, SVid, Tci, Vid};
use fdb::{Address, Fdb};
use owner::Destination;

/// A received frame, as far as the relay looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'b> {
    /// Its place in the batch.
    pub index: u16,
    /// Its private first bytes, all of them where it is short.
    pub header: &'b [u8],
    /// Its length in bytes, without FCS.
    pub length: usize,
    /// What its sender left to do.
    pub offload: Offload,
}

/// A frame that passed the ingress checklist: everything later steps need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Where it came in.
    pub ingress: PortId,
    /// Where it is switched.
    pub domain: DomainId,
    /// Destination.
    pub destination: Mac,
    /// Source.
    pub source: Mac,
    /// The classified VID.
    pub vid: Vid,
    /// Its tags as received.
    pub tags: Tags,
}

impl Admitted {
    /// The name under which an address is learned in this frame's VLAN.
    #[inline]
    #[must_use]
    pub fn address(&self, mac: Mac) -> Address {
        Address { domain: self.domain, vid: self.vid, mac }
    }
}

/// The tags of an admitted frame, as they stand in its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags {
    /// An S-tag that named its channel and ends here, if there is one.
    pub service: Service,
    /// The C-tag behind it.
    pub customer: Customer,
}

/// Whether a frame came with the S-tag of its channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Service {
    /// It did not.
    #[default]
    Absent,
    /// It did; it is to be stripped.
    Present,
}

/// A frame's C-tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Customer {
    /// None.
    #[default]
    Untagged,
    /// One with VID 0: a priority only.
    Priority(Tci),
    /// One with a VID.
    Tagged(Tci),
    /// A `direct` channel's frame, whose tags are not ours to change: the TCI of
    /// the outermost, or 0.
    Opaque(Tci),
}

/// Where an admitted frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Out of one relay port.
    To(PortId),
    /// Out of several; [`Relay::decide`] returns no empty audience, and none of one for
    /// unicast.
    Flood(Audience),
    /// Nowhere.
    Drop(DropReason),
}

/// Which relay ports of a domain get a copy: some of the [`Audience::candidates`], and
/// the uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audience {
    /// The VLAN its members must be in.
    pub vid: Vid,
    /// One port that is left out.
    pub except: Option<PortId>,
    /// Which roles are meant.
    pub roles: Roles,
    /// Whether ports with registered addresses are left out.
    pub reach: Reach,
    /// The uplink, if it gets a copy too.
    pub uplink: Option<PortId>,
    /// What the frame's loss is called if nobody gets a copy.
    pub nobody: DropReason,
}

/// Which roles an audience consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roles {
    /// `veb` ports.
    Veb,
    /// `vepa` ports.
    Vepa,
    /// `veb` and `vepa` ports.
    VebAndVepa,
    /// All.
    All,
}

/// Whether an audience is for group frames or for unknown unicast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Group frames: every member.
    Members,
    /// Unknown unicast: members without registered addresses.
    Unregistered,
}

/// What a batch came from: looked up once for all its frames.
#[derive(Clone, Copy, Debug)]
pub enum Entrance<'r> {
    /// A VM's port whose frames are switched.
    Port(PortId, &'r RelayPort),
    /// A VM's port that has its channel, of this S-VID if it is tagged, for itself.
    Direct(PortId, &'r RelayPort, Option<SVid>),
    /// A link: each frame's S-tag names its relay port.
    Link(&'r Device, &'r Channels),
}

/// A frame between the phases, and behind them with its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The frame's place in its batch.
    pub index: u16,
    /// What the checklist found.
    pub admitted: Admitted,
    /// Who registered its destination, if anybody did.
    registered: Option<PortId>,
    /// Where it goes, once decided.
    pub verdict: Verdict,
}

impl Arrival {
    /// An arrival that is not decided yet.
    #[inline(always)]
    fn new(frame: &Frame<'_>, admitted: Admitted, registered: Option<PortId>) -> Arrival {
        let verdict = Verdict::Drop(DropReason::NoReceiver);
        Arrival { index: frame.index, admitted, registered, verdict }
    }
}

/// What decisions are taken on: policy, learned addresses and time of one breath.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'r> {
    /// The policy.
    pub snapshot: &'r Snapshot,
    /// The learned addresses.
    pub fdb: &'r Fdb,
    /// The breath's time, in milliseconds of a steady clock.
    pub now_ms: u64,
}

impl<'r> Relay<'r> {
    /// How frames from this device are treated; nothing if the id is not in use.
    #[must_use]
    pub fn entrance(&self, device: DeviceId) -> Option<Entrance<'r>> {
        let device = self.snapshot.device(device)?;
        match &device.entry {
            Entry::Link(channels) => Some(Entrance::Link(device, channels)),
            &Entry::Port(id) => {
                let port = self.snapshot.port(id)?;
                Some(match port.role {
                    Role::Station(Mode::Direct) => {
                        let uplink = self.uplink(port.domain).and_then(|id| self.snapshot.port(id));
                        Entrance::Direct(id, port, uplink.and_then(|uplink| uplink.svid))
                    }
                    _ => Entrance::Port(id, port),
                })
            }
        }
    }

    /// Phase one: the ingress checklist. The arrival's verdict comes with
    /// [`Relay::decide`].
    ///
    /// # Errors
    /// The first check that failed, in the order of ARCHITECTURE.md.
    // Inlined, so that an arrival goes from registers to where its caller keeps it.
    #[inline(always)]
    pub fn admit(&self, entrance: Entrance<'r>, frame: &Frame<'_>) -> Result<Arrival, DropReason> {
        match entrance {
            Entrance::Port(id, port) => {
                let admitted = admit::from_vm(id, port, frame)?;
                // Registered addresses were compared with the source: no lookup follows.
                if let Addresses::Learned { .. } = port.addresses {
                    owner::prefetch_source(self, &admitted);
                }
                Ok(self.arrival(frame, admitted))
            }
            Entrance::Direct(id, port, svid) => {
                Ok(Arrival::new(frame, admit::from_direct(id, port, svid, frame)?, None))
            }
            Entrance::Link(device, channels) => {
                let admitted = admit::from_link(self.snapshot, device, channels, frame)?;
                owner::prefetch_source(self, &admitted);
                Ok(self.arrival(frame, admitted))
            }
        }
    }

    /// A switched frame's destination is looked up among the registered addresses at
    /// once: they are few, and who finds it there needs no line of the learned ones.
    #[inline(always)]
    fn arrival(&self, frame: &Frame<'_>, admitted: Admitted) -> Arrival {
        if admitted.destination.is_group() {
            return Arrival::new(frame, admitted, None);
        }
        let registered = self.registered(&admitted, admitted.destination);
        if registered.is_none() {
            owner::prefetch_destination(self, &admitted);
        }
        Arrival::new(frame, admitted, registered)
    }

    /// Phase two: decides admitted frames of one batch, in order; each may learn
    /// what the next one finds. Sets every arrival's verdict.
    pub fn decide(&self, entrance: Entrance<'r>, arrivals: &mut [Arrival]) {
        match entrance {
            Entrance::Port(_, port) => self.decide_for_port(port, arrivals),
            Entrance::Direct(_, port, _) => {
                let uplink = self.uplink(port.domain);
                arrivals
                    .iter_mut()
                    .for_each(|arrival| arrival.verdict = direct::from_station(uplink));
            }
            Entrance::Link(..) => {
                for arrival in arrivals {
                    let verdict = self.decide_from_link(arrival);
                    self.settle(arrival, verdict);
                }
            }
        }
    }

    fn decide_for_port(&self, port: &RelayPort, arrivals: &mut [Arrival]) {
        let uplink = self.uplink(port.domain);
        match port.role {
            Role::Station(Mode::Veb) => self.decide_each(port, arrivals, |frame, destination| {
                veb::from_station(frame, destination, uplink)
            }),
            Role::Station(_) => self.decide_each(port, arrivals, |frame, destination| {
                vepa::from_station(frame, destination, uplink)
            }),
            _ => self.decide_each(port, arrivals, bridge::from_port),
        }
    }

    /// Frames of a VM's port: the source first, then the mode.
    #[inline]
    fn decide_each(
        &self,
        port: &RelayPort,
        arrivals: &mut [Arrival],
        mode: impl Fn(&Admitted, Destination) -> Verdict,
    ) {
        for arrival in arrivals {
            let frame = &arrival.admitted;
            let verdict = match self.learn(port, frame) {
                Ok(()) => mode(frame, owner::destination(self, arrival)),
                Err(reason) => Verdict::Drop(reason),
            };
            self.settle(arrival, verdict);
        }
    }

    /// Notes a verdict; a flood to nobody is the drop that it is. Case by case and in
    /// place: copying a value whose parts were just stored one by one stalls, and a
    /// verdict's do not come at once.
    #[inline(always)]
    fn settle(&self, arrival: &mut Arrival, verdict: Verdict) {
        match verdict {
            Verdict::To(port) => arrival.verdict = Verdict::To(port),
            Verdict::Drop(reason) => arrival.verdict = Verdict::Drop(reason),
            Verdict::Flood(audience) => self.flood(arrival, audience),
        }
    }

    /// Unicast to an address that nobody here owns is mostly for one receiver, the
    /// uplink: that is no flood.
    #[inline(never)]
    fn flood(&self, arrival: &mut Arrival, audience: Audience) {
        let mut receivers = audience.receivers(self.snapshot, arrival.admitted.domain);
        let first = receivers.next();
        arrival.verdict = match (first, audience.reach) {
            (None, _) => Verdict::Drop(audience.nobody),
            (Some(only), Reach::Unregistered) if receivers.next().is_none() => Verdict::To(only),
            (Some(_), _) => Verdict::Flood(audience),
        };
    }

    /// Learns the source of a frame that came in by this port.
    #[inline(always)]
    fn learn(&self, port: &RelayPort, frame: &Admitted) -> Result<(), DropReason> {
        match port.addresses {
            Addresses::Registered(_) => Ok(()),
            Addresses::Learned { limit } => {
                let learn = owner::learn_source(self, port, limit, frame)?;
                self.fdb.apply(learn, self.now_ms)
            }
        }
    }

    fn decide_from_link(&self, arrival: &Arrival) -> Verdict {
        let Some(port) = self.snapshot.port(arrival.admitted.ingress) else {
            return Verdict::Drop(DropReason::ChannelUnused);
        };
        match port.role {
            Role::DirectUplink(only) => direct::from_uplink(only),
            Role::Uplink => self.decide_from_uplink(arrival),
            _ => self.decide_from_channel(port, arrival),
        }
    }

    fn decide_from_uplink(&self, arrival: &Arrival) -> Verdict {
        let frame = &arrival.admitted;
        let (source, release) = owner::source_from_uplink(self, frame);
        // A release that finds its line held is made up for by the next frame.
        let _ = self.fdb.apply(release, self.now_ms);
        uplink::from_uplink(frame, source, owner::destination(self, arrival))
    }

    fn decide_from_channel(&self, port: &RelayPort, arrival: &Arrival) -> Verdict {
        let frame = &arrival.admitted;
        match self.learn(port, frame) {
            // An address that finds no room is not learned; its frames pass.
            Ok(()) | Err(DropReason::LearnLimit) => {
                bridge::from_channel(frame, port.role, owner::destination(self, arrival))
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn uplink(&self, domain: DomainId) -> Option<PortId> {
        match self.snapshot.domain(domain)?.kind {
            DomainKind::Station { uplink } => uplink,
            DomainKind::Bridge => None,
        }
    }

    /// Forgets learned addresses that aged or lost their port, `lines` lines of the
    /// table further on; says how many. Part of a worker's tick.
    pub fn sweep(&self, lines: usize) -> usize {
        let is_tenant = |tenant| owner::is_tenant(self.snapshot, tenant);
        self.fdb.sweep(lines, self.now_ms, self.snapshot.ageing_ms, is_tenant)
    }
}
