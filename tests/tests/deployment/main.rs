//! What an operator starts from, for real: the unit under systemd, and the examples with who
//! is plugged into what they describe.
//!
//! These tests need root; see [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod container_host;
mod evb_bridge;
mod example;
mod guest;
mod kvm_host;
mod reach;
mod taps;
mod unit;
