//! Networks of the tests' own, and ports that are TAPs in them.

// Each program that includes this uses its part of it.
#![allow(dead_code)]

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Opened, tap};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::wiring::plain;

/// Runs a test on a thread in a network namespace of its own; skips it, saying so,
/// without root, but fails where `HAIRPIN_TESTS=all` asks for every test.
pub fn in_own_network(test: impl FnOnce() + Send + 'static) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    if !rustix::process::geteuid().is_root() {
        return skip("network namespaces need root");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return skip("network namespaces need `ip` (Debian package iproute2)");
    }
    // The bed sweeps namespaces of such names whose process is gone.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("hp-{}-breath{number}", std::process::id());
    ip(&format!("netns add {name}"));
    let place = File::open(format!("/run/netns/{name}")).unwrap();
    let inside = std::thread::spawn(move || {
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // Addresses that the kernel makes up would send frames no test asked for.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        test();
    });
    let outcome = inside.join();
    ip(&format!("netns del {name}"));
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Says that this thread's test does not run, and what it lacks.
fn skip(lacking: &str) {
    let demanded = std::env::var_os("HAIRPIN_TESTS").is_some_and(|value| value == "all");
    assert!(!demanded, "HAIRPIN_TESTS=all, but {lacking}");
    let current = std::thread::current();
    let test = current.name().unwrap_or("a test");
    // What the printing macros write is shown for tests that fail only.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {lacking}");
}

/// Runs `ip` with these words in this thread's namespace.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Memory devices, but one port is a TAP, `tap` and its number, with so many queues;
/// what stands for its other end is a stub.
pub fn tap_at(which: usize, queues: usize) -> impl Fn(usize) -> (Opened, Endpoint) {
    move |number| {
        let (opened, endpoint) = plain(memory::Config::default());
        if number != which {
            return (opened, endpoint);
        }
        let config = tap::Config { interface: format!("tap{which}"), queues, mtu: None };
        (tap::open(&config).unwrap().into(), endpoint)
    }
}
