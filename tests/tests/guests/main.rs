//! vhost-user ports with Linux guests in QEMU.
//!
//! These tests need root, QEMU, and what `tests/guest/build` makes; see
//! [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod channels;
mod example;
mod lives;
mod several;
mod site;
mod veb;
mod vepa;
