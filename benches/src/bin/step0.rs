//! Step 0's measuring rig: our wire beside DPDK's bare wire; `--help` says how.

use hairpin_bench::error::{Result, RigError};
use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::layout::Layout;
use hairpin_bench::measure::{Outcome, Plan, measure};
use hairpin_bench::options::{HELP, Options};
use hairpin_bench::pair::{Pair, Side, WireKind};
use hairpin_bench::program::{self, Program};
use hairpin_bench::report::{self, Raw};
use hairpin_bench::testpmd;
use std::process::ExitCode;

fn main() -> ExitCode {
    Program { name: "step0", help: HELP }.main(Options::parse, |options| run(&options))
}

fn run(options: &Options) -> Result<()> {
    program::begin_as_root("huge pages and priorities")?;
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return Err(RigError::new("this needs two CPUs: one for the generator, one for the wire"));
    }
    testpmd::check_installed()?;
    let mut raw = Raw::open(options.json.as_deref())?;
    let directory = RunDirectory::create(pages(options))?;
    println!("{}", report::HEADER);
    for layout in &options.layouts {
        compare(layout, options, &directory, &mut raw)?;
    }
    Ok(())
}

/// Each testpmd takes its share, and each side has one or two of them.
fn pages(options: &Options) -> u64 {
    let wires = options.sides.iter().filter(|side| side.wire == WireKind::Dpdk).count();
    (options.sides.len() + wires) as u64 * testpmd::PAGES
}

/// Measures one layout at every length, over all rounds.
fn compare(
    layout: &Layout,
    options: &Options,
    directory: &RunDirectory,
    raw: &mut Raw,
) -> Result<()> {
    let rounds = options.rounds.min(options.windows);
    let mut outcomes = vec![Outcome::default(); options.sizes.len()];
    for round in 0..rounds {
        let mut sides: Vec<&Side> = options.sides.iter().collect();
        if round % 2 == 1 {
            sides.reverse();
        }
        let mut pairs = Pair::start_all(&sides, layout, directory)?;
        raw.pairs(layout, &pairs)?;
        for (&bytes, outcome) in options.sizes.iter().zip(&mut outcomes) {
            let plan = Plan {
                bytes,
                round,
                windows: options.windows.div_ceil(rounds),
                length: options.length,
                traffic: options.traffic.clone(),
            };
            let taken = measure(&mut pairs, &plan)?;
            raw.windows(layout, &plan, &taken)?;
            for remark in report::remarks(layout, &plan, &taken) {
                eprintln!("step0: {remark}");
            }
            outcome.extend(taken);
        }
        for pair in pairs {
            let name = pair.side().name;
            for line in pair.stop() {
                eprintln!("{name}: {line}");
            }
        }
    }
    for (&bytes, outcome) in options.sizes.iter().zip(&outcomes) {
        for row in report::rows(layout, bytes, outcome) {
            println!("{row}");
        }
    }
    Ok(())
}
