//! `hairpin lab`: a whole EVB site on this machine, with real traffic through it.
//!
//! * [`plan`] — the VMs and what must hold. [`site`] — two switches, a cable.
//! * [`stack`], [`stacks`] — VMs in the process; [`namespaces`] — VMs as network
//!   namespaces; [`guests`] — either.
//! * [`cable`] — carries and counts. [`checks`], [`report`] — what is tried, and
//!   what is printed.

mod cable;
mod checks;
mod guests;
mod namespaces;
pub mod plan;
mod progress;
mod report;
mod site;
mod stack;
mod stacks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use checks::{Reached, Transferred};
use plan::Scenario;
use site::{Kind, Site};

use hairpin_dataplane::ledger::Totals;

use crate::api::listen::Bound;
use crate::switch::Switch;

/// How often the ledgers are read until they balance.
const LEDGER_TRIES: usize = 100;

/// The arguments of `hairpin lab`.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// VMs are network namespaces on TAP, with the kernel's TCP/IP stack (needs root)
    #[arg(long)]
    netns: bool,
    /// Which part of the site to build
    #[arg(long, value_enum, default_value = "all")]
    scenario: Scenario,
    /// Keep the site up afterwards, with its switches' APIs, until Ctrl-C
    #[arg(long)]
    hold: bool,
}

/// Builds the site, tries it, prints what came of it. Everything it made is gone
/// afterwards, also after an error or Ctrl-C.
///
/// # Errors
/// What could not be built, or was interrupted.
pub fn run(args: &LabArgs) -> Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let kind = if args.netns { Kind::Namespaces } else { Kind::InProcess };
    if kind == Kind::Namespaces {
        namespaces::check()?;
    }
    let vms = args.scenario.vms();
    let started = Instant::now();
    eprintln!("lab: building {} VMs, two switches and a cable", vms.len());
    let mut site = Site::build(&vms, kind)?;
    let reached = checks::reach_all(&vms, &mut site.guests, &site.cable, &interrupted)?;
    let transferred = checks::transfer_all(&vms, &mut site.guests, &site.cable, &interrupted)?;
    print!("{}", report::report(&vms, &reached, &transferred));
    let balanced = check_ledgers(&[("station", &site.station), ("bridge", &site.bridge)]);
    let holds = reached.iter().all(Reached::holds)
        && transferred.iter().all(Transferred::holds)
        && balanced;
    let verdict = if holds { "every expectation holds" } else { "NOT every expectation holds" };
    println!("\n{verdict} ({:.1} s)", started.elapsed().as_secs_f64());
    if args.hold {
        hold(&mut site, &interrupted)?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every frame is accounted for; prints what was dropped and why.
fn check_ledgers(switches: &[(&str, &Switch)]) -> bool {
    println!("\n  {:<10} {:<10} {:<26} {:>8}", "dropped at", "port", "reason", "frames");
    for (name, switch) in switches {
        for (port, totals) in switch.totals() {
            for (reason, count) in totals.drops() {
                println!("  {name:<10} {port:<10} {:<26} {count:>8}", reason.name());
            }
        }
    }
    switches.iter().all(|(_, switch)| balances(switch))
}

/// Whether both ledgers of every device balance, and all copies were brought
/// somewhere; asked again while frames are on their way.
fn balances(switch: &Switch) -> bool {
    (0..LEDGER_TRIES).any(|_| {
        let totals = switch.totals();
        let fan_out: u64 = totals.values().map(|totals| totals.fan_out).sum();
        let offered: u64 = totals.values().map(|totals| totals.offered).sum();
        let balanced = fan_out == offered && totals.values().all(Totals::is_balanced);
        if !balanced {
            std::thread::sleep(Duration::from_millis(10));
        }
        balanced
    })
}

/// Keeps the site up, with an API socket for each switch.
fn hold(site: &mut Site, interrupted: &AtomicBool) -> Result<()> {
    let directory = Directory::make()?;
    let mut servers = Vec::new();
    println!("\nThe site stays up. Explore it, then press Ctrl-C:\n");
    for (name, switch) in [("station", &site.station), ("bridge", &site.bridge)] {
        let socket = directory.0.join(format!("{name}.sock"));
        servers.push(Bound::bind(&socket)?.serve(switch.clone())?);
        println!("  hairpin --api unix:{} show", socket.display());
    }
    while !interrupted.load(Ordering::Relaxed) {
        site.guests.idle();
    }
    Ok(())
}

/// A directory for the API sockets, removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Directory> {
        let path = std::env::temp_dir().join(format!("hairpin-lab-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("lab: removing {}: {error}", self.0.display());
        }
    }
}
