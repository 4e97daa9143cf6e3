//! Instructions per frame of the relay and of a whole breath, as a Markdown table.
//!
//! `cargo build --release -p hairpin-dataplane --examples`, then
//! `cargo run --release -p hairpin-bench --bin instructions`. Needs valgrind.

use std::path::PathBuf;
use std::process::ExitCode;

use hairpin_bench::callgrind::{Scope, per_frame};
use hairpin_bench::error::{Context, Result, RigError};

/// Frames of the shorter of two runs: two thousand bursts.
const FRAMES: u64 = 128_000;

/// A program, what of it counts, and how the table calls that.
struct Counted {
    program: &'static str,
    scope: Scope,
    what: &'static str,
}

const COUNTED: [Counted; 2] = [
    Counted { program: "relay_count", scope: Scope::Program, what: "relay: admit, decide, egress" },
    Counted {
        program: "breath_count",
        scope: Scope::Function("*breathe_once*"),
        what: "whole breath over memory ports, 64 B",
    },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("| registered unicast, bursts of 64 | instructions per frame |");
    println!("| --- | ---: |");
    for Counted { program, scope, what } in COUNTED {
        println!("| {what} | {:.1} |", per_frame(&example(program)?, scope, FRAMES)?);
    }
    Ok(())
}

/// An example of the dataplane, built beside this program.
fn example(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let example = program.with_file_name("examples").join(name);
    if example.exists() {
        return Ok(example);
    }
    Err(RigError::new(format!(
        "{} is missing; cargo build --release -p hairpin-dataplane --examples makes it",
        example.display()
    )))
}
