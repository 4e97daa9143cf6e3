//! From a [`Config`] to TOML: the text that [`super::read`] makes the same configuration of.
//!
//! Everything is written, defaults included, so that it means the same to a later version
//! with other defaults. Devices of kind memory, which no file can have, are written as
//! `memory`, which is refused when it is read.

use std::fmt::{self, Write};

use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Admin, Mode, ReflectiveRelay};

use super::mirror::FRAMES;
use super::read::leaf::MODES;
use super::vhost_user::{Account, SocketRole, VhostUserConfig};
use super::{
    ApiOthers, BridgeConfig, ChannelConfig, Config, DeviceConfig, LinkConfig, LinkRole,
    MemberConfig, MirrorConfig, NamedBy, Poll, PortConfig, SwitchConfig, VlanConfig,
};

/// The configuration as text.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let mut text = String::new();
    // Writing into a text does not fail.
    let _ = write(&mut text, config);
    text
}

fn write(out: &mut String, config: &Config) -> fmt::Result {
    switch(out, &config.switch)?;
    config.links.iter().try_for_each(|it| link(out, it))?;
    config.channels.iter().try_for_each(|it| channel(out, it))?;
    config.bridges.iter().try_for_each(|it| bridge(out, it))?;
    config.ports.iter().try_for_each(|it| port(out, "port", it))?;
    config.templates.iter().try_for_each(|it| port(out, "port-template", &it.port))?;
    config.mirrors.iter().try_for_each(|it| mirror(out, it))
}

/// A text in quotes.
pub fn quoted(text: impl fmt::Display) -> toml::Value {
    toml::Value::String(text.to_string())
}

fn switch(out: &mut String, switch: &SwitchConfig) -> fmt::Result {
    let SwitchConfig { name, workers, poll, api, api_others, metrics, state_dir, fdb } = switch;
    let poll = match poll {
        Poll::Adaptive => "adaptive",
        Poll::Busy => "busy",
    };
    writeln!(out, "[switch]\nname = {}", quoted(name))?;
    writeln!(out, "workers = {workers:?}\npoll = {}", quoted(poll))?;
    writeln!(out, "api = {}", quoted(format_args!("unix:{}", api.display())))?;
    let others = match api_others {
        ApiOthers::Read => "read",
        ApiOthers::Nothing => "nothing",
    };
    writeln!(out, "api-others = {}", quoted(others))?;
    if let Some(metrics) = metrics {
        writeln!(out, "metrics = {}", quoted(metrics))?;
    }
    writeln!(out, "state-dir = {}", quoted(state_dir.display()))?;
    let ageing = quoted(match fdb.ageing.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    });
    writeln!(out, "fdb = {{ capacity = {}, ageing = {ageing} }}", fdb.capacity)
}

fn link(out: &mut String, link: &LinkConfig) -> fmt::Result {
    let LinkConfig { name, role, device, mtu, admin } = link;
    let role = match role {
        LinkRole::Station => "station",
        LinkRole::Bridge => "bridge",
    };
    writeln!(out, "\n[[link]]\nname = {}\nrole = {}", quoted(&name.value), quoted(role))?;
    if let Some(device) = device {
        writeln!(out, "device = {}", of_device(&device.value))?;
    }
    if let Some(mtu) = mtu {
        writeln!(out, "mtu = {}", mtu.value)?;
    }
    writeln!(out, "admin = {}", quoted(of_admin(*admin)))
}

fn channel(out: &mut String, channel: &ChannelConfig) -> fmt::Result {
    let ChannelConfig { name, link, svid } = channel;
    writeln!(out, "\n[[channel]]\nname = {}", quoted(&name.value))?;
    writeln!(out, "link = {}\nsvid = {}", quoted(&link.value), svid.value)
}

fn bridge(out: &mut String, bridge: &BridgeConfig) -> fmt::Result {
    let BridgeConfig { name, members } = bridge;
    writeln!(out, "\n[[bridge]]\nname = {}\nmembers = [", quoted(&name.value))?;
    members.iter().try_for_each(|it| writeln!(out, "  {},", member(it)))?;
    writeln!(out, "]")
}

fn member(member: &MemberConfig) -> String {
    let MemberConfig { channel, named_by, reflective_relay } = member;
    let key = match named_by {
        NamedBy::Link => "link",
        NamedBy::Channel => "channel",
    };
    let relay = match reflective_relay {
        ReflectiveRelay::Off => "reflective-relay = \"off\"".to_owned(),
        ReflectiveRelay::On { group_rate } => {
            format!("reflective-relay = \"on\", reflected-group-rate = {group_rate}")
        }
    };
    format!("{{ {key} = {}, {relay} }}", quoted(&channel.value))
}

fn port(out: &mut String, kind: &str, port: &PortConfig) -> fmt::Result {
    let PortConfig { name, mode, device, macs, vlan, learn_limit, admin, .. } = port;
    writeln!(out, "\n[[{kind}]]\nname = {}", quoted(&name.value))?;
    let homes = [("channel", &port.channel), ("bridge", &port.bridge), ("mirror", &port.mirror)];
    for (key, home) in homes {
        if let Some(home) = home {
            writeln!(out, "{key} = {}", quoted(&home.value))?;
        }
    }
    if let Some(mode) = mode {
        writeln!(out, "mode = {}", quoted(of_mode(mode.value)))?;
    }
    writeln!(out, "device = {}", of_device(&device.value))?;
    if !macs.is_empty() {
        let macs: Vec<String> = macs.iter().map(|mac| quoted(mac.value).to_string()).collect();
        writeln!(out, "mac = [{}]", macs.join(", "))?;
    }
    if let Some(vlan) = of_vlan(vlan) {
        writeln!(out, "vlan = {vlan}")?;
    }
    writeln!(out, "learn-limit = {learn_limit}\nadmin = {}", quoted(of_admin(*admin)))
}

fn mirror(out: &mut String, mirror: &MirrorConfig) -> fmt::Result {
    let MirrorConfig { name, from, frames } = mirror;
    let from: Vec<String> = from.iter().map(|from| quoted(&from.value).to_string()).collect();
    writeln!(out, "\n[[mirror]]\nname = {}", quoted(&name.value))?;
    writeln!(out, "from = [{}]\nframes = {}", from.join(", "), quoted(of_frames(*frames)))
}

/// Which frames a mirror copies, in a word.
#[must_use]
pub fn of_frames(frames: Mirrored) -> &'static str {
    let known = FRAMES.iter().find(|(_, known)| *known == frames);
    known.map_or("", |(name, _)| name)
}

fn of_mode(mode: Mode) -> &'static str {
    let known = MODES.iter().find(|(_, known)| *known == mode);
    known.map_or("", |(name, _)| name)
}

fn of_admin(admin: Admin) -> &'static str {
    match admin {
        Admin::Up => "up",
        Admin::Down => "down",
    }
}

/// The value of `vlan`; none where that is left out.
#[must_use]
pub fn of_vlan(vlan: &VlanConfig) -> Option<String> {
    match vlan {
        VlanConfig::Transparent => None,
        VlanConfig::Access(id) => Some(format!("{{ access = {id} }}")),
        VlanConfig::Trunk { members, native } => {
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            let native = native.map(|id| format!(", native = {id}")).unwrap_or_default();
            Some(format!("{{ trunk = [{}]{native} }}", members.join(", ")))
        }
    }
}

fn of_device(device: &DeviceConfig) -> String {
    match device {
        DeviceConfig::Tap { interface } => {
            format!("{{ tap = {{ interface = {} }} }}", quoted(interface))
        }
        DeviceConfig::Packet { interface, hosts_own } => {
            let take_over = *hosts_own == HostsOwn::TakeOver;
            let interface = quoted(interface);
            format!("{{ packet = {{ interface = {interface}, take-over = {take_over} }} }}")
        }
        DeviceConfig::Xdp { interface, mode, hosts_own } => {
            let mode = quoted(match mode {
                xdp::Mode::Auto => "auto",
                xdp::Mode::Only(xdp::DataPath::ZeroCopy) => "zero-copy",
                xdp::Mode::Only(xdp::DataPath::Copy) => "copy",
                xdp::Mode::Only(xdp::DataPath::Generic) => "generic",
            });
            let take_over = *hosts_own == HostsOwn::TakeOver;
            let interface = quoted(interface);
            format!(
                "{{ xdp = {{ interface = {interface}, mode = {mode}, take-over = {take_over} }} }}"
            )
        }
        DeviceConfig::VhostUser(device) => format!("{{ vhost-user = {} }}", of_vhost_user(device)),
        DeviceConfig::Memory(_) => "{ memory = {} }".to_owned(),
    }
}

fn of_vhost_user(device: &VhostUserConfig) -> String {
    let VhostUserConfig { socket, role, queues } = device;
    let socket = quoted(socket.display());
    let SocketRole::Server(access) = role else {
        return format!("{{ socket = {socket}, role = \"client\", queues = {queues} }}");
    };
    let account = |key: &str, account: &Option<Account>| match account {
        None => String::new(),
        Some(Account::Number(number)) => format!(", {key} = {number}"),
        Some(Account::Name(name)) => format!(", {key} = {}", quoted(name)),
    };
    format!(
        "{{ socket = {socket}, role = \"server\", queues = {queues}, socket-mode = \"{:04o}\"{}{} }}",
        access.mode,
        account("owner", &access.owner),
        account("group", &access.group),
    )
}
