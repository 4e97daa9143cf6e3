//! The copies of a batch, grouped by the device they leave by.
//!
//! One visit per device and batch: its ring is entered once, its doorbell rung
//! once. Within a device the copies keep the order of their frames.

use std::ops::Range;

use crate::frame::BATCH_FRAMES;
use crate::snapshot::{DEVICES_MAX, DeviceId};
use crate::wire::ethernet::TagEdit;

/// Copies of group frames in one breath, over all ports and batches; beyond, they
/// are dropped as `flood_budget`.
pub const FLOOD_COPIES_MAX: usize = 4096;
/// Copies of one batch: one per unicast frame, the rest from the flood budget.
const COPIES_MAX: usize = BATCH_FRAMES + FLOOD_COPIES_MAX;
/// No further copy.
const END: u16 = u16::MAX;

const _: () = assert!(COPIES_MAX < END as usize);

/// One frame of the batch on its way to one device.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// Its index in the batch.
    pub frame: u8,
    next: u16,
    /// The change to its tags.
    pub edit: TagEdit,
}

/// A device's list of copies.
#[derive(Clone, Copy)]
struct List {
    first: u16,
    last: u16,
}

const EMPTY: List = List { first: END, last: END };

/// The copies of one batch.
pub struct Groups {
    copies: Vec<Copy>,
    lists: Box<[List]>,
    touched: Vec<DeviceId>,
}

impl Groups {
    /// No copies; allocates once, here.
    #[must_use]
    pub fn new() -> Groups {
        Groups {
            copies: Vec::with_capacity(COPIES_MAX),
            lists: vec![EMPTY; DEVICES_MAX].into_boxed_slice(),
            touched: Vec::with_capacity(DEVICES_MAX),
        }
    }

    /// Adds a copy behind those of the same device. The caller keeps the flood
    /// budget, so there is room.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn push(&mut self, device: DeviceId, frame: usize, edit: TagEdit) {
        self.push_run(device, frame..frame + 1, edit);
    }

    /// The same for each of these frames, in order, with one edit.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub fn push_run(&mut self, device: DeviceId, frames: Range<usize>, edit: TagEdit) {
        let first = self.copies.len();
        let end = first + frames.len();
        assert!(end <= COPIES_MAX, "the flood budget bounds the copies");
        if first == end {
            return;
        }
        let copies = frames.zip(first as u16 + 1..);
        self.copies.extend(copies.map(|(frame, next)| Copy { frame: frame as u8, next, edit }));
        self.copies[end - 1].next = END;
        let list = &mut self.lists[usize::from(device.0)];
        if list.first == END {
            list.first = first as u16;
            self.touched.push(device);
        } else {
            self.copies[usize::from(list.last)].next = first as u16;
        }
        list.last = end as u16 - 1;
    }

    /// How many copies there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        COPIES_MAX - self.copies.len()
    }

    /// The devices that have copies, in the order they got their first.
    #[must_use]
    pub fn devices(&self) -> &[DeviceId] {
        &self.touched
    }

    /// A device's copies in order.
    pub fn of(&self, device: DeviceId) -> impl Iterator<Item = &Copy> {
        let mut next = self.lists[usize::from(device.0)].first;
        std::iter::from_fn(move || {
            let copy = self.copies.get(usize::from(next))?;
            next = copy.next;
            Some(copy)
        })
    }

    /// Forgets all copies.
    pub fn clear(&mut self) {
        for device in self.touched.drain(..) {
            self.lists[usize::from(device.0)] = EMPTY;
        }
        self.copies.clear();
    }
}

impl Default for Groups {
    fn default() -> Groups {
        Groups::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_keep_their_order_within_a_device() {
        let mut groups = Groups::new();
        let (a, b) = (DeviceId(3), DeviceId(1));
        for (device, frame) in [(a, 0), (b, 0), (a, 1), (b, 2), (a, 5)] {
            groups.push(device, frame, TagEdit::NONE);
        }
        groups.push_run(a, 6..9, TagEdit::NONE);
        groups.push_run(b, 9..9, TagEdit::NONE);
        groups.push(a, 10, TagEdit::NONE);
        assert_eq!(groups.devices(), [a, b]);
        let frames: Vec<_> = groups.of(a).map(|copy| copy.frame).collect();
        assert_eq!(frames, [0, 1, 5, 6, 7, 8, 10]);
        assert_eq!(groups.of(b).map(|copy| copy.frame).collect::<Vec<_>>(), [0, 2]);
        groups.clear();
        assert!(groups.devices().is_empty() && groups.of(a).next().is_none());
    }
}
