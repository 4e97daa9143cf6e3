//! Whether a link's device has room for the tags that its frames bear.
//!
//! A link's MTU is of payload, tags come on top; a netdev's MTU is of payload, too, but the
//! kernel has room for one tag beside it at most. So an S-channel whose ports send C-tags
//! needs a netdev with a larger MTU than the link's, at both ends of the cable: by what the
//! kernel does not take beside it, which is more where the far end sends by packet sockets (if
//! it is a switch of ours, it says so of its own link). Where it is
//! missing, frames that are too long are dropped at the link as `mtu_exceeded`; here that
//! is foreseen, and said.

use std::collections::{BTreeMap, BTreeSet};

use hairpin_dataplane::port::xdp;
use hairpin_dataplane::wire::ethernet::TAG_BYTES;

use super::engine::Engine;
use super::topology::{Devices, link_mtu};
use crate::config::DeviceConfig;
use crate::config::desired::{Channel, ChannelIndex, Desired, Home, Link, Port};

const TAG: u32 = TAG_BYTES as u32;

/// The tags of a link's longest frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Tags {
    /// A C-tag, which a port sends or its VLAN adds.
    Customer,
    /// A channel's S-tag, and a C-tag within.
    ServiceAndCustomer,
}

impl Tags {
    fn bytes(self) -> u32 {
        match self {
            Tags::Customer => TAG,
            Tags::ServiceAndCustomer => 2 * TAG,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Tags::Customer => "a C-tag",
            Tags::ServiceAndCustomer => "an S- and a C-tag",
        }
    }

    /// What the kernel takes of them beside a netdev's MTU: one tag of any kind by AF_XDP
    /// (`is_skb_forwardable`), an outer C-tag only from a packet socket.
    fn free_bytes(self, device: &DeviceConfig) -> Option<u32> {
        match (device, self) {
            (DeviceConfig::Xdp { .. }, _) | (DeviceConfig::Packet { .. }, Tags::Customer) => {
                Some(TAG)
            }
            (DeviceConfig::Packet { .. }, Tags::ServiceAndCustomer) => Some(0),
            // Their netdevs take whatever we give them.
            (
                DeviceConfig::Tap { .. } | DeviceConfig::VhostUser(_) | DeviceConfig::Memory(_),
                _,
            ) => None,
        }
    }
}

/// The tags of a link's longest frames, and the channel that has them; nothing for a link
/// that is not used. Any port may send a C-tag or have one added. One that a `direct` port
/// sends beyond is not foreseen.
fn tags<'d>(desired: &'d Desired, link: &Link) -> Option<(Tags, &'d Channel)> {
    let station = |port: &Port| match port.home {
        Home::Station { channel, .. } => Some(channel),
        Home::Bridge(_) | Home::Mirror(_) => None,
    };
    let stations: BTreeSet<ChannelIndex> = desired.ports().iter().filter_map(station).collect();
    let used = |index: ChannelIndex, channel: &Channel| {
        channel.bridge.is_some() || stations.contains(&index)
    };
    let channels = desired.channels().iter().enumerate();
    let mine = channels.filter(|&(index, channel)| {
        desired.link_of(channel).name == link.name && used(ChannelIndex(index), channel)
    });
    let tags = |channel: &Channel| match channel.svid {
        Some(_) => Tags::ServiceAndCustomer,
        None => Tags::Customer,
    };
    mine.map(|(_, channel)| (tags(channel), channel)).max_by_key(|&(tags, _)| tags)
}

/// Why frames of a link may be too long for its device, and what to do, in a sentence;
/// nothing if they are not, or the device is not there.
fn shortfall(desired: &Desired, link: &Link, devices: &Devices<'_>) -> Option<String> {
    let config = link.device.as_ref()?;
    let interface = match config {
        DeviceConfig::Xdp { interface, .. } | DeviceConfig::Packet { interface, .. } => interface,
        DeviceConfig::Tap { .. } | DeviceConfig::VhostUser(_) | DeviceConfig::Memory(_) => {
            return None;
        }
    };
    let has = devices.get(&*link.name)?.mtu?;
    let (tags, channel) = tags(desired, link)?;
    // What is left of the tags has to find room within the MTU.
    let (payload, taken) = (link_mtu(link, devices), tags.bytes() - tags.free_bytes(config)?);
    let (name, wanted) = (&link.name, payload + taken);
    if wanted <= has {
        return None;
    }
    let fitting = has.saturating_sub(taken);
    let raise = match link.mtu {
        _ if wanted > most(config) => String::new(),
        Some(_) => format!("raise the interface's {}, or ", both_ends(interface, wanted)),
        // Else the payload grows with it.
        None => format!(
            "give link {name} `mtu = {payload}` of its own and raise the interface's {}, or ",
            both_ends(interface, wanted)
        ),
    };
    Some(format!(
        "link {name}: frames of channel {} with {payload} bytes of payload and {} are too long \
         for interface `{interface}`, whose mtu is {has}, and are dropped as `mtu_exceeded`: \
         {raise}set `mtu = {fitting}` for the link and its hosts",
        channel.name,
        tags.words(),
    ))
}

fn both_ends(interface: &str, mtu: u32) -> String {
    format!("at both ends of the cable (`ip link set {interface} mtu {mtu}`)")
}

/// The largest MTU in bytes of a device's netdev.
fn most(device: &DeviceConfig) -> u32 {
    match device {
        DeviceConfig::Xdp { .. } => xdp::MTU_BYTES_MAX,
        DeviceConfig::Packet { .. }
        | DeviceConfig::Tap { .. }
        | DeviceConfig::VhostUser(_)
        | DeviceConfig::Memory(_) => u32::MAX,
    }
}

impl Engine {
    /// Says of which links frames may be too long for the device, once each.
    pub(super) fn explain_cables(&mut self) {
        let links = self.desired.links().iter();
        let devices: Devices<'_> = links
            .clone()
            .filter_map(|link| Some((&*link.name, self.devices.get(&link.name)?.plugged())))
            .collect();
        let cramped: BTreeMap<String, String> = links
            .filter_map(|link| Some((link.name.clone(), shortfall(&self.desired, link, &devices)?)))
            .collect();
        for (name, problem) in &cramped {
            if self.cramped.get(name) != Some(problem) {
                tracing::warn!(link = name, problem, "the cable has no room for tags");
            }
        }
        for name in self.cramped.keys().filter(|name| !cramped.contains_key(*name)) {
            tracing::info!(link = name, "the cable has room for tags now");
        }
        self.cramped = cramped;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hairpin_dataplane::port::{Attached, HostsOwn};
    use hairpin_dataplane::snapshot::{DeviceId, Mode};
    use hairpin_dataplane::wire::SVid;
    use hairpin_dataplane::wire::offload::Capabilities;

    use super::*;
    use crate::config::{ChannelConfig, Config, LinkConfig, LinkRole, PortConfig};
    use crate::switch::line;
    use crate::switch::topology::Plugged;

    fn xdp_device() -> DeviceConfig {
        let (interface, hosts_own) = ("eth1".to_owned(), HostsOwn::Refuse);
        DeviceConfig::Xdp { interface, mode: xdp::Mode::Auto, hosts_own }
    }

    fn packet_device() -> DeviceConfig {
        DeviceConfig::Packet { interface: "eth1".to_owned(), hosts_own: HostsOwn::Refuse }
    }

    fn tap(interface: &str) -> DeviceConfig {
        DeviceConfig::Tap { interface: interface.to_owned() }
    }

    /// What is said of a link with this MTU (its device's if none), whose device has that
    /// one; its only port is in the channel, `up0` being the untagged one.
    fn said(device: DeviceConfig, mtu: Option<u32>, has: u32, channel: &str) -> Option<String> {
        let mut link = LinkConfig::new("up0", LinkRole::Station, Some(device));
        link.mtu = mtu.map(Into::into);
        let red = ChannelConfig::new("red", "up0", SVid::new(100).unwrap());
        let port = PortConfig::station("vm1", channel, Mode::Veb, tap("tap1"));
        let config = Config {
            links: vec![link],
            channels: vec![red],
            ports: vec![port],
            ..Config::default()
        };
        let desired = Desired::try_from(config).unwrap();
        let counters = Attached::counters(1);
        let attached = Attached::new(DeviceId(0), "up0", counters, Capabilities::NONE, Vec::new());
        let (attached, line) = (Arc::new(attached), line::State::UP);
        let plugged = Plugged { attached, mtu: Some(has), line };
        let devices = Devices::from([("up0", plugged)]);
        shortfall(&desired, &desired.links()[0], &devices)
    }

    #[test]
    fn room_for_two_tags_is_wanted_of_a_tagged_channel_and_for_one_of_another() {
        for (device, channel, least) in [
            (xdp_device(), "red", 1504),
            (xdp_device(), "up0", 1500),
            (packet_device(), "red", 1508),
            (packet_device(), "up0", 1500),
            (tap("tap0"), "red", 68),
        ] {
            let said = |has| said(device.clone(), Some(1500), has, channel);
            assert_eq!(said(least), None, "{device:?} {channel}");
            assert_eq!(said(least - 1).is_some(), least > 68, "{device:?} {channel}");
        }
        assert!(said(xdp_device(), None, 1500, "red").is_some());
        assert!(said(xdp_device(), None, 9000, "red").is_some());
        assert_eq!(said(xdp_device(), None, 1500, "up0"), None);
    }

    #[test]
    fn the_sentence_names_link_device_and_remedy() {
        assert_eq!(
            said(xdp_device(), None, 1500, "red").unwrap(),
            "link up0: frames of channel red with 1500 bytes of payload and an S- and a C-tag are \
             too long for interface `eth1`, whose mtu is 1500, and are dropped as \
             `mtu_exceeded`: give link up0 `mtu = 1500` of its own and raise the interface's at \
             both ends of the cable (`ip link set eth1 mtu 1504`), or set `mtu = 1496` for the \
             link and its hosts"
        );
        let said = said(packet_device(), Some(1500), 1400, "up0").unwrap();
        assert!(said.contains("a C-tag are too long for interface `eth1`, whose mtu is 1400"));
        assert!(said.contains("ip link set eth1 mtu 1500") && said.contains("`mtu = 1400`"));
    }

    #[test]
    fn the_mtu_that_is_asked_for_is_enough_and_no_more() {
        for (device, channel) in [xdp_device(), packet_device()]
            .into_iter()
            .flat_map(|device| ["red", "up0"].map(|channel| (device.clone(), channel)))
        {
            let said = |has| said(device.clone(), Some(1500), has, channel);
            let sentence = said(1400).unwrap();
            let (_, behind) = sentence.split_once("ip link set eth1 mtu ").unwrap();
            let asked: u32 = behind.split('`').next().unwrap().parse().unwrap();
            assert_eq!(said(asked), None, "{sentence}");
            assert!(said(asked - 1).is_some(), "{sentence}");
        }
    }

    #[test]
    fn nobody_is_told_to_give_an_interface_more_than_it_may_have() {
        let said = said(xdp_device(), None, 9216, "red").unwrap();
        assert!(said.contains("`mtu_exceeded`: set `mtu = 9212`"), "{said}");
    }
}
