//! Desired states as messages of the API. [`super::wanted`] is the way back.

use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::ReflectiveRelay;
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_proto::v1;

use super::{vhost_user, views};
use crate::config::{
    ApiOthers, BridgeConfig, ChannelConfig, Config, DeviceConfig, LinkConfig, LinkRole,
    MemberConfig, MirrorConfig, NamedBy, Poll, PortConfig, SwitchConfig, TemplateConfig,
};

/// A whole desired state.
#[must_use]
pub fn config(config: &Config) -> v1::Config {
    v1::Config {
        switch: Some(switch(&config.switch)),
        links: config.links.iter().map(link).collect(),
        channels: config.channels.iter().map(channel).collect(),
        ports: config.ports.iter().map(port).collect(),
        bridges: config.bridges.iter().map(bridge).collect(),
        templates: config.templates.iter().map(template).collect(),
        mirrors: config.mirrors.iter().map(mirror).collect(),
    }
}

fn switch(switch: &SwitchConfig) -> v1::SwitchConfig {
    v1::SwitchConfig {
        name: switch.name.clone(),
        workers: switch.workers.iter().map(|&cpu| cpu as u32).collect(),
        poll: poll(switch.poll) as i32,
        api: format!("unix:{}", switch.api.display()),
        state_dir: switch.state_dir.display().to_string(),
        fdb_capacity: switch.fdb.capacity as u64,
        fdb_ageing_ms: u64::try_from(switch.fdb.ageing.as_millis()).unwrap_or(u64::MAX),
        api_others: match switch.api_others {
            ApiOthers::Read => v1::ApiOthers::Read,
            ApiOthers::Nothing => v1::ApiOthers::Nothing,
        } as i32,
        metrics: switch.metrics.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// Whether workers sleep.
#[must_use]
pub fn poll(poll: Poll) -> v1::Poll {
    match poll {
        Poll::Adaptive => v1::Poll::Adaptive,
        Poll::Busy => v1::Poll::Busy,
    }
}

/// A link.
#[must_use]
pub fn link(link: &LinkConfig) -> v1::LinkConfig {
    v1::LinkConfig {
        name: link.name.value.clone(),
        role: role(link.role) as i32,
        device: link.device.as_ref().map(|it| device(&it.value)),
        mtu: link.mtu.map(|mtu| mtu.value),
        admin: views::admin(link.admin) as i32,
    }
}

/// Which end of a link we are.
#[must_use]
pub fn role(role: LinkRole) -> v1::LinkRole {
    match role {
        LinkRole::Station => v1::LinkRole::Station,
        LinkRole::Bridge => v1::LinkRole::Bridge,
    }
}

/// A channel.
#[must_use]
pub fn channel(channel: &ChannelConfig) -> v1::ChannelConfig {
    v1::ChannelConfig {
        name: channel.name.value.clone(),
        link: channel.link.value.clone(),
        svid: channel.svid.value.get().into(),
    }
}

/// A port.
#[must_use]
pub fn port(port: &PortConfig) -> v1::PortConfig {
    use v1::port_config::Home;
    let home = match (&port.channel, &port.bridge, &port.mirror) {
        (Some(channel), _, _) => Some(Home::Channel(channel.value.clone())),
        (None, Some(bridge), _) => Some(Home::Bridge(bridge.value.clone())),
        (None, None, Some(mirror)) => Some(Home::Mirror(mirror.value.clone())),
        (None, None, None) => None,
    };
    let mode = port.mode.map_or(v1::Mode::Unspecified, |mode| views::mode(mode.value));
    v1::PortConfig {
        name: port.name.value.clone(),
        home,
        mode: mode as i32,
        device: Some(device(&port.device.value)),
        vlan: Some(views::vlan(&port.vlan)),
        macs: port.macs.iter().map(|mac| mac.value.to_string()).collect(),
        learn_limit: Some(port.learn_limit),
        admin: views::admin(port.admin) as i32,
    }
}

/// A port template.
#[must_use]
pub fn template(template: &TemplateConfig) -> v1::TemplateConfig {
    v1::TemplateConfig { port: Some(port(&template.port)) }
}

/// A mirror.
#[must_use]
pub fn mirror(mirror: &MirrorConfig) -> v1::MirrorConfig {
    v1::MirrorConfig {
        name: mirror.name.value.clone(),
        from: mirror.from.iter().map(|from| from.value.clone()).collect(),
        frames: mirrored(mirror.frames) as i32,
    }
}

/// Which frames a mirror copies.
#[must_use]
pub fn mirrored(frames: Mirrored) -> v1::MirroredFrames {
    match frames {
        Mirrored::Both => v1::MirroredFrames::Both,
        Mirrored::Received => v1::MirroredFrames::Received,
        Mirrored::Sent => v1::MirroredFrames::Sent,
    }
}

/// A bridge.
#[must_use]
pub fn bridge(bridge: &BridgeConfig) -> v1::BridgeConfig {
    let members = bridge.members.iter().map(member).collect();
    v1::BridgeConfig { name: bridge.name.value.clone(), members }
}

fn member(member: &MemberConfig) -> v1::MemberConfig {
    let name = member.channel.value.clone();
    let of = match member.named_by {
        NamedBy::Link => v1::member_config::Of::Link(name),
        NamedBy::Channel => v1::member_config::Of::Channel(name),
    };
    let (relay, reflected_group_rate) = match member.reflective_relay {
        ReflectiveRelay::Off => (v1::ReflectiveRelay::Off, None),
        ReflectiveRelay::On { group_rate } => (v1::ReflectiveRelay::On, Some(group_rate)),
    };
    v1::MemberConfig { of: Some(of), reflective_relay: relay as i32, reflected_group_rate }
}

fn device(device: &DeviceConfig) -> v1::DeviceConfig {
    let takes_over = |hosts_own: &HostsOwn| *hosts_own == HostsOwn::TakeOver;
    let kind = match device {
        DeviceConfig::Tap { interface } => {
            v1::device_config::Kind::Tap(v1::TapConfig { interface: interface.clone() })
        }
        DeviceConfig::Packet { interface, hosts_own } => {
            v1::device_config::Kind::Packet(v1::PacketConfig {
                interface: interface.clone(),
                take_over: takes_over(hosts_own),
            })
        }
        DeviceConfig::Xdp { interface, mode, hosts_own } => {
            v1::device_config::Kind::Xdp(v1::XdpConfig {
                interface: interface.clone(),
                mode: xdp_mode(*mode) as i32,
                take_over: takes_over(hosts_own),
            })
        }
        DeviceConfig::VhostUser(config) => {
            v1::device_config::Kind::VhostUser(vhost_user::device(config))
        }
        DeviceConfig::Memory(_) => v1::device_config::Kind::Memory(v1::MemoryConfig {}),
    };
    v1::DeviceConfig { kind: Some(kind) }
}

/// By which path frames are to come.
#[must_use]
pub fn xdp_mode(mode: xdp::Mode) -> v1::XdpMode {
    match mode {
        xdp::Mode::Auto => v1::XdpMode::Auto,
        xdp::Mode::Only(path) => views::xdp_mode(path),
    }
}
