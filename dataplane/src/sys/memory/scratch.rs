//! Private memory into which bodies are copied so that they can be read.
//!
//! A body lies in memory that its owner changes as it likes: what is computed
//! over it there need not fit what is copied from there afterwards. Here it is
//! copied once, and each stretch is shown to the caller right behind the copy,
//! while it is in the nearest cache; what was shown is what is sent on.

use std::{io, ptr, slice};

use super::{Body, Mapping, Place, Span};

/// Bytes copied before they are shown: several times as much fits in a first-level
/// cache, and the loops over them are long enough to run at full width.
const STRETCH_BYTES: usize = 4096;

/// Bodies of our own, in memory that nobody else writes.
#[derive(Debug)]
pub struct Scratch {
    mapping: Mapping,
    filled: usize,
    spans: Vec<Span>,
}

// SAFETY: the spans point into the mapping, which is Send and owned here.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Room for this many bytes in this many bodies; allocates once, here.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(bytes: usize, bodies: usize) -> io::Result<Scratch> {
        let mapping = Mapping::anonymous(bytes)?;
        Ok(Scratch { mapping, filled: 0, spans: Vec::with_capacity(bodies) })
    }

    /// Forgets all bodies.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.spans.clear();
    }

    /// Copies a body in as the next one and shows `each` stretch of the copy, in
    /// order, at most 4096 bytes at a time. Nothing is done, and nothing returned,
    /// if there is no room; else the number of the new body, counted from 0.
    pub fn fill(&mut self, body: Body<'_>, mut each: impl FnMut(&[u8])) -> Option<usize> {
        let index = self.spans.len();
        if index == self.spans.capacity() || body.length() > self.mapping.length - self.filled {
            return None;
        }
        // SAFETY: `filled` is at most the mapping's length.
        let at = unsafe { self.mapping.base.add(self.filled) };
        for piece in body.places() {
            let mut rest = piece;
            while rest.length() > 0 {
                let (stretch, later) = rest.split(STRETCH_BYTES);
                each(self.take(stretch));
                rest = later;
            }
        }
        self.spans.push(Span { at, length: body.length, before: 0 });
        Some(index)
    }

    /// Appends a copy; the caller has made sure that there is room.
    fn take(&mut self, stretch: Place<'_>) -> &[u8] {
        assert!(stretch.length <= self.mapping.length - self.filled, "a scratch was overfilled");
        // SAFETY: as asserted, the target is within the mapping. It does not overlap
        // the source: no place or body in this mapping can be alive, as they borrow
        // the scratch, which is borrowed mutably here. The source may be written by
        // its owner meanwhile: the copy then holds some of both, which is why it is
        // the copy that is read.
        let copy = unsafe {
            let at = self.mapping.base.add(self.filled).as_ptr();
            ptr::copy_nonoverlapping(stretch.at.as_ptr(), at, stretch.length);
            slice::from_raw_parts(at, stretch.length)
        };
        self.filled += stretch.length;
        copy
    }

    /// A body that was filled in, empty where there is none.
    #[must_use]
    pub fn body(&self, index: usize) -> Body<'_> {
        let spans = self.spans.get(index..=index).unwrap_or_default();
        Body { spans, skip: 0, length: spans.iter().map(|span| span.length).sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Memory, RegionHint, Spans};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_is_shown_is_what_the_copy_holds() {
        let memory = Arc::new(Memory::arena(16_384).unwrap());
        let mut hint = RegionHint::default();
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        memory.place(&mut hint, 0, 10_000).unwrap().write(&bytes);
        let mut spans = Spans::with_capacity(2);
        spans.begin(&memory);
        spans.push(&mut hint, (0, 3), 0).unwrap();
        spans.push(&mut hint, (3, 9_997), 0).unwrap();
        let mut scratch = Scratch::new(12_000, 3).unwrap();
        let mut shown = Vec::new();
        let body = spans.body(0, 2);
        assert_eq!(scratch.fill(body, |stretch| shown.extend_from_slice(stretch)), Some(0));
        assert_eq!(shown, bytes);
        assert_eq!(scratch.fill(body, |_| panic!("there is no room")), None);
        assert_eq!(scratch.fill(Body::EMPTY, |_| ()), Some(1));
        assert_eq!(scratch.fill(body.slice(9_998, 2), |_| ()), Some(2));
        assert_eq!(scratch.fill(Body::EMPTY, |_| ()), None);
        // The sender changes its mind: our copies do not.
        memory.place(&mut hint, 0, 10_000).unwrap().write(&[0; 10_000]);
        let read = |index| {
            let mut copy = vec![0; 10_000];
            let length = scratch.body(index).read(&mut copy);
            copy.truncate(length);
            copy
        };
        assert_eq!(read(0), bytes);
        assert!(read(1).is_empty() && read(3).is_empty());
        assert_eq!(read(2), bytes[9_998..]);
        scratch.clear();
        assert_eq!(scratch.body(0).length(), 0);
        assert_eq!(scratch.fill(body, |_| ()), Some(0));
    }
}
