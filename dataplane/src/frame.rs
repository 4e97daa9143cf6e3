//! The view of a frame, and the batch in which frames are received.
//!
//! A received frame is never brought into memory of ours: a [`View`] is a
//! private copy of its first [`HEADER_BYTES`], on which everything is decided
//! and edited and which *is* what the receiver gets; the rest stays in the
//! sender's memory as a [`Body`] until it is copied, once, into the receiver's.

use std::sync::Arc;

use crate::ledger::DropReason;
use crate::sys::memory::{Body, Memory, Piece, RegionHint, SpanError, Spans};
use crate::wire::offload::{Offload, OffloadError};
use crate::wire::virtio_net;

/// Frames in a batch, and so per port and breath.
pub const BATCH_FRAMES: usize = 64;
/// Bytes per port and breath, after which receiving stops.
pub const BATCH_BYTES: usize = 256 * 1024;
/// First bytes of a frame that are copied before they are believed.
pub const HEADER_BYTES: usize = 128;
/// Pieces a frame may lie in.
pub const FRAME_SEGMENTS: usize = 256;
/// The longest frame: a 64 KiB TSO frame with its Ethernet header and two tags.
pub const FRAME_BYTES_MAX: usize = 65_536 + 14 + 8;
/// Segments in a batch: room for one frame of the most pieces beside usual ones.
const BATCH_SEGMENTS: usize = FRAME_SEGMENTS + 4 * BATCH_FRAMES;

const _: () = assert!(BATCH_BYTES >= FRAME_BYTES_MAX);

/// What lies before a frame in its first piece or pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    /// Nothing.
    None,
    /// A virtio-net header that says nothing, whatever it holds: it is not looked at,
    /// and its cache line stays where it is.
    Ignored,
    /// A virtio-net header of a driver's.
    VirtioNet,
}

impl Prefix {
    /// Its size in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn length(self) -> u16 {
        match self {
            Prefix::None => 0,
            Prefix::Ignored | Prefix::VirtioNet => virtio_net::HEADER_BYTES as u16,
        }
    }
}

/// The private copy of a frame's first bytes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Header([u8; HEADER_BYTES]);

/// First bytes by which frames are compared: addresses, EtherType and, as one number is
/// compared at once, two more.
const LIKENESS_BYTES: usize = 16;

impl Header {
    /// The first bytes, as many as are compared, whatever they are.
    #[inline(always)]
    fn likeness(&self) -> u128 {
        const { assert!(LIKENESS_BYTES == size_of::<u128>()) };
        self.0.first_chunk().map_or(0, |bytes| u128::from_ne_bytes(*bytes))
    }
}

/// What a batch knows of a frame besides its bytes.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Without the prefix.
    length: u32,
    first_span: u16,
    span_count: u16,
    header_length: u16,
    offload: Offload,
}

/// Frames received from one port in one breath, and the share in that port's
/// memory that their bodies need.
pub struct Batch {
    headers: Box<[Header; BATCH_FRAMES]>,
    shapes: Box<[Shape; BATCH_FRAMES]>,
    count: usize,
    /// Frames whose private bytes are copied; the rest are staged.
    settled: usize,
    bytes: usize,
    spans: Spans,
    rejected: Vec<DropReason>,
}

/// One frame of a batch.
#[derive(Clone, Copy, Debug)]
pub struct View<'b> {
    /// The private first bytes, all of them where the frame is short.
    pub header: &'b [u8],
    /// The rest, in the sender's memory.
    pub body: Body<'b>,
    /// What the sender left to do.
    pub offload: Offload,
}

impl View<'_> {
    /// The frame's length in bytes, from the Ethernet header, without FCS.
    #[inline]
    #[must_use]
    pub fn length(&self) -> usize {
        self.header.len() + self.body.length()
    }
}

/// Whether a batch takes another frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It does.
    More,
    /// The bounds of a breath are reached.
    Full,
}

impl Batch {
    /// An empty batch; allocates once, here.
    #[must_use]
    pub fn new() -> Batch {
        Batch {
            headers: Box::new([Header([0; HEADER_BYTES]); BATCH_FRAMES]),
            shapes: Box::new([Shape::default(); BATCH_FRAMES]),
            count: 0,
            settled: 0,
            bytes: 0,
            spans: Spans::with_capacity(BATCH_SEGMENTS),
            rejected: Vec::with_capacity(BATCH_FRAMES),
        }
    }

    /// Empties the batch for frames that lie in `memory`.
    pub fn begin(&mut self, memory: &Arc<Memory>) {
        (self.count, self.settled, self.bytes) = (0, 0, 0);
        self.rejected.clear();
        self.spans.begin(memory);
    }

    /// Empties the batch and lets the sender's memory go.
    pub fn end(&mut self) {
        (self.count, self.settled, self.bytes) = (0, 0, 0);
        self.rejected.clear();
        self.spans.end();
    }

    /// Whether there is room for a frame of the most pieces.
    #[inline]
    #[must_use]
    pub fn room(&self) -> Room {
        let full = self.count + self.rejected.len() >= BATCH_FRAMES
            || self.bytes >= BATCH_BYTES
            || self.spans.count() + FRAME_SEGMENTS > BATCH_SEGMENTS;
        if full { Room::Full } else { Room::More }
    }

    /// Adds a frame that lies in these pieces (address, length) of the memory, the
    /// first bytes copied here and now. One that cannot be read is noted as
    /// rejected ([`DropReason::BadAddress`], [`DropReason::TooManySegments`]).
    ///
    /// # Panics
    /// If [`Batch::room`] was not asked and there is none.
    pub fn push(&mut self, hint: &mut RegionHint, pieces: &[Piece], offload: Offload) {
        self.stage(hint, pieces, Prefix::None);
        if self.settled < self.count {
            self.shapes[self.settled].offload = offload;
        }
        self.settle();
    }

    /// The first half of [`Batch::push`]: notes the pieces and starts to bring their
    /// first bytes near. Nothing is copied before [`Batch::settle`], which must follow
    /// before any frame is looked at. The first bytes are the prefix, not the frame; a
    /// frame without as many is rejected ([`DropReason::Runt`]), as is one whose prefix
    /// says what nobody negotiated ([`DropReason::OffloadInvalid`]).
    ///
    /// # Panics
    /// If [`Batch::room`] was not asked and there is none.
    #[inline(always)]
    pub fn stage(&mut self, hint: &mut RegionHint, pieces: &[Piece], prefix: Prefix) {
        if let &[piece] = pieces {
            return self.stage_piece(hint, piece, prefix);
        }
        self.assert_room();
        let first_span = self.spans.count();
        match self.push_pieces(hint, pieces, prefix) {
            Ok((length, offload)) => {
                self.note(first_span, self.spans.count() - first_span, length);
                self.shapes[self.count - 1].offload = offload;
            }
            Err(reason) => {
                self.spans.truncate(first_span);
                self.reject(reason);
            }
        }
    }

    /// As [`Batch::stage`], for a frame in one piece.
    ///
    /// # Panics
    /// If [`Batch::room`] was not asked and there is none.
    #[inline(always)]
    pub fn stage_piece(&mut self, hint: &mut RegionHint, piece: Piece, prefix: Prefix) {
        self.assert_room();
        let first_span = self.spans.count();
        match self.push_piece(hint, piece, prefix) {
            Ok(length) => self.note(first_span, 1, length),
            Err(reason) => self.reject(reason),
        }
    }

    #[inline(always)]
    fn assert_room(&self) {
        assert!(self.count + self.rejected.len() < BATCH_FRAMES, "a batch was overfilled");
    }

    /// Notes a frame that lies in so many spans from `first_span` on.
    #[inline(always)]
    fn note(&mut self, first_span: usize, span_count: usize, length: u32) {
        self.shapes[self.count] = Shape {
            length,
            first_span: first_span as u16,
            span_count: span_count as u16,
            header_length: 0,
            offload: Offload::NONE,
        };
        self.count += 1;
        self.bytes += length as usize;
    }

    /// Reads what lies before the staged frames and copies their first bytes, in order.
    #[inline(always)]
    pub fn settle(&mut self) {
        let mut index = self.settled;
        while index < self.count {
            let shape = &self.shapes[index];
            let (first, count) = (usize::from(shape.first_span), usize::from(shape.span_count));
            let body = self.spans.body_from(first, count, 0, shape.length);
            let wanted = body.length().min(HEADER_BYTES);
            let header = &mut self.headers[index].0[..wanted];
            let (header_length, [front, back]) = body.read_with_words(header);
            self.shapes[index].header_length = header_length as u16;
            if front | back != 0 && self.read_prefix(index, front, back).is_err() {
                continue;
            }
            index += 1;
        }
        self.settled = self.count;
    }

    /// Notes what the virtio-net header of a staged frame says, given its words as they
    /// were read; one that says what it must not takes its frame out of the batch.
    #[inline(never)]
    fn read_prefix(&mut self, index: usize, front: u64, back: u64) -> Result<(), OffloadError> {
        let mut header = [0; virtio_net::HEADER_BYTES];
        header[..8].copy_from_slice(&front.to_le_bytes());
        header[8..].copy_from_slice(&(back as u32).to_le_bytes());
        match virtio_net::decode_from_driver(&header) {
            Ok(offload) => self.shapes[index].offload = offload,
            Err(error) => {
                self.bytes -= self.shapes[index].length as usize;
                self.shapes.copy_within(index + 1..self.count, index);
                self.count -= 1;
                self.reject(DropReason::OffloadInvalid);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes a frame that was received but cannot be viewed.
    pub fn reject(&mut self, reason: DropReason) {
        if self.rejected.len() < self.rejected.capacity() {
            self.rejected.push(reason);
        }
    }

    /// Notes all frames of the batch as received for nothing.
    pub fn reject_all(&mut self, reason: DropReason) {
        let count = std::mem::take(&mut self.count);
        (self.settled, self.bytes) = (0, 0);
        (0..count).for_each(|_| self.reject(reason));
    }

    /// Whether neither a frame nor one that cannot be viewed is in the batch.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count + self.rejected.len() == 0
    }

    /// The frames that were received but cannot be viewed.
    #[must_use]
    pub fn rejected(&self) -> &[DropReason] {
        &self.rejected
    }

    /// Adds the only piece of a frame; says the frame's length.
    #[inline(always)]
    fn push_piece(
        &mut self,
        hint: &mut RegionHint,
        (address, size): Piece,
        prefix: Prefix,
    ) -> Result<u32, DropReason> {
        let length = size.checked_sub(u32::from(prefix.length())).ok_or(DropReason::Runt)?;
        match prefix {
            Prefix::None | Prefix::VirtioNet => {
                self.spans.push(hint, (address, size), prefix.length())?;
            }
            Prefix::Ignored => {
                let address = address.checked_add(u64::from(prefix.length()));
                let address = address.ok_or(DropReason::BadAddress)?;
                self.spans.push(hint, (address, length), 0)?;
            }
        }
        Ok(length)
    }

    /// Adds the pieces of a frame behind its prefix; says the frame's length, and what
    /// its sender left to do.
    #[inline(never)]
    fn push_pieces(
        &mut self,
        hint: &mut RegionHint,
        pieces: &[Piece],
        prefix: Prefix,
    ) -> Result<(u32, Offload), DropReason> {
        if pieces.len() > FRAME_SEGMENTS {
            return Err(DropReason::TooManySegments);
        }
        let mut header = [0; virtio_net::HEADER_BYTES];
        let mut missing = &mut header[..usize::from(prefix.length())];
        let mut length = 0_u32;
        for &(address, size) in pieces {
            let skipped = size.min(missing.len() as u32);
            if skipped > 0 {
                let (part, rest) = missing.split_at_mut(skipped as usize);
                missing = rest;
                if prefix == Prefix::VirtioNet {
                    let place = self.spans.place(hint, address, skipped);
                    place.ok_or(DropReason::BadAddress)?.read(part);
                }
            }
            length = length.checked_add(size - skipped).ok_or(DropReason::Giant)?;
            let address = address.checked_add(u64::from(skipped)).ok_or(DropReason::BadAddress)?;
            self.spans.push(hint, (address, size - skipped), 0)?;
        }
        if !missing.is_empty() {
            return Err(DropReason::Runt);
        }
        let offload = virtio_net::decode_from_driver(&header);
        Ok((length, offload.map_err(|_| DropReason::OffloadInvalid)?))
    }

    /// The number of frames.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of all frames.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A frame.
    ///
    /// # Panics
    /// If `index` is not below [`Batch::count`].
    #[inline]
    #[must_use]
    pub fn view(&self, index: usize) -> View<'_> {
        assert!(index < self.count, "frame {index} of a batch of {}", self.count);
        let shape = &self.shapes[index];
        let header = &self.headers[index].0[..usize::from(shape.header_length)];
        let (first, count) = (usize::from(shape.first_span), usize::from(shape.span_count));
        let taken = u32::from(shape.header_length);
        let rest = shape.length - taken;
        let body = match count {
            0 | 1 => self.spans.body_from(first, count, taken, rest),
            _ => self
                .spans
                .body_from(first, count, 0, shape.length)
                .slice(taken as usize, rest as usize),
        };
        View { header, body, offload: shape.offload }
    }

    /// A frame's private bytes, without its body.
    ///
    /// # Panics
    /// If `index` is not below [`Batch::count`].
    #[inline]
    #[must_use]
    pub fn header(&self, index: usize) -> &[u8] {
        assert!(index < self.count, "frame {index} of a batch of {}", self.count);
        &self.headers[index].0[..usize::from(self.shapes[index].header_length)]
    }

    /// A frame's length in bytes.
    ///
    /// # Panics
    /// If `index` is not below [`Batch::count`].
    #[inline]
    #[must_use]
    pub fn length(&self, index: usize) -> usize {
        assert!(index < self.count, "frame {index} of a batch of {}", self.count);
        self.shapes[index].length as usize
    }

    /// Bit n is set if frame n and the one before it are both complete and begin with the
    /// same 16 bytes, and frame n is not longer.
    #[inline]
    #[must_use]
    pub fn alike(&self) -> u64 {
        let (headers, shapes) = (&self.headers[..self.count], &self.shapes[..self.count]);
        let pairs = headers.windows(2).zip(shapes.windows(2));
        pairs.rev().fold(0, |alike, (headers, shapes)| {
            let [(first, former), (second, latter)] =
                [0, 1].map(|index| (&headers[index], &shapes[index]));
            let is_as_before = first.likeness() == second.likeness()
                && usize::from(latter.header_length) >= LIKENESS_BYTES
                && latter.length <= former.length
                && former.offload.is_none()
                && latter.offload.is_none();
            (alike | u64::from(is_as_before)) << 1
        })
    }

    /// What a frame's sender left to do.
    ///
    /// # Panics
    /// If `index` is not below [`BATCH_FRAMES`].
    #[inline]
    #[must_use]
    pub fn offload(&self, index: usize) -> Offload {
        self.shapes[index].offload
    }
}

impl From<SpanError> for DropReason {
    fn from(error: SpanError) -> DropReason {
        match error {
            SpanError::Unmapped => DropReason::BadAddress,
            SpanError::Full => DropReason::TooManySegments,
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("count", &self.count).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::offload::Checksum;

    /// Also by frames that cannot be read, in one piece and in many.
    #[test]
    fn a_full_batch_takes_nothing_more() {
        for pieces in [&[(0, 60)][..], &[(8192, 1)], &[(8192, 1), (0, 60)]] {
            let memory = Arc::new(Memory::arena(8192).expect("8 KiB"));
            let mut hint = RegionHint::default();
            let mut batch = Batch::new();
            batch.begin(&memory);
            (0..BATCH_FRAMES).for_each(|_| batch.stage(&mut hint, &[(0, 60)], Prefix::None));
            assert_eq!(batch.room(), Room::Full);
            let overfill =
                std::panic::AssertUnwindSafe(|| batch.stage(&mut hint, pieces, Prefix::None));
            std::panic::catch_unwind(overfill).unwrap_err();
        }
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_rejected_and_leaves_nothing() {
        let memory = Arc::new(Memory::arena(8192).expect("8 KiB"));
        let mut hint = RegionHint::default();
        let mut batch = Batch::new();
        batch.begin(&memory);
        batch.push(&mut hint, &[(0, 200), (8192, 1)], Offload::NONE);
        let many = [(0, 1); FRAME_SEGMENTS + 1];
        batch.push(&mut hint, &many, Offload::NONE);
        batch.push(&mut hint, &many[1..], Offload::NONE);
        assert_eq!(batch.rejected(), [DropReason::BadAddress, DropReason::TooManySegments]);
        assert_eq!((batch.count(), batch.length(0)), (1, FRAME_SEGMENTS));
        assert_eq!(batch.view(0).body.length(), FRAME_SEGMENTS - HEADER_BYTES);
    }

    const BYTES: usize = 4096;

    /// Memory whose byte at an address is that address's low byte.
    fn memory() -> Arc<Memory> {
        let memory = Memory::arena(BYTES).unwrap();
        let bytes: Vec<u8> = (0..BYTES).map(|at| at as u8).collect();
        memory.place(&mut RegionHint::default(), 0, BYTES as u32).unwrap().write(&bytes);
        Arc::new(memory)
    }

    /// All bytes of a frame, as a receiver would get them.
    fn bytes(view: View<'_>) -> Vec<u8> {
        let mut bytes = view.header.to_vec();
        let mut body = vec![0; view.body.length()];
        assert_eq!(view.body.read(&mut body), body.len());
        bytes.extend(body);
        bytes
    }

    fn expected(pieces: &[(u64, u32)], prefix: usize) -> Vec<u8> {
        let piece = |&(at, length): &(u64, u32)| (at..at + u64::from(length)).map(|at| at as u8);
        pieces.iter().flat_map(piece).skip(prefix).collect()
    }

    #[test]
    fn a_frame_is_the_same_in_one_piece_and_in_many_with_a_prefix_and_without() {
        let memory = memory();
        let mut batch = Batch::new();
        let mut hint = RegionHint::default();
        for prefix in [Prefix::None, Prefix::Ignored] {
            for pieces in [
                &[(100, 76)][..],
                &[(100, 12), (500, 60)],
                &[(100, 5), (300, 9), (500, 1400)],
                &[(100, 30), (300, 30), (500, 30), (700, 30), (900, 30), (1100, 0), (1200, 9)],
                &[(3, 1512)],
            ] {
                batch.begin(&memory);
                batch.stage(&mut hint, pieces, prefix);
                batch.stage(&mut hint, pieces, prefix);
                batch.settle();
                assert_eq!((batch.count(), batch.rejected().len()), (2, 0));
                for index in 0..2 {
                    let view = batch.view(index);
                    assert_eq!(view.header.len(), view.length().min(HEADER_BYTES));
                    assert_eq!(bytes(view), expected(pieces, usize::from(prefix.length())));
                }
            }
        }
    }

    #[test]
    fn a_frame_is_as_the_one_before_if_both_begin_alike_and_it_is_not_longer() {
        let memory = memory();
        let mut batch = Batch::new();
        let mut hint = RegionHint::default();
        let summed = Offload { checksum: Checksum::Valid, ..Offload::NONE };
        let none = Offload::NONE;
        // What follows the first 16 bytes is another's matter; 256 bytes on it is the same.
        let frames = [
            (0, 60, none, false),
            (256, 60, none, true),
            (512, 16, none, true),
            (0, 17, none, false),
            (0, 15, none, false),
            (0, 15, none, false),
            (1, 60, none, false),
            (1, 60, summed, false),
            (1, 60, summed, false),
            (1, 60, none, false),
            (1, 60, none, true),
        ];
        batch.begin(&memory);
        for (at, length, offload, _) in frames {
            batch.push(&mut hint, &[(at, length)], offload);
        }
        for (index, (.., as_before)) in frames.into_iter().enumerate() {
            assert_eq!(batch.alike() >> index & 1 == 1, as_before, "frame {index}");
        }
    }

    #[test]
    fn frames_that_cannot_be_viewed_are_rejected_by_reason() {
        let memory = memory();
        let mut batch = Batch::new();
        let mut hint = RegionHint::default();
        batch.begin(&memory);
        batch.stage(&mut hint, &[(0, 11)], Prefix::Ignored);
        batch.stage(&mut hint, &[(0, 11), (0, 0)], Prefix::Ignored);
        batch.stage(&mut hint, &[(BYTES as u64 - 10, 60)], Prefix::Ignored);
        batch.stage(&mut hint, &[(0, 60), (u64::MAX, 60)], Prefix::Ignored);
        batch.stage(&mut hint, &[(0, 1); FRAME_SEGMENTS + 1], Prefix::Ignored);
        batch.push(&mut hint, &[(0, 60)], Offload::NONE);
        let runt = [DropReason::Runt; 2];
        let address = [DropReason::BadAddress; 2];
        let reasons = [&runt[..], &address, &[DropReason::TooManySegments]].concat();
        assert_eq!(batch.rejected(), reasons);
        assert_eq!(batch.count(), 1);
        assert_eq!(bytes(batch.view(0)), expected(&[(0, 60)], 0));
    }
}
