//! Eventfds that somebody else made (eventfd(2)): by which a driver tells us of buffers,
//! and we tell it.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2, read, write};

/// Where a descriptor stands by itself, for calls that want a place.
const HERE: u64 = u64::MAX;

/// What the kernel calls an eventfd in /proc/self/fd.
const LINK: &[u8] = b"anon_inode:[eventfd]";

/// An eventfd that was made not to block. Whoever shares it can undo that: reading never
/// waits all the same, writing does if its count is at its greatest.
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

    /// Signals it. One that cannot be signalled is signalled already. There is no write to
    /// an eventfd that does not wait, whatever others do: somebody else has to read it then.
    pub fn signal(&self) {
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes its signals back. Never waits, from Linux 5.8 on.
    pub fn consume(&self) {
        let mut count = [0; 8];
        let into = &mut [IoSliceMut::new(&mut count)];
        // Empty: as good as consumed.
        if let Err(Errno::OPNOTSUPP) = preadv2(&self.0, into, HERE, ReadWriteFlags::NOWAIT) {
            let _ = read(&self.0, &mut count);
        }
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn one_that_its_maker_has_made_to_block_is_consumed_without_waiting() {
        let theirs = eventfd(0, EventfdFlags::empty()).unwrap();
        let ours = Eventfd::adopt(theirs.try_clone().unwrap()).unwrap();
        rustix::fs::fcntl_setfl(&theirs, OFlags::empty()).unwrap();
        let (tell, told) = crossbeam_channel::bounded(0);
        let consumer = std::thread::spawn(move || {
            ours.consume();
            tell.send(()).unwrap();
            ours.signal();
            ours.consume();
            tell.send(()).unwrap();
        });
        for _ in 0..2 {
            told.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        consumer.join().unwrap();
        write(&theirs, &1_u64.to_ne_bytes()).unwrap();
        let mut count = [0; 8];
        read(&theirs, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "what was there was consumed");
    }
}
