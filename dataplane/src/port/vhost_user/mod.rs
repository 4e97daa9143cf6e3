//! vhost-user: a VM's virtqueues, served from its memory.
//!
//! ```text
//!  VMM ── socket ── messages ▸ session ── start, halt ──▶ rings      (control's thread)
//!                                                           │ seats
//!  VM ─── its memory ─── virtqueues ◀── receiver, transmitter ◀──┘   (workers)
//! ```
//!
//! * [`message`], [`features`] — bytes to requests and back; what is offered, by name. Pure.
//! * [`connection`] — one socket: requests with their descriptors, replies.
//! * [`session`] — one VMM, from its first message to its end: what it was told, what it
//!   may ask for, and which rings run. [`regions`] — the memory that it lends.
//! * [`ring`] — what a session starts and halts. `seats` — how that reaches the workers.
//! * [`queue`] — the two directions of a queue pair. `receiver`, `transmitter` — the
//!   same, as workers serve them.

pub mod connection;
pub mod features;
pub mod message;
pub mod queue;
mod receiver;
pub mod regions;
pub mod ring;
mod seats;
pub mod session;
#[cfg(all(test, not(loom)))]
mod tests;
mod transmitter;

pub use receiver::VhostUserReceiver;
pub use seats::{Host, open};
pub use transmitter::VhostUserTransmitter;
