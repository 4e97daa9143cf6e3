//! TAP: Hairpin holds the file side, the netdev is the guest's – a container's,
//! a namespace's, the host's.
//!
//! [`open`] attaches to the interface or creates it. One that is created here
//! goes when the device is dropped; one that was there stays as it was found,
//! but for its offloads. Frames come and go with a virtio-net header, one system
//! call each (the kernel has no other way), into the worker's [`Arena`] and out
//! of the sender's memory directly. The netdev may be moved to another network
//! namespace at any time: the files stay attached.
//!
//! When the netdev is deleted, reading fails with `EBADFD`: [`Received::Lost`]. Any
//! other error stands for the one frame that it was to be: [`DropReason::ReadError`].
//! When it is merely down, reading finds nothing and writing fails with `EIO`:
//! [`DropReason::DeviceError`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::failures::Failures;
use super::{Arena, Armed, Departure, Opened, Received, Receiver, Rung, Steering, Transmitter};
use crate::frame::{Batch, FRAME_BYTES_MAX, Room};
use crate::ledger::DropReason;
use crate::sys::memory::RegionHint;
use crate::sys::netdev::Description;
use crate::sys::tun::{Driver, HEADER_BYTES, InterfaceName, Interfaces, Queue, transmit_drops};
use crate::wire::offload::{Capabilities, Support};
use crate::wire::virtio_net;

/// Queues the kernel gives a TAP at most (`MAX_TAP_QUEUES`).
pub const QUEUES_MAX: usize = 256;
/// Frames are laid into the arena on cache lines.
const ALIGNMENT_BYTES: usize = 64;
/// One byte more than a frame may have, so that a longer one is noticed.
const READ_BYTES: usize = FRAME_BYTES_MAX + 1;

const OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const OFFLOADS_UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// What is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The interface's name, 1 to 15 bytes.
    pub interface: String,
    /// Queues, 1 to [`QUEUES_MAX`]: one receiver and one transmitter each. An
    /// interface that was made beforehand without `multi_queue` has one, whatever is
    /// asked for.
    pub queues: usize,
    /// The MTU in bytes that an interface created here gets; the kernel's default
    /// (1500) if absent. One that is there keeps its own.
    pub mtu: Option<u32>,
}

/// Whether the interface was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was created here, and goes with the device.
    Created,
    /// It was there, and stays.
    Existing,
}

/// An opened TAP.
#[derive(Debug)]
pub struct TapDevice {
    interface: String,
    /// One per queue.
    pub receivers: Vec<TapReceiver>,
    /// One per queue, in the same order, on the same file.
    pub transmitters: Vec<TapTransmitter>,
    /// What the kernel takes: everything, but UDP segmentation before Linux 6.2.
    pub capabilities: Capabilities,
    /// Whether it was created here.
    pub origin: Origin,
    /// The interface's MTU in bytes when it was opened.
    pub mtu: u32,
}

impl From<TapDevice> for Opened {
    fn from(device: TapDevice) -> Opened {
        Opened {
            receivers: device.receivers.into_iter().map(Receiver::Tap).collect(),
            transmitters: device.transmitters.into_iter().map(Transmitter::Tap).collect(),
            capabilities: device.capabilities,
            steering: Steering::ByWorker,
        }
    }
}

/// A share of an opened TAP. Its files stay open, and an interface that was created
/// here stays, as long as a share or a queue of it is left.
#[derive(Clone, Debug)]
pub struct Share {
    interface: String,
    queues: Vec<Arc<Queue>>,
    capabilities: Capabilities,
    /// Whether it was created here.
    pub origin: Origin,
}

impl Share {
    /// The device once more, on the same files, for another owner: nothing is closed
    /// or lost on the way. Each frame is received by one of the owners only, so the
    /// former one must no longer be served.
    #[must_use]
    pub fn reuse(&self) -> Opened {
        let receivers = self.queues.iter().map(TapReceiver::new);
        let transmitters =
            self.queues.iter().map(|queue| TapTransmitter { queue: Arc::clone(queue) });
        Opened {
            receivers: receivers.map(Receiver::Tap).collect(),
            transmitters: transmitters.map(Transmitter::Tap).collect(),
            capabilities: self.capabilities,
            steering: Steering::ByWorker,
        }
    }

    /// Whether the interface is still there, wherever it was moved. A receiver says so
    /// too, as long as it is served.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.queues.first().is_some_and(|queue| queue.is_attached())
    }

    /// The interface as it is now, whatever its name is; nothing if it is in another
    /// network namespace than this thread, or this process may not ask where.
    ///
    /// # Errors
    /// `EBADFD`: it is gone.
    pub fn describe(&self) -> io::Result<Option<Description>> {
        self.queues.first().map_or(Ok(None), |queue| queue.describe())
    }

    /// Sets the MTU in bytes of the interface, wherever it was moved; says what it
    /// was. An interface that was deleted has none to set, and had none.
    ///
    /// # Errors
    /// [`TapError::MtuNotPermitted`], [`TapError::MtuRefused`].
    pub fn set_mtu(&self, mtu: u32) -> Result<Option<u32>, TapError> {
        let Some(queue) = self.queues.first() else { return Ok(None) };
        let interface = || self.interface.clone();
        match queue.set_mtu(mtu) {
            Ok(former) => Ok(Some(former)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBADFD) => Ok(None),
                Some(libc::EPERM) => Err(TapError::MtuNotPermitted { interface: interface(), mtu }),
                _ => Err(TapError::MtuRefused { interface: interface(), mtu, source: error }),
            },
        }
    }
}

/// Frames that the guest at each TAP has sent and the kernel has dropped because its
/// queue was full, since the netdev is there; nothing where the kernel does not tell
/// (it was deleted, or moved to where this process may not look). System calls, and a
/// thread where a netdev is in another network namespace: not for workers.
#[must_use]
pub fn device_drops(taps: &[&Share]) -> Vec<Option<u64>> {
    let queues: Option<Vec<&Queue>> =
        taps.iter().map(|tap| tap.queues.first().map(|queue| &**queue)).collect();
    queues.map_or_else(|| vec![None; taps.len()], |queues| transmit_drops(&queues))
}

impl TapDevice {
    /// A share of it.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            interface: self.interface.clone(),
            queues: self.receivers.iter().map(|receiver| Arc::clone(&receiver.queue)).collect(),
            capabilities: self.capabilities,
            origin: self.origin,
        }
    }
}

/// Why a TAP could not be opened, or not be set. Each names the interface and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Not a name for an interface.
    #[error(
        "tap.interface `{interface}` is no interface name: give 1 to 15 printable ASCII characters without space, `/`, `:` and `%`"
    )]
    NameInvalid {
        /// As configured.
        interface: String,
    },
    /// A number of queues that no TAP has.
    #[error("tap `{interface}`: queues = {queues} is not in 1..={QUEUES_MAX}: correct it")]
    QueuesInvalid {
        /// As configured.
        interface: String,
        /// As configured.
        queues: usize,
    },
    /// The driver's file cannot be opened.
    #[error(
        "tap `{interface}`: cannot open /dev/net/tun: {source}; load the `tun` module, or give this process access to the file"
    )]
    NoDriver {
        /// As configured.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// This process, or the machine, has as many files open as it may.
    #[error(
        "tap `{interface}`: no file descriptor is left for it: {source}; raise the limit (`ulimit -n`, LimitNOFILE= of a service, or fs.file-max of the machine), or configure fewer ports or workers"
    )]
    NoDescriptor {
        /// As configured.
        interface: String,
        /// Whose limit it is.
        source: io::Error,
    },
    /// Neither privilege nor ownership.
    #[error(
        "tap `{interface}`: not permitted: run with CAP_NET_ADMIN, or create the interface for this user beforehand (`ip tuntap add dev {interface} mode tap multi_queue user USER`)"
    )]
    NotPermitted {
        /// As configured.
        interface: String,
    },
    /// Another program holds it.
    #[error(
        "tap `{interface}` is in use by another program: stop that (a VMM, or another switch), or choose another interface"
    )]
    Taken {
        /// As configured.
        interface: String,
    },
    /// There is such an interface, but no TAP.
    #[error(
        "interface `{interface}` is not a TAP: choose another name, or use device `packet` for it"
    )]
    NotATap {
        /// As configured.
        interface: String,
    },
    /// The interface's MTU is not ours to set.
    #[error(
        "mtu = {mtu} is not permitted at tap `{interface}`: run with CAP_NET_ADMIN, and with CAP_SYS_ADMIN where the interface was moved to another network namespace, or leave mtu as it is"
    )]
    MtuNotPermitted {
        /// As configured.
        interface: String,
        /// As configured.
        mtu: u32,
    },
    /// The interface does not take this MTU.
    #[error(
        "mtu = {mtu} is refused by tap `{interface}`: {source}; choose another, from 68 to 65521"
    )]
    MtuRefused {
        /// As configured.
        interface: String,
        /// As configured.
        mtu: u32,
        /// Why.
        source: io::Error,
    },
    /// The interface refused a setting.
    #[error("tap `{interface}`: cannot {step}: {source}; correct the configuration or the host")]
    Refused {
        /// As configured.
        interface: String,
        /// What was to be done.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Opens a TAP as [`Config`] says, in this thread's network namespace.
///
/// # Errors
/// [`TapError`]; nothing is left behind then.
pub fn open(config: &Config) -> Result<TapDevice, TapError> {
    let opening = Opening::new(config)?;
    let First { queue: first, origin, flags } = opening.first_queue()?;
    let mut queues = vec![first];
    let count = if flags & libc::IFF_MULTI_QUEUE == 0 { 1 } else { config.queues };
    for _ in 1..count {
        let queue = opening.queue()?;
        opening.attach(&queue, flags)?;
        queues.push(queue);
    }
    let capabilities = opening.configure(&queues[0], origin)?;
    let mtu = opening.step("read the MTU", opening.interfaces.mtu(opening.name))?;
    let queues: Vec<Arc<Queue>> = queues.into_iter().map(Arc::new).collect();
    Ok(TapDevice {
        interface: config.interface.clone(),
        receivers: queues.iter().map(TapReceiver::new).collect(),
        transmitters: queues.into_iter().map(|queue| TapTransmitter { queue }).collect(),
        capabilities,
        origin,
        mtu,
    })
}

/// Whether a file was not opened because there are too many.
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// The first queue of an interface, and how it and the others are attached.
struct First {
    queue: Queue,
    origin: Origin,
    flags: libc::c_int,
}

/// What the steps of opening need.
struct Opening<'c> {
    config: &'c Config,
    name: InterfaceName,
    interfaces: Interfaces,
}

impl Opening<'_> {
    fn new(config: &Config) -> Result<Opening<'_>, TapError> {
        let interface = || config.interface.clone();
        let name = InterfaceName::new(&config.interface)
            .ok_or_else(|| TapError::NameInvalid { interface: interface() })?;
        if !(1..=QUEUES_MAX).contains(&config.queues) {
            let queues = config.queues;
            return Err(TapError::QueuesInvalid { interface: interface(), queues });
        }
        let interfaces = Interfaces::open().map_err(|source| {
            if lacks_descriptors(&source) {
                return TapError::NoDescriptor { interface: interface(), source };
            }
            TapError::Refused { interface: interface(), step: "open a socket", source }
        })?;
        Ok(Opening { config, name, interfaces })
    }

    fn interface(&self) -> String {
        self.config.interface.clone()
    }

    fn step<T>(&self, step: &'static str, result: io::Result<T>) -> Result<T, TapError> {
        result.map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM) => TapError::NotPermitted { interface: self.interface() },
            _ => TapError::Refused { interface: self.interface(), step, source },
        })
    }

    fn queue(&self) -> Result<Queue, TapError> {
        let interface = || self.interface();
        Queue::open().map_err(|source| {
            if lacks_descriptors(&source) {
                return TapError::NoDescriptor { interface: interface(), source };
            }
            TapError::NoDriver { interface: interface(), source }
        })
    }

    /// The first queue: creates the interface, or attaches to the one that is there.
    fn first_queue(&self) -> Result<First, TapError> {
        let plain = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let flags = match self.config.queues {
            1 => plain,
            _ => plain | libc::IFF_MULTI_QUEUE,
        };
        let queue = self.queue()?;
        match queue.attach(self.name, flags | libc::IFF_TUN_EXCL) {
            Ok(()) => return Ok(First { queue, origin: Origin::Created, flags }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return self.step("create the interface", Err(error)),
        }
        let flags = match queue.attach(self.name, flags) {
            Ok(()) => flags,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.attach_other_kind(&queue, flags)?
            }
            Err(error) => return Err(self.attach_error(error)),
        };
        self.check_alone()?;
        Ok(First { queue, origin: Origin::Existing, flags })
    }

    /// The interface is no TAP, or one with `multi_queue` the other way round: one
    /// queue will do, be it the only one or one of many. Says by which flags.
    fn attach_other_kind(
        &self,
        queue: &Queue,
        refused: libc::c_int,
    ) -> Result<libc::c_int, TapError> {
        if self.interfaces.driver(self.name).ok() != Some(Driver::Tap) {
            return Err(TapError::NotATap { interface: self.interface() });
        }
        let flags = refused ^ libc::IFF_MULTI_QUEUE;
        self.attach(queue, flags)?;
        Ok(flags)
    }

    /// The kernel lets any number of programs share a multiqueue TAP.
    fn check_alone(&self) -> Result<(), TapError> {
        match self.interfaces.attached_queues(self.name) {
            Ok(2..) => Err(TapError::Taken { interface: self.interface() }),
            // Kernels that do not say refuse a second program on single-queue TAPs.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn attach(&self, queue: &Queue, flags: libc::c_int) -> Result<(), TapError> {
        queue.attach(self.name, flags).map_err(|error| self.attach_error(error))
    }

    fn attach_error(&self, source: io::Error) -> TapError {
        let interface = self.interface();
        match source.raw_os_error() {
            Some(libc::EBUSY) => TapError::Taken { interface },
            Some(libc::EPERM) => TapError::NotPermitted { interface },
            _ => TapError::Refused { interface, step: "attach to the interface", source },
        }
    }

    /// Header and offloads; MTU and state too where the interface is ours.
    fn configure(&self, queue: &Queue, origin: Origin) -> Result<Capabilities, TapError> {
        let header_bytes = HEADER_BYTES as libc::c_int;
        self.step("set the header's size", queue.set_header_bytes(header_bytes))?;
        let udp = match queue.set_offloads(OFFLOADS | OFFLOADS_UDP) {
            Ok(()) => Support::Taken,
            Err(_) => {
                self.step("turn offloads on", queue.set_offloads(OFFLOADS))?;
                Support::Lacking
            }
        };
        if origin == Origin::Created {
            if let Some(mtu) = self.config.mtu {
                self.step("set the MTU", self.interfaces.set_mtu(self.name, mtu))?;
            }
            self.step("bring it up", self.interfaces.bring_up(self.name))?;
        }
        Ok(Capabilities { udp, ..Capabilities::ALL })
    }
}

/// What the guest's netdev sends.
#[derive(Debug)]
pub struct TapReceiver {
    queue: Arc<Queue>,
    hint: RegionHint,
    failures: Failures,
}

/// What became of one read.
enum Read {
    Frame { bytes: usize },
    Nothing,
    Failed,
    Gone,
}

impl TapReceiver {
    fn new(queue: &Arc<Queue>) -> TapReceiver {
        TapReceiver {
            queue: Arc::clone(queue),
            hint: RegionHint::default(),
            failures: Failures::default(),
        }
    }

    /// See [`Receiver::receive`]. Frames lie one behind the other in the arena.
    pub fn receive(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        batch.begin(&arena.memory);
        let mut start = 0;
        while batch.room() == Room::More && start + READ_BYTES <= arena.bytes {
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
                Read::Gone if start > 0 => return Received::Drained,
                Read::Gone => return Received::Lost,
            }
        }
        Received::More
    }

    /// Reads one frame to `start` in the arena.
    #[inline]
    fn read(&mut self, arena: &Arena, batch: &mut Batch, start: usize) -> Read {
        let mut header = [0; HEADER_BYTES];
        let address = start as u64;
        let Some(place) = arena.memory.place(&mut self.hint, address, READ_BYTES as u32) else {
            return Read::Nothing;
        };
        let bytes = match self.queue.read_frame(&mut header, place) {
            Ok(bytes) => bytes.saturating_sub(HEADER_BYTES),
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(Errno::BADFD) => return Read::Gone,
            Err(_) => return Read::Failed,
        };
        match virtio_net::decode(&header) {
            _ if bytes > FRAME_BYTES_MAX => batch.reject(DropReason::Giant),
            Ok(offload) => batch.push(&mut self.hint, &[(address, bytes as u32)], offload),
            Err(_) => batch.reject(DropReason::OffloadInvalid),
        }
        Read::Frame { bytes: bytes.max(1) }
    }

    /// See [`Receiver::release`].
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
    }

    /// See [`Receiver::arm`]: the file is readable as long as frames wait, so
    /// waiting for it (level-triggered) is looking again.
    pub fn arm(&mut self) -> Armed {
        Armed::Asleep
    }

    /// See [`Receiver::disarm`].
    pub fn disarm(&mut self) {}

    /// See [`Receiver::wake_fd`].
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// What the guest's netdev is sent.
#[derive(Debug)]
pub struct TapTransmitter {
    queue: Arc<Queue>,
}

impl TapTransmitter {
    /// See [`Transmitter::transmit`]. The one copy is the kernel's.
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
            departure.fate = self.write(departure);
        }
    }

    #[inline]
    fn write(&self, departure: &Departure<'_>) -> Result<(), DropReason> {
        let offload = virtio_net::encode(&departure.offload, departure.header, 0);
        match self.queue.write_frame(&offload, departure.header, departure.body) {
            Ok(()) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(DropReason::RxRingFull),
            Err(Errno::FAULT) => Err(departure.blame_sender()),
            Err(_) => Err(DropReason::DeviceError),
        }
    }

    /// See [`Transmitter::room`]: the kernel does not tell.
    #[must_use]
    pub fn room(&mut self, wanted: usize, _: usize) -> usize {
        wanted
    }

    /// See [`Transmitter::ring`]: writing is the doorbell.
    pub fn ring(&mut self) -> Rung {
        Rung::Heard
    }
}

#[cfg(test)]
mod tests {
    use super::super::failures::FAILURES_MAX;
    use super::super::testing::{depart, depart_cut_short, ethernet, frames};
    use super::*;
    use crate::sys::netns::{in_further_network, in_own_network, ip};
    use crate::sys::packet_socket::{Format, PacketSocket};
    use crate::wire::offload::{Checksum, Ecn, Offload, Segmentation};
    use rustix::event::{PollFd, PollFlags, Timespec};
    use std::path::Path;

    fn config(interface: &str, queues: usize) -> Config {
        Config { interface: interface.to_owned(), queues, mtu: None }
    }

    fn tap(interface: &str) -> TapDevice {
        open(&config(interface, 1)).unwrap()
    }

    fn exists(interface: &str) -> bool {
        let name = InterfaceName::new(interface).unwrap();
        Interfaces::open().unwrap().mtu(name).is_ok()
    }

    /// Nothing is left of it. A process that another test starts holds the file until
    /// its exec.
    fn assert_gone(interface: &str) {
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while exists(interface) {
            assert!(std::time::Instant::now() < patience, "{interface} is still there");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn bridge(ports: &[&str]) {
        ip("link add br0 type bridge");
        ip("link set br0 up");
        for port in ports {
            ip(&format!("link set {port} master br0"));
            ip(&format!("link set {port} up"));
        }
    }

    fn transmit(device: &mut TapDevice, frame: &[u8], offload: Offload) -> Result<(), DropReason> {
        let transmitter = &mut device.transmitters[0];
        depart(&[frame.to_vec()], offload, |departures| transmitter.transmit(departures))[0]
    }

    /// Waits for frames of the tests' stations (the kernel sends some of its own) on
    /// any queue, then receives from all of them.
    fn receive(device: &mut TapDevice) -> Vec<(Vec<u8>, Offload)> {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let mut all = Vec::new();
        while all.is_empty() {
            let fds = device.receivers.iter().map(TapReceiver::wake_fd);
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

    fn receive_once(device: &mut TapDevice) -> (Received, usize) {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let received = device.receivers[0].receive(&mut arena, &mut batch);
        (received, batch.count())
    }

    #[test]
    fn frames_cross_a_kernel_bridge_unchanged() {
        in_own_network(|| {
            let (mut a, mut b) = (tap("a0"), tap("b0"));
            bridge(&["a0", "b0"]);
            for length in [60, 127, 128, 129, 1000, 1514] {
                let frame = ethernet(0xb, 0xa, length);
                assert_eq!(transmit(&mut a, &frame, Offload::NONE), Ok(()));
                assert_eq!(receive(&mut b), [(frame, Offload::NONE)]);
            }
        });
    }

    #[test]
    fn memory_that_was_cut_short_is_its_sender_s_fault() {
        in_own_network(|| {
            let (mut a, mut b) = (tap("a0"), tap("b0"));
            bridge(&["a0", "b0"]);
            let frame = ethernet(0xb, 0xa, 1000);
            let cut = depart_cut_short(&frame, |departures| a.transmitters[0].transmit(departures));
            assert_eq!(cut, (Err(DropReason::SenderFault), true));
            assert_eq!(transmit(&mut a, &frame, Offload::NONE), Ok(()));
            assert_eq!(receive(&mut b), [(frame, Offload::NONE)]);
        });
    }

    #[test]
    fn a_burst_is_packed_into_the_arena_in_order() {
        in_own_network(|| {
            let (mut a, mut b) = (tap("a0"), tap("b0"));
            bridge(&["a0", "b0"]);
            let sent: Vec<_> = (0..100).map(|n| ethernet(0xb, 0xa, 60 + n)).collect();
            for burst in sent.chunks(50) {
                let fates = depart(burst, Offload::NONE, |departures| {
                    a.transmitters[0].transmit(departures);
                });
                assert!(fates.iter().all(Result::is_ok), "{fates:?}");
            }
            let mut received = Vec::new();
            while received.len() < sent.len() {
                received.extend(receive(&mut b).into_iter().map(|(frame, _)| frame));
            }
            assert!(received == sent, "in order and unchanged");
        });
    }

    /// A TSO frame with `payload` bytes behind Ethernet, IPv4 and TCP headers.
    fn tso(payload: usize) -> (Vec<u8>, Offload) {
        let mut frame = ethernet(0xb, 0xa, 14 + 20 + 20 + payload);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let length = ((40 + payload) as u16).to_be_bytes();
        let mut header =
            [0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum: u32 =
            header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let folded = !(((sum & 0xffff) + (sum >> 16)) as u16);
        header[10..12].copy_from_slice(&folded.to_be_bytes());
        frame[14..34].copy_from_slice(&header);
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
    fn a_tso_frame_crosses_in_one_piece() {
        in_own_network(|| {
            let (mut a, mut b) = (tap("a0"), tap("b0"));
            bridge(&["a0", "b0"]);
            for payload in [2000, 14_480, 65_481] {
                let (frame, offload) = tso(payload);
                assert_eq!(transmit(&mut a, &frame, offload), Ok(()));
                let got = receive(&mut b);
                assert_eq!(got.len(), 1);
                assert_eq!(got[0].1, offload);
                assert!(got[0].0 == frame, "payload {payload}");
            }
        });
    }

    #[test]
    fn a_created_interface_is_up_and_goes_with_the_device() {
        in_own_network(|| {
            let device = open(&Config { mtu: Some(9000), ..config("a0", 1) }).unwrap();
            assert_eq!((device.origin, device.mtu), (Origin::Created, 9000));
            let flags = std::process::Command::new("ip").args(["link", "show", "a0"]).output();
            let flags = String::from_utf8(flags.unwrap().stdout).unwrap();
            assert!(flags.contains(",UP") && flags.contains("mtu 9000"), "{flags}");
            drop(device);
            assert_gone("a0");
        });
    }

    #[test]
    fn an_existing_interface_is_attached_and_stays() {
        in_own_network(|| {
            ip("tuntap add dev one mode tap");
            ip("tuntap add dev many mode tap multi_queue");
            ip("link set one mtu 1400");
            let one = open(&Config { mtu: Some(9000), ..config("one", 1) }).unwrap();
            assert_eq!((one.origin, one.mtu), (Origin::Existing, 1400));
            let single = tap("many");
            assert_eq!(single.origin, Origin::Existing);
            drop((one, single));
            let fewer = open(&config("one", 3)).unwrap();
            let queues = (fewer.receivers.len(), fewer.transmitters.len());
            assert_eq!((fewer.origin, queues), (Origin::Existing, (1, 1)));
            drop(fewer);
            let many = open(&config("many", 3)).unwrap();
            assert_eq!((many.origin, many.receivers.len()), (Origin::Existing, 3));
            drop(many);
            assert!(exists("one") && exists("many"));
        });
    }

    #[test]
    fn a_share_serves_the_same_files_under_another_owner() {
        in_own_network(|| {
            let (a, mut b) = (tap("a0"), tap("b0"));
            bridge(&["a0", "b0"]);
            let share = a.share();
            let mut again = share.reuse();
            let waiting = ethernet(0xa, 0xb, 100);
            assert_eq!(transmit(&mut b, &waiting, Offload::NONE), Ok(()));
            drop(a);
            assert!(exists("a0"), "a share holds it");
            let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
            let mut received = Vec::new();
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !received.contains(&waiting) {
                assert!(std::time::Instant::now() < patience, "nothing came");
                again.receivers[0].receive(&mut arena, &mut batch);
                received.extend(frames(&batch));
                again.receivers[0].release(&mut batch);
            }
            let back = ethernet(0xb, 0xa, 200);
            let sent = std::slice::from_ref(&back);
            let transmitter = &mut again.transmitters[0];
            depart(sent, Offload::NONE, |departures| transmitter.transmit(departures));
            assert_eq!(receive(&mut b), [(back, Offload::NONE)]);
            drop((again, share));
            assert_gone("a0");
        });
    }

    #[test]
    fn an_mtu_is_set_wherever_the_interface_is() {
        in_own_network(|| {
            let device = tap("a0");
            let share = device.share();
            let shown = |namespace: &str| {
                let words = ["-n", namespace, "link", "show", "inside"];
                let output = std::process::Command::new("ip").args(words).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            assert_eq!(share.set_mtu(9000).unwrap(), Some(1500));
            assert_eq!(share.set_mtu(2000).unwrap(), Some(9000));
            let refused = share.set_mtu(10).unwrap_err();
            assert!(matches!(&refused, TapError::MtuRefused { mtu: 10, .. }), "{refused}");
            assert!(refused.to_string().contains("`a0`"), "{refused}");
            let elsewhere = format!("hairpin-mtu-{}", std::process::id());
            ip(&format!("netns add {elsewhere}"));
            ip(&format!("link set a0 netns {elsewhere} name inside"));
            // Another one of the old name is none of its business.
            ip("link add a0 type bridge");
            let set = share.set_mtu(3000);
            let shown = shown(&elsewhere);
            ip(&format!("-n {elsewhere} link del inside"));
            let gone = share.set_mtu(4000);
            ip(&format!("netns del {elsewhere}"));
            assert_eq!(set.unwrap(), Some(2000));
            assert!(shown.contains("mtu 3000"), "{shown}");
            assert_eq!(gone.unwrap(), None);
            let others = Interfaces::open().unwrap().mtu(InterfaceName::new("a0").unwrap());
            assert_eq!(others.unwrap(), 1500);
        });
    }

    /// Sends so many frames from the netdev, for the file side to read.
    fn send_from(interface: &str, count: usize) {
        let socket = PacketSocket::open(interface, Format::Ethernet).unwrap();
        let frame = ethernet(0xb, 0xa, 60);
        (0..count).for_each(|_| socket.send(&frame).unwrap());
    }

    #[test]
    fn what_a_full_queue_loses_is_told_wherever_the_interface_is() {
        in_own_network(|| {
            let (here, there, gone) = (tap("a0"), tap("b0"), tap("c0"));
            let shares = [&here, &there, &gone].map(TapDevice::share);
            let drops = || device_drops(&[&shares[0], &shares[1], &shares[2]]);
            assert_eq!(drops(), [Some(0); 3]);
            let elsewhere = format!("hairpin-drops-{}", std::process::id());
            ip(&format!("netns add {elsewhere}"));
            send_from("a0", 3000);
            send_from("b0", 3007);
            ip(&format!("link set b0 netns {elsewhere} name a0"));
            ip("link del c0");
            let lost = drops();
            ip(&format!("netns del {elsewhere}"));
            let [Some(first), Some(second), None] = lost[..] else { panic!("{lost:?}") };
            assert!(first > 0 && second == first + 7, "{lost:?}");
        });
    }

    #[test]
    fn every_error_of_opening_names_interface_and_remedy() {
        in_own_network(|| {
            ip("link add br0 type bridge");
            ip("tuntap add dev one mode tap");
            ip("tuntap add dev tun mode tun");
            let failed = |interface: &str, queues| {
                let error = open(&config(interface, queues)).unwrap_err();
                assert!(error.to_string().contains(&format!("`{interface}`")), "{error}");
                error
            };
            assert!(matches!(failed("a/b", 1), TapError::NameInvalid { .. }));
            assert!(matches!(failed("a0", 0), TapError::QueuesInvalid { .. }));
            assert!(matches!(failed("a0", 257), TapError::QueuesInvalid { .. }));
            assert!(matches!(failed("br0", 1), TapError::NotATap { .. }));
            assert!(matches!(failed("tun", 1), TapError::NotATap { .. }));
            let _held = (tap("one"), tap("a0"), open(&config("many", 2)).unwrap());
            assert!(matches!(failed("one", 1), TapError::Taken { .. }));
            assert!(matches!(failed("a0", 1), TapError::Taken { .. }));
            assert!(matches!(failed("many", 1), TapError::Taken { .. }));
            assert!(matches!(failed("many", 2), TapError::Taken { .. }));
            let refused = open(&Config { mtu: Some(10), ..config("c0", 1) }).unwrap_err();
            assert!(matches!(refused, TapError::Refused { step: "set the MTU", .. }));
            assert_gone("c0");
        });
    }

    #[test]
    fn without_privilege_opening_is_refused_with_the_remedy() {
        in_own_network(|| {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            ip("tuntap add dev one mode tap");
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::NET_ADMIN);
            set_capabilities(None, sets).unwrap();
            let error = open(&config("a0", 1)).unwrap_err();
            assert!(matches!(&error, TapError::NotPermitted { .. }), "{error}");
            assert!(error.to_string().contains("`a0`"), "{error}");
            // An interface that was made beforehand needs no privilege.
            assert_eq!(tap("one").origin, Origin::Existing);
        });
    }

    #[test]
    fn a_deleted_interface_is_lost_and_one_that_is_down_is_not() {
        in_own_network(|| {
            let mut device = tap("a0");
            let frame = ethernet(0xb, 0xa, 60);
            ip("link set a0 down");
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Err(DropReason::DeviceError));
            assert_eq!(receive_once(&mut device), (Received::Drained, 0));
            ip("link set a0 up");
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Ok(()));
            ip("link del a0");
            let mut fds = [PollFd::from_borrowed_fd(device.receivers[0].wake_fd(), PollFlags::IN)];
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "the loss wakes");
            assert_eq!(receive_once(&mut device), (Received::Lost, 0));
            assert_eq!(transmit(&mut device, &frame, Offload::NONE), Err(DropReason::DeviceError));
            assert_eq!(open(&config("a0", 1)).unwrap().origin, Origin::Created);
        });
    }

    /// Says what became of receiving, the frames, and for what reasons others are none.
    fn receive_any(device: &mut TapDevice) -> (Received, Vec<Vec<u8>>, Vec<DropReason>) {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let received = device.receivers[0].receive(&mut arena, &mut batch);
        (received, frames(&batch), batch.rejected().to_vec())
    }

    /// Has the kernel put so long a header before each frame that it fits nowhere:
    /// every read fails, and costs the frame that it was for.
    fn refuse_reads(device: &TapDevice) {
        device.receivers[0].queue.set_header_bytes(1 << 20).unwrap();
    }

    fn allow_reads(device: &TapDevice) {
        device.receivers[0].queue.set_header_bytes(HEADER_BYTES as libc::c_int).unwrap();
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_counted_and_those_behind_it_come() {
        in_own_network(|| {
            let mut device = tap("a0");
            let netdev = PacketSocket::open("a0", Format::Ethernet).unwrap();
            let sent = ethernet(0xb, 0xa, 100);
            // More than would make it give up if none came between.
            for _ in 0..FAILURES_MAX {
                refuse_reads(&device);
                netdev.send(&sent).unwrap();
                netdev.send(&sent).unwrap();
                let failed = (Received::Drained, vec![], vec![DropReason::ReadError]);
                assert_eq!(receive_any(&mut device), failed);
                assert_eq!(receive_any(&mut device), failed);
                allow_reads(&device);
                netdev.send(&sent).unwrap();
                let arrived = (Received::Drained, vec![sent.clone()], vec![]);
                assert_eq!(receive_any(&mut device), arrived);
            }
        });
    }

    #[test]
    fn a_queue_of_which_every_read_fails_is_given_up() {
        in_own_network(|| {
            let mut device = tap("a0");
            let netdev = PacketSocket::open("a0", Format::Ethernet).unwrap();
            refuse_reads(&device);
            for round in 0..2 {
                (0..FAILURES_MAX).for_each(|_| netdev.send(&ethernet(0xb, 0xa, 100)).unwrap());
                for failures in 1..=FAILURES_MAX {
                    let (received, frames, rejected) = receive_any(&mut device);
                    let last = failures == FAILURES_MAX;
                    let expected = if last { Received::Failing } else { Received::Drained };
                    assert_eq!(received, expected, "after {failures} in round {round}");
                    assert_eq!((frames, rejected), (vec![], vec![DropReason::ReadError]));
                }
            }
            assert_eq!(receive_any(&mut device), (Received::Drained, vec![], vec![]));
        });
    }

    #[test]
    fn every_queue_receives_and_transmits() {
        in_own_network(|| {
            let mut many = open(&config("a0", 4)).unwrap();
            let mut b = tap("b0");
            bridge(&["a0", "b0"]);
            for queue in 0..4 {
                let frame = ethernet(0xb, 0xa, 60 + queue);
                let transmitter = &mut many.transmitters[queue];
                let fates = depart(std::slice::from_ref(&frame), Offload::NONE, |departures| {
                    transmitter.transmit(departures);
                });
                assert_eq!(fates, [Ok(())]);
                assert_eq!(receive(&mut b), [(frame, Offload::NONE)]);
            }
            for source in 32..64 {
                let frame = ethernet(0xa, source, 100);
                assert_eq!(transmit(&mut b, &frame, Offload::NONE), Ok(()));
                assert_eq!(receive(&mut many), [(frame, Offload::NONE)]);
            }
        });
    }

    #[test]
    fn the_netdev_may_move_to_another_namespace() {
        in_own_network(|| {
            let (mut a, mut b) = (tap("a0"), tap("b0"));
            let (say, hear) = std::sync::mpsc::channel();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let elsewhere = std::thread::spawn(move || {
                in_further_network(move || {
                    let thread = rustix::thread::gettid();
                    let task = format!("/proc/self/task/{}/ns/net", thread.as_raw_nonzero());
                    say.send(
                        std::fs::canonicalize(Path::new("/proc/self"))
                            .unwrap()
                            .join(Path::new(&task).strip_prefix("/proc/self").unwrap()),
                    )
                    .unwrap();
                    // Until both interfaces are here.
                    wait.recv().unwrap();
                    bridge(&["a0", "b0"]);
                    say.send(Path::new("ready").to_owned()).unwrap();
                    wait.recv().unwrap();
                });
            });
            let namespace = hear.recv().unwrap();
            for interface in ["a0", "b0"] {
                ip(&format!("link set {interface} netns {}", namespace.display()));
            }
            assert!(!exists("a0"));
            done.send(()).unwrap();
            hear.recv().unwrap();
            let frame = ethernet(0xb, 0xa, 400);
            assert_eq!(transmit(&mut a, &frame, Offload::NONE), Ok(()));
            assert_eq!(receive(&mut b), [(frame, Offload::NONE)]);
            done.send(()).unwrap();
            elsewhere.join().unwrap();
        });
    }
}
