//! TCP between two kernel stacks, through one switch or another, in one run.
//!
//! Each contestant is a switch with two hosts (network namespaces) on it, and all
//! are up for the whole run; they take turns, a slice each, so that what the
//! machine does meanwhile meets all of them. A slice is one connection, sent into
//! as fast as it takes, counted at the receiver.
//!
//! * [`contestant`]: the switches and their hosts;
//! * [`connection`]: what one carries and costs;
//! * [`slice`]: one turn;
//! * [`options`], [`report`]: the command line, the table and the JSON.

pub mod connection;
pub mod contestant;
pub mod options;
pub mod report;
pub mod slice;
