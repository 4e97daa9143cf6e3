//! Where the headers of a frame with segmentation lie: Ethernet and tags, IPv4
//! with options or IPv6 with extension headers, then TCP with options or UDP.
//!
//! Only what can be cut is walked: the extension headers are those that Linux
//! segments behind (hop-by-hop, routing, destination options); no tunnels.

use super::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::offload::{NETWORK_BYTES_MAX, OffloadError, SEGMENTS_MAX};

/// Bytes of an IPv4 header without options (RFC 791 3.1).
const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header (RFC 8200 3).
pub(super) const IPV6_BYTES: usize = 40;
/// More Fragments and Fragment Offset of an IPv4 header (RFC 791 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;

/// IPv6 next headers that are walked: hop-by-hop, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// The network protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The protocol's IP number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// Where the checksum is in the header (RFC 9293 3.1, RFC 768).
    #[must_use]
    pub const fn checksum_offset(self) -> usize {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }

    /// Bytes of the shortest header.
    pub(super) const fn bytes_min(self) -> usize {
        match self {
            Transport::Tcp => 20,
            Transport::Udp => 8,
        }
    }

    /// Bytes of the longest header.
    pub(super) const fn bytes_max(self) -> usize {
        match self {
            Transport::Tcp => 60,
            Transport::Udp => 8,
        }
    }

    /// Bytes of the header that `bytes` begin with, the least possible where it
    /// does not say, or says nonsense.
    pub(super) fn bytes(self, bytes: &[u8]) -> usize {
        match (self, bytes.get(12)) {
            (Transport::Tcp, Some(offset)) => usize::from(offset >> 4) * 4,
            _ => 0,
        }
        .max(self.bytes_min())
    }
}

/// What a segmentation asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The network protocol, if it matters.
    pub network: Option<Network>,
    /// The transport protocol.
    pub transport: Transport,
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

impl Cut {
    /// Checks what can be checked without the frame.
    pub(super) fn check_fields(&self, offset: usize) -> Result<(), OffloadError> {
        let expected = self.transport.checksum_offset();
        if self.size == 0 {
            return Err(OffloadError::SizeZero);
        }
        if offset != expected {
            return Err(OffloadError::ChecksumMisplaced { offset, expected });
        }
        Ok(())
    }

    /// How many segments a payload of this many bytes makes, one at least.
    ///
    /// # Errors
    /// [`OffloadError::SizeZero`], [`OffloadError::TooManySegments`].
    pub fn segments(&self, payload: usize) -> Result<usize, OffloadError> {
        let size = usize::from(self.size);
        let segments = payload.max(1).checked_add(size - usize::from(size > 0));
        let segments = segments.and_then(|bytes| bytes.checked_div(size));
        match segments.ok_or(OffloadError::SizeZero)? {
            segments @ ..=SEGMENTS_MAX => Ok(segments),
            segments => Err(OffloadError::TooManySegments { segments }),
        }
    }
}

/// Where the headers lie, in bytes from the frame's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The network protocol.
    pub network_protocol: Network,
    /// The transport protocol.
    pub transport_protocol: Transport,
    /// The network header.
    pub network: usize,
    /// The transport header.
    pub transport: usize,
    /// The payload behind it.
    pub payload: usize,
}

/// Whether all headers lie within a frame's first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Headers {
    /// They do.
    Visible(Layout),
    /// They go on behind those, as far as can be seen.
    Deep,
}

/// Walks the headers of a frame of `length` bytes that begins with `header`, past
/// at most `tags_max` tags, to the transport header that must be at `start`.
///
/// # Errors
/// What contradicts the segmentation asked for.
pub fn locate(
    header: &[u8],
    length: usize,
    cut: &Cut,
    start: usize,
    tags_max: usize,
) -> Result<Headers, OffloadError> {
    let network = ethernet::network_offset(header, tags_max);
    let packet = length.saturating_sub(network);
    if packet > NETWORK_BYTES_MAX {
        return Err(OffloadError::TooLong { length: packet });
    }
    let network_protocol = match (ethernet::word(header, network - 2), cut.network) {
        (Some(ETHERTYPE_IPV4), None | Some(Network::Ipv4)) => Network::Ipv4,
        (Some(ETHERTYPE_IPV6), None | Some(Network::Ipv6)) => Network::Ipv6,
        _ => return Err(OffloadError::ProtocolMismatch),
    };
    let window = Window { header, length };
    let next = match network_protocol {
        Network::Ipv4 => window.behind_ipv4(network)?,
        Network::Ipv6 => window.behind_ipv6(network, start)?,
    };
    let Some((number, transport)) = next else { return Ok(Headers::Deep) };
    let transport_protocol = cut.transport;
    if number != transport_protocol.number() {
        return Err(OffloadError::ProtocolMismatch);
    }
    if transport != start {
        return Err(OffloadError::StartMisplaced { transport, start });
    }
    Ok(match window.behind_transport(transport, transport_protocol)? {
        Some(payload) if payload <= header.len() => Headers::Visible(Layout {
            network_protocol,
            transport_protocol,
            network,
            transport,
            payload,
        }),
        _ => Headers::Deep,
    })
}

/// A frame's first bytes and its length.
struct Window<'b> {
    header: &'b [u8],
    length: usize,
}

impl<'b> Window<'b> {
    /// The bytes at `at`; nothing if they are in the frame but not in sight.
    fn bytes<const N: usize>(&self, at: usize) -> Result<Option<&'b [u8; N]>, OffloadError> {
        if at + N > self.length {
            return Err(OffloadError::Truncated { length: self.length, end: at + N });
        }
        Ok(self.header.get(at..).and_then(|rest| rest.first_chunk()))
    }

    /// The protocol behind an IPv4 header, and where it begins.
    fn behind_ipv4(&self, at: usize) -> Result<Option<(u8, usize)>, OffloadError> {
        let Some(fixed) = self.bytes::<IPV4_BYTES>(at)? else { return Ok(None) };
        let [first, _, _, _, _, _, high, low, _, protocol, ..] = *fixed;
        if first >> 4 != 4 {
            return Err(OffloadError::ProtocolMismatch);
        }
        let bytes = usize::from(first & 0xf) * 4;
        if bytes < IPV4_BYTES {
            return Err(OffloadError::HeaderLength { at });
        }
        if u16::from_be_bytes([high, low]) & FRAGMENT_BITS != 0 {
            return Err(OffloadError::Fragment);
        }
        Ok(Some((protocol, at + bytes)))
    }

    /// The same behind an IPv6 header and its extensions; not searched further
    /// than `start`.
    fn behind_ipv6(&self, at: usize, start: usize) -> Result<Option<(u8, usize)>, OffloadError> {
        let Some(fixed) = self.bytes::<IPV6_BYTES>(at)? else { return Ok(None) };
        let [first, _, _, _, _, _, mut next, ..] = *fixed;
        if first >> 4 != 6 {
            return Err(OffloadError::ProtocolMismatch);
        }
        let mut at = at + IPV6_BYTES;
        while EXTENSIONS.contains(&next) && at < start {
            let Some(&[following, length]) = self.bytes::<2>(at)? else { return Ok(None) };
            next = following;
            at += (usize::from(length) + 1) * 8;
        }
        Ok(Some((next, at)))
    }

    /// Where the payload begins behind the transport header at `at`.
    fn behind_transport(
        &self,
        at: usize,
        transport: Transport,
    ) -> Result<Option<usize>, OffloadError> {
        let end = match transport {
            Transport::Udp => self.bytes::<8>(at)?.map(|_| at + 8),
            Transport::Tcp => {
                let Some(fixed) = self.bytes::<20>(at)? else { return Ok(None) };
                let bytes = usize::from(fixed[12] >> 4) * 4;
                if bytes < fixed.len() {
                    return Err(OffloadError::HeaderLength { at });
                }
                Some(at + bytes)
            }
        };
        match end {
            Some(end) if end > self.length => {
                Err(OffloadError::Truncated { length: self.length, end })
            }
            end => Ok(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::specimen::any_specimen;
    use super::*;
    use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Where `etherparse` finds the headers, wherever that is.
    fn parsed_layout(frame: &[u8]) -> Option<Layout> {
        let at = |part: &[u8]| part.as_ptr().addr() - frame.as_ptr().addr();
        let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let (network_protocol, network) = match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => (Network::Ipv4, at(ip.header().slice())),
            LaxNetSlice::Ipv6(ip) => (Network::Ipv6, at(ip.header().slice())),
            LaxNetSlice::Arp(_) => return None,
        };
        let (transport_protocol, transport, payload) = match packet.transport.as_ref()? {
            TransportSlice::Tcp(tcp) => (Transport::Tcp, at(tcp.slice()), at(tcp.payload())),
            TransportSlice::Udp(udp) => (Transport::Udp, at(udp.slice()), at(udp.payload())),
            _ => return None,
        };
        Some(Layout { network_protocol, transport_protocol, network, transport, payload })
    }

    proptest! {
        #[test]
        fn the_headers_of_a_frame_are_where_they_are(
            specimen in any_specimen(), tail in vec(any::<u8>(), 0..64), visible in 22..200_usize
        ) {
            // Behind the packet there may be padding of any kind.
            let frame = [specimen.frame(), tail].concat();
            let header = &frame[..visible.min(frame.len())];
            let cut = specimen.offload().segmentation.cut().unwrap();
            let layout = parsed_layout(&frame).unwrap();
            prop_assert_eq!(layout.transport, specimen.start());
            let found = locate(header, frame.len(), &cut, specimen.start(), 2);
            let in_sight = layout.payload <= header.len();
            let expected = if in_sight { Headers::Visible(layout) } else { Headers::Deep };
            prop_assert_eq!(found, Ok(expected));
            let elsewhere = locate(header, frame.len(), &cut, specimen.start() + 8, 2);
            prop_assert!(matches!(elsewhere, Err(_) | Ok(Headers::Deep)));
        }

        #[test]
        fn a_frame_that_goes_wrong_midway_is_not_read_differently(
            specimen in any_specimen(),
            kept in 0..120_usize,
            tail in vec(any::<u8>(), 0..120),
            visible in 0..200_usize,
        ) {
            let mut frame = specimen.frame();
            frame.truncate(kept);
            frame.extend(tail);
            let header = &frame[..visible.min(frame.len())];
            let (cut, start) = (specimen.offload().segmentation.cut().unwrap(), specimen.start());
            let parsed = parsed_layout(&frame).filter(|layout| {
                layout.transport == start && layout.transport_protocol == cut.transport
            });
            match (locate(header, frame.len(), &cut, start, 2), parsed) {
                (Ok(Headers::Visible(layout)), Some(parsed)) => prop_assert_eq!(layout, parsed),
                (Ok(Headers::Deep), Some(parsed)) => prop_assert!(parsed.payload > header.len()),
                // What is not in sight is not believed; nor is IPv6 with extension headers
                // that are not walked.
                (Err(error), Some(parsed)) => {
                    let unseen = header.len() < parsed.network;
                    prop_assert!(unseen || parsed.network_protocol == Network::Ipv6, "{}", error);
                }
                (_, None) => {}
            }
        }
    }
}
