//! An AF_XDP socket: one receive queue of a netdev, and one transmit queue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{
    set_socket_send_buffer_size_force, set_xdp_rx_ring_size, set_xdp_tx_ring_size,
    set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size, xdp_mmap_offsets,
    xdp_statistics,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::ring::{Consumer, Descriptor, Producer};
use super::umem::Umem;

/// What may be on its way in the kernel where it copies frames, in bytes as it counts
/// them: more than all transmit frames of any socket of ours, so that this never bounds.
const SEND_BUFFER_BYTES: usize = 16 << 20;

/// Whose copy of a frame the netdev's driver works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// The UMEM's itself.
    ZeroCopy,
    /// One of the kernel's: every driver can do that.
    Copy,
}

/// In how many pieces the frames of a socket may lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pieces {
    /// Each in one: longer ones do not come.
    One,
    /// In several where they are long (`XDP_USE_SG`).
    Several,
}

/// How many entries rings have, powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Of that for received frames. The fill ring has twice as many: the kernel shows a frame
    /// before it says that its place has left that ring (`xsk_flush`), so whoever gives a place
    /// back at once finds its former entry still taken.
    pub receive: u32,
    /// Of the ring for frames to send, and of the completion ring.
    pub transmit: u32,
}

/// Our halves of a socket's rings.
#[derive(Debug)]
pub struct Rings {
    /// Frames' places that the kernel may fill.
    pub fill: Producer<u64>,
    /// Frames that it has filled.
    pub received: Consumer<Descriptor>,
    /// Frames that it is to send.
    pub transmit: Producer<Descriptor>,
    /// Frames' places that it is done with.
    pub completed: Consumer<u64>,
}

/// One socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket on a UMEM of its own, and its rings; bound to no netdev yet. Nothing it
    /// does blocks.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; `ENOBUFS` where the UMEM is more than may be locked in
    /// memory (`ulimit -l`); `EAFNOSUPPORT`, `EINVAL`: the kernel lacks AF_XDP, or knows
    /// an old one only (before Linux 5.4).
    pub fn open(umem: &Umem, sizes: Sizes) -> io::Result<(Socket, Rings)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?;
        set_socket_send_buffer_size_force(&fd, SEND_BUFFER_BYTES)?;
        umem.register(fd.as_fd())?;
        let fill = 2 * sizes.receive;
        set_xdp_umem_fill_ring_size(&fd, fill)?;
        set_xdp_umem_completion_ring_size(&fd, sizes.transmit)?;
        set_xdp_rx_ring_size(&fd, sizes.receive)?;
        set_xdp_tx_ring_size(&fd, sizes.transmit)?;
        let at = xdp_mmap_offsets(&fd)?;
        let file = fd.as_fd();
        let rings = Rings {
            fill: Producer::map(file, XDP_UMEM_PGOFF_FILL_RING, &at.fr, fill)?,
            received: Consumer::map(file, XDP_PGOFF_RX_RING, &at.rx, sizes.receive)?,
            transmit: Producer::map(file, XDP_PGOFF_TX_RING, &at.tx, sizes.transmit)?,
            completed: Consumer::map(file, XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, sizes.transmit)?,
        };
        Ok((Socket(fd), rings))
    }

    /// Ties it to a queue of the netdev of that index, for good. The fill ring should have
    /// its entries by now: some drivers look into it once only.
    ///
    /// # Errors
    /// `EBUSY`: another socket has the queue; `EINVAL`: there is no such queue, or the
    /// kernel knows no frames of several pieces (before Linux 6.6); `EOPNOTSUPP`: the
    /// driver has no zero-copy, or not for those; `ENETDOWN`, `ENODEV`.
    pub fn bind(
        &self,
        interface: u32,
        queue: u32,
        binding: Binding,
        pieces: Pieces,
    ) -> io::Result<()> {
        let copying = match binding {
            Binding::ZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
            Binding::Copy => SocketAddrXdpFlags::XDP_COPY,
        };
        let gathering = match pieces {
            Pieces::One => SocketAddrXdpFlags::empty(),
            Pieces::Several => SocketAddrXdpFlags::XDP_USE_SG,
        };
        let flags = copying | gathering | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        Ok(rustix::net::bind(&self.0, &SocketAddrXdp::new(flags, interface, queue))?)
    }

    /// Has the kernel send what is in the ring for that. Where it copies, it does so within
    /// this call, some 32 frames at most.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOBUFS`: not all of it yet; `EBUSY`: nor that, and one frame was lost on
    /// the way where the kernel copies; `ENETDOWN`: the netdev is down; `ENXIO`: it is gone.
    pub fn kick(&self) -> rustix::io::Result<()> {
        rustix::net::send(&self.0, &[], SendFlags::DONTWAIT).map(drop)
    }

    /// Has the kernel look into the fill ring; also tells whether the netdev is there.
    ///
    /// # Errors
    /// `ENETDOWN`: the netdev is down; `ENXIO`: it is gone.
    pub fn nudge(&self) -> rustix::io::Result<()> {
        let mut nothing: [u8; 0] = [];
        rustix::net::recv(&self.0, &mut nothing, RecvFlags::DONTWAIT).map(drop)
    }

    /// Frames that came and were dropped since it is bound: too long for a place, no place
    /// in the fill ring, or no room for them (`XDP_STATISTICS`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn lost(&self) -> io::Result<u64> {
        let statistics = xdp_statistics(&self.0)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full.unwrap_or(0))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
