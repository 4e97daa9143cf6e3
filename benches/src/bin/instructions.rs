//! Instructions per frame of the relay, of lookups among learned addresses, of whole
//! breaths and of segmentation, as a Markdown table; fails if one has grown by more than 3 % since
//! the baseline, and names the function.
//!
//! `cargo build --release -p hairpin-dataplane --examples`, then
//! `cargo run --release -p hairpin-bench --bin instructions`. Needs valgrind.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use hairpin_bench::callgrind::baseline::{Baseline, Count, Verdict};
use hairpin_bench::callgrind::{PerFrame, Program, Scope, per_frame};
use hairpin_bench::command_line::{self, Given, Options};
use hairpin_bench::error::{Context, Result, RigError};

/// A program, what of it counts, and how the table calls that.
#[derive(Clone, Copy)]
struct Counted {
    program: &'static str,
    /// What stands before the number of frames on its command line.
    arguments: &'static [&'static str],
    scope: Scope,
    /// Frames of the shorter of two runs.
    frames: u64,
    /// How often each is run, for one in which no addresses collide.
    runs: usize,
    what: &'static str,
}

const COUNTED: [Counted; 10] = [
    Counted {
        program: "relay_count",
        arguments: &[],
        scope: Scope::Program,
        frames: 128_000,
        runs: 5,
        what: "relay: admit, decide, egress; registered unicast",
    },
    Counted {
        program: "learned_count",
        arguments: &["1000"],
        scope: Scope::Function("*switch_once*"),
        frames: 128_000,
        runs: 1,
        what: "the same to one of 1,000 learned addresses",
    },
    Counted {
        program: "learned_count",
        arguments: &["1000000"],
        scope: Scope::Function("*switch_once*"),
        frames: 128_000,
        runs: 1,
        what: "the same to one of 1,000,000 learned addresses",
    },
    Counted {
        program: "breath_count",
        arguments: &["mixed"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "whole breath over memory ports, 64 B",
    },
    Counted {
        program: "breath_count",
        arguments: &["alike"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "the same, frames of one flow",
    },
    Counted {
        program: "breath_count",
        arguments: &["polled"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "the same, while a client polls statistics flat out",
    },
    Counted {
        program: "vhost_count",
        arguments: &["split", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, split, 64 B of one flow",
    },
    Counted {
        program: "vhost_count",
        arguments: &["packed", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, packed, 64 B of one flow",
    },
    Counted {
        program: "vhost_count",
        arguments: &["packed-inorder", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, packed-inorder, 64 B of one flow",
    },
    Counted {
        program: "segment_count",
        arguments: &[],
        scope: Scope::Function("*breathe_once*"),
        frames: 100,
        runs: 1,
        what: "whole breath, a 64 KiB frame cut into 45 segments and summed",
    },
];

/// What was counted before.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

const HELP: &str = "\
instructions: what a frame costs, in instructions, beside what it cost before

Usage: instructions [OPTIONS]      (needs valgrind and addr2line; no root)

  --renew   write what is counted into benches/instructions.toml, the baseline, instead of
            comparing with it; say in the commit why it changed
  --help    this

Prints a Markdown table. Fails if a count has grown by more than 3 %, and names the functions it
has grown in.
";

/// What to do with the counts.
#[derive(Clone, Copy, Debug, Default)]
enum Purpose {
    #[default]
    Compare,
    Renew,
}

impl Options for Purpose {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--renew" => *self = Self::Renew,
            _ => given.refuse()?,
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let program = hairpin_bench::program::Program { name: "instructions", help: HELP };
    program.main(command_line::parse, |purpose| match purpose {
        Purpose::Renew => renew(),
        Purpose::Compare => compare(),
    })
}

fn renew() -> Result<()> {
    let mut baseline = Baseline { compiler: compiler()?, ..Baseline::default() };
    println!("| bursts of 64 | instructions per frame |");
    println!("| --- | ---: |");
    for counted in COUNTED {
        let now = count(counted)?;
        println!("| {} | {:.1} |", counted.what, now.total);
        baseline.count.insert(counted.what.to_owned(), Count::of(&now));
    }
    baseline.write(Path::new(BASELINE))
}

fn compare() -> Result<()> {
    let baseline = Baseline::read(Path::new(BASELINE))?;
    println!("| bursts of 64 | instructions per frame | baseline | change |");
    println!("| --- | ---: | ---: | ---: |");
    let (mut grown, mut shrunk) = (Vec::new(), Vec::new());
    for counted in COUNTED {
        let what = counted.what;
        let before = baseline.of(what)?;
        let now = count(counted)?;
        let change = before.change(&now) * 100.0;
        println!("| {what} | {:.1} | {:.1} | {change:+.1} % |", now.total, before.total);
        match before.judge(&now) {
            Verdict::Within => {}
            Verdict::Grown => grown.push(before.complain(what, &now)),
            Verdict::Shrunk => shrunk.push(what),
        }
    }
    if !shrunk.is_empty() {
        let shrunk = shrunk.join("; ");
        println!("\nshrunk by more than 3 %, so renew the baseline (--renew): {shrunk}");
    }
    match grown.is_empty() {
        true => Ok(()),
        false => Err(RigError::new(format!("grown:\n{}{}", grown.join("\n"), remark(&baseline)?))),
    }
}

/// What else may be the reason.
fn remark(baseline: &Baseline) -> Result<String> {
    let (before, now) = (&baseline.compiler, compiler()?);
    Ok(match *before == now {
        true => String::new(),
        false => format!("\nThe baseline was compiled by {before}, this by {now}."),
    })
}

fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("running rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn count(counted: Counted) -> Result<PerFrame> {
    let Counted { program, arguments, scope, frames, runs, .. } = counted;
    per_frame(Program { path: &built(program)?, arguments, scope }, frames, runs)
}

/// An example of the dataplane, or a program of this package, built beside this one.
fn built(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let example = program.with_file_name("examples").join(name);
    let beside = program.with_file_name(name);
    let found = [&example, &beside].into_iter().find(|path| path.exists());
    found.cloned().ok_or_else(|| {
        RigError::new(format!(
            "{} is missing; cargo build --release -p hairpin-dataplane --examples, and \
             cargo build --release -p hairpin-bench, make it",
            example.display()
        ))
    })
}
