//! Progress on standard error: one line that is written over on a terminal,
//! nothing between start and end elsewhere.

use std::io::{IsTerminal, Write, stderr};

/// Steps of one kind of work.
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
}

impl Progress {
    /// `total` steps to come.
    pub fn new(what: &'static str, total: usize) -> Progress {
        if !stderr().is_terminal() {
            eprintln!("lab: {total} {what}");
        }
        Progress { what, total, done: 0 }
    }

    /// The next step begins.
    pub fn step(&mut self, which: &str) {
        self.done += 1;
        if stderr().is_terminal() {
            eprint!("\r\x1b[Klab: {} {}/{}: {which}", self.what, self.done, self.total);
            // Progress is a courtesy: a closed terminal is no reason to fail.
            let _ = stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
