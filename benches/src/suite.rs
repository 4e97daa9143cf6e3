//! The packet benchmark suite: [`record`] is what a run writes down.
//!
//! * [`frame`] — frames that bear number, flow, time and a hash of themselves;
//! * [`ledger`] — what became of them, flow by flow; [`histogram`] — how long they took;
//! * [`clock`], [`pace`], [`trial`] — a load offered for some time, and what came of it;
//! * [`endpoint`] — where a trial sends and receives;
//! * [`search`] — the highest load with no more than some loss.

pub mod clock;
pub mod endpoint;
pub mod frame;
pub mod histogram;
pub mod ledger;
pub mod pace;
pub mod record;
pub mod search;
pub mod trial;
