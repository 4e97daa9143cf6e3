//! A packet socket as one queue of a port: frames of a netdev that somebody else owns,
//! with a virtio-net header each (packet(7), `linux/if_packet.h`). What it means is
//! [`crate::port::packet`]'s.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::memory::{Body, Place};
use super::packet_socket::{CONTROL_BYTES, Control, bind, set_option, stripped_tag, take_lost};
use super::promiscuous;
use super::tun::{check, last_error, readable};

/// Bytes of the virtio-net header in front of each frame (`struct virtio_net_hdr`).
pub const HEADER_BYTES: usize = 10;
/// Pieces a frame's body may lie in.
const BODY_PIECES_MAX: usize = 256;
/// What may queue up in the kernel while the worker is busy, in bytes as the kernel counts
/// them: some 2,000 frames of 1500 bytes. Taken only as frames come.
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;
/// `PACKET_IGNORE_OUTGOING`: what is sent by the netdev is not received here.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// How a group shares its frames. What its sockets ignore each for itself, the group has to
/// ignore as such.
const BY_FLOW: libc::c_uint = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;

/// One socket.
#[derive(Debug)]
pub struct Queue(OwnedFd);

/// What was received besides the frame's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Bytes of the frame, also where it was longer than the place.
    pub bytes: usize,
    /// The outermost VLAN tag (TPID, TCI), which the kernel takes out of the frame.
    pub tag: Option<(u16, u16)>,
}

/// Sockets of one netdev that share its frames, each flow to one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group(u16);

impl Queue {
    /// A socket that is bound to no netdev yet; nothing it does blocks.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW.
    pub fn open() -> io::Result<Queue> {
        // No protocol yet: between here and bind(2) nothing of another netdev may queue up.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        set_option(&fd, libc::PACKET_AUXDATA, 1)?;
        set_option(&fd, libc::PACKET_VNET_HDR, 1)?;
        set_option(&fd, libc::PACKET_QDISC_BYPASS, 1)?;
        set_option(&fd, PACKET_IGNORE_OUTGOING, 1)?;
        set_socket_recv_buffer_size_force(&fd, RECEIVE_QUEUE_BYTES)?;
        Ok(Queue(fd))
    }

    /// Has the netdev of that index promiscuous for as long as the socket is open, and
    /// receives from it.
    ///
    /// # Errors
    /// `ENODEV`: there is none.
    pub fn bind(&self, interface: u32) -> io::Result<()> {
        promiscuous::join(&self.0, interface)?;
        bind(&self.0, interface)
    }

    /// Makes a group of its own; others join it.
    ///
    /// # Errors
    /// `EINVAL`: the netdev is down.
    pub fn found_group(&self) -> io::Result<Group> {
        let unique = BY_FLOW | libc::PACKET_FANOUT_FLAG_UNIQUEID;
        set(&self.0, libc::PACKET_FANOUT, &((unique << 16) as libc::c_int))?;
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes a c_int and its length to locals.
        check(unsafe {
            libc::getsockopt(
                self.raw(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw mut value).cast(),
                &raw mut length,
            )
        })?;
        Ok(Group(value as u16))
    }

    /// Joins a group of the same netdev.
    ///
    /// # Errors
    /// `EINVAL`: the netdev is down.
    pub fn join(&self, group: Group) -> io::Result<()> {
        let value = (BY_FLOW << 16) as libc::c_int | libc::c_int::from(group.0);
        set(&self.0, libc::PACKET_FANOUT, &value)
    }

    /// Whether it still is bound to a netdev: not once that was deleted or moved to
    /// another network namespace.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes at most a sockaddr_ll and its length to locals.
        let status =
            unsafe { libc::getsockname(self.raw(), address.as_mut_ptr().cast(), &raw mut length) };
        // SAFETY: zeroed at first, and all-zero bytes are a valid sockaddr_ll too.
        status == 0 && unsafe { address.assume_init() }.sll_ifindex > 0
    }

    /// Receives one frame, its virtio-net header apart. A frame longer than `place` is
    /// cut.
    ///
    /// # Errors
    /// `EAGAIN`: none waits; `ENETDOWN`: the netdev went down or away; `EINVAL`: the
    /// kernel cannot describe a frame in the header, and dropped it.
    #[inline]
    pub fn receive(
        &self,
        header: &mut [u8; HEADER_BYTES],
        place: Place<'_>,
    ) -> rustix::io::Result<Message> {
        let mut parts = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER_BYTES },
            libc::iovec { iov_base: place.as_ptr().cast(), iov_len: place.length() },
        ];
        let mut control = Control([0; CONTROL_BYTES]);
        let mut message = empty_message();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: header and control are live locals, exclusively borrowed; the place's
        // memory is borrowed and written by value only.
        let count = unsafe { libc::recvmsg(self.raw(), &raw mut message, libc::MSG_TRUNC) };
        let count = usize::try_from(count).map_err(|_| last_error())?;
        let bytes = count.saturating_sub(HEADER_BYTES);
        Ok(Message { bytes, tag: stripped_tag(&message) })
    }

    /// Sends one frame: virtio-net header, first bytes, body. The kernel takes all of it
    /// or nothing.
    ///
    /// # Errors
    /// `EMSGSIZE`: longer than the netdev's MTU allows; `ENOBUFS`: its queue is full;
    /// `ENETDOWN`, `ENXIO`: it is down, or gone; `EINVAL`: the header is not accepted.
    #[inline]
    pub fn send(
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
            part.write(libc::iovec { iov_base: piece.as_ptr().cast(), iov_len: piece.length() });
            count += 1;
        }
        let mut message = empty_message();
        message.msg_iov = parts.as_mut_ptr().cast();
        message.msg_iovlen = count;
        // SAFETY: the first `count` parts are filled in. Two point to slices that are
        // borrowed here, the others to places whose memory the body keeps mapped; the
        // kernel only reads them, by value, as racing writers require.
        let sent = unsafe { libc::sendmsg(self.raw(), &raw const message, 0) };
        usize::try_from(sent).map(|_| ()).map_err(|_| last_error())
    }

    /// Frames that found the receive queue full since the last call (`PACKET_STATISTICS`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn take_lost(&self) -> io::Result<u32> {
        take_lost(&self.0)
    }

    fn raw(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}

pub(super) fn set<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads the option's structure, whose size is given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}
