//! What `workers` and `poll` make of threads. A program of its own: it looks at all
//! threads of its process.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hairpin::config;
use hairpin::switch::Switch;
use hairpin::switch::workers::WorkerStatus;

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time: each sees the workers of its own switch only.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A switch with these lines under `[switch]`.
fn switch(lines: &str) -> Switch {
    Switch::start(config::parse(&format!("[switch]\n{lines}\n")).unwrap()).unwrap()
}

/// The CPUs that a thread may run on, as its `status` file lists them.
fn cpus(status: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// The CPUs of each worker of this process, by its thread's name.
fn worker_cpus() -> BTreeMap<String, String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    // A thread may end while it is looked at: it is none of ours then.
    let named = tasks.filter_map(|task| {
        let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
        Some((name, cpus(&fs::read_to_string(task.join("status")).ok()?)))
    });
    // The test's first thread bears its program's name, which begins alike.
    let number = |name: &str| name.strip_prefix("worker").map(str::parse::<usize>);
    named.filter(|(name, _)| matches!(number(name), Some(Ok(_)))).collect()
}

fn expected<const N: usize>(workers: [(&str, &str); N]) -> BTreeMap<String, String> {
    workers.map(|(name, cpus)| (name.to_owned(), cpus.to_owned())).into()
}

fn only_worker(switch: &Switch) -> WorkerStatus {
    let [worker] = &switch.view().workers[..] else { panic!("one worker") };
    worker.clone()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn each_worker_is_pinned_to_its_cpu() {
    let _turn = turn();
    for (lines, workers) in [
        ("workers = [0, 1]", [("worker0", "0"), ("worker1", "1")]),
        ("workers = [1, 0]", [("worker0", "1"), ("worker1", "0")]),
    ] {
        let switch = switch(lines);
        assert_eq!(worker_cpus(), expected(workers), "{lines}");
        let told = workers.map(|(_, cpu)| Some(cpu.parse().unwrap()));
        let known: Vec<Option<usize>> =
            switch.view().workers.iter().map(|worker| worker.cpu).collect();
        assert_eq!(known, told, "{lines}");
        switch.stop();
        assert_eq!(worker_cpus(), expected([]), "they end with their switch");
    }
}

#[test]
fn one_worker_that_is_not_pinned_runs_where_the_process_may() {
    let _turn = turn();
    let ours = cpus(&fs::read_to_string("/proc/thread-self/status").unwrap());
    for lines in ["", "workers = []"] {
        let switch = switch(lines);
        assert_eq!(worker_cpus(), expected([("worker0", &ours)]), "{lines:?}");
        assert_eq!(only_worker(&switch).cpu, None);
    }
}

#[test]
fn a_busy_worker_breathes_on_in_silence_and_an_adaptive_one_sleeps() {
    let _turn = turn();
    let busy = switch("poll = \"busy\"");
    let before = only_worker(&busy).breaths;
    eventually("breaths", || only_worker(&busy).breaths > before + 100_000);
    assert_eq!(only_worker(&busy).sleeps, 0);
    drop(busy);
    for lines in ["", "poll = \"adaptive\""] {
        let adaptive = switch(lines);
        eventually("sleep", || only_worker(&adaptive).sleeps > 0);
    }
}
