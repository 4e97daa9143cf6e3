//! What tests of whole networks assert again and again.

use super::{Daemon, Family, Host, eventually};

/// Asserts that two hosts reach each other, each request answered once.
///
/// # Panics
/// If they do not.
#[track_caller]
pub fn assert_reach(from: &Host, to: &Host) {
    for family in Family::ALL {
        let echo = from.ping(to, family).expect("ping can be run");
        assert!(echo.is_clean(), "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
    }
}

/// Asserts that no request of one host is answered by the other.
///
/// # Panics
/// If one is.
#[track_caller]
pub fn assert_apart(from: &Host, to: &Host) {
    for family in Family::ALL {
        let echo = from.ping_in_vain(to, family).expect("ping can be run");
        assert_eq!(echo.received, 0, "{family} {} -> {}: {echo:?}", from.mac(), to.mac());
    }
    // What waits for an answer that never comes would fail the next ping as well.
    from.forget_neighbours().expect("neighbours can be forgotten");
}

/// Waits for the state of an object, such as `link up0`, which need not be there yet.
///
/// # Panics
/// If it does not come.
#[track_caller]
pub fn await_state(daemon: &Daemon, object: &str, wanted: &str) {
    let (kind, name) = object.split_once(' ').expect("a kind and a name");
    let shown = || daemon.hairpin(&format!("{kind} show {name}"));
    let is_wanted = || shown().is_ok_and(|shown| shown["state"] == wanted);
    eventually(&format!("{object} {wanted}"), is_wanted)
        .unwrap_or_else(|error| panic!("{error}: {:?}", shown()));
}
