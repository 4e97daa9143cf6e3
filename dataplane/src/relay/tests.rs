//! DESIGN 3 and "Forwarding, made exact", row by row.

#![allow(clippy::unwrap_used, reason = "a failure in a test's helper is the message")]

mod bridge;
mod checklist;
mod learning;
pub(crate) mod site;
mod station;
mod tags;
mod why;
