//! `hairpin lab`: a whole EVB site on this machine, with real traffic through it.
//!
//! * [`plan`] — the VMs and what must hold. [`site`] — two switches, a cable.
//! * [`stack`], [`stacks`] — VMs in the process; [`namespaces`] — VMs as network
//!   namespaces; [`guests`] — either.
//! * [`memory_cable`] — a cable in the process; [`veth_cable`] — one by AF_XDP; [`cable`] —
//!   either, and what crossed it. [`checks`], [`strangers`], [`findings`], [`report`] —
//!   what is tried, what it proves, what is printed. [`introduction`], [`pattern`] — a
//!   neighbour's entry, what is sent over TCP.
//! * [`estate`] — what outlives a process, and is cleared away all the same.

mod cable;
mod checks;
mod estate;
mod findings;
mod guests;
mod introduction;
mod memory_cable;
mod namespaces;
mod pattern;
pub mod plan;
mod progress;
mod report;
mod site;
mod stack;
mod stacks;
mod strangers;
#[cfg(test)]
mod tests;
mod veth_cable;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use checks::{Pace, Trial};
use estate::Estate;
use findings::Findings;
use plan::{Scenario, VmPlan};
use progress::{Interrupt, print, say};
use site::{Kind, Site};

use crate::api::listen::Bound;

/// What `hairpin lab --help` ends with.
const EXIT: &str = "\
Exit status: 0 if every expectation holds; 1 if one does not, if the site could not be built, or \
if Ctrl-C (or SIGTERM, SIGHUP) came before the verdict. Ctrl-C ends --hold with the status of the \
verdict.

The lab removes all that it made, however it ends; after kill -9 the next lab of the same user \
does. Labs may run side by side.";

/// The arguments of `hairpin lab`.
#[derive(Debug, Args)]
#[command(after_help = EXIT)]
pub struct LabArgs {
    /// VMs are network namespaces on TAP, with the kernel's TCP/IP stack, and the cable is a
    /// veth with AF_XDP at either end (needs root)
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
    let interrupt = Interrupt::heed()?;
    let kind = if args.netns { Kind::Namespaces } else { Kind::InProcess };
    if kind == Kind::Namespaces {
        namespaces::check()?;
    }
    estate::clear_the_dead();
    let vms = args.scenario.vms();
    let started = Instant::now();
    say(format_args!("lab: building {} VMs, two switches and a cable", vms.len()));
    // It goes after the site, which lives in it.
    let mut estate = Estate::new();
    let mut site = Site::build(&vms, kind, &mut estate, &interrupt)?;
    let findings = examine(&vms, &mut site, Pace::default(), &interrupt)?;
    print(format_args!("{}", report::report(&vms, &findings)))?;
    let verdict = match findings.hold() {
        true => "every expectation holds",
        false => "NOT every expectation holds",
    };
    print(format_args!("{verdict} ({:.1} s)", started.elapsed().as_secs_f64()))?;
    if args.hold {
        hold(&mut site, &mut estate, &interrupt)?;
    }
    Ok(findings.exit_code())
}

/// Tries everything that must hold of a site.
fn examine(vms: &[VmPlan], site: &mut Site, pace: Pace, interrupt: &Interrupt) -> Result<Findings> {
    let mut trial = Trial { vms, site, pace, interrupt };
    let strangers = strangers::ask_all(&mut trial)?;
    let reached = checks::reach_all(&mut trial, &strangers)?;
    let transferred = checks::transfer_all(&mut trial)?;
    let ledgers = vec![
        ("station", findings::settled(&site.station)),
        ("bridge", findings::settled(&site.bridge)),
    ];
    let overflow = vec![
        ("station", site.station.device_drops()),
        ("bridge", site.bridge.device_drops()),
        ("cable", site.cable.overflow()),
    ];
    let (xdp_ends, lost_at_cable) = (site.xdp_ends(), site.cable.lost());
    Ok(Findings { strangers, reached, transferred, xdp_ends, ledgers, overflow, lost_at_cable })
}

/// Keeps the site up, with an API socket for each switch.
fn hold(site: &mut Site, estate: &mut Estate, interrupt: &Interrupt) -> Result<()> {
    let mut servers = Vec::new();
    print(format_args!("\nThe site stays up. Explore it, then press Ctrl-C:\n"))?;
    for (name, switch) in [("station", &site.station), ("bridge", &site.bridge)] {
        let socket = estate.add_socket(name)?;
        let (switch, path) = (switch.clone(), socket.clone());
        let serve = move || Ok(Bound::bind(&path)?.serve(switch)?);
        servers.push(site.beside_switches(serve)?);
        print(format_args!("  hairpin --api unix:{} show", socket.display()))?;
    }
    while !interrupt.is_raised() {
        site.guests.idle();
    }
    Ok(())
}
