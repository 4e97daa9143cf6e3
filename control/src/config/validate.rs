//! What objects say of each other: references, doubles, rules that span objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hairpin_dataplane::snapshot::{Addresses, DEVICES_MAX, Mode, PORTS_MAX, VlanPolicy};
use hairpin_dataplane::wire::vlan::VidSet;
use hairpin_dataplane::wire::{Mac, SVid, Vid};

use super::desired::{
    Bridge, BridgeIndex, Channel, ChannelIndex, Desired, Home, Link, Member, Mirror, MirrorIndex,
    Port,
};
use super::mirror::{MIRRORS_MAX, SOURCES_MAX, is_pattern};
use super::nearest::hint;
use super::{
    At, BridgeConfig, ChannelConfig, Config, ConfigError, ConfigErrors, DeviceConfig, LinkRole,
    MTU_MAX, MTU_MIN, MemberConfig, MetricsAddress, MirrorConfig, NamedBy, PortConfig, VlanConfig,
};

/// Checks a configuration as a whole. References to objects in `unread` are not
/// held against it: those were there, but could not be read.
///
/// # Errors
/// Every contradiction found.
pub fn validate(config: Config, unread: &BTreeSet<String>) -> Result<Desired, ConfigErrors> {
    let mut check = Check { unread, errors: Vec::new() };
    check.names(&config);
    check.interfaces(&config);
    check.sockets(&config);
    check.mtus(&config);
    let links: Vec<Link> = config.links.iter().map(link).collect();
    let (mut channels, by_name) = check.channels(&config);
    let bridges = check.bridges(&config, &mut channels, &by_name, &links);
    let mirrors: Vec<Mirror> = config.mirrors.iter().map(mirror).collect();
    let scope = Scope {
        links: &links,
        channels: &channels,
        by_name: &by_name,
        bridges: &bridges,
        mirrors: &mirrors,
    };
    let ports: Vec<Port> =
        config.ports.iter().filter_map(|port| check.port(port, &scope)).collect();
    check.templates(&config, &scope);
    check.mirrors(&config, &ports);
    check.direct_ports(&config, &ports, &scope);
    check.addresses(&config, &ports);
    check.numbers(&config, &channels);
    if check.errors.is_empty() {
        Ok(Desired { config: Arc::new(config), links, channels, bridges, ports, mirrors })
    } else {
        Err(ConfigErrors::new(check.errors))
    }
}

fn link(link: &super::LinkConfig) -> Link {
    Link {
        name: link.name.value.clone(),
        role: link.role,
        device: link.device.as_ref().map(|device| device.value.clone()),
        mtu: link.mtu.map(|mtu| mtu.value),
        admin: link.admin,
    }
}

fn mirror(mirror: &MirrorConfig) -> Mirror {
    Mirror {
        name: mirror.name.value.clone(),
        from: mirror.from.iter().map(|from| from.value.clone()).collect(),
        frames: mirror.frames,
    }
}

struct Check<'c> {
    unread: &'c BTreeSet<String>,
    errors: Vec<ConfigError>,
}

/// Channels by name.
type ChannelNames<'c> = BTreeMap<&'c str, ChannelIndex>;

/// What a port can refer to.
struct Scope<'s> {
    links: &'s [Link],
    channels: &'s [Channel],
    by_name: &'s ChannelNames<'s>,
    bridges: &'s [Bridge],
    mirrors: &'s [Mirror],
}

impl Scope<'_> {
    fn channel(&self, name: &str) -> Option<(ChannelIndex, &Channel)> {
        let index = *self.by_name.get(name)?;
        Some((index, &self.channels[index.0]))
    }

    /// The names of channels on links of this role.
    fn channel_names(&self, role: LinkRole) -> Vec<&str> {
        let of_role = |channel: &&Channel| self.links[channel.link].role == role;
        self.channels.iter().filter(of_role).map(|channel| channel.name.as_str()).collect()
    }
}

/// `there are a, b`, or that there are none.
fn listed(what: &str, names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => format!("there are no {what}"),
        count if count <= SHOWN => format!("{what} are {}", names.join(", ")),
        count => format!("{what} are {} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// Names.
impl Check<'_> {
    fn refuse(
        &mut self,
        object: &str,
        field: &str,
        line: Option<u32>,
        problem: &str,
        remedy: &str,
    ) {
        self.errors.push(ConfigError::new(object, field, problem, remedy).at(line));
    }

    /// Links, channels, ports and bridges share one flat namespace.
    fn names(&mut self, config: &Config) {
        let links = config.links.iter().map(|link| ("link", &link.name));
        let channels = config.channels.iter().map(|channel| ("channel", &channel.name));
        let bridges = config.bridges.iter().map(|bridge| ("bridge", &bridge.name));
        let ports = config.ports.iter().map(|port| ("port", &port.name));
        let templates = config.templates.iter().map(|it| ("port-template", &it.port.name));
        let mirrors = config.mirrors.iter().map(|mirror| ("mirror", &mirror.name));
        let ports = ports.chain(templates).chain(mirrors);
        let mut all: Vec<_> = links.chain(channels).chain(bridges).chain(ports).collect();
        all.sort_by_key(|(_, name)| name.line);
        let mut seen: BTreeMap<&str, (&str, Option<u32>)> = BTreeMap::new();
        for (kind, name) in all {
            let Some((first, line)) = seen.get(name.value.as_str()) else {
                seen.insert(&name.value, (kind, name.line));
                continue;
            };
            let place = line.map_or_else(String::new, |line| format!(" in line {line}"));
            let problem = format!("{:?} is already the name of a {first}{place}", name.value);
            let remedy =
                "links, channels, ports, bridges and mirrors share one namespace: rename one";
            self.refuse(&format!("{kind} {}", name.value), "name", name.line, &problem, remedy);
        }
    }

    /// A netdev is one device's.
    fn interfaces(&mut self, config: &Config) {
        let links = config.links.iter().filter_map(|link| {
            link.device.as_ref().map(|device| (format!("link {}", link.name.value), device))
        });
        let ports =
            config.ports.iter().map(|port| (format!("port {}", port.name.value), &port.device));
        let mut seen: BTreeMap<&str, String> = BTreeMap::new();
        for (object, device) in links.chain(ports) {
            let Some(interface) = device.value.interface() else { continue };
            if let Some(first) = seen.get(interface) {
                let problem = format!("interface {interface:?} is already that of {first}");
                self.refuse(&object, "device", device.line, &problem, "give each its own");
            } else {
                seen.insert(interface, object);
            }
        }
    }

    /// A socket is one port's, and none is a link's: that is a cable to another switch.
    fn sockets(&mut self, config: &Config) {
        for link in &config.links {
            let Some(device) = &link.device else { continue };
            if device.value.socket().is_some() {
                let problem = "vhost-user devices are for ports: a link is a cable to another \
                               switch, and knows no VM that may come and go";
                let remedy = "write a tap, packet or xdp device here, and a [[port]] for the VM";
                let object = format!("link {}", link.name.value);
                self.refuse(&object, "device", device.line, problem, remedy);
            }
        }
        let api = config.switch.api.as_path();
        let mut seen = BTreeMap::from([(api, "the API".to_owned())]);
        if let Some(MetricsAddress::Unix(path)) = &config.switch.metrics
            && seen.insert(path, "the metrics".to_owned()).is_some()
        {
            let problem = format!("socket {path:?} is already that of the API");
            self.refuse("switch", "metrics", None, &problem, "give each its own");
        }
        for port in &config.ports {
            let DeviceConfig::VhostUser(device) = &port.device.value else { continue };
            let socket = device.socket.as_path();
            let object = format!("port {}", port.name.value);
            if let Some(first) = seen.get(socket) {
                let problem = format!("socket {socket:?} is already that of {first}");
                self.refuse(&object, "device", port.device.line, &problem, "give each its own");
            } else {
                // What a file says was read within bounds; what a program says was not.
                for (problem, remedy) in device.out_of_bounds() {
                    self.refuse(&object, "device", port.device.line, &problem, &remedy);
                }
                seen.insert(socket, object);
            }
        }
    }

    fn mtus(&mut self, config: &Config) {
        for link in &config.links {
            let Some(At { value, line }) = link.mtu else { continue };
            if !(MTU_MIN..=MTU_MAX).contains(&value) {
                let problem = format!("{value} is out of range");
                let remedy = format!("write a number from {MTU_MIN} to {MTU_MAX}");
                self.refuse(&format!("link {}", link.name.value), "mtu", line, &problem, &remedy);
            }
        }
    }

    /// Ids are 13 and 12 bits wide.
    fn numbers(&mut self, config: &Config, channels: &[Channel]) {
        let relay_ports = config.ports.len() + channels.len();
        let devices = config.ports.len() + config.links.len();
        let both = [("relay ports", relay_ports, PORTS_MAX), ("devices", devices, DEVICES_MAX)];
        for (what, count, most) in both {
            if count > most {
                let problem = format!("{count} {what} are too many");
                let remedy = format!("a switch has at most {most}");
                self.refuse("configuration", "", None, &problem, &remedy);
            }
        }
    }
}

/// Channels and bridges.
impl Check<'_> {
    /// Default channels first, then the tagged ones.
    fn channels<'c>(&mut self, config: &'c Config) -> (Vec<Channel>, ChannelNames<'c>) {
        let default = |(index, link): (usize, &super::LinkConfig)| Channel {
            name: link.name.value.clone(),
            link: index,
            svid: None,
            bridge: None,
        };
        let mut channels: Vec<Channel> = config.links.iter().enumerate().map(default).collect();
        let mut names: Vec<&str> = config.links.iter().map(|link| &*link.name.value).collect();
        let mut taken: BTreeMap<(usize, SVid), &str> = BTreeMap::new();
        for channel in &config.channels {
            let Some(link) = self.link_of(channel, config) else { continue };
            let name = &channel.name.value;
            if let Some(first) = taken.insert((link, channel.svid.value), name) {
                let problem =
                    format!("S-VID {} is already channel {first} of this link", channel.svid.value);
                let remedy = "give each channel of a link its own S-VID";
                let object = format!("channel {name}");
                self.refuse(&object, "svid", channel.svid.line, &problem, remedy);
            }
            let svid = Some(channel.svid.value);
            channels.push(Channel { name: name.clone(), link, svid, bridge: None });
            names.push(name);
        }
        // Of two with one name, which is refused, the first is meant.
        let by_name = names
            .into_iter()
            .enumerate()
            .rev()
            .map(|(index, name)| (name, ChannelIndex(index)))
            .collect();
        (channels, by_name)
    }

    fn link_of(&mut self, channel: &ChannelConfig, config: &Config) -> Option<usize> {
        let wanted = &channel.link.value;
        let found = config.links.iter().position(|link| link.name.value == *wanted);
        if found.is_none() && !self.unread.contains(wanted) {
            let names: Vec<&str> =
                config.links.iter().map(|link| link.name.value.as_str()).collect();
            let problem = format!("there is no link {wanted:?}{}", hint(wanted, names.clone()));
            let object = format!("channel {}", channel.name.value);
            self.refuse(&object, "link", channel.link.line, &problem, &listed("links", &names));
        }
        found
    }

    fn bridges(
        &mut self,
        config: &Config,
        channels: &mut [Channel],
        by_name: &ChannelNames<'_>,
        links: &[Link],
    ) -> Vec<Bridge> {
        let mut bridges = Vec::with_capacity(config.bridges.len());
        for (index, bridge) in config.bridges.iter().enumerate() {
            let mut members = Vec::with_capacity(bridge.members.len());
            for member in &bridge.members {
                let scope = Scope { links, channels, by_name, bridges: &bridges, mirrors: &[] };
                let Some(channel) = self.member(bridge, member, &scope) else { continue };
                let joined = channels[channel.0].bridge.replace(BridgeIndex(index));
                if let Some(first) = joined {
                    let name = &config.bridges[first.0].name.value;
                    let problem =
                        format!("{:?} is already a member of bridge {name}", member.channel.value);
                    let remedy = "a channel is a member of one bridge, once";
                    self.refuse_member(bridge, member, &problem, remedy);
                }
                members.push(Member { channel, reflective_relay: member.reflective_relay });
            }
            bridges.push(Bridge { name: bridge.name.value.clone(), members });
        }
        bridges
    }

    fn member(
        &mut self,
        bridge: &BridgeConfig,
        member: &MemberConfig,
        scope: &Scope<'_>,
    ) -> Option<ChannelIndex> {
        let wanted = &member.channel.value;
        let names = || scope.channel_names(LinkRole::Bridge);
        let Some((index, channel)) = scope.channel(wanted) else {
            if !self.unread.contains(wanted) {
                let what = match member.named_by {
                    NamedBy::Link => "link",
                    NamedBy::Channel => "channel",
                };
                let problem = format!("there is no {what} {wanted:?}{}", hint(wanted, names()));
                let remedy = listed("bridge links and their channels", &names());
                self.refuse_member(bridge, member, &problem, &remedy);
            }
            return None;
        };
        if scope.links[channel.link].role != LinkRole::Bridge {
            let problem = format!("{wanted:?} is on a link with role station");
            let remedy = listed("bridge links and their channels", &names());
            self.refuse_member(bridge, member, &problem, &remedy);
            return None;
        }
        if member.named_by == NamedBy::Link && channel.svid.is_some() {
            let remedy = format!("write {{ channel = {wanted:?} }}");
            self.refuse_member(bridge, member, &format!("{wanted:?} is a channel"), &remedy);
            return None;
        }
        Some(index)
    }

    fn refuse_member(
        &mut self,
        bridge: &BridgeConfig,
        member: &MemberConfig,
        problem: &str,
        remedy: &str,
    ) {
        let object = format!("bridge {}", bridge.name.value);
        self.refuse(&object, "members", member.channel.line, problem, remedy);
    }
}

/// Port templates.
impl Check<'_> {
    /// Where their ports would be has to be there; more than one of them has to have room.
    fn templates(&mut self, config: &Config, scope: &Scope<'_>) {
        for template in &config.templates {
            let before = self.errors.len();
            let home = self.home(&template.port, scope);
            if let Some(Home::Station { mode: Mode::Direct, .. }) = home {
                let problem = "a direct port is the only one of its channel";
                let line = template.port.mode.and_then(|mode| mode.line);
                self.refuse_port(&template.port, "mode", line, problem, "take another mode");
            }
            // What is said of a port is said of the template.
            let (port, own) = (format!("port {}", template.name()), template.name());
            for error in &mut self.errors[before..] {
                if error.object == port {
                    error.object = format!("port-template {own}");
                }
            }
        }
    }
}

/// Mirrors.
impl Check<'_> {
    /// What is mirrored has to be there, and be no monitor itself.
    fn mirrors(&mut self, config: &Config, ports: &[Port]) {
        if let Some(mirror) = config.mirrors.get(MIRRORS_MAX) {
            let problem = format!("{} mirrors are too many", config.mirrors.len());
            let remedy = format!("a switch has at most {MIRRORS_MAX}");
            self.refuse("configuration", "mirror", mirror.name.line, &problem, &remedy);
        }
        let links = config.links.iter().map(|link| link.name.value.as_str());
        let of_ports = ports.iter().filter(|port| !matches!(port.home, Home::Mirror(_)));
        let sources: BTreeSet<&str> =
            links.chain(of_ports.map(|port| port.name.as_str())).collect();
        for mirror in &config.mirrors {
            let name = &mirror.name.value;
            if mirror.from.is_empty() || mirror.from.len() > SOURCES_MAX {
                let problem = format!("it has {} names", mirror.from.len());
                let remedy =
                    format!("write 1 to {SOURCES_MAX} names of ports and links, or patterns");
                let object = format!("mirror {name}");
                self.refuse(&object, "from", mirror.name.line, &problem, &remedy);
            }
            for At { value: from, line } in &mirror.from {
                let is_known = is_pattern(from) || sources.contains(from.as_str());
                if !is_known && !self.unread.contains(from) {
                    self.refuse_source(name, from, *line, config, &sources);
                }
            }
        }
    }

    fn refuse_source(
        &mut self,
        mirror: &str,
        from: &str,
        line: Option<u32>,
        config: &Config,
        sources: &BTreeSet<&str>,
    ) {
        let is_monitor = |port: &PortConfig| port.name.value == from && port.mirror.is_some();
        let object = format!("mirror {mirror}");
        if config.ports.iter().any(is_monitor) {
            let problem = format!("{from:?} is on a mirror itself");
            self.refuse(
                &object,
                "from",
                line,
                &problem,
                "name ports that send frames of their own",
            );
        } else {
            let near = hint(from, sources.iter().copied());
            let problem = format!("there is no port or link {from:?}{near}");
            let remedy = "name one that is configured, or write a pattern such as \"vif*\" for \
                          ports that come by themselves";
            self.refuse(&object, "from", line, &problem, remedy);
        }
    }

    fn mirror_of(
        &mut self,
        port: &PortConfig,
        wanted: &At<String>,
        scope: &Scope<'_>,
    ) -> Option<MirrorIndex> {
        const WITHOUT: &str = "leave it out: a port on a mirror gets what others have";
        if let Some(mode) = port.mode {
            self.refuse_port(port, "mode", mode.line, "a port on a mirror has no mode", WITHOUT);
        }
        if let Some(mac) = port.macs.first() {
            self.refuse_port(port, "mac", mac.line, "a port on a mirror has no address", WITHOUT);
        }
        if port.vlan != VlanConfig::Transparent {
            self.refuse_port(port, "vlan", None, "a port on a mirror is in no VLAN", WITHOUT);
        }
        let names: Vec<&str> = scope.mirrors.iter().map(|mirror| mirror.name.as_str()).collect();
        self.place_of(port, "mirror", wanted, &names).map(MirrorIndex)
    }
}

/// Ports.
impl Check<'_> {
    fn port(&mut self, port: &PortConfig, scope: &Scope<'_>) -> Option<Port> {
        let home = self.home(port, scope)?;
        let addresses = self.own_addresses(port);
        Some(Port {
            name: port.name.value.clone(),
            home,
            device: port.device.value.clone(),
            addresses,
            learn_limit: port.learn_limit,
            vlan: port.vlan.policy(),
            admin: port.admin,
        })
    }

    fn refuse_port(
        &mut self,
        port: &PortConfig,
        field: &str,
        line: Option<u32>,
        problem: &str,
        remedy: &str,
    ) {
        let object = format!("port {}", port.name.value);
        self.refuse(&object, field, line.or(port.name.line), problem, remedy);
    }

    fn home(&mut self, port: &PortConfig, scope: &Scope<'_>) -> Option<Home> {
        match (&port.channel, &port.bridge, &port.mirror) {
            (Some(channel), None, None) => {
                let index = self.station_channel(port, channel, scope);
                if port.mode.is_none() {
                    let remedy = "write mode = \"veb\", \"vepa\", \"private\" or \"direct\"";
                    self.refuse_port(port, "mode", None, "it is missing", remedy);
                }
                let mode = port.mode?.value;
                index.map(|channel| Home::Station { channel, mode })
            }
            (None, Some(bridge), None) => {
                if let Some(mode) = port.mode {
                    let remedy = "leave it out: modes are for ports on channels";
                    self.refuse_port(port, "mode", mode.line, "a bridge port has no mode", remedy);
                }
                self.bridge_of(port, bridge, scope).map(Home::Bridge)
            }
            (None, None, Some(mirror)) => self.mirror_of(port, mirror, scope).map(Home::Mirror),
            (Some(_), Some(bridge), _) => {
                let problem = "a port is on a channel or on a bridge, not both";
                self.refuse_port(port, "bridge", bridge.line, problem, "leave one out");
                None
            }
            (_, _, Some(mirror)) => {
                let problem = "a port on a mirror is on no channel and no bridge";
                self.refuse_port(port, "mirror", mirror.line, problem, "leave one out");
                None
            }
            (None, None, None) => {
                let remedy = "write channel = a channel's or station link's name, or bridge = a \
                              bridge's, or mirror = a mirror's";
                self.refuse_port(port, "channel", None, "it is missing", remedy);
                None
            }
        }
    }

    fn station_channel(
        &mut self,
        port: &PortConfig,
        wanted: &At<String>,
        scope: &Scope<'_>,
    ) -> Option<ChannelIndex> {
        let Some((index, channel)) = scope.channel(&wanted.value) else {
            if !self.unread.contains(&wanted.value) {
                let names = scope.channel_names(LinkRole::Station);
                let near = hint(&wanted.value, names.clone());
                let problem = format!("there is no channel {:?}{near}", wanted.value);
                let remedy = listed("channels for ports", &names);
                self.refuse_port(port, "channel", wanted.line, &problem, &remedy);
            }
            return None;
        };
        if scope.links[channel.link].role == LinkRole::Bridge {
            let problem = format!("{:?} is on a link with role bridge", wanted.value);
            let remedy = "write bridge = the bridge that has this channel as a member, or name a \
                          channel of a station link";
            self.refuse_port(port, "channel", wanted.line, &problem, remedy);
            return None;
        }
        Some(index)
    }

    fn bridge_of(
        &mut self,
        port: &PortConfig,
        wanted: &At<String>,
        scope: &Scope<'_>,
    ) -> Option<BridgeIndex> {
        let names: Vec<&str> = scope.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        self.place_of(port, "bridge", wanted, &names).map(BridgeIndex)
    }

    /// Where a port's home of some kind, whose key is called like it, is among these.
    fn place_of(
        &mut self,
        port: &PortConfig,
        kind: &str,
        wanted: &At<String>,
        names: &[&str],
    ) -> Option<usize> {
        let found = names.iter().position(|name| *name == wanted.value);
        if found.is_none() && !self.unread.contains(&wanted.value) {
            let near = hint(&wanted.value, names.iter().copied());
            let problem = format!("there is no {kind} {:?}{near}", wanted.value);
            let remedy = listed(&format!("{kind}s"), names);
            self.refuse_port(port, kind, wanted.line, &problem, &remedy);
        }
        found
    }

    fn own_addresses(&mut self, port: &PortConfig) -> Addresses {
        let mut macs: Vec<Mac> = Vec::with_capacity(port.macs.len());
        for &At { value: mac, line } in &port.macs {
            if !mac.is_station() {
                let problem = format!("{mac} is a group address or zero");
                self.refuse_port(port, "mac", line, &problem, "write a station's address");
            } else if macs.contains(&mac) {
                let problem = format!("{mac} is there twice");
                self.refuse_port(port, "mac", line, &problem, "write it once");
            } else {
                macs.push(mac);
            }
        }
        if macs.is_empty() {
            return Addresses::Learned { limit: port.learn_limit };
        }
        Addresses::Registered(macs.into_boxed_slice())
    }

    /// A direct port is the only port of its channel.
    fn direct_ports(&mut self, config: &Config, ports: &[Port], scope: &Scope<'_>) {
        let mut homes: BTreeMap<ChannelIndex, Vec<(&Port, Mode)>> = BTreeMap::new();
        for port in ports {
            if let Home::Station { channel, mode } = port.home {
                homes.entry(channel).or_default().push((port, mode));
            }
        }
        for (channel, tenants) in homes {
            let direct = tenants.iter().find(|(_, mode)| *mode == Mode::Direct);
            let Some(&(direct, _)) = direct.filter(|_| tenants.len() > 1) else { continue };
            for (port, _) in tenants.iter().filter(|(port, _)| port.name != direct.name) {
                let Some(written) = written(config, port) else { continue };
                let problem = format!(
                    "channel {} belongs to {}, whose mode is direct",
                    scope.channels[channel.0].name, direct.name
                );
                let remedy = "a direct port is the only port of its channel: use another channel, \
                              or another mode";
                let line = written.channel.as_ref().and_then(|channel| channel.line);
                self.refuse_port(written, "channel", line, &problem, remedy);
            }
        }
    }

    /// An address is registered once in each VLAN of a domain.
    fn addresses(&mut self, config: &Config, ports: &[Port]) {
        let mut owners: BTreeMap<(Domain, Mac), Vec<&Port>> = BTreeMap::new();
        for port in ports {
            let Addresses::Registered(macs) = &port.addresses else { continue };
            for &mac in macs {
                let others = owners.entry((domain(port), mac)).or_default();
                let first = others.iter().find(|other| overlap(&other.vlan, &port.vlan));
                if let Some(first) = first
                    && let Some(written) = written(config, port)
                {
                    let problem = format!("{mac} is registered on port {} already", first.name);
                    let remedy = "give each port its own address, or put them into different VLANs";
                    let place = written.macs.iter().find(|at| at.value == mac);
                    let line = place.and_then(|at| at.line);
                    self.refuse_port(written, "mac", line, &problem, remedy);
                }
                others.push(port);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Domain {
    Channel(ChannelIndex),
    Bridge(BridgeIndex),
    Mirror(MirrorIndex),
}

fn domain(port: &Port) -> Domain {
    match port.home {
        Home::Station { channel, .. } => Domain::Channel(channel),
        Home::Bridge(bridge) => Domain::Bridge(bridge),
        Home::Mirror(mirror) => Domain::Mirror(mirror),
    }
}

/// What was written of a port.
fn written<'c>(config: &'c Config, port: &Port) -> Option<&'c PortConfig> {
    config.ports.iter().find(|written| written.name.value == port.name)
}

/// Whether two ports are members of a common VID.
fn overlap(a: &VlanPolicy, b: &VlanPolicy) -> bool {
    match (a, b) {
        (VlanPolicy::Transparent, _) | (_, VlanPolicy::Transparent) => true,
        (VlanPolicy::Access(id), other) | (other, VlanPolicy::Access(id)) => {
            other.contains(Vid::from(*id))
        }
        (VlanPolicy::Trunk { members: a, .. }, VlanPolicy::Trunk { members: b, .. }) => {
            VidSet::intersects(a, b)
        }
    }
}
