//! The site that the lab builds, and what must hold of it. Pure.
//!
//! ```text
//!   veb1 veb2 vepa1 vepa2   blue1 blue2   green1 green2   red1      server
//!     └────┴────┴─────┘       └─────┘        └─────┘        │          │
//!      default channel        S-VID 100      S-VID 200   S-VID 300     │
//!   ┌──────────────────────────────────────────────────────────┐  ┌────┴─────┐
//!   │                    the station's switch                  │  │ the EVB  │
//!   └───────────────────────────┬──────────────────────────────┘  │ bridge   │
//!                               └────────────── cable ────────────┴──────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;

/// Which part of the site to build.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// Two VMs switched locally.
    Veb,
    /// Two VMs switched by the adjacent bridge.
    Vepa,
    /// VMs on S-channels.
    Multichannel,
    /// Everything.
    All,
}

/// A VM of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmPlan {
    /// Its port's name.
    pub name: &'static str,
    /// Where it is plugged in.
    pub place: Place,
    /// Distinguishes its addresses: 1..=254.
    pub number: u8,
}

/// Where a VM is plugged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A port of the station's switch.
    Station {
        /// The channel's name.
        channel: &'static str,
        /// The channel's S-VID; none for the default channel.
        svid: Option<u16>,
        /// The port's mode.
        mode: Mode,
    },
    /// A port of the adjacent bridge.
    Bridge,
}

const fn station(
    name: &'static str,
    number: u8,
    channel: &'static str,
    svid: Option<u16>,
    mode: Mode,
) -> VmPlan {
    VmPlan { name, place: Place::Station { channel, svid, mode }, number }
}

/// Every VM of the whole site.
const VMS: [VmPlan; 10] = [
    station("veb1", 1, "up0", None, Mode::Veb),
    station("veb2", 2, "up0", None, Mode::Veb),
    station("vepa1", 3, "up0", None, Mode::Vepa),
    station("vepa2", 4, "up0", None, Mode::Vepa),
    station("blue1", 5, "blue", Some(100), Mode::Vepa),
    station("blue2", 6, "blue", Some(100), Mode::Vepa),
    station("green1", 7, "green", Some(200), Mode::Veb),
    station("green2", 8, "green", Some(200), Mode::Veb),
    station("red1", 9, "red", Some(300), Mode::Direct),
    VmPlan { name: "server", place: Place::Bridge, number: 10 },
];

impl Scenario {
    /// The VMs it needs.
    #[must_use]
    pub fn vms(self) -> Vec<VmPlan> {
        let belongs = |vm: &&VmPlan| match (self, vm.place) {
            (Scenario::All, _) => true,
            (Scenario::Veb, Place::Station { mode: Mode::Veb, svid: None, .. }) => true,
            (Scenario::Vepa, Place::Station { mode: Mode::Vepa, svid: None, .. }) => true,
            (Scenario::Multichannel, Place::Station { svid, .. }) => svid.is_some(),
            _ => false,
        };
        VMS.iter().filter(belongs).copied().collect()
    }
}

impl VmPlan {
    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, self.number])
    }

    /// Its IPv4 address, in a /24 that all VMs share.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address, in a /64 that all VMs share.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number))
    }

    /// Its address of a family.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.ipv4().into(),
            Family::Ipv6 => self.ipv6().into(),
        }
    }

    /// The tag its frames bear on the cable.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        match self.place {
            Place::Station { svid, .. } => Some(Tag(svid)),
            Place::Bridge => None,
        }
    }

    fn is_veb(&self) -> bool {
        matches!(self.place, Place::Station { mode: Mode::Veb, .. })
    }
}

/// A version of IP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// Version 4.
    Ipv4,
    /// Version 6.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// How a frame looks on the cable: its S-VID, or none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub Option<u16>);

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(svid) => write!(f, "S-{svid}"),
            None => f.write_str("untagged"),
        }
    }
}

/// The way frames take from one VM to another, as counted at the cable: the tag
/// they go out with, and the tag they come back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// From the station to the bridge.
    pub out: Option<Tag>,
    /// From the bridge to the station.
    pub back: Option<Tag>,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.out, self.back) {
            (None, None) => f.write_str("local"),
            (Some(out), Some(back)) if out == back => write!(f, "hairpin {out}"),
            (Some(out), Some(back)) => write!(f, "{out} > {back}"),
            (Some(out), None) => write!(f, "out {out}"),
            (None, Some(back)) => write!(f, "in {back}"),
        }
    }
}

/// The way frames from `a` to `b` must take.
#[must_use]
pub fn expected_path(a: &VmPlan, b: &VmPlan) -> Path {
    let local = a.is_veb() && b.is_veb() && a.tag() == b.tag();
    if local { Path { out: None, back: None } } else { Path { out: a.tag(), back: b.tag() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_from_modes_and_channels() {
        let [veb1, veb2, vepa1, ..] = VMS;
        let (green1, green2, red1, server) = (VMS[6], VMS[7], VMS[8], VMS[9]);
        assert_eq!(expected_path(&veb1, &veb2).to_string(), "local");
        assert_eq!(expected_path(&veb1, &vepa1).to_string(), "hairpin untagged");
        assert_eq!(expected_path(&green1, &green2).to_string(), "local");
        assert_eq!(expected_path(&green1, &red1).to_string(), "S-200 > S-300");
        assert_eq!(expected_path(&server, &red1).to_string(), "in S-300");
    }
}
