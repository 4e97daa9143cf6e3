//! Hairpin's control plane: what an operator wants, made so.
//!
//! * [`config`] — a file, read and validated into a desired state.
//! * [`switch`] — the engine: opens, compiles, commits; workers and devices.
//! * [`api`] — gRPC over a UNIX socket, in front of the engine.
//! * [`telemetry`] — metrics, for scrapers, and the log. [`budget`] — how much of anything.
//! * [`lab`] — a whole EVB site on this machine, with real traffic through it.
//! * [`cli`] — the `hairpin` command: the daemon, its clients, the lab.
//!
//! Dependencies go one way: `config ← switch ← api ← telemetry ← lab ← cli`.

pub mod api;
pub mod budget;
pub mod cli;
pub mod config;
pub mod lab;
pub mod switch;
pub mod telemetry;
pub mod vhost;
