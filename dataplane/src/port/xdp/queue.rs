//! What receivers and transmitters of a netdev share: its sockets, with their rings.
//!
//! Each half of a queue has a lock of its own. It is contended only in the breath in
//! which a device passes from one owner to another, and held for a batch at most.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::budget::Budget;
use super::custody::Custody;
use super::receiving::Receiving;
use super::unfilled::Sightings;
use super::{Granted, RECEIVE_FRAMES, TRANSMIT_FRAMES, mtu_max};
use crate::port::Rung;
use crate::sys::bpf::Link;
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::netdev::{Description, Directory};
use crate::sys::programs::ProgramId;
use crate::sys::promiscuous::Promiscuous;
use crate::sys::xdp::{
    Consumer, Descriptor, FRAME_BYTES, Producer, Rings, Sizes, Socket, Umem, Wakeup,
};
use crate::wire::ethernet::{HEADER_BYTES, TAG_BYTES};

/// What a frame may have besides the MTU: its header and one tag. The kernel's own rule, by
/// which it loses longer ones (`is_skb_forwardable`).
const ROOM_BYTES: u32 = (HEADER_BYTES + TAG_BYTES) as u32;
/// Rings have room for all frames that could be in them.
pub(super) const SIZES: Sizes = Sizes { receive: RECEIVE_FRAMES, transmit: TRANSMIT_FRAMES };
/// An opened netdev. What comes first is closed first: the program, before the sockets
/// that it gives frames to.
#[derive(Debug)]
pub(super) struct Netdev {
    link: Mutex<Option<Link>>,
    _promiscuous: Promiscuous,
    /// By number of the receive queue.
    pub(super) queues: Vec<Queue>,
    pub(super) index: u32,
    /// Where its index is its own: who asks for it may be in another network namespace.
    directory: Directory,
    /// As configured.
    pub(super) interface: String,
    pub(super) granted: Granted,
    /// Frames that it was to send and had lost before it was opened.
    pub(super) transmit_dropped: u64,
    longest: AtomicU32,
    pub(super) sightings: Sightings,
    /// Last: what the program does not stand is turned on again when it is gone.
    pub(super) custody: Custody,
}

/// What opening a netdev made.
pub(super) struct Parts {
    pub(super) link: Link,
    pub(super) promiscuous: Promiscuous,
    pub(super) queues: Vec<Queue>,
    pub(super) custody: Custody,
    pub(super) directory: Directory,
}

impl Netdev {
    pub(super) fn new(
        interface: &str,
        found: &Description,
        granted: Granted,
        parts: Parts,
    ) -> Netdev {
        let Parts { link, promiscuous, queues, custody, directory } = parts;
        let netdev = Netdev {
            link: Mutex::new(Some(link)),
            _promiscuous: promiscuous,
            queues,
            index: found.index,
            directory,
            interface: interface.to_owned(),
            granted,
            transmit_dropped: found.transmit_dropped,
            longest: AtomicU32::new(0),
            custody,
            sightings: Sightings::default(),
        };
        netdev.follow(found.mtu);
        netdev
    }

    /// It as it is now, whatever its name is, and wherever the calling thread is.
    ///
    /// # Errors
    /// `ENODEV`: it is gone from the network namespace in which it was opened.
    pub(super) fn describe(&self) -> io::Result<Description> {
        self.directory.describe_index(self.index)
    }

    /// Takes note of the MTU in bytes that it has by now; says what we make use of.
    pub(super) fn follow(&self, mtu: u32) -> u32 {
        let used = mtu.min(mtu_max(self.granted.pieces));
        self.longest.store(used + ROOM_BYTES, Ordering::Relaxed);
        used
    }

    /// Bytes of the longest frame to send.
    #[inline]
    pub(super) fn longest(&self) -> u32 {
        self.longest.load(Ordering::Relaxed)
    }

    /// The program, until it is taken away.
    pub(super) fn program(&self) -> Option<ProgramId> {
        lock(&self.link).as_ref().map(Link::program)
    }

    /// Takes the program away.
    pub(super) fn untie(&self) {
        drop(lock(&self.link).take());
    }
}

/// One socket, and what lies in its memory.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) socket: Socket,
    pub(super) memory: Arc<Memory>,
    receiving: Mutex<Receiving>,
    transmitting: Mutex<Transmitting>,
}

impl Queue {
    /// Opens a socket, all receive frames in its fill ring; bound to nothing yet.
    pub(super) fn open() -> io::Result<Queue> {
        let umem = Umem::new(RECEIVE_FRAMES + TRANSMIT_FRAMES)?;
        let (socket, Rings { fill, received, transmit, completed }) = Socket::open(&umem, SIZES)?;
        let mut receiving = Receiving::new(fill, received);
        let frames = (0..RECEIVE_FRAMES).map(|frame| u64::from(frame) * u64::from(FRAME_BYTES));
        receiving.give_back(frames);
        let transmitting = Transmitting {
            transmit,
            completed,
            budget: Budget::new(),
            hint: RegionHint::default(),
            line: Line::Up,
        };
        Ok(Queue {
            socket,
            memory: Arc::clone(umem.memory()),
            receiving: Mutex::new(receiving),
            transmitting: Mutex::new(transmitting),
        })
    }

    pub(super) fn receiving(&self) -> MutexGuard<'_, Receiving> {
        lock(&self.receiving)
    }

    pub(super) fn transmitting(&self) -> MutexGuard<'_, Transmitting> {
        lock(&self.transmitting)
    }

    /// Whether its netdev is there, be it up or down.
    pub(super) fn is_bound(&self) -> bool {
        self.socket.nudge() != Err(Errno::NXIO)
    }

    pub(super) fn lost(&self) -> u64 {
        self.socket.lost().unwrap_or(0)
    }
}

/// A panic within leaves both halves as good as before: positions move by whole entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the netdev sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// It does, as far as is known.
    Up,
    /// It did not, when it was last asked: it is down, or gone.
    Down,
}

/// The transmitting half.
#[derive(Debug)]
pub(super) struct Transmitting {
    pub(super) transmit: Producer<Descriptor>,
    completed: Consumer<u64>,
    pub(super) budget: Budget,
    pub(super) hint: RegionHint,
    line: Line,
}

impl Transmitting {
    /// Takes back what the kernel is done with; if that leaves fewer than `wanted`, has it
    /// send what it was given, and looks again. Says how many there are.
    pub(super) fn make_room(&mut self, socket: &Socket, wanted: usize) -> usize {
        self.reclaim();
        if self.budget.count() < wanted {
            self.kick(socket);
            self.reclaim();
        }
        self.budget.count()
    }

    fn reclaim(&mut self) {
        while let Some(address) = self.completed.take() {
            self.budget.give_back(address);
        }
        self.completed.release();
    }

    /// Whether the netdev sends, asked anew where it did not.
    pub(super) fn line(&mut self, socket: &Socket) -> Line {
        if self.line == Line::Down {
            self.kick(socket);
        }
        self.line
    }

    /// Has the kernel send what was published, if it wants to be told. Where it copies,
    /// it sends some frames a call and says `EAGAIN` as long as there are more, `EBUSY`
    /// behind one that the netdev lost, `ENOBUFS` for want of memory.
    pub(super) fn kick(&mut self, socket: &Socket) -> Rung {
        if self.line == Line::Up && self.transmit.wakeup() == Wakeup::Unneeded {
            return Rung::Heard;
        }
        let mut left = self.transmit.left();
        loop {
            match socket.kick() {
                Ok(()) => {
                    self.line = Line::Up;
                    return Rung::Heard;
                }
                Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV) => {
                    self.line = Line::Down;
                    return Rung::Heard;
                }
                Err(_) => self.line = Line::Up,
            }
            let before = std::mem::replace(&mut left, self.transmit.left());
            if left >= before {
                // All are on their way, or it has no room for more at the moment.
                break;
            }
        }
        match left {
            0 => Rung::Heard,
            _ => Rung::Again,
        }
    }
}
