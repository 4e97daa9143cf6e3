//! Instructions per frame of the relay, of lookups among learned addresses, of whole
//! breaths and of segmentation, as a Markdown table; fails if one is above its bound.
//!
//! `cargo build --release -p hairpin-dataplane --examples`, then
//! `cargo run --release -p hairpin-bench --bin instructions`. Needs valgrind.

use std::path::PathBuf;
use std::process::ExitCode;

use hairpin_bench::callgrind::{Program, Scope, per_frame};
use hairpin_bench::error::{Context, Result, RigError};
use hairpin_bench::program::end;

/// A program, what of it counts, and how the table calls that.
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
    /// Per frame: some 3 % above what ARCHITECTURE.md records. Whoever raises it says why.
    instructions_max: f64,
}

const COUNTED: [Counted; 10] = [
    Counted {
        program: "relay_count",
        arguments: &[],
        scope: Scope::Program,
        frames: 128_000,
        runs: 5,
        what: "relay: admit, decide, egress; registered unicast",
        instructions_max: 274.0,
    },
    Counted {
        program: "learned_count",
        arguments: &["1000"],
        scope: Scope::Function("*switch_once*"),
        frames: 128_000,
        runs: 1,
        what: "the same to one of 1,000 learned addresses",
        instructions_max: 429.0,
    },
    Counted {
        program: "learned_count",
        arguments: &["1000000"],
        scope: Scope::Function("*switch_once*"),
        frames: 128_000,
        runs: 1,
        what: "the same to one of 1,000,000 learned addresses",
        instructions_max: 429.0,
    },
    Counted {
        program: "breath_count",
        arguments: &["mixed"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "whole breath over memory ports, 64 B",
        instructions_max: 988.0,
    },
    Counted {
        program: "breath_count",
        arguments: &["alike"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "the same, frames of one flow",
        instructions_max: 571.0,
    },
    Counted {
        program: "breath_count",
        arguments: &["polled"],
        scope: Scope::Function("*breathe_once*"),
        frames: 128_000,
        runs: 5,
        what: "the same, while a client polls statistics flat out",
        instructions_max: 571.0,
    },
    Counted {
        program: "vhost_count",
        arguments: &["split", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, split, 64 B of one flow",
        instructions_max: 631.0,
    },
    Counted {
        program: "vhost_count",
        arguments: &["packed", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, packed, 64 B of one flow",
        instructions_max: 671.0,
    },
    Counted {
        program: "vhost_count",
        arguments: &["packed-inorder", "64"],
        scope: Scope::Function("*breathe_once*"),
        frames: 32_000,
        runs: 1,
        what: "whole breath over vhost-user ports, packed-inorder, 64 B of one flow",
        instructions_max: 640.0,
    },
    Counted {
        program: "segment_count",
        arguments: &[],
        scope: Scope::Function("*breathe_once*"),
        frames: 100,
        runs: 1,
        what: "whole breath, a 64 KiB frame cut into 45 segments and summed",
        instructions_max: 82_500.0,
    },
];

fn main() -> ExitCode {
    end("instructions", run())
}

fn run() -> Result<()> {
    println!("| bursts of 64 | instructions per frame |");
    println!("| --- | ---: |");
    let mut above = Vec::new();
    for counted in COUNTED {
        let Counted { arguments, scope, frames, runs, what, instructions_max, .. } = counted;
        let path = built(counted.program)?;
        let instructions = per_frame(Program { path: &path, arguments, scope }, frames, runs)?;
        println!("| {what} | {instructions:.1} |");
        if instructions > instructions_max {
            above.push(format!(
                "{what}: {instructions:.1} instructions, at most {instructions_max}"
            ));
        }
    }
    if above.is_empty() { Ok(()) } else { Err(RigError::new(above.join("; "))) }
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
