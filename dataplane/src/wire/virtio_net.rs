//! The virtio-net header (virtio 1.2, 5.1.6; `linux/virtio_net.h`), in which an
//! [`Offload`] travels in front of a frame. All fields are little endian.
//!
//! | bytes | field | |
//! | --- | --- | --- |
//! | 0 | `flags` | `NEEDS_CSUM` 1, `DATA_VALID` 2; others are ignored (5.1.6.2.2) |
//! | 1 | `gso_type` | a kind, and 0x80 for ECN |
//! | 2..4 | `hdr_len` | never believed; written for the receiver's convenience |
//! | 4..6 | `gso_size` | payload bytes of each segment |
//! | 6..10 | `csum_start`, `csum_offset` | |
//! | 10..12 | `num_buffers` | absent in the legacy header |

use super::offload::{self, Checksum, Ecn, Offload, OffloadError, Segmentation};

/// Bytes of the header, `struct virtio_net_hdr_v1`.
pub const HEADER_BYTES: usize = 12;
/// Bytes of the header without `num_buffers`, `struct virtio_net_hdr`.
pub const HEADER_BYTES_LEGACY: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the header says, `num_buffers` and `hdr_len` apart. Nothing is checked
/// against the frame yet: that is [`offload::check`].
///
/// [`Checksum::Valid`] is the sender's word. A device must not take it from a
/// guest (5.1.6.2.2): the port that knows which side sent the header decides.
///
/// # Errors
/// [`OffloadError::UnknownSegmentation`]: also UDP fragmentation (3), which is
/// never negotiated, and ECN without TCP.
#[inline]
pub fn decode(header: &[u8; HEADER_BYTES]) -> Result<Offload, OffloadError> {
    let [fields @ .., _, _] = header;
    decode_legacy(fields)
}

/// As [`decode`], for the legacy header.
///
/// # Errors
/// As for [`decode`].
#[inline]
pub fn decode_legacy(header: &[u8; HEADER_BYTES_LEGACY]) -> Result<Offload, OffloadError> {
    let [a, b, c, d, e, f, g, h, i, j] = *header;
    let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    if first == 0 && i | j == 0 {
        return Ok(Offload::NONE);
    }
    let word = |low, high| u16::from_le_bytes([low, high]);
    let checksum = if a & FLAG_NEEDS_CSUM != 0 {
        Checksum::Partial { start: word(g, h), offset: word(i, j) }
    } else if a & FLAG_DATA_VALID != 0 {
        Checksum::Valid
    } else {
        Checksum::Unknown
    };
    Ok(Offload { checksum, segmentation: segmentation(b, word(e, f))? })
}

/// As [`decode`], for what a driver sent: its word for a checksum counts for nothing
/// (5.1.6.2.2), and where nothing is said nothing is left to do.
///
/// # Errors
/// As for [`decode`].
#[inline]
pub fn decode_from_driver(header: &[u8; HEADER_BYTES]) -> Result<Offload, OffloadError> {
    let offload = decode(header)?;
    let checksum = match offload.checksum {
        Checksum::Valid => Checksum::Unknown,
        checksum => checksum,
    };
    Ok(Offload { checksum, ..offload })
}

fn segmentation(gso_type: u8, size: u16) -> Result<Segmentation, OffloadError> {
    const TCPV4_ECN: u8 = GSO_TCPV4 | GSO_ECN;
    const TCPV6_ECN: u8 = GSO_TCPV6 | GSO_ECN;
    match gso_type {
        GSO_NONE => Ok(Segmentation::None),
        GSO_TCPV4 => Ok(Segmentation::Tcp4 { size, ecn: Ecn::Without }),
        TCPV4_ECN => Ok(Segmentation::Tcp4 { size, ecn: Ecn::With }),
        GSO_TCPV6 => Ok(Segmentation::Tcp6 { size, ecn: Ecn::Without }),
        TCPV6_ECN => Ok(Segmentation::Tcp6 { size, ecn: Ecn::With }),
        GSO_UDP_L4 => Ok(Segmentation::Udp { size }),
        _ => Err(OffloadError::UnknownSegmentation { gso_type }),
    }
}

/// The header for a frame of which `first` are the first bytes, in `buffers`
/// buffers. `hdr_len` is found from the frame's own headers: the bytes up to its
/// payload for a frame with segmentation, else 0 ([`offload::headers_length`]).
#[inline]
#[must_use]
pub fn encode(offload: &Offload, first: &[u8], buffers: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    if *offload != Offload::NONE {
        header[..HEADER_BYTES_LEGACY].copy_from_slice(&encode_legacy(offload, first));
    }
    header
}

/// As [`encode`], for the legacy header.
#[must_use]
pub fn encode_legacy(offload: &Offload, first: &[u8]) -> [u8; HEADER_BYTES_LEGACY] {
    let (flags, start, offset) = match offload.checksum {
        Checksum::Unknown => (0, 0, 0),
        Checksum::Valid => (FLAG_DATA_VALID, 0, 0),
        Checksum::Partial { start, offset } => (FLAG_NEEDS_CSUM, start, offset),
    };
    let with = |kind, ecn| match ecn {
        Ecn::Without => kind,
        Ecn::With => kind | GSO_ECN,
    };
    let gso_type = match offload.segmentation {
        Segmentation::None => GSO_NONE,
        Segmentation::Tcp4 { ecn, .. } => with(GSO_TCPV4, ecn),
        Segmentation::Tcp6 { ecn, .. } => with(GSO_TCPV6, ecn),
        Segmentation::Udp { .. } => GSO_UDP_L4,
    };
    let header_length = offload::headers_length(first, offload)
        .map_or(0, |length| u16::try_from(length).unwrap_or(u16::MAX));
    let size = offload.segmentation.size().unwrap_or(0);
    let [a, b] = header_length.to_le_bytes();
    let [c, d] = size.to_le_bytes();
    let [e, f] = start.to_le_bytes();
    let [g, h] = offset.to_le_bytes();
    [flags, gso_type, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_offload() -> impl Strategy<Value = Offload> {
        let checksum = prop_oneof![
            Just(Checksum::Unknown),
            Just(Checksum::Valid),
            any::<(u16, u16)>().prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        ];
        let ecn = prop_oneof![Just(Ecn::Without), Just(Ecn::With)];
        let segmentation = (0..4_u8, any::<u16>(), ecn).prop_map(|(kind, size, ecn)| match kind {
            0 => Segmentation::None,
            1 => Segmentation::Tcp4 { size, ecn },
            2 => Segmentation::Tcp6 { size, ecn },
            _ => Segmentation::Udp { size },
        });
        (checksum, segmentation)
            .prop_map(|(checksum, segmentation)| Offload { checksum, segmentation })
    }

    #[test]
    fn the_header_of_a_tso_frame_reads_as_the_standard_lays_it_out() {
        let header = [1, 0x81, 0xff, 0xff, 0xa8, 0x05, 34, 0, 16, 0, 1, 0];
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Segmentation::Tcp4 { size: 1448, ecn: Ecn::With },
        };
        assert_eq!(decode(&header), Ok(offload));
        let mut first = [0; 128];
        first[34 + 12] = 8 << 4;
        let sent = [1, 0x81, 66, 0, 0xa8, 0x05, 34, 0, 16, 0, 1, 0];
        assert_eq!(encode(&offload, &first, 1), sent);
    }

    #[test]
    fn a_complete_frame_has_a_header_of_zeros() {
        assert_eq!(decode(&[0; 12]), Ok(Offload::NONE));
        assert_eq!(encode(&Offload::NONE, &[0; 60], 0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        // Without their flag, csum_start and csum_offset mean nothing.
        assert_eq!(decode_legacy(&[0, 0, 9, 9, 9, 9, 9, 9, 9, 9]), Ok(Offload::NONE));
        let valid = Offload { checksum: Checksum::Valid, ..Offload::NONE };
        assert_eq!(decode_legacy(&[2 | 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(valid));
    }

    #[test]
    fn a_driver_s_word_for_a_checksum_counts_for_nothing() {
        let valid = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode_from_driver(&valid), Ok(Offload::NONE));
        let partial = [3, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
        assert_eq!(decode_from_driver(&partial), decode(&partial));
    }

    #[test]
    fn kinds_that_nobody_negotiated_are_refused() {
        for gso_type in 0..=u8::MAX {
            let header = [1, gso_type, 0, 0, 100, 0, 34, 0, 16, 0];
            let known = [0, 1, 4, 5, 0x81, 0x84].contains(&gso_type);
            let error = Err(OffloadError::UnknownSegmentation { gso_type });
            assert_eq!(decode_legacy(&header) == error, !known, "{gso_type}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            offload in any_offload(), first in proptest::collection::vec(any::<u8>(), 0..200),
            buffers: u16
        ) {
            let header = encode(&offload, &first, buffers);
            prop_assert_eq!(decode(&header), Ok(offload));
            prop_assert_eq!(&header[10..], &buffers.to_le_bytes());
            prop_assert_eq!(&header[..10], &encode_legacy(&offload, &first));
        }

        #[test]
        fn no_header_panics(header: [u8; 12]) {
            if let Ok(offload) = decode(&header) {
                prop_assert_eq!(decode(&encode(&offload, &[], 0)), Ok(offload));
            }
        }
    }
}
