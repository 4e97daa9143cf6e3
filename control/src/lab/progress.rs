//! What the lab says while it works, and whether to go on at all. Progress goes to
//! standard error: one line that is written over on a terminal, nothing between start and
//! end elsewhere.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Says something on standard error. A closed terminal is no reason to fail, least of
/// all while cleaning up.
pub(super) fn say(what: Arguments<'_>) {
    let _ = writeln!(stderr(), "{what}");
}

/// Prints on standard output; a reader who has had enough is no error.
pub(super) fn print(what: Arguments<'_>) -> io::Result<()> {
    let printed = writeln!(stdout(), "{what}");
    printed.or_else(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// Whether the lab was told to end: Ctrl-C, SIGTERM, or its terminal is gone.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Heeds the signals from now on.
    pub fn heed() -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))?;
        }
        Ok(interrupt)
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if the lab was told to end.
    pub fn check(&self) -> Result<()> {
        if self.is_raised() {
            bail!("lab: interrupted; everything it made is removed");
        }
        Ok(())
    }
}

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
            say(format_args!("lab: {total} {what}"));
        }
        Progress { what, total, done: 0 }
    }

    /// The next step begins.
    pub fn step(&mut self, which: &str) {
        self.done += 1;
        if stderr().is_terminal() {
            let (what, done, total) = (self.what, self.done, self.total);
            // As with `say`.
            let _ = write!(stderr(), "\r\x1b[Klab: {what} {done}/{total}: {which}");
            let _ = stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if stderr().is_terminal() {
            // As with `say`.
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
