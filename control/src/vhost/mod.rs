//! The sockets of vhost-user ports: one thread serves them all, and none can hold up
//! another.
//!
//! ```text
//!  VMM ── socket ── slot ── backend ── rings          one thread, `vhost-user`
//!                     │        │
//!         commands ──▶┘        └──▶ status ── bell ──▶ the engine
//! ```
//!
//! * [`backend`] — what a VMM's messages are handed to, and what is seen of it.
//!   [`session`] — the one there is, by the dataplane's session.
//! * [`socket`] — the sockets' files. [`slot`] — one port's socket, whoever is at its
//!   other end. [`pace`] — how soon something is tried again.
//!   [`spate`] — how much comes within a second.
//! * [`thread`] — all of them. [`status`] — what others see. [`watch`] — VMMs that would
//!   hold up a worker.

pub mod backend;
pub mod pace;
pub mod session;
pub mod slot;
pub mod socket;
pub mod spate;
pub mod status;
pub mod thread;
pub mod watch;

pub use backend::Backend;
pub use status::Status;
pub use thread::{Plug, Sockets};
