//! Rings whose other half a test has, in the kernel's place.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::MemfdFlags;

use super::*;

pub(super) const OFFSETS: XdpRingOffset =
    XdpRingOffset { producer: 0, consumer: 64, desc: 192, flags: Some(128) };

/// Memory for a ring of some entries.
pub(super) fn file() -> OwnedFd {
    let file = rustix::fs::memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 8192).unwrap();
    file
}

/// The kernel's half of a ring. It checks nothing.
#[derive(Debug)]
pub(crate) struct Kernel<T> {
    ring: Ring<T>,
    next: u32,
}

/// A ring that the kernel fills.
pub(crate) fn filled<T: Entry>(size: u32) -> (Kernel<T>, Consumer<T>) {
    let file = file();
    let ours = Consumer::map(file.as_fd(), 0, &OFFSETS, size).unwrap();
    (Kernel { ring: Ring::map(file.as_fd(), 0, &OFFSETS, size).unwrap(), next: 0 }, ours)
}

/// A ring that the kernel empties.
pub(crate) fn emptied<T: Entry>(size: u32) -> (Kernel<T>, Producer<T>) {
    let file = file();
    let ours = Producer::map(file.as_fd(), 0, &OFFSETS, size).unwrap();
    (Kernel { ring: Ring::map(file.as_fd(), 0, &OFFSETS, size).unwrap(), next: 0 }, ours)
}

impl<T: Entry> Kernel<T> {
    /// Adds an entry and shows it; nothing if the ring is full.
    pub(crate) fn add(&mut self, entry: T) -> Option<()> {
        let released = self.ring.consumer().load(Ordering::Acquire);
        if self.next.wrapping_sub(released) >= self.ring.size {
            return None;
        }
        self.ring.write(self.next, entry);
        self.next = self.next.wrapping_add(1);
        self.ring.producer().store(self.next, Ordering::Release);
        Some(())
    }

    /// Takes an entry, if there is one.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.ring.producer().load(Ordering::Acquire) == self.next {
            return None;
        }
        let entry = self.ring.read(self.next);
        self.next = self.next.wrapping_add(1);
        self.ring.consumer().store(self.next, Ordering::Release);
        Some(entry)
    }
}
