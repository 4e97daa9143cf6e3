//! What control wants: the topology, by ids that control hands out.
//!
//! Ids are control's to keep: the same port keeps its [`PortId`] and
//! [`DeviceId`] over recompilations, so that learned addresses and counters
//! stay; its [`Generation`] is raised when it goes down, changes its domain or
//! VLANs, or when the id gets a new tenant.

use std::sync::Arc;

use super::VlanPolicy;
use super::mirrors::Mirrored;
use super::{Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, ReflectiveRelay};
use crate::port::Attached;
use crate::wire::SVid;

/// Everything to be compiled into a [`super::Snapshot`].
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Counts publications.
    pub revision: u64,
    /// Milliseconds a learned address lives without being used.
    pub ageing_ms: u64,
    /// Links that have a device.
    pub links: Vec<LinkPlan>,
    /// Channels of station links, default ones included.
    pub channels: Vec<ChannelPlan>,
    /// VM ports on station channels.
    pub station_ports: Vec<StationPlan>,
    /// Bridges.
    pub bridges: Vec<BridgePlan>,
    /// VM ports on bridges.
    pub bridge_ports: Vec<BridgePortPlan>,
    /// Ports that get copies of others' frames.
    pub monitors: Vec<MonitorPlan>,
    /// What is mirrored, by device.
    pub mirrors: Vec<MirrorPlan>,
}

/// A port that gets copies.
#[derive(Clone, Debug)]
pub struct MonitorPlan {
    /// Its device.
    pub device: DeviceId,
    /// Its transmitters, counters and state.
    pub attached: Arc<Attached>,
}

/// Copies of a device's frames for a monitor.
#[derive(Clone, Copy, Debug)]
pub struct MirrorPlan {
    /// The device of a VM's port, or a link's.
    pub from: DeviceId,
    /// Which of its frames.
    pub frames: Mirrored,
    /// The monitor's device.
    pub to: DeviceId,
}

/// A link's device.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// Its id.
    pub device: DeviceId,
    /// Largest payload, tags not counted.
    pub mtu: u32,
    /// Its transmitters, counters and state.
    pub attached: Arc<Attached>,
    /// The S-VIDs that exist on it (used by a channel or not), beside the default.
    pub svids: Vec<SVid>,
}

/// A channel of a station link.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// Its domain.
    pub domain: DomainId,
    /// Its uplink, unless the link is host-local.
    pub uplink: Option<UplinkPlan>,
    /// Largest payload, tags not counted.
    pub mtu: u32,
}

/// The uplink of a channel.
#[derive(Clone, Debug)]
pub struct UplinkPlan {
    /// The uplink relay port.
    pub port: PortId,
    /// The link's device.
    pub device: DeviceId,
    /// The channel's S-tag; none for the default channel.
    pub svid: Option<SVid>,
    /// Whether the link is up.
    pub admin: Admin,
}

/// A VM port on a station channel.
#[derive(Clone, Debug)]
pub struct StationPlan {
    /// What every VM port has.
    pub port: VmPlan,
    /// The channel's domain.
    pub domain: DomainId,
    /// How its frames are switched.
    pub mode: Mode,
}

/// What every VM port has.
#[derive(Clone, Debug)]
pub struct VmPlan {
    /// Its relay port.
    pub port: PortId,
    /// Its device.
    pub device: DeviceId,
    /// Which tenant of the port id it is.
    pub generation: Generation,
    /// Whether it is up.
    pub admin: Admin,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its VLANs.
    pub vlan: VlanPolicy,
    /// Its transmitters, counters and state.
    pub attached: Arc<Attached>,
}

/// A bridge.
#[derive(Clone, Debug)]
pub struct BridgePlan {
    /// Its domain.
    pub domain: DomainId,
    /// Largest payload its VM ports send, tags not counted.
    pub mtu: u32,
    /// Its members on bridge links.
    pub members: Vec<MemberPlan>,
}

/// A channel of a bridge link, member of a bridge.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    /// The station-facing relay port.
    pub port: PortId,
    /// The link's device.
    pub device: DeviceId,
    /// The channel's S-tag; none for the default channel.
    pub svid: Option<SVid>,
    /// Which tenant of the port id it is.
    pub generation: Generation,
    /// Whether the link is up.
    pub admin: Admin,
    /// Whether it gets its own frames back.
    pub reflective_relay: ReflectiveRelay,
    /// Addresses it may have learned at a time; frames from more of them pass, too.
    pub learn_limit: u32,
    /// Largest payload, tags not counted.
    pub mtu: u32,
}

/// A VM port on a bridge.
#[derive(Clone, Debug)]
pub struct BridgePortPlan {
    /// What every VM port has.
    pub port: VmPlan,
    /// The bridge's domain.
    pub domain: DomainId,
}
