//! Where a trial sends, and where it receives: one place each, in one thread.

use std::collections::VecDeque;

use hairpin_dataplane::port::memory::{EndpointReceiver, EndpointSender, SendError};
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::wire::virtio_net::{HEADER_BYTES_LEGACY, encode_legacy};

use super::frame;
use crate::error::{Context, Result};
use crate::front_end::{COMPLETE, FrontEnd, NetHeader};

/// Where frames enter what is measured.
pub trait Sender {
    /// Sends frames in order; says how many there was room for. Does not wait.
    ///
    /// # Errors
    /// If what is measured is gone.
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize>;

    /// Hears that so many frames of about so many bytes are sent next.
    fn make_ready(&mut self, _frames: usize, _bytes: usize) {}
}

/// Where frames leave what is measured.
pub trait Receiver {
    /// Shows every frame that has come, those that come meanwhile or not. Does not wait.
    ///
    /// # Errors
    /// If what is measured is gone.
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()>;
}

impl Sender for FrontEnd {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        // Frames of a burst are of one stream.
        let net = frames.first().map_or(COMPLETE, |first| header(first));
        Ok(self.send_by(0, net, frames))
    }

    fn make_ready(&mut self, frames: usize, bytes: usize) {
        FrontEnd::make_ready(self, frames, bytes);
    }
}

/// The virtio-net header that a frame of ours goes with.
fn header(frame: &[u8]) -> NetHeader {
    match frame::offload(frame) {
        Offload::NONE => COMPLETE,
        offload => {
            let mut header = COMPLETE;
            header[..HEADER_BYTES_LEGACY].copy_from_slice(&encode_legacy(&offload, frame));
            header
        }
    }
}

impl Receiver for FrontEnd {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        FrontEnd::visit(self, |frame| visit(frame.bytes));
        Ok(())
    }
}

impl Sender for EndpointSender {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        let mut sent = 0;
        for frame in frames {
            match self.queue(frame, Offload::NONE) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => break,
                Err(error) => return Err(error).context("sending to a memory device"),
            }
        }
        self.flush();
        Ok(sent)
    }
}

/// The receiving half of a memory device's other end, and room for a frame.
#[derive(Debug)]
pub struct MemoryReceiver {
    half: EndpointReceiver,
    frame: Vec<u8>,
}

impl MemoryReceiver {
    /// Receives by this half.
    #[must_use]
    pub fn new(half: EndpointReceiver) -> MemoryReceiver {
        MemoryReceiver { half, frame: Vec::new() }
    }
}

impl Receiver for MemoryReceiver {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        while self.half.receive(&mut self.frame).is_some() {
            visit(&self.frame);
        }
        Ok(())
    }
}

/// The generator straight at the receiver: for the self-test, which shows what both can do.
#[derive(Debug, Default)]
pub struct Straight {
    waiting: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

/// Frames that a [`Straight`] holds: as many as the rings of a guest.
const STRAIGHT_FRAMES: usize = 256;

impl Straight {
    /// Takes frames as [`Sender::send`] does.
    pub fn put(&mut self, frames: &[&[u8]]) -> usize {
        let room = STRAIGHT_FRAMES - self.waiting.len();
        for frame in frames.iter().take(room) {
            let mut held = self.spare.pop().unwrap_or_default();
            held.clear();
            held.extend_from_slice(frame);
            self.waiting.push_back(held);
        }
        room.min(frames.len())
    }

    /// Shows them as [`Receiver::receive`] does.
    pub fn take(&mut self, visit: &mut dyn FnMut(&[u8])) {
        while let Some(frame) = self.waiting.pop_front() {
            visit(&frame);
            self.spare.push(frame);
        }
    }
}
