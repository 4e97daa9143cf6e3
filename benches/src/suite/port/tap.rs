//! A TAP's file, or a macvtap's: what a VMM has of it. One system call a frame.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsFd;

use hairpin_dataplane::sys::tun::{InterfaceName, Queue};
use hairpin_tests::bed::Namespace;

use crate::error::{Context, Result};
use crate::suite::endpoint::{Receiver, Sender};

/// Bytes of the virtio-net header in front of a frame, which the kernel has unless it is told
/// otherwise: without `num_buffers`.
const HEADER_BYTES: usize = 10;
/// That of a frame with nothing left to do.
const COMPLETE: [u8; HEADER_BYTES] = [0; HEADER_BYTES];
/// Longer than any frame with its header: no offloads are asked for.
const BUFFER_BYTES: usize = 16 * 1024;
/// Frames taken before others have their turn.
const FRAMES: usize = 256;

/// A TAP's file, of which reads and writes do not block.
#[derive(Debug)]
pub struct Tap {
    file: File,
    buffer: Vec<u8>,
}

impl Tap {
    /// Makes a TAP in a namespace and brings it up.
    ///
    /// # Errors
    /// Without root, or if there is an interface of that name.
    pub fn make(namespace: &Namespace, name: &str) -> Result<Tap> {
        let file = namespace.enter(|| make(name)).context("entering a namespace")?;
        let file = file.context(format_args!("making the TAP {name}"))?;
        namespace.ip(&format!("link set {name} up")).context("a TAP")?;
        Ok(Tap::over(file))
    }

    /// One over a file that does not block, whose frames have headers of 10 bytes.
    #[must_use]
    pub fn over(file: File) -> Tap {
        Tap { file, buffer: vec![0; BUFFER_BYTES] }
    }
}

fn make(name: &str) -> io::Result<File> {
    let name = InterfaceName::new(name).ok_or(ErrorKind::InvalidInput)?;
    let queue = Queue::open()?;
    queue.attach(name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
    Ok(File::from(queue.as_fd().try_clone_to_owned()?))
}

impl Sender for Tap {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        for (sent, frame) in frames.iter().enumerate() {
            let parts = [IoSlice::new(&COMPLETE), IoSlice::new(frame)];
            match self.file.write_vectored(&parts) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(sent),
                Err(error) => return Err(error).context("sending by a TAP"),
            }
        }
        Ok(frames.len())
    }
}

impl Receiver for Tap {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        for _ in 0..FRAMES {
            match self.file.read(&mut self.buffer) {
                Ok(bytes) => visit(self.buffer[..bytes].get(HEADER_BYTES..).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receiving by a TAP"),
            }
        }
        Ok(())
    }
}
