//! Hairpin's dataplane: frames between ports, in the order a frame travels.
//!
//! 1. [`port`] — a device hands over a burst of frames: views, not copies.
//! 2. [`mod@frame`] — the view: a private copy of a frame's first bytes, the rest
//!    still in the sender's memory; the batch they come in.
//! 3. [`wire`] — what the bytes mean: Ethernet, tags, offloads. Pure.
//! 4. [`snapshot`] — the compiled, immutable policy the workers read.
//! 5. [`relay`] — admit, decide, egress. Pure decisions about frames.
//! 6. [`worker`] — the breath: the only code that knows both relay and port.
//!
//! Beside the way: [`ledger`] names every lost frame and counts every frame;
//! [`sys`] is the only unsafe code, and owns what it points to.
//!
//! Dependencies go one way: `wire ← snapshot ← relay ← worker` and
//! `sys ← frame ← port ← worker`. `relay` names no device, clock or file
//! descriptor; `port` names no VLAN policy.

// The unit tests use the tests' wiring, which knows this crate by its name.
#[cfg(all(test, not(loom)))]
extern crate self as hairpin_dataplane;

pub mod frame;
pub mod ledger;
pub mod port;
pub mod relay;
pub mod snapshot;
pub mod sys;
pub mod wire;
pub mod worker;
