//! `hairpin run`: the daemon.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use super::notify::Manager;
use crate::api::listen::Bound;
use crate::config;
use crate::switch::archive::{Archive, ArchiveError};
use crate::switch::digest::Digest;
use crate::switch::history::History;
use crate::switch::{Order, StartUpFile, Switch, Trial};
use crate::telemetry;

/// Signals that the daemon acts on, and a clock.
struct Signals {
    end: Signal,
    interrupt: Signal,
    reload: Signal,
    /// When a service manager wants to hear that the switch lives.
    beat: Option<Interval>,
}

/// What a signal, or the clock, asks for.
enum Wish {
    End,
    Reload,
    SignOfLife,
}

impl Signals {
    fn new(manager: &Manager) -> std::io::Result<Signals> {
        let beat = manager.beat().map(|beat| {
            let mut beat = tokio::time::interval(beat);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        Ok(Signals {
            end: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            beat,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.end.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.reload.recv() => Wish::Reload,
            () = due(&mut self.beat) => Wish::SignOfLife,
        }
    }
}

/// Waits until a sign of life is due; for ever if none is wanted.
async fn due(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => drop(beat.tick().await),
        None => std::future::pending().await,
    }
}

/// Runs a switch until it is told to end.
///
/// # Errors
/// The configuration is wrong, or something of it cannot be had.
pub fn run(file: &Path) -> anyhow::Result<()> {
    telemetry::log::to_stderr();
    raise_descriptor_limit();
    let (desired, text) = config::load_with_text(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no thread for signals could be made")?;
    let manager = Manager::from_environment();
    let mut signals = runtime.block_on(async { Signals::new(&manager) }).context("no signals")?;
    // First of all: a second daemon must fail before it opens anything.
    let bound = Bound::bind(&desired.switch().api)?;
    let metrics = desired.switch().metrics.as_ref().map(telemetry::Bound::bind).transpose()?;
    let history = history(&desired.switch().state_dir)?;
    let digest = Digest::of(text.as_bytes());
    let start_up_file = StartUpFile { path: std::path::absolute(file)?, digest };
    let switch = Switch::start_recorded(desired, start_up_file, history)?;
    let api = bound.serve(switch.clone())?;
    let metrics = metrics.map(|bound| bound.serve(switch.clone())).transpose()?;
    let view = switch.view();
    let (name, ports) = (&view.desired.switch().name, view.desired.ports().len());
    tracing::info!(name, ports, revision = view.revision, "the switch runs");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").and_then(|()| stdout.flush()).context("standard output is closed")?;
    manager.ready(&status(&switch));
    loop {
        match runtime.block_on(signals.next()) {
            Wish::End => break,
            Wish::SignOfLife => give_sign_of_life(&switch, &manager),
            Wish::Reload => {
                manager.reloading();
                runtime.block_on(reload_beating(&switch, file, &mut signals, &manager));
                manager.ready(&status(&switch));
            }
        }
    }
    manager.stopping();
    tracing::info!("the switch ends");
    drop((api, metrics));
    switch.stop();
    Ok(())
}

/// The revisions in the state-dir. Where there can be none, the switch runs all the same:
/// whoever tries it out has no /var/lib/hairpin.
fn history(state_dir: &Path) -> anyhow::Result<History> {
    match Archive::open(state_dir) {
        Ok(archive) => Ok(History::on_disk(archive)?),
        // What was applied must not be forgotten for a disk that is full, or a wrong owner.
        Err(error @ ArchiveError::Unusable { .. }) if !Archive::is_in(state_dir) => {
            tracing::warn!(
                "{error}; applied states are not kept: a live change ends with the daemon. Set \
                 `state-dir` to a directory that this user may write"
            );
            Ok(History::in_memory())
        }
        Err(error) => Err(error.into()),
    }
}

/// The switch in a line, for `systemctl status`.
fn status(switch: &Switch) -> String {
    let desired = switch.view().desired;
    format!("{} ports, {} links", desired.ports().len(), desired.links().len())
}

fn give_sign_of_life(switch: &Switch, manager: &Manager) {
    if switch.breathes() {
        manager.alive();
    } else {
        tracing::warn!("the switch does not breathe");
    }
}

/// Applies the file anew, on a thread of its own: it may take longer than the service manager
/// waits for a sign of life.
async fn reload_beating(switch: &Switch, file: &Path, signals: &mut Signals, manager: &Manager) {
    let (reloaded, file) = (switch.clone(), file.to_owned());
    let mut reload = tokio::task::spawn_blocking(move || reload(&reloaded, &file));
    loop {
        tokio::select! {
            // Its panic, if it had one, was reported by the hook.
            _ = &mut reload => return,
            () = due(&mut signals.beat) => give_sign_of_life(switch, manager),
        }
    }
}

/// Applies the file anew; a wrong one changes nothing.
fn reload(switch: &Switch, file: &Path) {
    let (desired, text) = match config::load_with_text(file) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors.errors() {
                tracing::error!("{error}");
            }
            return tracing::error!("the configuration was not applied: it is wrong");
        }
    };
    let order = Order { file: Some(Digest::of(text.as_bytes())), ..Order::by("file") };
    match switch.order(desired, &order, Trial::Earnest) {
        Ok(applied) => {
            let (revision, diff) = (applied.revision, applied.diff);
            tracing::info!(revision, %diff, "the configuration was applied");
        }
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
