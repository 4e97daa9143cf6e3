//! A ring of values between two threads: one produces, one consumes, neither
//! waits for the other.
//!
//! What is pushed becomes visible in one step ([`Producer::publish`]); what is
//! taken is given back in one step ([`Consumer::release`]): one store per burst
//! on either side. Wake-ups are suppressed as virtio does it: a consumer that
//! is about to sleep says so and then looks again; a producer publishes and
//! then asks whether somebody sleeps. A full fence stands between the two steps
//! on both sides, so that at least one of them sees the other's.

use crossbeam_utils::CachePadded;

use super::sync::{Arc, AtomicBool, AtomicU64, Ordering, TrackedCell, fence};

struct Shared<T> {
    /// A power of two of them, so that a position finds its slot without division.
    slots: Box<[TrackedCell<T>]>,
    /// Values at a time, not more than there are slots.
    capacity: usize,
    /// Values published so far.
    produced: CachePadded<AtomicU64>,
    /// Values given back so far.
    consumed: CachePadded<AtomicU64>,
    /// Whether the consumer wants to be woken.
    asleep: CachePadded<AtomicBool>,
    /// Whether either side is gone; whoever reads this is the other one.
    parted: AtomicBool,
}

// SAFETY: a slot is written by the producer alone while its position is at or
// beyond `produced`, and read by the consumer alone while it is below; the
// release stores to the two positions, and the acquire loads, order the two.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: the ring owns its values.
unsafe impl<T: Send> Send for Shared<T> {}

/// The side that fills the ring.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// The position of the next value pushed.
    next: u64,
    /// What of it the consumer sees.
    published: u64,
    /// What the consumer had given back when we last looked.
    consumed: u64,
}

/// The side that empties the ring.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// The position of the next value taken.
    next: u64,
    /// What was published when we last looked.
    produced: u64,
}

/// Whether the other side still exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// It does.
    There,
    /// It was dropped.
    Gone,
}

/// Whether the consumer wants to hear of what was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doorbell {
    /// It sleeps: wake it. Said once per sleep.
    Wanted,
    /// It is looking, or was woken already.
    Unwanted,
}

/// What a consumer that wants to sleep finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Nothing: it will be woken.
    Granted,
    /// Values, or that the producer is gone.
    Refused,
}

/// A ring for at most `capacity` values at a time (at least one).
#[must_use]
pub fn ring<T: Copy + Default>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1);
    let slots = (0..capacity.next_power_of_two()).map(|_| TrackedCell::new(T::default()));
    let shared = Arc::new(Shared {
        slots: slots.collect(),
        capacity,
        produced: CachePadded::new(AtomicU64::new(0)),
        consumed: CachePadded::new(AtomicU64::new(0)),
        asleep: CachePadded::new(AtomicBool::new(false)),
        parted: AtomicBool::new(false),
    });
    let producer = Producer { shared: Arc::clone(&shared), next: 0, published: 0, consumed: 0 };
    (producer, Consumer { shared, next: 0, produced: 0 })
}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: u64) -> &TrackedCell<T> {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn peer(&self) -> Peer {
        if self.parted.load(Ordering::Acquire) { Peer::Gone } else { Peer::There }
    }
}

impl<T: Copy> Producer<T> {
    /// Values the ring holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Slots free as far as was known at the last [`Producer::refresh`].
    #[inline]
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - (self.next - self.consumed) as usize
    }

    /// Looks what the consumer gave back; says how many values in all, ever.
    #[inline]
    pub fn refresh(&mut self) -> u64 {
        self.consumed = self.shared.consumed.load(Ordering::Acquire);
        self.consumed
    }

    /// Adds a value that the consumer does not see yet; says at which position,
    /// or nothing if no slot is known to be free.
    #[inline]
    pub fn push(&mut self, value: T) -> Option<u64> {
        if self.free() == 0 {
            return None;
        }
        let position = self.next;
        // SAFETY: the position is not below `produced` and less than a ring's
        // length above `consumed`: the consumer is done with this slot and will not
        // look at it until it is published.
        self.shared.slot(position).with_mut(|slot| unsafe { *slot = value });
        self.next += 1;
        Some(position)
    }

    /// Takes back what was pushed and not published.
    pub fn retract(&mut self, count: usize) {
        self.next = self.next.saturating_sub(count as u64).max(self.published);
    }

    /// Shows the consumer everything pushed so far; says how many values in all, ever.
    #[inline]
    pub fn publish(&mut self) -> u64 {
        if self.published != self.next {
            self.published = self.next;
            self.shared.produced.store(self.next, Ordering::Release);
        }
        self.published
    }

    /// After publishing: whether the consumer has to be woken.
    #[inline]
    #[must_use]
    pub fn doorbell(&mut self) -> Doorbell {
        fence(Ordering::SeqCst);
        let asleep = self.shared.asleep.load(Ordering::Relaxed)
            && self.shared.asleep.swap(false, Ordering::Relaxed);
        if asleep { Doorbell::Wanted } else { Doorbell::Unwanted }
    }
}

impl<T> Producer<T> {
    /// Whether there is a consumer.
    #[inline]
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.shared.peer()
    }

    /// Tells the consumer that no more will come; dropping does it too.
    pub fn part(&mut self) {
        self.shared.parted.store(true, Ordering::Release);
    }
}

impl<T: Copy> Consumer<T> {
    /// The next value, if there is one.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        if self.next == self.produced {
            self.produced = self.shared.produced.load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        // SAFETY: the position is below `produced`, so the producer wrote this slot
        // before, and at or above `consumed`, so it will not write it now.
        let value = self.shared.slot(self.next).with(|slot| unsafe { *slot });
        self.next += 1;
        Some(value)
    }

    /// Gives back everything taken so far.
    #[inline]
    pub fn release(&mut self) {
        self.shared.consumed.store(self.next, Ordering::Release);
    }
}

impl<T> Consumer<T> {
    /// Whether a value waits, at the price of one load.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.produced && self.next == self.shared.produced.load(Ordering::Acquire)
    }

    /// Whether there is a producer. One that is gone may have left values:
    /// ask this first, then look.
    #[inline]
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.shared.peer()
    }

    /// Asks to be woken, then looks again. Refused: nothing was asked.
    pub fn arm(&mut self) -> Rest {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.peer() == Peer::There && self.is_empty() {
            return Rest::Granted;
        }
        self.disarm();
        Rest::Refused
    }

    /// No longer asks to be woken.
    pub fn disarm(&mut self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.parted.store(true, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.parted.store(true, Ordering::Release);
    }
}

impl<T> std::fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Push,
        Retract(usize),
        Publish,
        Refresh,
        Take,
        Release,
        Arm,
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Push),
            1 => (0..3_usize).prop_map(Op::Retract),
            2 => Just(Op::Publish),
            2 => Just(Op::Refresh),
            4 => Just(Op::Take),
            2 => Just(Op::Release),
            1 => Just(Op::Arm),
        ]
    }

    /// What the ring ought to hold, in plain collections.
    #[derive(Default)]
    struct Oracle {
        unpublished: VecDeque<u32>,
        published: VecDeque<u32>,
        taken: usize,
        known_held: usize,
        next: u32,
    }

    impl Oracle {
        fn held(&self) -> usize {
            self.unpublished.len() + self.published.len() + self.taken
        }
    }

    proptest! {
        #[test]
        fn values_come_in_order_and_none_is_lost(
            capacity in 1..5_usize,
            ops in proptest::collection::vec(any_op(), 1..200),
        ) {
            let (mut producer, mut consumer) = ring::<u32>(capacity);
            let mut oracle = Oracle::default();
            for op in ops {
                match op {
                    Op::Push => {
                        let pushed = producer.push(oracle.next).is_some();
                        prop_assert_eq!(pushed, oracle.known_held < capacity);
                        if pushed {
                            oracle.unpublished.push_back(oracle.next);
                            oracle.known_held += 1;
                        }
                        oracle.next += 1;
                    }
                    Op::Retract(count) => {
                        producer.retract(count);
                        let count = count.min(oracle.unpublished.len());
                        oracle.unpublished.truncate(oracle.unpublished.len() - count);
                        oracle.known_held -= count;
                    }
                    Op::Publish => {
                        producer.publish();
                        oracle.published.append(&mut oracle.unpublished);
                    }
                    Op::Refresh => {
                        producer.refresh();
                        oracle.known_held = oracle.held();
                    }
                    Op::Take => {
                        prop_assert_eq!(consumer.is_empty(), oracle.published.is_empty());
                        let expected = oracle.published.pop_front();
                        prop_assert_eq!(consumer.take(), expected);
                        oracle.taken += usize::from(expected.is_some());
                    }
                    Op::Release => {
                        consumer.release();
                        oracle.taken = 0;
                    }
                    Op::Arm => {
                        let granted = consumer.arm() == Rest::Granted;
                        prop_assert_eq!(granted, oracle.published.is_empty());
                        let wanted = producer.doorbell() == Doorbell::Wanted;
                        prop_assert_eq!(wanted, granted);
                        prop_assert_eq!(producer.doorbell(), Doorbell::Unwanted);
                    }
                }
            }
        }
    }

    #[test]
    fn either_side_learns_that_the_other_is_gone() {
        let (mut producer, mut consumer) = ring::<u32>(2);
        producer.push(1).unwrap();
        producer.publish();
        drop(producer);
        assert_eq!(consumer.peer(), Peer::Gone);
        assert_eq!(consumer.arm(), Rest::Refused);
        assert_eq!(consumer.take(), Some(1));
        assert_eq!(consumer.take(), None);

        let (producer, consumer) = ring::<u32>(2);
        assert_eq!(producer.peer(), Peer::There);
        drop(consumer);
        assert_eq!(producer.peer(), Peer::Gone);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sys::sync::yield_now;

    #[test]
    fn slots_are_handed_over_in_order() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<u32>(1);
            let thread = loom::thread::spawn(move || {
                for value in 1..=2 {
                    while producer.push(value).is_none() {
                        producer.refresh();
                        yield_now();
                    }
                    producer.publish();
                }
            });
            for expected in 1..=2 {
                let value = loop {
                    match consumer.take() {
                        Some(value) => break value,
                        None => yield_now(),
                    }
                };
                assert_eq!(value, expected);
                consumer.release();
            }
            thread.join().expect("the thread ends");
        });
    }

    #[test]
    fn nobody_sleeps_through_a_value() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring::<u32>(1);
            let thread = loom::thread::spawn(move || {
                producer.push(1);
                producer.publish();
                // The ring is returned, so that parting does not refuse the rest.
                (producer.doorbell(), producer)
            });
            let rest = consumer.arm();
            let (doorbell, _producer) = thread.join().expect("the thread ends");
            assert!(rest == Rest::Refused || doorbell == Doorbell::Wanted);
        });
    }
}
