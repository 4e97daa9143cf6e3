//! A network of a test's own: a thread in a fresh network namespace.

use std::io::Write;
use std::process::Command;
use std::sync::{PoisonError, RwLock};

use rustix::thread::UnshareFlags;

/// A child of another test's has copies of all descriptors until it has become `ip`: what
/// a test closes meanwhile, a queue's socket say, stays open. Tests to which that matters
/// write, the others read.
static CHILDREN: RwLock<()> = RwLock::new(());

/// Runs a test in a new network namespace, on a thread of its own; everything it
/// leaves there goes with it. Skips it, saying so, without root – but fails
/// where `HAIRPIN_TESTS=all` asks for every test.
pub(crate) fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let _shared = CHILDREN.read().unwrap_or_else(PoisonError::into_inner);
    in_new_network(test);
}

/// The same while no other such test runs, so that what is closed is closed.
pub(crate) fn in_own_network_alone(test: impl FnOnce() + Send + 'static) {
    let _alone = CHILDREN.write().unwrap_or_else(PoisonError::into_inner);
    in_new_network(test);
}

fn in_new_network(test: impl FnOnce() + Send + 'static) {
    if let Some(lacking) = lacking() {
        let demanded = std::env::var_os("HAIRPIN_TESTS").is_some_and(|value| value == "all");
        assert!(!demanded, "HAIRPIN_TESTS=all, but {lacking}");
        let current = std::thread::current();
        let test = current.name().unwrap_or("a test");
        // What the printing macros write is shown for tests that fail only.
        let _ = writeln!(std::io::stderr(), "skipped {test}: {lacking}");
        return;
    }
    in_further_network(test);
}

/// The same within such a test, for a network besides its own.
pub(crate) fn in_further_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only the network namespace is unshared, and only for this thread,
        // which shares no file system state or descriptors less than before.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("unshare");
        // Addresses that the kernel makes up would send frames no test asked for.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("sysctl");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What a network of its own needs and this process has not.
fn lacking() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    let ip = Command::new("ip").arg("-V").output();
    ip.is_err().then_some("network namespaces need `ip` (Debian package iproute2)")
}

/// Runs `ip` with these words in this thread's namespace.
pub(crate) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
