//! `hairpin run`: the daemon.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::api::listen::Bound;
use crate::config;
use crate::switch::Switch;

/// The environment variable that sets what is logged.
const LOG_VARIABLE: &str = "HAIRPIN_LOG";

/// Signals that the daemon acts on.
struct Signals {
    end: Signal,
    interrupt: Signal,
    reload: Signal,
}

/// What a signal asks for.
enum Wish {
    End,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            end: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.end.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.reload.recv() => Wish::Reload,
        }
    }
}

/// Runs a switch until it is told to end.
///
/// # Errors
/// The configuration is wrong, or something of it cannot be had.
pub fn run(file: &Path) -> anyhow::Result<()> {
    log_to_stderr();
    raise_descriptor_limit();
    let desired = config::load(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no thread for signals could be made")?;
    let mut signals = runtime.block_on(async { Signals::new() }).context("no signals")?;
    // First of all: a second daemon must fail before it opens anything.
    let bound = Bound::bind(&desired.switch().api)?;
    let (name, ports) = (desired.switch().name.clone(), desired.ports().len());
    let state_dir = desired.switch().state_dir.clone();
    let switch = Switch::start_recorded(desired)?;
    let api = bound.serve(switch.clone())?;
    tracing::info!(name, ports, "the switch runs");
    tracing::info!(
        ?state_dir,
        "applied states are not kept in state-dir yet: a live change ends with the daemon, write \
         into the file what is to stay"
    );
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("standard output is closed")?;
    while let Wish::Reload = runtime.block_on(signals.next()) {
        reload(&switch, file);
    }
    tracing::info!("the switch ends");
    drop(api);
    switch.stop();
    Ok(())
}

/// Applies the file anew; a wrong one changes nothing.
fn reload(switch: &Switch, file: &Path) {
    let desired = match config::load(file) {
        Ok(desired) => desired,
        Err(errors) => {
            for error in errors.errors() {
                tracing::error!("{error}");
            }
            return tracing::error!("the configuration was not applied: it is wrong");
        }
    };
    match switch.apply(desired) {
        Ok(diff) => tracing::info!(%diff, "the configuration was applied"),
        Err(error) => tracing::error!(%error, "the configuration was not applied"),
    }
}

/// Takes as many descriptors as the host lets it have: each queue of each device, and
/// each connection, needs one, and the usual soft limit is made for programs that
/// call select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised; see ulimit -n");
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if let Err(error) = started {
        // A program that embeds the daemon has a logger of its own.
        tracing::debug!(%error, "logging was set up before");
    }
}
