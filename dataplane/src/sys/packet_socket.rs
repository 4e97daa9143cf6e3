//! A packet socket: frames as one netdev receives and sends them (packet(7),
//! `linux/if_packet.h`).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netdevice};

/// Bytes of the virtio-net header of [`Format::VirtioNet`].
pub const VIRTIO_NET_HEADER_BYTES: usize = 10;
/// What may queue up in the kernel before a reader comes, in bytes.
const RECEIVE_QUEUE_BYTES: usize = 16 << 20;
/// Room for the one control message asked for.
pub(super) const CONTROL_BYTES: usize = 64;

/// What stands before each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Nothing: the first byte is the destination address's.
    Ethernet,
    /// A virtio-net header of [`VIRTIO_NET_HEADER_BYTES`], little-endian, without
    /// `num_buffers` (`PACKET_VNET_HDR`): frames with work left to do pass as they are.
    VirtioNet,
}

/// Which way a frame passed the netdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received by the netdev.
    Incoming,
    /// Sent by this host through it (`PACKET_OUTGOING`).
    Outgoing,
}

/// A frame that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes filled, the virtio-net header included.
    pub length: usize,
    /// Which way it passed.
    pub direction: Direction,
    /// The outermost VLAN tag (TPID, TCI), which the kernel takes out of the frame.
    pub tag: Option<(u16, u16)>,
}

/// A socket bound to one netdev, which sees all its frames both ways, and sends through it.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on a netdev of the calling thread's network namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or if the namespace has no netdev of that name.
    pub fn open(interface: &str, format: Format) -> io::Result<PacketSocket> {
        // No protocol yet: between here and bind(2) nothing of another netdev may queue up.
        let fd = rustix::net::socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let index = netdevice::name_to_index(&fd, interface)?;
        set_option(&fd, libc::PACKET_AUXDATA, 1)?;
        if format == Format::VirtioNet {
            set_option(&fd, libc::PACKET_VNET_HDR, 1)?;
        }
        set_socket_recv_buffer_size_force(&fd, RECEIVE_QUEUE_BYTES)?;
        bind(&fd, index)?;
        Ok(PacketSocket { fd })
    }

    /// Bounds how long [`PacketSocket::receive`] waits; `None` for ever.
    ///
    /// # Errors
    /// If `patience` is zero.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.fd, Timeout::Recv, patience)?)
    }

    /// Sends one frame, in the socket's format.
    ///
    /// # Errors
    /// If the netdev is down, the frame too long for its MTU, or the header inconsistent.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = rustix::net::send(&self.fd, frame, SendFlags::empty())?;
        if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one frame, cut to the buffer's length.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when patience ends; others of recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut source = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        let mut control = Control([0; CONTROL_BYTES]);
        let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
        let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
        message.msg_name = source.as_mut_ptr().cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: every pointer of `message` is to a live local or to `buffer`, with its length.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: zeroed at first, and all-zero bytes are a valid sockaddr_ll too.
        let source = unsafe { source.assume_init() };
        let direction = match source.sll_pkttype {
            libc::PACKET_OUTGOING => Direction::Outgoing,
            _ => Direction::Incoming,
        };
        Ok(Received { length, direction, tag: stripped_tag(&message) })
    }

    /// Frames that found the receive queue full since the last call (`PACKET_STATISTICS`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn take_lost(&self) -> io::Result<u32> {
        take_lost(&self.fd)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Control messages begin with a `cmsghdr`, whose alignment this has.
#[repr(align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

/// The tag in the auxiliary data of a received message.
pub(super) fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: `message` is as recvmsg(2) left it: its control buffer lives, is aligned, and
    // msg_controllen says how much of it is filled.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    let wanted = header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA;
    // SAFETY: only the length for a constant is computed.
    let needed = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) } as usize;
    if !wanted || header.cmsg_len < needed {
        return None;
    }
    // SAFETY: the kernel wrote a whole tpacket_auxdata there: level, type and length say so.
    let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid = match data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => data.tp_vlan_tpid,
    };
    Some((tpid, data.tp_vlan_tci))
}

pub(super) fn set_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads a c_int at the pointer, which is to one that lives.
    let status = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Frames that found the receive queue full since the last call.
pub(super) fn take_lost(fd: &OwnedFd) -> io::Result<u32> {
    let mut statistics = MaybeUninit::<libc::tpacket_stats>::zeroed();
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes a tpacket_stats and its length to locals.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first, and all-zero bytes are a valid tpacket_stats too.
    Ok(unsafe { statistics.assume_init() }.tp_drops)
}

/// Binds to all protocols of the netdev of that index.
pub(super) fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads a sockaddr_ll at the pointer, which is to one that lives.
    let status = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{in_own_network, ip};

    /// More than the queue has room for.
    const FRAMES: usize = 40_000;

    #[test]
    fn what_finds_no_room_is_counted_once() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            ip("link set a0 up");
            ip("link set b0 up");
            let [from, to] =
                ["a0", "b0"].map(|name| PacketSocket::open(name, Format::Ethernet).unwrap());
            let frame = [0x52; 1514];
            for _ in 0..FRAMES {
                // Refused where the kernel is behind with what it has.
                while from.send(&frame).is_err() {
                    std::thread::yield_now();
                }
            }
            to.set_patience(Some(Duration::from_millis(500))).unwrap();
            let mut buffer = [0; 2000];
            let received = std::iter::from_fn(|| to.receive(&mut buffer).ok()).count();
            let lost = to.take_lost().unwrap() as usize;
            // A busy kernel may lose some of them before they are b0's.
            let sent = frames_at("b0");
            assert!(lost > 0 && received + lost == sent, "{received} of {sent} came, {lost} lost");
            assert_eq!(to.take_lost().unwrap(), 0);
        });
    }

    /// Frames that a netdev of this thread's network received so far.
    fn frames_at(netdev: &str) -> usize {
        let netdevs = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let line = netdevs.lines().find(|line| line.trim_start().starts_with(netdev)).unwrap();
        // Behind the name: bytes, frames.
        line.split_once(':').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
