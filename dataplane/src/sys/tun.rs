//! The kernel's TUN/TAP driver (`linux/if_tun.h`): attaching to an interface,
//! and its frames. What it means is [`crate::port::tap`]'s.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::memory::{Body, Place};
use super::netdev::{self, Description};
pub use dropped::transmit_drops;

mod dropped;

/// Bytes of the virtio-net header in front of each frame (`struct virtio_net_hdr_v1`).
pub const HEADER_BYTES: usize = 12;
/// Pieces a frame's body may lie in.
pub const BODY_PIECES_MAX: usize = 256;
/// Bytes of an interface's name, with the zero behind it.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// `struct ifreq` (`linux/if.h`): a name and a union of 24 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Request {
    name: [u8; NAME_BYTES],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

/// The name of a network interface: 1 to 15 bytes that the kernel accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceName([u8; NAME_BYTES]);

impl InterfaceName {
    /// The name, if an interface can have it.
    #[must_use]
    pub fn new(name: &str) -> Option<InterfaceName> {
        let sound = !name.is_empty()
            && name.len() < NAME_BYTES
            && name != "."
            && name != ".."
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        sound.then_some(InterfaceName(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn request(self, value: &[u8]) -> Request {
        let mut request = Request { name: self.0, value: [0; 24] };
        request.value[..value.len()].copy_from_slice(value);
        request
    }
}

/// The file side of one queue of a TAP.
#[derive(Debug)]
pub struct Queue(OwnedFd);

impl Queue {
    /// A file that is attached to no interface yet; reads and writes do not block.
    ///
    /// # Errors
    /// Those of open(2) on `/dev/net/tun`.
    pub fn open() -> io::Result<Queue> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Queue(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?))
    }

    /// Attaches it to the interface, which is created if there is none
    /// (`TUNSETIFF`), with `IFF_*` flags.
    ///
    /// # Errors
    /// `EBUSY`: taken, or there already and `IFF_TUN_EXCL` given; `EINVAL`: no
    /// TAP, or with another number of queues; `EPERM`: not ours to open.
    pub fn attach(&self, name: InterfaceName, flags: libc::c_int) -> io::Result<()> {
        let mut request = name.request(&(flags as u16).to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        check(unsafe { libc::ioctl(self.raw(), libc::TUNSETIFF as _, &raw mut request) })
    }

    /// The length of the header in front of each frame (`TUNSETVNETHDRSZ`).
    ///
    /// # Errors
    /// Those of the request.
    pub fn set_header_bytes(&self, bytes: libc::c_int) -> io::Result<()> {
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        check(unsafe { libc::ioctl(self.raw(), libc::TUNSETVNETHDRSZ as _, &raw const bytes) })
    }

    /// The offloads that whoever reads here understands (`TUNSETOFFLOAD`), `TUN_F_*`.
    ///
    /// # Errors
    /// `EINVAL` where the kernel does not know one of them.
    pub fn set_offloads(&self, offloads: libc::c_uint) -> io::Result<()> {
        let offloads = libc::c_ulong::from(offloads);
        // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
        check(unsafe { libc::ioctl(self.raw(), libc::TUNSETOFFLOAD as _, offloads) })
    }

    /// Reads one frame, its virtio-net header apart; says how many bytes both
    /// have together. A frame longer than `place` is cut.
    ///
    /// # Errors
    /// `EAGAIN`: none waits; `EBADFD`: the interface is gone.
    #[inline]
    pub fn read_frame(
        &self,
        header: &mut [u8; HEADER_BYTES],
        place: Place<'_>,
    ) -> rustix::io::Result<usize> {
        let parts = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER_BYTES },
            libc::iovec { iov_base: place.as_ptr().cast(), iov_len: place.length() },
        ];
        // SAFETY: both parts are valid for writes of their lengths: an exclusive
        // reference, and a place whose memory is borrowed and written by value only.
        let count = unsafe { libc::readv(self.raw(), parts.as_ptr(), 2) };
        usize::try_from(count).map_err(|_| last_error())
    }

    /// Writes one frame: virtio-net header, first bytes, body. The kernel takes
    /// all of it or nothing.
    ///
    /// # Errors
    /// `EIO`: the interface is down; `EBADFD`: it is gone; `EINVAL`: the kernel
    /// does not accept the frame or its header.
    #[inline]
    pub fn write_frame(
        &self,
        offload: &[u8; HEADER_BYTES],
        header: &[u8],
        body: Body<'_>,
    ) -> rustix::io::Result<()> {
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BODY_PIECES_MAX + 2];
        parts[0].write(readable(offload));
        parts[1].write(readable(header));
        let mut count = 2;
        for piece in body.places() {
            let part = parts.get_mut(count).ok_or(rustix::io::Errno::INVAL)?;
            let base = piece.as_ptr().cast();
            part.write(libc::iovec { iov_base: base, iov_len: piece.length() });
            count += 1;
        }
        // SAFETY: the first `count` parts are filled in. Two point to slices that are
        // borrowed here, the others to places whose memory the body keeps mapped; the
        // kernel only reads them, by value, as racing writers require.
        let written = unsafe { libc::writev(self.raw(), parts.as_ptr().cast(), count as i32) };
        usize::try_from(written).map(|_| ()).map_err(|_| last_error())
    }

    /// Sets the MTU in bytes of the interface it is attached to, by whatever name and
    /// in whichever network namespace that is now; says what it was.
    ///
    /// # Errors
    /// `EBADFD`: the interface is gone; `EINVAL`: outside what it can; `EPERM`: not
    /// ours to set, or its namespace not ours to enter.
    pub fn set_mtu(&self, mtu: u32) -> io::Result<u32> {
        let name = self.interface()?;
        let namespace = self.namespace()?;
        let set = || {
            let interfaces = Interfaces::open()?;
            let former = interfaces.mtu(name)?;
            interfaces.set_mtu(name, mtu)?;
            Ok(former)
        };
        if is_here(&namespace)? {
            return set();
        }
        // A thread enters the other namespace and ends there: nobody else's changes.
        std::thread::scope(|scope| {
            let elsewhere = || {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network)?;
                set()
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, elsewhere)?;
            let panicked = |_| Err(io::Error::other("setting it failed in another namespace"));
            thread.join().unwrap_or_else(panicked)
        })
    }

    /// The interface it is attached to as it is now, whatever its name is; nothing if it is
    /// in another network namespace than this thread, or this process may not ask where.
    ///
    /// # Errors
    /// `EBADFD`: the interface is gone.
    pub fn describe(&self) -> io::Result<Option<Description>> {
        let name = self.interface()?;
        let namespace = match self.namespace() {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(None),
            namespace => namespace?,
        };
        if !is_here(&namespace)? {
            return Ok(None);
        }
        match netdev::describe(name) {
            // It went away just now: it is elsewhere, or the next question tells.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Whether the interface is still there, in whichever network namespace.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.interface().is_ok()
    }

    /// The name its interface has now (`TUNGETIFF`).
    fn interface(&self) -> io::Result<InterfaceName> {
        let mut request = Request { name: [0; NAME_BYTES], value: [0; 24] };
        // SAFETY: TUNGETIFF writes one ifreq.
        check(unsafe { libc::ioctl(self.raw(), libc::TUNGETIFF as _, &raw mut request) })?;
        Ok(InterfaceName(request.name))
    }

    /// The network namespace its interface is in now (`TUNGETDEVNETNS`).
    fn namespace(&self) -> io::Result<OwnedFd> {
        // SAFETY: TUNGETDEVNETNS takes no argument.
        let descriptor = unsafe { libc::ioctl(self.raw(), libc::TUNGETDEVNETNS as _) };
        check(descriptor)?;
        // SAFETY: the kernel has just opened this descriptor, for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    fn raw(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

/// Whether this is the network namespace that this thread is in.
fn is_here(namespace: &OwnedFd) -> io::Result<bool> {
    let there = rustix::fs::fstat(namespace)?;
    let here = rustix::fs::stat("/proc/thread-self/ns/net")?;
    Ok((there.st_dev, there.st_ino) == (here.st_dev, here.st_ino))
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn readable(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn last_error() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

/// What a netdev's driver says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// The TUN/TAP driver, in TAP mode.
    Tap,
    /// Another, or the TUN/TAP driver in TUN mode.
    Other,
}

/// Queues that a netdev's driver uses, as `ethtool -L` sets them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channels {
    /// Queues that only receive.
    pub receive: u32,
    /// Pairs of a queue that receives and one that sends.
    pub combined: u32,
}

impl Channels {
    /// Receive queues of either kind.
    #[must_use]
    pub fn receive_queues(self) -> u32 {
        self.receive.saturating_add(self.combined)
    }

    /// The words of `ethtool -L` by which there would be so many receive queues.
    #[must_use]
    pub fn words(self, receive_queues: u32) -> String {
        match self.combined {
            0 => format!("rx {receive_queues}"),
            _ => format!("combined {}", receive_queues.saturating_sub(self.receive)),
        }
    }
}

/// A socket by which interfaces are asked and set, in the network namespace it
/// was opened in.
#[derive(Debug)]
pub struct Interfaces(OwnedFd);

impl Interfaces {
    /// Opens the socket.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Interfaces> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        Ok(Interfaces(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?))
    }

    /// The name of the interface of that index.
    ///
    /// # Errors
    /// `ENODEV`: there is none.
    pub fn name(&self, index: u32) -> io::Result<String> {
        Ok(rustix::net::netdevice::index_to_name(&self.0, index)?)
    }

    /// The interface's MTU in bytes.
    ///
    /// # Errors
    /// `ENODEV`: there is none of this name.
    pub fn mtu(&self, name: InterfaceName) -> io::Result<u32> {
        let [a, b, c, d, ..] = self.ask(libc::SIOCGIFMTU, name.request(&[]))?.value;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// `EINVAL`: outside what the interface can; `ENODEV`, `EPERM`.
    pub fn set_mtu(&self, name: InterfaceName, mtu: u32) -> io::Result<()> {
        self.ask(libc::SIOCSIFMTU, name.request(&mtu.to_ne_bytes())).map(|_| ())
    }

    /// Brings the interface up.
    ///
    /// # Errors
    /// `ENODEV`, `EPERM`.
    pub fn bring_up(&self, name: InterfaceName) -> io::Result<()> {
        let [low, high, ..] = self.ask(libc::SIOCGIFFLAGS, name.request(&[]))?.value;
        let flags = u16::from_ne_bytes([low, high]) | libc::IFF_UP as u16;
        self.ask(libc::SIOCSIFFLAGS, name.request(&flags.to_ne_bytes())).map(|_| ())
    }

    /// What kind of interface it is (`ETHTOOL_GDRVINFO`).
    ///
    /// # Errors
    /// `ENODEV`: there is none of this name. `EOPNOTSUPP`: it does not say.
    pub fn driver(&self, name: InterfaceName) -> io::Result<Driver> {
        let mut info = [0_u32; DRIVER_INFO_BYTES / 4];
        info[0] = ETHTOOL_GDRVINFO;
        self.ethtool(name, &mut info)?;
        let text = |at: usize| info[at / 4].to_ne_bytes();
        // The texts `tun` and `tap` with the zero behind them are four bytes each.
        let is_tap = text(DRIVER_AT) == *b"tun\0" && text(BUS_AT) == *b"tap\0";
        Ok(if is_tap { Driver::Tap } else { Driver::Other })
    }

    /// How many files are attached to a TAP (`ETHTOOL_GCHANNELS`).
    ///
    /// # Errors
    /// `ENODEV`: there is none of this name. `EOPNOTSUPP`: it does not say.
    pub fn attached_queues(&self, name: InterfaceName) -> io::Result<u32> {
        Ok(self.channels(name)?.combined)
    }

    /// The queues that its driver uses (`ETHTOOL_GCHANNELS`).
    ///
    /// # Errors
    /// `ENODEV`: there is none of this name. `EOPNOTSUPP`: it does not say.
    pub fn channels(&self, name: InterfaceName) -> io::Result<Channels> {
        let mut channels = [0_u32; 9];
        channels[0] = ETHTOOL_GCHANNELS;
        self.ethtool(name, &mut channels)?;
        // The most of each kind comes before what there is.
        let [_, _, _, _, _, receive, _, _, combined] = channels;
        Ok(Channels { receive, combined })
    }

    fn ask(&self, request: libc::c_ulong, mut about: Request) -> io::Result<Request> {
        // SAFETY: the SIOC*IF* requests used here read and write one ifreq, SIOCETHTOOL
        // also the structure it points to, which `ethtool` borrows exclusively.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, &raw mut about) })?;
        Ok(about)
    }

    /// An ethtool request; `words` are the whole structure that its command, the
    /// first of them, reads and writes.
    pub(super) fn ethtool(&self, name: InterfaceName, words: &mut [u32]) -> io::Result<()> {
        let pointer = words.as_mut_ptr().expose_provenance().to_ne_bytes();
        self.ask(libc::SIOCETHTOOL, name.request(&pointer)).map(|_| ())
    }
}

/// `linux/ethtool.h`: commands, and the layout of `struct ethtool_drvinfo`.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const DRIVER_INFO_BYTES: usize = 196;
const DRIVER_AT: usize = 4;
const BUS_AT: usize = 4 + 3 * 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_kernel_takes() {
        for name in ["tap0", "a", "vm-1.web_2", "fifteen-bytes-x"] {
            assert!(InterfaceName::new(name).is_some(), "{name}");
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "a b", "a/b", "a:b", "tap%d", "tap\0", "ü"]
        {
            assert!(InterfaceName::new(name).is_none(), "{name}");
        }
    }
}
