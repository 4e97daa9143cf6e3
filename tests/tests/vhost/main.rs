//! vhost-user ports with front ends that are not ours.
//!
//! These tests need root, and DPDK's testpmd; see [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod testpmd;
