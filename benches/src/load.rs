//! Whether anything else used the CPUs during a window.

use crate::error::{Context, Result, RigError};
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Fields of `/proc/stat` that are time taken: user, nice, system, irq, softirq, steal.
const TAKEN: [usize; 6] = [0, 1, 2, 5, 6, 7];

/// Clock ticks all CPUs have spent on anything but idling, the host's other guests included.
pub fn machine_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    taken(&text).ok_or_else(|| RigError::new("/proc/stat is not what this rig understands"))
}

fn taken(text: &str) -> Option<u64> {
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    TAKEN.iter().map(|&field| fields.get(field)).sum()
}

/// Clock ticks the process `id` (a number, or `self`) has spent in all its threads.
pub fn process_ticks(id: &str) -> Result<u64> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).context(format_args!("reading {path}"))?;
    // Fields 14 and 15 (utime, stime), counted after the name, which may hold blanks.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    ticks.sum::<std::result::Result<u64, _>>().context(format_args!("reading {path}"))
}

/// CPU time this process has spent in all its threads, to the nanosecond.
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How often this process's threads of that name have given their CPU up by themselves: slept.
pub fn own_sleeps(thread: &str) -> Result<u64> {
    let tasks = fs::read_dir("/proc/self/task").context("reading /proc/self/task")?;
    let mut sleeps = 0;
    for task in tasks.flatten() {
        let read = |file| fs::read_to_string(task.path().join(file));
        // A thread that ends meanwhile is not the one asked for.
        let (Ok(name), Ok(status)) = (read("comm"), read("status")) else { continue };
        if name.trim_end() == thread {
            let field =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let count = field.ok_or_else(|| RigError::new("the kernel counts no sleeps"))?;
            sleeps += count.trim().parse::<u64>().context("reading /proc/self/task")?;
        }
    }
    Ok(sleeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_those_of_the_thread_named() {
        let (say, heard) = std::sync::mpsc::channel();
        let sleeper = std::thread::Builder::new().name("sleeper".to_owned()).spawn(move || {
            let before = own_sleeps("sleeper").unwrap();
            (0..10).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
            say.send(own_sleeps("sleeper").unwrap() - before).unwrap();
        });
        assert!(heard.recv().unwrap() >= 10);
        sleeper.unwrap().join().unwrap();
        assert_eq!(own_sleeps("nobody").unwrap(), 0);
    }

    #[test]
    fn work_takes_cpu_time() {
        let (before, start) = (own_cpu_time(), std::time::Instant::now());
        while own_cpu_time() - before < Duration::from_millis(5) {
            assert!(start.elapsed() < Duration::from_secs(60), "the clock stands still");
        }
    }

    #[test]
    fn idle_and_iowait_do_not_count() {
        let text = "cpu  1 20 300 4000 50000 6 70 800 9 10\ncpu0 1 1 1 1\n";
        assert_eq!(taken(text), Some(1 + 20 + 300 + 6 + 70 + 800));
        assert_eq!(taken("cpu0 1 2 3"), None);
        assert!(process_ticks("self").is_ok());
    }
}
