//! Having a netdev receive frames for every address (packet(7), `PACKET_MR_PROMISC`).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::packet_queue::set;

/// A netdev is promiscuous for as long as this is there, and the process lives: the
/// kernel counts who wants it, and takes the wish back with the descriptor.
#[derive(Debug)]
pub struct Promiscuous(#[allow(dead_code, reason = "it is what keeps the wish alive")] OwnedFd);

impl Promiscuous {
    /// Of the netdev of that index, in the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; `ENODEV`: there is none.
    pub fn on(interface: u32) -> io::Result<Promiscuous> {
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it receives nothing itself.
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        join(&fd, interface)?;
        Ok(Promiscuous(fd))
    }
}

/// Has a packet socket wish for it, whatever else the socket does.
pub(super) fn join(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &request)
}
