//! A guest's memory: one memfd, mapped here as a whole, lent to the switch by regions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use hairpin_dataplane::port::vhost_user::message::RegionSpec;
use hairpin_dataplane::sys::memory::{Mapping, Memory, Region, RegionHint};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::error::FrontEndError;

/// Where memory begins as buffers are addressed.
pub const GUEST: u64 = 0x1_0000_0000;
/// The same as rings are addressed.
pub const USER: u64 = 0x7f00_0000_0000;
/// Bytes of a page, of which regions have whole numbers here.
pub const PAGE_BYTES: u64 = 4096;

/// The pages that a guest's memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Of 4 KiB. Those that nobody touches cost nothing.
    Ordinary,
    /// Of 2 MiB, out of what the machine has set aside for them: what VMs get whose operator cares
    /// for speed.
    Huge,
}

impl Pages {
    /// Bytes of each.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Pages::Ordinary => PAGE_BYTES,
            Pages::Huge => 2 << 20,
        }
    }

    fn flags(self) -> MemfdFlags {
        match self {
            Pages::Ordinary => MemfdFlags::empty(),
            Pages::Huge => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        }
    }
}

/// A guest's memory. Clones are the same memory; any thread may write it at any time.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    file: Arc<OwnedFd>,
    memory: Arc<Memory>,
    bytes: u64,
}

impl GuestMemory {
    /// Zeroed memory of so many bytes, rounded up to pages of 4 KiB.
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2) and mmap(2).
    pub fn new(bytes: u64) -> Result<GuestMemory, FrontEndError> {
        GuestMemory::of(bytes, Pages::Ordinary)
    }

    /// The same, of such pages.
    ///
    /// # Errors
    /// As [`GuestMemory::new`]; mmap(2) fails with `ENOMEM` without as many free huge pages.
    pub fn of(bytes: u64, pages: Pages) -> Result<GuestMemory, FrontEndError> {
        let bytes = bytes.next_multiple_of(pages.bytes());
        let what = match pages {
            Pages::Ordinary => "a guest's memory",
            Pages::Huge => {
                "a guest's memory of huge pages (are as many free? /sys/kernel/mm/hugepages)"
            }
        };
        GuestMemory::map(bytes, pages).map_err(FrontEndError::io(what))
    }

    fn map(bytes: u64, pages: Pages) -> io::Result<GuestMemory> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages.flags();
        let file = memfd_create("front-end", flags)?;
        ftruncate(&file, bytes)?;
        // Watched: whoever cuts the file short lives on, too.
        let mapping = Mapping::shared(file.as_fd(), 0, bytes as usize)?.watched()?;
        let region = Region::new(GUEST, mapping).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(GuestMemory { file: Arc::new(file), memory: Arc::new(Memory::new(vec![region])), bytes })
    }

    /// For drivers.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A buffer's address as rings would have it.
    #[must_use]
    pub fn user(address: u64) -> u64 {
        address.wrapping_sub(GUEST).wrapping_add(USER)
    }

    /// The region that is all of it.
    #[must_use]
    pub fn whole(&self) -> RegionSpec {
        self.part(0, self.bytes)
    }

    /// A region of `bytes` bytes that begins `from` bytes into it.
    #[must_use]
    pub fn part(&self, from: u64, bytes: u64) -> RegionSpec {
        RegionSpec { guest: GUEST + from, bytes, user: USER + from, offset: from }
    }

    /// Copies out; says how many bytes there were, none for an address outside.
    pub fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let place = self.memory.place(&mut RegionHint::default(), address, into.len() as u32);
        place.map_or(0, |place| place.read(into))
    }

    /// Copies in; says how many bytes went, none for an address outside.
    pub fn write(&self, address: u64, from: &[u8]) -> usize {
        let place = self.memory.place(&mut RegionHint::default(), address, from.len() as u32);
        place.map_or(0, |place| place.write(from))
    }

    /// Copies two pieces in, one behind the other; nothing for an address outside.
    pub fn write_both(&self, address: u64, first: &[u8], second: &[u8]) {
        let bytes = (first.len() + second.len()) as u32;
        if let Some(place) = self.memory.place(&mut RegionHint::default(), address, bytes) {
            let (front, back) = place.split(first.len());
            front.write(first);
            back.write(second);
        }
    }

    /// Brings so many bytes near, to be read soon: a hint.
    pub fn prefetch(&self, address: u64, bytes: u32) {
        if let Some(place) = self.memory.place(&mut RegionHint::default(), address, bytes) {
            place.prefetch_all();
        }
    }

    /// Brings so many bytes near and takes them from the switch's CPU, to be written soon: a hint.
    pub fn prefetch_to_write(&self, address: u64, bytes: u32) {
        if let Some(place) = self.memory.place(&mut RegionHint::default(), address, bytes) {
            place.prefetch_to_write();
        }
    }

    /// Cuts its file short, or makes it longer, whoever has it mapped.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    pub fn truncate(&self, bytes: u64) -> Result<(), FrontEndError> {
        let cut = ftruncate(&*self.file, bytes);
        cut.map_err(|errno| FrontEndError::io("cutting memory short")(errno.into()))
    }
}

impl AsFd for GuestMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
