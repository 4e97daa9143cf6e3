//! Failures of the worker's own in whole breaths; those that devices bring about are
//! in `dataplane/tests/breath.rs`. Its rest between breaths.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

mod guest;
pub(in crate::worker) mod mishap;
mod rest;
#[path = "../../tests/wiring/mod.rs"]
pub(in crate::worker) mod wiring;

use super::command::Event;
use crate::ledger::{DropReason, Totals};
use crate::port::Condition;
use crate::wire::Mac;
use crate::wire::offload::Offload;
use mishap::Place;
use wiring::{Wiring, frame, mac};

/// More than from one tick to the next.
const TICK_NS: u64 = 150_000_000;

#[test]
fn a_failure_in_deciding_costs_the_sender_its_batch() {
    let mut wiring = Wiring::new(3);
    // One that is not admitted, three that are decided, two that are not any more.
    let too_short = frame(0, mac(1), 60)[..13].to_vec();
    let to = |receiver| frame(0, receiver, 60);
    for sent in
        [to(mac(1)), too_short, to(mac(2)), to(Mac::BROADCAST), to(mac(1)), to(Mac::BROADCAST)]
    {
        wiring.endpoints[0].queue(&sent, Offload::NONE).unwrap();
    }
    wiring.endpoints[0].flush();
    let others = frame(1, mac(2), 60);
    wiring.endpoints[1].send(&others, Offload::NONE).unwrap();
    mishap::plan(Place::Deciding, 3);
    wiring.breathe();
    let totals = [0, 1, 2].map(|port| wiring.totals(port));
    let sender = &totals[0];
    let lost = [DropReason::Runt, DropReason::PortFault].map(|reason| sender.dropped(reason));
    assert_eq!((sender.rx_frames, sender.decided, sender.fan_out, lost), (6, 3, 4, [1, 2]));
    assert_eq!(totals.each_ref().map(|one| one.dropped(DropReason::SenderFault)), [0, 2, 2]);
    assert!(totals.iter().all(Totals::is_balanced), "{totals:?}");
    let sum = |count: fn(&Totals) -> u64| totals.iter().map(count).sum::<u64>();
    assert_eq!(sum(|one| one.fan_out), sum(|one| one.offered));
    let conditions = [0, 1, 2].map(|port| wiring.attached[port].condition());
    assert_eq!(conditions, [Condition::Quarantined, Condition::Working, Condition::Working]);
    let mut received = Vec::new();
    assert!(wiring.endpoints[2].receive(&mut received).is_some(), "the others are served");
    assert_eq!((received, wiring.endpoints[2].receive(&mut Vec::new())), (others, None));
}

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
