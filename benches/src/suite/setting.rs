//! What a site is for: the ports of a scenario, and what its frames are like whatever the test.

use hairpin_dataplane::port::vhost_user::features::Features;

use super::frame::{FLOWS_MAX, Stream, Tag};
use super::scenario::{Kind, Place, Scenario};
use crate::front_end::{self, Layout, Pages};

/// Bytes of the longest frames, their checksum included, of either class.
pub const ORDINARY_BYTES: usize = 1518;
/// See [`ORDINARY_BYTES`].
pub const JUMBO_BYTES: usize = 9018;

/// What guests with TSO over IPv4 accept, in either direction.
const TSO: Features =
    Features::CSUM.with(Features::GUEST_CSUM).with(Features::HOST_TSO4).with(Features::GUEST_TSO4);

/// How long the frames of a site may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lengths {
    /// Up to 1,518 bytes.
    Ordinary,
    /// Up to 9,018 bytes.
    Jumbo,
    /// TCP in pieces of up to 64 KiB, whatever the MTU: a switch that does not pass them on whole
    /// has to cut them.
    Segments,
}

impl Lengths {
    /// All of them.
    pub const ALL: [Lengths; 3] = [Lengths::Ordinary, Lengths::Jumbo, Lengths::Segments];

    /// The class of a frame's length, its checksum included, that is not to be cut.
    #[must_use]
    pub fn of(bytes: usize) -> Lengths {
        if bytes > ORDINARY_BYTES { Lengths::Jumbo } else { Lengths::Ordinary }
    }

    /// Those of these lengths that are of this class.
    #[must_use]
    pub fn among(self, sizes: &[usize]) -> Vec<usize> {
        sizes.iter().copied().filter(|&bytes| Lengths::of(bytes) == self).collect()
    }

    /// The MTU of the switch and its ports, in bytes.
    #[must_use]
    pub fn mtu(self) -> u32 {
        match self {
            Lengths::Ordinary | Lengths::Segments => 1500,
            Lengths::Jumbo => 9000,
        }
    }

    /// The VMs' rings, and what they lie in: a frame to send lies in one buffer.
    #[must_use]
    pub fn layout(self) -> Layout {
        let ordinary = Layout { entries: 1024, pages: Pages::Huge, ..Layout::SPLIT };
        match self {
            Lengths::Ordinary => ordinary,
            Lengths::Jumbo => Layout { buffer_bytes: 9216, ..ordinary },
            Lengths::Segments => Layout {
                buffer_bytes: 66_048,
                entries: 256,
                features: ordinary.features.with(TSO),
                ..ordinary
            },
        }
    }
}

/// What tag frames enter the switch with, at the ports of VLANs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tagging {
    /// None: access ports, where a switch has them.
    Untagged,
    /// A C-tag, of the port's VLAN: trunk ports.
    Customer,
    /// An S-tag: for switches that take it for a VLAN's, or for payload.
    Service,
}

impl Tagging {
    /// All of them.
    pub const ALL: [Tagging; 3] = [Tagging::Untagged, Tagging::Customer, Tagging::Service];

    /// Its name on the command line and in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tagging::Untagged => "none",
            Tagging::Customer => "vlan",
            Tagging::Service => "svlan",
        }
    }

    /// The tag at a port of this VLAN.
    #[must_use]
    pub fn tag(self, vlan: u16) -> Tag {
        match self {
            Tagging::Untagged => Tag::Untagged,
            Tagging::Customer => Tag::Customer(vlan),
            Tagging::Service => Tag::Service(vlan),
        }
    }
}

/// How a switch knows who is where.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Addresses {
    /// By its configuration, if it can be told; else it learns.
    Registered,
    /// It learns, as many as it can be configured for.
    Learned,
}

/// What a run's frames are like besides their length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// The tag.
    pub tagging: Tagging,
    /// Flows from each sender to each receiver, 1 to [`FLOWS_MAX`].
    pub flows: u32,
}

impl Traffic {
    /// One flow without tags.
    pub const PLAIN: Traffic = Traffic { tagging: Tagging::Untagged, flows: 1 };

    /// A stream of one flow from each sender to each receiver, with as many as there are to be.
    #[must_use]
    pub fn shape(self, stream: Stream) -> Stream {
        Stream { flows: stream.flows.saturating_mul(self.flows).min(FLOWS_MAX), ..stream }
    }
}

/// What a site is for.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The scenario.
    pub scenario: Scenario,
    /// Ports, if more than the scenario's.
    pub ports: usize,
    /// How the switch knows addresses.
    pub addresses: Addresses,
    /// How long frames are.
    pub lengths: Lengths,
    /// What they are like otherwise.
    pub traffic: Traffic,
}

impl Setting {
    /// Ordinary frames of one flow, addresses as the switch is told them.
    #[must_use]
    pub fn plain(scenario: Scenario, ports: usize) -> Setting {
        let (addresses, lengths) = (Addresses::Registered, Lengths::Ordinary);
        Setting { scenario, ports, addresses, lengths, traffic: Traffic::PLAIN }
    }

    /// Huge pages of its VMs.
    #[must_use]
    pub fn pages(&self) -> u64 {
        let seats = self.scenario.seats(self.ports);
        let vms = seats.iter().filter(|seat| seat.kind == Kind::Vm).count();
        vms as u64 * front_end::huge_pages(&self.lengths.layout())
    }

    /// Why no switch can be measured so; `None` if some can.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let seats = self.scenario.seats;
        if self.lengths == Lengths::Jumbo && seats.iter().any(|seat| seat.kind == Kind::Interface) {
            return Some(format!(
                "the generator takes no frames above {ORDINARY_BYTES} bytes from interfaces"
            ));
        }
        if !self.scenario.bears_frames() && self.traffic != Traffic::PLAIN {
            return Some("hosts send frames of their own: it takes no --tag and no --flows".into());
        }
        let local = seats.iter().all(|seat| matches!(seat.place, Place::Vlan(_)));
        let straight = local && self.scenario.relays.is_empty();
        (self.traffic.tagging != Tagging::Untagged && !straight)
            .then(|| "what lies on the way outside the switch does not change tags".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::wire::Mac;

    use super::*;
    use crate::suite::frame::Size;

    #[test]
    fn the_longest_frame_of_a_class_fits_its_mtu_and_its_buffers() {
        for (bytes, lengths) in [
            (64, Lengths::Ordinary),
            (ORDINARY_BYTES, Lengths::Ordinary),
            (ORDINARY_BYTES + 1, Lengths::Jumbo),
            (JUMBO_BYTES, Lengths::Jumbo),
        ] {
            assert_eq!(Lengths::of(bytes), lengths, "{bytes}");
            // Without the checksum and the header.
            assert!(bytes - 4 - 14 <= lengths.mtu() as usize, "{bytes}");
            // Without the checksum, behind a virtio-net header.
            assert!(bytes - 4 + 12 <= lengths.layout().buffer_bytes as usize, "{bytes}");
        }
    }

    #[test]
    fn flows_are_those_of_each_pair() {
        let address = Mac::new([2, 0, 0, 0, 0, 1]);
        let (source, destination) = (address.into(), address.into());
        let stream =
            Stream { source, destination, tag: Tag::Untagged, size: Size::Fixed(64), flows: 3 };
        let flows = |flows| Traffic { flows, ..Traffic::PLAIN }.shape(stream).flows;
        assert_eq!([flows(1), flows(1000), flows(FLOWS_MAX)], [3, 3000, FLOWS_MAX]);
    }

    #[test]
    fn what_no_switch_can_be_measured_with_is_said() {
        let plain = |name| Setting::plain(Scenario::named(name).unwrap(), 0);
        let long = |name| Setting { lengths: Lengths::Jumbo, ..plain(name) };
        let traffic = Traffic { tagging: Tagging::Customer, ..Traffic::PLAIN };
        let tagged = |name| Setting { traffic, ..plain(name) };
        for allowed in [plain("p2p"), plain("v2p"), long("t2t"), tagged("v2v"), tagged("mesh")] {
            assert_eq!(allowed.refusal(), None, "{allowed:?}");
        }
        for refused in [long("p2p"), long("v2p"), tagged("v2p"), tagged("chain"), tagged("h2h")] {
            assert!(refused.refusal().is_some(), "{refused:?}");
        }
    }
}
