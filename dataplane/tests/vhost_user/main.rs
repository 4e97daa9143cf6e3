//! A vhost-user session as its front end and its workers find it.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

mod foreign;
mod hostile;
mod life;
mod memory;
mod wiring;
