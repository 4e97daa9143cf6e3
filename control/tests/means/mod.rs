//! What a test needs of the machine: without it, it says so and does not run.

// Each program that includes this uses its part of it.
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// Programs that tests with networks of their own run, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("ping", "iputils-ping")];

/// Whether to run a test that needs a network of its own; where everything must run, it
/// fails without.
pub fn has_means(test: &str) -> bool {
    has_all(test, lacking())
}

/// Whether to run a test that runs this program, of that Debian package, likewise.
pub fn has_program(test: &str, program: &str, package: &str) -> bool {
    let lacking =
        (!is_there(program)).then(|| format!("it needs `{program}` (Debian package {package})"));
    has_all(test, lacking)
}

/// Python with grpcio, which `.ci/run` puts into `target/python`, likewise.
pub fn has_python(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let python = root.join(target).join("python/bin/python");
    let lacking = (!python.exists()).then(|| {
        "it needs grpcio: `python3 -m venv target/python`, then `target/python/bin/pip install \
         grpcio grpcio-reflection grpcio-status`"
            .to_owned()
    });
    has_all(test, lacking).then_some(python)
}

fn has_all(test: &str, lacking: Option<String>) -> bool {
    let Some(lacking) = lacking else { return true };
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
    let mut command = Command::new(program);
    let quiet = command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok()
}
