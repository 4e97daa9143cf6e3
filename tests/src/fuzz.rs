//! What the fuzz targets (`tests/fuzz`) do with an input. Ordinary tests do the same with
//! every seed and every finding.
//!
//! * [`input`] — how bytes become decisions.
//! * [`messages`] — a front end's messages and descriptors, to a connection and its session.
//! * [`rings`] — a driver, honest or not, at both rings of a queue pair.
//! * [`switch`] — both at one port of a switch, while two others exchange frames.
//! * [`vmm`] — messages as a front end sends them. [`forger`] — what a driver can write.
//! * [`seeds`] — inputs that say something, from which fuzzing begins.

pub mod forger;
pub mod input;
pub mod messages;
pub mod rings;
pub mod seeds;
pub mod switch;
pub mod vmm;

/// A fuzz target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: [Target; 4] = [
    ("messages", messages::run),
    ("split_ring", rings::split),
    ("packed_ring", rings::packed),
    ("switch", switch::run),
];
