//! A netdev that somebody else owns: libvirt's vnetN, Xen's vifD.N, a container's veth.
//!
//! Frames come and go by packet sockets with a virtio-net header, one system call each,
//! into the worker's [`Arena`] and out of the sender's memory directly. What the netdev
//! receives must not reach the host's own stack as well: a tc program behind the sockets
//! drops it, and goes when we go.
//!
//! Frames that the netdev does not take whole are cut before they come here ([`cutting`]).
//!
//! When the netdev is deleted, or moved to another network namespace, its sockets are
//! bound to nothing: [`Received::Lost`]. When it is merely down, receiving finds nothing
//! and sending fails: [`DropReason::DeviceError`].

mod cutting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use self::cutting::Cutting;
use super::failures::Failures;
use super::taking::{By, TakingError, Wanted};
use super::{
    Arena, Armed, Departure, HostsOwn, Opened, Received, Receiver, Rung, Steering, Transmitter,
};
use crate::frame::{Batch, FRAME_BYTES_MAX, Room};
use crate::ledger::DropReason;
use crate::sys::bpf::{Link, Program};
use crate::sys::memory::RegionHint;
use crate::sys::netdev::{self, Description};
use crate::sys::packet_queue::{HEADER_BYTES, Message, Queue};
use crate::sys::programs::ProgramId;
use crate::wire::ethernet::{ADDRESSES_BYTES, TAG_BYTES};
use crate::wire::offload::{Capabilities, Offload};
use crate::wire::virtio_net;

/// Frames are laid into the arena on cache lines.
const ALIGNMENT_BYTES: usize = 64;
/// One byte more than a frame may have, so that a longer one is noticed.
const READ_BYTES: usize = FRAME_BYTES_MAX + 1;
/// Queues a group of packet sockets can have (`PACKET_FANOUT_MAX` is more).
pub const QUEUES_MAX: usize = 256;

/// What is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The interface's name, 1 to 15 bytes.
    pub interface: String,
    /// Queues, 1 to [`QUEUES_MAX`]: one receiver and one transmitter each.
    pub queues: usize,
    /// What to do with an interface that the host itself uses.
    pub hosts_own: HostsOwn,
    /// Programs of devices in whose place it comes ([`Wanted::leaving`]).
    pub leaving: Vec<ProgramId>,
}

/// An opened netdev.
#[derive(Debug)]
pub struct PacketDevice {
    /// One per queue.
    pub receivers: Vec<PacketReceiver>,
    /// One per queue, in the same order, on the same socket.
    pub transmitters: Vec<PacketTransmitter>,
    /// What the netdev took when it was opened; [`PacketTransmitter::accepts`] follows it.
    pub capabilities: Capabilities,
    /// The interface's MTU in bytes when it was opened.
    pub mtu: u32,
    cutting: Arc<Cutting>,
    index: u32,
}

impl From<PacketDevice> for Opened {
    fn from(device: PacketDevice) -> Opened {
        Opened {
            receivers: device.receivers.into_iter().map(Receiver::Packet).collect(),
            transmitters: device.transmitters.into_iter().map(Transmitter::Packet).collect(),
            capabilities: device.capabilities,
            steering: Steering::ByWorker,
        }
    }
}

/// A share of an opened netdev: its sockets, and the program behind them, stay as long as
/// a share or a queue of it is left.
#[derive(Clone, Debug)]
pub struct Share {
    sockets: Vec<Arc<Socket>>,
    cutting: Arc<Cutting>,
    index: u32,
}

impl Share {
    /// The device once more, on the same sockets, for another owner: nothing is closed or
    /// lost on the way. Each frame is received by one of the owners only, so the former
    /// one must no longer be served.
    #[must_use]
    pub fn reuse(&self) -> Opened {
        let sockets = self.sockets.iter();
        let receivers = sockets.clone().map(PacketReceiver::new).map(Receiver::Packet).collect();
        let transmitter = |socket| PacketTransmitter::new(socket, &self.cutting);
        let transmitters = sockets.map(transmitter).map(Transmitter::Packet).collect();
        let (capabilities, steering) = (self.cutting.capabilities(), Steering::ByWorker);
        Opened { receivers, transmitters, capabilities, steering }
    }

    /// Looks which frames the netdev takes whole, for those who send by it from now on: to
    /// be called when the kernel told something of it, in its network namespace.
    ///
    /// # Errors
    /// `ENODEV`: it is gone; those of socket(2). It counts as it was before then.
    pub fn look_at_cutting(&self) -> io::Result<()> {
        self.cutting.look(self.index)
    }

    /// Whether the netdev is still there. Its receivers say so too, but for one whose
    /// transmitter was told first: the kernel tells a socket once.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.sockets.iter().all(|socket| socket.queue.is_bound())
    }

    /// Takes the program away from a netdev that is gone: it may only have been moved to
    /// another network namespace, whose stack would get nothing of what it receives.
    pub fn untie(&self) {
        for socket in &*self.sockets {
            drop(socket.curtain.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// The program that keeps frames from the host's own stack; nothing once it is untied.
    #[must_use]
    pub fn program(&self) -> Option<ProgramId> {
        let curtain = &self.sockets.first()?.curtain;
        let curtain = curtain.lock().unwrap_or_else(PoisonError::into_inner);
        curtain.as_ref().map(Link::program)
    }

    /// The netdev's index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The netdev as it is now, whatever its name is.
    ///
    /// # Errors
    /// `ENODEV`: it is gone.
    pub fn describe(&self) -> io::Result<Description> {
        netdev::describe_index(self.index)
    }

    /// Frames that found a socket's receive queue full since it was opened.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.lost()).sum()
    }
}

impl PacketDevice {
    /// A share of it.
    #[must_use]
    pub fn share(&self) -> Share {
        let sockets = self.receivers.iter().map(|receiver| Arc::clone(&receiver.socket)).collect();
        Share { sockets, cutting: Arc::clone(&self.cutting), index: self.index }
    }
}

/// Why a netdev could not be opened. Each names the interface and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// A number of queues that no device has.
    #[error("packet `{interface}`: queues = {queues} is not in 1..={QUEUES_MAX}: correct it")]
    QueuesInvalid {
        /// As configured.
        interface: String,
        /// As configured.
        queues: usize,
    },
    /// It may not be taken, or could not be.
    #[error(transparent)]
    Taking(#[from] TakingError),
}

impl PacketError {
    /// Whether the netdev's owner may still bring it: the port waits.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, PacketError::Taking(error) if error.may_pass())
    }
}

/// Opens a netdev as [`Config`] says, in this thread's network namespace.
///
/// # Errors
/// [`PacketError`]; nothing is left behind then.
pub fn open(config: &Config) -> Result<PacketDevice, PacketError> {
    let opening = Opening::new(config)?;
    let Description { index, mtu, .. } = opening.wanted.ask()?;
    let queues = opening.queues(index)?;
    let cutting = opening.step("read which frames it takes whole", Cutting::of(index))?;
    let cutting = Arc::new(cutting);
    // Last: from here on the host's stack gets nothing more of the netdev.
    let curtain = Arc::new(Mutex::new(Some(opening.draw_curtain(index)?)));
    let socket = |queue| {
        let curtain = Arc::clone(&curtain);
        Arc::new(Socket { queue, lost: AtomicU64::new(0), curtain })
    };
    let sockets: Vec<Arc<Socket>> = queues.into_iter().map(socket).collect();
    Ok(PacketDevice {
        receivers: sockets.iter().map(PacketReceiver::new).collect(),
        transmitters: sockets.iter().map(|it| PacketTransmitter::new(it, &cutting)).collect(),
        capabilities: cutting.capabilities(),
        mtu,
        cutting,
        index,
    })
}

/// What the steps of opening need.
struct Opening<'c> {
    queues: usize,
    wanted: Wanted<'c>,
}

impl Opening<'_> {
    fn new(config: &Config) -> Result<Opening<'_>, PacketError> {
        let &Config { ref interface, queues, hosts_own, ref leaving } = config;
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(PacketError::QueuesInvalid { interface: interface.clone(), queues });
        }
        let wanted = Wanted { by: By::Packet, interface, hosts_own, leaving };
        Ok(Opening { queues, wanted })
    }

    fn step<T>(&self, step: &'static str, result: io::Result<T>) -> Result<T, PacketError> {
        Ok(self.wanted.step(step, result)?)
    }

    /// The sockets, each flow of the netdev's frames to one of them.
    fn queues(&self, index: u32) -> Result<Vec<Queue>, PacketError> {
        let mut queues: Vec<Queue> = Vec::with_capacity(self.queues);
        let mut group = None;
        for _ in 0..self.queues {
            let queue = self.step("open a packet socket", Queue::open())?;
            self.step("bind a packet socket", queue.bind(index))?;
            if self.queues > 1 {
                let step = "share its frames among packet sockets";
                match group {
                    None => group = Some(self.step(step, queue.found_group())?),
                    Some(group) => self.step(step, queue.join(group))?,
                }
            }
            queues.push(queue);
        }
        Ok(queues)
    }

    /// The program that keeps frames from the host's own stack.
    fn draw_curtain(&self, index: u32) -> Result<Link, PacketError> {
        let program = self.step("load a program that drops frames", Program::drop_all())?;
        let link = Link::tcx_ingress(&program, index);
        self.step("attach a program to its ingress (Linux 6.6 or newer)", link)
    }
}

/// A socket, and the program that keeps what it receives from the host's own stack.
#[derive(Debug)]
struct Socket {
    queue: Queue,
    /// Frames that found its receive queue full, as far as the kernel was asked.
    lost: AtomicU64,
    curtain: Arc<Mutex<Option<Link>>>,
}

impl Socket {
    /// The kernel counts from one question to the next.
    fn lost(&self) -> u64 {
        let more = self.queue.take_lost().unwrap_or(0).into();
        self.lost.fetch_add(more, Ordering::Relaxed) + more
    }
}

/// What the netdev receives.
#[derive(Debug)]
pub struct PacketReceiver {
    socket: Arc<Socket>,
    hint: RegionHint,
    failures: Failures,
}

/// What became of one read.
enum Read {
    Frame {
        bytes: usize,
    },
    Nothing,
    /// The kernel could not hand a frame over.
    Failed,
    /// The netdev is gone.
    Gone,
}

impl PacketReceiver {
    fn new(socket: &Arc<Socket>) -> PacketReceiver {
        let (hint, failures) = (RegionHint::default(), Failures::default());
        PacketReceiver { socket: Arc::clone(socket), hint, failures }
    }

    /// See [`Receiver::receive`]. Frames lie one behind the other in the arena.
    pub fn receive(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        batch.begin(&arena.memory);
        let mut start = 0;
        while batch.room() == Room::More && start + TAG_BYTES + READ_BYTES <= arena.bytes {
            match self.read(arena, batch, start) {
                Read::Frame { bytes } => {
                    self.failures.end();
                    start += bytes.next_multiple_of(ALIGNMENT_BYTES);
                }
                Read::Nothing => {
                    self.failures.end();
                    return Received::Drained;
                }
                Read::Failed => return self.failures.note(batch),
                // Told once only, so at once, whatever came before it.
                Read::Gone => return Received::Lost,
            }
        }
        Received::More
    }

    /// Reads one frame to `start` in the arena, behind room for a tag.
    #[inline]
    fn read(&mut self, arena: &Arena, batch: &mut Batch, start: usize) -> Read {
        let mut header = [0; HEADER_BYTES];
        let address = (start + TAG_BYTES) as u64;
        let Some(place) = arena.memory.place(&mut self.hint, address, READ_BYTES as u32) else {
            return Read::Nothing;
        };
        let message = match self.socket.queue.receive(&mut header, place) {
            Ok(message) => message,
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(error) => return self.failed(error),
        };
        match virtio_net::decode_legacy(&header) {
            _ if message.bytes > FRAME_BYTES_MAX => batch.reject(DropReason::Giant),
            Ok(offload) => self.push(arena, batch, start, message, offload),
            Err(_) => batch.reject(DropReason::OffloadInvalid),
        }
        Read::Frame { bytes: TAG_BYTES + message.bytes.max(1) }
    }

    /// Adds a frame, with the tag that the kernel took out of it.
    #[inline]
    fn push(
        &mut self,
        arena: &Arena,
        batch: &mut Batch,
        start: usize,
        message: Message,
        offload: Offload,
    ) {
        let bytes = message.bytes as u32;
        let Some(tag) = message.tag.filter(|_| message.bytes >= ADDRESSES_BYTES) else {
            return batch.push(&mut self.hint, &[((start + TAG_BYTES) as u64, bytes)], offload);
        };
        self.insert_tag(arena, start, tag);
        let piece = (start as u64, bytes + TAG_BYTES as u32);
        batch.push(&mut self.hint, &[piece], offload.shifted(TAG_BYTES as i16));
    }

    /// Moves a frame's addresses into the room before them, and writes the tag behind.
    fn insert_tag(&mut self, arena: &Arena, start: usize, (tpid, tci): (u16, u16)) {
        let bytes = (ADDRESSES_BYTES + TAG_BYTES) as u32;
        let Some(place) = arena.memory.place(&mut self.hint, start as u64, bytes) else { return };
        let mut head = [0; ADDRESSES_BYTES + TAG_BYTES];
        let (_, addresses) = place.split(TAG_BYTES);
        addresses.read(&mut head[..ADDRESSES_BYTES]);
        head[ADDRESSES_BYTES..ADDRESSES_BYTES + 2].copy_from_slice(&tpid.to_be_bytes());
        head[ADDRESSES_BYTES + 2..].copy_from_slice(&tci.to_be_bytes());
        place.write(&head);
    }

    /// What an error means: a netdev that went down comes up again by itself, one that
    /// was deleted or moved away does not.
    #[cold]
    fn failed(&self, error: Errno) -> Read {
        match error {
            _ if !self.socket.queue.is_bound() => Read::Gone,
            Errno::NETDOWN => Read::Nothing,
            _ => Read::Failed,
        }
    }

    /// See [`Receiver::release`].
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
    }

    /// See [`Receiver::arm`]: the socket is readable as long as frames wait, so waiting
    /// for it (level-triggered) is looking again.
    pub fn arm(&mut self) -> Armed {
        Armed::Asleep
    }

    /// See [`Receiver::disarm`].
    pub fn disarm(&mut self) {}

    /// See [`Receiver::wake_fd`].
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.socket.queue.as_fd()
    }
}

/// What the netdev sends.
#[derive(Debug)]
pub struct PacketTransmitter {
    socket: Arc<Socket>,
    cutting: Arc<Cutting>,
}

impl PacketTransmitter {
    fn new(socket: &Arc<Socket>, cutting: &Arc<Cutting>) -> PacketTransmitter {
        PacketTransmitter { socket: Arc::clone(socket), cutting: Arc::clone(cutting) }
    }

    /// What the netdev takes of frames that are not complete, as far as the kernel has told:
    /// one that it no longer takes is lost for [`DropReason::RxRingFull`] until then.
    #[inline]
    #[must_use]
    pub fn accepts(&self) -> Capabilities {
        self.cutting.capabilities()
    }

    /// See [`Transmitter::transmit`]. The one copy is the kernel's.
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
            departure.fate = self.send(departure);
        }
    }

    #[inline]
    fn send(&self, departure: &Departure<'_>) -> Result<(), DropReason> {
        let offload = match departure.offload {
            Offload::NONE => [0; HEADER_BYTES],
            offload => virtio_net::encode_legacy(&offload, departure.header),
        };
        match self.socket.queue.send(&offload, departure.header, departure.body) {
            Ok(()) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(DropReason::RxRingFull),
            Err(Errno::MSGSIZE) => Err(DropReason::MtuExceeded),
            Err(Errno::FAULT) => Err(departure.blame_sender()),
            Err(_) => Err(DropReason::DeviceError),
        }
    }

    /// See [`Transmitter::room`]: the kernel does not tell.
    #[must_use]
    pub fn room(&mut self, wanted: usize, _: usize) -> usize {
        wanted
    }

    /// See [`Transmitter::ring`]: sending is the doorbell.
    pub fn ring(&mut self) -> Rung {
        Rung::Heard
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec};

    use super::super::testing::{depart, depart_cut_short, ethernet, frames};
    use super::*;
    use crate::sys::features::{Switch, Tie};
    use crate::sys::netns::{in_own_network, in_own_network_alone, ip};
    use crate::sys::packet_socket::{Direction, Format, PacketSocket};
    use crate::sys::tun::InterfaceName;
    use crate::wire::offload::{Checksum, Ecn, Segmentation, Support};

    fn config(interface: &str, queues: usize) -> Config {
        let (interface, hosts_own) = (interface.to_owned(), HostsOwn::Refuse);
        Config { interface, queues, hosts_own, leaving: Vec::new() }
    }

    fn name(interface: &str) -> InterfaceName {
        InterfaceName::new(interface).unwrap()
    }

    /// A veth pair: `a0` is the port's, `b0` the guest's.
    fn pair() -> PacketDevice {
        pair_of(1)
    }

    fn pair_of(queues: usize) -> PacketDevice {
        ip("link add a0 type veth peer name b0");
        ip("link set a0 up");
        ip("link set b0 up");
        open(&config("a0", queues)).unwrap()
    }

    fn guest() -> PacketSocket {
        let socket = PacketSocket::open("b0", Format::VirtioNet).unwrap();
        socket.set_patience(Some(std::time::Duration::from_secs(10))).unwrap();
        socket
    }

    fn transmit(
        device: &mut PacketDevice,
        frame: &[u8],
        offload: Offload,
    ) -> Result<(), DropReason> {
        let transmitter = &mut device.transmitters[0];
        depart(&[frame.to_vec()], offload, |departures| transmitter.transmit(departures))[0]
    }

    /// Waits for frames of the tests' stations on any queue, then receives from all.
    fn receive(device: &mut PacketDevice) -> Vec<(Vec<u8>, Offload)> {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let mut all = Vec::new();
        while all.is_empty() {
            let fds = device.receivers.iter().map(PacketReceiver::wake_fd);
            let mut fds: Vec<PollFd<'_>> =
                fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            assert!(rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0, "nothing came");
            for receiver in &mut device.receivers {
                receiver.receive(&mut arena, &mut batch);
                let offloads = (0..batch.count()).map(|index| batch.offload(index));
                let ours = frames(&batch).into_iter().zip(offloads);
                all.extend(ours.filter(|(frame, _)| frame[6..11] == [2, 0, 0, 0, 0]));
                receiver.release(&mut batch);
            }
        }
        all
    }

    fn receive_once(device: &mut PacketDevice) -> (Received, usize) {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let received = device.receivers[0].receive(&mut arena, &mut batch);
        (received, batch.count())
    }

    /// A frame as the guest's socket takes it: nothing left to do.
    fn plain(frame: &[u8]) -> Vec<u8> {
        [&[0; HEADER_BYTES][..], frame].concat()
    }

    /// The next frame of the tests' stations that comes to the guest.
    fn arrive(guest: &PacketSocket) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        loop {
            let received = guest.receive(&mut buffer).unwrap();
            let frame = &buffer[HEADER_BYTES..received.length];
            if received.direction == Direction::Incoming && frame[6..11] == [2, 0, 0, 0, 0] {
                return frame.to_vec();
            }
        }
    }

    #[test]
    fn memory_that_was_cut_short_is_its_sender_s_fault() {
        in_own_network(|| {
            let (mut device, guest) = (pair(), guest());
            let frame = ethernet(0xb, 0xa, 1000);
            let transmitter = &mut device.transmitters[0];
            let cut = depart_cut_short(&frame, |departures| transmitter.transmit(departures));
            assert_eq!(cut, (Err(DropReason::SenderFault), true));
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Ok(()));
            assert!(arrive(&guest) == frame);
        });
    }

    #[test]
    fn frames_cross_both_ways_unchanged() {
        in_own_network(|| {
            let (mut device, guest) = (pair(), guest());
            for length in [60, 127, 128, 129, 1000, 1514] {
                let frame = ethernet(0xb, 0xa, length);
                assert_eq!(transmit(&mut device, &frame, Offload::NONE), Ok(()));
                assert!(arrive(&guest) == frame, "{length} bytes to the guest");
                let frame = ethernet(0xa, 0xb, length);
                guest.send(&plain(&frame)).unwrap();
                assert_eq!(receive(&mut device), [(frame, Offload::NONE)]);
            }
            assert_eq!(receive_once(&mut device).1, 0, "nothing of what it sent comes back");
        });
    }

    #[test]
    fn tags_that_the_kernel_takes_out_are_put_back() {
        in_own_network(|| {
            let (mut device, guest) = (pair(), guest());
            for tags in [&[0x8100_u16, 0x2005][..], &[0x88a8, 0xa064], &[0x88a8, 100, 0x8100, 7]] {
                let mut frame = ethernet(0xa, 0xb, 100);
                let bytes: Vec<u8> = tags.iter().flat_map(|word| word.to_be_bytes()).collect();
                frame.splice(12..12, bytes);
                guest.send(&plain(&frame)).unwrap();
                assert_eq!(receive(&mut device), [(frame, Offload::NONE)], "{tags:x?}");
            }
        });
    }

    /// A TSO frame with `payload` bytes behind Ethernet, IPv4 and TCP headers.
    fn tso(destination: u8, source: u8, payload: usize) -> (Vec<u8>, Offload) {
        let mut frame = ethernet(destination, source, 14 + 20 + 20 + payload);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let [high, low] = ((40 + payload) as u16).to_be_bytes();
        let header = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        frame[14..34].copy_from_slice(&header);
        let sum = !crate::wire::checksum::Sum::of(&frame[14..34]).word();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame[34..54].copy_from_slice(&[
            0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
        ]);
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Segmentation::Tcp4 { size: 1448, ecn: Ecn::Without },
        };
        (frame, offload)
    }

    #[test]
    fn a_tso_frame_crosses_in_one_piece_both_ways() {
        in_own_network(|| {
            let (mut device, guest) = (pair(), guest());
            for payload in [2000, 14_480, 65_481] {
                let (frame, offload) = tso(0xb, 0xa, payload);
                assert_eq!(transmit(&mut device, &frame, offload), Ok(()));
                assert!(arrive(&guest) == frame, "{payload} bytes to the guest");
                let (frame, offload) = tso(0xa, 0xb, payload);
                let header = virtio_net::encode_legacy(&offload, &frame);
                guest.send(&[&header[..], &frame].concat()).unwrap();
                let got = receive(&mut device);
                assert_eq!((got.len(), got[0].1), (1, offload));
                assert!(got[0].0 == frame, "{payload} bytes from the guest");
            }
        });
    }

    #[test]
    fn what_the_netdev_takes_whole_is_followed() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            let netdev = Tie::to(netdev::describe(name("a0")).unwrap().index).unwrap();
            netdev.turn(&["tx-tcp-segmentation"], Switch::Off).unwrap();
            for end in ["a0", "b0"] {
                ip(&format!("link set {end} up"));
            }
            let (mut device, guest) = (open(&config("a0", 1)).unwrap(), guest());
            let uncut = Capabilities { tcp4: Support::Lacking, ..Capabilities::ALL };
            assert_eq!(device.capabilities, uncut);
            // The kernel does not cut for us, but it sums.
            let (frame, offload) = tso(0xb, 0xa, 14_480);
            assert_eq!(transmit(&mut device, &frame, offload), Err(DropReason::RxRingFull));
            netdev.turn(&["tx-checksum-ip-generic"], Switch::Off).unwrap();
            let (short, _) = tso(0xb, 0xa, 1000);
            let unsummed = Offload { segmentation: Segmentation::None, ..offload };
            assert_eq!(transmit(&mut device, &short, unsummed), Ok(()));
            let summed = arrive(&guest);
            assert!(summed[..50] == short[..50] && summed[50..52] != short[50..52]);

            let share = device.share();
            let takes = || {
                share.look_at_cutting().unwrap();
                let opened = share.reuse().capabilities;
                let Transmitter::Packet(one) = &share.reuse().transmitters[0] else { panic!() };
                assert_eq!((one.accepts(), device.transmitters[0].accepts()), (opened, opened));
                opened
            };
            // UDP goes with it in newer kernels only.
            let none = Capabilities { checksum: Support::Taken, ..Capabilities::NONE };
            let without_sums = Capabilities { udp: Support::Lacking, ..takes() };
            assert_eq!(without_sums, none, "without sums no netdev cuts");
            netdev.turn(&["tx-checksum-ip-generic", "tx-tcp-segmentation"], Switch::On).unwrap();
            assert_eq!(takes(), Capabilities::ALL);
            netdev.turn(&["tx-tcp-ecn-segmentation"], Switch::Off).unwrap();
            assert_eq!(takes(), Capabilities { ecn: Support::Lacking, ..Capabilities::ALL });
            assert_eq!(transmit(&mut device, &frame, offload), Ok(()));
            assert!(arrive(&guest) == frame);
            ip("link del a0");
            assert_eq!(share.look_at_cutting().unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn the_host_s_own_stack_gets_nothing_until_the_port_goes() {
        in_own_network_alone(|| {
            let device = pair();
            let guest = guest();
            // What would answer it, were it to get there.
            ip("addr add 192.0.2.1/24 dev a0");
            let mut ask = ethernet(0, 0xb, 42);
            ask[..6].fill(0xff);
            ask[12..14].copy_from_slice(&[0x08, 0x06]);
            ask[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
            let sender = [2, 0, 0, 0, 0, 0xb, 192, 0, 2, 2];
            ask[22..32].copy_from_slice(&sender);
            ask[32..42].copy_from_slice(&[0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
            let answered = || {
                guest.set_patience(Some(std::time::Duration::from_millis(300))).unwrap();
                guest.send(&plain(&ask)).unwrap();
                let mut buffer = vec![0; 2000];
                std::iter::from_fn(|| {
                    guest.receive(&mut buffer).ok().map(|it| (it, buffer.clone()))
                })
                .any(|(it, bytes)| {
                    it.direction == Direction::Incoming
                        && bytes[HEADER_BYTES..][12..14] == [0x08, 0x06]
                })
            };
            assert!(!answered());
            device.share().untie();
            assert!(answered(), "the program is gone before the port is");
            drop(device);
            let config = Config { hosts_own: HostsOwn::TakeOver, ..config("a0", 1) };
            let device = open(&config).unwrap();
            assert!(!answered());
            drop(device);
            assert!(answered(), "the interface is the host's again");
        });
    }

    #[test]
    fn a_netdev_that_is_deleted_or_moved_is_lost_and_one_that_is_down_is_not() {
        in_own_network(|| {
            let mut device = pair();
            let frame = ethernet(0xb, 0xa, 60);
            ip("link set a0 down");
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Err(DropReason::DeviceError));
            assert_eq!(receive_once(&mut device), (Received::Drained, 0));
            ip("link set a0 up");
            // Once its peer was down the kernel discards what `b0` sends, in silence, until
            // it has looked at the cable again, some time later; opening it looks at once.
            ip("link set b0 down");
            ip("link set b0 up");
            let guest = guest();
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Ok(()));
            assert_eq!(arrive(&guest), frame);
            let frame = ethernet(0xa, 0xb, 60);
            guest.send(&plain(&frame)).unwrap();
            assert_eq!(receive(&mut device), [(frame.clone(), Offload::NONE)]);
            ip("link del a0");
            let mut fds = [PollFd::from_borrowed_fd(device.receivers[0].wake_fd(), PollFlags::IN)];
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "the loss wakes");
            assert_eq!(receive_once(&mut device), (Received::Lost, 0));
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Err(DropReason::DeviceError));
        });
    }

    #[test]
    fn several_queues_share_the_frames_and_each_sends() {
        in_own_network(|| {
            let (mut device, guest) = (pair_of(4), guest());
            for source in 32..64 {
                let frame = ethernet(0xa, source, 100);
                guest.send(&plain(&frame)).unwrap();
                assert_eq!(receive(&mut device), [(frame, Offload::NONE)], "once, on one queue");
            }
            for queue in 0..4 {
                let frame = ethernet(0xb, 0xa, 60 + queue);
                let transmitter = &mut device.transmitters[queue];
                let fates = depart(std::slice::from_ref(&frame), Offload::NONE, |departures| {
                    transmitter.transmit(departures);
                });
                assert_eq!(fates, [Ok(())]);
                assert_eq!(arrive(&guest), frame);
            }
        });
    }

    #[test]
    fn what_the_host_s_own_stack_sends_is_not_received() {
        for queues in [1, 2] {
            in_own_network(move || {
                let (mut device, guest) = (pair_of(queues), guest());
                let host = PacketSocket::open("a0", Format::VirtioNet).unwrap();
                let sent = ethernet(0xb, 0xc, 60);
                host.send(&plain(&sent)).unwrap();
                assert_eq!(arrive(&guest), sent);
                let frame = ethernet(0xa, 0xb, 60);
                guest.send(&plain(&frame)).unwrap();
                assert_eq!(receive(&mut device), [(frame, Offload::NONE)], "{queues} queues");
            });
        }
    }

    #[test]
    fn what_is_too_long_for_the_cable_is_dropped_by_name() {
        in_own_network(|| {
            let mut device = pair();
            let frame = ethernet(0xb, 0xa, 1519);
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Err(DropReason::MtuExceeded));
        });
    }

    #[test]
    fn what_may_not_be_taken_is_not_opened() {
        in_own_network(|| {
            let failed = |interface: &str, queues| {
                let error = open(&config(interface, queues)).unwrap_err();
                assert!(error.to_string().contains(&format!("`{interface}`")), "{error}");
                error
            };
            assert!(matches!(failed("a0", 0), PacketError::QueuesInvalid { queues: 0, .. }));
            assert!(failed("a0", 1).may_pass());
            let device = pair();
            let taken = failed("a0", 1);
            assert!(!taken.may_pass() && matches!(taken, PacketError::Taking(_)), "{taken}");
            let leaving = vec![device.share().program().unwrap()];
            open(&Config { leaving, ..config("a0", 1) }).unwrap();
        });
    }

    #[test]
    fn without_privilege_opening_is_refused_with_the_remedy() {
        in_own_network(|| {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            ip("link add a0 type veth peer name b0");
            ip("link set a0 up");
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            let error = open(&config("a0", 1)).unwrap_err();
            let is_named = matches!(error, PacketError::Taking(TakingError::NotPermitted { .. }));
            assert!(is_named, "{error}");
        });
    }
}
