//! Who may build a bed.

use std::io::Write;

/// Proof that the process may make namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Root(());

/// Whether tests that need root can run: `None`, with the reason on standard error, if
/// the process is an ordinary user's.
///
/// # Panics
/// If it is, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
#[must_use]
pub fn root() -> Option<Root> {
    if rustix::process::geteuid().is_root() {
        return Some(Root(()));
    }
    let all = std::env::var("HAIRPIN_TESTS").is_ok_and(|value| value == "all");
    assert!(!all, "HAIRPIN_TESTS=all, but network namespaces need root");
    let current = std::thread::current();
    let test = current.name().unwrap_or("a test");
    // Not by a macro of the print family, whose output the harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "skipped {test}: network namespaces need root");
    None
}
