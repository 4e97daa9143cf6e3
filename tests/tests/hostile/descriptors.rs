//! Descriptors of frames that are none.

use hairpin_bench::front_end::hostile::{NEXT, RawDescriptor};
use hairpin_bench::front_end::{Chains, Layout};
use hairpin_dataplane::ledger::DropReason::{
    BadAddress, Giant, Runt, TooManySegments, UnknownUnicast,
};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::message::RegionSpec;
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer};
use hairpin_dataplane::sys::virtqueue::{CHAIN_DESCRIPTORS, PREFIX_BYTES};

use super::cases::{Case, FRAME_BYTES, Guest, Rings, TRANSMIT, run, run_with};
use super::stage::{Expected, PATIENCE, drops};

const NONE: Features = Features::NONE;
/// Bytes of a frame with its virtio-net header.
const BUFFER_BYTES: u32 = (PREFIX_BYTES + FRAME_BYTES) as u32;

fn piece(address: u64, length: u32) -> Buffer {
    Buffer { address, length, access: Access::Read }
}

/// A buffer cut behind these bytes.
pub fn cut(buffer: Buffer, at: &[u32]) -> Vec<Buffer> {
    let ends = at.iter().copied().chain([buffer.length]);
    let mut from = 0;
    let part = |end: u32| {
        let part =
            Buffer { address: buffer.address + u64::from(from), length: end - from, ..buffer };
        from = end;
        part
    };
    ends.map(part).collect()
}

/// What a guest does by rings of either kind.
pub fn case(what: &'static str, commit: fn(&mut Guest), expected: Expected) -> Case {
    Case { what, rings: Rings::Both, features: NONE, commit, expected }
}

/// A guest sends its frame in these pieces.
fn transmit_cut(guest: &mut Guest, at: &[u32]) {
    let sound = guest.sound(0);
    guest.transmit(&cut(sound, at));
}

/// The first so many bytes of a buffer, in so many pieces.
fn transmit_start(guest: &mut Guest, lengths: &[u32]) {
    let Buffer { mut address, .. } = guest.sound(0);
    let pieces = lengths.iter().map(|&length| {
        address += u64::from(length);
        piece(address - u64::from(length), length)
    });
    let pieces: Vec<Buffer> = pieces.collect();
    guest.transmit(&pieces);
}

#[test]
fn cve_2022_2132_headers_in_pieces_and_chains_shorter_than_the_header() {
    run(&[
        case(
            "a header of one byte a descriptor",
            |guest| transmit_cut(guest, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            drops(UnknownUnicast, 1),
        ),
        case(
            "a frame of one byte a descriptor",
            |guest| transmit_cut(guest, &(1..BUFFER_BYTES).collect::<Vec<u32>>()),
            drops(UnknownUnicast, 1),
        ),
        case("11 bytes", |guest| transmit_start(guest, &[11]), drops(Runt, 1)),
        case("5 and 6 bytes", |guest| transmit_start(guest, &[5, 6]), drops(Runt, 1)),
        case("a header alone", |guest| transmit_start(guest, &[12]), drops(Runt, 1)),
        case("a header alone in pieces", |guest| transmit_start(guest, &[1, 11]), drops(Runt, 1)),
    ]);
}

#[test]
fn cve_2022_2132_descriptors_without_bytes() {
    run(&[
        case("one, empty", |guest| transmit_start(guest, &[0]), drops(Runt, 1)),
        case("all empty", |guest| transmit_start(guest, &[0; 9]), drops(Runt, 1)),
        case(
            "empty ones between others",
            |guest| transmit_cut(guest, &[0, 0, 12, 12, 12, 30, 30, BUFFER_BYTES]),
            drops(UnknownUnicast, 1),
        ),
        case(
            "an empty one where there is no memory",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[sound, piece(u64::MAX, 0)]);
            },
            drops(BadAddress, 1),
        ),
    ]);
}

#[test]
fn buffers_that_are_ours_to_write_are_no_frames() {
    run(&[
        case(
            "a frame",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[Buffer { access: Access::Write, ..sound }]);
            },
            drops(BadAddress, 1),
        ),
        case(
            "the second half of one",
            |guest| {
                let mut halves = cut(guest.sound(0), &[40]);
                halves[1].access = Access::Write;
                guest.transmit(&halves);
            },
            drops(BadAddress, 1),
        ),
    ]);
}

#[test]
fn openbsd_vmd_lengths_beyond_everything() {
    /// Of each piece: as many as a chain can have are together beyond 32 bits.
    const PIECE_BYTES: u32 = 17 << 20;
    let cases = [
        case(
            "one of 4 GiB",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[Buffer { length: u32::MAX, ..sound }]);
            },
            drops(BadAddress, 1),
        ),
        case(
            "a second one of 4 GiB",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[sound, Buffer { length: u32::MAX, ..sound }]);
            },
            drops(Giant, 1),
        ),
        case(
            "a sum beyond 32 bits",
            |guest| {
                let at = guest.spare();
                guest.transmit(&[piece(at, PIECE_BYTES); CHAIN_DESCRIPTORS]);
            },
            drops(Giant, 1),
        ),
        case(
            "16 MiB",
            |guest| {
                let at = guest.spare();
                guest.transmit(&[piece(at, PIECE_BYTES)]);
            },
            drops(Giant, 1),
        ),
    ];
    run_with(&cases, |layout| Layout { spare_bytes: u64::from(PIECE_BYTES), ..layout });
}

#[test]
fn cve_2020_14378_chains_have_an_end() {
    let cases = [
        case(
            "as long as can be",
            |guest| {
                let mut chain = cut(guest.sound(0), &[12]);
                chain.resize(CHAIN_DESCRIPTORS, chain[1]);
                chain[2..].iter_mut().for_each(|piece| piece.length = 1);
                guest.transmit(&chain);
            },
            drops(UnknownUnicast, 1),
        ),
        case(
            "one too many",
            |guest| {
                let sound = guest.sound(0);
                guest.transmit(&[Buffer { length: 1, ..sound }; CHAIN_DESCRIPTORS + 1]);
            },
            drops(TooManySegments, 1),
        ),
        Case {
            rings: Rings::Split,
            ..case(
                "a loop",
                |guest| {
                    let Buffer { address, length, .. } = guest.sound(0);
                    let ring = guest.ring();
                    let at = |low, high| RawDescriptor { address, length, low, high };
                    ring.set_descriptor(0, at(NEXT, 1));
                    ring.set_descriptor(1, at(NEXT, 0));
                    ring.replay(0);
                    ring.kick();
                },
                drops(TooManySegments, 1),
            )
        },
        Case {
            rings: Rings::Split,
            ..case(
                "a next one beyond the table",
                |guest| {
                    let Buffer { address, length, .. } = guest.sound(0);
                    let ring = guest.ring();
                    for next in [512, 0x8000, 0xffff] {
                        let beyond = RawDescriptor { address, length, low: NEXT, high: next };
                        ring.set_descriptor(next % 7, beyond);
                        ring.replay(next % 7);
                    }
                    ring.kick();
                },
                drops(BadAddress, 3),
            )
        },
    ];
    run_with(&cases, |layout| Layout { entries: 512, ..layout });
}

/// Bytes of each of the regions behind the rings.
const PART_BYTES: u64 = 0x1000;
/// Frames that are taken at a time.
const BATCH: u16 = 64;

/// Sends batches of sound frames, one of which has this address and length instead: in the
/// first batch the first one, in the second the second one, and so on. Memory is lent in
/// pieces: the first region is followed by another one, that by a hole.
fn spoil_every_slot(guest: &mut Guest, bad: fn(u64) -> Buffer) {
    let mut hostile = guest.front.hostile();
    let spare = hostile.spare();
    let first = spare + PART_BYTES - hostile.memory().whole().guest;
    let memory = hostile.memory();
    let regions = [memory.part(0, first), memory.part(first, PART_BYTES)];
    let behind_hole = RegionSpec { ..memory.part(first + 2 * PART_BYTES, PART_BYTES) };
    hostile.lend(&[regions[0], regions[1], behind_hole]).unwrap();
    for slot in 0..BATCH {
        for place in 0..BATCH {
            let sound = guest.sound(place);
            let buffer = if place == slot { bad(spare) } else { sound };
            guest.front.hostile().offer(TRANSMIT, &[buffer]).expect("room for a batch");
        }
        guest.front.hostile().publish(TRANSMIT);
        let (mut back, until) = (0, std::time::Instant::now() + PATIENCE);
        while back < usize::from(BATCH) {
            assert!(std::time::Instant::now() < until, "{back} of a batch came back");
            back += guest.front.hostile().collect(TRANSMIT);
            std::thread::yield_now();
        }
    }
}

#[test]
fn cve_2018_1059_cve_2020_10725_bad_addresses_in_every_slot_of_a_batch() {
    let batch = u64::from(BATCH);
    let expected =
        || Expected::Drops(vec![(BadAddress, batch), (UnknownUnicast, batch * (batch - 1))]);
    let bad = |what, commit| case(what, commit, expected());
    run(&[
        bad("over two regions", |guest| {
            spoil_every_slot(guest, |spare| piece(spare + PART_BYTES - 30, BUFFER_BYTES));
        }),
        bad("in a hole", |guest| {
            spoil_every_slot(guest, |spare| piece(spare + 2 * PART_BYTES + 100, BUFFER_BYTES));
        }),
        bad("one byte beyond a region's end", |guest| {
            spoil_every_slot(guest, |spare| {
                piece(spare + 2 * PART_BYTES - u64::from(BUFFER_BYTES) + 1, BUFFER_BYTES)
            });
        }),
        bad("around the end of all addresses", |guest| {
            spoil_every_slot(guest, |_| piece(u64::MAX - 30, BUFFER_BYTES));
        }),
        bad("4 GiB long", |guest| spoil_every_slot(guest, |spare| piece(spare, u32::MAX))),
        bad("at address 0", |guest| spoil_every_slot(guest, |_| piece(0, BUFFER_BYTES))),
        bad("at the front end's address", |guest| {
            let user = hairpin_bench::front_end::memory::USER;
            assert_eq!(user, 0x7f00_0000_0000);
            spoil_every_slot(guest, |_| piece(0x7f00_0000_0000, BUFFER_BYTES));
        }),
    ]);
}

#[test]
fn chains_that_a_sound_driver_makes_pass() {
    let sound = |chains: Chains| -> fn(&mut Guest) {
        match chains {
            Chains::Whole => |guest| transmit_cut(guest, &[]),
            Chains::Apart | Chains::Tables => |guest| transmit_cut(guest, &[12]),
        }
    };
    run(&[
        case("whole", sound(Chains::Whole), drops(UnknownUnicast, 1)),
        case("apart", sound(Chains::Apart), drops(UnknownUnicast, 1)),
    ]);
}
