//! Eventfds that somebody else made (eventfd(2)): by which a driver tells us of buffers,
//! and we tell it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

/// What the kernel calls an eventfd in /proc/self/fd.
const LINK: &[u8] = b"anon_inode:[eventfd]";

/// An eventfd that does not block.
#[derive(Debug)]
pub struct Eventfd(OwnedFd);

impl Eventfd {
    /// Takes a descriptor that somebody sent, if it is an eventfd. It is made not to block,
    /// for all who share it.
    ///
    /// # Errors
    /// `InvalidInput` if it is anything else; those of readlink(2) and fcntl(2).
    pub fn adopt(fd: OwnedFd) -> io::Result<Eventfd> {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if rustix::fs::readlink(link, Vec::new())?.as_bytes() != LINK {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an eventfd"));
        }
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Eventfd(fd))
    }

    /// Makes one.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Eventfd> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Eventfd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Signals it. One that cannot be signalled is signalled already.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes its signals back.
    pub fn consume(&self) {
        // Empty: as good as consumed.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
