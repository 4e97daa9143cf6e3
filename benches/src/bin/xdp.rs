//! Frames from a veth pair to another or to a VM, through one forwarder or another; `--help`
//! says how.
//!
//! **What is counted.** Frames: those that the interface behind the forwarder received
//! (`/proc/net/dev`), or the VM, while a turn lasted. Lost: the share of the frames which the
//! kernel took from the sender that did not get there. CPU time: of the whole machine, that is
//! the turn's length times the number of CPUs, less what `/proc/stat` has as idle, waiting and
//! stolen. It holds the sender, the forwarder, the counter, and all interrupts and soft
//! interrupts, in whosever name they ran; from it is taken what the machine worked in a turn of
//! the same round in which nobody sent. It is shared out over the frames that arrived: those
//! lost cost, too, and are nobody's.

use std::process::ExitCode;

use hairpin_bench::error::Result;
use hairpin_bench::program::{self, Program};
use hairpin_bench::xdp::contestant::{Contestant, Kind};
use hairpin_bench::xdp::options::{HELP, Options};
use hairpin_bench::xdp::slice::{Sample, Traffic};
use hairpin_bench::xdp::target::Target;
use hairpin_bench::xdp::{report, slice};

fn main() -> ExitCode {
    Program { name: "xdp", help: HELP }.main(Options::parse, run)
}

fn run(mut options: Options) -> Result<()> {
    program::begin_as_root("network namespaces and AF_XDP")?;
    options.kinds.retain(|&kind| is_there(kind));
    let mut samples = Vec::new();
    for &target in &options.targets {
        let kinds = options.kinds.iter().filter(|kind| kind.reaches(target));
        let contestants =
            kinds.map(|&kind| Contestant::start(kind, target, options.hairpin.as_deref()));
        let mut contestants = contestants.collect::<Result<Vec<_>>>()?;
        for round in 0..options.rounds {
            samples.extend(take_round(&mut contestants, target, &options, round)?);
        }
    }
    println!("{}", report::table(&options, &samples));
    program::write_json(options.json.as_deref(), &report::json(&options, &samples))
}

/// Says which contestant is skipped, and why.
fn is_there(kind: Kind) -> bool {
    let missing = kind.missing();
    if let Some(reason) = &missing {
        eprintln!("skipped {kind}: {reason}");
    }
    missing.is_none()
}

/// A turn of each contestant for each length and load, in an order that rotates.
fn take_round(
    contestants: &mut [Contestant],
    target: Target,
    options: &Options,
    round: usize,
) -> Result<Vec<Sample>> {
    let baseline = slice::baseline(options.length)?;
    let (rounds, count) = (options.rounds, contestants.len());
    eprintln!("round {} of {rounds}: {baseline:.2} CPUs are busy by themselves", round + 1);
    let mut samples = Vec::new();
    for &bytes in &options.sizes {
        for &load in &options.loads {
            let traffic = Traffic { target, bytes, load };
            for turn in 0..count {
                let contestant = &mut contestants[(round + turn) % count];
                let sample = slice::take(contestant, traffic, options.length, round, baseline)?;
                let (kind, rates) = (sample.kind, sample.rates);
                eprintln!(
                    "  to {target}, {bytes} B, {load:?}: {kind} {:.0} frames/s, {:.1} % lost, {:.0} ns",
                    rates.frames_per_second,
                    rates.lost * 100.0,
                    rates.cpu_seconds_per_frame * 1e9
                );
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}
