//! Frames from VM to VM, through one switch or another; `--help` says how.

use std::process::ExitCode;

use hairpin_bench::error::Result;
use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::layout::Layout;
use hairpin_bench::measure::{Outcome, Plan, measure};
use hairpin_bench::pair::{Pair, Side};
use hairpin_bench::program::{self, Program};
use hairpin_bench::report::{self, Raw};
use hairpin_bench::testpmd::{self, Traffic};
use hairpin_bench::vhost::options::{HELP, Kind, Options};
use hairpin_bench::vhost::report::{HEADER, rows};

fn main() -> ExitCode {
    Program { name: "vhost", help: HELP }.main(Options::parse, run)
}

fn run(mut options: Options) -> Result<()> {
    program::begin_as_root("huge pages, namespaces and priorities")?;
    testpmd::check_installed()?;
    options.kinds.retain(|&kind| is_there(kind));
    let sides = options.kinds.iter().map(|&kind| options.side(kind)).collect::<Result<Vec<_>>>()?;
    let mut raw = Raw::open(options.json.as_deref())?;
    let directory = RunDirectory::create(options.pages())?;
    println!("{HEADER}");
    for layout in &options.layouts {
        let mut outcomes = vec![Outcome::default(); options.sizes.len()];
        for round in 0..options.rounds.min(options.windows) {
            take_round(layout, round, &options, (&sides, &directory), (&mut raw, &mut outcomes))?;
        }
        for (&bytes, outcome) in options.sizes.iter().zip(&outcomes) {
            rows(layout, bytes, outcome).iter().for_each(|row| println!("{row}"));
        }
    }
    Ok(())
}

/// Says which contestant is skipped, and why.
fn is_there(kind: Kind) -> bool {
    let missing = kind.missing();
    if let Some(reason) = missing {
        eprintln!("skipped {}: {reason}", kind.name());
    }
    missing.is_none()
}

/// Starts all contestants, in an order that rotates, and takes this round's windows of
/// every length.
fn take_round(
    layout: &Layout,
    round: usize,
    options: &Options,
    (sides, directory): (&[Side], &RunDirectory),
    (raw, outcomes): (&mut Raw, &mut [Outcome]),
) -> Result<()> {
    let mut order: Vec<&Side> = sides.iter().collect();
    order.rotate_left(round % sides.len().max(1));
    let mut pairs = Pair::start_all(&order, layout, directory)?;
    raw.pairs(layout, &pairs)?;
    let rounds = options.rounds.min(options.windows);
    for (&bytes, outcome) in options.sizes.iter().zip(outcomes) {
        let plan = Plan {
            bytes,
            round,
            windows: options.windows.div_ceil(rounds),
            length: options.length,
            traffic: Traffic { engine: "mac".into(), bursts: 8 },
        };
        let taken = measure(&mut pairs, &plan)?;
        raw.windows(layout, &plan, &taken)?;
        for remark in report::remarks(layout, &plan, &taken) {
            eprintln!("vhost: {remark}");
        }
        outcome.extend(taken);
    }
    pairs.into_iter().for_each(|pair| drop(pair.stop()));
    Ok(())
}
