//! What a switch has, as messages of the API.

use std::collections::BTreeMap;

use hairpin_dataplane::ledger::{DropReason, Side, Totals};
use hairpin_dataplane::port::HostsOwn;
use hairpin_dataplane::port::xdp::DataPath;
use hairpin_dataplane::snapshot::{Addresses, Admin, Mode, ReflectiveRelay};
use hairpin_proto::v1;

use super::{configs, vhost_user};
use crate::config::desired::{BridgeIndex, ChannelIndex, Home, Link, Port};
use crate::config::{DeviceConfig, PortConfig, VlanConfig};
use crate::switch::queues::{QueueState, QueueStatus};
use crate::switch::view::{State, Status, View};
use crate::switch::workers::Health;

/// The whole switch.
#[must_use]
pub fn show(view: &View) -> v1::ShowResponse {
    v1::ShowResponse {
        name: view.desired.switch().name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: view.revision,
        uptime_ms: u64::try_from(view.uptime.as_millis()).unwrap_or(u64::MAX),
        links: links(view),
        channels: channels(view),
        bridges: bridges(view),
        ports: ports(view),
        workers: workers(view),
        publications: view.publications,
    }
}

/// All links, by name.
#[must_use]
pub fn links(view: &View) -> Vec<v1::Link> {
    sorted(view.desired.links().iter().map(|l| link(view, l)).collect(), |link| &link.name)
}

/// All channels, by name.
#[must_use]
pub fn channels(view: &View) -> Vec<v1::Channel> {
    let all = (0..view.desired.channels().len()).map(|index| channel(view, ChannelIndex(index)));
    sorted(all.collect(), |channel| &channel.name)
}

/// All bridges, by name.
#[must_use]
pub fn bridges(view: &View) -> Vec<v1::Bridge> {
    let all = (0..view.desired.bridges().len()).map(|index| bridge(view, BridgeIndex(index)));
    sorted(all.collect(), |bridge| &bridge.name)
}

/// All ports, by name.
#[must_use]
pub fn ports(view: &View) -> Vec<v1::Port> {
    sorted(view.desired.ports().iter().map(|p| port(view, p)).collect(), |port| &port.name)
}

/// All workers, by index.
#[must_use]
pub fn workers(view: &View) -> Vec<v1::Worker> {
    let serves = |index: usize| {
        let served = view.status.iter().filter(move |(_, s)| s.workers.contains(&index));
        served.map(|(name, _)| name.clone()).collect()
    };
    let each = view.workers.iter().enumerate().map(|(index, worker)| v1::Worker {
        index: index as u32,
        cpu: worker.cpu.map(|cpu| cpu as u32),
        breaths: worker.breaths,
        health: match worker.health {
            Health::Breathing => v1::WorkerHealth::Breathing,
            Health::Stalled => v1::WorkerHealth::Stalled,
            Health::Ended => v1::WorkerHealth::Ended,
        } as i32,
        ports: serves(index),
        sleeps: worker.sleeps,
        poll: configs::poll(view.desired.switch().poll) as i32,
        load: worker.load,
        queues: view.queues.iter().filter(|queue| queue.worker == index).map(queue).collect(),
    });
    each.collect()
}

fn queue(queue: &QueueStatus) -> v1::Queue {
    v1::Queue {
        port: queue.port.clone(),
        index: queue.index.into(),
        state: match queue.state {
            QueueState::Hot => v1::QueueState::Hot,
            QueueState::Armed => v1::QueueState::Armed,
            QueueState::Parked => v1::QueueState::Parked,
            QueueState::Dormant => v1::QueueState::Dormant,
            QueueState::Moving => v1::QueueState::Moving,
        } as i32,
        frames: queue.total.frames,
        bytes: queue.total.bytes,
        batches: queue.batches,
        busy_ns: queue.total.busy_ns,
        frames_per_second: queue.rate.frames,
        bytes_per_second: queue.rate.bytes,
        load: queue.rate.load,
    }
}

fn sorted<T>(mut all: Vec<T>, name: impl Fn(&T) -> &String) -> Vec<T> {
    all.sort_by(|a, b| name(a).cmp(name(b)));
    all
}

fn link(view: &View, link: &Link) -> v1::Link {
    let status = view.status.get(&link.name);
    let channels = view.desired.channels().iter();
    let mine = channels.filter(|channel| view.desired.link_of(channel).name == link.name);
    v1::Link {
        name: link.name.clone(),
        role: configs::role(link.role) as i32,
        device: link.device.as_ref().map(|it| device(it, status)),
        mtu: status.map_or(0, |status| status.mtu),
        admin: admin(link.admin) as i32,
        state: state(status) as i32,
        channels: mine.map(|channel| channel.name.clone()).collect(),
        last_error: status.map(|status| status.last_error.clone()).unwrap_or_default(),
        warnings: status.map(|status| status.warnings.clone()).unwrap_or_default(),
    }
}

fn channel(view: &View, index: ChannelIndex) -> v1::Channel {
    let channel = view.desired.channel(index);
    let here =
        |port: &&Port| matches!(port.home, Home::Station { channel, .. } if channel == index);
    let bridge = channel.bridge.map(|bridge| view.desired.bridge(bridge).name.clone());
    v1::Channel {
        name: channel.name.clone(),
        link: view.desired.link_of(channel).name.clone(),
        svid: channel.svid.map(|svid| svid.get().into()),
        ports: view.desired.ports().iter().filter(here).map(|port| port.name.clone()).collect(),
        bridge: bridge.unwrap_or_default(),
    }
}

fn bridge(view: &View, index: BridgeIndex) -> v1::Bridge {
    let bridge = view.desired.bridge(index);
    let member = |member: &crate::config::desired::Member| {
        let (reflective_relay, reflected_group_rate) = match member.reflective_relay {
            ReflectiveRelay::Off => (false, 0),
            ReflectiveRelay::On { group_rate } => (true, group_rate),
        };
        let channel = view.desired.channel(member.channel).name.clone();
        v1::Member { channel, reflective_relay, reflected_group_rate }
    };
    let here = |port: &&Port| port.home == Home::Bridge(index);
    v1::Bridge {
        name: bridge.name.clone(),
        members: bridge.members.iter().map(member).collect(),
        ports: view.desired.ports().iter().filter(here).map(|port| port.name.clone()).collect(),
    }
}

/// One port.
#[must_use]
pub fn port(view: &View, port: &Port) -> v1::Port {
    let status = view.status.get(&port.name);
    let written = view.desired.config().ports.iter().find(|p| p.name.value == port.name);
    let (home, mode) = match port.home {
        Home::Station { channel, mode: of_port } => {
            let name = view.desired.channel(channel).name.clone();
            (v1::port::Home::Channel(name), mode(of_port))
        }
        Home::Bridge(bridge) => {
            let name = view.desired.bridge(bridge).name.clone();
            (v1::port::Home::Bridge(name), v1::Mode::Unspecified)
        }
        Home::Mirror(mirror) => {
            let name = view.desired.mirror(mirror).name.clone();
            (v1::port::Home::Mirror(name), v1::Mode::Unspecified)
        }
    };
    let macs = match &port.addresses {
        Addresses::Registered(macs) => macs.iter().map(ToString::to_string).collect(),
        Addresses::Learned { .. } => Vec::new(),
    };
    let workers = status.map(|status| &status.workers[..]).unwrap_or_default();
    v1::Port {
        name: port.name.clone(),
        mode: mode as i32,
        home: Some(home),
        device: Some(device(&port.device, status)),
        vlan: written.map(|written: &PortConfig| vlan(&written.vlan)),
        macs,
        learn_limit: port.learn_limit,
        admin: admin(port.admin) as i32,
        state: state(status) as i32,
        mtu: status.map_or(0, |status| status.mtu),
        workers: workers.iter().map(|&worker| worker as u32).collect(),
        reopened: status.map_or(0, |status| status.reopened),
        last_error: status.map(|status| status.last_error.clone()).unwrap_or_default(),
        warnings: status.map(|status| status.warnings.clone()).unwrap_or_default(),
        vmm: status.and_then(|status| status.vmm.as_ref()).map(vhost_user::vmm),
        template: status.and_then(|status| status.template.clone()).unwrap_or_default(),
    }
}

/// A mode.
#[must_use]
pub fn mode(mode: Mode) -> v1::Mode {
    match mode {
        Mode::Veb => v1::Mode::Veb,
        Mode::Vepa => v1::Mode::Vepa,
        Mode::Private => v1::Mode::Private,
        Mode::Direct => v1::Mode::Direct,
    }
}

/// What somebody wants it to be.
#[must_use]
pub fn admin(admin: Admin) -> v1::Admin {
    match admin {
        Admin::Up => v1::Admin::Up,
        Admin::Down => v1::Admin::Down,
    }
}

fn state(status: Option<&Status>) -> v1::State {
    match status.map(|status| status.state) {
        Some(State::Up) => v1::State::Up,
        Some(State::Down) => v1::State::Down,
        Some(State::Waiting) => v1::State::Waiting,
        Some(State::Quarantined) => v1::State::Quarantined,
        None => v1::State::Unspecified,
    }
}

fn device(device: &DeviceConfig, status: Option<&Status>) -> v1::Device {
    let kind = match device {
        DeviceConfig::Tap { interface } => {
            v1::device::Kind::Tap(v1::Tap { interface: interface.clone() })
        }
        DeviceConfig::Packet { interface, hosts_own } => {
            let take_over = *hosts_own == HostsOwn::TakeOver;
            v1::device::Kind::Packet(v1::Packet { interface: interface.clone(), take_over })
        }
        DeviceConfig::Xdp { interface, mode, hosts_own } => {
            let granted = status.and_then(|status| status.granted.as_ref());
            let mode = configs::xdp_mode(*mode);
            let path = granted.map_or(v1::XdpMode::Unspecified, |it| xdp_mode(it.path));
            v1::device::Kind::Xdp(v1::Xdp {
                interface: interface.clone(),
                mode: mode as i32,
                granted: path as i32,
                reason: granted.map(|it| it.reason.clone()).unwrap_or_default(),
                take_over: *hosts_own == HostsOwn::TakeOver,
                unfilled_checksums: status.map_or(0, |status| status.unfilled_checksums),
            })
        }
        DeviceConfig::VhostUser(config) => v1::device::Kind::VhostUser(vhost_user::device(config)),
        DeviceConfig::Memory(_) => v1::device::Kind::Memory(v1::Memory {}),
    };
    v1::Device { kind: Some(kind) }
}

/// A path of frames from and to a netdev.
#[must_use]
pub fn xdp_mode(path: DataPath) -> v1::XdpMode {
    match path {
        DataPath::ZeroCopy => v1::XdpMode::ZeroCopy,
        DataPath::Copy => v1::XdpMode::Copy,
        DataPath::Generic => v1::XdpMode::Generic,
    }
}

/// A port's VLANs.
#[must_use]
pub fn vlan(vlan: &VlanConfig) -> v1::Vlan {
    let policy = match vlan {
        VlanConfig::Transparent => v1::vlan::Policy::Transparent(v1::Transparent {}),
        VlanConfig::Access(id) => v1::vlan::Policy::Access(id.get().into()),
        VlanConfig::Trunk { members, native } => {
            let mut vids: Vec<u32> =
                members.iter().chain(native).map(|id| id.get().into()).collect();
            vids.sort_unstable();
            vids.dedup();
            let native = native.map(|id| id.get().into());
            v1::vlan::Policy::Trunk(v1::Trunk { vids, native })
        }
    };
    v1::Vlan { policy: Some(policy) }
}

/// One device's counters.
#[must_use]
pub fn counters(totals: &Totals, device_drops: u64) -> v1::Counters {
    v1::Counters {
        rx_frames: totals.rx_frames,
        rx_bytes: totals.rx_bytes,
        tx_frames: totals.tx_frames,
        tx_bytes: totals.tx_bytes,
        drops: totals.drops().map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        decided: totals.decided,
        fan_out: totals.fan_out,
        offered: totals.offered,
        segments: totals.segments,
        device_drops,
    }
}

/// The catalogue of drop reasons, with the sums over all devices.
#[must_use]
pub fn drops(totals: &BTreeMap<String, Totals>) -> Vec<v1::DropReason> {
    let reason = |&reason: &DropReason| v1::DropReason {
        name: reason.name().to_owned(),
        meaning: reason.meaning().to_owned(),
        remedy: reason.remedy().to_owned(),
        side: match reason.side() {
            Side::Ingress => v1::Side::Ingress,
            Side::Egress => v1::Side::Egress,
        } as i32,
        count: totals.values().map(|totals| totals.dropped(reason)).sum(),
    };
    DropReason::ALL.iter().map(reason).collect()
}

/// Registered addresses, by port as configured.
#[must_use]
pub fn registered(view: &View) -> Vec<v1::Address> {
    let mut addresses = Vec::new();
    for port in view.desired.ports() {
        let domain = match port.home {
            Home::Station { mode: Mode::Direct, .. } | Home::Mirror(_) => continue,
            Home::Station { channel, .. } => &view.desired.channel(channel).name,
            Home::Bridge(bridge) => &view.desired.bridge(bridge).name,
        };
        let Addresses::Registered(macs) = &port.addresses else { continue };
        addresses.extend(macs.iter().map(|mac| v1::Address {
            mac: mac.to_string(),
            vid: None,
            port: port.name.clone(),
            domain: domain.clone(),
            origin: Some(v1::address::Origin::Registered(v1::Registered {})),
        }));
    }
    addresses
}
