//! vhost-user ports with front ends that are not ours.
//!
//! These tests need root, DPDK's testpmd and 2 MiB pages; see [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod circle;
mod matrix;
mod site;
mod testpmd;
