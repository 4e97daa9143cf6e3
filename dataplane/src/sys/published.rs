//! One pointer, read by workers every breath, replaced by control.
//!
//! Quiescent-state based reclamation: each reader has a slot that holds the
//! epoch it entered its breath in, or [`OUTSIDE`]. Control swaps the pointer,
//! then raises the epoch; what it replaced may go once every slot is outside or
//! has reached that epoch. Readers pay one load a breath, and a store and a
//! fence only in the first breath after a change.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::ptr;

use crossbeam_utils::CachePadded;

use super::sync::{Arc, AtomicBool, AtomicPtr, AtomicU64, Mutex, Ordering, fence};

/// A slot's value while its reader sleeps or is not attached.
const OUTSIDE: u64 = 0;

struct Shared<T> {
    current: AtomicPtr<T>,
    epoch: AtomicU64,
    slots: Box<[Slot]>,
    retired: Mutex<VecDeque<Retired<T>>>,
}

struct Slot {
    entered: CachePadded<AtomicU64>,
    taken: AtomicBool,
}

struct Retired<T> {
    /// Free once every reader is outside or has entered at this epoch or later.
    epoch: u64,
    value: Box<T>,
}

/// Control's side: there is one per published pointer.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
}

/// A worker's side: one per slot.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    slot: usize,
    /// What our slot holds.
    entered: u64,
    /// What `current` was when we entered.
    cached: *const T,
}

// SAFETY: the cached pointer is only followed under the protocol above, which
// holds on whatever thread the reader is; `T: Sync` as all readers see one `T`.
unsafe impl<T: Send + Sync> Send for Reader<T> {}

impl<T: Send + Sync> Publisher<T> {
    /// Publishes a first value, with slots for `readers` readers.
    pub fn new(value: Box<T>, readers: usize) -> Publisher<T> {
        let slots = (0..readers)
            .map(|_| Slot {
                entered: CachePadded::new(AtomicU64::new(OUTSIDE)),
                taken: AtomicBool::new(false),
            })
            .collect();
        let shared = Shared {
            current: AtomicPtr::new(Box::into_raw(value)),
            epoch: AtomicU64::new(OUTSIDE + 1),
            slots,
            retired: Mutex::new(VecDeque::new()),
        };
        Publisher { shared: Arc::new(shared) }
    }

    /// A reader for a free slot, or nothing when all are taken.
    #[must_use]
    pub fn reader(&self) -> Option<Reader<T>> {
        let free = |slot: &Slot| {
            slot.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot = self.shared.slots.iter().position(free)?;
        let shared = Arc::clone(&self.shared);
        Some(Reader { shared, slot, entered: OUTSIDE, cached: ptr::null() })
    }

    /// The value that readers see in their next breath.
    #[must_use]
    pub fn current(&self) -> &T {
        let current = self.shared.current.load(Ordering::Relaxed);
        // SAFETY: `current` always holds a pointer from Box::into_raw. Only `publish` takes
        // one out, through a unique borrow of the one publisher, which we hold shared.
        unsafe { &*current }
    }

    /// Replaces the value; readers see it in their next breath. What was there
    /// is freed by a later [`Publisher::collect`].
    pub fn publish(&mut self, value: Box<T>) {
        let old = self.shared.current.swap(Box::into_raw(value), Ordering::SeqCst);
        let epoch = self.shared.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        // SAFETY: `current` always holds a pointer from Box::into_raw, and the
        // swap took it out: only the retired list owns it now.
        let value = unsafe { Box::from_raw(old) };
        self.retired().push_back(Retired { epoch, value });
    }

    /// Frees what no reader can hold any more; says whether nothing is left.
    pub fn collect(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let oldest = self
            .shared
            .slots
            .iter()
            .map(|slot| slot.entered.load(Ordering::SeqCst))
            .filter(|&entered| entered != OUTSIDE)
            .min()
            .unwrap_or(u64::MAX);
        let mut retired = self.retired();
        while retired.front().is_some_and(|front| front.epoch <= oldest) {
            drop(retired.pop_front().map(|front| front.value));
        }
        retired.is_empty()
    }

    fn retired(&self) -> RetiredGuard<'_, T> {
        self.shared.retired.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(not(loom))]
type RetiredGuard<'a, T> = std::sync::MutexGuard<'a, VecDeque<Retired<T>>>;
#[cfg(loom)]
type RetiredGuard<'a, T> = loom::sync::MutexGuard<'a, VecDeque<Retired<T>>>;

impl<T> Reader<T> {
    /// Enters a breath: the value seen through the guard stays until it is dropped.
    #[inline]
    pub fn enter(&mut self) -> Pinned<'_, T> {
        if self.shared.epoch.load(Ordering::Acquire) != self.entered {
            self.renew();
        }
        Pinned { value: self.cached, reader: std::marker::PhantomData }
    }

    #[cold]
    fn renew(&mut self) {
        self.entered = self.shared.epoch.load(Ordering::SeqCst);
        self.slot().store(self.entered, Ordering::SeqCst);
        // The store must be seen before the pointer is read: either control sees
        // our slot, or we see the pointer that it published.
        fence(Ordering::SeqCst);
        self.cached = self.shared.current.load(Ordering::SeqCst);
    }

    /// Leaves: control need not wait for this reader until it enters again.
    pub fn leave(&mut self) {
        self.entered = OUTSIDE;
        self.slot().store(OUTSIDE, Ordering::Release);
    }

    fn slot(&self) -> &AtomicU64 {
        &self.shared.slots[self.slot].entered
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.leave();
        self.shared.slots[self.slot].taken.store(false, Ordering::Release);
    }
}

/// The published value, for the length of a breath.
pub struct Pinned<'r, T> {
    value: *const T,
    reader: std::marker::PhantomData<&'r mut Reader<T>>,
}

impl<T> Deref for Pinned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard borrows its reader, whose slot holds an epoch at which
        // `value` was current; `collect` frees it only after that slot moved on,
        // and the slot moves only through the borrowed reader.
        unsafe { &*self.value }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        let current = *self.current.get_mut();
        #[cfg(loom)]
        let current = self.current.with_mut(|pointer| *pointer);
        // SAFETY: no reader or publisher is left, and `current` came from a Box.
        drop(unsafe { Box::from_raw(current) });
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_holds_is_kept_until_it_moves_on() {
        let mut publisher = Publisher::new(Box::new(1), 2);
        let mut reader = publisher.reader().unwrap();
        let mut sleeper = publisher.reader().unwrap();
        assert!(publisher.reader().is_none());
        assert_eq!(*sleeper.enter(), 1);
        sleeper.leave();
        let pinned = reader.enter();
        publisher.publish(Box::new(2));
        assert!(!publisher.collect());
        assert_eq!(*pinned, 1);
        assert_eq!(*reader.enter(), 2);
        assert!(publisher.collect());
        drop(sleeper);
        assert!(publisher.reader().is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::sync::TrackedCell;
    use super::*;
    use loom::thread::spawn;

    /// A value that loom sees being read and freed: freeing it writes to its cell,
    /// which no reader may still be looking into, nor look into later.
    struct Value {
        number: TrackedCell<u32>,
        freed: Arc<AtomicBool>,
    }

    // SAFETY: as `number` and `drop` say, and as loom checks.
    unsafe impl Sync for Value {}

    impl Value {
        fn new(number: u32) -> Box<Value> {
            Value::telling(number, &Arc::new(AtomicBool::new(false)))
        }

        /// One that says when it has been freed.
        fn telling(number: u32, freed: &Arc<AtomicBool>) -> Box<Value> {
            Box::new(Value { number: TrackedCell::new(number), freed: Arc::clone(freed) })
        }

        fn number(&self) -> u32 {
            // SAFETY: the cell is written only when the value is freed; a reader that
            // comes here later than that is what loom looks for.
            self.number.with(|number| unsafe { *number })
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            // SAFETY: the value is being dropped; whoever still reads it is found here.
            self.number.with_mut(|number| unsafe { *number = 0 });
            self.freed.store(true, Ordering::SeqCst);
        }
    }

    /// Spends a breath that does not end outside; says which value it saw.
    fn breathe(reader: &mut Reader<Value>) -> u32 {
        reader.enter().number()
    }

    #[test]
    fn no_reader_sees_a_freed_value() {
        loom::model(|| {
            let freed = Arc::new(AtomicBool::new(false));
            let mut publisher = Publisher::new(Value::telling(1, &freed), 1);
            let mut reader = publisher.reader().expect("one slot");
            let worker = spawn(move || {
                for _ in 0..2 {
                    let pinned = reader.enter();
                    if pinned.number() == 1 {
                        assert!(!freed.load(Ordering::SeqCst));
                    }
                    drop(pinned);
                    reader.leave();
                }
            });
            publisher.publish(Value::new(2));
            publisher.collect();
            worker.join().expect("the worker ends");
            assert!(publisher.collect());
        });
    }

    #[test]
    fn a_busy_reader_goes_from_one_value_to_the_next() {
        loom::model(|| {
            let mut publisher = Publisher::new(Value::new(1), 1);
            let mut reader = publisher.reader().expect("one slot");
            assert_eq!(breathe(&mut reader), 1);
            let worker = spawn(move || {
                // By what it cached, or by what it finds: never back to an older one.
                let seen = [breathe(&mut reader), breathe(&mut reader)];
                assert!(matches!(seen, [1..=3, 1..=3]) && seen[0] <= seen[1], "{seen:?}");
                reader
            });
            for number in [2, 3] {
                publisher.publish(Value::new(number));
                publisher.collect();
            }
            let mut reader = worker.join().expect("the worker ends");
            assert_eq!(breathe(&mut reader), 3);
            assert!(publisher.collect(), "it holds the current value alone");
        });
    }

    #[test]
    fn a_sleeper_is_not_waited_for_and_wakes_to_a_live_value() {
        loom::model(|| {
            let mut publisher = Publisher::new(Value::new(1), 2);
            let mut awake = publisher.reader().expect("two slots");
            let mut sleeper = publisher.reader().expect("two slots");
            assert_eq!((breathe(&mut awake), breathe(&mut sleeper)), (1, 1));
            sleeper.leave();
            let waking = spawn(move || {
                let seen = breathe(&mut sleeper);
                sleeper.leave();
                (seen, sleeper)
            });
            let working = spawn(move || (breathe(&mut awake), awake));
            publisher.publish(Value::new(2));
            publisher.collect();
            let (seen, _sleeper) = waking.join().expect("the sleeper ends");
            let (last, mut awake) = working.join().expect("the worker ends");
            assert!(matches!((seen, last), (1..=2, 1..=2)), "{seen}, {last}");
            assert_eq!(breathe(&mut awake), 2);
            assert!(publisher.collect(), "one is outside, the other has moved on");
        });
    }

    #[test]
    fn a_slot_s_next_reader_is_not_undone_by_its_last() {
        loom::model(|| {
            let freed = Arc::new(AtomicBool::new(false));
            let mut publisher = Publisher::new(Value::telling(1, &freed), 1);
            let mut last = publisher.reader().expect("one slot");
            assert_eq!(breathe(&mut last), 1);
            let worker = spawn(move || {
                breathe(&mut last);
                drop(last);
            });
            if let Some(mut next) = publisher.reader() {
                let pinned = next.enter();
                publisher.publish(Value::new(2));
                assert!(!publisher.collect(), "the value is held");
                assert!(!freed.load(Ordering::SeqCst));
                assert_eq!(pinned.number(), 1);
            } else {
                publisher.publish(Value::new(2));
                publisher.collect();
            }
            worker.join().expect("the worker ends");
            assert!(publisher.collect());
            assert!(publisher.reader().is_some(), "the slot is free again");
        });
    }
}
