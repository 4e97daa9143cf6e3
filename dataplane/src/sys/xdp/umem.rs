//! The memory that the frames of an AF_XDP socket lie in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use rustix::net::sockopt::set_xdp_umem_reg;
use rustix::net::xdp::{XdpUmemReg, XdpUmemRegFlags};

use crate::sys::memory::{Mapping, Memory, Region, RegionHint};

/// Bytes of a frame's place: a page, the most that the kernel takes.
pub const FRAME_BYTES: u32 = 4096;

/// So many frames' places, one behind the other. In a [`Memory`] they begin at address 0,
/// which is also how the kernel counts.
#[derive(Debug)]
pub struct Umem {
    memory: Arc<Memory>,
    bytes: u32,
}

impl Umem {
    /// Room for `frames` frames of [`FRAME_BYTES`], zeroed. Once registered, all of it is
    /// in memory and stays there.
    ///
    /// # Errors
    /// Those of memfd_create(2) and mmap(2); [`io::ErrorKind::InvalidInput`] for 4 GiB and
    /// more, or none.
    pub fn new(frames: u32) -> io::Result<Umem> {
        let bytes = frames.checked_mul(FRAME_BYTES).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let file = rustix::fs::memfd_create("hairpin-umem", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, bytes.into())?;
        let mapping = Mapping::shared(file.as_fd(), 0, bytes as usize)?;
        let region = Region::new(0, mapping).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Umem { memory: Arc::new(Memory::new(vec![region])), bytes })
    }

    /// Its bytes.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Has a socket use it. The kernel keeps the pages for as long as the socket is open,
    /// whether we have them mapped or not, and writes them as a [`Memory`] allows.
    pub(super) fn register(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let whole = self.memory.place(&mut RegionHint::default(), 0, self.bytes);
        let start = whole.ok_or(io::ErrorKind::InvalidInput)?.as_ptr();
        let registration = XdpUmemReg {
            addr: start.expose_provenance() as u64,
            len: self.bytes.into(),
            chunk_size: FRAME_BYTES,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        Ok(set_xdp_umem_reg(socket, registration)?)
    }
}
