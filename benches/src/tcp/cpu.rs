//! CPU time of the machine, and of one process (proc(5)).

use std::fs;

use crate::error::{Context, Result, RigError};

/// Seconds of CPU time since the machine started, of all CPUs, that were not idle:
/// user, nice, system, interrupts and soft interrupts.
///
/// The kernel counts whole clock ticks (usually 10 ms): over a slice of seconds the
/// error is below a percent of a CPU.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub fn machine_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    machine_ticks(&text).map(seconds).ok_or_else(|| RigError::new("/proc/stat has no line `cpu`"))
}

/// Seconds of CPU time that a process and its threads have used.
///
/// # Errors
/// If there is no such process.
pub fn process_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(format_args!("reading {path}"))?;
    process_ticks(&text).map(seconds).ok_or_else(|| RigError::new(format!("{path} is not whole")))
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The busy fields of `cpu user nice system idle iowait irq softirq steal …`.
fn machine_ticks(text: &str) -> Option<u64> {
    let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> =
        fields.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    Some([0, 1, 2, 5, 6].into_iter().filter_map(|index| fields.get(index)).sum())
}

/// `utime` and `stime`, fields 14 and 15; the name in field 2 may hold anything.
fn process_ticks(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_ticks_leave_idle_and_stolen_time_out() {
        let text = "cpu  1 20 300 4000 50000 6 70 800 0 0\ncpu0 9 9 9 9 9 9 9 9 0 0\n";
        assert_eq!(machine_ticks(text), Some(1 + 20 + 300 + 6 + 70));
    }

    #[test]
    fn a_name_with_blanks_and_brackets_is_no_hindrance() {
        let text = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 110 22 3 4";
        assert_eq!(process_ticks(text), Some(132));
        assert!(process_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
