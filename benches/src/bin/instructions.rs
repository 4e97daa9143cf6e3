//! Instructions per frame of the relay and of a whole breath, as a Markdown table; fails
//! if one is above its bound.
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
    /// Per frame: some 3 % above what ARCHITECTURE.md records. Whoever raises it says why.
    instructions_max: f64,
}

const COUNTED: [Counted; 2] = [
    Counted {
        program: "relay_count",
        scope: Scope::Program,
        what: "relay: admit, decide, egress",
        instructions_max: 310.0,
    },
    Counted {
        program: "breath_count",
        scope: Scope::Function("*breathe_once*"),
        what: "whole breath over memory ports, 64 B",
        instructions_max: 1015.0,
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
    let mut above = Vec::new();
    for Counted { program, scope, what, instructions_max } in COUNTED {
        let instructions = per_frame(&example(program)?, scope, FRAMES)?;
        println!("| {what} | {instructions:.1} |");
        if instructions > instructions_max {
            above.push(format!(
                "{what}: {instructions:.1} instructions, at most {instructions_max}"
            ));
        }
    }
    if above.is_empty() { Ok(()) } else { Err(RigError::new(above.join("; "))) }
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
