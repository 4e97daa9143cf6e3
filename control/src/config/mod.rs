//! Configuration: from a file to a desired state that holds together.
//!
//! 1. [`read`] turns TOML into a [`Config`] and remembers lines; what one field
//!    can tell by itself (ranges, spellings, unknown keys) is refused there.
//! 2. [`mod@validate`] checks what objects say of each other and gives a
//!    [`Desired`] state, which by construction needs no further checks.
//!
//! Both report every error they find. [`mod@write`] is the way back to a text. Programs that
//! embed the switch write a [`Config`] themselves; that is the only way to a
//! [`DeviceConfig::Memory`].

pub mod desired;
pub mod error;
pub mod metrics;
pub mod mirror;
pub mod nearest;
pub mod read;
pub mod template;
pub mod validate;
pub mod vhost_user;
pub mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hairpin_dataplane::port::memory;
use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::{Admin, Mode, ReflectiveRelay};
use hairpin_dataplane::wire::{Mac, SVid, VlanId};

pub use desired::Desired;
pub use error::{ConfigError, ConfigErrors};
pub use metrics::MetricsAddress;
pub use mirror::MirrorConfig;
pub use template::TemplateConfig;
use vhost_user::VhostUserConfig;

/// Smallest MTU in bytes: what IPv4 demands (RFC 791).
pub const MTU_MIN: u32 = 68;
/// Largest MTU in bytes: what a TAP takes (65,535 less the Ethernet header).
pub const MTU_MAX: u32 = 65_521;
/// The MTU where neither a link nor a device has one.
pub const MTU_DEFAULT: u32 = 1500;
/// Addresses a port learns unless told otherwise.
pub const LEARN_LIMIT: u32 = 64;
/// Reflected group frames per second unless told otherwise.
pub const REFLECTED_GROUP_RATE: u32 = 1000;

/// A value and the line it was written in, counted from 1, if it was. The line
/// says where it comes from, not what it is: equal values are equal.
#[derive(Clone, Copy, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The line.
    pub line: Option<u32>,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &At<T>) -> bool {
        self.value == other.value
    }
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> At<T> {
        At { value, line: None }
    }
}

impl From<&str> for At<String> {
    fn from(value: &str) -> At<String> {
        value.to_owned().into()
    }
}

/// Everything a configuration says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// `[switch]`.
    pub switch: SwitchConfig,
    /// `[[link]]`.
    pub links: Vec<LinkConfig>,
    /// `[[channel]]`.
    pub channels: Vec<ChannelConfig>,
    /// `[[port]]`.
    pub ports: Vec<PortConfig>,
    /// `[[bridge]]`.
    pub bridges: Vec<BridgeConfig>,
    /// `[[port-template]]`.
    pub templates: Vec<TemplateConfig>,
    /// `[[mirror]]`.
    pub mirrors: Vec<MirrorConfig>,
}

impl Config {
    /// Forgets where it was written, once it is no longer what was written.
    pub fn forget_lines(&mut self) {
        for link in &mut self.links {
            link.name.line = None;
            link.device.iter_mut().for_each(|device| device.line = None);
            link.mtu.iter_mut().for_each(|mtu| mtu.line = None);
        }
        for channel in &mut self.channels {
            (channel.name.line, channel.link.line, channel.svid.line) = (None, None, None);
        }
        for port in &mut self.ports {
            port.forget_lines();
        }
        for template in &mut self.templates {
            template.forget_lines();
        }
        self.mirrors.iter_mut().for_each(MirrorConfig::forget_lines);
        for bridge in &mut self.bridges {
            bridge.name.line = None;
            bridge.members.iter_mut().for_each(|member| member.channel.line = None);
        }
    }
}

/// What cannot change while the switch runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// Its name.
    pub name: String,
    /// CPUs, one worker each; none: one worker that is not pinned.
    pub workers: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub poll: Poll,
    /// The socket of the API.
    pub api: PathBuf,
    /// What it lets users do who may not write.
    pub api_others: ApiOthers,
    /// Where metrics are offered, if they are.
    pub metrics: Option<MetricsAddress>,
    /// Where applied states are kept.
    pub state_dir: PathBuf,
    /// The table of learned addresses.
    pub fdb: FdbConfig,
}

impl Default for SwitchConfig {
    fn default() -> SwitchConfig {
        SwitchConfig {
            name: "hairpin".to_owned(),
            workers: Vec::new(),
            poll: Poll::Adaptive,
            api: PathBuf::from("/run/hairpin/api.sock"),
            api_others: ApiOthers::Read,
            metrics: None,
            state_dir: PathBuf::from("/var/lib/hairpin"),
            fdb: FdbConfig::default(),
        }
    }
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// It spins briefly, then sleeps.
    Adaptive,
    /// It spins.
    Busy,
}

/// What the API lets users do who are neither root, nor in group `hairpin`, nor the user that
/// runs the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiOthers {
    /// They may read.
    Read,
    /// They may do nothing.
    Nothing,
}

/// The table of learned addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbConfig {
    /// Addresses it has room for.
    pub capacity: usize,
    /// How long an address lives without being used.
    pub ageing: Duration,
}

impl Default for FdbConfig {
    fn default() -> FdbConfig {
        FdbConfig { capacity: 65_536, ageing: Duration::from_secs(300) }
    }
}

/// A link.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkConfig {
    /// Its name.
    pub name: At<String>,
    /// Which end we are.
    pub role: LinkRole,
    /// Its device; a host-local link has none.
    pub device: Option<At<DeviceConfig>>,
    /// Largest payload in bytes; the device's if absent.
    pub mtu: Option<At<u32>>,
    /// Up or down.
    pub admin: Admin,
}

impl LinkConfig {
    /// A link that is up, with the device's MTU.
    pub fn new(name: &str, role: LinkRole, device: Option<DeviceConfig>) -> LinkConfig {
        let device = device.map(At::from);
        LinkConfig { name: name.into(), role, device, mtu: None, admin: Admin::Up }
    }
}

/// Which end of a link we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkRole {
    /// VMs are here.
    Station,
    /// We are the adjacent bridge.
    Bridge,
}

/// A device by which frames come and go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceConfig {
    /// A TAP that the switch makes and holds.
    Tap {
        /// The netdev's name, 1 to 15 bytes.
        interface: String,
    },
    /// A netdev that somebody else owns.
    Packet {
        /// Its name, 1 to 15 bytes.
        interface: String,
        /// Whether it may carry addresses of the host's.
        hosts_own: HostsOwn,
    },
    /// A netdev by AF_XDP.
    Xdp {
        /// Its name, 1 to 15 bytes.
        interface: String,
        /// By which path frames are to come.
        mode: xdp::Mode,
        /// Whether it may carry addresses of the host's.
        hosts_own: HostsOwn,
    },
    /// A VM's virtqueues, in its memory.
    VhostUser(VhostUserConfig),
    /// In-process: for embedding only, never from a file.
    Memory(memory::Config),
}

impl DeviceConfig {
    /// The netdev's name, if it has one.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            DeviceConfig::Tap { interface }
            | DeviceConfig::Packet { interface, .. }
            | DeviceConfig::Xdp { interface, .. } => Some(interface),
            DeviceConfig::VhostUser(_) | DeviceConfig::Memory(_) => None,
        }
    }

    /// The path of its socket, if it has one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            DeviceConfig::VhostUser(vhost_user) => Some(&vhost_user.socket),
            DeviceConfig::Tap { .. }
            | DeviceConfig::Packet { .. }
            | DeviceConfig::Xdp { .. }
            | DeviceConfig::Memory(_) => None,
        }
    }
}

/// A tagged channel.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelConfig {
    /// Its name.
    pub name: At<String>,
    /// Its link's name.
    pub link: At<String>,
    /// Its S-VID.
    pub svid: At<SVid>,
}

impl ChannelConfig {
    /// A channel.
    pub fn new(name: &str, link: &str, svid: SVid) -> ChannelConfig {
        ChannelConfig { name: name.into(), link: link.into(), svid: svid.into() }
    }
}

/// A port.
#[derive(Clone, PartialEq, Debug)]
pub struct PortConfig {
    /// Its name.
    pub name: At<String>,
    /// The channel it is on, if it is on one.
    pub channel: Option<At<String>>,
    /// The bridge it is on, if it is on one.
    pub bridge: Option<At<String>>,
    /// The mirror it is on, if it is on one: it gets copies, and nothing else.
    pub mirror: Option<At<String>>,
    /// How its frames are switched, on a channel.
    pub mode: Option<At<Mode>>,
    /// Its device.
    pub device: At<DeviceConfig>,
    /// Its addresses; none: they are learned.
    pub macs: Vec<At<Mac>>,
    /// Its VLANs.
    pub vlan: VlanConfig,
    /// Addresses it may learn at a time.
    pub learn_limit: u32,
    /// Up or down.
    pub admin: Admin,
}

impl PortConfig {
    fn forget_lines(&mut self) {
        (self.name.line, self.device.line) = (None, None);
        let texts = [&mut self.channel, &mut self.bridge, &mut self.mirror];
        texts.into_iter().flatten().for_each(|text| text.line = None);
        self.mode.iter_mut().for_each(|mode| mode.line = None);
        self.macs.iter_mut().for_each(|mac| mac.line = None);
    }

    /// A port on a channel: up, transparent to VLANs, its addresses learned.
    pub fn station(name: &str, channel: &str, mode: Mode, device: DeviceConfig) -> PortConfig {
        PortConfig {
            channel: Some(channel.into()),
            mode: Some(mode.into()),
            ..PortConfig::unattached(name, device)
        }
    }

    /// A port on a bridge, likewise.
    pub fn on_bridge(name: &str, bridge: &str, device: DeviceConfig) -> PortConfig {
        PortConfig { bridge: Some(bridge.into()), ..PortConfig::unattached(name, device) }
    }

    /// A port on a mirror.
    pub fn on_mirror(name: &str, mirror: &str, device: DeviceConfig) -> PortConfig {
        PortConfig { mirror: Some(mirror.into()), ..PortConfig::unattached(name, device) }
    }

    fn unattached(name: &str, device: DeviceConfig) -> PortConfig {
        PortConfig {
            name: name.into(),
            channel: None,
            bridge: None,
            mirror: None,
            mode: None,
            device: device.into(),
            macs: Vec::new(),
            vlan: VlanConfig::Transparent,
            learn_limit: LEARN_LIMIT,
            admin: Admin::Up,
        }
    }
}

/// A port's VLANs. Equal if they mean the same.
#[derive(Clone, Debug)]
pub enum VlanConfig {
    /// Member of every VID.
    Transparent,
    /// Untagged member of one VLAN.
    Access(VlanId),
    /// Tagged member of some.
    Trunk {
        /// Which, ascending, without doubles; `native` need not be among them.
        members: Vec<VlanId>,
        /// Where untagged frames belong.
        native: Option<VlanId>,
    },
}

impl PartialEq for VlanConfig {
    fn eq(&self, other: &VlanConfig) -> bool {
        self.policy() == other.policy()
    }
}

impl Eq for VlanConfig {}

/// A bridge.
#[derive(Clone, PartialEq, Debug)]
pub struct BridgeConfig {
    /// Its name.
    pub name: At<String>,
    /// Its members on bridge links.
    pub members: Vec<MemberConfig>,
}

/// A bridge's member.
#[derive(Clone, PartialEq, Debug)]
pub struct MemberConfig {
    /// The name of a channel, or of a link for its default channel.
    pub channel: At<String>,
    /// Which key named it.
    pub named_by: NamedBy,
    /// Whether it gets its own frames back.
    pub reflective_relay: ReflectiveRelay,
}

impl MemberConfig {
    /// A member by its channel's name.
    pub fn new(channel: &str, reflective_relay: ReflectiveRelay) -> MemberConfig {
        MemberConfig { channel: channel.into(), named_by: NamedBy::Channel, reflective_relay }
    }
}

/// Which key of a bridge member named its channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamedBy {
    /// `link`: its default channel.
    Link,
    /// `channel`.
    Channel,
}

/// Reads and validates a file.
///
/// # Errors
/// Every error found, with file and line; or that the file cannot be read.
pub fn load(path: &Path) -> Result<Desired, ConfigErrors> {
    load_with_text(path).map(|(desired, _)| desired)
}

/// Reads and validates a file; also gives its text.
///
/// # Errors
/// As [`load`].
pub fn load_with_text(path: &Path) -> Result<(Desired, String), ConfigErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let remedy = "name a file that this user may read";
        ConfigErrors::from(ConfigError::new("configuration", "", &error.to_string(), remedy))
            .in_file(&path.display().to_string())
    })?;
    let desired = parse(&text).map_err(|errors| errors.in_file(&path.display().to_string()))?;
    Ok((desired, text))
}

/// Reads and validates a text.
///
/// # Errors
/// Every error found, with lines.
pub fn parse(text: &str) -> Result<Desired, ConfigErrors> {
    let (config, mut found) = read::read(text);
    match validate::validate(config, &found.unread) {
        Ok(desired) if found.errors.is_empty() => Ok(desired),
        Ok(_) => Err(ConfigErrors::new(found.errors)),
        Err(errors) => {
            found.errors.extend(errors.into_errors());
            Err(ConfigErrors::new(found.errors))
        }
    }
}
