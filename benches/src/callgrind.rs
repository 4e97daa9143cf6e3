//! Instructions that a program executes, counted by valgrind's callgrind: the same in every run,
//! whatever else the machine does.

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

/// What one frame costs a program whose last argument is a number of frames, its start and end
/// aside: the count for `2 * frames` less that for `frames`, shared out.
pub fn per_frame(program: &Path, arguments: &[&str], scope: Scope, frames: u64) -> Result<f64> {
    let count = |frames| count(program, arguments, scope, frames);
    let (once, twice) = (count(frames)?, count(2 * frames)?);
    Ok(twice.saturating_sub(once) as f64 / frames as f64)
}

fn count(program: &Path, arguments: &[&str], scope: Scope, frames: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    match scope {
        Scope::Program => {}
        Scope::Function(pattern) => {
            command.arg(format!("--toggle-collect={pattern}"));
        }
    }
    command.arg(program).args(arguments).arg(frames.to_string());
    let output = command.output().context("running valgrind (the Debian package valgrind)")?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(RigError::new(format!("{} under valgrind: {report}", program.display())));
    }
    match collected(&report) {
        None => Err(RigError::new(format!("valgrind's report is not understood: {report}"))),
        Some(0) => Err(RigError::new(format!("{}: no {scope:?}", program.display()))),
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
