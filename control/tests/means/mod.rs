//! What a test needs of the machine: without it, it says so and does not run.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// Programs that tests with networks of their own run, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("ping", "iputils-ping")];

/// Whether to run a test that needs a network of its own; where everything must run, it
/// fails without.
pub fn has_means(test: &str) -> bool {
    let Some(lacking) = lacking() else { return true };
    let all = std::env::var("HAIRPIN_TESTS").is_ok_and(|tests| tests == "all");
    assert!(!all, "HAIRPIN_TESTS=all forbids to skip {test}, but {lacking}");
    // Not by a macro of the print family, whose output the harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {lacking}");
    false
}

fn lacking() -> Option<String> {
    if !geteuid().is_root() {
        return Some("network namespaces and TAPs need root".to_owned());
    }
    let (program, package) = PROGRAMS.into_iter().find(|(program, _)| !is_there(program))?;
    Some(format!("network namespaces need `{program}` (Debian package {package})"))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
