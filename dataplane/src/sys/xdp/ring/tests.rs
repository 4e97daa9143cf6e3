//! Both halves of a ring, one played by the test in the kernel's place.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;

use super::testing::{OFFSETS, file};
use super::*;

const SIZE: u32 = 8;

/// A ring as the kernel has it, both positions at `start`.
fn kernel(file: &OwnedFd, start: u32) -> Ring<u64> {
    let ring = Ring::map(file.as_fd(), 0, &OFFSETS, SIZE).unwrap();
    ring.producer().store(start, Ordering::Release);
    ring.consumer().store(start, Ordering::Release);
    ring
}

/// What happens to a ring.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// We add or take one.
    One,
    /// We show what we did.
    Show,
    /// We put so many of those we took back.
    PutBack(u32),
    /// The kernel does its part, this many times if it can.
    Kernel(u32),
    /// The kernel's position is nonsense for a moment.
    Nonsense(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::One),
        2 => Just(Step::Show),
        1 => (0..2 * SIZE).prop_map(Step::PutBack),
        2 => (1..=SIZE).prop_map(Step::Kernel),
        1 => any::<u32>().prop_map(Step::Nonsense),
    ];
    prop::collection::vec(step, 0..200)
}

/// Where rings begin: anywhere, often just before positions wrap.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0..2 * SIZE).prop_map(|back| 0_u32.wrapping_sub(back))]
}

proptest! {
    #[test]
    fn what_is_added_is_taken_in_order_and_never_more_than_fits(
        start in start(), steps in steps()
    ) {
        let file = file();
        let mut kernel = kernel(&file, start);
        let mut ours = Producer::<u64>::map(file.as_fd(), 0, &OFFSETS, SIZE).unwrap();
        let (mut hidden, mut shown, mut number) = (VecDeque::new(), VecDeque::new(), 0_u64);
        let mut taken = start;
        for step in steps {
            match step {
                Step::One => match ours.push(number) {
                    Ok(()) => {
                        hidden.push_back(number);
                        number += 1;
                        prop_assert!(hidden.len() + shown.len() <= SIZE as usize);
                    }
                    Err(Full) => prop_assert_eq!(hidden.len() + shown.len(), SIZE as usize),
                },
                Step::Show => {
                    ours.publish();
                    shown.append(&mut hidden);
                }
                Step::PutBack(count) => {
                    let free = SIZE as usize - hidden.len() - shown.len();
                    let wanted = if count as usize <= free { Room::Enough } else { Room::Short };
                    prop_assert_eq!(ours.room(count), wanted);
                }
                Step::Kernel(count) => {
                    for _ in 0..count {
                        let there = kernel.producer().load(Ordering::Acquire) != taken;
                        prop_assert_eq!(there, !shown.is_empty());
                        let Some(expected) = shown.pop_front() else { break };
                        prop_assert_eq!(kernel.read(taken), expected);
                        taken = taken.wrapping_add(1);
                    }
                    kernel.consumer().store(taken, Ordering::Release);
                    prop_assert_eq!(ours.left() as usize, shown.len());
                }
                Step::Nonsense(position) => {
                    let beyond = position.wrapping_sub(taken) as usize > shown.len();
                    if beyond {
                        kernel.consumer().store(position, Ordering::Release);
                        prop_assert!(ours.left() <= SIZE);
                        kernel.consumer().store(taken, Ordering::Release);
                    }
                }
            }
        }
        // Nothing of ours was written where the kernel does not look for it.
        kernel.write(taken, 0);
    }

    #[test]
    fn what_the_kernel_adds_is_taken_once_and_nothing_else(start in start(), steps in steps()) {
        let file = file();
        let mut kernel = kernel(&file, start);
        let mut ours = Consumer::<u64>::map(file.as_fd(), 0, &OFFSETS, SIZE).unwrap();
        let (mut there, mut number, mut added) = (VecDeque::new(), 0_u64, start);
        let mut unreleased = Vec::new();
        for step in steps {
            match step {
                Step::One => {
                    let next = there.pop_front();
                    prop_assert_eq!(ours.take(), next);
                    unreleased.extend(next);
                }
                Step::Show => {
                    ours.release();
                    unreleased.clear();
                }
                Step::PutBack(count) => {
                    ours.put_back(count);
                    let from = unreleased.len().saturating_sub(count as usize);
                    unreleased.drain(from..).rev().for_each(|entry| there.push_front(entry));
                }
                Step::Kernel(count) => {
                    for _ in 0..count {
                        let released = kernel.consumer().load(Ordering::Acquire);
                        if added.wrapping_sub(released) == SIZE {
                            break;
                        }
                        kernel.write(added, number);
                        there.push_back(number);
                        (added, number) = (added.wrapping_add(1), number + 1);
                    }
                    kernel.producer().store(added, Ordering::Release);
                }
                Step::Nonsense(position) => {
                    let released = kernel.consumer().load(Ordering::Acquire);
                    if there.is_empty() && position.wrapping_sub(released) > SIZE {
                        kernel.producer().store(position, Ordering::Release);
                        prop_assert_eq!(ours.take(), None);
                        kernel.producer().store(added, Ordering::Release);
                    }
                }
            }
        }
    }
}

#[test]
fn a_ring_that_cannot_lie_as_described_is_refused() {
    let file = file();
    let refused = |offsets: &XdpRingOffset, size| {
        Ring::<Descriptor>::map(file.as_fd(), 0, offsets, size).is_err()
    };
    assert!(!refused(&OFFSETS, SIZE));
    assert!(refused(&OFFSETS, 7), "not a power of two");
    assert!(refused(&OFFSETS, 0));
    for (producer, desc) in [(2, 192), (4096, 192), (u64::MAX, 192), (0, 196), (0, u64::MAX)] {
        assert!(refused(&XdpRingOffset { producer, desc, ..OFFSETS }, SIZE), "{producer} {desc}");
    }
    assert!(refused(&XdpRingOffset { flags: None, ..OFFSETS }, SIZE));
}
