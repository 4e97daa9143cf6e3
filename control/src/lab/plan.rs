//! The site that the lab builds, and what must hold of it. Pure.
//!
//! ```text
//!   veb1 veb2 vepa1 vepa2 priv1 priv2   blue1 blue2   green1 green2   red1      server
//!     └────┴────┴─────┴─────┴─────┘       └─────┘        └─────┘        │          │
//!            default channel              S-VID 100      S-VID 200   S-VID 300     │
//!   ┌──────────────────────────────────────────────────────────────────────┐  ┌────┴─────┐
//!   │                          the station's switch                        │  │ the EVB  │
//!   └───────────────────────────────┬──────────────────────────────────────┘  │ bridge   │
//!                                   └────────────────── cable ────────────────┴──────────┘
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
    /// Two VMs switched by the adjacent bridge, two that may reach nobody beside them.
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
const VMS: [VmPlan; 12] = [
    station("veb1", 1, "up0", None, Mode::Veb),
    station("veb2", 2, "up0", None, Mode::Veb),
    station("vepa1", 3, "up0", None, Mode::Vepa),
    station("vepa2", 4, "up0", None, Mode::Vepa),
    station("priv1", 11, "up0", None, Mode::Private),
    station("priv2", 12, "up0", None, Mode::Private),
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
            (Scenario::Vepa, Place::Station { mode, svid: None, .. }) => {
                matches!(mode, Mode::Vepa | Mode::Private)
            }
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

    /// Whether its port is `private`.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.has_mode(Mode::Private)
    }

    fn has_mode(&self, wanted: Mode) -> bool {
        matches!(self.place, Place::Station { mode, .. } if mode == wanted)
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

/// What must become of frames from one VM to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// They arrive, by this way.
    Reached(Path),
    /// They come as far as this way leads, back to the station, and are dropped there as
    /// `private`; nor are the VMs' addresses resolved.
    Apart(Path),
}

impl Expectation {
    /// Of frames from `a` to `b`.
    #[must_use]
    pub fn of(a: &VmPlan, b: &VmPlan) -> Expectation {
        let one_channel = a.tag().is_some() && a.tag() == b.tag();
        let past_the_cable = Path { out: a.tag(), back: b.tag() };
        if one_channel && (a.is_private() || b.is_private()) {
            Expectation::Apart(past_the_cable)
        } else if one_channel && a.has_mode(Mode::Veb) && b.has_mode(Mode::Veb) {
            Expectation::Reached(Path { out: None, back: None })
        } else {
            Expectation::Reached(past_the_cable)
        }
    }

    /// The way that frames must take, as far as they come.
    #[must_use]
    pub fn path(self) -> Path {
        match self {
            Expectation::Reached(path) | Expectation::Apart(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_from_modes_and_channels() {
        let [veb1, veb2, vepa1, ..] = VMS;
        let [.., green1, green2, red1, server] = VMS;
        let way = |a, b| match Expectation::of(a, b) {
            Expectation::Reached(path) => path.to_string(),
            Expectation::Apart(path) => format!("apart, {path}"),
        };
        assert_eq!(way(&veb1, &veb2), "local");
        assert_eq!(way(&veb1, &vepa1), "hairpin untagged");
        assert_eq!(way(&green1, &green2), "local");
        assert_eq!(way(&green1, &red1), "S-200 > S-300");
        assert_eq!(way(&server, &red1), "in S-300");
    }

    #[test]
    fn private_vms_are_apart_from_their_channel_and_reach_what_is_beyond() {
        let reaches = |name: &str| {
            let vm = VMS.iter().find(|vm| vm.name == name).unwrap();
            let others = VMS.iter().filter(|other| other.name != name);
            let reached = others.filter(|other| {
                let (there, back) = (Expectation::of(vm, other), Expectation::of(other, vm));
                let is_reached = |expected| matches!(expected, Expectation::Reached(_));
                assert_eq!(is_reached(there), is_reached(back));
                is_reached(there)
            });
            reached.map(|other| other.name).collect::<Vec<_>>()
        };
        let beyond = ["blue1", "blue2", "green1", "green2", "red1", "server"];
        assert_eq!(reaches("priv1"), beyond);
        assert_eq!(reaches("priv2"), beyond);
        let apart_from_two = VMS.len() - 1 - 2;
        assert_eq!(reaches("veb1").len(), apart_from_two);
        assert_eq!(reaches("vepa2").len(), apart_from_two);
        assert_eq!(reaches("blue1").len(), VMS.len() - 1);
    }
}
