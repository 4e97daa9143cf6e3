//! The packet benchmark suite: [`record`] is what a run writes down.
//!
//! * [`histogram`] — how long frames took.

pub mod histogram;
pub mod record;
