//! Frames as a netdev sees them: recorded, and sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hairpin_dataplane::sys::packet_socket::{Direction, Format, PacketSocket, Received};

use super::error::{BedError, Result};
use super::namespace::Namespace;

/// Longer than any frame, with a tag to put back.
const BUFFER_BYTES: usize = 68 * 1024;
/// How often a recorder looks whether it shall end.
const INTERVAL: Duration = Duration::from_millis(50);

/// A recorded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Which way it passed.
    pub direction: Direction,
    /// From the destination address on, tags in place.
    pub bytes: Vec<u8>,
}

/// Records the frames of a netdev from its making until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    frames: Receiver<Frame>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts to record; what passes after this has returned is caught.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Recorder> {
        let socket = open(namespace, interface)?;
        socket.set_patience(Some(INTERVAL)).map_err(BedError::while_doing("a timeout"))?;
        let (sender, frames) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stop_recording = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            while !stop_recording.load(Ordering::Relaxed) {
                match socket.receive(&mut buffer) {
                    Ok(received) if sender.send(whole(&buffer, received)).is_err() => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        });
        Ok(Recorder { frames, stop, thread: Some(thread) })
    }

    /// The frames since the last call that `wanted` accepts, collected for this long.
    #[must_use]
    pub fn collect(&self, during: Duration, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let end = Instant::now() + during;
        let mut found = Vec::new();
        while let Some(frame) = self.next(end) {
            if wanted(&frame) {
                found.push(frame);
            }
        }
        found
    }

    /// Waits for the first frame that `wanted` accepts.
    ///
    /// # Errors
    /// If none comes for ten seconds.
    pub fn find(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        let end = Instant::now() + Duration::from_secs(10);
        while let Some(frame) = self.next(end) {
            if wanted(&frame) {
                return Ok(frame);
            }
        }
        Err(BedError::new(format_args!("{what}: no such frame")))
    }

    /// The next frame, if one comes before `end`.
    fn next(&self, end: Instant) -> Option<Frame> {
        let left = end.checked_duration_since(Instant::now())?;
        self.frames.recv_timeout(left).ok()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a frame through a netdev, as its host would.
///
/// # Errors
/// If there is no such interface, or it does not take the frame.
pub fn send_frame(namespace: &Namespace, interface: &str, frame: &[u8]) -> Result<()> {
    open(namespace, interface)?
        .send(frame)
        .map_err(BedError::while_doing(format_args!("sending through {interface}")))
}

fn open(namespace: &Namespace, interface: &str) -> Result<PacketSocket> {
    namespace
        .enter(|| PacketSocket::open(interface, Format::Ethernet))?
        .map_err(BedError::while_doing(format_args!("opening {interface}")))
}

/// The frame with its tag where it was.
fn whole(buffer: &[u8], received: Received) -> Frame {
    let mut bytes = buffer[..received.length].to_vec();
    if let Some((tpid, tci)) = received.tag {
        let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
        bytes.splice(12..12, tag);
    }
    Frame { direction: received.direction, bytes }
}
