//! Places at which a test has the process killed, to see what a crash there leaves behind.
//! In builds for use (without debug assertions) there are none.

/// A place on an apply's way, in the order in which they are passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Devices are open, and nothing else has happened.
    Opened,
    /// Netdevs have their MTUs.
    Tuned,
    /// Part of the new revision is in its file.
    Half,
    /// The whole of it is, under another name.
    Written,
    /// It has its name.
    Named,
    /// It is safe on disk.
    Recorded,
    /// Workers see it.
    Published,
}

/// Kills the process if the variable `HAIRPIN_CRASH_AT` names this place, as `Named`; with a
/// number, as `Named:2`, at the second time it is passed.
#[cfg(debug_assertions)]
pub fn at(place: Place) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static WISH: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wish = WISH.get_or_init(|| {
        let wish = std::env::var("HAIRPIN_CRASH_AT").ok()?;
        let (name, time) = wish.split_once(':').unwrap_or((&wish, "1"));
        Some((name.to_owned(), time.parse().ok()?))
    });
    let Some((name, time)) = wish else { return };
    if *name == format!("{place:?}") && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *time {
        // It ends here; if it could not, the test that wanted it would say so.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn at(_: Place) {}
