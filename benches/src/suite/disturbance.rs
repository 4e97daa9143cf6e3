//! Whether somebody else had the CPUs: for how long generator and switch were ready to run and
//! could not (`schedstat` of their threads, proc(5)).
//!
//! Of 1024 frames that a ring holds a tick of the scheduler, 4 ms, makes 256,000 a second: a
//! switch that has to wait that long now and then loses of any higher load, whatever it can do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::site::Site;

/// More than this share of a turn is worth saying: of a turn of two seconds, one tick.
const SHARE: f64 = 0.002;

/// What a thread had, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Times {
    ran: u64,
    waited: u64,
}

/// Readings of this thread and of the switch's; empty where the kernel does not keep any.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Disturbance {
    generator: BTreeMap<String, Times>,
    switch: BTreeMap<String, Times>,
}

impl Disturbance {
    /// Up to now.
    pub fn now(site: &mut Site<'_>) -> Disturbance {
        let own = times(Path::new("/proc/thread-self/schedstat"));
        let pid = site.switch().process().map(|process| process.pid());
        Disturbance {
            generator: own.map(|times| (String::new(), times)).into_iter().collect(),
            switch: pid.map(threads).unwrap_or_default(),
        }
    }

    /// For how long generator and forwarding thread have waited since, in nanoseconds together.
    #[must_use]
    pub fn since(&self, before: &Disturbance) -> u64 {
        busiest(&self.generator, &before.generator) + busiest(&self.switch, &before.switch)
    }
}

/// For how long the thread waited that ran most: one that polls, where there is one.
fn busiest(now: &BTreeMap<String, Times>, before: &BTreeMap<String, Times>) -> u64 {
    let spent = |(id, now): (&String, &Times)| {
        let before = before.get(id).copied().unwrap_or_default();
        (now.ran.saturating_sub(before.ran), now.waited.saturating_sub(before.waited))
    };
    now.iter().map(spent).max().map_or(0, |(_, waited)| waited)
}

fn threads(pid: u32) -> BTreeMap<String, Times> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeMap::new() };
    let thread = |entry: fs::DirEntry| {
        let id = entry.file_name().to_string_lossy().into_owned();
        Some((id, times(&entry.path().join("schedstat"))?))
    };
    entries.flatten().filter_map(thread).collect()
}

fn times(path: &Path) -> Option<Times> {
    parsed(&fs::read_to_string(path).ok()?)
}

/// `ran waited slices`.
fn parsed(text: &str) -> Option<Times> {
    let mut words = text.split_whitespace().map(str::parse);
    let (ran, waited) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(Times { ran, waited })
}

/// What is to be said of turns in which these shares of the time were waited; `None` if nothing is.
#[must_use]
pub fn remark(shares: &[f64]) -> Option<String> {
    let disturbed = shares.iter().filter(|&&share| share > SHARE).count();
    let greatest = shares.iter().copied().fold(0.0, f64::max);
    (disturbed > 0).then(|| {
        format!(
            "in {disturbed} of {} slices generator or switch waited for its CPU, for up to {:.1} % \
             of the time: something else runs on this machine, and costs frames",
            shares.len(),
            100.0 * greatest
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(threads: &[(&str, u64, u64)]) -> BTreeMap<String, Times> {
        let thread = |&(id, ran, waited): &(&str, u64, u64)| (id.to_owned(), Times { ran, waited });
        threads.iter().map(thread).collect()
    }

    #[test]
    fn the_thread_that_runs_most_is_the_one_that_forwards() {
        let before = of(&[("1", 100, 5000), ("2", 1000, 10)]);
        let now = of(&[("1", 110, 9000), ("2", 9000, 17), ("3", 20, 70)]);
        assert_eq!(busiest(&now, &before), 7);
        // A process that was started anew has threads of its own.
        assert_eq!(busiest(&of(&[("7", 50, 3)]), &before), 3);
        assert_eq!(busiest(&BTreeMap::new(), &before), 0);
        let now = Disturbance { generator: of(&[("", 10, 4)]), switch: now };
        assert_eq!(now.since(&Disturbance { generator: of(&[("", 1, 1)]), switch: before }), 10);
    }

    #[test]
    fn this_thread_s_own_file_is_understood() {
        assert!(times(Path::new("/proc/thread-self/schedstat")).is_some());
        assert!(!threads(std::process::id()).is_empty());
        assert_eq!(parsed("7 8"), Some(Times { ran: 7, waited: 8 }));
        assert_eq!(parsed("7"), None);
    }

    #[test]
    fn a_tick_in_a_turn_is_said() {
        assert_eq!(remark(&[0.0, 0.001]), None);
        assert_eq!(remark(&[]), None);
        let said = remark(&[0.0, 0.05, 0.3]).unwrap();
        assert!(said.starts_with("in 2 of 3 slices") && said.contains("30.0 %"), "{said}");
    }
}
