//! What is left to do on a frame: a checksum to fill in, a TSO frame to cut.
//!
//! The meaning of virtio-net header fields (virtio 1.2, 5.1.6), independent of
//! their wire form in [`super::virtio_net`]; whether a frame bears them out
//! ([`check`]); and what an egress leaves to software ([`Capabilities::lack`]).

use super::ethernet;
use super::layout::{self, Cut, Headers, Network, Transport};

/// C- and S-tags that are walked to find the network header of a frame as it
/// comes in: an S-tag and a C-tag.
const TAGS_MAX: usize = 2;
/// Segments that one frame may be cut into. A 64 KiB frame stays below it down to
/// 256 bytes a segment, less than any usual path leaves (RFC 791: 576 with headers); a
/// frame of `gso_size` 1 would otherwise cost 65,000.
pub const SEGMENTS_MAX: usize = 256;
/// Bytes of the longest frame with segmentation, from its network header on.
pub(super) const NETWORK_BYTES_MAX: usize = 65_536;

/// Work that the sender left to whoever puts the frame on a wire.
///
/// Offsets count from the first byte of the Ethernet header. Values come from
/// guests: nothing here is believed until [`super::ethernet`]-aware checks have
/// compared it with the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The checksum's state.
    pub checksum: Checksum,
    /// The segmentation asked for.
    pub segmentation: Segmentation,
}

impl Offload {
    /// A frame that is complete as it stands.
    pub const NONE: Offload =
        Offload { checksum: Checksum::Unknown, segmentation: Segmentation::None };

    /// Whether this is [`Offload::NONE`].
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.checksum, Checksum::Unknown)
            && matches!(self.segmentation, Segmentation::None)
    }

    /// Whether nothing is left to do on the frame.
    #[inline]
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !matches!(self.checksum, Checksum::Partial { .. })
            && matches!(self.segmentation, Segmentation::None)
    }

    /// The same work after `delta` bytes of tags were added (or removed, if
    /// negative) before the network header.
    #[inline]
    #[must_use]
    pub fn shifted(self, delta: i16) -> Offload {
        let Checksum::Partial { start, offset } = self.checksum else { return self };
        let start = start.saturating_add_signed(delta);
        Offload { checksum: Checksum::Partial { start, offset }, ..self }
    }
}

/// The state of a frame's transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// As on a wire: to be verified by whoever cares.
    #[default]
    Unknown,
    /// Verified already (`VIRTIO_NET_HDR_F_DATA_VALID`).
    Valid,
    /// To be filled in (`VIRTIO_NET_HDR_F_NEEDS_CSUM`): the ones' complement sum
    /// from `start` to the end of the frame goes to `start + offset`, where the
    /// pseudo-header's sum lies.
    Partial {
        /// First byte summed, from the start of the frame.
        start: u16,
        /// Where the result goes, from `start`.
        offset: u16,
    },
}

/// The segmentation a frame needs before a wire can take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Segmentation {
    /// The frame is one packet.
    #[default]
    None,
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    Tcp4 {
        /// Payload bytes of each segment but the last.
        size: u16,
        /// Whether CWR is set in the first segment only.
        ecn: Ecn,
    },
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    Tcp6 {
        /// Payload bytes of each segment but the last.
        size: u16,
        /// Whether CWR is set in the first segment only.
        ecn: Ecn,
    },
    /// UDP datagrams of one size (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp {
        /// Payload bytes of each datagram but the last.
        size: u16,
    },
}

impl Segmentation {
    /// Payload bytes of each segment but the last; nothing for one packet.
    #[inline]
    #[must_use]
    pub fn size(&self) -> Option<u16> {
        self.cut().map(|cut| cut.size)
    }

    /// What is to be cut, and how.
    #[inline]
    pub(super) fn cut(&self) -> Option<Cut> {
        let tcp = |network, size| Cut { network: Some(network), transport: Transport::Tcp, size };
        match *self {
            Segmentation::None => None,
            Segmentation::Tcp4 { size, .. } => Some(tcp(Network::Ipv4, size)),
            Segmentation::Tcp6 { size, .. } => Some(tcp(Network::Ipv6, size)),
            Segmentation::Udp { size } => {
                Some(Cut { network: None, transport: Transport::Udp, size })
            }
        }
    }
}

/// Whether a TSO frame carries `VIRTIO_NET_HDR_GSO_ECN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// It does not.
    #[default]
    Without,
    /// It does: only its first segment may carry CWR.
    With,
}

/// What a device takes at its egress; what it lacks is done in software.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// Frames with a checksum still to fill in.
    pub checksum: Support,
    /// TSO over IPv4.
    pub tcp4: Support,
    /// TSO over IPv6.
    pub tcp6: Support,
    /// TSO of which only the first segment may carry CWR ([`Ecn::With`]).
    pub ecn: Support,
    /// UDP segmentation.
    pub udp: Support,
}

impl Capabilities {
    /// Takes every offload (a TAP, a guest with everything negotiated).
    pub const ALL: Capabilities = Capabilities {
        checksum: Support::Taken,
        tcp4: Support::Taken,
        tcp6: Support::Taken,
        ecn: Support::Taken,
        udp: Support::Taken,
    };
    /// Takes complete frames only (a wire).
    pub const NONE: Capabilities = Capabilities {
        checksum: Support::Lacking,
        tcp4: Support::Lacking,
        tcp6: Support::Lacking,
        ecn: Support::Lacking,
        udp: Support::Lacking,
    };

    /// What software has to do on a frame before a device with these
    /// capabilities takes it.
    #[inline]
    #[must_use]
    pub fn lack(&self, offload: &Offload) -> Lack {
        if offload.is_complete() {
            return Lack::Nothing;
        }
        let cutting = match offload.segmentation {
            Segmentation::None => return self.lack_checksum(Lack::Nothing, Lack::Checksum),
            Segmentation::Tcp4 { ecn, .. } => self.tcp4.and(self.of(ecn)),
            Segmentation::Tcp6 { ecn, .. } => self.tcp6.and(self.of(ecn)),
            Segmentation::Udp { .. } => self.udp,
        };
        match cutting {
            Support::Taken => self.lack_checksum(Lack::Nothing, Lack::SegmentationAndChecksum),
            Support::Lacking => {
                self.lack_checksum(Lack::Segmentation, Lack::SegmentationAndChecksum)
            }
        }
    }

    #[inline]
    fn of(&self, ecn: Ecn) -> Support {
        match ecn {
            Ecn::Without => Support::Taken,
            Ecn::With => self.ecn,
        }
    }

    #[inline]
    fn lack_checksum(&self, taken: Lack, lacking: Lack) -> Lack {
        match self.checksum {
            Support::Taken => taken,
            Support::Lacking => lacking,
        }
    }
}

/// What software has to do for an egress device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Nothing: the device takes the frame as it is.
    Nothing,
    /// Fill in the checksum.
    Checksum,
    /// Cut the frame; the device fills in the segments' checksums.
    Segmentation,
    /// Cut the frame and fill in the segments' checksums.
    SegmentationAndChecksum,
}

/// Whether an egress device takes an offload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Support {
    /// Software has to do it.
    #[default]
    Lacking,
    /// The device takes it.
    Taken,
}

impl Support {
    #[inline]
    fn and(self, other: Support) -> Support {
        match self {
            Support::Lacking => Support::Lacking,
            Support::Taken => other,
        }
    }
}

/// How an offload contradicts its frame. Offsets and lengths are bytes of the
/// frame, from its first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OffloadError {
    /// `gso_type` is none that this switch negotiates.
    #[error("`gso_type` {gso_type:#04x} is not TCPV4 (1), TCPV6 (4) or UDP_L4 (5)")]
    UnknownSegmentation {
        /// The field.
        gso_type: u8,
    },
    /// The checksum would be written into the Ethernet header or a tag.
    #[error("`csum_start` {start} lies before the network header at {network}")]
    ChecksumInTags {
        /// `csum_start`.
        start: usize,
        /// Where the Ethernet header and its tags end.
        network: usize,
    },
    /// The checksum would be written behind the frame.
    #[error("`csum_start` {start} and `csum_offset` {offset} lie beyond a frame of {length}")]
    ChecksumOutside {
        /// `csum_start`.
        start: usize,
        /// `csum_offset`.
        offset: usize,
        /// The frame's length.
        length: usize,
    },
    /// Segmentation without a checksum to fill in (virtio 1.2, 5.1.6.2.1).
    #[error("`gso_type` is set without `NEEDS_CSUM`")]
    SegmentationWithoutChecksum,
    /// `csum_offset` is not where the transport protocol has its checksum.
    #[error("`csum_offset` {offset} is not the protocol's {expected}")]
    ChecksumMisplaced {
        /// `csum_offset`.
        offset: usize,
        /// 16 for TCP, 6 for UDP.
        expected: usize,
    },
    /// `gso_size` is zero.
    #[error("`gso_size` is 0")]
    SizeZero,
    /// The frame's protocols are not those that `gso_type` names.
    #[error("the frame's headers are not of the protocols that `gso_type` names")]
    ProtocolMismatch,
    /// A fragment cannot be cut again.
    #[error("the frame is an IPv4 fragment")]
    Fragment,
    /// The transport header is not at `csum_start`.
    #[error("the transport header is at {transport}, `csum_start` is {start}")]
    StartMisplaced {
        /// Where the frame's headers lead.
        transport: usize,
        /// `csum_start`.
        start: usize,
    },
    /// A header says that it is shorter than its own fixed part.
    #[error("the header at {at} has an impossible length")]
    HeaderLength {
        /// Where it begins.
        at: usize,
    },
    /// The frame ends within its headers.
    #[error("the frame of {length} bytes ends before its headers do, at {end}")]
    Truncated {
        /// The frame's length.
        length: usize,
        /// Where its headers would end.
        end: usize,
    },
    /// The packet is longer than any can be.
    #[error("the packet has {length} bytes, more than 65536")]
    TooLong {
        /// Its length from the network header on.
        length: usize,
    },
    /// The frame would be cut into more than [`SEGMENTS_MAX`] segments.
    #[error("`gso_size` would make {segments} segments, more than 128")]
    TooManySegments {
        /// How many.
        segments: usize,
    },
    /// No segment of this size fits the MTU.
    #[error("segments of {length} bytes do not fit the MTU {mtu}")]
    SegmentTooLarge {
        /// A full segment's length from the network header on.
        length: usize,
        /// The MTU.
        mtu: usize,
    },
}

/// Compares what is left to do on a frame of `length` bytes with its first bytes.
/// A frame with segmentation may be longer than the MTU, its segments not.
///
/// Headers that do not lie within `header`, because IP options or extension
/// headers pushed them out, are not compared; `csum_start`, `gso_size` and what
/// follows from the lengths still are.
///
/// # Errors
/// The first contradiction found.
#[inline]
pub fn check(header: &[u8], length: usize, mtu: u32, offload: Offload) -> Result<(), OffloadError> {
    if offload.is_complete() { Ok(()) } else { check_rest(header, length, mtu as usize, offload) }
}

fn check_rest(
    header: &[u8],
    length: usize,
    mtu: usize,
    offload: Offload,
) -> Result<(), OffloadError> {
    let Checksum::Partial { start, offset } = offload.checksum else {
        return Err(OffloadError::SegmentationWithoutChecksum);
    };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let network = ethernet::network_offset(header, TAGS_MAX);
    if start < network {
        return Err(OffloadError::ChecksumInTags { start, network });
    }
    if start + offset + 2 > length {
        return Err(OffloadError::ChecksumOutside { start, offset, length });
    }
    let Some(cut) = offload.segmentation.cut() else { return Ok(()) };
    cut.check_fields(offset)?;
    let headers = match layout::locate(header, length, &cut, start, TAGS_MAX)? {
        Headers::Visible(layout) => layout.payload..=layout.payload,
        Headers::Deep => start + cut.transport.bytes_min()..=start + cut.transport.bytes_max(),
    };
    if *headers.start() > length {
        return Err(OffloadError::Truncated { length, end: *headers.start() });
    }
    // What is refused is refused whatever the headers beyond our sight hold.
    cut.segments(length.saturating_sub(*headers.end()))?;
    let payload = length.saturating_sub(*headers.end()).min(usize::from(cut.size));
    let segment = *headers.start() + payload - network;
    if segment > mtu {
        return Err(OffloadError::SegmentTooLarge { length: segment, mtu });
    }
    Ok(())
}

/// The bytes up to the payload of a frame with segmentation; nothing for others.
/// Where the transport header is beyond `header`, its least length counts.
#[must_use]
pub fn headers_length(header: &[u8], offload: &Offload) -> Option<usize> {
    let cut = offload.segmentation.cut()?;
    let Checksum::Partial { start, .. } = offload.checksum else { return None };
    let start = usize::from(start);
    Some(start + cut.transport.bytes(header.get(start..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::specimen::{Specimen, any_specimen};
    use super::*;
    use proptest::prelude::*;

    const MTU: u32 = 1500;

    fn judge(specimen: &Specimen, offload: &Offload) -> Result<(), OffloadError> {
        let frame = specimen.frame();
        check(&frame[..frame.len().min(128)], frame.len(), MTU, *offload)
    }

    fn partial(start: u16, offset: u16) -> Offload {
        Offload { checksum: Checksum::Partial { start, offset }, ..Offload::NONE }
    }

    #[test]
    fn what_a_device_lacks_is_left_to_software() {
        let specimen = Specimen::tcp(3000, 1000);
        let (cut, sum) = (specimen.offload(), specimen.checksum_offload());
        let checksums = Capabilities { checksum: Support::Taken, ..Capabilities::NONE };
        let tcp4 = Capabilities { tcp4: Support::Taken, ..Capabilities::NONE };
        let table = [
            (Capabilities::ALL, Lack::Nothing, Lack::Nothing),
            (Capabilities::NONE, Lack::Checksum, Lack::SegmentationAndChecksum),
            (checksums, Lack::Nothing, Lack::Segmentation),
            // Segmentation fills in checksums; without them it is not to be had.
            (tcp4, Lack::Checksum, Lack::SegmentationAndChecksum),
        ];
        for (capabilities, of_sum, of_cut) in table {
            assert_eq!(capabilities.lack(&sum), of_sum, "{capabilities:?}");
            assert_eq!(capabilities.lack(&cut), of_cut, "{capabilities:?}");
            assert_eq!(capabilities.lack(&Offload::NONE), Lack::Nothing);
        }
        let udp = Offload { segmentation: Segmentation::Udp { size: 9 }, ..sum };
        let all_but_udp = Capabilities { udp: Support::Lacking, ..Capabilities::ALL };
        assert_eq!(all_but_udp.lack(&udp), Lack::Segmentation);
        assert_eq!(all_but_udp.lack(&cut), Lack::Nothing);
        let all_but_ecn = Capabilities { ecn: Support::Lacking, ..Capabilities::ALL };
        let tcp = [
            |ecn| Segmentation::Tcp4 { size: 1000, ecn },
            |ecn| Segmentation::Tcp6 { size: 1000, ecn },
        ];
        for segmentation in tcp {
            let with = |ecn| Offload { segmentation: segmentation(ecn), ..cut };
            assert_eq!(all_but_ecn.lack(&with(Ecn::Without)), Lack::Nothing);
            assert_eq!(all_but_ecn.lack(&with(Ecn::With)), Lack::Segmentation);
            assert_eq!(Capabilities::ALL.lack(&with(Ecn::With)), Lack::Nothing);
        }
    }

    #[test]
    fn a_checksum_stays_between_the_tags_and_the_end() {
        let tags = vec![[0x88a8, 2], [0x8100, 10]];
        let specimen = Specimen { tags, ..Specimen::tcp(100, 0) };
        let length = specimen.frame().len() as u16;
        assert_eq!(judge(&specimen, &partial(22, 0)), Ok(()));
        assert_eq!(judge(&specimen, &partial(22, length - 24)), Ok(()));
        let outside = |start, offset| OffloadError::ChecksumOutside {
            start: usize::from(start),
            offset: usize::from(offset),
            length: usize::from(length),
        };
        for (start, offset) in [(22, length - 23), (length, 0), (u16::MAX, u16::MAX)] {
            let error = outside(start, offset);
            assert_eq!(judge(&specimen, &partial(start, offset)), Err(error));
        }
        // Else a guest would have us write the VID of its choice into its tag.
        for start in 0..22 {
            let error = OffloadError::ChecksumInTags { start: start.into(), network: 22 };
            assert_eq!(judge(&specimen, &partial(start, 0)), Err(error));
        }
    }

    #[test]
    fn a_segmentation_that_contradicts_its_frame_is_named() {
        let good = Specimen::tcp(3000, 1000);
        let offload = good.offload();
        assert_eq!(judge(&good, &offload), Ok(()));
        let naked = Offload { checksum: Checksum::Valid, ..offload };
        assert_eq!(judge(&good, &naked), Err(OffloadError::SegmentationWithoutChecksum));
        let zero = Specimen { size: 0, ..good.clone() };
        assert_eq!(judge(&zero, &zero.offload()), Err(OffloadError::SizeZero));
        let ecn = Ecn::Without;
        for segmentation in
            [Segmentation::Tcp6 { size: 1000, ecn }, Segmentation::Udp { size: 1000 }]
        {
            let expected = match segmentation {
                Segmentation::Udp { .. } => {
                    OffloadError::ChecksumMisplaced { offset: 16, expected: 6 }
                }
                _ => OffloadError::ProtocolMismatch,
            };
            assert_eq!(judge(&good, &Offload { segmentation, ..offload }), Err(expected));
        }
        let udp = Offload { segmentation: Segmentation::Udp { size: 1000 }, ..partial(34, 6) };
        assert_eq!(judge(&good, &udp), Err(OffloadError::ProtocolMismatch));
        let early = Offload { segmentation: offload.segmentation, ..partial(30, 16) };
        let error = OffloadError::StartMisplaced { transport: 34, start: 30 };
        assert_eq!(judge(&good, &early), Err(error));
        let tags = vec![[0x8100, 10]; 3];
        let nested = Specimen { tags, ..good };
        assert_eq!(judge(&nested, &nested.offload()), Err(OffloadError::ProtocolMismatch));
    }

    #[test]
    fn damaged_headers_are_named() {
        let specimen = Specimen::tcp(3000, 1000);
        let damaged = |at: usize, value: u8| {
            let mut frame = specimen.frame();
            frame[at] = value;
            check(&frame[..128], frame.len(), MTU, specimen.offload())
        };
        assert_eq!(damaged(14, 0x65), Err(OffloadError::ProtocolMismatch));
        assert_eq!(damaged(14, 0x44), Err(OffloadError::HeaderLength { at: 14 }));
        assert_eq!(damaged(20, 0x20), Err(OffloadError::Fragment));
        assert_eq!(damaged(20, 0x40), Ok(()), "don't fragment");
        assert_eq!(damaged(34 + 12, 0x40), Err(OffloadError::HeaderLength { at: 34 }));
        let short = Specimen { transport_options: 10, ..Specimen::tcp(0, 10) };
        let frame = &short.frame()[..34 + 40];
        let error = OffloadError::Truncated { length: 74, end: 94 };
        assert_eq!(check(frame, 74, MTU, short.offload()), Err(error));
    }

    #[test]
    fn segments_are_few_and_fit_the_mtu() {
        let specimen = Specimen::tcp(5000, 1448);
        assert_eq!(judge(&specimen, &specimen.offload()), Ok(()));
        let large = Specimen { size: 1449, ..specimen.clone() };
        let error = OffloadError::SegmentTooLarge { length: 1501, mtu: 1500 };
        assert_eq!(judge(&large, &large.offload()), Err(error));
        // One that is not cut fits if it is short enough itself.
        let single = Specimen::tcp(1448, 9000);
        assert_eq!(judge(&single, &single.offload()), Ok(()));
        let many = Specimen::tcp(2561, 10);
        let error = OffloadError::TooManySegments { segments: 257 };
        assert_eq!(judge(&many, &many.offload()), Err(error));
        let enough = Specimen::tcp(2560, 10);
        assert_eq!(judge(&enough, &enough.offload()), Ok(()));
        let (frame, offload) = (specimen.frame(), specimen.offload());
        let error = OffloadError::TooLong { length: 65_537 };
        assert_eq!(check(&frame[..128], 65_551, MTU, offload), Err(error));
    }

    #[test]
    fn headers_out_of_sight_are_judged_by_what_is_in_sight() {
        // 8 * 12 bytes of extension header push TCP behind the first 128.
        let deep = |payload, size| Specimen {
            network: Network::Ipv6,
            network_options: vec![11],
            ..Specimen::tcp(payload, size)
        };
        let specimen = deep(3000, 1300);
        let (frame, offload) = (specimen.frame(), specimen.offload());
        assert_eq!(judge(&specimen, &offload), Ok(()));
        // 14 + 40 + 96 bytes, and the 20 of a TCP header.
        let error = OffloadError::Truncated { length: 169, end: 170 };
        assert_eq!(check(&frame[..128], 169, MTU, offload), Err(error));
        assert_eq!(check(&frame[..128], 170, MTU, offload), Ok(()));
        let large = deep(3000, 1345);
        let error = OffloadError::SegmentTooLarge { length: 1501, mtu: 1500 };
        assert_eq!(judge(&large, &large.offload()), Err(error));
        let many = deep(3000, 10);
        assert!(matches!(judge(&many, &many.offload()), Err(OffloadError::TooManySegments { .. })));
    }

    proptest! {
        #[test]
        fn an_honest_sender_is_believed(specimen in any_specimen()) {
            let mtu = 65_535;
            let frame = specimen.frame();
            let header = &frame[..frame.len().min(128)];
            prop_assert_eq!(check(header, frame.len(), mtu, specimen.offload()), Ok(()));
            prop_assert_eq!(check(header, frame.len(), mtu, specimen.checksum_offload()), Ok(()));
            let longest = specimen.segments().iter().map(Vec::len).max().unwrap_or_default();
            let fits = (longest - 14 - 4 * specimen.tags.len()) as u32;
            prop_assert_eq!(check(header, frame.len(), fits, specimen.offload()), Ok(()));
            prop_assert!(check(header, frame.len(), fits - 1, specimen.offload()).is_err());
        }

        #[test]
        fn no_bytes_panic(
            header in proptest::collection::vec(any::<u8>(), 14..129), behind in 0..70_000_usize,
            fields: [u16; 3], mtu: u32, specimen in any_specimen()
        ) {
            let length = header.len() + behind;
            let [start, offset, size] = fields;
            let cut = Segmentation::Tcp4 { size, ecn: Ecn::With };
            for segmentation in [Segmentation::None, cut, Segmentation::Udp { size }] {
                let offload = Offload { segmentation, ..partial(start % 200, offset % 20) };
                let _ = check(&header, length, mtu, offload);
            }
            let mut frame = specimen.frame();
            let from = frame.len().min(usize::from(start % 128));
            frame[from..].iter_mut().zip(&header).for_each(|(byte, any)| *byte = *any);
            let sight = frame.len().min(128);
            let _ = check(&frame[..sight], frame.len(), mtu, specimen.offload());
        }
    }
}
