//! Between which ports of a switch frames go, and what lies between them.
//!
//! What stands for the rest of the world is the generator's, too, in its one thread: VMs that
//! forward, and the bridge at the far end of the cable that sends back what comes.

use super::frame::Tag;

/// The VLAN in which ports are: access ports, as an operator has them.
pub const VLAN: u16 = 10;
/// The S-VID of the channel.
pub const SVID: u16 = 100;

/// What the switch has at a port, and the generator at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// vhost-user: the generator is VMM and guest.
    Vm,
    /// A TAP's netdev: the generator has its file, as a VMM without vhost-user.
    Tap,
    /// An end of a veth pair: the generator has the other one, by AF_XDP.
    Interface,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Vm, Kind::Tap, Kind::Interface];

    /// What a reader knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vm => "VM ports (vhost-user)",
            Kind::Tap => "TAP ports",
            Kind::Interface => "interfaces",
        }
    }
}

/// Where in the switch a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this VLAN, switched locally.
    Vlan(u16),
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

    /// The tag of what is sent there.
    #[must_use]
    pub fn tag(self) -> Tag {
        match self.place {
            Place::Vlan(_) => Tag::Untagged,
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
    /// From which port to which, by their places in `seats`.
    pub path: (usize, usize),
}

const VM: Seat = Seat::local(Kind::Vm);
const TAP: Seat = Seat::local(Kind::Tap);
const INTERFACE: Seat = Seat::local(Kind::Interface);

/// All of them.
pub const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "v2v",
        explanation: ["From VM to VM.", "Both by vhost-user, split rings of 1024."],
        seats: &[VM, VM],
        path: (0, 1),
    },
    Scenario {
        name: "t2t",
        explanation: [
            "From TAP to TAP, whose files the generator has as a VMM has them.",
            "The switch has their netdevs; one system call a frame at either end.",
        ],
        seats: &[TAP, TAP],
        path: (0, 1),
    },
    Scenario {
        name: "p2p",
        explanation: [
            "From one veth pair to another.",
            "The generator has the far ends (AF_XDP), the switch the near ones.",
        ],
        seats: &[INTERFACE, INTERFACE],
        path: (0, 1),
    },
];

impl Scenario {
    /// The scenario of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name)
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
        }
    }

    #[test]
    fn neighbours_are_like_the_first_port() {
        let scenario = Scenario::named("t2t").unwrap();
        assert_eq!(scenario.seats(0), [TAP; 2]);
        assert_eq!(scenario.seats(5), [TAP; 5]);
    }
}
