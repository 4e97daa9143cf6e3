//! CPU time of the machine, and of one process (proc(5)).

use std::fs;
use std::time::Instant;

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

/// What the machine's CPUs have not worked up to a moment.
///
/// Unlike the ticks of [`machine_seconds`], which the kernel counts by asking now and then
/// what a CPU is at, idle time is measured from sleep to wake-up: short work between long
/// sleeps is neither missed nor overrated. It is read in whole clock ticks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Idleness {
    at: Instant,
    cpus: usize,
    /// Seconds of all CPUs together that were idle, waiting for a disk, or the host's.
    seconds: f64,
}

impl Idleness {
    /// Up to now.
    ///
    /// # Errors
    /// If `/proc/stat` cannot be read.
    pub fn now() -> Result<Idleness> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let at = Instant::now();
        let (cpus, ticks) = idle_ticks(&text)
            .ok_or_else(|| RigError::new("/proc/stat is not what this rig understands"))?;
        Ok(Idleness { at, cpus, seconds: seconds(ticks) })
    }

    /// Seconds of CPU time that all CPUs together have worked since: processes, the
    /// kernel, interrupts and soft interrupts.
    #[must_use]
    pub fn worked_since(&self, before: &Idleness) -> f64 {
        let wall = (self.at - before.at).as_secs_f64();
        (wall * self.cpus as f64 - (self.seconds - before.seconds)).max(0.0)
    }
}

/// The number of CPUs, and of `cpu user nice system idle iowait irq softirq steal …` the
/// sum of idle, iowait and steal.
fn idle_ticks(text: &str) -> Option<(usize, u64)> {
    let mut lines = text.lines().take_while(|line| line.starts_with("cpu"));
    let all = lines.next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        all.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    let ticks = [3, 4, 7].into_iter().map(|index| fields.get(index)).sum::<Option<u64>>()?;
    Some((lines.count(), ticks))
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
    fn work_is_what_idleness_leaves_of_the_time() {
        let text = "cpu  1 20 300 4000 50000 6 70 800 0 0\ncpu0 9 9\ncpu1 9 9\nintr 5 5\n";
        assert_eq!(idle_ticks(text), Some((2, 4000 + 50000 + 800)));
        assert_eq!(idle_ticks("cpu  1 2 3\ncpu0 1\n"), None);
        let at = Instant::now();
        let before = Idleness { at, cpus: 2, seconds: 100.0 };
        let later = at + std::time::Duration::from_secs(3);
        let after = Idleness { at: later, cpus: 2, seconds: 101.5 };
        assert_eq!(after.worked_since(&before), 4.5);
        // Clock ticks are coarse: never less than nothing.
        assert_eq!(Idleness { at, cpus: 2, seconds: 100.01 }.worked_since(&before), 0.0);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_is_no_hindrance() {
        let text = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 110 22 3 4";
        assert_eq!(process_ticks(text), Some(132));
        assert!(process_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
