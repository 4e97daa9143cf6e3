//! Receive queues: buffers that are none, and guests that take nothing.

use hairpin_bench::front_end::hostile::{NEXT, PACKED_AVAILABLE, RawDescriptor, RawRing, WRITE};
use hairpin_bench::front_end::station::Heard;
use hairpin_bench::front_end::{FrontEnd, Layout};
use hairpin_dataplane::ledger::DropReason::RxRingFull;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::virtqueue::RingFault;

use super::cases::RECEIVE;
use super::stage::{Expected, PATIENCE, Stage, broken, drops};

const BOTH: [Layout; 2] = [Layout::SPLIT, Layout::PACKED];

/// Something that a guest does to its receive ring before the first frame comes.
struct Case {
    what: &'static str,
    layouts: &'static [Layout],
    spoil: fn(&mut FrontEnd),
    /// Frames that are sent to it.
    frames: u64,
    expected: Expected,
}

#[track_caller]
fn run(cases: &[Case]) {
    let each = |case: &Case| case.layouts.len();
    let mut stage = Stage::start(cases.iter().map(each).sum(), 1);
    let mut number = 0;
    for case in cases {
        for layout in case.layouts {
            let mut front = stage.guest(number, *layout);
            (case.spoil)(&mut front);
            stage.send_to(number, case.frames);
            stage.expect(number, &format!("{}, {}", case.what, layout.name), &case.expected);
            number += 1;
        }
    }
    stage.end();
}

/// Writes all descriptors anew, as these address, length and flags say.
fn spoil_all(front: &mut FrontEnd, change: fn(&RawRing, u16) -> (u64, u32, u16)) {
    let ring = front.hostile().ring(RECEIVE);
    for index in 0..ring.ground().ring.size {
        let (address, length, flags) = change(&ring, index);
        let (low, high) = match ring.kind() {
            RingKind::Split => (flags, 0),
            RingKind::Packed => (index, flags | PACKED_AVAILABLE),
        };
        ring.set_descriptor(index, RawDescriptor { address, length, low, high });
    }
}

#[test]
fn cve_2020_10725_receive_buffers_that_are_none_break_the_ring() {
    let case = |what, spoil| Case {
        what,
        layouts: &BOTH,
        spoil,
        frames: 1,
        expected: broken(0, RingFault::Buffer),
    };
    run(&[
        case("in no memory", |front| {
            spoil_all(front, |_, _| (u64::MAX - 100, 2048, WRITE));
        }),
        case("beyond the end of memory", |front| {
            spoil_all(front, |ring, _| {
                let memory = ring.memory().whole();
                (memory.guest + memory.bytes - 2047, 2048, WRITE)
            });
        }),
        case("4 GiB long", |front| {
            spoil_all(front, |ring, index| (ring.ground().buffer(index), u32::MAX, WRITE));
        }),
        case("not ours to write", |front| {
            spoil_all(front, |ring, index| (ring.ground().buffer(index), 2048, 0));
        }),
    ]);
}

#[test]
fn receive_rings_without_an_end_are_broken() {
    run(&[
        Case {
            what: "a chain in a circle",
            layouts: &BOTH[..1],
            spoil: |front| {
                // Each is followed by descriptor 0.
                spoil_all(front, |ring, index| (ring.ground().buffer(index), 1, WRITE | NEXT));
            },
            frames: 1,
            expected: broken(0, RingFault::Endless),
        },
        Case {
            what: "a chain around the ring",
            layouts: &BOTH[1..],
            spoil: |front| {
                spoil_all(front, |ring, index| (ring.ground().buffer(index), 1, WRITE | NEXT));
            },
            frames: 1,
            expected: broken(0, RingFault::Endless),
        },
        Case {
            what: "an index that runs ahead",
            layouts: &BOTH[..1],
            spoil: |front| front.hostile().ring(RECEIVE).set_available(0x8000),
            frames: 1,
            expected: broken(0, RingFault::Overrun),
        },
        Case {
            what: "heads beyond the table",
            layouts: &BOTH[..1],
            spoil: |front| {
                let ring = front.hostile().ring(RECEIVE);
                (0..256).for_each(|place| ring.set_head(place, 256));
            },
            frames: 1,
            expected: broken(0, RingFault::Index),
        },
    ]);
}

#[test]
fn guests_that_never_take_what_they_get_hold_up_nobody() {
    const ENTRIES: u64 = Layout::SPLIT.entries as u64;
    run(&[
        Case {
            what: "a ring that is never refilled",
            layouts: &BOTH,
            spoil: |_| {},
            frames: ENTRIES + 100,
            expected: drops(RxRingFull, 100),
        },
        Case {
            what: "buffers without bytes",
            layouts: &BOTH,
            spoil: |front| {
                spoil_all(front, |ring, index| (ring.ground().buffer(index), 0, WRITE));
            },
            frames: 10,
            expected: drops(RxRingFull, 10),
        },
    ]);
}

#[test]
fn a_frame_in_buffers_of_one_byte_each_is_whole() {
    let mut stage = Stage::start(BOTH.len(), 1);
    for (number, layout) in BOTH.into_iter().enumerate() {
        let mut front = stage.guest(number, Layout { buffer_bytes: 64, ..layout });
        spoil_all(&mut front, |ring, index| (ring.ground().buffer(index), 1, WRITE));
        // 12 bytes of a header and 60 of a frame: 72 buffers, three times.
        stage.send_to(number, 5);
        stage.expect(number, layout.name, &drops(RxRingFull, 2));
        let pieces = front.receive_within(PATIENCE).unwrap();
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        // Its headers lie in pieces, too, so this driver does not find where frames begin.
        assert_eq!(bytes, 0, "{pieces:?}");
        assert_eq!(pieces.len(), 3 * 72);
        let station = stage.station(number);
        let heard = |piece: &hairpin_bench::front_end::Received| station.hear(&piece.bytes);
        assert!(pieces.iter().all(|piece| heard(piece) == Heard::Foreign));
    }
    stage.end();
}
