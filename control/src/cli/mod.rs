//! The `hairpin` command.
//!
//! Each client command gives its output as a text, which is printed at the end;
//! [`main`] turns what went wrong into an exit code: 0 done, 1 refused or failed,
//! 2 usage.
//!
//! * [`run`] — the daemon. [`client`] — how the others reach it.
//! * [`objects`], [`port`], [`counts`], [`fdb`], [`workers`] — the commands. [`mod@apply`] —
//!   those that change what is wanted; [`wishes`] — in words.
//! * [`table`] for people, [`json`] for programs, [`words`] for both. [`vmm`] — what a
//!   vhost-user port has beside others, for both.

pub mod apply;
pub mod client;
pub mod counts;
pub mod fdb;
pub mod json;
pub mod objects;
pub mod port;
pub mod run;
pub mod table;
pub mod vmm;
pub mod wishes;
pub mod words;
pub mod workers;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::api::address::{self, ApiAddress};
use crate::config;
use crate::lab;
use client::Client;

/// A virtual Ethernet switch for KVM hosts.
#[derive(Debug, Parser)]
#[command(name = "hairpin", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What all commands share.
#[derive(Debug, Args)]
pub struct Common {
    /// Where the daemon's API is [default: $HAIRPIN_API, else unix:/run/hairpin/api.sock]
    #[arg(long, global = true, value_name = "ADDR")]
    api: Option<ApiAddress>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// How output is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Tables, for people.
    Table,
    /// JSON, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a whole EVB site on this machine and run real traffic through it
    Lab(lab::LabArgs),
    /// Run the switch in the foreground; prints `ready`; SIGTERM ends it, SIGHUP re-applies FILE
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Validate a configuration: every error with file, line and what would be right
    Check {
        /// The configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show the switch and everything in it
    Show,
    /// Make a configuration the running one: prints the difference, applies all of it or none
    Apply {
        /// The configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        trial: apply::Trial,
    },
    /// Go back to an earlier revision
    Rollback {
        /// Which one [default: the one before the one that runs]
        #[arg(value_name = "REVISION")]
        revision: Option<u64>,
        #[command(flatten)]
        trial: apply::Trial,
    },
    /// List the revisions that one can go back to
    Revisions,
    /// Print the running configuration, as a file
    Config,
    /// List, show, add, change or delete links
    Link(Listing),
    /// List, show, add, change or delete channels
    Channel(Listing),
    /// List, show, add, change or delete bridges
    Bridge(Listing),
    /// List, show, add, change, delete or release ports
    Port(port::PortArgs),
    /// Show the counters of ports and links
    Stats {
        /// Of these only
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show which frames were lost, and why
    Drops {
        /// List every reason there is, with its meaning and remedy (needs no daemon)
        #[arg(long)]
        list: bool,
    },
    /// Show registered and learned addresses, or forget learned ones
    Fdb(fdb::FdbArgs),
    /// List or show workers and their receive queues, or move a queue to another worker
    Workers(workers::WorkersArgs),
}

/// `list`, `show NAME`, `add NAME …`, and so on.
#[derive(Debug, Args)]
pub struct Listing {
    #[command(subcommand)]
    what: Option<objects::Verb>,
}

/// The command line is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Runs the command that this process was started as.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    match execute(command, common) {
        Ok(code) => code,
        Err(error) => {
            let code = if error.is::<UsageError>() { 2 } else { 1 };
            // Nothing is left to tell it to if standard error is closed as well.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::from(code)
        }
    }
}

/// Prints; a reader who has had enough is no error.
fn print(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush());
    printed.or_else(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

fn execute(command: Command, common: Common) -> anyhow::Result<ExitCode> {
    let format = if common.json { Format::Json } else { Format::Table };
    let client = || Client::connect(&api_address(common.api.clone())?);
    let output = match command {
        // These two print while they run.
        Command::Lab(args) => return lab::run(&args),
        Command::Run { config } => return run::run(&config).map(|()| ExitCode::SUCCESS),
        Command::Check { file } => check(&file, format),
        Command::Show => objects::show(&mut client()?, format),
        Command::Apply { file, trial } => apply::apply(client, &file, trial, format),
        Command::Rollback { revision, trial } => {
            apply::rollback(&mut client()?, revision, trial, format)
        }
        Command::Revisions => apply::revisions(&mut client()?, format),
        Command::Config => apply::config(&mut client()?, format),
        Command::Link(listing) => objects::link(client, listing.what, format),
        Command::Channel(listing) => objects::channel(client, listing.what, format),
        Command::Bridge(listing) => objects::bridge(client, listing.what, format),
        Command::Port(args) => port::port(client, args, format),
        Command::Stats { names } => counts::stats(&mut client()?, names, format),
        Command::Drops { list: true } => Ok(counts::catalogue(format)),
        Command::Drops { list: false } => counts::drops(&mut client()?, format),
        Command::Fdb(args) => fdb::fdb(&mut client()?, args, format),
        Command::Workers(args) => workers::workers(&mut client()?, args, format),
    }?;
    print(&output)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the daemon is: as told, else as the environment says, else where it
/// usually is.
fn api_address(told: Option<ApiAddress>) -> anyhow::Result<ApiAddress> {
    if let Some(told) = told {
        return Ok(told);
    }
    let text = std::env::var(address::VARIABLE).unwrap_or_else(|_| address::DEFAULT.to_owned());
    text.parse().map_err(|error| UsageError(format!("{}: {error}", address::VARIABLE)).into())
}

fn check(file: &Path, format: Format) -> anyhow::Result<String> {
    match (config::load(file), format) {
        (Ok(desired), Format::Table) => Ok(format!(
            "{}: valid: {} links, {} channels, {} bridges, {} ports\n",
            file.display(),
            desired.links().len(),
            desired.channels().len(),
            desired.bridges().len(),
            desired.ports().len(),
        )),
        (Ok(_), Format::Json) => Ok(json::text(&json::valid())),
        (Err(errors), Format::Table) => Err(errors.into()),
        (Err(errors), Format::Json) => {
            print(&json::text(&json::errors(&errors)))?;
            Err(errors.into())
        }
    }
}
