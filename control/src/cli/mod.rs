//! The `hairpin` command.
//!
//! Each client command gives its output as a text, which is printed at the end;
//! [`main`] turns what went wrong into an exit code: 0 done, 1 refused or failed,
//! 2 usage.
//!
//! * [`run`] — the daemon. [`client`] — how the others reach it.
//! * [`notify`] — what a service manager hears of the daemon.
//! * [`objects`], [`port`], [`counts`], [`fdb`], [`workers`] — the commands. [`mod@apply`] —
//!   those that change what is wanted; [`wishes`] — in words.
//! * [`why`] — what would become of a frame; [`frame`], [`pcap`] — the frame it is asked of.
//! * [`capture`] — frames as they pass; [`captured`], what they look like; [`pcapng`], how they
//!   come.
//! * [`top`] — the same, live. [`completions`], [`manual`] — made of the commands themselves.
//! * [`table`] for people, [`json`] for programs, [`words`] for both. [`vmm`] — what a
//!   vhost-user port has beside others, for both.

pub mod apply;
pub mod capture;
pub mod captured;
pub mod client;
pub mod completions;
pub mod counts;
pub mod events;
pub mod fdb;
pub mod frame;
pub mod json;
pub mod manual;
pub mod notify;
pub mod objects;
pub mod pcap;
pub mod pcapng;
pub mod port;
pub mod run;
pub mod table;
pub mod top;
pub mod vmm;
pub mod why;
pub mod wishes;
pub mod words;
pub mod workers;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    /// Show it again every so many seconds, until interrupted (what is shown, not what changes)
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
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
    /// List, show, add, change or delete port templates
    Template(Listing),
    /// List, show, add, change or delete mirrors
    Mirror(Listing),
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
    /// Show what happened, with cause and remedy
    Events(events::EventsArgs),
    /// Show registered and learned addresses, or forget learned ones
    Fdb(fdb::FdbArgs),
    /// Capture frames of ports and links as they pass: a line each, or as pcapng for tshark
    Capture(capture::CaptureArgs),
    /// Say what the switch would do with a frame, step by step, and which rule decides
    Why(Box<why::WhyArgs>),
    /// List or show workers and their receive queues, or move a queue to another worker
    Workers(workers::WorkersArgs),
    /// Watch ports, drops and workers, live
    Top(top::TopArgs),
    /// Print what a shell completes these commands by
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: completions::Shell,
    },
    /// Write a manual page for each command
    Man {
        /// Where to; made if it is not there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
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
    let done = match common.watch {
        None => execute(command, common),
        Some(seconds) => watch(Duration::from_secs(seconds), &command),
    };
    match done {
        Ok(code) => code,
        Err(error) if is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = if error.is::<UsageError>() { 2 } else { 1 };
            // Nothing is left to tell it to if standard error is closed as well.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::from(code)
        }
    }
}

/// Shows something again and again. A switch that is not there at first is an error; one that
/// goes is waited for.
fn watch(interval: Duration, command: &Command) -> anyhow::Result<ExitCode> {
    if !command.only_shows() {
        let said = "--watch is for commands that show something and end";
        return Err(UsageError(said.to_owned()).into());
    }
    let is_terminal = io::stdout().is_terminal();
    let mut turns = 0_u64;
    loop {
        if is_terminal {
            // Home, and clear what is below.
            print("\x1b[H\x1b[J")?;
        } else if turns > 0 && !Cli::parse().common.json {
            print("\n")?;
        }
        let Cli { common, command } = Cli::parse();
        match execute(command, common) {
            Ok(_) => {}
            Err(error) if turns == 0 || is_unread(&error) => return Err(error),
            Err(error) => print(&format!("{error:#}\n"))?,
        }
        turns += 1;
        std::thread::sleep(interval);
    }
}

impl Command {
    /// Whether it shows something of a switch, changes nothing, and ends.
    fn only_shows(&self) -> bool {
        use objects::Verb;
        match self {
            Command::Show
            | Command::Stats { .. }
            | Command::Revisions
            | Command::Config
            | Command::Drops { list: false } => true,
            Command::Link(Listing { what })
            | Command::Channel(Listing { what })
            | Command::Bridge(Listing { what })
            | Command::Template(Listing { what })
            | Command::Mirror(Listing { what }) => {
                matches!(what, None | Some(Verb::List | Verb::Show { .. }))
            }
            Command::Port(args) => args.only_shows(),
            Command::Fdb(args) => args.only_shows(),
            Command::Workers(args) => args.only_shows(),
            Command::Lab(_)
            | Command::Run { .. }
            | Command::Check { .. }
            | Command::Apply { .. }
            | Command::Rollback { .. }
            | Command::Events(_)
            | Command::Capture(_)
            | Command::Why(_)
            | Command::Top(_)
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Drops { list: true } => false,
        }
    }
}

fn print(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(output.as_bytes())?;
    stdout.flush()
}

/// Whether the reader of what is printed has had enough, which is no error.
fn is_unread(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn execute(command: Command, common: Common) -> anyhow::Result<ExitCode> {
    let format = if common.json { Format::Json } else { Format::Table };
    let client = || Client::connect(&api_address(common.api.clone())?);
    let output = match command {
        // These print while they run.
        Command::Lab(args) => return lab::run(&args),
        Command::Capture(args) => {
            return capture::capture(client, &args, format).map(|()| ExitCode::SUCCESS);
        }
        Command::Run { config } => return run::run(&config).map(|()| ExitCode::SUCCESS),
        Command::Events(args) => {
            return events::events(&mut client()?, args, format).map(|()| ExitCode::SUCCESS);
        }
        Command::Top(args) => {
            let address = api_address(common.api.clone())?;
            return top::top(address, &args, format).map(|()| ExitCode::SUCCESS);
        }
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
        Command::Template(listing) => objects::template(client, listing.what, format),
        Command::Mirror(listing) => objects::mirror(client, listing.what, format),
        Command::Stats { names } => counts::stats(&mut client()?, names, format),
        Command::Drops { list: true } => Ok(counts::catalogue(format)),
        Command::Drops { list: false } => counts::drops(&mut client()?, format),
        Command::Fdb(args) => fdb::fdb(&mut client()?, args, format),
        Command::Why(args) => why::why(client, *args, format),
        Command::Workers(args) => workers::workers(&mut client()?, args, format),
        Command::Completions { shell } => Ok(completions::script(shell)),
        Command::Man { directory } => manual::write(&directory, format),
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
