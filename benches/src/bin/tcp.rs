//! TCP between two kernel stacks, through one switch or another; `--help` says how.

use std::process::ExitCode;

use hairpin_bench::error::Result;
use hairpin_bench::program::{self, Program};
use hairpin_bench::tcp::contestant::Contestant;
use hairpin_bench::tcp::options::{HELP, Options};
use hairpin_bench::tcp::{report, slice};

fn main() -> ExitCode {
    Program { name: "tcp", help: HELP }.main(Options::parse, |options| run(&options))
}

fn run(options: &Options) -> Result<()> {
    program::begin_as_root("network namespaces")?;
    let mut contestants = Vec::new();
    for &kind in &options.kinds {
        contestants.push(Contestant::start(kind, options.hairpin.as_deref())?);
    }
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        for turn in 0..contestants.len() {
            let contestant = &contestants[(round + turn) % contestants.len()];
            let sample = slice::take(contestant, &options.plan)?;
            eprintln!(
                "round {} of {}: {} {:.2} Gbit/s",
                round + 1,
                options.rounds,
                sample.kind,
                sample.carried.gigabits_per_second
            );
            samples.push(sample);
        }
    }
    println!("{}", report::table(options, &samples));
    program::write_json(options.json.as_deref(), &report::json(options, &samples))
}
