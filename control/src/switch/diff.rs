//! What an apply changes.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{
    BridgeConfig, ChannelConfig, Config, DeviceConfig, LinkConfig, MirrorConfig, PortConfig,
    SwitchConfig, TemplateConfig,
};

/// The difference between two configurations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff(pub Vec<Change>);

/// One object's change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Kind and name, as `port vm1`.
    pub object: String,
    /// What becomes of it.
    pub what: What,
}

/// What becomes of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// Some of its fields change while it runs.
    Changed(Vec<&'static str>),
    /// Some of its fields change, and a device has to be opened or closed for it.
    Disruptive(Vec<&'static str>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Added => write!(f, "+ {}", self.object),
            What::Removed => write!(f, "- {}", self.object),
            What::Changed(fields) => write!(f, "~ {}: {}", self.object, fields.join(", ")),
            What::Disruptive(fields) => {
                write!(f, "! {}: {} (disruptive)", self.object, fields.join(", "))
            }
        }
    }
}

/// An object that has a name and fields.
trait Object {
    const KIND: &'static str;
    fn name(&self) -> &str;
    fn device(&self) -> Option<&DeviceConfig> {
        None
    }
    /// Fields that differ.
    fn changed(&self, new: &Self) -> Vec<&'static str>;
}

macro_rules! changed {
    ($old:expr, $new:expr, $($field:ident $name:literal)+) => {
        [$(($old.$field != $new.$field).then_some($name)),+].into_iter().flatten().collect()
    };
}

impl Object for LinkConfig {
    const KIND: &'static str = "link";
    fn name(&self) -> &str {
        &self.name.value
    }
    fn device(&self) -> Option<&DeviceConfig> {
        self.device.as_ref().map(|device| &device.value)
    }
    fn changed(&self, new: &LinkConfig) -> Vec<&'static str> {
        changed!(self, new, role "role" device "device" mtu "mtu" admin "admin")
    }
}

impl Object for ChannelConfig {
    const KIND: &'static str = "channel";
    fn name(&self) -> &str {
        &self.name.value
    }
    fn changed(&self, new: &ChannelConfig) -> Vec<&'static str> {
        changed!(self, new, link "link" svid "svid")
    }
}

impl Object for BridgeConfig {
    const KIND: &'static str = "bridge";
    fn name(&self) -> &str {
        &self.name.value
    }
    fn changed(&self, new: &BridgeConfig) -> Vec<&'static str> {
        changed!(self, new, members "members")
    }
}

impl Object for PortConfig {
    const KIND: &'static str = "port";
    fn name(&self) -> &str {
        &self.name.value
    }
    fn device(&self) -> Option<&DeviceConfig> {
        Some(&self.device.value)
    }
    fn changed(&self, new: &PortConfig) -> Vec<&'static str> {
        changed!(
            self, new,
            channel "channel" bridge "bridge" mirror "mirror" mode "mode" device "device" macs "mac"
            vlan "vlan" learn_limit "learn-limit" admin "admin"
        )
    }
}

impl Object for MirrorConfig {
    const KIND: &'static str = "mirror";
    fn name(&self) -> &str {
        &self.name.value
    }
    fn changed(&self, new: &MirrorConfig) -> Vec<&'static str> {
        changed!(self, new, from "from" frames "frames")
    }
}

impl Object for TemplateConfig {
    const KIND: &'static str = "port-template";
    fn name(&self) -> &str {
        TemplateConfig::name(self)
    }
    fn changed(&self, new: &TemplateConfig) -> Vec<&'static str> {
        self.port.changed(&new.port)
    }
}

impl Diff {
    /// What has to change to get from `old` to `new`.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Diff {
        let mut changes = Vec::new();
        let open_before = open_netdevs(old);
        let mut open = open_netdevs(new);
        open.retain(|interface, device| open_before.get(interface) == Some(device));
        let fields = changed_switch(&old.switch, &new.switch);
        if !fields.is_empty() {
            changes.push(Change { object: "switch".to_owned(), what: What::Changed(fields) });
        }
        compare(&old.links, &new.links, &open, &mut changes);
        compare(&old.channels, &new.channels, &open, &mut changes);
        compare(&old.bridges, &new.bridges, &open, &mut changes);
        compare(&old.ports, &new.ports, &open, &mut changes);
        compare(&old.templates, &new.templates, &open, &mut changes);
        compare(&old.mirrors, &new.mirrors, &open, &mut changes);
        Diff(changes)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        let lines: Vec<String> = self.0.iter().map(Change::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn changed_switch(old: &SwitchConfig, new: &SwitchConfig) -> Vec<&'static str> {
    changed!(
        old, new,
        name "name" workers "workers" poll "poll" api "api" api_others "api-others"
        metrics "metrics" state_dir "state-dir" fdb "fdb"
    )
}

/// Devices that are handed over where another port or link wants them, by interface, which is
/// one device's.
type Netdevs<'c> = BTreeMap<&'c str, &'c DeviceConfig>;

fn open_netdevs(config: &Config) -> Netdevs<'_> {
    let links = config.links.iter().filter_map(Object::device);
    let ports = config.ports.iter().filter_map(Object::device);
    links.chain(ports).filter_map(|device| Some((device.interface()?, device))).collect()
}

fn by_name<T: Object>(objects: &[T]) -> BTreeMap<&str, &T> {
    objects.iter().map(|object| (object.name(), object)).collect()
}

fn compare<T: Object>(old: &[T], new: &[T], open: &Netdevs<'_>, changes: &mut Vec<Change>) {
    let (before, after) = (by_name(old), by_name(new));
    let object = |of: &T| format!("{} {}", T::KIND, of.name());
    for gone in old.iter().filter(|was| !after.contains_key(was.name())) {
        changes.push(Change { object: object(gone), what: What::Removed });
    }
    let is_open = |device: &DeviceConfig| {
        device.interface().and_then(|interface| open.get(interface)) == Some(&device)
    };
    let stays_open = |of: &T| of.device().is_some_and(is_open);
    for is in new {
        let Some(was) = before.get(is.name()) else {
            changes.push(Change { object: object(is), what: What::Added });
            continue;
        };
        let fields = was.changed(is);
        let reopened = fields.contains(&"device") && !(stays_open(was) && stays_open(is));
        if reopened {
            changes.push(Change { object: object(is), what: What::Disruptive(fields) });
        } else if !fields.is_empty() {
            changes.push(Change { object: object(is), what: What::Changed(fields) });
        }
    }
}
