//! Captures in whole breaths: what is in them, in which order, and what does not fit.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use super::filter::{Fates, Filter, Reasons, Ways};
use super::*;
use crate::port::memory;
use crate::port::pcapng::Direction::{Inbound, Outbound};
use crate::wire::Mac;
use crate::wire::offload::Offload;
use crate::worker::command::{Command, Event};
use crate::worker::tests::mishap;
use crate::worker::tests::wiring::{Wiring, frame, mac, plain};

const ID: CaptureId = CaptureId(7);

/// What is captured of these ports.
fn plan(wiring: &Wiring, ports: &[usize], filter: Filter) -> Plan {
    let device = |&port: &usize| {
        let attached = &wiring.attached[port];
        CapturedDevice { id: attached.id, counters: Arc::clone(&attached.counters) }
    };
    let devices = ports.iter().map(device).collect();
    let joined = AtomicUsize::new(0);
    Plan { id: ID, devices, filter, snapshot_bytes: 256, ring_bytes: 0, joined }
}

/// Begins a capture; the worker takes part in it from its next breath on.
fn begin(wiring: &mut Wiring, plan: Plan) -> Collector {
    let (taps, collector) = session(&Arc::new(plan), 1).unwrap();
    assert!(!collector.has_begun());
    for tap in taps {
        wiring.commands.send(Command::BeginCapture(tap)).unwrap();
    }
    wiring.worker.take_commands();
    collector
}

fn capture(wiring: &mut Wiring, ports: &[usize], filter: Filter) -> Collector {
    let plan = plan(wiring, ports, filter);
    begin(wiring, plan)
}

fn send(wiring: &mut Wiring, from: usize, frames: &[Vec<u8>]) {
    for frame in frames {
        wiring.endpoints[from].queue(frame, Offload::NONE).unwrap();
    }
    wiring.endpoints[from].flush();
}

/// Device, way, reason and bytes of all that was captured.
type Seen = (u16, Direction, Option<DropReason>, Vec<u8>);

fn seen(collector: &mut Collector) -> Vec<Seen> {
    let mut bytes = Vec::new();
    std::iter::from_fn(|| {
        let label = collector.take(&mut bytes)?;
        assert!(label.length as usize >= bytes.len());
        Some((label.device, label.way, label.dropped, bytes.clone()))
    })
    .collect()
}

#[test]
fn frames_are_captured_in_order_with_what_became_of_them() {
    let small = |number| {
        let slots = if number == 1 { 2 } else { 1024 };
        plain(memory::Config { slots, ..memory::Config::default() })
    };
    let mut wiring = Wiring::with(3, small);
    let mut collector = capture(&mut wiring, &[0, 1], Filter::default());
    // One alike to the other, one from an address that is not the port's, one to port 2.
    let (to_1, to_2) = (frame(0, mac(1), 60), frame(0, mac(2), 1514));
    let foreign = frame(2, mac(1), 60);
    let sent = [&to_1, &foreign, &to_1, &to_1, &to_2].map(Clone::clone);
    send(&mut wiring, 0, &sent);
    wiring.breathe();
    let expected: Vec<Seen> = vec![
        (0, Inbound, None, to_1.clone()),
        (0, Inbound, Some(DropReason::SourceNotRegistered), foreign),
        (0, Inbound, None, to_1.clone()),
        (0, Inbound, None, to_1.clone()),
        (0, Inbound, None, to_2[..256].to_vec()),
        (1, Outbound, None, to_1.clone()),
        (1, Outbound, None, to_1.clone()),
        (1, Outbound, Some(DropReason::RxRingFull), to_1),
    ];
    assert_eq!(seen(&mut collector), expected);
    let mut received = Vec::new();
    let arrived = std::iter::from_fn(|| wiring.endpoints[1].receive(&mut received));
    assert_eq!(arrived.count(), 2, "what was captured as sent has arrived");
}

#[test]
fn only_what_is_wanted_is_captured() {
    let mut wiring = Wiring::new(3);
    let dropped = Fates::Dropped(Reasons::ALL);
    let mut drops =
        capture(&mut wiring, &[0, 1, 2], Filter { fates: dropped, ..Filter::default() });
    let broadcast = frame(0, Mac::BROADCAST, 60);
    let foreign = frame(1, mac(2), 60);
    send(&mut wiring, 0, &[broadcast, foreign.clone()]);
    wiring.breathe();
    let reason = DropReason::SourceNotRegistered;
    assert_eq!(seen(&mut drops), [(0, Inbound, Some(reason), foreign)]);
}

#[test]
fn a_capture_of_one_way_of_one_port_is_not_another_s() {
    let mut wiring = Wiring::new(2);
    let outbound = Filter { ways: Ways::Outbound, ..Filter::default() };
    let mut collector = capture(&mut wiring, &[1], outbound);
    let (there, back) = (frame(0, mac(1), 60), frame(1, mac(0), 60));
    send(&mut wiring, 0, std::slice::from_ref(&there));
    send(&mut wiring, 1, &[back]);
    wiring.breathe();
    assert_eq!(seen(&mut collector), [(0, Outbound, None, there)]);
}

#[test]
fn what_does_not_fit_is_missed_and_no_frame_is_lost() {
    let mut wiring = Wiring::new(2);
    let mut collector = capture(&mut wiring, &[0], Filter::default());
    let sent = vec![frame(0, mac(1), 250); 64];
    let (mut received, mut arrived) = (Vec::new(), 0);
    while collector.missed(0) == 0 {
        send(&mut wiring, 0, &sent);
        wiring.breathe();
        while wiring.endpoints[1].receive(&mut received).is_some() {
            arrived += 1;
        }
    }
    let captured = seen(&mut collector).len() as u64;
    let (totals, missed) = (wiring.totals(0), collector.missed(0));
    assert_eq!((totals.rx_frames, wiring.totals(1).tx_frames), (arrived, arrived));
    assert_eq!((captured + missed, captured > 64, missed > 0), (arrived, true, true));
    // There is room again.
    send(&mut wiring, 0, &sent);
    wiring.breathe();
    assert_eq!((seen(&mut collector).len(), collector.missed(0)), (64, missed));
}

#[test]
fn another_device_with_the_same_id_is_not_captured() {
    let mut wiring = Wiring::new(2);
    let other = Wiring::new(2);
    let mut plan = plan(&wiring, &[0], Filter::default());
    plan.devices[0].counters = Arc::clone(&other.attached[0].counters);
    let mut collector = begin(&mut wiring, plan);
    send(&mut wiring, 0, &[frame(0, mac(1), 60)]);
    wiring.breathe();
    assert_eq!(seen(&mut collector), []);
}

#[test]
fn a_tap_goes_back_to_control_at_the_end_or_if_there_are_too_many() {
    let mut wiring = Wiring::new(2);
    let mut collectors: Vec<Collector> =
        (0..CAPTURES_MAX).map(|_| capture(&mut wiring, &[0], Filter::default())).collect();
    assert_eq!(wiring.events.try_iter().count(), 0);
    let refused = capture(&mut wiring, &[0], Filter::default());
    wiring.breathe();
    let events: Vec<_> = wiring.events.try_iter().collect();
    assert!(matches!(&events[..], [Event::CaptureEnded(tap)] if tap.id() == ID), "{events:?}");
    assert_eq!((refused.state(), refused.has_begun()), (Captured::GoesOn, false));
    assert!(collectors.iter().all(Collector::has_begun));
    drop(events);
    assert_eq!(refused.state(), Captured::Over);

    send(&mut wiring, 0, &[frame(0, mac(1), 60)]);
    wiring.breathe();
    for _ in 0..CAPTURES_MAX {
        wiring.commands.send(Command::EndCapture(ID)).unwrap();
    }
    wiring.commands.send(Command::EndCapture(CaptureId(8))).unwrap();
    wiring.worker.take_commands();
    assert_eq!(wiring.events.try_iter().count(), CAPTURES_MAX);
    send(&mut wiring, 0, &[frame(0, mac(1), 60)]);
    wiring.breathe();
    for collector in &mut collectors {
        assert_eq!((collector.state(), seen(collector).len()), (Captured::Over, 1));
    }
}

#[test]
fn copies_of_a_sender_that_failed_are_captured_as_lost() {
    let mut wiring = Wiring::new(2);
    let mut collector = capture(&mut wiring, &[0, 1], Filter::default());
    // Each longer than the one before, so that they are not laid out at once.
    let sent = [60, 61, 62].map(|length| frame(0, mac(1), length));
    send(&mut wiring, 0, &sent);
    mishap::plan(mishap::Place::Deciding, 2);
    wiring.breathe();
    let lost = Some(DropReason::SenderFault);
    let received = sent.iter().map(|frame| (0, Inbound, None, frame.clone()));
    let copies = sent[..2].iter().map(|frame| (1, Outbound, lost, frame.clone()));
    assert_eq!(seen(&mut collector), received.chain(copies).collect::<Vec<Seen>>());
    assert_eq!(wiring.totals(1).dropped(DropReason::SenderFault), 2);
}
