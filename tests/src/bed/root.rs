//! Who may build a bed.

use std::io::Write;
use std::process::{Command, Stdio};

/// Proof that the process may make namespaces.
#[derive(Clone, Copy, Debug)]
pub struct Root(());

/// Programs that a bed runs, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("ping", "iputils-ping")];

/// Whether tests that need root can run: `None`, with the reason on standard error, if
/// the process is an ordinary user's, or a program is not there.
///
/// # Panics
/// If it is, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
#[must_use]
pub fn root() -> Option<Root> {
    let Some(lacking) = lacking() else { return Some(Root(())) };
    skip(&lacking);
    None
}

/// Says on standard error that the test this runs in is skipped for what is lacking.
///
/// # Panics
/// If `HAIRPIN_TESTS=all` says that nothing may be skipped.
pub(super) fn skip(lacking: &str) {
    let all = std::env::var("HAIRPIN_TESTS").is_ok_and(|value| value == "all");
    assert!(!all, "HAIRPIN_TESTS=all, but {lacking}");
    let current = std::thread::current();
    let test = current.name().unwrap_or("a test");
    // Not by a macro of the print family, whose output the harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {lacking}");
}

/// What a bed needs and this process has not.
fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let (program, package) = PROGRAMS.into_iter().find(|(program, _)| !is_there(program))?;
    Some(format!("network namespaces need `{program}` (Debian package {package})"))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
