//! Between which ports of a switch frames go, and what lies between them.
//!
//! What stands for the rest of the world is the generator's, too, in its one thread: VMs that
//! forward, and the bridge at the far end of the cable that sends back what comes.

use super::frame::Tag;
use super::setting::Tagging;
use super::spread::Spread;

/// The VLAN in which ports are: access ports, as an operator has them.
pub const VLAN: u16 = 10;
/// The S-VID of the channel.
pub const SVID: u16 = 100;
/// Of hosts, in bytes.
pub const HOSTS_MTU: usize = 1500;

/// What the switch has at a port, and the generator at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// vhost-user: the generator is VMM and guest.
    Vm,
    /// A TAP's netdev: the generator has its file, as a VMM without vhost-user.
    Tap,
    /// An end of a veth pair: the generator has the other one, by AF_XDP.
    Interface,
    /// The same, with a host at the other one: a kernel's TCP/IP stack.
    Host,
}

impl Kind {
    /// Those at which the generator sends and receives frames.
    pub const FRAMES: [Kind; 3] = [Kind::Vm, Kind::Tap, Kind::Interface];

    /// What a reader knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vm => "VM ports (vhost-user)",
            Kind::Tap => "TAP ports",
            Kind::Interface => "interfaces",
            Kind::Host => "hosts",
        }
    }
}

/// Where in the switch a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this VLAN, switched locally.
    Vlan(u16),
    /// In [`VLAN`], by the adjacent bridge at the far end of the cable (VEPA).
    Vepa,
    /// The same in the channel of [`SVID`].
    Channel,
    /// The cable itself: what the switch has there is its uplink.
    Cable,
}

impl Place {
    /// What a switch without it lacks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Place::Vlan(_) => "VLANs",
            Place::Vepa => "VEPA",
            Place::Channel => "channels",
            Place::Cable => "uplink here",
        }
    }
}

/// A port as a scenario has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// What is there.
    pub kind: Kind,
    /// Where in the switch.
    pub place: Place,
}

impl Seat {
    const fn local(kind: Kind) -> Seat {
        Seat { kind, place: Place::Vlan(VLAN) }
    }

    const fn vm(place: Place) -> Seat {
        Seat { kind: Kind::Vm, place }
    }

    /// The tag of what is sent there.
    #[must_use]
    pub fn tag(self, tagging: Tagging) -> Tag {
        match self.place {
            Place::Vlan(vlan) => tagging.tag(vlan),
            Place::Vepa | Place::Channel => Tag::Untagged,
            Place::Cable => Tag::Customer(VLAN),
        }
    }
}

/// What is carried from port to port outside the switch: by a VM that forwards, or by the
/// bridge at the far end of the cable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Where frames come.
    pub from: usize,
    /// Where they leave.
    pub to: usize,
    /// Which of them.
    pub frames: Frames,
}

impl Relay {
    /// The same the other way.
    #[must_use]
    pub fn turned(self) -> Relay {
        Relay { from: self.to, to: self.from, ..self }
    }
}

/// Which frames a relay carries; others are lost there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frames {
    /// All.
    All,
    /// Those whose outer tag is an S-tag of this number.
    Service(u16),
}

impl Frames {
    /// Whether a frame is one of them.
    #[must_use]
    pub fn have(self, frame: &[u8]) -> bool {
        match (self, frame) {
            (Frames::All, _) => true,
            (Frames::Service(svid), [_, _, _, _, _, _, _, _, _, _, _, _, 0x88, 0xa8, a, b, ..]) => {
                u16::from_be_bytes([*a, *b]) & 0xfff == svid
            }
            (Frames::Service(_), _) => false,
        }
    }
}

/// Ports, and where frames go.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in records.
    pub name: &'static str,
    /// What it is, in two lines.
    pub explanation: [&'static str; 2],
    /// The ports.
    pub seats: &'static [Seat],
    /// From which port to which, by their places in `seats`; of several, one way that there is.
    pub path: (usize, usize),
    /// Whether others send, too.
    pub spread: Spread,
    /// What lies on the way outside the switch.
    pub relays: &'static [Relay],
}

const VM: Seat = Seat::local(Kind::Vm);
const TAP: Seat = Seat::local(Kind::Tap);
const INTERFACE: Seat = Seat::local(Kind::Interface);
const HOST: Seat = Seat::local(Kind::Host);
const CABLE: Seat = Seat { kind: Kind::Interface, place: Place::Cable };
const LAST: Seat = Seat::vm(Place::Vlan(30));

const fn carried(from: usize, to: usize, frames: Frames) -> Relay {
    Relay { from, to, frames }
}

/// All of them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario {
        name: "v2v",
        explanation: ["From VM to VM.", "Both by vhost-user, split rings of 1024."],
        seats: &[VM, VM],
        path: (0, 1),
        spread: Spread::One,
        relays: &[],
    },
    Scenario {
        name: "t2t",
        explanation: [
            "From TAP to TAP, whose files the generator has as a VMM has them.",
            "The switch has their netdevs; one system call a frame at either end.",
        ],
        seats: &[TAP, TAP],
        path: (0, 1),
        spread: Spread::One,
        relays: &[],
    },
    Scenario {
        name: "p2p",
        explanation: [
            "From one veth pair to another.",
            "The generator has the far ends (AF_XDP), the switch the near ones.",
        ],
        seats: &[INTERFACE, INTERFACE],
        path: (0, 1),
        spread: Spread::One,
        relays: &[],
    },
    Scenario {
        name: "v2p",
        explanation: [
            "From VM to the cable, the uplink's, in a VLAN.",
            "The cable is a veth pair, the generator at its far end (AF_XDP).",
        ],
        seats: &[VM, CABLE],
        path: (0, 1),
        spread: Spread::One,
        relays: &[],
    },
    Scenario {
        name: "p2v",
        explanation: ["From the cable to VM, in a VLAN.", "The cable is as in v2p."],
        seats: &[VM, CABLE],
        path: (1, 0),
        spread: Spread::One,
        relays: &[],
    },
    Scenario {
        name: "chain",
        explanation: [
            "From VM by two VMs with two ports each to VM, in three VLANs: six ports.",
            "The generator forwards for them: part of its time goes there.",
        ],
        seats: &[VM, VM, Seat::vm(Place::Vlan(20)), Seat::vm(Place::Vlan(20)), LAST, LAST],
        path: (0, 5),
        spread: Spread::One,
        relays: &[carried(1, 2, Frames::All), carried(3, 4, Frames::All)],
    },
    Scenario {
        name: "vepa",
        explanation: [
            "From VM out by the cable, back from its far end, and to VM (VEPA).",
            "The generator is the bridge that reflects: part of its time goes there.",
        ],
        seats: &[Seat::vm(Place::Vepa), Seat::vm(Place::Vepa), CABLE],
        path: (0, 1),
        spread: Spread::One,
        relays: &[carried(2, 2, Frames::All)],
    },
    Scenario {
        name: "schannel",
        explanation: [
            "The same in an S-channel: at the cable frames bear its S-tag, too.",
            "Only frames with that tag are sent back.",
        ],
        seats: &[Seat::vm(Place::Channel), Seat::vm(Place::Channel), CABLE],
        path: (0, 1),
        spread: Spread::One,
        relays: &[carried(2, 2, Frames::Service(SVID))],
    },
    Scenario {
        name: "n-to-1",
        explanation: ["From three VMs to a fourth.", "By turns, a frame of each."],
        seats: &[VM; 4],
        path: (0, 3),
        spread: Spread::ToOne,
        relays: &[],
    },
    Scenario {
        name: "1-to-n",
        explanation: ["From a VM to three others.", "By turns, a frame to each."],
        seats: &[VM; 4],
        path: (0, 1),
        spread: Spread::FromOne,
        relays: &[],
    },
    Scenario {
        name: "mesh",
        explanation: [
            "Between four VMs, from each to each other one (RFC 2889, 5.3).",
            "By turns; a port has three addresses besides its own.",
        ],
        seats: &[VM; 4],
        path: (0, 1),
        spread: Spread::Mesh,
        relays: &[],
    },
    Scenario {
        name: "h2h",
        explanation: [
            "From host to host: network namespaces, the kernel's TCP/IP stack in each.",
            "They are at the far ends of veth pairs, the switch takes the near ones.",
        ],
        seats: &[HOST, HOST],
        path: (0, 1),
        spread: Spread::One,
        relays: &[],
    },
];

impl Scenario {
    /// The scenario of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name)
    }

    /// Whether the generator sends and receives its frames.
    #[must_use]
    pub fn bears_frames(&self) -> bool {
        self.seats.iter().all(|seat| Kind::FRAMES.contains(&seat.kind))
    }

    /// Whether it is between two ports of a VLAN and nothing else: others can be beside them.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.seats.len() == 2 && self.seats.iter().all(|seat| seat.place == Place::Vlan(VLAN))
    }

    /// The seats of a site with so many ports: its own, and neighbours of the first.
    #[must_use]
    pub fn seats(&self, ports: usize) -> Vec<Seat> {
        let neighbours = ports.saturating_sub(self.seats.len());
        let first = self.seats.first().copied();
        let own = self.seats.iter().copied();
        own.chain(first.into_iter().cycle().take(neighbours)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_two_lines_and_the_ports_that_it_speaks_of() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..index].iter().all(|other| other.name != scenario.name));
            for line in scenario.explanation {
                assert!(!line.is_empty() && line.len() <= 76, "{}: {line}", scenario.name);
            }
            let (from, to) = scenario.path;
            assert!(from != to && from.max(to) < scenario.seats.len(), "{}", scenario.name);
            for relay in scenario.relays {
                assert!(relay.from.max(relay.to) < scenario.seats.len(), "{}", scenario.name);
                assert!(![from, to].contains(&relay.from), "{}", scenario.name);
            }
        }
    }

    #[test]
    fn an_s_tag_is_looked_for_where_it_stands() {
        let frames = Frames::Service(SVID);
        let mut frame = [0; 60];
        assert!(Frames::All.have(&frame) && !frames.have(&frame) && !frames.have(&frame[..10]));
        frame[12..16].copy_from_slice(&[0x88, 0xa8, 0xe0, 100]);
        assert!(frames.have(&frame) && !Frames::Service(101).have(&frame));
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        assert!(!frames.have(&frame));
    }

    #[test]
    fn neighbours_are_like_the_first_port() {
        let scenario = Scenario::named("t2t").unwrap();
        assert_eq!(scenario.seats(0), [TAP; 2]);
        assert_eq!(scenario.seats(5), [TAP; 5]);
        let plain: Vec<&str> =
            SCENARIOS.iter().filter(|one| one.is_plain()).map(|one| one.name).collect();
        assert_eq!(plain, ["v2v", "t2t", "p2p", "h2h"]);
    }
}
