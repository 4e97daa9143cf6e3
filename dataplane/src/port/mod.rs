//! Ports: where frames come from and go to. One file or folder per device kind.
//!
//! A device has receive queues, each owned by exactly one worker
//! ([`Receiver`]), and transmitters, one or one per worker ([`Transmitter`] in a
//! [`Lane`]). Each kind has the same shape: state, `open`, `receive`,
//! `release`, `transmit`, `ring`. No VLAN policy here: a port moves frames.
//!
//! * [`memory`] — in-process, for tests, the lab and embedding.
//! * [`tap`] — a TAP whose file side is ours and whose netdev is the guest's.
//! * [`packet`] — a netdev that somebody else owns.
//! * [`xdp`] — a NIC or veth, its receive queues in shared memory.
//! * [`taking`] — whether a netdev may be taken, by either of these.
//! * [`vhost_user`] — a VM's virtqueues, served from its memory.
//! * [`fault`], [`pcap`] — middlewares around a memory port; [`pcapng`] is the
//!   format of what the latter writes.
//! * [`software`] — what an egress device lacks, done in software.

mod failures;
pub mod fault;
pub(crate) mod frame_ring;
pub mod memory;
pub mod packet;
pub mod pcap;
pub mod pcapng;
pub mod software;
pub mod taking;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod vhost_user;
pub mod xdp;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use crate::frame::{BATCH_BYTES, BATCH_FRAMES, Batch, FRAME_BYTES_MAX, View};
use crate::ledger::{Counters, DropReason, Totals};
use crate::snapshot::DeviceId;
use crate::sys::lane::Lane;
use crate::sys::memory::{Body, Memory};
use crate::wire::offload::{Capabilities, Offload};

/// A frame on its way out: the edited private header, the body still in its
/// sender's memory, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'b> {
    /// The first bytes, tags as they are to leave.
    pub header: &'b [u8],
    /// The bytes behind them.
    pub body: Body<'b>,
    /// What is left to do, offsets as the tags are to leave.
    pub offload: Offload,
    /// Whether the device took it; `Ok` before it was offered.
    pub fate: Result<(), DropReason>,
}

impl<'b> From<View<'b>> for Departure<'b> {
    /// As it was received.
    #[inline(always)]
    fn from(View { header, body, offload }: View<'b>) -> Departure<'b> {
        Departure { header, body, offload, fate: Ok(()) }
    }
}

impl Departure<'_> {
    /// The frame's length in bytes as it leaves.
    #[inline]
    #[must_use]
    pub fn length(&self) -> usize {
        self.header.len() + self.body.length()
    }

    /// Why a copy is lost that the kernel was to read and could not (`EFAULT`). Its sender's
    /// memory was cut short; the sender's port comes to know that by this, as it does where
    /// the reader was one of us.
    fn blame_sender(&self) -> DropReason {
        self.body.touch();
        DropReason::SenderFault
    }
}

/// What receiving a burst led to, besides the frames in the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The device has nothing more for now.
    Drained,
    /// The batch's bounds were reached first.
    More,
    /// The device is gone; it will give no more frames.
    Lost,
    /// The device is there, but gave errors in the place of frames so often that it is
    /// to be left alone until somebody looked at it.
    Failing,
}

/// Whether a device's wake-up is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Armed {
    /// Its wake-up descriptor will become readable with the next frame.
    Asleep,
    /// Frames were there already: do not sleep.
    FramesWaiting,
}

/// Whether a doorbell was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// It was, or nobody wants to hear it.
    Heard,
    /// Not everything that was transmitted is on its way yet: ring again in the next
    /// breath, and do not sleep before.
    Again,
}

/// The worker's scratch memory into which devices without memory of their own
/// (TAP) receive: one per worker, used by one batch at a time.
#[derive(Debug)]
pub struct Arena {
    /// The memory; frames of a batch are laid into it one after the other.
    pub memory: Arc<Memory>,
    /// Its size in bytes.
    pub bytes: usize,
    /// The breath's time: milliseconds on a clock that never goes back. The worker
    /// sets it with its one reading per breath.
    pub now_ms: u64,
}

/// Bytes of an [`Arena`]: a batch's, the padding of each frame to a cache line,
/// and the longest frame after that.
pub const ARENA_BYTES: usize =
    BATCH_BYTES + BATCH_FRAMES * CACHE_LINE_BYTES + FRAME_BYTES_MAX.next_multiple_of(4096);
/// Frames start on cache lines.
const CACHE_LINE_BYTES: usize = 64;

impl Arena {
    /// An arena of [`ARENA_BYTES`]; maps memory once, here.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<Arena> {
        let memory = Arc::new(Memory::arena(ARENA_BYTES)?);
        Ok(Arena { memory, bytes: ARENA_BYTES, now_ms: 0 })
    }
}

/// An opened device, ready to be attached: what control hands to the workers.
#[derive(Debug)]
pub struct Opened {
    /// One per receive queue.
    pub receivers: Vec<Receiver>,
    /// One per transmit queue: put each into a [`Lane`].
    pub transmitters: Vec<Transmitter>,
    /// What it takes at its egress.
    pub capabilities: Capabilities,
    /// Which transmitter a worker uses.
    pub steering: Steering,
}

/// Which of a device's transmitters is used.
#[derive(Clone, Debug, Default)]
pub enum Steering {
    /// Worker `w` uses transmitter `w` modulo their number.
    #[default]
    ByWorker,
    /// All that comes from one receive queue goes by one of those that are open, so that
    /// each flow keeps its order, and several senders are spread over them.
    BySender {
        /// A bit for each transmitter; by none if all are 0.
        open: Arc<AtomicU16>,
    },
}

/// From which receive queue frames come: a number that tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderQueue(pub u32);

/// What to do with an interface that carries addresses of the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostsOwn {
    /// It is refused: the host would lose them.
    #[default]
    Refuse,
    /// It is taken over.
    TakeOver,
}

/// One receive queue of a device, owned by one worker.
#[derive(Debug)]
pub enum Receiver {
    /// In-process.
    Memory(memory::MemoryReceiver),
    /// A queue of a TAP.
    Tap(tap::TapReceiver),
    /// A queue of somebody else's netdev.
    Packet(packet::PacketReceiver),
    /// A receive queue of a netdev, by AF_XDP.
    Xdp(xdp::XdpReceiver),
    /// A driver's transmit queue.
    VhostUser(vhost_user::VhostUserReceiver),
    /// In-process, with faults.
    Fault(Box<fault::FaultReceiver>),
    /// In-process, recorded.
    Pcap(Box<pcap::PcapReceiver>),
}

macro_rules! each_receiver {
    ($self:expr, $receiver:ident => $body:expr) => {
        match $self {
            Receiver::Memory($receiver) => $body,
            Receiver::Tap($receiver) => $body,
            Receiver::Packet($receiver) => $body,
            Receiver::Xdp($receiver) => $body,
            Receiver::VhostUser($receiver) => $body,
            Receiver::Fault($receiver) => $body,
            Receiver::Pcap($receiver) => $body,
        }
    };
}

impl Receiver {
    /// Fills the batch (begun here) with views of the frames that wait, up to the
    /// batch's bounds. Frames that cannot be viewed are noted in the batch
    /// ([`Batch::rejected`]). The frames stay the sender's until
    /// [`Receiver::release`].
    #[inline]
    pub fn receive(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        each_receiver!(self, receiver => receiver.receive(arena, batch))
    }

    /// Gives the frames of the last [`Receiver::receive`] back to their sender.
    #[inline]
    pub fn release(&mut self, batch: &mut Batch) {
        each_receiver!(self, receiver => receiver.release(batch))
    }

    /// Asks for a wake-up, then looks again.
    pub fn arm(&mut self) -> Armed {
        each_receiver!(self, receiver => receiver.arm())
    }

    /// Takes the wake-up back and consumes it.
    pub fn disarm(&mut self) {
        each_receiver!(self, receiver => receiver.disarm())
    }

    /// What becomes readable when an armed device has frames.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        each_receiver!(self, receiver => receiver.wake_fd())
    }
}

/// One transmitter of a device.
#[derive(Debug)]
pub enum Transmitter {
    /// In-process.
    Memory(memory::MemoryTransmitter),
    /// A queue of a TAP.
    Tap(tap::TapTransmitter),
    /// A queue of somebody else's netdev.
    Packet(packet::PacketTransmitter),
    /// A queue of a netdev, by AF_XDP.
    Xdp(xdp::XdpTransmitter),
    /// A driver's receive queue.
    VhostUser(vhost_user::VhostUserTransmitter),
    /// In-process, with faults.
    Fault(Box<fault::FaultTransmitter>),
    /// In-process, recorded.
    Pcap(Box<pcap::PcapTransmitter>),
}

macro_rules! each_transmitter {
    ($self:expr, $transmitter:ident => $body:expr) => {
        match $self {
            Transmitter::Memory($transmitter) => $body,
            Transmitter::Tap($transmitter) => $body,
            Transmitter::Packet($transmitter) => $body,
            Transmitter::Xdp($transmitter) => $body,
            Transmitter::VhostUser($transmitter) => $body,
            Transmitter::Fault($transmitter) => $body,
            Transmitter::Pcap($transmitter) => $body,
        }
    };
}

impl Transmitter {
    /// Copies these frames into the receiver's memory, in order, and says in each
    /// one's `fate` what became of it. Frames whose `fate` is an error already are
    /// passed over. Offloads must be within the device's capabilities.
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        each_transmitter!(self, transmitter => transmitter.transmit(departures))
    }

    /// Frames of up to `length` bytes the device would take now, `wanted` at most;
    /// `wanted` where it cannot tell.
    #[inline]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        each_transmitter!(self, transmitter => transmitter.room(wanted, length))
    }

    /// Whether a frame of `length` bytes is within what the device takes, as far as it
    /// can tell.
    ///
    /// # Errors
    /// [`DropReason::MtuExceeded`].
    #[inline]
    pub fn fits(&self, length: usize) -> Result<(), DropReason> {
        let Transmitter::Xdp(xdp) = self else { return Ok(()) };
        xdp.fits(length)
    }

    /// What it takes now of frames that are not complete, where that is not known
    /// beforehand, or changes.
    #[inline]
    pub fn accepts(&mut self) -> Option<Capabilities> {
        match self {
            Transmitter::VhostUser(driver) => Some(driver.accepts()),
            Transmitter::Packet(netdev) => Some(netdev.accepts()),
            Transmitter::Memory(_)
            | Transmitter::Tap(_)
            | Transmitter::Xdp(_)
            | Transmitter::Fault(_)
            | Transmitter::Pcap(_) => None,
        }
    }

    /// Rings the receiver's doorbell if something was transmitted since the last
    /// ring and the receiver wants to know.
    #[inline]
    pub fn ring(&mut self) -> Rung {
        each_transmitter!(self, transmitter => transmitter.ring())
    }
}

/// Whether a device works, as the workers find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Condition {
    /// It does.
    Working = 0,
    /// It is gone (its netdev was deleted): control re-opens it.
    Lost = 1,
    /// Serving it failed: it is left alone until released.
    Quarantined = 2,
}

/// A device attached to the switch: what workers share of it.
#[derive(Debug)]
pub struct Attached {
    /// Its id.
    pub id: DeviceId,
    /// Its name, for logs.
    pub name: Box<str>,
    /// Counters, one set per worker; they outlive a re-opened device.
    pub counters: Arc<[Counters]>,
    /// What it takes at its egress.
    pub capabilities: Capabilities,
    /// Which one is used: see [`Attached::lane`].
    pub transmitters: Box<[Lane<Transmitter>]>,
    steering: Steering,
    condition: AtomicU8,
}

impl Attached {
    /// A working device.
    #[must_use]
    pub fn new(
        id: DeviceId,
        name: &str,
        counters: Arc<[Counters]>,
        capabilities: Capabilities,
        transmitters: Vec<Lane<Transmitter>>,
    ) -> Attached {
        Attached {
            id,
            name: name.into(),
            counters,
            capabilities,
            transmitters: transmitters.into_boxed_slice(),
            steering: Steering::ByWorker,
            condition: AtomicU8::new(Condition::Working as u8),
        }
    }

    /// The same, its transmitters chosen in this way.
    #[must_use]
    pub fn steered(self, steering: Steering) -> Attached {
        Attached { steering, ..self }
    }

    /// By which transmitter a worker sends what came from a queue; nothing if by none.
    #[inline]
    #[must_use]
    pub fn lane(&self, worker: usize, from: SenderQueue) -> Option<usize> {
        match &self.steering {
            Steering::ByWorker => worker.checked_rem(self.transmitters.len()),
            Steering::BySender { open } => {
                let open = open.load(Ordering::Acquire);
                let lane = match open {
                    0 => return None,
                    1 => 0,
                    _ => nth_bit(open, from.0 % open.count_ones()),
                };
                (lane < self.transmitters.len()).then_some(lane)
            }
        }
    }

    /// A lane's doorbell among those of the device: a bit.
    #[inline]
    #[must_use]
    pub fn doorbell(&self, lane: usize) -> u16 {
        match self.steering {
            Steering::ByWorker => 1,
            Steering::BySender { .. } => 1 << lane,
        }
    }

    /// The lane of a doorbell.
    #[inline]
    #[must_use]
    pub fn lane_of(&self, worker: usize, doorbell: u16) -> Option<&Lane<Transmitter>> {
        let lane = match self.steering {
            Steering::ByWorker => worker.checked_rem(self.transmitters.len())?,
            Steering::BySender { .. } => doorbell.trailing_zeros() as usize,
        };
        self.transmitters.get(lane)
    }

    /// Counters for this many workers.
    #[must_use]
    pub fn counters(workers: usize) -> Arc<[Counters]> {
        (0..workers).map(|_| Counters::default()).collect()
    }

    /// How the device is.
    #[inline]
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            0 => Condition::Working,
            1 => Condition::Lost,
            _ => Condition::Quarantined,
        }
    }

    /// Notes how the device is.
    pub fn set_condition(&self, condition: Condition) {
        self.condition.store(condition as u8, Ordering::Relaxed);
    }

    /// All workers' counters, added up.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| counters.add_to(&mut totals));
        totals
    }
}

/// The place of the `nth` bit that is set, from 0.
fn nth_bit(mut bits: u16, nth: u32) -> usize {
    for _ in 0..nth {
        bits &= bits.wrapping_sub(1);
    }
    bits.trailing_zeros() as usize
}
