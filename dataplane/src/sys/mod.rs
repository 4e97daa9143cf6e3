//! The only unsafe code. Every type here is safe to use and owns what it
//! points to; each block says why it holds.
//!
//! * [`memory`] — mapped memory shared with somebody who writes it at any time;
//!   [`memory::Spans`], the segments of a batch, pin what they point to.
//! * [`sigbus`] — such memory that shrinks under us.
//! * [`virtqueue`] — the device's half of split and packed rings; [`eventfd`], how the two
//!   halves wake each other.
//! * [`published`] — one pointer, read by workers, replaced by control (QSBR).
//! * [`lane`] — a transmitter that one worker owns, or several share.
//! * [`seat`] — what a worker works with, and control puts there and takes away.
//! * [`packet_socket`], [`packet_queue`] — frames as one netdev sees them (AF_PACKET): to
//!   watch it, and to have it as a port.
//! * [`bpf`], [`programs`] — programs on netdevs: our own, and which ones there are.
//! * [`netdev`], [`features`] — what the kernel says of netdevs, and what they do to frames by
//!   themselves.
//! * [`xdp`], [`promiscuous`] — frames of a netdev's receive queues in shared memory
//!   (AF_XDP), and having the netdev take all of them.
//! * [`spsc`] — a ring of values from one thread to another.
//! * [`prefetch`], [`huge`] — cache lines asked for early, large tables on huge pages.
//! * [`tun`] — the kernel's TUN/TAP driver. [`accounts`] — users and groups by name.
//!   [`peer`] — who is at the other end of a socket.

#![allow(unsafe_code)]

pub mod accounts;
pub mod bpf;
mod copy;
pub mod eventfd;
pub mod features;
pub mod huge;
pub mod lane;
pub mod memory;
pub mod netdev;
pub mod packet_queue;
pub mod packet_socket;
pub mod peer;
pub mod prefetch;
pub mod programs;
pub mod promiscuous;
pub mod published;
pub mod seat;
pub mod sigbus;
pub mod spsc;
pub(crate) mod sync;
pub mod tun;
pub mod virtqueue;
pub mod xdp;

#[cfg(test)]
pub(crate) mod netns;
