//! Every way in which the loads and stores of a driver and of the device can follow each
//! other, on small rings: no descriptor is lost or given back twice, and nobody sleeps while
//! there is something for them.
//!
//! The device is the real code. Before each load and store of a word in the ring it is
//! interrupted ([`probe`]), and the driver may make any number of its own, one at a time. The
//! driver ([`drivers`]) is written from the standard, step by step. All choices are explored
//! depth first, each from the beginning; a state that was seen before (the memory, and what
//! either side has read and written so far) is not explored again.
//!
//! Loads and stores are taken to happen one after the other here. That each side's stores
//! and loads cannot change places where it matters is loom's to see (`bell`), and what
//! `Release` and `Acquire` are there for.

mod drivers;
mod explorer;

use super::super::area::probe;
use super::*;
use drivers::{Plan, packed_driver, split_driver};
use explorer::{Device, explore};

/// Chains in a model. With the starts below each ring wraps, and the small ones use their
/// places again.
const CHAINS: u16 = 2;

/// All of them: kind, size, start, and whatever else can be agreed on.
fn plans(kind: Kind, direction: Access) -> Vec<Plan> {
    let mut plans = Vec::new();
    for wishes in [Wishes::Flags, Wishes::EventIndex] {
        for order in [Order::Any, Order::InOrder] {
            for size in kind.sizes() {
                for start in kind.starts(*size) {
                    for longest in 1..=2_u16.min(*size) {
                        let start = *start;
                        let size = *size;
                        plans.push(Plan { direction, wishes, order, size, start, longest });
                    }
                }
            }
        }
    }
    plans
}

#[derive(Clone, Copy)]
enum Kind {
    Split,
    Packed,
}

impl Kind {
    fn sizes(self) -> &'static [u16] {
        match self {
            Kind::Split => &[1, 2, 4],
            Kind::Packed => &[1, 2, 3, 4],
        }
    }

    /// Just before the index wraps, and just before the ring does.
    fn starts(self, size: u16) -> &'static [u16] {
        match (self, size) {
            (Kind::Split, _) => &[0, 0xffff],
            (Kind::Packed, 1) => &[0x8000, 0],
            (Kind::Packed, 2) => &[0x8001, 1],
            (Kind::Packed, 3) => &[0x8002, 0],
            (Kind::Packed, _) => &[0x8003, 3],
        }
    }
}

/// Takes what the driver sends and gives it back, as a worker does.
fn receive(source: &mut impl Source, device: &Device) {
    let mut taken = 0;
    while taken < CHAINS {
        let found = if source.has_frames() { take(source, 64) } else { Vec::new() };
        for chain in &found {
            let pieces = chain.as_deref().expect("an honest chain");
            assert_eq!(pieces[0].0, BUFFERS + 64 * u64::from(taken), "chains in order, once each");
            taken += 1;
        }
        if !found.is_empty() {
            source.give_back();
            device.ring(source.doorbell(Moment::Busy));
            continue;
        }
        source.flush();
        device.ring(source.doorbell(Moment::Idle));
        device.forget_kicks();
        if !source.want_kicks() {
            device.sleep();
        }
        source.refuse_kicks();
    }
    assert!(!source.has_frames(), "the device invented a chain");
    source.flush();
    device.ring(source.doorbell(Moment::Idle));
}

/// Fills the buffers that the driver gives, as a worker does: it asks once more after a
/// burst, when there is nothing to send.
fn transmit(sink: &mut impl Sink, device: &Device) {
    let mut sent = 0;
    while sent < CHAINS {
        match offer(sink, &[sent as u8; 20]) {
            Ok(()) => sent += 1,
            Err(Refusal::NoBuffer) => {
                device.ring(sink.doorbell(Moment::Idle));
                device.wait(sent);
            }
            Err(refusal) => panic!("{refusal:?}"),
        }
        sink.publish();
        device.ring(sink.doorbell(Moment::Busy));
    }
    device.ring(sink.doorbell(Moment::Idle));
}

fn check_split(direction: Access) {
    for plan in plans(Kind::Split, direction) {
        explore(&plan, split_driver, |terms, device| match direction {
            Access::Read => receive(&mut split::Source::open(terms).unwrap(), device),
            Access::Write => transmit(&mut split::Sink::open(terms).unwrap(), device),
        });
    }
}

fn check_packed(direction: Access) {
    for plan in plans(Kind::Packed, direction) {
        explore(&plan, packed_driver, |terms, device| match direction {
            Access::Read => receive(&mut packed::Source::open(terms).unwrap(), device),
            Access::Write => transmit(&mut packed::Sink::open(terms).unwrap(), device),
        });
    }
}

/// The models can fail: this device looks for chains first and asks for a kick then.
#[test]
#[should_panic(expected = "both sleep")]
fn a_device_that_looks_before_it_asks_is_found_out() {
    let plan = plans(Kind::Split, Access::Read)[0];
    explore(&plan, split_driver, |terms, device| {
        let mut source = split::Source::open(terms).unwrap();
        for _ in 0..CHAINS {
            while !source.has_frames() {
                device.forget_kicks();
                let _too_late = source.want_kicks();
                device.sleep();
            }
            take(&mut source, 1);
            source.give_back();
            source.flush();
            device.ring(source.doorbell(Moment::Idle));
        }
    });
}

#[test]
fn a_split_ring_loses_nothing_that_the_driver_sends_whoever_is_first() {
    check_split(Access::Read);
}

#[test]
fn a_split_ring_loses_nothing_that_the_driver_receives_whoever_is_first() {
    check_split(Access::Write);
}

#[test]
fn a_packed_ring_loses_nothing_that_the_driver_sends_whoever_is_first() {
    check_packed(Access::Read);
}

#[test]
fn a_packed_ring_loses_nothing_that_the_driver_receives_whoever_is_first() {
    check_packed(Access::Write);
}
