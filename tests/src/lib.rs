//! What the tests across crates are made of.
//!
//! * [`site`] — a switch under test and how it may change, in plain words.
//! * [`scenario`] — sites, frames and changes drawn at random.
//! * [`oracle`] — what the switch ought to do: a naive model of the rules.
//! * [`source`] — Rust sources as the tidiness test reads them.
//! * [`rig`] — what it does: the real dataplane on memory ports, breath by breath.
//! * [`fuzz`] — what the fuzz targets do with an input.
//! * [`covering`] — few combinations of factors, with every pair of their values.
//! * [`bed`] — real kernel network stacks around a switch: namespaces, hosts in
//!   them, kernel bridges, the daemon, and traffic to compare.

pub mod bed;
pub mod covering;
pub mod fuzz;
pub mod oracle;
pub mod rig;
pub mod scenario;
pub mod site;
pub mod source;
