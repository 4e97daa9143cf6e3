//! A vhost-user front end of our own: a VMM and its guest's network driver in one, without
//! QEMU or DPDK.
//!
//! ```text
//!  FrontEnd::connect(socket, layout) ─┬─ connection   requests and answers
//!                                     ├─ memory       a memfd, lent to the switch
//!   send(&[frame]) · receive() ───────┴─ rings        drivers, buffers, kicks, calls
//!   wait(time)
//!   hostile() ── whatever else can be sent, or written into rings
//! ```
//!
//! * [`connection`], [`message`] — the socket; requests by name and as bytes.
//! * [`memory`], [`layout`], [`rings`] — what a guest has, and how: split and packed rings,
//!   merged buffers or not, in order, tables, event indexes, several pairs.
//! * [`station`] — frames that bear a number and a sum of themselves.
//! * [`hostile`] — raw access to rings and memory, from other threads, too.
//! * [`idle`] — many guests that have nothing to say.
//!
//! Nothing here waits for more than it says, except that the switch has half a minute for
//! each answer. The drivers are the dataplane's
//! ([`hairpin_dataplane::sys::virtqueue::driver`]): they trust the device as guests do, and
//! panic where it breaks its word.

pub mod connection;
pub mod error;
pub mod hostile;
pub mod idle;
pub mod layout;
pub mod memory;
pub mod message;
pub mod rings;
pub mod station;

use std::path::Path;
use std::time::{Duration, Instant};

use hairpin_dataplane::sys::virtqueue::PREFIX_BYTES;
use hairpin_dataplane::sys::virtqueue::driver::{Access, Negotiated};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use connection::Connection;
pub use error::FrontEndError;
pub use hostile::Hostile;
pub use layout::{Chains, Layout};
pub use memory::{GuestMemory, Pages};
use message::{GET_VRING_BASE, RESET_DEVICE, SET_FEATURES, SET_MEM_TABLE};
use rings::{Ground, Queue};

/// The virtio-net header in front of a frame.
pub type NetHeader = [u8; PREFIX_BYTES];
/// That of a frame that is complete.
pub const COMPLETE: NetHeader = [0; PREFIX_BYTES];

/// A frame as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The pair it came by.
    pub pair: usize,
    /// What the switch wrote in front of it.
    pub net: NetHeader,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// A frame that has come, while it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived<'f> {
    /// The pair it came by.
    pub pair: usize,
    /// What the switch wrote in front of it.
    pub net: NetHeader,
    /// The frame.
    pub bytes: &'f [u8],
}

/// What came of waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// There may be frames.
    Called,
    /// The time is over.
    InVain,
}

/// A guest at a port of the switch's, its device started.
#[derive(Debug)]
pub struct FrontEnd {
    connection: Connection,
    memory: GuestMemory,
    layout: Layout,
    receive: Vec<Queue>,
    transmit: Vec<Queue>,
    landing: Landing,
}

impl FrontEnd {
    /// Connects to a socket that the switch has made (role `server`), and starts a device
    /// of this layout, with all receive buffers posted.
    ///
    /// # Errors
    /// [`FrontEndError`].
    pub fn connect(path: &Path, layout: Layout) -> Result<FrontEnd, FrontEndError> {
        FrontEnd::over(Connection::connect(path)?, layout)
    }

    /// The same over a connection on which nothing was said yet, such as one that the switch
    /// has made (role `client`).
    ///
    /// # Errors
    /// [`FrontEndError`].
    pub fn over(mut connection: Connection, layout: Layout) -> Result<FrontEnd, FrontEndError> {
        connection.negotiate(layout.accepted(), layout.pairs)?;
        let (memory, receive, transmit) = devices(&layout)?;
        let mut front =
            FrontEnd { connection, memory, layout, receive, transmit, landing: Landing::default() };
        front.start()?;
        Ok(front)
    }

    /// Stops the device and starts it again on the same connection, in fresh memory and
    /// another layout: what the switch sees of a guest that reboots, or of another driver.
    ///
    /// # Errors
    /// [`FrontEndError`].
    pub fn restart(&mut self, layout: Layout) -> Result<(), FrontEndError> {
        for ring in 0..2 * self.layout.pairs {
            self.connection.get(GET_VRING_BASE, &[ring as u64])?;
        }
        self.connection.set(RESET_DEVICE, &[], &[])?;
        self.connection.set(SET_FEATURES, &[layout.accepted().bits()], &[])?;
        (self.memory, self.receive, self.transmit) = devices(&layout)?;
        self.layout = layout;
        self.start()
    }

    /// Lends memory, posts buffers, starts rings.
    fn start(&mut self) -> Result<(), FrontEndError> {
        let FrontEnd { connection, memory, receive, transmit, layout, .. } = self;
        let table = message::table(&[memory.whole()]);
        connection.set(SET_MEM_TABLE, &table, &[std::os::fd::AsFd::as_fd(memory)])?;
        for (receive, transmit) in receive.iter_mut().zip(transmit) {
            post(receive, layout.buffer_bytes);
            receive.publish();
            receive.start(connection)?;
            transmit.start(connection)?;
        }
        Ok(())
    }

    /// The socket, for whatever else is to be said.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How its rings are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes back what the switch has sent on, and fetches the buffers that so many frames of so
    /// many bytes will be laid into, by the first pair: they are near by the time these are made.
    pub fn make_ready(&mut self, frames: usize, bytes: usize) {
        let FrontEnd { transmit, memory, .. } = self;
        transmit[0].collect(|_, _| {});
        transmit[0].fetch_free(memory, frames, (PREFIX_BYTES + bytes) as u32);
    }

    /// Sends frames by the first pair, in order; says how many there was room for.
    ///
    /// # Panics
    /// If one is longer than a buffer.
    pub fn send(&mut self, frames: &[&[u8]]) -> usize {
        self.send_by(0, COMPLETE, frames)
    }

    /// The same by any pair, behind this virtio-net header.
    ///
    /// # Panics
    /// As [`FrontEnd::send`]; if there is no such pair.
    pub fn send_by(&mut self, pair: usize, net: NetHeader, frames: &[&[u8]]) -> usize {
        let FrontEnd { transmit, memory, .. } = self;
        let queue = &mut transmit[pair];
        queue.collect(|_, _| {});
        let sent = frames.iter().take_while(|frame| put(queue, memory, net, frame).is_some());
        let sent = sent.count();
        queue.publish();
        sent
    }

    /// Takes the frames that have come by all pairs, and posts their buffers again.
    /// Does not wait.
    pub fn receive(&mut self) -> Vec<Received> {
        let mut frames = Vec::new();
        self.visit(|Arrived { pair, net, bytes }| {
            frames.push(Received { pair, net, bytes: bytes.to_vec() });
        });
        frames
    }

    /// The same without keeping any: shows each frame once.
    pub fn visit(&mut self, mut visit: impl FnMut(Arrived<'_>)) {
        let FrontEnd { receive, memory, layout, landing, .. } = self;
        for (pair, queue) in receive.iter_mut().enumerate() {
            if !queue.driver.has_returned() {
                continue;
            }
            let ground = *queue.ground();
            queue.collect_near(memory, |buffer, length| {
                landing.take(memory, ground.buffer(buffer), length as usize);
                if landing.missing == 0 {
                    landing.show(pair, &mut visit);
                }
            });
            if landing.missing > 0 {
                landing.show(pair, &mut visit);
            }
            post(queue, layout.buffer_bytes);
            queue.publish();
        }
    }

    /// As [`FrontEnd::receive`], but looks at no more of a frame than how many buffers it
    /// has; says how many frames there were.
    pub fn discard(&mut self) -> usize {
        let FrontEnd { receive, memory, layout, .. } = self;
        let mut frames = 0;
        for queue in receive.iter_mut().filter(|queue| queue.driver.has_returned()) {
            let (ground, mut missing) = (*queue.ground(), 0);
            queue.collect(|buffer, _| {
                if missing == 0 {
                    let mut net = COMPLETE;
                    memory.read(ground.buffer(buffer), &mut net);
                    missing = buffers(&net);
                    frames += 1;
                }
                missing -= 1;
            });
            post(queue, layout.buffer_bytes);
            queue.publish();
        }
        frames
    }

    /// Sleeps until the switch calls because frames have come, or the time is over.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&mut self, time: Duration) -> Result<Waited, FrontEndError> {
        let until = Instant::now() + time;
        self.receive.iter_mut().for_each(|queue| queue.driver.want_calls());
        let waited = loop {
            if self.receive.iter().any(|queue| queue.driver.has_returned()) {
                break Waited::Called;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Waited::InVain;
            }
            let calls = self.receive.iter().map(|queue| PollFd::new(queue.call(), PollFlags::IN));
            let mut calls: Vec<PollFd<'_>> = calls.collect();
            let left = Timespec::try_from(left).ok();
            match poll(&mut calls, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(FrontEndError::io("waiting for a call")(errno.into())),
            }
            drop(calls);
            self.receive.iter().for_each(|queue| queue.call().consume());
        };
        self.receive.iter_mut().for_each(|queue| queue.driver.refuse_calls());
        Ok(waited)
    }

    /// Receives, waiting until at least one frame is there or the time is over.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn receive_within(&mut self, time: Duration) -> Result<Vec<Received>, FrontEndError> {
        let until = Instant::now() + time;
        loop {
            let frames = self.receive();
            let left = until.saturating_duration_since(Instant::now());
            if !frames.is_empty() || left.is_zero() {
                return Ok(frames);
            }
            self.wait(left)?;
        }
    }

    /// Everything that an honest guest does not do.
    pub fn hostile(&mut self) -> Hostile<'_> {
        Hostile::new(self)
    }
}

/// Huge pages that a guest of this layout takes.
#[must_use]
pub fn huge_pages(layout: &Layout) -> u64 {
    match layout.pages {
        Pages::Ordinary => 0,
        Pages::Huge => bytes(layout).div_ceil(layout.pages.bytes()),
    }
}

/// Bytes of a guest's memory.
fn bytes(layout: &Layout) -> u64 {
    Ground::bytes(layout) + layout.spare_bytes
}

/// Memory for a layout, and the queues in it: those to receive by, those to transmit by.
fn devices(layout: &Layout) -> Result<(GuestMemory, Vec<Queue>, Vec<Queue>), FrontEndError> {
    let memory = GuestMemory::of(bytes(layout), layout.pages)?;
    let queues = |odd| {
        let numbers = (0..layout.pairs).map(move |pair| 2 * pair + odd);
        numbers.map(|number| Queue::new(&memory, layout, number)).collect::<Result<Vec<_>, _>>()
    };
    let (receive, transmit) = (queues(0)?, queues(1)?);
    Ok((memory, receive, transmit))
}

/// Posts all receive buffers that nobody has, as far as the ring has room.
fn post(queue: &mut Queue, bytes: u32) {
    while let Some(buffer) = queue.take_buffer() {
        if queue.give(buffer, bytes, Access::Write).is_none() {
            return;
        }
    }
}

/// Lays a frame into a buffer and makes it available, if there is room.
fn put(queue: &mut Queue, memory: &GuestMemory, net: NetHeader, frame: &[u8]) -> Option<()> {
    let length = (PREFIX_BYTES + frame.len()) as u32;
    let ground = *queue.ground();
    assert!(length <= ground.buffer_bytes, "a frame of {} bytes for a buffer", frame.len());
    let buffer = queue.take_buffer()?;
    let at = ground.buffer(buffer);
    memory.write_both(at, &net, frame);
    queue.give(buffer, length, Access::Read)
}

/// The buffers that a frame has, the one with this header included.
fn buffers(net: &NetHeader) -> u16 {
    u16::from_le_bytes([net[10], net[11]]).max(1)
}

/// Where the buffers of a frame are put together.
#[derive(Default, Debug)]
struct Landing {
    bytes: Vec<u8>,
    /// Bytes of them that are the frame's, its virtio-net header included.
    filled: usize,
    /// Buffers that are still to come.
    missing: u16,
}

impl Landing {
    /// Adds a buffer of so many bytes, the first one where none is missing.
    fn take(&mut self, memory: &GuestMemory, address: u64, length: usize) {
        let from = if self.missing == 0 { 0 } else { self.filled };
        self.filled = from + length;
        if self.bytes.len() < self.filled {
            self.bytes.resize(self.filled, 0);
        }
        memory.read(address, &mut self.bytes[from..self.filled]);
        if self.missing == 0 {
            self.missing = self.bytes[..self.filled].first_chunk().map_or(1, buffers);
        }
        self.missing -= 1;
    }

    /// Shows what there is; what is still to come of it is a frame of its own.
    fn show(&mut self, pair: usize, visit: &mut impl FnMut(Arrived<'_>)) {
        let (net, bytes) = match self.bytes[..self.filled].split_first_chunk() {
            Some((net, frame)) => (*net, frame),
            None => (COMPLETE, &[][..]),
        };
        visit(Arrived { pair, net, bytes });
        self.missing = 0;
    }
}
