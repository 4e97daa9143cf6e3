//! VM to VM through one switch or another, over vhost-user.
//!
//! The contestants are wires like step 0's ([`crate::pair`]), which their generator feeds
//! and [`crate::measure`] measures in turn: Hairpin as an operator runs it ([`hairpin`]),
//! DPDK's bare wire, and Open vSwitch with DPDK ([`open_vswitch`]).

pub mod hairpin;
pub mod open_vswitch;
pub mod options;
pub mod report;
