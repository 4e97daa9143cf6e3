//! From the topology to the snapshot.
//!
//! Control has checked what operators wrote; what is refused here would be a
//! contradiction between the plans, by which frames could reach the wrong port.

use std::collections::BTreeSet;

use super::mirrors::Mirrors;
use super::registered::{Registered, Registration, Scope};
use super::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, MirrorPlan, MonitorPlan,
    StationPlan, Topology, UplinkPlan, VmPlan,
};
use super::{
    Addresses, Channels, DEVICES_MAX, Device, DeviceId, Domain, DomainId, DomainKind, Entry,
    Generation, Mode, PORTS_MAX, PortId, RelayPort, Role, Snapshot, VlanPolicy,
};
use crate::wire::vlan::VidSet;
use crate::wire::{Mac, SVid};

/// Domains a switch can have: one per relay port at most.
const DOMAINS_MAX: usize = PORTS_MAX;

/// Why a topology is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// An id is beyond what tables are made for.
    #[error("{kind} id {id} is out of range; ids are below {below}")]
    IdOutOfRange {
        /// Of what.
        kind: &'static str,
        /// The id.
        id: u16,
        /// The first number that is no id.
        below: usize,
    },
    /// An id names two things.
    #[error("{kind} id {id} is given twice; give each {kind} its own")]
    IdTaken {
        /// Of what.
        kind: &'static str,
        /// The id.
        id: u16,
    },
    /// A port's domain is not planned, or of the wrong kind.
    #[error("port {port} belongs to domain {domain}, which is no {wanted}; plan that first", port = port.0, domain = domain.0)]
    DomainUnknown {
        /// The port.
        port: PortId,
        /// The domain it names.
        domain: DomainId,
        /// What it should be.
        wanted: &'static str,
    },
    /// A mirror's copies come from no device, or go to one that is no monitor's.
    #[error("a mirror copies from device {from} to device {to}: the one must be a port's or link's, the other a monitor's; plan them first", from = from.0, to = to.0)]
    MirrorUnknown {
        /// What it mirrors.
        from: DeviceId,
        /// Where the copies go.
        to: DeviceId,
    },
    /// The end of a channel lies on a device that is no link.
    #[error("port {port} is on device {device}, which is no link; plan the link first", port = port.0, device = device.0)]
    LinkUnknown {
        /// The relay port at the channel's end.
        port: PortId,
        /// The device it names.
        device: DeviceId,
    },
    /// Two channels of a link have one S-tag, or both have none.
    #[error("device {device} has two channels with {}; give each its own S-VID", describe(*svid), device = device.0)]
    ChannelTaken {
        /// The link's device.
        device: DeviceId,
        /// The S-VID; none for the default channel.
        svid: Option<SVid>,
    },
    /// A `direct` port has company.
    #[error("domain {domain} has a `direct` port and another one; `direct` is for the only port of a channel", domain = domain.0)]
    DirectNotAlone {
        /// The channel's domain.
        domain: DomainId,
    },
    /// A registered address is a group's, or zero.
    #[error("port {port} registers {mac}, which no station can own; use an individual address", port = port.0)]
    NoStation {
        /// The port.
        port: PortId,
        /// The address.
        mac: Mac,
    },
    /// Two ports registered one address, and share a VLAN.
    #[error("ports {first} and {second} register {mac} and share a VLAN; separate their VLANs or change one address", first = first.0, second = second.0)]
    AddressTaken {
        /// The address.
        mac: Mac,
        /// One port.
        first: PortId,
        /// The other.
        second: PortId,
    },
}

fn describe(svid: Option<SVid>) -> String {
    svid.map_or_else(|| "no S-tag".to_owned(), |svid| format!("S-VID {svid}"))
}

/// Compiles a topology: O(n log n) in its size; allocates.
///
/// # Errors
/// [`CompileError`]: ids that collide or name nothing, and addresses or channels
/// that two ports claim.
pub fn compile(topology: &Topology) -> Result<Snapshot, CompileError> {
    let mut tables = Tables::default();
    topology.links.iter().try_for_each(|link| tables.add_link(link))?;
    topology.channels.iter().try_for_each(|channel| tables.add_channel(channel))?;
    topology.bridges.iter().try_for_each(|bridge| tables.add_bridge(bridge))?;
    topology.station_ports.iter().try_for_each(|plan| tables.add_station(plan))?;
    topology.bridge_ports.iter().try_for_each(|plan| tables.add_bridge_port(plan))?;
    tables.mark_direct_uplinks()?;
    tables.attach_channels(topology)?;
    topology.monitors.iter().try_for_each(|plan| tables.add_monitor(plan))?;
    let mirrors = tables.mirrors(&topology.mirrors)?;
    let registered = tables.registered()?;
    let domain = |draft: &Option<DomainDraft>| Some(tables.domain(draft.as_ref()?));
    let domains = tables.domains.iter().map(domain).collect();
    Ok(Snapshot {
        revision: topology.revision,
        ports: tables.ports.into_boxed_slice(),
        devices: tables.devices.into_boxed_slice(),
        domains,
        registered,
        mirrors,
        ageing_ms: topology.ageing_ms,
    })
}

/// A domain while its ports are being collected.
#[derive(Debug)]
struct DomainDraft {
    kind: DomainKind,
    mtu: u32,
    ports: Vec<PortId>,
}

/// The snapshot's tables while they are being filled.
#[derive(Debug, Default)]
struct Tables {
    ports: Vec<Option<RelayPort>>,
    devices: Vec<Option<Device>>,
    domains: Vec<Option<DomainDraft>>,
    /// Channels' ends so far.
    ends: BTreeSet<(DeviceId, Option<SVid>)>,
}

/// Puts a value at its id.
fn place<T>(
    table: &mut Vec<Option<T>>,
    kind: &'static str,
    id: u16,
    below: usize,
    value: T,
) -> Result<(), CompileError> {
    let index = usize::from(id);
    if index >= below {
        return Err(CompileError::IdOutOfRange { kind, id, below });
    }
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    match &mut table[index] {
        Some(_) => Err(CompileError::IdTaken { kind, id }),
        free => {
            *free = Some(value);
            Ok(())
        }
    }
}

impl Tables {
    fn add_device(&mut self, id: DeviceId, device: Device) -> Result<(), CompileError> {
        place(&mut self.devices, "device", id.0, DEVICES_MAX, device)
    }

    fn add_port(&mut self, id: PortId, port: RelayPort) -> Result<(), CompileError> {
        place(&mut self.ports, "port", id.0, PORTS_MAX, port)
    }

    fn add_domain(&mut self, id: DomainId, draft: DomainDraft) -> Result<(), CompileError> {
        place(&mut self.domains, "domain", id.0, DOMAINS_MAX, draft)
    }

    fn domain_mut(&mut self, id: DomainId) -> Option<&mut DomainDraft> {
        self.domains.get_mut(usize::from(id.0))?.as_mut()
    }

    fn port(&self, id: PortId) -> Option<&RelayPort> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// A domain, once all its ports are there.
    fn domain(&self, draft: &DomainDraft) -> Domain {
        let learns = |id: &PortId| {
            let addresses = self.port(*id).map(|port| &port.addresses);
            matches!(addresses, Some(Addresses::Learned { .. }))
        };
        let ports = draft.ports.clone().into_boxed_slice();
        let learners = ports.iter().copied().filter(learns).collect();
        Domain { kind: draft.kind, ports, learners }
    }

    fn add_link(&mut self, link: &LinkPlan) -> Result<(), CompileError> {
        let mut svids = link.svids.clone();
        svids.sort_unstable();
        svids.dedup();
        let tagged = svids.into_iter().map(|svid| (svid, None)).collect();
        let entry = Entry::Link(Channels { default: None, tagged });
        let attached = link.attached.clone();
        self.add_device(link.device, Device { entry, mtu: link.mtu, attached })
    }

    fn add_channel(&mut self, channel: &ChannelPlan) -> Result<(), CompileError> {
        let &ChannelPlan { domain, mtu, .. } = channel;
        let uplink = channel.uplink.as_ref().map(|uplink| uplink.port);
        let kind = DomainKind::Station { uplink };
        self.add_domain(domain, DomainDraft { kind, mtu, ports: Vec::new() })?;
        match &channel.uplink {
            Some(plan) => self.add_port(plan.port, uplink_port(plan, domain, mtu)),
            None => Ok(()),
        }
    }

    fn add_bridge(&mut self, bridge: &BridgePlan) -> Result<(), CompileError> {
        let ports = bridge.members.iter().map(|member| member.port).collect();
        let draft = DomainDraft { kind: DomainKind::Bridge, mtu: bridge.mtu, ports };
        self.add_domain(bridge.domain, draft)?;
        bridge
            .members
            .iter()
            .try_for_each(|member| self.add_port(member.port, member_port(member, bridge.domain)))
    }

    fn add_station(&mut self, plan: &StationPlan) -> Result<(), CompileError> {
        let is_wanted = |kind| matches!(kind, DomainKind::Station { .. });
        let mtu = self.join(&plan.port, plan.domain, "station channel", is_wanted)?;
        self.add_vm(&plan.port, plan.domain, Role::Station(plan.mode), mtu)
    }

    fn add_bridge_port(&mut self, plan: &BridgePortPlan) -> Result<(), CompileError> {
        let is_wanted = |kind| kind == DomainKind::Bridge;
        let mtu = self.join(&plan.port, plan.domain, "bridge", is_wanted)?;
        self.add_vm(&plan.port, plan.domain, Role::BridgePort, mtu)
    }

    /// Adds a VM's port to its domain's list; says the domain's MTU.
    fn join(
        &mut self,
        vm: &VmPlan,
        domain: DomainId,
        wanted: &'static str,
        is_wanted: impl Fn(DomainKind) -> bool,
    ) -> Result<u32, CompileError> {
        let draft = self
            .domain_mut(domain)
            .filter(|draft| is_wanted(draft.kind))
            .ok_or(CompileError::DomainUnknown { port: vm.port, domain, wanted })?;
        draft.ports.push(vm.port);
        Ok(draft.mtu)
    }

    fn add_vm(
        &mut self,
        vm: &VmPlan,
        domain: DomainId,
        role: Role,
        mtu: u32,
    ) -> Result<(), CompileError> {
        let entry = Entry::Port(vm.port);
        self.add_device(vm.device, Device { entry, mtu, attached: vm.attached.clone() })?;
        let port = RelayPort {
            device: vm.device,
            domain,
            generation: vm.generation,
            admin: vm.admin,
            role,
            vlan: vm.vlan.clone(),
            addresses: sorted(&vm.addresses),
            svid: None,
            mtu,
        };
        self.add_port(vm.port, port)
    }

    fn add_monitor(&mut self, plan: &MonitorPlan) -> Result<(), CompileError> {
        let attached = plan.attached.clone();
        self.add_device(plan.device, Device { entry: Entry::Monitor, mtu: u32::MAX, attached })
    }

    fn mirrors(&self, plans: &[MirrorPlan]) -> Result<Mirrors, CompileError> {
        let is_monitor = |id: DeviceId| {
            let device = self.devices.get(usize::from(id.0))?.as_ref()?;
            Some(matches!(device.entry, Entry::Monitor))
        };
        let mirrored = |&MirrorPlan { from, frames, to }: &MirrorPlan| match (
            is_monitor(from),
            is_monitor(to),
        ) {
            (Some(false), Some(true)) => Ok((from, frames, to)),
            _ => Err(CompileError::MirrorUnknown { from, to }),
        };
        let all: Vec<_> = plans.iter().map(mirrored).collect::<Result<_, _>>()?;
        Ok(Mirrors::new(&all))
    }

    /// Tells the uplinks of `direct` ports whose they are.
    fn mark_direct_uplinks(&mut self) -> Result<(), CompileError> {
        let is_direct = |id: &PortId| {
            self.port(*id).is_some_and(|port| port.role == Role::Station(Mode::Direct))
        };
        let mut marks = Vec::new();
        for (index, draft) in self.domains.iter().enumerate() {
            let Some(DomainDraft { kind: DomainKind::Station { uplink }, ports, .. }) = draft
            else {
                continue;
            };
            let Some(&direct) = ports.iter().find(|id| is_direct(id)) else { continue };
            if ports.len() > 1 {
                return Err(CompileError::DirectNotAlone { domain: DomainId(index as u16) });
            }
            marks.extend(uplink.map(|uplink| (uplink, direct)));
        }
        for (uplink, direct) in marks {
            if let Some(Some(port)) = self.ports.get_mut(usize::from(uplink.0)) {
                port.role = Role::DirectUplink(direct);
            }
        }
        Ok(())
    }

    /// Enters the ends of channels that are used at their links.
    fn attach_channels(&mut self, topology: &Topology) -> Result<(), CompileError> {
        for channel in &topology.channels {
            let is_used = self.domain_mut(channel.domain).is_some_and(|it| !it.ports.is_empty());
            if let Some(uplink) = &channel.uplink {
                let entrance = is_used.then_some(uplink.port);
                self.attach(uplink.device, uplink.svid, uplink.port, entrance)?;
            }
        }
        for member in topology.bridges.iter().flat_map(|bridge| &bridge.members) {
            self.attach(member.device, member.svid, member.port, Some(member.port))?;
        }
        Ok(())
    }

    /// Enters one end: `entrance` is its port, unless the channel is unused.
    fn attach(
        &mut self,
        device: DeviceId,
        svid: Option<SVid>,
        port: PortId,
        entrance: Option<PortId>,
    ) -> Result<(), CompileError> {
        let found = self.devices.get_mut(usize::from(device.0));
        let Some(Some(Device { entry: Entry::Link(channels), .. })) = found else {
            return Err(CompileError::LinkUnknown { port, device });
        };
        if !self.ends.insert((device, svid)) {
            return Err(CompileError::ChannelTaken { device, svid });
        }
        let place = match svid {
            None => &mut channels.default,
            Some(svid) => channels.tagged_mut(svid),
        };
        *place = entrance;
        Ok(())
    }

    fn registered(&self) -> Result<Registered, CompileError> {
        let mut claims: Vec<(Registration, &RelayPort)> = Vec::new();
        for (index, port) in self.ports.iter().enumerate() {
            if let Some(port) = port {
                claims.extend(claims_of(PortId(index as u16), port)?);
            }
        }
        claims.sort_unstable_by_key(|(claim, _)| (claim.domain, claim.mac, claim.port));
        let is_same = |a: &(Registration, _), b: &(Registration, _)| {
            a.0.domain == b.0.domain && a.0.mac == b.0.mac
        };
        claims.chunk_by(is_same).try_for_each(refuse_shared)?;
        let is_up = |claim: &&(Registration, &RelayPort)| claim.1.admin == super::Admin::Up;
        let live: Vec<Registration> =
            claims.iter().filter(is_up).map(|(claim, _)| *claim).collect();
        Ok(Registered::new(&live))
    }
}

impl Channels {
    /// The place of a tagged channel, made if it is not there.
    fn tagged_mut(&mut self, svid: SVid) -> &mut Option<PortId> {
        let index = match self.tagged.binary_search_by_key(&svid, |&(svid, _)| svid) {
            Ok(index) => index,
            Err(index) => {
                let mut tagged = std::mem::take(&mut self.tagged).into_vec();
                tagged.insert(index, (svid, None));
                self.tagged = tagged.into_boxed_slice();
                index
            }
        };
        &mut self.tagged[index].1
    }
}

/// The addresses that a port registers.
fn claims_of(
    id: PortId,
    port: &RelayPort,
) -> Result<Vec<(Registration, &RelayPort)>, CompileError> {
    let Addresses::Registered(macs) = &port.addresses else { return Ok(Vec::new()) };
    if port.role == Role::Station(Mode::Direct) {
        return Ok(Vec::new());
    }
    if let Some(&mac) = macs.iter().find(|mac| !mac.is_station()) {
        return Err(CompileError::NoStation { port: id, mac });
    }
    let scope = match &port.vlan {
        VlanPolicy::Transparent => Scope::Every,
        VlanPolicy::Access(vlan) => Scope::Only((*vlan).into()),
        VlanPolicy::Trunk { .. } => Scope::Members,
    };
    let domain = port.domain;
    let claim = |&mac| (Registration { domain, mac, port: id, scope }, port);
    Ok(macs.iter().map(claim).collect())
}

/// Refuses claims of one address by ports that share a VLAN.
fn refuse_shared(claims: &[(Registration, &RelayPort)]) -> Result<(), CompileError> {
    for (index, (first, port)) in claims.iter().enumerate() {
        let others = claims.iter().skip(index + 1);
        if let Some((second, _)) =
            others.clone().find(|(_, other)| overlap(&port.vlan, &other.vlan))
        {
            let (mac, first, second) = (first.mac, first.port, second.port);
            return Err(CompileError::AddressTaken { mac, first, second });
        }
    }
    Ok(())
}

/// Whether two ports are members of one VID.
fn overlap(one: &VlanPolicy, other: &VlanPolicy) -> bool {
    match (members(one), members(other)) {
        (Some(one), Some(other)) => one.intersects(&other),
        _ => true,
    }
}

/// A policy's VIDs; nothing for all of them.
fn members(vlan: &VlanPolicy) -> Option<VidSet> {
    match vlan {
        VlanPolicy::Transparent => None,
        VlanPolicy::Access(id) => Some([*id].into_iter().collect()),
        VlanPolicy::Trunk { members, .. } => Some(VidSet::clone(members)),
    }
}

/// Sorted, each once.
fn sorted(addresses: &Addresses) -> Addresses {
    match addresses {
        Addresses::Learned { limit } => Addresses::Learned { limit: *limit },
        Addresses::Registered(macs) => {
            let mut macs = macs.to_vec();
            macs.sort_unstable();
            macs.dedup();
            Addresses::Registered(macs.into_boxed_slice())
        }
    }
}

fn uplink_port(plan: &UplinkPlan, domain: DomainId, mtu: u32) -> RelayPort {
    RelayPort {
        device: plan.device,
        domain,
        generation: Generation::default(),
        admin: plan.admin,
        role: Role::Uplink,
        vlan: VlanPolicy::Transparent,
        addresses: Addresses::Learned { limit: 0 },
        svid: plan.svid,
        mtu,
    }
}

fn member_port(plan: &MemberPlan, domain: DomainId) -> RelayPort {
    RelayPort {
        device: plan.device,
        domain,
        generation: plan.generation,
        admin: plan.admin,
        role: Role::BridgeChannel(plan.reflective_relay),
        vlan: VlanPolicy::Transparent,
        addresses: Addresses::Learned { limit: plan.learn_limit },
        svid: plan.svid,
        mtu: plan.mtu,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::relay::tests::site::*;
    use crate::snapshot::mirrors::Mirrored;
    use crate::snapshot::{Admin, ReflectiveRelay};

    fn refusal(topology: &Topology) -> CompileError {
        compile(topology).expect_err("it contradicts itself")
    }

    fn two_stations() -> Topology {
        one_channel(vec![
            station(0, Mode::Veb, registered(1)),
            station(0, Mode::Veb, registered(2)),
        ])
    }

    #[test]
    fn ids_are_unique_and_in_range() {
        let taken = |kind, id| CompileError::IdTaken { kind, id };
        let mut topology = two_stations();
        topology.station_ports[1].port.port = PortId(1);
        assert_eq!(refusal(&topology), taken("port", 1));
        let mut topology = two_stations();
        topology.station_ports[1].port.device = DeviceId(LINK);
        assert_eq!(refusal(&topology), taken("device", LINK));
        let mut topology = two_stations();
        topology.bridges.push(bridge(0, Vec::new()));
        assert_eq!(refusal(&topology), taken("domain", 0));
        let mut topology = two_stations();
        topology.station_ports[1].port.port = PortId(PORTS_MAX as u16);
        let (kind, id, below) = ("port", PORTS_MAX as u16, PORTS_MAX);
        assert_eq!(refusal(&topology), CompileError::IdOutOfRange { kind, id, below });
        let mut topology = two_stations();
        topology.links.push(link(&[]));
        assert_eq!(refusal(&topology), taken("device", LINK));
    }

    #[test]
    fn ports_belong_to_what_is_planned() {
        let unknown = |domain, wanted| CompileError::DomainUnknown {
            port: PortId(3),
            domain: DomainId(domain),
            wanted,
        };
        let mut topology = two_stations();
        topology.station_ports.push(station(7, Mode::Veb, vm(3)));
        assert_eq!(refusal(&topology), unknown(7, "station channel"));
        let mut topology = two_stations();
        topology.bridge_ports.push(bridge_port(0, vm(3)));
        assert_eq!(refusal(&topology), unknown(0, "bridge"));
        let mut topology = two_stations();
        topology.links.clear();
        let (port, device) = (PortId(LINK), DeviceId(LINK));
        assert_eq!(refusal(&topology), CompileError::LinkUnknown { port, device });
    }

    #[test]
    fn a_channel_has_one_end_and_a_direct_port_no_company() {
        let mut topology = two_stations();
        topology.channels.extend([channel(1, 100), channel(2, 100)]);
        topology.channels[2].uplink.as_mut().unwrap().port = PortId(50);
        let (device, svid) = (DeviceId(LINK), SVid::new(100));
        assert_eq!(refusal(&topology), CompileError::ChannelTaken { device, svid });
        let mut topology = two_stations();
        topology.bridges.push(bridge(1, vec![member(0, ReflectiveRelay::Off)]));
        topology.bridges[0].members[0].port = PortId(50);
        assert_eq!(refusal(&topology), CompileError::ChannelTaken { device, svid: None });
        let mut topology = two_stations();
        topology.station_ports[0].mode = Mode::Direct;
        let domain = DomainId(0);
        assert_eq!(refusal(&topology), CompileError::DirectNotAlone { domain });
    }

    #[test]
    fn addresses_are_stations_and_one_port_s_in_each_vlan() {
        let mut topology = two_stations();
        topology.station_ports[1].port.addresses = Addresses::Registered([Mac::BROADCAST].into());
        let (port, broadcast) = (PortId(2), Mac::BROADCAST);
        assert_eq!(refusal(&topology), CompileError::NoStation { port, mac: broadcast });

        topology.station_ports[1].port.addresses = Addresses::Registered([mac(1)].into());
        topology.station_ports[1].port.admin = Admin::Down;
        let taken = CompileError::AddressTaken { mac: mac(1), first: PortId(1), second: PortId(2) };
        assert_eq!(refusal(&topology), taken);
        let mut vlans = |first, second| {
            topology.station_ports[0].port.vlan = first;
            topology.station_ports[1].port.vlan = second;
            compile(&topology).map(drop)
        };
        assert_eq!(vlans(VlanPolicy::Transparent, access(10)), Err(taken.clone()));
        assert_eq!(vlans(access(10), trunk(&[9, 10], None)), Err(taken));
        assert_eq!(vlans(access(10), trunk(&[9, 11], None)), Ok(()));
        assert_eq!(vlans(access(10), access(11)), Ok(()));
    }

    #[test]
    fn mirrors_copy_from_ports_and_links_to_monitors() {
        let mut topology = two_stations();
        let device = DeviceId(9);
        topology.monitors.push(MonitorPlan { device, attached: attached(device) });
        let mirror = |from, to| {
            let (from, to) = (DeviceId(from), DeviceId(to));
            MirrorPlan { from, frames: Mirrored::Both, to }
        };
        let mut mirrors = |plan| {
            topology.mirrors = vec![plan];
            compile(&topology).map(|it| it.mirrors.is_empty())
        };
        assert_eq!(mirrors(mirror(1, 9)), Ok(false));
        assert_eq!(mirrors(mirror(LINK, 9)), Ok(false));
        for (from, to) in [(1, 2), (9, 9), (7, 9), (1, 7)] {
            let (from, to) = (DeviceId(from), DeviceId(to));
            let refused = CompileError::MirrorUnknown { from, to };
            assert_eq!(mirrors(mirror(from.0, to.0)), Err(refused));
        }
    }

    #[test]
    fn an_unused_channel_lets_nothing_in_and_a_member_does() {
        let mut topology = two_stations();
        topology.links = vec![link(&[300, 200])];
        topology.channels.push(channel(1, 100));
        topology.bridges.push(bridge(2, vec![member(200, ReflectiveRelay::Off)]));
        let snapshot = compile(&topology).unwrap();
        let Some(Device { entry: Entry::Link(channels), .. }) = snapshot.device(DeviceId(LINK))
        else {
            panic!("the link is there");
        };
        assert_eq!(channels.default, Some(PortId(LINK)));
        let ends = channels.tagged.iter().map(|&(svid, port)| (svid.get(), port));
        let expected = [(100, None), (200, Some(PortId(LINK + 200))), (300, None)];
        assert_eq!(ends.collect::<Vec<_>>(), expected);
    }
}
