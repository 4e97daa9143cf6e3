//! Real kernel network stacks on TAP, one module per subject.
//!
//! These tests need root; see [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod bed;
mod channels;
mod configuration;
mod evb;
mod experiment;
mod live;
mod segmentation;
mod site;
mod veb;
mod vepa;
