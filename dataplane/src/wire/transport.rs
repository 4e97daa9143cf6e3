//! TCP and UDP in a frame that came without word of what is left to do on it: whether the
//! sender's checksum is one, or only the pseudo-header's sum, which a stack leaves there
//! for its netdev to complete.

use super::checksum::{Sum, pseudo_ipv4, pseudo_ipv6};
use super::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::layout::{IPV6_BYTES, Transport};

/// Tags that are passed over.
const TAGS_MAX: usize = 2;
/// More Fragments and Fragment Offset of an IPv4 header (RFC 791 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;

/// A transport header with what follows it, as a whole checksummed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transported {
    /// Where it begins, in bytes from the frame's first.
    pub start: usize,
    /// Its length in bytes, as the network header says it.
    pub length: usize,
    /// What its checksum field holds.
    field: u16,
    pseudo: Sum,
}

impl Transported {
    /// That of a frame that begins with `header`; nothing where there is none with a
    /// checksum, where it is a fragment's, or where it cannot be seen.
    #[inline]
    #[must_use]
    pub fn find(header: &[u8]) -> Option<Transported> {
        let network = ethernet::network_offset(header, TAGS_MAX);
        let packet = header.get(network..)?;
        let (protocol, bytes, length, pseudo) = match ethernet::word(header, network - 2)? {
            ETHERTYPE_IPV4 => ipv4(packet)?,
            ETHERTYPE_IPV6 => ipv6(packet)?,
            _ => return None,
        };
        let field = ethernet::word(packet, bytes + protocol.checksum_offset())?;
        // In UDP, zero says that there is no checksum.
        let summed = protocol == Transport::Tcp || field != 0;
        summed.then_some(Transported { start: network + bytes, length, field, pseudo })
    }

    /// Whether the field holds what a stack leaves there for its netdev to complete; once
    /// in 65,536 times a finished checksum is the same ([`Transported::is_right`] tells).
    #[inline]
    #[must_use]
    pub fn looks_unfilled(&self) -> bool {
        self.field == self.pseudo.word()
    }

    /// Whether the checksum is right, by the sum of all its `length` bytes.
    #[must_use]
    pub fn is_right(&self, bytes: Sum) -> bool {
        let mut sum = self.pseudo;
        sum.append(bytes);
        sum.checksum() == 0
    }
}

/// The protocol, the bytes of the header, those behind it, and the pseudo-header's sum.
type Network = (Transport, usize, usize, Sum);

fn ipv4(packet: &[u8]) -> Option<Network> {
    let &[first, _, l0, l1, _, _, f0, f1, _, number, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        packet.first_chunk()?;
    let bytes = usize::from(first & 0xf) * 4;
    let whole = u16::from_be_bytes([f0, f1]) & FRAGMENT_BITS == 0;
    let length = u16::from_be_bytes([l0, l1]).checked_sub(bytes as u16)?;
    let protocol = protocol(number).filter(|_| whole && first >> 4 == 4)?;
    let pseudo = pseudo_ipv4([s0, s1, s2, s3], [d0, d1, d2, d3], number, length);
    Some((protocol, bytes, length.into(), pseudo))
}

/// Without extension headers.
fn ipv6(packet: &[u8]) -> Option<Network> {
    let fixed: &[u8; IPV6_BYTES] = packet.first_chunk()?;
    let [first, _, _, _, l0, l1, number, ..] = *fixed;
    let (source, destination) = (fixed[8..].first_chunk()?, fixed[24..].first_chunk()?);
    let length = u16::from_be_bytes([l0, l1]);
    let protocol = protocol(number).filter(|_| first >> 4 == 6)?;
    let pseudo = pseudo_ipv6(*source, *destination, number, length.into());
    Some((protocol, IPV6_BYTES, length.into(), pseudo))
}

fn protocol(number: u8) -> Option<Transport> {
    [Transport::Tcp, Transport::Udp].into_iter().find(|it| it.number() == number)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::layout::Network as Version;

    /// A frame of any of both protocols over any of both versions, with `tags` C-tags.
    fn frame(protocol: Transport, version: Version, tags: usize, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match version {
            Version::Ipv6 => builder.ipv6([6; 16], [7; 16], 64),
            Version::Ipv4 => builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        };
        let mut bytes = Vec::new();
        match protocol {
            Transport::Tcp => ip.tcp(1000, 2000, 7, 1024).write(&mut bytes, payload).unwrap(),
            Transport::Udp => ip.udp(1000, 2000).write(&mut bytes, payload).unwrap(),
        }
        for _ in 0..tags {
            bytes.splice(12..12, [0x81, 0, 0, 9]);
        }
        bytes
    }

    fn judge(frame: &[u8], found: &Transported) -> (bool, bool) {
        let summed = Sum::of(&frame[found.start..found.start + found.length]);
        (found.looks_unfilled(), found.is_right(summed))
    }

    proptest! {
        #[test]
        fn a_checksum_that_a_stack_left_is_told_from_a_finished_one(
            protocol in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
            version in prop_oneof![Just(Version::Ipv4), Just(Version::Ipv6)],
            tags in 0..3_usize,
            payload in vec(any::<u8>(), 1..300),
        ) {
            let mut frame = frame(protocol, version, tags, &payload);
            // Padding counts for nothing.
            frame.extend([9; 7]);
            let found = Transported::find(&frame).unwrap();
            prop_assert_eq!(found.start + found.length, frame.len() - 7);
            let (looks_unfilled, right) = judge(&frame, &found);
            prop_assert!(right);
            // The two are alike where the rest sums to nothing.
            prop_assume!(!looks_unfilled);
            let at = found.start + protocol.checksum_offset();
            frame[at..at + 2].copy_from_slice(&found.pseudo.word().to_be_bytes());
            let found = Transported::find(&frame).unwrap();
            prop_assert_eq!(judge(&frame, &found), (true, false));
        }

        #[test]
        fn no_bytes_panic(
            mut bytes in vec(any::<u8>(), 0..140),
            ethertype in prop_oneof![Just(ETHERTYPE_IPV4), Just(ETHERTYPE_IPV6)],
        ) {
            let _ = Transported::find(&bytes);
            if bytes.len() > 14 {
                bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
                let _ = Transported::find(&bytes);
            }
        }
    }

    #[test]
    fn what_has_no_checksum_to_be_judged_is_passed_over() {
        let whole = frame(Transport::Udp, Version::Ipv4, 0, &[1; 20]);
        assert!(Transported::find(&whole).is_some());
        let edited = |edits: &[(usize, u8)]| {
            let mut frame = whole.clone();
            edits.iter().for_each(|&(at, value)| frame[at] = value);
            Transported::find(&frame)
        };
        assert_eq!(edited(&[(40, 0), (41, 0)]), None, "UDP without a checksum");
        assert_eq!(edited(&[(21, 1)]), None, "a fragment");
        assert_eq!(edited(&[(23, 1)]), None, "ICMP");
        assert_eq!(edited(&[(13, 6)]), None, "ARP");
        assert_eq!(Transported::find(&whole[..41]), None, "cut");
    }
}
