//! The site itself: two switches, a cable, VMs.

use std::io;

use anyhow::{Context, Result};
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::{Mode, ReflectiveRelay};
use hairpin_dataplane::wire::SVid;
use hairpin_dataplane::wire::offload::Capabilities;

use super::cable::Cable;
use super::estate::Estate;
use super::guests::Guests;
use super::namespaces::{self, Namespaces};
use super::plan::{Place, VmPlan};
use super::progress::Interrupt;
use super::stack::Stack;
use super::stacks::Stacks;
use super::{memory_cable, veth_cable};
use crate::config::{
    BridgeConfig, ChannelConfig, Config, Desired, DeviceConfig, LinkConfig, LinkRole, MemberConfig,
    PortConfig, REFLECTED_GROUP_RATE,
};
use crate::switch::Switch;

/// The station's end of the cable.
const UPLINK: &str = "up0";
/// The bridge's end of the cable.
const STATION_FACING: &str = "sbp0";
const BRIDGE: &str = "br0";

/// What the VMs are, and the cable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// TCP/IP stacks within this process; memory.
    InProcess,
    /// Network namespaces on TAP; veths, by AF_XDP.
    Namespaces,
}

/// A running site. Fields are dropped in this order: the switches, with the TAPs that they
/// made, before the VMs, lest they make the TAPs anew.
pub(super) struct Site {
    /// The cable, which counts.
    pub cable: Cable,
    /// The station's switch.
    pub station: Switch,
    /// The adjacent bridge.
    pub bridge: Switch,
    /// The VMs, in the plan's order.
    pub guests: Guests,
    /// The network namespace that the switches are in, if not the lab's own.
    network: Option<String>,
}

impl Site {
    /// Builds the site and brings everything up. Namespaces become part of the estate.
    pub fn build(
        vms: &[VmPlan],
        kind: Kind,
        estate: &mut Estate,
        interrupt: &Interrupt,
    ) -> Result<Site> {
        match kind {
            Kind::InProcess => Site::build_in_process(vms, interrupt, memory_cable::plug),
            Kind::Namespaces => Site::build_in_namespaces(vms, estate, interrupt),
        }
    }

    /// Within this process, with a cable of the caller's between the station and the bridge.
    pub fn build_in_process(
        vms: &[VmPlan],
        interrupt: &Interrupt,
        plug: impl FnOnce(Endpoint, Endpoint) -> io::Result<Cable>,
    ) -> Result<Site> {
        let kind = Kind::InProcess;
        let station = start(station_config(vms, kind)).context("the station's switch")?;
        let bridge = start(bridge_config(vms, kind)).context("the adjacent bridge")?;
        let end = |switch: &Switch, link| switch.take_endpoint(link).context("the cable's end");
        let cable = plug(end(&station, UPLINK)?, end(&bridge, STATION_FACING)?)?;
        let guests = Guests::Stacks(stacks(vms, &station, &bridge, interrupt)?);
        Ok(Site { cable, station, bridge, guests, network: None })
    }

    /// The switches are in a namespace with the cable, apart from the host's network. They
    /// come first: where the kernel refuses AF_XDP, nothing else was made in vain.
    fn build_in_namespaces(
        vms: &[VmPlan],
        estate: &mut Estate,
        interrupt: &Interrupt,
    ) -> Result<Site> {
        let (kind, ends) = (Kind::Namespaces, [UPLINK, STATION_FACING]);
        let network = estate.add_namespace("cable")?;
        veth_cable::lay(&network, ends).context("the cable")?;
        let start_there = |config| namespaces::inside(&network, move || start(config));
        let station = start_there(station_config(vms, kind)).context("the station's switch")?;
        let bridge = start_there(bridge_config(vms, kind)).context("the adjacent bridge")?;
        let cable = veth_cable::plug(&network, ends).context("the cable")?;
        let namespaces = Namespaces::create(vms, estate, interrupt)?;
        namespaces.plug(vms, &network, interrupt)?;
        let (guests, network) = (Guests::Namespaces(namespaces), Some(network));
        Ok(Site { cable, station, bridge, guests, network })
    }

    /// Does some work where the switches are: devices that it has them open are of their
    /// network, and so are those of threads that it starts.
    pub fn beside_switches<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.network {
            Some(network) => namespaces::inside(network, work),
            None => work(),
        }
    }

    /// The cable's ends that are AF_XDP's: whose they are, and by which path.
    pub fn xdp_ends(&self) -> Vec<(&'static str, xdp::DataPath)> {
        let ends = [("station", &self.station, UPLINK), ("bridge", &self.bridge, STATION_FACING)];
        let granted = ends.map(|(name, switch, link)| {
            let granted = switch.view().status.remove(link)?.granted?;
            Some((name, granted.path))
        });
        granted.into_iter().flatten().collect()
    }

    /// Frames that the station dropped for this reason when they came from the cable.
    pub fn refused(&self, reason: DropReason) -> u64 {
        refused(&self.station, reason)
    }

    /// Whether these are so many by now, asked without the site.
    pub fn has_refused(&self, reason: DropReason, count: u64) -> impl Fn() -> bool + Send + use<> {
        let station = self.station.clone();
        move || refused(&station, reason) >= count
    }
}

fn refused(station: &Switch, reason: DropReason) -> u64 {
    station.totals().get(UPLINK).map_or(0, |uplink| uplink.dropped(reason))
}

fn start(config: Config) -> Result<Switch> {
    Ok(Switch::start(Desired::try_from(config)?)?)
}

fn stacks(
    vms: &[VmPlan],
    station: &Switch,
    bridge: &Switch,
    interrupt: &Interrupt,
) -> Result<Stacks> {
    let stack = |vm: &VmPlan| {
        let switch = match vm.place {
            Place::Station { .. } => station,
            Place::Bridge => bridge,
        };
        let endpoint = switch.take_endpoint(vm.name).context("a VM's card")?;
        Ok(Stack::new(vm, endpoint))
    };
    let mut stacks = Stacks::new(vms.iter().map(stack).collect::<Result<_>>()?);
    stacks.acquaint(vms, interrupt)?;
    Ok(stacks)
}

fn cable_end(name: &str, role: LinkRole, kind: Kind) -> LinkConfig {
    match kind {
        Kind::InProcess => {
            LinkConfig::new(name, role, Some(DeviceConfig::Memory(memory::Config::default())))
        }
        Kind::Namespaces => {
            let (interface, hosts_own) = (name.to_owned(), HostsOwn::Refuse);
            let device = DeviceConfig::Xdp { interface, mode: xdp::Mode::Auto, hosts_own };
            let mut link = LinkConfig::new(name, role, Some(device));
            // The cable has room for tags on top of it.
            link.mtu = Some(veth_cable::PAYLOAD_BYTES.into());
            link
        }
    }
}

/// The device of a VM's port.
fn card(vm: &VmPlan, kind: Kind) -> DeviceConfig {
    match kind {
        // smoltcp takes frames as they are on a wire.
        Kind::InProcess => DeviceConfig::Memory(memory::Config {
            capabilities: Capabilities::NONE,
            ..memory::Config::default()
        }),
        Kind::Namespaces => DeviceConfig::Tap { interface: namespaces::interface(vm) },
    }
}

/// What the station's switch is to be.
pub(super) fn station_config(vms: &[VmPlan], kind: Kind) -> Config {
    let mut config = named("station");
    config.links.push(cable_end(UPLINK, LinkRole::Station, kind));
    config.channels = tagged_channels(vms, UPLINK, "");
    for vm in vms {
        if let Place::Station { channel, mode, .. } = vm.place {
            let device = card(vm, kind);
            let mut port = PortConfig::station(vm.name, channel, mode, device);
            if mode != Mode::Direct {
                port.macs = vec![vm.mac().into()];
            }
            config.ports.push(port);
        }
    }
    config
}

/// What the adjacent bridge is to be.
pub(super) fn bridge_config(vms: &[VmPlan], kind: Kind) -> Config {
    let mut config = named("bridge");
    config.links.push(cable_end(STATION_FACING, LinkRole::Bridge, kind));
    config.channels = tagged_channels(vms, STATION_FACING, "sbp0-");
    let reflecting = ReflectiveRelay::On { group_rate: REFLECTED_GROUP_RATE };
    let mut members = vec![MemberConfig::new(STATION_FACING, reflecting)];
    for channel in &config.channels {
        members.push(MemberConfig::new(&channel.name.value, reflecting));
    }
    config.bridges.push(BridgeConfig { name: BRIDGE.into(), members });
    for vm in vms.iter().filter(|vm| vm.place == Place::Bridge) {
        config.ports.push(PortConfig::on_bridge(vm.name, BRIDGE, card(vm, kind)));
    }
    config
}

fn named(name: &str) -> Config {
    let mut config = Config::default();
    name.clone_into(&mut config.switch.name);
    config
}

/// The tagged channels that the VMs are in, each once.
fn tagged_channels(vms: &[VmPlan], link: &str, prefix: &str) -> Vec<ChannelConfig> {
    let mut channels: Vec<ChannelConfig> = Vec::new();
    for vm in vms {
        let Place::Station { channel, svid: Some(svid), .. } = vm.place else { continue };
        let name = format!("{prefix}{channel}");
        if channels.iter().all(|known| known.name.value != name) {
            let svid = SVid::new(svid).expect("the plan's S-VIDs are in range");
            channels.push(ChannelConfig::new(&name, link, svid));
        }
    }
    channels
}
