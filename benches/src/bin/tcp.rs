//! TCP between two kernel stacks, through one switch or another; `--help` says how.

use std::process::ExitCode;

use hairpin_bench::error::{Context, Result, RigError};
use hairpin_bench::interrupt;
use hairpin_bench::tcp::contestant::Contestant;
use hairpin_bench::tcp::options::{HELP, Options};
use hairpin_bench::tcp::{report, slice};

fn main() -> ExitCode {
    let said = match Options::parse(std::env::args().skip(1)) {
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Some(options)) => run(&options),
        Err(error) => Err(error),
    };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(RigError::new("run this as root: network namespaces need it"));
    }
    interrupt::install()?;
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
                sample.gigabits_per_second
            );
            samples.push(sample);
        }
    }
    println!("{}", report::table(options, &samples));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report::json(options, &samples));
        std::fs::write(path, text).context(format_args!("writing {}", path.display()))?;
    }
    Ok(())
}
