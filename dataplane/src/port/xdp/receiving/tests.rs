//! Frames of several pieces, from a ring that a test fills in the kernel's place.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::frame::BATCH_FRAMES;
use crate::sys::memory::Memory;
use crate::sys::xdp::{CONTINUED, testing};

/// Entries of the rings, and places for frames.
const SIZE: u32 = 64;

/// A queue, and the kernel at its other side.
struct Bench {
    receiving: Receiving,
    hint: RegionHint,
    held: Vec<u64>,
    batch: Batch,
    memory: Arc<Memory>,
    fill: testing::Kernel<u64>,
    received: testing::Kernel<Descriptor>,
    /// Places that the kernel has.
    places: VecDeque<u64>,
}

/// What a batch was.
#[derive(PartialEq, Eq, Debug, Default)]
struct Seen {
    lengths: Vec<usize>,
    rejected: Vec<DropReason>,
}

impl Bench {
    fn new() -> Bench {
        let (fill, to_fill) = testing::emptied(SIZE);
        let (received, from_kernel) = testing::filled(SIZE);
        let mut receiving = Receiving::new(to_fill, from_kernel);
        receiving.give_back((0..SIZE).map(|place| u64::from(place * FRAME_BYTES)));
        let memory = Memory::arena((SIZE * FRAME_BYTES) as usize).unwrap();
        let mut bench = Bench {
            receiving,
            hint: RegionHint::default(),
            held: Vec::with_capacity(BATCH_FRAMES * PIECES_MAX),
            batch: Batch::new(),
            memory: Arc::new(memory),
            fill,
            received,
            places: VecDeque::new(),
        };
        bench.refill();
        bench
    }

    fn refill(&mut self) {
        self.places.extend(std::iter::from_fn(|| self.fill.take()));
    }

    /// The kernel's next piece, of `length` bytes in a place of its own.
    fn piece(&mut self, length: u32, sequel: Sequel) -> Descriptor {
        let address = self.places.pop_front().unwrap();
        Descriptor { address, length, options: if sequel == Sequel::Next { CONTINUED } else { 0 } }
    }

    /// The kernel shows a frame of so many pieces of 100 bytes.
    fn show(&mut self, pieces: usize) {
        for index in 1..=pieces {
            let sequel = if index < pieces { Sequel::Next } else { Sequel::None };
            let piece = self.piece(100, sequel);
            self.received.add(piece).unwrap();
        }
    }

    fn receive(&mut self) -> Seen {
        self.batch.begin(&self.memory);
        self.receiving.stage(&mut self.hint, &mut self.held, &mut self.batch);
        let lengths = (0..self.batch.count()).map(|index| self.batch.length(index)).collect();
        let seen = Seen { lengths, rejected: self.batch.rejected().to_vec() };
        self.batch.end();
        self.receiving.give_back(self.held.drain(..));
        self.refill();
        seen
    }

    #[track_caller]
    fn assert_every_place_is_back(&mut self) {
        let mut places: Vec<u64> = self.places.drain(..).collect();
        places.sort_unstable();
        let all: Vec<u64> = (0..SIZE).map(|place| u64::from(place * FRAME_BYTES)).collect();
        assert_eq!(places, all);
    }
}

fn lost(reason: DropReason) -> Seen {
    Seen { rejected: vec![reason], ..Seen::default() }
}

fn whole(lengths: &[usize]) -> Seen {
    Seen { lengths: lengths.to_vec(), ..Seen::default() }
}

#[test]
fn a_frame_is_left_until_its_last_piece_is_there() {
    let mut bench = Bench::new();
    let pieces = [Sequel::Next, Sequel::Next, Sequel::None].map(|it| bench.piece(1000, it));
    bench.show(1);
    for piece in &pieces[..2] {
        bench.received.add(*piece).unwrap();
    }
    assert_eq!(bench.receive(), whole(&[100]));
    assert_eq!(bench.receive(), Seen::default());
    bench.received.add(pieces[2]).unwrap();
    bench.show(2);
    assert_eq!(bench.receive(), whole(&[3000, 200]));
    bench.assert_every_place_is_back();
}

#[test]
fn a_frame_of_too_many_pieces_is_lost_alone() {
    let mut bench = Bench::new();
    bench.show(PIECES_MAX);
    bench.show(PIECES_MAX + 1);
    bench.show(1);
    let seen = bench.receive();
    assert_eq!(seen.lengths, [PIECES_MAX * 100, 100]);
    assert_eq!(seen.rejected, [DropReason::TooManySegments]);
    bench.assert_every_place_is_back();
}

#[test]
fn a_frame_that_never_ends_stops_nothing() {
    let mut bench = Bench::new();
    // More than the ring has room for, shown bit by bit.
    let mut counted = 0;
    for _ in 0..3 * SIZE {
        let piece = bench.piece(1, Sequel::Next);
        bench.received.add(piece).unwrap();
        let seen = bench.receive();
        assert_eq!(seen.lengths, [0; 0]);
        counted += seen.rejected.len();
    }
    assert_eq!(counted, 1);
    bench.show(1);
    assert_eq!(bench.receive(), Seen::default(), "it was the end");
    bench.show(1);
    assert_eq!(bench.receive(), whole(&[100]));
    bench.assert_every_place_is_back();
}

#[test]
fn a_frame_with_a_piece_elsewhere_is_lost_alone() {
    let receive_bytes = u64::from(RECEIVE_FRAMES) * u64::from(FRAME_BYTES);
    let beyond = |address, length| Descriptor { address, length, options: CONTINUED };
    for wrong in [
        beyond(receive_bytes, 1),
        beyond(u64::MAX, 1),
        beyond(4000, 97),
        beyond(0, u32::MAX),
        beyond(receive_bytes - 1, 2),
    ] {
        let mut bench = Bench::new();
        let (first, last) = (bench.piece(100, Sequel::Next), bench.piece(9, Sequel::None));
        bench.show(2);
        for piece in [first, wrong, last] {
            bench.received.add(piece).unwrap();
        }
        bench.show(3);
        let seen = bench.receive();
        assert_eq!(seen.lengths, [200, 300], "{wrong:?}");
        assert_eq!(seen.rejected, [DropReason::BadAddress]);
        bench.assert_every_place_is_back();
    }
    let mut bench = Bench::new();
    bench.received.add(beyond(u64::MAX, 1)).unwrap();
    bench.show(1);
    assert_eq!(bench.receive(), lost(DropReason::BadAddress));
}

/// What the kernel does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It adds a piece of this many bytes to the frame it is at.
    Piece(u32),
    /// It adds the last one.
    Last(u32),
    /// We look.
    Receive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..=FRAME_BYTES).prop_map(Step::Piece),
        2 => (0..=FRAME_BYTES).prop_map(Step::Last),
        2 => Just(Step::Receive),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn frames_come_whole_in_order_and_every_place_comes_back(steps in steps()) {
        let mut bench = Bench::new();
        let (mut frame, mut expected) = (Vec::new(), VecDeque::new());
        let (mut came, mut lost_frames, mut wanted_lost) = (Vec::new(), 0, 0);
        let steps = steps.into_iter().chain([Step::Receive, Step::Last(7), Step::Receive]);
        for step in steps {
            let (length, sequel) = match step {
                Step::Piece(length) => (length, Sequel::Next),
                Step::Last(length) => (length, Sequel::None),
                Step::Receive => {
                    let seen = bench.receive();
                    prop_assert!(seen.rejected.iter().all(|it| *it == DropReason::TooManySegments));
                    came.extend(seen.lengths);
                    lost_frames += seen.rejected.len();
                    continue;
                }
            };
            if bench.places.is_empty() {
                continue;
            }
            let piece = bench.piece(length, sequel);
            prop_assert!(bench.received.add(piece).is_some());
            frame.push(length as usize);
            if sequel == Sequel::None {
                match frame.len() {
                    0..=PIECES_MAX => expected.push_back(frame.iter().sum::<usize>()),
                    _ => wanted_lost += 1,
                }
                frame.clear();
            }
        }
        // A batch ends at its bounds; what is left comes with the next ones.
        for _ in 0..SIZE {
            let seen = bench.receive();
            came.extend(seen.lengths);
            lost_frames += seen.rejected.len();
        }
        prop_assert_eq!(came, Vec::from(expected));
        prop_assert_eq!(lost_frames, wanted_lost);
        if frame.is_empty() {
            bench.assert_every_place_is_back();
        }
    }
}
