//! The packet benchmark suite, `hairpin-bench`: [`run`] is a run, [`record`] what it writes down.
//!
//! * [`frame`] — frames that bear number, flow, time and a [`hash`] of themselves;
//! * [`ledger`] — what became of them, flow by flow; [`histogram`] — how long they took;
//! * [`clock`], [`pace`], [`trial`] — a load offered for some time, and what came of it;
//!   [`joint`] — several at once;
//! * [`endpoint`], [`port`] — where a trial sends and receives;
//! * [`selftest`] — what generator and receiver can do without a switch;
//! * [`search`] — the highest load with no more than some loss;
//! * [`scenario`], [`spread`] — between which ports frames go; [`setting`] — what they are like;
//!   [`peers`] — the switches; [`site`] — one of them with the ports of a scenario; [`relay`] —
//!   what lies between these outside of it;
//! * [`bench`] — loads, trials and searches there;
//! * [`methods`] — the tests, in one table;
//! * [`disturbance`] — whether somebody else had the CPUs meanwhile;
//! * [`options`], [`machine`], [`progress`], [`output`] — command line, header, how long a run
//!   still takes, where records go;
//! * [`agreement`] — whether testpmd says the same of a switch;
//! * [`report`] — what is shown of them.

pub mod agreement;
pub mod bench;
pub mod clock;
pub mod disturbance;
pub mod endpoint;
pub mod frame;
pub mod hash;
pub mod histogram;
#[cfg(test)]
mod hub;
pub mod joint;
pub mod ledger;
pub mod machine;
pub mod methods;
pub mod options;
pub mod output;
pub mod pace;
pub mod peers;
pub mod port;
pub mod progress;
pub mod record;
pub mod relay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod search;
pub mod selftest;
pub mod setting;
pub mod site;
pub mod spread;
pub mod trial;
