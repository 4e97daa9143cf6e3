//! What happens to a frame: pure decisions, no devices, no clock.
//!
//! A worker asks in two phases, so that memory is fetched while it works:
//!
//! 1. for each frame, [`Relay::admit`]: the ingress checklist ([`admit`]) and who
//!    registered its destination; where source and destination are both registered
//!    that is all there is to know, and the frame is decided at once; for the others
//!    the lines that further lookups will read are asked for;
//! 2. for the batch, in frame order, [`Relay::decide`]: the source is checked and
//!    learned ([`owner`], [`fdb`]), then the mode decides: [`veb`], [`vepa`],
//!    [`direct`] for what comes from a VM; [`uplink`] for what comes back from the
//!    cable; [`bridge`] for the adjacent bridge's side.
//!
//! For each copy of a frame, [`egress`] then plans the tags it leaves with.
//!
//! What is between the phases stands in [`arrival::Arrivals`].
//!
//! The leaves are pure: they take values and return a [`Verdict`] or an intent
//! ([`fdb::Learn`]). Only [`Relay::decide`] applies intents. [`why`] has the same code
//! decide on a table that keeps what it is taught to itself.

pub mod admit;
pub mod arrival;
pub mod bridge;
pub mod bucket;
pub mod direct;
pub mod egress;
pub mod fdb;
pub mod owner;
pub mod uplink;
pub mod veb;
pub mod vepa;
pub mod why;

#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

use crate::ledger::DropReason;
use crate::snapshot::{
    Addresses, Channels, Device, DeviceId, DomainId, DomainKind, Entry, Mode, PortId, RelayPort,
    Role, Snapshot,
};
use crate::wire::offload::Offload;
use crate::wire::{Mac, SVid, Tci, Vid};
use arrival::{Arrival, Arrivals, Stage};
use fdb::{Address, Fdb, Table};
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

/// The frames of one batch, in order, none left out: at most 64.
pub trait Burst<'f> {
    /// How many they are.
    fn count(&self) -> usize;

    /// One of them, by its place.
    fn frame(&self, index: usize) -> Frame<'f>;

    /// Bit n is set if frame n is alike to frame n - 1: both are complete
    /// ([`Offload::NONE`]), with the same addresses, the same EtherType or TPID and the same
    /// two bytes behind it; and frame n is not longer.
    fn alike(&self) -> u64;
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
    Port(Inlet<'r>),
    /// A VM's port that has its channel, of this S-VID if it is tagged, for itself.
    Direct(Inlet<'r>, Option<SVid>),
    /// A link: each frame's S-tag names its relay port.
    Link(&'r Device, &'r Channels),
}

/// A VM's port as its frames' way in.
#[derive(Clone, Copy, Debug)]
pub struct Inlet<'r> {
    id: PortId,
    port: &'r RelayPort,
    /// The uplink of its domain.
    uplink: Option<PortId>,
}

impl Inlet<'_> {
    /// What the port's mode says of a frame.
    #[inline(always)]
    fn switched(&self, frame: &Admitted, destination: Destination) -> Verdict {
        match self.port.role {
            Role::Station(Mode::Veb) => veb::from_station(frame, destination, self.uplink),
            Role::Station(_) => vepa::from_station(frame, destination, self.uplink),
            _ => bridge::from_port(frame, destination),
        }
    }
}

/// What decisions are taken on: policy, learned addresses and time of one breath.
#[derive(Debug)]
pub struct Relay<'r, T = Fdb> {
    /// The policy.
    pub snapshot: &'r Snapshot,
    /// The learned addresses.
    pub fdb: &'r T,
    /// The breath's time, in milliseconds of a steady clock.
    pub now_ms: u64,
}

// Derived ones would want the table to be copied, too.
impl<T> Clone for Relay<'_, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Relay<'_, T> {}

impl Relay<'_> {
    /// Phase two: decides the admitted frames of one batch that are not decided yet, in
    /// order; each may learn what the next one finds. Every arrival has its verdict then.
    pub fn decide(&self, entrance: Entrance<'_>, arrivals: &mut Arrivals) {
        self.decide_all(entrance, arrivals);
    }

    /// Forgets learned addresses that aged or lost their port, `lines` lines of the
    /// table further on; says how many. Part of a worker's tick.
    pub fn sweep(&self, lines: usize) -> usize {
        let is_tenant = |tenant| owner::is_tenant(self.snapshot, tenant);
        self.fdb.sweep(lines, self.now_ms, self.snapshot.ageing_ms, is_tenant)
    }
}

impl<'r, T: Table> Relay<'r, T> {
    /// How frames from this device are treated; nothing if the id is not in use, or a
    /// monitor's.
    #[must_use]
    pub fn entrance(&self, device: DeviceId) -> Option<Entrance<'r>> {
        let device = self.snapshot.device(device)?;
        match &device.entry {
            Entry::Link(channels) => Some(Entrance::Link(device, channels)),
            Entry::Monitor => None,
            &Entry::Port(id) => {
                let port = self.snapshot.port(id)?;
                let uplink = self.uplink(port.domain);
                let inlet = Inlet { id, port, uplink };
                Some(match port.role {
                    Role::Station(Mode::Direct) => {
                        let uplink = uplink.and_then(|id| self.snapshot.port(id));
                        Entrance::Direct(inlet, uplink.and_then(|uplink| uplink.svid))
                    }
                    _ => Entrance::Port(inlet),
                })
            }
        }
    }

    /// Phase one: the ingress checklist. Puts what passes into `arrivals`, which are empty,
    /// and says of each other frame the first check that failed, in the order of
    /// ARCHITECTURE.md.
    // Inlined, for the sake of the caller's way to make frames and to count what failed.
    #[inline(always)]
    pub fn admit<'f>(
        &self,
        entrance: Entrance<'r>,
        burst: &impl Burst<'f>,
        arrivals: &mut Arrivals,
        refused: impl FnMut(DropReason),
    ) {
        // Frames that teach something are looked at one by one.
        let unlike = 0;
        match entrance {
            // Each with a check of its own, which is inlined only where it is used once.
            Entrance::Port(inlet) => match inlet.port.addresses {
                Addresses::Registered(_) => {
                    let check = |frame: &Frame<'_>| admit::from_vm(inlet.id, inlet.port, frame);
                    let begin = |arrival: &mut Arrival| self.decide_at_once(inlet, arrival);
                    arrivals.fill(burst, burst.alike(), refused, check, begin);
                }
                Addresses::Learned { .. } => {
                    let check = |frame: &Frame<'_>| admit::from_vm(inlet.id, inlet.port, frame);
                    let begin = |arrival: &mut Arrival| self.prepare(arrival);
                    arrivals.fill(burst, unlike, refused, check, begin);
                }
            },
            Entrance::Direct(inlet, svid) => {
                let check =
                    |frame: &Frame<'_>| admit::from_direct(inlet.id, inlet.port, svid, frame);
                arrivals.fill(burst, unlike, refused, check, |_| {});
            }
            Entrance::Link(device, channels) => {
                let check =
                    |frame: &Frame<'_>| admit::from_link(self.snapshot, device, channels, frame);
                let begin = |arrival: &mut Arrival| self.prepare(arrival);
                arrivals.fill(burst, unlike, refused, check, begin);
            }
        }
    }

    /// From a port that registered its addresses. The checklist compared the source with
    /// them: it teaches nothing, and a destination that is registered too is nothing that
    /// an earlier frame could have taught. So the order of frames does not matter to it.
    #[inline(always)]
    fn decide_at_once(&self, inlet: Inlet<'_>, arrival: &mut Arrival) {
        self.find_registered(arrival);
        let Stage::Pending(Some(owner)) = arrival.stage else { return };
        let Some(port) = self.snapshot.port(owner) else { return };
        let destination = Destination::Owned(owner, port.role);
        let verdict = inlet.switched(&arrival.admitted, destination);
        self.settle(arrival, verdict);
    }

    /// Has near what phase two will read.
    #[inline(always)]
    fn prepare(&self, arrival: &mut Arrival) {
        owner::prefetch_source(self, &arrival.admitted);
        self.find_registered(arrival);
    }

    /// A switched frame's destination is looked up among the registered addresses at
    /// once: they are few, and who finds it there needs no line of the learned ones.
    #[inline(always)]
    fn find_registered(&self, arrival: &mut Arrival) {
        let frame = &arrival.admitted;
        if frame.destination.is_group() {
            return;
        }
        match self.registered(frame, frame.destination) {
            None => owner::prefetch_destination(self, frame),
            registered => arrival.stage = Stage::Pending(registered),
        }
    }

    /// [`Relay::decide`], on any table.
    #[inline(always)]
    fn decide_all(&self, entrance: Entrance<'_>, arrivals: &mut Arrivals) {
        match entrance {
            Entrance::Port(inlet) => self.decide_each(arrivals, |frame, registered| {
                self.decide_from_port(inlet, frame, registered)
            }),
            Entrance::Direct(inlet, _) => {
                self.decide_each(arrivals, |_, _| direct::from_station(inlet.uplink));
            }
            Entrance::Link(..) => self.decide_each(arrivals, |frame, registered| {
                self.decide_from_link(frame, registered)
            }),
        }
    }

    #[inline(always)]
    fn decide_each(
        &self,
        arrivals: &mut Arrivals,
        verdict: impl Fn(&Admitted, Option<PortId>) -> Verdict,
    ) {
        for arrival in arrivals.all_mut() {
            if let Stage::Pending(registered) = arrival.stage {
                let verdict = verdict(&arrival.admitted, registered);
                self.settle(arrival, verdict);
            }
        }
    }

    /// A frame of a VM's port: the source first, then the mode.
    #[inline(always)]
    fn decide_from_port(
        &self,
        inlet: Inlet<'_>,
        frame: &Admitted,
        registered: Option<PortId>,
    ) -> Verdict {
        match self.learn(inlet.port, frame) {
            Ok(()) => inlet.switched(frame, owner::destination(self, frame, registered)),
            Err(reason) => Verdict::Drop(reason),
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
        arrival.stage = Stage::Decided;
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

    fn decide_from_link(&self, frame: &Admitted, registered: Option<PortId>) -> Verdict {
        let Some(port) = self.snapshot.port(frame.ingress) else {
            return Verdict::Drop(DropReason::ChannelUnused);
        };
        match port.role {
            Role::DirectUplink(only) => direct::from_uplink(only),
            Role::Uplink => self.decide_from_uplink(frame, registered),
            _ => self.decide_from_channel(port, frame, registered),
        }
    }

    fn decide_from_uplink(&self, frame: &Admitted, registered: Option<PortId>) -> Verdict {
        let (source, release) = owner::source_from_uplink(self, frame);
        // A release that finds its line held is made up for by the next frame.
        let _ = self.fdb.apply(release, self.now_ms);
        uplink::from_uplink(frame, source, owner::destination(self, frame, registered))
    }

    fn decide_from_channel(
        &self,
        port: &RelayPort,
        frame: &Admitted,
        registered: Option<PortId>,
    ) -> Verdict {
        match self.learn(port, frame) {
            // An address that finds no room is not learned; its frames pass.
            Ok(()) | Err(DropReason::LearnLimit) => {
                bridge::from_channel(frame, port.role, owner::destination(self, frame, registered))
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
}
