//! Measuring rigs for Hairpin: what the benchmark binaries of this crate are made of.
//!
//! `instructions` counts what the dataplane's examples execute per frame, `idle` measures what a
//! silent switch costs and how fast it wakes.
//!
//! `step0` (see `src/bin/step0.rs`) compares two wires between the two ports of a DPDK testpmd
//! generator. Its parts are useful to later rigs too, so they live here:
//!
//! * [`callgrind`]: a program's instructions, counted by valgrind;
//! * [`gauge`]: how far apart the two CPUs are right now;
//! * [`statistics`]: medians, and a bootstrap interval for a ratio of medians;
//! * [`hugepages`]: a run directory with huge pages, given back at the end;
//! * [`load`]: whether something else used the CPUs meanwhile;
//! * [`process`]: a child that can be paused, talked to, and never outlives us;
//! * [`testpmd`]: driving `dpdk-testpmd` over its standard input;
//! * [`pair`]: one generator with one wire;
//! * [`wire`]: our wire, the one that `src/bin/wire.rs` runs;
//! * [`measure`], [`report`], [`options`]: windows, their table, the command line.
//!
//! `tcp` (see `src/bin/tcp.rs`) compares switches by the TCP that passes between two kernel stacks:
//! all of it is in [`tcp`]. `xdp` (see `src/bin/xdp.rs`) compares them by the frames that they move
//! between two veth pairs: that is in [`xdp`]. [`cpu`] is the CPU time of both. `vhost` (see
//! `src/bin/vhost.rs`) compares switches by the frames that they move between two VMs: it measures
//! with step 0's rig, and its contestants are in [`vhost`].
//!
//! [`front_end`] is a VMM and its guest in one, honest or not: for measuring programs, and for the
//! tests across crates.
//!
//! [`suite`] is the packet benchmark suite, `hairpin-bench`: traffic that is accounted for frame by
//! frame, and loads that are searched for.
//!
//! All four read their options by [`command_line`], begin and end by [`program`], and show what
//! they found by [`figures`].

pub mod callgrind;
pub mod command_line;
pub mod cpu;
pub mod error;
pub mod figures;
pub mod front_end;
pub mod gauge;
pub mod hugepages;
pub mod interrupt;
pub mod layout;
pub mod load;
pub mod measure;
pub mod options;
pub mod pair;
pub mod process;
pub mod program;
pub mod report;
pub mod statistics;
pub mod suite;
pub mod tcp;
pub mod testpmd;
pub mod vhost;
pub mod wire;
pub mod xdp;
