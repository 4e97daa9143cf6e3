//! Instructions that a program executes, counted by valgrind's callgrind: the same in every run,
//! whatever else the machine does. Only what a program draws at random makes a difference:
//! tables of addresses are keyed so, and two that collide cost a few instructions more.
//!
//! Each count says which functions of this repository it is made of: [`profile`] is what callgrind
//! wrote, [`place`] which function an instruction comes from, inlined or not. [`baseline`] is what
//! was counted before, and what has grown since.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::callgrind::place::Places;
use crate::callgrind::profile::Profile;
use crate::error::{Context, Result, RigError};

pub mod baseline;
pub mod place;
pub mod profile;

/// glibc's plain copies on every machine: it would choose among several by the CPU's features, of
/// which valgrind shows AVX2 where the machine has it. (AVX-512 it shows nowhere.)
const PLAIN_COPIES: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-ERMS,-FSRM");

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

/// What one frame costs, in instructions.
#[derive(Clone, PartialEq, Debug)]
pub struct PerFrame {
    /// All of them.
    pub total: f64,
    /// Those of each function, without the functions of ours that it calls.
    pub functions: BTreeMap<String, f64>,
}

/// What one frame costs, the program's start and end aside: the count for `2 * frames` less that
/// for `frames`, shared out; of each the least of so many runs.
///
/// # Errors
/// If valgrind or addr2line is missing, the program fails, or nothing of the scope was executed.
pub fn per_frame(program: Program<'_>, frames: u64, runs: usize) -> Result<PerFrame> {
    let (once, twice) = (least(program, frames, runs)?, least(program, 2 * frames, runs)?);
    let mut addresses = once.addresses();
    addresses.extend(twice.addresses());
    let places = Places::of(program.path, &addresses)?;
    Ok(difference(&once.charge(&places), &twice.charge(&places), frames))
}

/// What `frames` more of them cost, a frame.
fn difference(
    once: &BTreeMap<String, u64>,
    twice: &BTreeMap<String, u64>,
    frames: u64,
) -> PerFrame {
    let share = |once: u64, twice: u64| (twice as f64 - once as f64) / frames as f64;
    let total = share(once.values().sum(), twice.values().sum());
    let functions = twice.iter().map(|(name, &twice)| {
        let once = once.get(name).copied().unwrap_or_default();
        (name.clone(), share(once, twice))
    });
    PerFrame { total, functions: functions.collect() }
}

fn least(program: Program<'_>, frames: u64, runs: usize) -> Result<Profile> {
    let first = count(program, frames)?;
    (1..runs).try_fold(first, |least, _| {
        let next = count(program, frames)?;
        Ok(if next.total() < least.total() { next } else { least })
    })
}

fn count(program: Program<'_>, frames: u64) -> Result<Profile> {
    let Program { path, arguments, scope } = program;
    let file = tempfile::NamedTempFile::new().context("making a file for callgrind")?;
    let mut command = Command::new("valgrind");
    // An environment of always the same length: where the stack begins depends on it.
    command.env_clear().env("PATH", "/usr/bin:/bin").env(PLAIN_COPIES.0, PLAIN_COPIES.1);
    command.args(["--tool=callgrind", "--dump-instr=yes"]);
    command.args(["--compress-strings=no", "--compress-pos=no"]);
    command.arg(format!("--callgrind-out-file={}", file.path().display()));
    if let Scope::Function(pattern) = scope {
        command.arg(format!("--toggle-collect={pattern}"));
    }
    command.arg(path).args(arguments).arg(frames.to_string());
    let output = command.output().context("running valgrind (the Debian package valgrind)")?;
    let name = path.display();
    if !output.status.success() {
        let report = String::from_utf8_lossy(&output.stderr);
        return Err(RigError::new(format!(
            "{name} {arguments:?} {frames} under valgrind: {report}\n{name}: {}",
            output.status
        )));
    }
    let text = std::fs::read_to_string(file.path()).context("reading what callgrind wrote")?;
    let profile = Profile::parse(&text).context(format_args!("what callgrind wrote of {name}"))?;
    match profile.total() {
        0 => Err(RigError::new(format!("{name}: no {scope:?}"))),
        _ => Ok(profile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_costs_what_twice_the_frames_cost_more() {
        let costs = |costs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            costs.iter().map(|&(name, cost)| (name.to_owned(), cost)).collect()
        };
        let once = costs(&[("start", 500), ("relay", 1000)]);
        let twice = costs(&[("start", 500), ("relay", 2000), ("grow", 50)]);
        let found = difference(&once, &twice, 100);
        let functions = [("start", 0.0), ("relay", 10.0), ("grow", 0.5)];
        let functions = functions.map(|(name, cost)| (name.to_owned(), cost)).into();
        assert_eq!(found, PerFrame { total: 10.5, functions });
    }
}
