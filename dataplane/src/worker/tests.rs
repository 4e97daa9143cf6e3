//! Failures of the worker's own in whole breaths; those that devices bring about are
//! in `dataplane/tests/breath.rs`.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

pub(super) mod mishap;
#[path = "../../tests/wiring/mod.rs"]
mod wiring;

use super::command::Event;
use crate::port::Condition;
use crate::wire::offload::Offload;
use mishap::Place;
use wiring::{Wiring, frame, mac};

/// More than from one tick to the next.
const TICK_NS: u64 = 150_000_000;

#[test]
fn a_sweep_that_fails_is_told_once_and_costs_nobody_anything() {
    let mut wiring = Wiring::new(2);
    for _ in 0..3 {
        mishap::plan(Place::Sweeping, 0);
        wiring.endpoints[0].send(&frame(0, mac(1), 60), Offload::NONE).unwrap();
        assert_eq!(wiring.breathe_after(TICK_NS), 1);
        assert!(!mishap::is_due(), "every tick sweeps");
        assert!(wiring.endpoints[1].receive(&mut Vec::new()).is_some());
    }
    let events: Vec<_> = wiring.events.try_iter().collect();
    let cause = "a test asked for it";
    let told = matches!(events[..], [Event::SweepFailed { cause: told }] if told == cause);
    assert!(told, "{events:?}");
    assert!(wiring.attached.iter().all(|one| one.condition() == Condition::Working));
}
