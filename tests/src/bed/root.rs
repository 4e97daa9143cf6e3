//! Who may build a bed.

/// Proof that the process may make namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Root(());

/// Whether tests that need root can run: `None`, with the reason printed, if the
/// process is an ordinary user's.
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
    println!("skipped {}: network namespaces need root", current.name().unwrap_or("a test"));
    None
}
