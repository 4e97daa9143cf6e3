//! Rings that their drivers break: the transmit queue's indexes, and descriptors that change
//! while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hairpin_bench::front_end::hostile::{NEXT, PACKED_AVAILABLE, RawDescriptor, RawRing};
use hairpin_bench::front_end::layout::OFFLOADS;
use hairpin_bench::front_end::station::{Noise, Station};
use hairpin_bench::front_end::{Chains, Layout};
use hairpin_dataplane::ledger::DropReason::UnknownUnicast;
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::virtqueue::RingFault;
use hairpin_dataplane::sys::virtqueue::driver::Buffer;

use super::cases::{Case, Guest, Rings, TRANSMIT, run};
use super::orders::seed;
use super::stage::{Expected, NOBODY, Stage, broken, drops, mac};

/// How long a racing thread races.
const RACE: Duration = Duration::from_millis(500);

fn split(what: &'static str, commit: fn(&mut Guest), expected: Expected) -> Case {
    Case { what, rings: Rings::Split, features: Features::NONE, commit, expected }
}

/// Makes heads available by an index so far ahead.
fn run_ahead(guest: &mut Guest, by: u16) {
    guest.sound(0);
    let ring = guest.ring();
    ring.set_available(by);
    ring.kick();
}

#[test]
fn cve_2016_5403_indexes_that_run_ahead_break_the_ring() {
    run(&[
        split("by half of all", |guest| run_ahead(guest, 0x8000), broken(1, RingFault::Overrun)),
        split("by one too many", |guest| run_ahead(guest, 257), broken(1, RingFault::Overrun)),
        split("backwards", |guest| run_ahead(guest, 0xffff), broken(1, RingFault::Overrun)),
    ]);
}

#[test]
fn vm_virtio_196_heads_made_available_again_are_frames_again_and_no_more() {
    run(&[
        split(
            "the same head three times",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[sound]);
                let ring = guest.ring();
                // The ring's heads, in the order that this driver hands them out.
                ring.replay(0);
                ring.replay(0);
                ring.kick();
            },
            drops(UnknownUnicast, 3),
        ),
        split(
            "a whole ring of one head",
            |guest| {
                let Buffer { address, length, .. } = guest.sound(0);
                let ring = guest.ring();
                ring.set_descriptor(7, RawDescriptor { address, length, low: 0, high: 0 });
                (0..256).for_each(|place| ring.set_head(place, 7));
                ring.set_available(256);
                ring.kick();
            },
            drops(UnknownUnicast, 256),
        ),
    ]);
}

#[test]
fn heads_beyond_the_table_and_chains_around_the_ring_break_it() {
    run(&[
        split(
            "the first one beyond",
            |guest| {
                guest.ring().replay(256);
                guest.ring().kick();
            },
            broken(1, RingFault::Index),
        ),
        split(
            "the last of all",
            |guest| {
                guest.ring().replay(0xffff);
                guest.ring().kick();
            },
            broken(1, RingFault::Index),
        ),
        Case {
            rings: Rings::Packed,
            ..split(
                "a packed chain of all descriptors",
                |guest| {
                    let Buffer { address, length, .. } = guest.sound(0);
                    let ring = guest.ring();
                    let high = NEXT | PACKED_AVAILABLE;
                    let linked = RawDescriptor { address, length, low: 0, high };
                    // The first one last: no chain is seen before it is whole.
                    (0..256).rev().for_each(|index| ring.set_descriptor(index, linked));
                    ring.kick();
                },
                broken(1, RingFault::Endless),
            )
        },
    ]);
}

/// Writes descriptors, heads and frames as fast as it goes: some of it sound, some nearly.
fn scramble(ring: &RawRing, noise: &mut Noise) {
    let ground = *ring.ground();
    let index = noise.below(u64::from(ground.ring.size)) as u16;
    let address = match noise.below(8) {
        0 => noise.next_word(),
        1 => ground.ring.descriptors,
        2 => u64::MAX - noise.below(64),
        _ => ground.buffer(index),
    };
    let length = match noise.below(8) {
        0 => noise.next_word() as u32,
        1 => 0,
        _ => noise.below(200) as u32,
    };
    let flags = noise.below(8) as u16;
    let (low, high) = match ring.kind() {
        RingKind::Split => (flags, noise.below(300) as u16),
        RingKind::Packed => (index, flags | if noise.below(2) == 0 { 1 << 7 } else { 1 << 15 }),
    };
    ring.set_descriptor(index, RawDescriptor { address, length, low, high });
    ring.memory().write(ground.buffer(index), &noise.next_word().to_le_bytes());
    if ring.kind() == RingKind::Split && noise.below(4) == 0 {
        ring.set_head(index, noise.below(256) as u16);
    }
}

#[test]
fn cve_2020_14375_descriptors_and_frames_that_a_thread_changes_while_they_are_read() {
    let layouts = [Layout::SPLIT, Layout::PACKED]
        .map(|layout| layout.with(Features::INDIRECT_DESC.with(OFFLOADS), Chains::Tables));
    let stage = Stage::start(layouts.len(), 1);
    let seed = seed();
    for (number, layout) in layouts.into_iter().enumerate() {
        let mut front = stage.guest(number, layout);
        let ring = front.hostile().ring(TRANSMIT);
        let stop = Arc::new(AtomicBool::new(false));
        let racers: Vec<_> = (0..2)
            .map(|racer| {
                let (ring, stop) = (ring.clone(), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut noise = Noise::new(seed + racer);
                    while !stop.load(Ordering::Relaxed) {
                        scramble(&ring, &mut noise);
                    }
                })
            })
            .collect();
        let station = Station { own: mac(number), peer: NOBODY };
        let frame = station.frame(0, 60);
        let until = Instant::now() + RACE;
        while Instant::now() < until {
            if ring.kind() == RingKind::Split {
                front.hostile().lay_complete(0, &frame);
                ring.set_available(ring.used().wrapping_add(64));
            }
            ring.kick();
        }
        stop.store(true, Ordering::Relaxed);
        racers.into_iter().for_each(|racer| racer.join().unwrap());
        stage.await_lockstep(20);
        stage.expect_balance(number);
        let shown = stage.shown(number);
        let counters = stage.lost(number);
        assert!(!counters.is_empty(), "{}: something was sent: {shown}", layout.name);
        if shown["state"] != "up" {
            let said = shown["last_error"].as_str().unwrap_or_default();
            let reasons = ["ring 1 is broken: ", "frames"];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{shown}");
        }
    }
    stage.end();
}
