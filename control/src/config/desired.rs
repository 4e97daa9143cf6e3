//! A configuration that holds together: names resolved, rules kept.

use std::sync::Arc;

use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Addresses, Admin, Mode, ReflectiveRelay, VlanPolicy};
use hairpin_dataplane::wire::SVid;

use super::mirror::means;
use super::{Config, ConfigErrors, DeviceConfig, LinkRole, SwitchConfig, VlanConfig, validate};

/// What an operator wants, free of contradictions: made by validation only.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired {
    pub(super) config: Arc<Config>,
    pub(super) links: Vec<Link>,
    pub(super) channels: Vec<Channel>,
    pub(super) bridges: Vec<Bridge>,
    pub(super) ports: Vec<Port>,
    pub(super) mirrors: Vec<Mirror>,
}

/// A link.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Which end we are.
    pub role: LinkRole,
    /// Its device; a host-local link has none.
    pub device: Option<DeviceConfig>,
    /// Largest payload in bytes; the device's if absent.
    pub mtu: Option<u32>,
    /// Up or down.
    pub admin: Admin,
}

/// Where a channel is in [`Desired::channels`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelIndex(pub usize);

/// Where a bridge is in [`Desired::bridges`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BridgeIndex(pub usize);

/// A channel, tagged or default.
#[derive(Clone, PartialEq, Debug)]
pub struct Channel {
    /// Its name; a default channel's is its link's.
    pub name: String,
    /// Where its link is in [`Desired::links`].
    pub link: usize,
    /// Its S-VID; none for the default channel.
    pub svid: Option<SVid>,
    /// The bridge it is a member of.
    pub bridge: Option<BridgeIndex>,
}

/// A bridge.
#[derive(Clone, PartialEq, Debug)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its members on bridge links.
    pub members: Vec<Member>,
}

/// A bridge's member on a bridge link.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Member {
    /// Its channel.
    pub channel: ChannelIndex,
    /// Whether it gets its own frames back.
    pub reflective_relay: ReflectiveRelay,
}

/// Where a mirror is in [`Desired::mirrors`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MirrorIndex(pub usize);

/// A mirror.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// Whose frames are copied, by names and patterns.
    pub from: Vec<String>,
    /// Which of their frames.
    pub frames: Mirrored,
}

/// Where a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// On a channel of a station link.
    Station {
        /// Which.
        channel: ChannelIndex,
        /// How its frames are switched.
        mode: Mode,
    },
    /// On a bridge.
    Bridge(BridgeIndex),
    /// On a mirror: it gets copies, and nothing else.
    Mirror(MirrorIndex),
}

/// A port.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub home: Home,
    /// Its device.
    pub device: DeviceConfig,
    /// Its addresses.
    pub addresses: Addresses,
    /// Addresses it may learn at a time, when they are learned.
    pub learn_limit: u32,
    /// Its VLANs.
    pub vlan: VlanPolicy,
    /// Up or down.
    pub admin: Admin,
}

impl Desired {
    /// The configuration it came from, to edit and validate again.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same, for those who keep it.
    #[must_use]
    pub fn shared_config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    /// What cannot change while the switch runs.
    #[must_use]
    pub fn switch(&self) -> &SwitchConfig {
        &self.config.switch
    }

    /// The links, as written.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The channels: a default one per link first, in the order of the links.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The bridges, as written.
    #[must_use]
    pub fn bridges(&self) -> &[Bridge] {
        &self.bridges
    }

    /// The ports, as written.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The mirrors, as written.
    #[must_use]
    pub fn mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }

    /// A mirror.
    ///
    /// # Panics
    /// If the index is another desired state's.
    #[must_use]
    pub fn mirror(&self, index: MirrorIndex) -> &Mirror {
        &self.mirrors[index.0]
    }

    /// The names of ports and links whose frames a mirror copies.
    pub fn mirrored<'d>(&'d self, mirror: &'d Mirror) -> impl Iterator<Item = &'d str> {
        let is_mirrored = |port: &&Port| !matches!(port.home, Home::Mirror(_));
        let links = self.links.iter().map(|link| link.name.as_str());
        let ports = self.ports.iter().filter(is_mirrored).map(|port| port.name.as_str());
        links.chain(ports).filter(|name| means(&mirror.from, name))
    }

    /// The link of a channel.
    ///
    /// # Panics
    /// If the channel is another desired state's.
    #[must_use]
    pub fn link_of(&self, channel: &Channel) -> &Link {
        &self.links[channel.link]
    }

    /// A channel.
    ///
    /// # Panics
    /// If the index is another desired state's.
    #[must_use]
    pub fn channel(&self, index: ChannelIndex) -> &Channel {
        &self.channels[index.0]
    }

    /// A bridge.
    ///
    /// # Panics
    /// If the index is another desired state's.
    #[must_use]
    pub fn bridge(&self, index: BridgeIndex) -> &Bridge {
        &self.bridges[index.0]
    }
}

impl TryFrom<Config> for Desired {
    type Error = ConfigErrors;

    fn try_from(config: Config) -> Result<Desired, ConfigErrors> {
        validate::validate(config, &std::collections::BTreeSet::new())
    }
}

impl VlanConfig {
    /// The policy, `native` made a member.
    #[must_use]
    pub fn policy(&self) -> VlanPolicy {
        match self {
            VlanConfig::Transparent => VlanPolicy::Transparent,
            VlanConfig::Access(id) => VlanPolicy::Access(*id),
            VlanConfig::Trunk { members, native } => VlanPolicy::Trunk {
                members: Box::new(members.iter().copied().chain(*native).collect()),
                native: *native,
            },
        }
    }
}
