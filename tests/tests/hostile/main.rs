//! Guests and VMMs that mean harm, at a whole switch: each case that cost somebody else a
//! daemon. Three things hold for every one of them:
//!
//! 1. the daemon lives;
//! 2. what was done is counted under its reason at the port that it was done by, or that
//!    port is quarantined with its reason;
//! 3. two other ports that send each other frames in lockstep lose none meanwhile.
//!
//! The [`stage`] sees to the first and the third; a case says what it does and what it
//! expects. None of it needs root.

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod buffers;
mod cases;
mod descriptors;
mod frames;
mod idle;
mod lockstep;
mod memory;
mod messages;
mod offloads;
mod orders;
mod packets;
mod reboot;
mod rings;
mod sockets;
mod stage;
mod storms;
mod tables;
