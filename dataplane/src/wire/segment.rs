//! The segments of a TCP or UDP frame that is cut in software.
//!
//! What comes out equals, byte for byte, what Linux makes of the same frame in
//! `tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment` and
//! `ipv6_gso_segment`: IPv4 identifications count up; FIN and PSH stay with the
//! last segment, CWR with the first; the pseudo-header's sum that the sender left
//! in the checksum field is corrected by the difference in length, not made anew,
//! so that a sender's mistake stays visible to the receiver. A frame whose
//! payload is one segment at most is not cut: only its checksum is filled in.
//! (Linux loses such a frame if payload and TCP options together exceed the size.)

use std::ops::Range;

use super::checksum::{self, Sum, Zero};
use super::ethernet;
use super::layout::{self, Cut, Headers, IPV6_BYTES, Layout, Network, Transport};
use super::offload::{Checksum, Offload, OffloadError};

/// Tags that are walked to find the network header of a frame as it leaves: two
/// that it came with, two that were added.
const TAGS_MAX: usize = 4;

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// Why software cannot cut or complete a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SegmentError {
    /// The offload contradicts the frame: [`super::offload::check`] refuses such.
    #[error("the offload contradicts the frame: {0}")]
    Invalid(#[from] OffloadError),
    /// The headers to be changed are not all within the private first bytes.
    #[error("the headers go on behind the frame's private first bytes")]
    HeaderTooDeep,
    /// No segmentation was asked for.
    #[error("the frame asks for no segmentation")]
    NotAsked,
}

/// How a frame is cut: the same for all its segments.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    layout: Layout,
    /// Payload bytes of the frame.
    payload: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
    count: usize,
}

/// One segment as [`Plan::write`] leaves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Bytes written: its headers, and what of its payload was in the frame's
    /// first bytes.
    pub header: usize,
    /// The rest of its payload, in bytes of the frame behind its first bytes.
    pub body: Range<usize>,
}

impl Plan {
    /// Plans the segments of a frame of `length` bytes that begins with `header`.
    ///
    /// # Errors
    /// [`SegmentError`]; for frames that passed [`super::offload::check`] only
    /// [`SegmentError::HeaderTooDeep`] and [`SegmentError::NotAsked`].
    pub fn new(header: &[u8], length: usize, offload: &Offload) -> Result<Plan, SegmentError> {
        let cut = offload.segmentation.cut().ok_or(SegmentError::NotAsked)?;
        let Checksum::Partial { start, offset } = offload.checksum else {
            return Err(OffloadError::SegmentationWithoutChecksum.into());
        };
        cut.check_fields(usize::from(offset))?;
        let headers = layout::locate(header, length, &cut, usize::from(start), TAGS_MAX)?;
        let Headers::Visible(layout) = headers else { return Err(SegmentError::HeaderTooDeep) };
        Ok(Plan::of(layout, length, &cut)?)
    }

    fn of(layout: Layout, length: usize, cut: &Cut) -> Result<Plan, OffloadError> {
        let payload = length - layout.payload;
        let size = usize::from(cut.size);
        let plan = Plan { layout, payload, size, count: cut.segments(payload)? };
        let (length, mtu) = (plan.length_max() - layout.network, usize::from(u16::MAX));
        if length > mtu {
            return Err(OffloadError::SegmentTooLarge { length, mtu });
        }
        Ok(plan)
    }

    /// The number of segments.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The length of the longest segment's frame.
    #[must_use]
    pub fn length_max(&self) -> usize {
        self.layout.payload + self.payload.min(self.size)
    }

    /// Writes the first bytes of segment `index`, at most as many as `header` has,
    /// the sum of its own pseudo-header in its checksum field.
    ///
    /// # Panics
    /// If `header` is not the one that was planned for, or `into` is shorter.
    pub fn write(&self, header: &[u8], index: usize, into: &mut [u8]) -> Segment {
        let from = index * self.size;
        let until = (from + self.size).min(self.payload);
        let private = header.len() - self.layout.payload;
        let (first, last) = (from.min(private), until.min(private));
        let headers = self.layout.payload;
        into[..headers].copy_from_slice(&header[..headers]);
        let payload = &header[headers + first..headers + last];
        into[headers..headers + payload.len()].copy_from_slice(payload);
        if self.count > 1 {
            self.edit(index, until - from, &mut into[..headers]);
        }
        Segment { header: headers + payload.len(), body: from - first..until - last }
    }

    /// Fills in the checksum of a segment that [`Plan::write`] wrote: `rest` is the
    /// sum of its body.
    pub fn complete(&self, written: &mut [u8], rest: Sum) {
        let zero = match self.layout.transport_protocol {
            Transport::Tcp if self.count > 1 => Zero::Plain,
            Transport::Tcp | Transport::Udp => Zero::Mangled,
        };
        let field = self.layout.transport_protocol.checksum_offset();
        checksum::complete(written, self.layout.transport, field, rest, zero)
            .expect("the plan holds only for headers that are in sight");
    }

    /// Makes the frame's headers those of a segment with this much payload.
    fn edit(&self, index: usize, payload: usize, headers: &mut [u8]) {
        let length = headers.len() + payload;
        let (before, transport) = headers.split_at_mut(self.layout.transport);
        let network = &mut before[self.layout.network..];
        let length = length - self.layout.network;
        match self.layout.network_protocol {
            Network::Ipv4 => edit_ipv4(network, length as u16, index as u16),
            Network::Ipv6 => put(network, 4, (length - IPV6_BYTES) as u16),
        }
        let length = (transport.len() + payload) as u16;
        match self.layout.transport_protocol {
            Transport::Tcp => self.edit_tcp(transport, length, index),
            Transport::Udp => edit_udp(transport, length),
        }
    }

    fn edit_tcp(&self, header: &mut [u8], length: u16, index: usize) {
        if let Some(field) = header[4..].first_chunk_mut() {
            let sequence = u32::from_be_bytes(*field).wrapping_add((index * self.size) as u32);
            *field = sequence.to_be_bytes();
        }
        if index + 1 < self.count {
            header[13] &= !(TCP_FIN | TCP_PSH);
        }
        if index > 0 {
            header[13] &= !TCP_CWR;
        }
        let whole = (header.len() + self.payload) as u16;
        put(header, 16, checksum::replaced(word(header, 16), whole, length));
    }
}

/// Sets an IPv4 header's total length, identification and checksum.
fn edit_ipv4(header: &mut [u8], length: u16, index: u16) {
    put(header, 2, length);
    put(header, 4, word(header, 4).wrapping_add(index));
    put(header, 10, 0);
    put(header, 10, Sum::of(header).checksum());
}

/// Sets a UDP header's length, and its checksum field by the difference.
fn edit_udp(header: &mut [u8], length: u16) {
    put(header, 6, checksum::replaced(word(header, 6), word(header, 4), length));
    put(header, 4, length);
}

fn word(header: &[u8], at: usize) -> u16 {
    ethernet::word(header, at).expect("the layout holds whole headers")
}

fn put(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The frames that leave an egress without any offload for one whole frame:
/// itself, completed, or its segments. For tests and tools: it allocates.
///
/// # Errors
/// [`SegmentError`]; [`OffloadError::ChecksumOutside`] if the checksum's place is
/// not in the frame.
pub fn to_frames(frame: &[u8], offload: &Offload) -> Result<Vec<Vec<u8>>, SegmentError> {
    let plan = match Plan::new(frame, frame.len(), offload) {
        Ok(plan) => plan,
        Err(SegmentError::NotAsked) => return Ok(vec![completed(frame, offload.checksum)?]),
        Err(error) => return Err(error),
    };
    let segment = |index| {
        let mut into = vec![0; frame.len()];
        let segment = plan.write(frame, index, &mut into);
        into.truncate(segment.header);
        plan.complete(&mut into, Sum::ZERO);
        into
    };
    Ok((0..plan.count()).map(segment).collect())
}

fn completed(frame: &[u8], checksum: Checksum) -> Result<Vec<u8>, OffloadError> {
    let mut frame = frame.to_vec();
    if let Checksum::Partial { start, offset } = checksum {
        let (start, offset, length) = (usize::from(start), usize::from(offset), frame.len());
        checksum::complete(&mut frame, start, offset, Sum::ZERO, Zero::Mangled)
            .ok_or(OffloadError::ChecksumOutside { start, offset, length })?;
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::super::offload::{self, Segmentation};
    use super::super::specimen::{Specimen, any_specimen, parsed};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_is_changed_where_the_kernel_changes_it() {
        let specimen = Specimen { flags: 0x99, ..Specimen::tcp(2500, 1000) };
        let frames = to_frames(&specimen.frame(), &specimen.offload()).unwrap();
        let field = |at: usize| frames.iter().map(move |frame| &frame[at..at + 2]);
        let words = |at| field(at).map(|b| u16::from_be_bytes([b[0], b[1]])).collect::<Vec<_>>();
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1066, 1066, 566]);
        assert_eq!(words(16), [1052, 1052, 552], "total length");
        assert_eq!(words(18), [0xfffe, 0xffff, 0], "identification");
        assert_eq!(words(38), [0xffff, 0xffff, 0xffff], "sequence, high");
        assert_eq!(words(40), [0xf000, 0xf3e8, 0xf7d0], "sequence, low");
        assert_eq!(words(46), [0x8090, 0x8010, 0x8019], "CWR first, FIN and PSH last");
    }

    #[test]
    fn a_frame_of_one_segment_is_completed_and_not_cut() {
        for payload in [0, 1, 999, 1000] {
            let specimen = Specimen { flags: 0x99, ..Specimen::tcp(payload, 1000) };
            let frames = to_frames(&specimen.frame(), &specimen.offload()).unwrap();
            assert_eq!(frames, [specimen.completed()], "{payload}");
        }
    }

    #[test]
    fn a_wrong_pseudo_sum_stays_wrong() {
        let specimen = Specimen::tcp(3000, 1000);
        let mut frame = specimen.frame();
        frame[specimen.start() + 16] ^= 0x55;
        let frames = to_frames(&frame, &specimen.offload()).unwrap();
        for (ours, right) in frames.iter().zip(specimen.segments()) {
            assert_ne!(*ours, right);
        }
    }

    #[test]
    fn headers_that_go_on_out_of_sight_are_not_cut() {
        let specimen = Specimen::tcp(3000, 1000);
        let (frame, offload) = (specimen.frame(), specimen.offload());
        let payload = specimen.start() + 32;
        assert!(Plan::new(&frame[..payload], frame.len(), &offload).is_ok());
        for sight in 14..payload {
            let error = Plan::new(&frame[..sight], frame.len(), &offload).unwrap_err();
            assert_eq!(error, SegmentError::HeaderTooDeep, "{sight}");
        }
        let complete = Plan::new(&frame, frame.len(), &Offload::NONE);
        assert_eq!(complete.unwrap_err(), SegmentError::NotAsked);
    }

    /// The segments, planned on the first `private` bytes only.
    fn cut_within(frame: &[u8], private: usize, offload: &Offload) -> Vec<Vec<u8>> {
        let (header, behind) = frame.split_at(private.min(frame.len()));
        let plan = Plan::new(header, frame.len(), offload).unwrap();
        let segment = |index| {
            let mut into = vec![0; header.len()];
            let segment = plan.write(header, index, &mut into);
            into.truncate(segment.header);
            let body = &behind[segment.body];
            plan.complete(&mut into, Sum::of(body));
            assert!(into.len() + body.len() <= plan.length_max());
            [&into, body].concat()
        };
        (0..plan.count()).map(segment).collect()
    }

    proptest! {
        #[test]
        fn segments_are_as_if_each_had_been_sent(specimen in any_specimen()) {
            let (frame, offload) = (specimen.frame(), specimen.offload());
            let expected = specimen.segments();
            prop_assert_eq!(to_frames(&frame, &offload), Ok(expected.clone()));
            prop_assert_eq!(cut_within(&frame, 128, &offload), expected.clone());
            let mut payload = Vec::new();
            for segment in &expected {
                let (vids, piece) = parsed(segment);
                prop_assert!(vids.into_iter().eq(specimen.tags.iter().map(|tag| tag[1])));
                payload.extend(piece);
            }
            prop_assert_eq!(payload, specimen.payload);
        }

        #[test]
        fn checksums_are_as_if_filled_in_by_the_sender(specimen in any_specimen()) {
            let frames = to_frames(&specimen.frame(), &specimen.checksum_offload());
            prop_assert_eq!(frames, Ok(vec![specimen.completed()]));
        }

        #[test]
        fn no_bytes_panic(
            frame in proptest::collection::vec(any::<u8>(), 0..200),
            start: u16, offset: u16, size: u16, kind in 0..4_u8
        ) {
            let ecn = offload::Ecn::Without;
            let segmentation = match kind {
                0 => Segmentation::None,
                1 => Segmentation::Tcp4 { size, ecn },
                2 => Segmentation::Tcp6 { size, ecn },
                _ => Segmentation::Udp { size },
            };
            let checksum = Checksum::Partial { start: start % 256, offset: offset % 32 };
            let _ = to_frames(&frame, &Offload { checksum, segmentation });
        }

        #[test]
        fn no_damaged_frame_panics(
            specimen in any_specimen(), at in 0..140_usize, value: u8, cut in 0..300_usize,
            sight in 0..160_usize
        ) {
            let mut frame = specimen.frame();
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.truncate(frame.len().saturating_sub(cut.saturating_sub(100)));
            let _ = to_frames(&frame, &specimen.offload());
            let header = &frame[..sight.min(frame.len())];
            if Plan::new(header, frame.len(), &specimen.offload()).is_ok() {
                cut_within(&frame, sight, &specimen.offload());
            }
        }
    }
}
