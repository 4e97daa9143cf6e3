//! The compiled, immutable policy that workers read.
//!
//! Control describes the desired topology ([`topology::Topology`]), compiles it
//! ([`compile`]) and publishes the result as one pointer. Names, files and
//! devices' paths stay with control; here everything is an index.
//!
//! A *device* ([`DeviceId`]) is what has rings and counters: a VM's port or a
//! link. A *relay port* ([`PortId`]) is where frames enter or leave a relay: a
//! VM's port, or the end of one channel on a link (its uplink relay port on a
//! station link, a station-facing port on a bridge link).

pub mod compile;
pub mod keyed;
pub mod mirrors;
pub mod registered;
pub mod topology;

use std::sync::Arc;

use crate::ledger::DropReason;
use crate::port::Attached;
use crate::wire::vlan::VidSet;
use crate::wire::{Mac, SVid, Vid, VlanId};
use mirrors::Mirrors;
use registered::Registered;

/// Relay ports a switch can have; ids are below this.
pub const PORTS_MAX: usize = 8192;
/// Devices a switch can have; ids are below this.
pub const DEVICES_MAX: usize = 4096;

/// A relay port's index. It may be used again after its port is gone; the
/// [`Generation`] tells tenants apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u16);

/// A device's index, likewise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u16);

/// The address space a frame is switched in: one per channel of a station link,
/// one per bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainId(pub u16);

/// Distinguishes successive tenants, and ups and downs, of one [`PortId`]:
/// learned addresses of another generation do not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Generation(pub u16);

/// Whether frames may pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Admin {
    /// They may.
    Up,
    /// They may not: nothing is pulled, and what is offered is dropped.
    Down,
}

/// The policy, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts publications.
    pub revision: u64,
    /// Relay ports by [`PortId`].
    pub ports: Box<[Option<RelayPort>]>,
    /// Devices by [`DeviceId`].
    pub devices: Box<[Option<Device>]>,
    /// Channels of station links and bridges by [`DomainId`].
    pub domains: Box<[Option<Domain>]>,
    /// The addresses that ports registered.
    pub registered: Registered,
    /// What monitors get copies of.
    pub mirrors: Mirrors,
    /// Seconds a learned address lives without being used, in milliseconds.
    pub ageing_ms: u64,
}

/// A device as the workers see it.
#[derive(Debug)]
pub struct Device {
    /// What it is to the relay.
    pub entry: Entry,
    /// Largest payload of an Ethernet frame, tags not counted.
    pub mtu: u32,
    /// Its transmitters, counters and state, which outlive this snapshot.
    pub attached: Arc<Attached>,
}

/// How frames from a device find their relay port.
#[derive(Debug)]
pub enum Entry {
    /// A VM's port: always this one.
    Port(PortId),
    /// A link: by S-tag.
    Link(Channels),
    /// A monitor, for copies of what others receive and send: they find none.
    Monitor,
}

impl Entry {
    /// Why frames are dropped that find no relay port.
    #[must_use]
    pub fn refusal(&self) -> DropReason {
        match self {
            Entry::Monitor => DropReason::FromMonitor,
            Entry::Port(_) | Entry::Link(_) => DropReason::ChannelUnused,
        }
    }
}

/// The channels of a link.
#[derive(Debug)]
pub struct Channels {
    /// Where untagged frames (and S-VID 0 and 1) go, if anywhere.
    pub default: Option<PortId>,
    /// Tagged channels, sorted by S-VID.
    pub tagged: Box<[(SVid, Option<PortId>)]>,
}

/// A relay port.
#[derive(Debug)]
pub struct RelayPort {
    /// The device its frames leave by.
    pub device: DeviceId,
    /// The domain it belongs to.
    pub domain: DomainId,
    /// Which tenant of this [`PortId`] it is.
    pub generation: Generation,
    /// Whether it is up; a port that is down owns no address.
    pub admin: Admin,
    /// What it is in its domain.
    pub role: Role,
    /// Which VLANs it is a member of, and how it shows them.
    pub vlan: VlanPolicy,
    /// Which addresses are its own.
    pub addresses: Addresses,
    /// The S-tag its frames bear on the link: none for a VM's port, nor for the end
    /// of a default channel.
    pub svid: Option<SVid>,
    /// Largest payload it can send, tags not counted.
    pub mtu: u32,
}

/// What a relay port is in its domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A VM's port on a station channel.
    Station(Mode),
    /// The uplink of a station channel.
    Uplink,
    /// The uplink of a station channel whose only port is this `direct` one.
    DirectUplink(PortId),
    /// A VM's port on a bridge.
    BridgePort,
    /// A channel of a bridge link, member of a bridge.
    BridgeChannel(ReflectiveRelay),
}

/// How a station port's frames are switched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Locally, as a virtual Ethernet bridge.
    Veb,
    /// By the adjacent bridge, which returns frames for neighbours.
    Vepa,
    /// As VEPA, but never to or from another local port.
    Private,
    /// The only port of its channel: no addresses, VLANs or learning.
    Direct,
}

/// Whether a bridge member gets frames back that came from it (802.1Q-2022 8.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReflectiveRelay {
    /// It does not.
    Off,
    /// It does, once; group frames at this rate at most.
    On {
        /// Reflected group frames a second; the burst is one second's worth.
        group_rate: u32,
    },
}

/// A port's VLANs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VlanPolicy {
    /// Member of every VID, tags left as they are.
    Transparent,
    /// Untagged member of one VLAN.
    Access(VlanId),
    /// Tagged member of some, untagged of `native`.
    Trunk {
        /// Members, `native` included.
        members: Box<VidSet>,
        /// Where untagged frames belong; refused without it.
        native: Option<VlanId>,
    },
}

impl VlanPolicy {
    /// Whether frames of this classified VID may leave here.
    #[inline]
    #[must_use]
    pub fn contains(&self, vid: Vid) -> bool {
        match self {
            VlanPolicy::Transparent => true,
            VlanPolicy::Access(access) => vid == Vid::from(*access),
            VlanPolicy::Trunk { members, .. } => vid != Vid::UNTAGGED && members.contains(vid),
        }
    }
}

/// A port's addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addresses {
    /// These only, sorted (compiling sorts them); nothing is learned and no unknown
    /// unicast arrives.
    Registered(Box<[Mac]>),
    /// As they are used, up to a limit.
    Learned {
        /// Addresses at a time.
        limit: u32,
    },
}

/// A channel of a station link, or a bridge.
#[derive(Debug)]
pub struct Domain {
    /// Its kind.
    pub kind: DomainKind,
    /// All its relay ports but the uplink, up or down, in a fixed order.
    pub ports: Box<[PortId]>,
    /// Those of them without registered addresses, which unknown unicast may be for.
    pub learners: Box<[PortId]>,
}

/// What switches a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainKind {
    /// The edge relay of a station channel.
    Station {
        /// Its uplink relay port; absent on a host-local link.
        uplink: Option<PortId>,
    },
    /// A bridge.
    Bridge,
}

impl Snapshot {
    /// A relay port, if the id is in use.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&RelayPort> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// A device, if the id is in use.
    #[inline]
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(usize::from(id.0))?.as_ref()
    }

    /// Whether the device's frames are taken: its port is up, or any channel of the
    /// link is (a link without channels is emptied, and its frames counted).
    #[must_use]
    pub fn pulls(&self, device: &Device) -> bool {
        let up = |id: &PortId| self.port(*id).is_some_and(|port| port.admin == Admin::Up);
        match &device.entry {
            Entry::Port(id) => up(id),
            // Emptied, and what comes is counted.
            Entry::Monitor => true,
            Entry::Link(channels) => {
                let tagged = channels.tagged.iter().filter_map(|(_, port)| port.as_ref());
                let mut ports = channels.default.iter().chain(tagged).peekable();
                ports.peek().is_none() || ports.any(up)
            }
        }
    }

    /// A domain, if the id is in use.
    #[inline]
    #[must_use]
    pub fn domain(&self, id: DomainId) -> Option<&Domain> {
        self.domains.get(usize::from(id.0))?.as_ref()
    }
}
