//! A site to send frames through: ports by number, frames by their fields.

use std::sync::Arc;

use crate::ledger::DropReason;
use crate::port::Attached;
use crate::relay::arrival::{Arrival, Arrivals};
use crate::relay::fdb::Fdb;
use crate::relay::{Admitted, Burst, Frame, Relay, Verdict, egress};
use crate::snapshot::compile::compile;
use crate::snapshot::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, StationPlan, Topology,
    UplinkPlan, VmPlan,
};
use crate::snapshot::{
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, ReflectiveRelay, Snapshot,
    VlanPolicy,
};
use crate::wire::offload::{Capabilities, Offload};
use crate::wire::{Mac, SVid, VlanId};

/// The link's device; a channel's uplink has this number plus its S-VID.
pub const LINK: u16 = 1000;
/// Ageing of every site, in milliseconds.
pub const AGEING_MS: u64 = 300_000;
/// MTU of every site, in bytes.
pub const MTU: u32 = 1500;
/// Addresses a port may learn.
pub const LIMIT: u32 = 3;
/// Addresses a bridge channel may have learned.
pub const MEMBER_LIMIT: u32 = 4;

/// The address of a number; those of ports have theirs.
pub fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([2, 0, 0, 0, high, low])
}

pub fn attached(device: DeviceId) -> Arc<Attached> {
    let counters = Attached::counters(1);
    Arc::new(Attached::new(device, "test", counters, Capabilities::ALL, Vec::new()))
}

/// A VM's port that learns, transparent and up; its device has its number.
pub fn vm(port: u16) -> VmPlan {
    VmPlan {
        port: PortId(port),
        device: DeviceId(port),
        generation: Generation(0),
        admin: Admin::Up,
        addresses: Addresses::Learned { limit: LIMIT },
        vlan: VlanPolicy::Transparent,
        attached: attached(DeviceId(port)),
    }
}

/// The same with the address of its number.
pub fn registered(port: u16) -> VmPlan {
    VmPlan { addresses: Addresses::Registered([mac(port)].into()), ..vm(port) }
}

pub fn access(vlan: u16) -> VlanPolicy {
    VlanPolicy::Access(VlanId::new(vlan).unwrap())
}

pub fn trunk(vlans: &[u16], native: Option<u16>) -> VlanPolicy {
    let members = vlans.iter().map(|&vlan| VlanId::new(vlan).unwrap()).collect();
    VlanPolicy::Trunk { members: Box::new(members), native: native.and_then(VlanId::new) }
}

pub fn in_vlan(vlan: VlanPolicy, port: VmPlan) -> VmPlan {
    VmPlan { vlan, ..port }
}

pub fn station(domain: u16, mode: Mode, port: VmPlan) -> StationPlan {
    StationPlan { port, domain: DomainId(domain), mode }
}

pub fn link(svids: &[u16]) -> LinkPlan {
    LinkPlan {
        device: DeviceId(LINK),
        mtu: MTU,
        attached: attached(DeviceId(LINK)),
        svids: svids.iter().map(|&svid| SVid::new(svid).unwrap()).collect(),
    }
}

/// A channel on the link: the default one for S-VID 0.
pub fn channel(domain: u16, svid: u16) -> ChannelPlan {
    let uplink = UplinkPlan {
        port: PortId(LINK + svid),
        device: DeviceId(LINK),
        svid: SVid::new(svid),
        admin: Admin::Up,
    };
    ChannelPlan { domain: DomainId(domain), uplink: Some(uplink), mtu: MTU }
}

/// A channel of a link without a device.
pub fn local_channel(domain: u16) -> ChannelPlan {
    ChannelPlan { uplink: None, ..channel(domain, 0) }
}

/// A channel of the link as a bridge's member.
pub fn member(svid: u16, reflective_relay: ReflectiveRelay) -> MemberPlan {
    MemberPlan {
        learn_limit: MEMBER_LIMIT,
        port: PortId(LINK + svid),
        device: DeviceId(LINK),
        svid: SVid::new(svid),
        generation: Generation(0),
        admin: Admin::Up,
        reflective_relay,
        mtu: MTU,
    }
}

pub fn bridge(domain: u16, members: Vec<MemberPlan>) -> BridgePlan {
    BridgePlan { domain: DomainId(domain), mtu: MTU, members }
}

pub fn bridge_port(domain: u16, port: VmPlan) -> BridgePortPlan {
    BridgePortPlan { port, domain: DomainId(domain) }
}

/// One station channel (domain 0) on the link, with these ports.
pub fn one_channel(station_ports: Vec<StationPlan>) -> Topology {
    Topology {
        ageing_ms: AGEING_MS,
        links: vec![link(&[])],
        channels: vec![channel(0, 0)],
        station_ports,
        ..Topology::default()
    }
}

/// A frame being written.
#[derive(Clone, Debug)]
pub struct Bytes(pub Vec<u8>);

/// An IPv4 frame of 46 payload bytes.
pub fn frame(destination: Mac, source: Mac) -> Bytes {
    let mut bytes = [destination.octets(), source.octets()].concat();
    bytes.extend([0x08, 0x00]);
    bytes.resize(60, 0x5a);
    Bytes(bytes)
}

impl Bytes {
    /// With a tag in front of what there is.
    pub fn tag(mut self, tpid: u16, tci: u16) -> Bytes {
        let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
        self.0.splice(12..12, tag);
        self
    }

    pub fn c(self, tci: u16) -> Bytes {
        self.tag(0x8100, tci)
    }

    pub fn s(self, tci: u16) -> Bytes {
        self.tag(0x88a8, tci)
    }

    pub fn length(mut self, length: usize) -> Bytes {
        self.0.resize(length, 0x5a);
        self
    }

    pub fn view(&self) -> Frame<'_> {
        let header = &self.0[..self.0.len().min(128)];
        Frame { index: 0, header, length: self.0.len(), offload: Offload::NONE }
    }
}

/// Frames of one batch.
struct Together<'f, const COUNT: usize>([Frame<'f>; COUNT]);

impl<'f, const COUNT: usize> Burst<'f> for Together<'f, COUNT> {
    fn count(&self) -> usize {
        COUNT
    }

    fn frame(&self, index: usize) -> Frame<'f> {
        self.0[index]
    }

    fn alike(&self) -> u64 {
        let head = |frame: &Frame<'f>| frame.header.get(..16).filter(|_| frame.offload.is_none());
        let is_as_before = |&index: &usize| {
            let (before, frame) = (self.0[index - 1], self.0[index]);
            head(&frame).is_some() && head(&before) == head(&frame) && frame.length <= before.length
        };
        (1..COUNT).filter(is_as_before).map(|index| 1 << index).sum()
    }
}

/// A compiled topology with its learned addresses and its clock.
pub struct Site {
    pub snapshot: Snapshot,
    pub fdb: Fdb,
    pub now_ms: u64,
}

impl Site {
    pub fn new(topology: &Topology) -> Site {
        let snapshot = compile(topology).unwrap();
        Site { snapshot, fdb: Fdb::new(1000), now_ms: 1_000_000 }
    }

    pub fn recompile(&mut self, topology: &Topology) {
        self.snapshot = compile(topology).unwrap();
    }

    pub fn relay(&self) -> Relay<'_> {
        Relay { snapshot: &self.snapshot, fdb: &self.fdb, now_ms: self.now_ms }
    }

    /// What becomes of a frame.
    pub fn arrive(&self, device: u16, frame: Frame<'_>) -> Result<Arrival, DropReason> {
        let mut refused = Vec::new();
        let arrivals = self.arrive_together(device, [frame], |reason| refused.push(reason));
        arrivals.all().first().copied().ok_or_else(|| refused.remove(0))
    }

    /// What becomes of the frames of one batch.
    pub fn arrive_together<const COUNT: usize>(
        &self,
        device: u16,
        frames: [Frame<'_>; COUNT],
        refused: impl FnMut(DropReason),
    ) -> Arrivals {
        let mut arrivals = Arrivals::with_capacity(COUNT);
        self.arrive_into(&mut arrivals, device, frames, refused);
        arrivals
    }

    /// The same, in places that may have been used before.
    pub fn arrive_into<const COUNT: usize>(
        &self,
        arrivals: &mut Arrivals,
        device: u16,
        frames: [Frame<'_>; COUNT],
        refused: impl FnMut(DropReason),
    ) {
        let relay = self.relay();
        let entrance = relay.entrance(DeviceId(device)).expect("the device is planned");
        arrivals.clear();
        relay.admit(entrance, &Together(frames), arrivals, refused);
        relay.decide(entrance, arrivals);
    }

    /// Sends a frame; says which relay ports it leaves by.
    pub fn send(&self, device: u16, frame: &Bytes) -> Result<Vec<u16>, DropReason> {
        let arrival = self.arrive(device, frame.view())?;
        match arrival.verdict {
            Verdict::To(port) => Ok(vec![port.0]),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Flood(audience) => {
                let receivers = audience.receivers(&self.snapshot, arrival.admitted.domain);
                Ok(receivers.map(|port| port.0).collect())
            }
        }
    }

    /// The bytes of the copy that leaves by a relay port.
    pub fn copy(&self, admitted: &Admitted, port: u16, frame: &Bytes) -> Result<Bytes, DropReason> {
        let port = self.snapshot.port(PortId(port)).expect("the port is planned");
        let edit = egress::plan(admitted, port, &frame.view())?;
        let mut into = vec![0; frame.0.len() + 8];
        let length = edit.apply(&frame.0, &mut into);
        into.truncate(length);
        Ok(Bytes(into))
    }
}
