//! Instructions that a program executes, counted by valgrind's callgrind: the same in every run,
//! whatever else the machine does. Only what a program draws at random makes a difference:
//! tables of addresses are keyed so, and two that collide cost a few instructions more.

use std::path::Path;
use std::process::Command;

use crate::error::{Context, Result, RigError};

/// Which instructions count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of the program's.
    Program,
    /// Those of functions whose name matches, and of all they call.
    Function(&'static str),
}

/// A program whose last argument is a number of frames.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// What stands before the number of frames on its command line.
    pub arguments: &'a [&'a str],
    /// What of it counts.
    pub scope: Scope,
}

/// What one frame costs, the program's start and end aside: the count for `2 * frames` less that
/// for `frames`, shared out; of each the least of so many runs.
pub fn per_frame(program: Program<'_>, frames: u64, runs: usize) -> Result<f64> {
    let (once, twice) = (least(program, frames, runs)?, least(program, 2 * frames, runs)?);
    Ok(twice.saturating_sub(once) as f64 / frames as f64)
}

fn least(program: Program<'_>, frames: u64, runs: usize) -> Result<u64> {
    let first = count(program, frames)?;
    (1..runs).try_fold(first, |least, _| Ok(least.min(count(program, frames)?)))
}

fn count(program: Program<'_>, frames: u64) -> Result<u64> {
    let Program { path, arguments, scope } = program;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    match scope {
        Scope::Program => {}
        Scope::Function(pattern) => {
            command.arg(format!("--toggle-collect={pattern}"));
        }
    }
    command.arg(path).args(arguments).arg(frames.to_string());
    let output = command.output().context("running valgrind (the Debian package valgrind)")?;
    let report = String::from_utf8_lossy(&output.stderr);
    let command = path.display();
    if !output.status.success() {
        return Err(RigError::new(format!(
            "{command} {arguments:?} {frames} under valgrind: {report}\n{command}: {}",
            output.status
        )));
    }
    match collected(&report) {
        None => Err(RigError::new(format!("valgrind's report is not understood: {report}"))),
        Some(0) => Err(RigError::new(format!("{command}: no {scope:?}"))),
        Some(count) => Ok(count),
    }
}

/// The total in callgrind's report: `==PID== Collected : COUNT`.
fn collected(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.split_once("== Collected :"));
    line?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_the_report() {
        let report = "==7== \n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(report), Some(123_456));
        assert_eq!(collected("==7== Collected : many\n"), None);
        assert_eq!(collected(""), None);
    }
}
