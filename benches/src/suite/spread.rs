//! Who sends to whom where more than two ports do: by which port a frame enters, and by which it
//! has to come out, as its addresses say.

use hairpin_dataplane::wire::Mac;

use super::frame::{Size, Stations, Stream, Tag};
use super::site::station;

/// Frames of one port after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// From the path's first port to its last.
    One,
    /// From all but the last port to the last, by turns.
    ToOne,
    /// From the first port to all others, by turns.
    FromOne,
    /// From each port to each other one, by turns: a port has an address for each sender besides
    /// its own.
    Mesh,
}

impl Spread {
    /// The frames that go from port to port, of so many ports.
    #[must_use]
    pub fn stream(
        self,
        (from, to): (usize, usize),
        ports: usize,
        tag: Tag,
        bytes: usize,
    ) -> Stream {
        let count = |count: usize| count as u32;
        let row = |first: usize, count: u32| Stations { first: station(first), count };
        let (source, destination, flows) = match self {
            Spread::One => (row(from, 1), row(to, 1), 1),
            Spread::ToOne => (row(0, count(ports - 1)), row(ports - 1, 1), count(ports - 1)),
            Spread::FromOne => (row(0, 1), row(1, count(ports - 1)), count(ports - 1)),
            Spread::Mesh => {
                let flows = count(ports * (ports - 1));
                (row(0, count(ports)), Stations { first: inlet(0), count: flows }, flows)
            }
        };
        Stream { source, destination, tag, size: Size::Fixed(bytes), flows }
    }

    /// Whether a port sends.
    #[must_use]
    pub fn sends(self, (from, _): (usize, usize), ports: usize, port: usize) -> bool {
        match self {
            Spread::One => port == from,
            Spread::ToOne => port + 1 < ports,
            Spread::FromOne => port == 0,
            Spread::Mesh => port < ports,
        }
    }

    /// Whether a port receives.
    #[must_use]
    pub fn receives(self, (_, to): (usize, usize), ports: usize, port: usize) -> bool {
        match self {
            Spread::One => port == to,
            Spread::ToOne => port + 1 == ports,
            Spread::FromOne => (1..ports).contains(&port),
            Spread::Mesh => port < ports,
        }
    }

    /// Whether a frame enters by a port that sends.
    #[must_use]
    pub fn enters(self, frame: &[u8], port: usize) -> bool {
        match self {
            Spread::One => true,
            _ => frame.get(6..12) == Some(&station(port).octets()[..]),
        }
    }

    /// Whether a frame is at the right one of the ports that receive.
    #[must_use]
    pub fn leaves(self, frame: &[u8], ports: usize, port: usize) -> bool {
        let is_to = |address: Mac| frame.get(..6) == Some(&address.octets()[..]);
        match self {
            Spread::One => true,
            _ => self.addresses(ports, port).any(is_to),
        }
    }

    /// The addresses at a port to which frames are sent.
    pub fn addresses(self, ports: usize, port: usize) -> impl Iterator<Item = Mac> {
        let flows = if self == Spread::Mesh { ports * (ports - 1) } else { 0 };
        let here = move |flow: &usize| receiver(*flow, ports) == port;
        let own = (self != Spread::Mesh).then(|| station(port));
        own.into_iter().chain((0..flows).filter(here).map(inlet))
    }
}

/// To which port a flow of a mesh goes; it comes from port `flow % ports`.
fn receiver(flow: usize, ports: usize) -> usize {
    (flow % ports + 1 + flow / ports) % ports
}

/// The address to which a flow of a mesh goes.
fn inlet(flow: usize) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 1, flow as u8])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// How many frames go from which port to which, of so many flows each one frame.
    fn ways(spread: Spread, ports: usize) -> BTreeMap<(usize, usize), usize> {
        let path = (0, 1);
        let stream = spread.stream(path, ports, Tag::Untagged, 64);
        let (mut frame, mut ways) = (Vec::new(), BTreeMap::new());
        for number in 0..u64::from(stream.flows) {
            stream.write(number, 0, &mut frame);
            let from: Vec<usize> = (0..ports)
                .filter(|&port| spread.sends(path, ports, port) && spread.enters(&frame, port))
                .collect();
            let to: Vec<usize> = (0..ports)
                .filter(|&port| spread.receives(path, ports, port))
                .filter(|&port| spread.leaves(&frame, ports, port))
                .collect();
            let ([from], [to]) = (&from[..], &to[..]) else { panic!("{from:?} {to:?}") };
            *ways.entry((*from, *to)).or_default() += 1;
        }
        ways
    }

    #[test]
    fn each_frame_enters_by_one_port_and_leaves_by_one() {
        assert_eq!(ways(Spread::One, 2), [((0, 1), 1)].into());
        assert_eq!(ways(Spread::ToOne, 4), [0, 1, 2].map(|from| ((from, 3), 1)).into());
        assert_eq!(ways(Spread::FromOne, 4), [1, 2, 3].map(|to| ((0, to), 1)).into());
        let mesh = ways(Spread::Mesh, 4);
        assert_eq!(mesh.len(), 12);
        assert!(mesh.iter().all(|(&(from, to), &frames)| from != to && frames == 1));
    }
}
