//! Changes to one port.

use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::Mac;

use super::ApplyError;
use crate::config::nearest::hint;
use crate::config::{At, Config, DeviceConfig, PortConfig, VlanConfig};

/// What is to change of a port; the rest stays.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PortChange {
    /// Another mode.
    pub mode: Option<Mode>,
    /// Another home.
    pub home: Option<HomeChange>,
    /// Other VLANs.
    pub vlan: Option<VlanConfig>,
    /// Up or down.
    pub admin: Option<Admin>,
    /// Other addresses; none of them: they are learned.
    pub macs: Option<Vec<Mac>>,
    /// Another number of addresses that it may learn.
    pub learn_limit: Option<u32>,
    /// Another device.
    pub device: Option<DeviceConfig>,
}

/// Where a port is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HomeChange {
    /// On this channel.
    Channel(String),
    /// On this bridge; its mode goes.
    Bridge(String),
    /// On this mirror; likewise.
    Mirror(String),
}

impl PortChange {
    /// The configuration with the change made.
    pub(super) fn apply_to(self, mut config: Config, name: &str) -> Result<Config, ApplyError> {
        let names: Vec<&str> = config.ports.iter().map(|port| &*port.name.value).collect();
        let Some(index) = names.iter().position(|known| *known == name) else {
            let hint = hint(name, names);
            return Err(ApplyError::NoSuchPort { name: name.to_owned(), hint });
        };
        self.change(&mut config.ports[index]);
        // The lines of the file it once came from say nothing of what is asked now.
        config.forget_lines();
        Ok(config)
    }

    fn change(self, port: &mut PortConfig) {
        if let Some(home) = self.home {
            (port.channel, port.bridge, port.mirror) = (None, None, None);
            match home {
                HomeChange::Channel(channel) => port.channel = Some(channel.into()),
                HomeChange::Bridge(bridge) => {
                    (port.bridge, port.mode) = (Some(bridge.into()), None);
                }
                HomeChange::Mirror(mirror) => {
                    (port.mirror, port.mode) = (Some(mirror.into()), None);
                }
            }
        }
        if let Some(mode) = self.mode {
            port.mode = Some(mode.into());
        }
        if let Some(vlan) = self.vlan {
            port.vlan = vlan;
        }
        if let Some(admin) = self.admin {
            port.admin = admin;
        }
        if let Some(macs) = self.macs {
            port.macs = macs.into_iter().map(At::from).collect();
        }
        if let Some(learn_limit) = self.learn_limit {
            port.learn_limit = learn_limit;
        }
        if let Some(device) = self.device {
            port.device = device.into();
        }
    }
}
