//! Port templates: what ports are to be that come by themselves, with their devices.

use std::path::Path;

use super::vhost_user::SocketRole;
use super::{DeviceConfig, PortConfig};

/// A port template: a port whose device has a pattern in the place of its name. For each
/// interface, or socket, whose name matches there is a port, called like it.
#[derive(Clone, PartialEq, Debug)]
pub struct TemplateConfig {
    /// What the ports are like, but for their names and devices; its own name is the
    /// template's. It has no addresses: those of its ports are learned.
    pub port: PortConfig,
}

/// What a template's device may be, for people.
pub const FORM: &str = "write { packet = { interface = \"vif*\" } }, or xdp, or { vhost-user = { \
                        socket = \"/run/vms/*.sock\", role = \"client\" } }";

/// What stands against a device in a template.
#[must_use]
pub fn objection(device: &DeviceConfig) -> Option<&'static str> {
    match device {
        DeviceConfig::Packet { .. } | DeviceConfig::Xdp { .. } => None,
        DeviceConfig::VhostUser(config) if config.role == SocketRole::Client => None,
        DeviceConfig::VhostUser(_) => Some("a socket that appears was made by a VMM"),
        DeviceConfig::Tap { .. } | DeviceConfig::Memory(_) => {
            Some("a device of this kind does not come by itself")
        }
    }
}

impl TemplateConfig {
    pub(super) fn forget_lines(&mut self) {
        self.port.forget_lines();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.port.name.value
    }

    /// The pattern of names of interfaces; none if it is for sockets.
    #[must_use]
    pub fn interfaces(&self) -> Option<&str> {
        self.port.device.value.interface()
    }

    /// The directory of sockets, and the pattern of their names; none if it is for
    /// interfaces.
    #[must_use]
    pub fn sockets(&self) -> Option<(&Path, &str)> {
        let socket = self.port.device.value.socket()?;
        Some((socket.parent()?, socket.file_name()?.to_str()?))
    }

    /// The port of an interface, or of a socket, of this name; none where no port can be
    /// called so.
    #[must_use]
    pub fn port_of(&self, device_name: &str) -> Option<PortConfig> {
        let mut port = self.port.clone();
        port.name = port_name(device_name)?.into();
        match &mut port.device.value {
            DeviceConfig::Tap { interface }
            | DeviceConfig::Packet { interface, .. }
            | DeviceConfig::Xdp { interface, .. } => device_name.clone_into(interface),
            DeviceConfig::VhostUser(config) => config.socket.set_file_name(device_name),
            DeviceConfig::Memory(_) => return None,
        }
        port.forget_lines();
        Some(port)
    }
}

/// What a port is called whose device is: a socket's without what is behind its last dot.
fn port_name(device_name: &str) -> Option<&str> {
    let name = device_name.strip_suffix(".sock").unwrap_or(device_name);
    super::read::leaf::is_name(name).then_some(name)
}

/// Whether a name matches a pattern of letters, `*` for any of them and `?` for one.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // Where the last star stood, and how much of the name it stands for.
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[read] => {
                (at, read) = (at + 1, read + 1);
            }
            _ => {
                let Some((of_star, taken)) = star else { return false };
                star = Some((of_star, taken + 1));
                (at, read) = (of_star + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        let yes = [
            ("vif*", "vif1.0"),
            ("vif*", "vif"),
            ("*", ""),
            ("*", "x"),
            ("v?f*", "vxf9"),
            ("*.sock", "a.sock"),
            ("*.sock", "a.sock.sock"),
            ("a*b*c", "aXXbYYc"),
            ("a*b*c", "abcbc"),
            ("vm1", "vm1"),
            ("**", "x"),
        ];
        for (pattern, name) in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        let no = [
            ("vif*", "veth1"),
            ("vif*", "xvif1"),
            ("v?f", "vf"),
            ("", "x"),
            ("vm1", "vm10"),
            ("*.sock", "a.sock.new"),
            ("a*b*c", "aXXc"),
            ("?", ""),
        ];
        for (pattern, name) in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        // It takes no longer for it.
        let long = "a".repeat(10_000);
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &long));
    }
}
