//! From the desired state to the topology that the dataplane compiles.

use std::collections::BTreeMap;
use std::sync::Arc;

use hairpin_dataplane::port::Attached;
use hairpin_dataplane::snapshot::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, MirrorPlan, MonitorPlan,
    StationPlan, Topology, UplinkPlan, VmPlan,
};
use hairpin_dataplane::snapshot::{Addresses, Admin, Mode, VlanPolicy};

use super::ids::{Exhausted, Ids, Sources, Standing};
use super::line;
use crate::config::desired::{Bridge, Channel, Desired, Home, Link, Member, Mirror, Port};
use crate::config::{LinkRole, MTU_DEFAULT};

/// A device that is open, as far as a topology needs it.
#[derive(Clone, Debug)]
pub struct Plugged {
    /// What workers share of it.
    pub attached: Arc<Attached>,
    /// Its MTU, if it has one of its own.
    pub mtu: Option<u32>,
    /// Its line.
    pub line: line::State,
}

impl Plugged {
    /// Whether what has it is up, where its owner wants it so.
    fn admin(&self, wanted: Admin) -> Admin {
        match wanted {
            Admin::Up => self.line.verdict.admin(),
            Admin::Down => Admin::Down,
        }
    }
}

/// Open devices, by the name of their port or link.
pub type Devices<'n> = BTreeMap<&'n str, Plugged>;

/// Payload that fits through a link: as configured, else as its device has it.
#[must_use]
pub fn link_mtu(link: &Link, devices: &Devices<'_>) -> u32 {
    let of_device = || devices.get(&*link.name).and_then(|device| device.mtu);
    link.mtu.or_else(of_device).unwrap_or(MTU_DEFAULT)
}

/// Payload that fits through a bridge: the least of its links.
#[must_use]
pub fn bridge_mtu(desired: &Desired, bridge: &Bridge, devices: &Devices<'_>) -> u32 {
    let links = bridge.members.iter().map(|member| desired.channel(member.channel));
    let mtus = links.map(|channel| link_mtu(desired.link_of(channel), devices));
    mtus.min().unwrap_or(MTU_DEFAULT)
}

/// Payload that a port may send.
#[must_use]
pub fn port_mtu(desired: &Desired, port: &Port, devices: &Devices<'_>) -> u32 {
    match port.home {
        Home::Station { channel, .. } => {
            link_mtu(desired.link_of(desired.channel(channel)), devices)
        }
        Home::Bridge(bridge) => bridge_mtu(desired, desired.bridge(bridge), devices),
        // What it gets may come from any link.
        Home::Mirror(_) => {
            let mtus = desired.links().iter().map(|link| link_mtu(link, devices));
            mtus.max().unwrap_or(MTU_DEFAULT)
        }
    }
}

/// The topology of a desired state whose devices are open.
///
/// # Errors
/// There are more objects than ids.
pub fn topology(
    desired: &Desired,
    devices: &Devices<'_>,
    ids: &mut Ids,
    revision: u64,
) -> Result<Topology, Exhausted> {
    let mut build = Build { desired, devices, ids };
    let mut topology = Topology {
        revision,
        ageing_ms: u64::try_from(desired.switch().fdb.ageing.as_millis()).unwrap_or(u64::MAX),
        ..Topology::default()
    };
    for link in desired.links() {
        topology.links.extend(build.link(link)?);
    }
    let of_stations = |channel: &&Channel| desired.link_of(channel).role == LinkRole::Station;
    for channel in desired.channels().iter().filter(of_stations) {
        topology.channels.push(build.channel(channel)?);
    }
    for bridge in desired.bridges() {
        topology.bridges.push(build.bridge(bridge)?);
    }
    for port in desired.ports() {
        match port.home {
            Home::Station { channel, mode } => {
                let domain = build.ids.domain(&desired.channel(channel).name)?;
                let Some(port) = build.vm(port)? else { continue };
                topology.station_ports.push(StationPlan { port, domain, mode });
            }
            Home::Bridge(bridge) => {
                let domain = build.ids.domain(&desired.bridge(bridge).name)?;
                let Some(port) = build.vm(port)? else { continue };
                topology.bridge_ports.push(BridgePortPlan { port, domain });
            }
            Home::Mirror(mirror) => build.monitor(port, desired.mirror(mirror), &mut topology)?,
        }
    }
    Ok(topology)
}

/// Addresses that each bridge channel may have learned: an equal share of the table
/// that the ports' limits leave, or of half the table if they leave less. So whoever is
/// at the far end of a link takes no port's room.
fn member_share(desired: &Desired) -> u32 {
    let limit = |port: &Port| match port.addresses {
        Addresses::Learned { limit } => limit as usize,
        Addresses::Registered(_) => 0,
    };
    let capacity = desired.switch().fdb.capacity;
    let ports: usize = desired.ports().iter().map(limit).sum();
    let members: usize = desired.bridges().iter().map(|bridge| bridge.members.len()).sum();
    let left = capacity.saturating_sub(ports).max(capacity / 2);
    u32::try_from((left / members.max(1)).max(1)).unwrap_or(u32::MAX)
}

struct Build<'b> {
    desired: &'b Desired,
    devices: &'b Devices<'b>,
    ids: &'b mut Ids,
}

impl Build<'_> {
    /// A link with a device; a host-local one is no device's.
    fn link(&mut self, link: &Link) -> Result<Option<LinkPlan>, Exhausted> {
        let Some(plugged) = self.devices.get(&*link.name) else { return Ok(None) };
        let mine = |channel: &&Channel| self.desired.link_of(channel).name == link.name;
        let svids = self.desired.channels().iter().filter(mine).filter_map(|c| c.svid).collect();
        Ok(Some(LinkPlan {
            device: self.ids.device(&link.name)?,
            mtu: link_mtu(link, self.devices),
            attached: Arc::clone(&plugged.attached),
            svids,
        }))
    }

    fn channel(&mut self, channel: &Channel) -> Result<ChannelPlan, Exhausted> {
        let link = self.desired.link_of(channel);
        let uplink = match self.devices.get(&*link.name) {
            Some(plugged) => Some(UplinkPlan {
                port: self.ids.port(&channel.name)?,
                device: self.ids.device(&link.name)?,
                svid: channel.svid,
                admin: plugged.admin(link.admin),
            }),
            None => None,
        };
        let domain = self.ids.domain(&channel.name)?;
        Ok(ChannelPlan { domain, uplink, mtu: link_mtu(link, self.devices) })
    }

    fn bridge(&mut self, bridge: &Bridge) -> Result<BridgePlan, Exhausted> {
        let domain = self.ids.domain(&bridge.name)?;
        let mut members = Vec::with_capacity(bridge.members.len());
        for member in &bridge.members {
            members.extend(self.member(bridge, member)?);
        }
        Ok(BridgePlan { domain, mtu: bridge_mtu(self.desired, bridge, self.devices), members })
    }

    /// A member whose link has a device.
    fn member(
        &mut self,
        bridge: &Bridge,
        member: &Member,
    ) -> Result<Option<MemberPlan>, Exhausted> {
        let channel = self.desired.channel(member.channel);
        let link = self.desired.link_of(channel);
        let Some(plugged) = self.devices.get(&*link.name) else { return Ok(None) };
        let admin = plugged.admin(link.admin);
        let port = self.ids.port(&channel.name)?;
        let learn_limit = member_share(self.desired);
        let standing = Standing {
            device: link.device.clone(),
            domain: self.ids.domain(&bridge.name)?,
            admin,
            falls: plugged.line.falls,
            vlan: VlanPolicy::Transparent,
            sources: Sources::Learned,
        };
        Ok(Some(MemberPlan {
            port,
            device: self.ids.device(&link.name)?,
            svid: channel.svid,
            generation: self.ids.generation(&channel.name, port, standing),
            admin,
            reflective_relay: member.reflective_relay,
            learn_limit,
            mtu: link_mtu(link, self.devices),
        }))
    }

    /// A port on a mirror, and what it gets copies of; nothing while it is down.
    fn monitor(
        &mut self,
        port: &Port,
        mirror: &Mirror,
        topology: &mut Topology,
    ) -> Result<(), Exhausted> {
        let Some(plugged) = self.devices.get(&*port.name) else { return Ok(()) };
        let to = self.ids.device(&port.name)?;
        let attached = Arc::clone(&plugged.attached);
        topology.monitors.push(MonitorPlan { device: to, attached });
        if plugged.admin(port.admin) == Admin::Down {
            return Ok(());
        }
        for name in self.desired.mirrored(mirror) {
            if self.devices.contains_key(name) {
                let from = self.ids.device(name)?;
                topology.mirrors.push(MirrorPlan { from, frames: mirror.frames, to });
            }
        }
        Ok(())
    }

    fn vm(&mut self, port: &Port) -> Result<Option<VmPlan>, Exhausted> {
        let Some(plugged) = self.devices.get(&*port.name) else { return Ok(None) };
        let id = self.ids.port(&port.name)?;
        let (home, addresses) = match port.home {
            // A direct port owns no address: what it registered elsewhere is kept
            // in the desired state for when its mode changes.
            Home::Station { channel, mode: Mode::Direct } => (
                &self.desired.channel(channel).name,
                Addresses::Learned { limit: port.learn_limit },
            ),
            Home::Station { channel, .. } => {
                (&self.desired.channel(channel).name, port.addresses.clone())
            }
            Home::Bridge(bridge) => (&self.desired.bridge(bridge).name, port.addresses.clone()),
            // It is none of a relay's.
            Home::Mirror(_) => return Ok(None),
        };
        let admin = plugged.admin(port.admin);
        let standing = Standing {
            device: Some(port.device.clone()),
            domain: self.ids.domain(home)?,
            admin,
            falls: plugged.line.falls,
            vlan: port.vlan.clone(),
            // As configured: a port that is `direct` for a while keeps what it learned.
            sources: match port.addresses {
                Addresses::Registered(_) => Sources::Registered,
                Addresses::Learned { .. } => Sources::Learned,
            },
        };
        Ok(Some(VmPlan {
            port: id,
            device: self.ids.device(&port.name)?,
            generation: self.ids.generation(&port.name, id, standing),
            admin,
            addresses,
            vlan: port.vlan.clone(),
            attached: Arc::clone(&plugged.attached),
        }))
    }
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::snapshot::{DeviceId, Generation};
    use hairpin_dataplane::wire::offload::Capabilities;
    use hairpin_dataplane::wire::{Mac, VlanId};

    use super::*;
    use crate::config::{Config, DeviceConfig, LinkConfig, PortConfig, VlanConfig};

    fn tap(interface: &str) -> DeviceConfig {
        DeviceConfig::Tap { interface: interface.to_owned() }
    }

    /// Port vm1, which learns, on the first of two links.
    fn site() -> Config {
        let links = ["up0", "up1"].map(|name| LinkConfig::new(name, LinkRole::Station, None));
        let ports = vec![PortConfig::station("vm1", "up0", Mode::Veb, tap("tap1"))];
        Config { links: links.to_vec(), ports, ..Config::default() }
    }

    /// The generation of vm1 after one more change.
    fn generation(ids: &mut Ids, config: Config) -> Generation {
        let desired = Desired::try_from(config).unwrap();
        let counters = Attached::counters(1);
        let attached = Attached::new(DeviceId(0), "vm1", counters, Capabilities::ALL, Vec::new());
        let plugged = Plugged { attached: Arc::new(attached), mtu: None, line: line::State::UP };
        let devices = Devices::from([("vm1", plugged)]);
        ids.begin();
        let topology = topology(&desired, &devices, ids, 1).unwrap();
        ids.end();
        topology.station_ports[0].port.generation
    }

    /// Whether learned addresses still count after this change to vm1.
    fn keeps(change: fn(&mut PortConfig)) -> bool {
        let mut ids = Ids::default();
        let before = generation(&mut ids, site());
        let mut config = site();
        change(&mut config.ports[0]);
        generation(&mut ids, config) == before
    }

    #[test]
    fn learned_addresses_outlast_a_change_of_mode_or_of_the_limit() {
        assert!(!keeps(|port| port.device = tap("tap2").into()), "another device");
        assert!(!keeps(|port| port.channel = Some("up1".into())), "another domain");
        assert!(!keeps(|port| port.admin = Admin::Down), "down");
        assert!(!keeps(|port| port.vlan = VlanConfig::Access(VlanId::new(10).unwrap())), "VLANs");
        assert!(!keeps(|port| port.macs.push(Mac::new([2, 0, 0, 0, 0, 1]).into())), "registered");
        assert!(keeps(|port| port.learn_limit += 1), "a higher limit");
        assert!(keeps(|port| port.learn_limit = 1), "a lower limit");
        assert!(keeps(|port| port.mode = Some(Mode::Vepa.into())), "vepa");
        assert!(keeps(|port| port.mode = Some(Mode::Private.into())), "private");
        assert!(keeps(|port| port.mode = Some(Mode::Direct.into())), "direct");
    }
}
