//! Desired states from messages of the API. [`super::configs`] is the way there.
//!
//! What one field can tell by itself is refused here, by the same rules as in a file, and all
//! of it, not only the first. What objects say of each other is validation's.

use std::collections::BTreeMap;
use std::time::Duration;

use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Admin, Mode, ReflectiveRelay};
use hairpin_dataplane::wire::{SVid, VlanId};
use hairpin_proto::v1;
use toml::de::DeValue;

use crate::config::read::leaf::{self, Leaf, Wrong};
use crate::config::read::vhost_user as leaves;
use crate::config::vhost_user::{Account, SocketAccess, SocketRole, VhostUserConfig};
use crate::config::{
    ApiOthers, At, BridgeConfig, ChannelConfig, Config, ConfigError, ConfigErrors, DeviceConfig,
    FdbConfig, LEARN_LIMIT, LinkConfig, LinkRole, MemberConfig, MirrorConfig, NamedBy, Poll,
    PortConfig, REFLECTED_GROUP_RATE, SwitchConfig, TemplateConfig, VlanConfig, template,
};
use crate::switch::{HomeChange, Object, PortChange};

/// A desired state; what it does not say of the switch itself is as it runs.
///
/// # Errors
/// Everything that is wrong with its fields.
pub fn config(message: v1::Config, running: &Config) -> Result<Config, ConfigErrors> {
    let mut reading = Reading::new(running);
    let switch = match &message.switch {
        None => running.switch.clone(),
        Some(switch) => reading.switch(switch),
    };
    let config = Config {
        switch,
        links: message.links.iter().filter_map(|it| reading.link(it)).collect(),
        channels: message.channels.iter().filter_map(|it| reading.channel(it)).collect(),
        ports: message.ports.iter().filter_map(|it| reading.port(it)).collect(),
        bridges: message.bridges.iter().filter_map(|it| reading.bridge(it)).collect(),
        templates: message.templates.iter().filter_map(|it| reading.template(it)).collect(),
        mirrors: message.mirrors.iter().filter_map(|it| reading.mirror(it)).collect(),
    };
    reading.end(config)
}

/// An object.
///
/// # Errors
/// Everything that is wrong with its fields.
pub fn object(message: v1::Object, running: &Config) -> Result<Object, ConfigErrors> {
    let mut reading = Reading::new(running);
    let object = match &message.kind {
        Some(v1::object::Kind::Link(link)) => reading.link(link).map(Object::Link),
        Some(v1::object::Kind::Channel(channel)) => reading.channel(channel).map(Object::Channel),
        Some(v1::object::Kind::Bridge(bridge)) => reading.bridge(bridge).map(Object::Bridge),
        Some(v1::object::Kind::Port(port)) => reading.port(port).map(Object::Port),
        Some(v1::object::Kind::Template(it)) => reading.template(it).map(Object::Template),
        Some(v1::object::Kind::Mirror(it)) => reading.mirror(it).map(Object::Mirror),
        None => {
            let remedy = "name a link, channel, bridge, port, port template or mirror";
            reading.refuse("object", "kind", Wrong::new("it is missing", remedy));
            None
        }
    };
    // Nothing is read only where something was refused.
    let nothing = || ConfigError::new("object", "", "it could not be read", "report this").into();
    reading.end(object)?.ok_or_else(nothing)
}

/// A message being read: what is in-process already, and what was found.
struct Reading<'r> {
    /// Devices of ports and links that have one in the process, which they may keep.
    memory: BTreeMap<&'r str, &'r DeviceConfig>,
    errors: Vec<ConfigError>,
}

/// The object that a field is of.
struct Of<'o> {
    kind: &'static str,
    name: &'o str,
}

impl Of<'_> {
    fn object(&self) -> String {
        if self.name.is_empty() {
            self.kind.to_owned()
        } else {
            format!("{} {}", self.kind, self.name)
        }
    }
}

impl<'r> Reading<'r> {
    fn new(running: &'r Config) -> Reading<'r> {
        let links = running.links.iter();
        let links = links.filter_map(|link| Some((&link.name.value, &link.device.as_ref()?.value)));
        let ports = running.ports.iter().map(|port| (&port.name.value, &port.device.value));
        let in_process = links.chain(ports).filter(|(_, it)| matches!(it, DeviceConfig::Memory(_)));
        let memory = in_process.map(|(name, device)| (name.as_str(), device)).collect();
        Reading { memory, errors: Vec::new() }
    }

    fn end<T>(self, read: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() { Ok(read) } else { Err(ConfigErrors::new(self.errors)) }
    }

    fn refuse(&mut self, object: &str, field: &str, wrong: Wrong) {
        self.errors.push(ConfigError::new(object, field, &wrong.problem, &wrong.remedy));
    }

    /// What was read; nothing if it was refused.
    fn take<T>(&mut self, of: &Of<'_>, field: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(&of.object(), field, wrong)).ok()
    }

    /// A text, by the rules of a file.
    fn text<T>(&mut self, of: &Of<'_>, field: &str, text: &str, leaf: Leaf<T>) -> Option<T> {
        self.take(of, field, leaf(&DeValue::String(text.into())))
    }

    /// One of an enum's values, unless that is left unspecified.
    fn choice<E: TryFrom<i32>, T>(
        &mut self,
        of: &Of<'_>,
        field: &str,
        number: i32,
        meaning: impl Fn(E) -> Option<T>,
    ) -> Option<T> {
        let unknown = || Wrong::new(format!("{number} is not known"), "see the API");
        let read = E::try_from(number).map_err(|_| unknown());
        self.take(of, field, read).and_then(meaning)
    }

    fn missing(&mut self, of: &Of<'_>, field: &str, remedy: &str) {
        self.refuse(&of.object(), field, Wrong::new("it is missing", remedy));
    }
}

/// Objects.
impl Reading<'_> {
    fn switch(&mut self, message: &v1::SwitchConfig) -> SwitchConfig {
        let of = Of { kind: "switch", name: "" };
        let mut switch = SwitchConfig::default();
        if !message.name.is_empty() {
            switch.name = self.text(&of, "name", &message.name, leaf::name).unwrap_or_default();
        }
        if !message.api.is_empty() {
            switch.api = self.text(&of, "api", &message.api, leaf::api).unwrap_or_default();
        }
        if !message.state_dir.is_empty() {
            let read = self.text(&of, "state-dir", &message.state_dir, leaf::directory);
            switch.state_dir = read.unwrap_or_default();
        }
        let workers = leaf::distinct_cpus(message.workers.iter().map(|&cpu| u64::from(cpu)));
        switch.workers = self.take(&of, "workers", workers).unwrap_or_default();
        let poll = self.choice(&of, "poll", message.poll, |poll| match poll {
            v1::Poll::Unspecified => None,
            v1::Poll::Adaptive => Some(Poll::Adaptive),
            v1::Poll::Busy => Some(Poll::Busy),
        });
        switch.poll = poll.unwrap_or(Poll::Adaptive);
        let others = self.choice(&of, "api-others", message.api_others, |it| match it {
            v1::ApiOthers::Unspecified => None,
            v1::ApiOthers::Read => Some(ApiOthers::Read),
            v1::ApiOthers::Nothing => Some(ApiOthers::Nothing),
        });
        switch.api_others = others.unwrap_or(ApiOthers::Read);
        if !message.metrics.is_empty() {
            switch.metrics = self.text(&of, "metrics", &message.metrics, leaf::metrics);
        }
        switch.fdb = self.fdb(&of, message);
        switch
    }

    fn fdb(&mut self, of: &Of<'_>, message: &v1::SwitchConfig) -> FdbConfig {
        let mut fdb = FdbConfig::default();
        if message.fdb_capacity != 0 {
            let read = leaf::in_range(message.fdb_capacity, leaf::CAPACITY);
            let read = self.take(of, "fdb.capacity", read);
            fdb.capacity = read.map_or(fdb.capacity, |capacity| capacity as usize);
        }
        if message.fdb_ageing_ms != 0 {
            let read = leaf::in_range(message.fdb_ageing_ms, leaf::AGEING_MS);
            let read = self.take(of, "fdb.ageing", read);
            fdb.ageing = read.map_or(fdb.ageing, Duration::from_millis);
        }
        fdb
    }

    fn name(&mut self, of: &Of<'_>) -> Option<At<String>> {
        self.text(of, "name", of.name, leaf::name).map(At::from)
    }

    fn link(&mut self, message: &v1::LinkConfig) -> Option<LinkConfig> {
        let of = Of { kind: "link", name: &message.name };
        let name = self.name(&of);
        if message.role == v1::LinkRole::Unspecified as i32 {
            self.missing(&of, "role", "write station or bridge");
        }
        let role = self.choice(&of, "role", message.role, |role| match role {
            v1::LinkRole::Unspecified => None,
            v1::LinkRole::Station => Some(LinkRole::Station),
            v1::LinkRole::Bridge => Some(LinkRole::Bridge),
        });
        let device = message.device.as_ref().and_then(|device| self.device(&of, device));
        let mtu = message.mtu.map(|mtu| leaf::in_range(mtu.into(), leaf::MTU));
        let mtu = mtu.and_then(|mtu| self.take(&of, "mtu", mtu));
        let admin = self.admin(&of, message.admin);
        Some(LinkConfig {
            name: name?,
            role: role?,
            device: device.map(At::from),
            mtu: mtu.map(|mtu| At::from(mtu as u32)),
            admin,
        })
    }

    fn channel(&mut self, message: &v1::ChannelConfig) -> Option<ChannelConfig> {
        let of = Of { kind: "channel", name: &message.name };
        let name = self.name(&of);
        let link = self.text(&of, "link", &message.link, leaf::name);
        let svid = u16::try_from(message.svid).ok().and_then(SVid::new);
        let svid = svid.ok_or_else(|| leaf::not_an_svid(&message.svid.to_string()));
        let svid = self.take(&of, "svid", svid);
        Some(ChannelConfig { name: name?, link: link?.into(), svid: svid?.into() })
    }

    fn template(&mut self, message: &v1::TemplateConfig) -> Option<TemplateConfig> {
        let nothing = v1::PortConfig::default();
        let message = message.port.as_ref().unwrap_or(&nothing);
        let of = Of { kind: "port-template", name: &message.name };
        let port = self.port_like(&of, message)?;
        if !port.macs.is_empty() {
            let wrong = Wrong::new("its ports learn their addresses", "leave macs out");
            self.refuse(&of.object(), "mac", wrong);
        }
        if port.mirror.is_some() {
            let wrong = Wrong::new("who looks on does not come by itself", "name another home");
            self.refuse(&of.object(), "mirror", wrong);
        }
        if let Some(problem) = template::objection(&port.device.value) {
            self.refuse(&of.object(), "device", Wrong::new(problem, template::FORM));
        }
        Some(TemplateConfig { port })
    }

    fn port(&mut self, message: &v1::PortConfig) -> Option<PortConfig> {
        self.port_like(&Of { kind: "port", name: &message.name }, message)
    }

    fn port_like(&mut self, of: &Of<'_>, message: &v1::PortConfig) -> Option<PortConfig> {
        let name = self.name(of);
        use v1::port_config::Home;
        let (mut channel, mut bridge, mut mirror) = (None, None, None);
        match &message.home {
            Some(Home::Channel(name)) => channel = Some(name.as_str()),
            Some(Home::Bridge(name)) => bridge = Some(name.as_str()),
            Some(Home::Mirror(name)) => mirror = Some(name.as_str()),
            None => {}
        }
        let mode = self.mode(of, message.mode);
        let device = match &message.device {
            Some(device) => self.device(of, device),
            None => {
                self.missing(of, "device", "name a tap, packet, xdp or vhost-user device");
                None
            }
        };
        let macs = message.macs.iter();
        let macs = macs.filter_map(|mac| self.text(of, "mac", mac, leaf::mac)).map(At::from);
        let macs = macs.collect();
        let vlan = message.vlan.as_ref().map(vlans).transpose();
        let vlan = self.take(of, "vlan", vlan).flatten().unwrap_or(VlanConfig::Transparent);
        let limit = message.learn_limit.map(|it| leaf::in_range(it.into(), leaf::LEARN_LIMIT));
        let limit = limit.and_then(|limit| self.take(of, "learn-limit", limit));
        let admin = self.admin(of, message.admin);
        Some(PortConfig {
            name: name?,
            channel: channel.map(At::from),
            bridge: bridge.map(At::from),
            mirror: mirror.map(At::from),
            mode: mode.map(At::from),
            device: device?.into(),
            macs,
            vlan,
            learn_limit: limit.map_or(LEARN_LIMIT, |limit| limit as u32),
            admin,
        })
    }

    fn mirror(&mut self, message: &v1::MirrorConfig) -> Option<MirrorConfig> {
        let of = Of { kind: "mirror", name: &message.name };
        let name = self.name(&of);
        let from = message.from.iter();
        let from = from.filter_map(|it| self.text(&of, "from", it, leaf::source)).map(At::from);
        let from = from.collect();
        let frames = self.choice(&of, "frames", message.frames, |frames| match frames {
            v1::MirroredFrames::Unspecified => None,
            v1::MirroredFrames::Both => Some(Mirrored::Both),
            v1::MirroredFrames::Received => Some(Mirrored::Received),
            v1::MirroredFrames::Sent => Some(Mirrored::Sent),
        });
        Some(MirrorConfig { name: name?, from, frames: frames.unwrap_or(Mirrored::Both) })
    }

    fn bridge(&mut self, message: &v1::BridgeConfig) -> Option<BridgeConfig> {
        let of = Of { kind: "bridge", name: &message.name };
        let name = self.name(&of);
        let members = message.members.iter().filter_map(|it| self.member(&of, it)).collect();
        Some(BridgeConfig { name: name?, members })
    }

    fn member(&mut self, of: &Of<'_>, message: &v1::MemberConfig) -> Option<MemberConfig> {
        let (channel, named_by) = match &message.of {
            Some(v1::member_config::Of::Link(link)) => (link, NamedBy::Link),
            Some(v1::member_config::Of::Channel(channel)) => (channel, NamedBy::Channel),
            None => {
                self.missing(of, "members", "name a link or a channel");
                return None;
            }
        };
        let rate = message.reflected_group_rate;
        let rate = rate.map(|rate| leaf::in_range(rate.into(), leaf::RATE));
        let rate = rate.and_then(|rate| self.take(of, "members: reflected-group-rate", rate));
        let relay = message.reflective_relay;
        let relay = self.choice(of, "members: reflective-relay", relay, |relay| match relay {
            v1::ReflectiveRelay::Unspecified => None,
            v1::ReflectiveRelay::Off => Some(leaf::Reflection::Off),
            v1::ReflectiveRelay::On => Some(leaf::Reflection::On),
        });
        let reflective_relay = match relay.unwrap_or(leaf::Reflection::Off) {
            leaf::Reflection::On => {
                let rate = rate.map_or(REFLECTED_GROUP_RATE, |rate| rate as u32);
                ReflectiveRelay::On { group_rate: rate }
            }
            leaf::Reflection::Off => {
                if rate.is_some() {
                    let problem = "nothing is reflected while reflective-relay is off";
                    let remedy = "write on, or leave the rate out";
                    let field = "members: reflected-group-rate";
                    self.refuse(&of.object(), field, Wrong::new(problem, remedy));
                }
                ReflectiveRelay::Off
            }
        };
        Some(MemberConfig { channel: channel.as_str().into(), named_by, reflective_relay })
    }
}

/// Parts of objects.
impl Reading<'_> {
    fn admin(&mut self, of: &Of<'_>, number: i32) -> Admin {
        self.choice(of, "admin", number, admin).unwrap_or(Admin::Up)
    }

    fn mode(&mut self, of: &Of<'_>, number: i32) -> Option<Mode> {
        self.choice(of, "mode", number, |mode| match mode {
            v1::Mode::Unspecified => None,
            v1::Mode::Veb => Some(Mode::Veb),
            v1::Mode::Vepa => Some(Mode::Vepa),
            v1::Mode::Private => Some(Mode::Private),
            v1::Mode::Direct => Some(Mode::Direct),
        })
    }

    fn device(&mut self, of: &Of<'_>, message: &v1::DeviceConfig) -> Option<DeviceConfig> {
        const INTERFACE: &str = "device: interface";
        let hosts_own = |take_over| match take_over {
            true => HostsOwn::TakeOver,
            false => HostsOwn::Refuse,
        };
        match &message.kind {
            None => {
                self.missing(of, "device", "name a kind of device");
                None
            }
            Some(v1::device_config::Kind::Tap(tap)) => {
                let interface = self.text(of, INTERFACE, &tap.interface, leaf::interface)?;
                Some(DeviceConfig::Tap { interface })
            }
            Some(v1::device_config::Kind::Packet(packet)) => {
                let interface = self.text(of, INTERFACE, &packet.interface, leaf::interface)?;
                Some(DeviceConfig::Packet { interface, hosts_own: hosts_own(packet.take_over) })
            }
            Some(v1::device_config::Kind::Xdp(xdp)) => {
                let mode = self.xdp_mode(of, xdp.mode);
                let interface = self.text(of, INTERFACE, &xdp.interface, leaf::interface)?;
                Some(DeviceConfig::Xdp { interface, mode, hosts_own: hosts_own(xdp.take_over) })
            }
            Some(v1::device_config::Kind::VhostUser(it)) => {
                self.vhost_user(of, it).map(DeviceConfig::VhostUser)
            }
            Some(v1::device_config::Kind::Memory(_)) => {
                let kept = self.memory.get(of.name).map(|&device| device.clone());
                if kept.is_none() {
                    let problem = "memory devices are for programs that embed the switch";
                    let remedy = "name a tap, packet, xdp or vhost-user device";
                    self.refuse(&of.object(), "device", Wrong::new(problem, remedy));
                }
                kept
            }
        }
    }

    fn xdp_mode(&mut self, of: &Of<'_>, number: i32) -> xdp::Mode {
        let mode = self.choice(of, "device: mode", number, |mode| match mode {
            v1::XdpMode::Unspecified => None,
            v1::XdpMode::Auto => Some(xdp::Mode::Auto),
            v1::XdpMode::ZeroCopy => Some(xdp::Mode::Only(xdp::DataPath::ZeroCopy)),
            v1::XdpMode::Copy => Some(xdp::Mode::Only(xdp::DataPath::Copy)),
            v1::XdpMode::Generic => Some(xdp::Mode::Only(xdp::DataPath::Generic)),
        });
        mode.unwrap_or(xdp::Mode::Auto)
    }

    fn vhost_user(&mut self, of: &Of<'_>, message: &v1::VhostUser) -> Option<VhostUserConfig> {
        let socket = self.text(of, "device: socket", &message.socket, leaves::socket);
        let queues = match message.queues {
            0 => Some(1),
            queues => {
                let queues = leaf::in_range(queues.into(), leaves::QUEUES);
                self.take(of, "device: queues", queues).map(|queues| queues as u16)
            }
        };
        let access = self.socket_access(of, message);
        if message.role == v1::SocketRole::Unspecified as i32 {
            self.missing(of, "device: role", "write client or server");
        }
        let role = self.choice(of, "device: role", message.role, |role| match role {
            v1::SocketRole::Unspecified => None,
            v1::SocketRole::Client => Some(SocketRole::Client),
            v1::SocketRole::Server => Some(SocketRole::Server(SocketAccess::default())),
        });
        let role = match role? {
            SocketRole::Server(_) => SocketRole::Server(access),
            SocketRole::Client if access == SocketAccess::default() => SocketRole::Client,
            SocketRole::Client => {
                let problem = "with role client the VMM makes the socket, and says who may use it";
                let remedy = "leave socket_mode, owner and group out, or write server";
                self.refuse(&of.object(), "device: role", Wrong::new(problem, remedy));
                return None;
            }
        };
        Some(VhostUserConfig { socket: socket?, role, queues: queues? })
    }

    fn socket_access(&mut self, of: &Of<'_>, message: &v1::VhostUser) -> SocketAccess {
        let mut access = SocketAccess::default();
        if let Some(mode) = message.socket_mode {
            let mode = leaf::in_range(mode.into(), 0..=0o777);
            let mode = self.take(of, "device: socket-mode", mode);
            access.mode = mode.map_or(access.mode, |mode| mode as u32);
        }
        access.owner = self.account(of, "device: owner", &message.owner);
        access.group = self.account(of, "device: group", &message.group);
        access
    }

    fn account(&mut self, of: &Of<'_>, field: &str, text: &str) -> Option<Account> {
        if text.is_empty() { None } else { self.text(of, field, text, leaves::account) }
    }
}

/// What is to change of a port.
///
/// # Errors
/// Everything that is wrong with the fields.
pub fn change(message: &v1::SetPortRequest, running: &Config) -> Result<PortChange, ConfigErrors> {
    let mut reading = Reading::new(running);
    let of = Of { kind: "port", name: &message.name };
    let home = message.home.as_ref().map(|home| match home {
        v1::set_port_request::Home::Channel(name) => HomeChange::Channel(name.clone()),
        v1::set_port_request::Home::Bridge(name) => HomeChange::Bridge(name.clone()),
        v1::set_port_request::Home::Mirror(name) => HomeChange::Mirror(name.clone()),
    });
    let vlan = message.vlan.as_ref().map(vlans).transpose();
    let macs = message.macs.as_ref().map(|list| {
        let macs = list.macs.iter();
        macs.filter_map(|mac| reading.text(&of, "mac", mac, leaf::mac)).collect()
    });
    let limit = message.learn_limit.map(|it| leaf::in_range(it.into(), leaf::LEARN_LIMIT));
    let limit = limit.and_then(|limit| reading.take(&of, "learn-limit", limit));
    let change = PortChange {
        mode: reading.mode(&of, message.mode),
        home,
        vlan: reading.take(&of, "vlan", vlan).flatten(),
        admin: reading.choice(&of, "admin", message.admin, admin),
        macs,
        learn_limit: limit.map(|limit| limit as u32),
        device: message.device.as_ref().and_then(|device| reading.device(&of, device)),
    };
    reading.end(change)
}

fn admin(admin: v1::Admin) -> Option<Admin> {
    match admin {
        v1::Admin::Unspecified => None,
        v1::Admin::Up => Some(Admin::Up),
        v1::Admin::Down => Some(Admin::Down),
    }
}

/// A port's VLANs.
///
/// # Errors
/// A number is no VLAN, or nothing is said.
pub fn vlans(message: &v1::Vlan) -> Result<VlanConfig, Wrong> {
    let id = |number: u32| {
        let id = u16::try_from(number).ok().and_then(VlanId::new);
        id.ok_or_else(|| leaf::not_a_vlan(&number.to_string()))
    };
    let nothing = || Wrong::new("it says nothing", "name transparent, access or trunk");
    match message.policy.as_ref().ok_or_else(nothing)? {
        v1::vlan::Policy::Transparent(_) => Ok(VlanConfig::Transparent),
        v1::vlan::Policy::Access(access) => id(*access).map(VlanConfig::Access),
        v1::vlan::Policy::Trunk(trunk) => {
            if trunk.vids.is_empty() && trunk.native.is_none() {
                return Err(nothing());
            }
            let native = trunk.native.map(id).transpose()?;
            let mut members = trunk.vids.iter().copied().map(id).collect::<Result<Vec<_>, _>>()?;
            members.sort_unstable();
            members.dedup();
            Ok(VlanConfig::Trunk { members, native })
        }
    }
}
