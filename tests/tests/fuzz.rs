//! What the fuzz targets do, done once with every seed and every finding that was kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hairpin_tests::fuzz::{TARGETS, seeds};

static ALONE: Mutex<()> = Mutex::new(());

/// Targets count the descriptors of this process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The inputs that are kept for a target, by their paths.
fn kept(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn run_all(folder: &str) -> usize {
    let _alone = alone();
    let mut count = 0;
    for (name, run) in TARGETS {
        for path in kept(folder, name) {
            // The last line before a panic names the input.
            println!("{}", path.display());
            run(&fs::read(path).expect("an input can be read"));
            count += 1;
        }
    }
    count
}

#[test]
fn the_seeds_are_those_that_are_written_down() {
    let _alone = alone();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, name, bytes) in seeds::all() {
        let path = root.join(target).join(name);
        let remedy = "`cargo run -p hairpin-tests --example fuzz_seeds` writes it";
        assert!(fs::read(&path).ok() == Some(bytes), "{}: {remedy}", path.display());
    }
}

#[test]
fn every_seed_holds_what_is_promised() {
    assert!(run_all("seeds") > 0);
}

#[test]
fn every_finding_is_mended() {
    assert!(run_all("findings") > 0);
}
