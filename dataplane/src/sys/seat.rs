//! What a worker works with and control puts there, and takes away.
//!
//! A worker that sits at its [`Seat`] says so, then looks what lies there; control takes
//! what lies there away, then looks whether the worker sits. Each must see what the other
//! did first, which takes a fence on both sides. The worker's would wait in every breath
//! for all its stores in flight, so control pays for both: membarrier(2) makes a fence of
//! whatever the worker was at. Where the kernel has none, the worker pays.
//!
//! Unlike a published pointer, what lies at a seat is the worker's to change.

use std::fmt;
use std::ptr;
use std::time::{Duration, Instant};

use super::sync::{Arc, AtomicBool, AtomicPtr, Ordering, fence, yield_now};

/// The worker's end: there is one.
pub struct Seat<T> {
    place: Arc<Place<T>>,
    /// What it sits at; null if it does not sit.
    held: *mut T,
    barrier: Barrier,
}

/// Control's end: there is one.
pub struct Keeper<T> {
    place: Arc<Place<T>>,
    /// What was taken away while the worker may still have sat at it; null if nothing was.
    withdrawn: *mut T,
    barrier: Barrier,
}

struct Place<T> {
    value: AtomicPtr<T>,
    /// Whether the worker sits. Written by it alone.
    taken: AtomicBool,
}

// SAFETY: the value moves with the ends; `held` and `withdrawn` are followed only as the
// protocol above allows, on whatever thread their end is.
unsafe impl<T: Send> Send for Seat<T> {}
// SAFETY: as for the seat.
unsafe impl<T: Send> Send for Keeper<T> {}

/// The worker sits there, and did not rise in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken;

/// A seat, empty, and its keeper.
#[must_use]
pub fn seat<T: Send>() -> (Seat<T>, Keeper<T>) {
    let barrier = Barrier::of_this_process();
    let place = Place { value: AtomicPtr::new(ptr::null_mut()), taken: AtomicBool::new(false) };
    let place = Arc::new(place);
    let seat = Seat { place: Arc::clone(&place), held: ptr::null_mut(), barrier };
    (seat, Keeper { place, withdrawn: ptr::null_mut(), barrier })
}

impl<T: Send> Seat<T> {
    /// Sits down, or stays seated; what lies there, if anything does. It stays until
    /// [`Seat::rise`], which is to follow within the breath.
    #[inline]
    pub fn sit(&mut self) -> Option<&mut T> {
        if self.held.is_null() {
            self.place.taken.store(true, Ordering::Relaxed);
            self.barrier.often();
            self.held = self.place.value.load(Ordering::Acquire);
            if self.held.is_null() {
                self.rise();
                return None;
            }
        }
        // SAFETY: what lay there after `taken` was set is not given away before `taken` is
        // unset, by `rise`, for which this borrow has to end.
        Some(unsafe { &mut *self.held })
    }

    /// Rises, seated or not.
    #[inline]
    pub fn rise(&mut self) {
        self.held = ptr::null_mut();
        self.place.taken.store(false, Ordering::Release);
    }

    /// Does some work with what lies there, if anything does, and rises, seated before or
    /// not: also if the work panics.
    #[inline]
    pub fn with<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let rising = Rising(self);
        rising.0.sit().map(work)
    }
}

/// A seat that is risen from when this is dropped.
struct Rising<'s, T: Send>(&'s mut Seat<T>);

impl<T: Send> Drop for Rising<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.rise();
    }
}

impl<T: Send> Keeper<T> {
    /// Takes away what lies there, once the worker does not sit at it; nothing if nothing
    /// lies there.
    ///
    /// # Errors
    /// [`Taken`] if that is not so within `patience`: what lay there is not used any more
    /// by whoever sits down, and the next call waits on.
    pub fn take(&mut self, patience: Duration) -> Result<Option<Box<T>>, Taken> {
        if self.withdrawn.is_null() {
            self.withdrawn = self.place.value.swap(ptr::null_mut(), Ordering::SeqCst);
            if self.withdrawn.is_null() {
                return Ok(None);
            }
            self.barrier.seldom();
        }
        self.await_rising(patience)?;
        let value = std::mem::replace(&mut self.withdrawn, ptr::null_mut());
        // SAFETY: it came from a box in `put`, was swapped out of the place, and the worker
        // was seen not to sit since: whoever sits down now does not find it.
        Ok(Some(unsafe { Box::from_raw(value) }))
    }

    fn await_rising(&self, patience: Duration) -> Result<(), Taken> {
        let mut end = None;
        while self.place.taken.load(Ordering::Acquire) {
            let now = Instant::now();
            if now >= *end.get_or_insert(now + patience) {
                return Err(Taken);
            }
            yield_now();
        }
        Ok(())
    }

    /// Puts something there. Whatever lay there has to have been taken away.
    ///
    /// # Errors
    /// The value, if something lies there, or is still being taken away.
    pub fn put(&mut self, value: Box<T>) -> Result<(), Box<T>> {
        let is_free = self.place.value.load(Ordering::Relaxed).is_null();
        if !is_free || !self.withdrawn.is_null() {
            return Err(value);
        }
        self.place.value.store(Box::into_raw(value), Ordering::Release);
        Ok(())
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.place.taken.store(false, Ordering::Release);
    }
}

impl<T> Drop for Keeper<T> {
    fn drop(&mut self) {
        if self.withdrawn.is_null() || self.place.taken.load(Ordering::Acquire) {
            // Still sat at: leaked rather than taken from under its worker.
            return;
        }
        // SAFETY: as in `take`.
        drop(unsafe { Box::from_raw(self.withdrawn) });
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        let value = *self.value.get_mut();
        #[cfg(loom)]
        let value = self.value.with_mut(|pointer| *pointer);
        if !value.is_null() {
            // SAFETY: both ends are gone, and it came from a box.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

/// Who pays for the fence.
#[cfg_attr(loom, allow(dead_code, reason = "loom knows no kernel"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Barrier {
    /// Control, for both (membarrier(2), `MEMBARRIER_CMD_PRIVATE_EXPEDITED`).
    Asymmetric,
    /// Each for itself.
    Symmetric,
}

impl Barrier {
    #[cfg(not(loom))]
    fn of_this_process() -> Barrier {
        use std::sync::OnceLock;
        static FOUND: OnceLock<Barrier> = OnceLock::new();
        *FOUND.get_or_init(|| match membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) {
            true => Barrier::Asymmetric,
            false => Barrier::Symmetric,
        })
    }

    #[cfg(loom)]
    fn of_this_process() -> Barrier {
        Barrier::Symmetric
    }

    /// Between the worker's store and its load.
    #[inline]
    fn often(self) {
        match self {
            Barrier::Asymmetric => std::sync::atomic::compiler_fence(Ordering::SeqCst),
            Barrier::Symmetric => fence(Ordering::SeqCst),
        }
    }

    /// Between control's store and its load.
    fn seldom(self) {
        fence(Ordering::SeqCst);
        #[cfg(not(loom))]
        if self == Barrier::Asymmetric && !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
            unreachable!("membarrier(2) was registered for and is refused");
        }
    }
}

/// Whether the kernel did it.
#[cfg(not(loom))]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: it takes two numbers and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

impl<T> fmt::Debug for Seat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Keeper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn what_is_sat_at_is_not_taken_away() {
        let (mut seat, mut keeper) = seat();
        assert!(seat.sit().is_none());
        keeper.put(Box::new(1)).unwrap();
        assert_eq!(keeper.put(Box::new(2)), Err(Box::new(2)));
        *seat.sit().unwrap() += 10;
        assert_eq!(keeper.take(NOW), Err(Taken));
        assert_eq!(seat.sit(), Some(&mut 11), "it stays seated");
        assert_eq!(keeper.put(Box::new(3)), Err(Box::new(3)));
        seat.rise();
        assert!(seat.sit().is_none(), "it was withdrawn");
        assert_eq!(keeper.take(NOW), Ok(Some(Box::new(11))));
        assert_eq!(keeper.take(NOW), Ok(None));
        keeper.put(Box::new(4)).unwrap();
        assert_eq!(seat.sit(), Some(&mut 4));
    }

    #[test]
    fn who_works_for_a_moment_rises_also_if_the_work_panics() {
        let (mut seat, mut keeper) = seat();
        assert_eq!(seat.with(|_: &mut i32| ()), None);
        keeper.put(Box::new(1)).unwrap();
        assert_eq!(seat.with(|value| std::mem::replace(value, 2)), Some(1));
        let work = std::panic::AssertUnwindSafe(|| seat.with(|_| panic!("a test asked for it")));
        std::panic::catch_unwind(work).unwrap_err();
        assert_eq!(keeper.take(NOW), Ok(Some(Box::new(2))));
        keeper.put(Box::new(3)).unwrap();
        // Seated before.
        *seat.sit().unwrap() += 1;
        assert_eq!(seat.with(|value| *value), Some(4));
        assert_eq!(keeper.take(NOW), Ok(Some(Box::new(4))));
    }

    #[test]
    fn what_is_left_is_freed_with_the_last_end() {
        let value = Arc::new(());
        let (seat, mut keeper) = seat();
        keeper.put(Box::new(Arc::clone(&value))).unwrap();
        drop(keeper);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(seat);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_busy_worker_never_works_with_what_was_taken_away() {
        let (mut seat, mut keeper) = seat();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            let mut worked = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                if let Some(count) = seat.sit() {
                    *count += 1;
                    worked += 1;
                }
                seat.rise();
            }
            worked
        });
        let mut counted = 0_u64;
        for _ in 0..2_000 {
            keeper.put(Box::new(0_u64)).unwrap();
            std::thread::yield_now();
            counted += *keeper.take(Duration::from_secs(10)).unwrap().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(worker.join().unwrap(), counted, "work was done on what was taken away");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::sync::TrackedCell;
    use super::*;

    /// A value that loom sees being worked with.
    struct Value(TrackedCell<u32>);

    // SAFETY: as loom checks.
    unsafe impl Send for Value {}

    #[test]
    fn the_worker_and_the_keeper_never_have_it_at_once() {
        loom::model(|| {
            let (mut seat, mut keeper) = seat();
            keeper.put(Box::new(Value(TrackedCell::new(0)))).ok().expect("it is free");
            let worker = loom::thread::spawn(move || {
                let worked = seat.sit().map_or(0, |value| {
                    // SAFETY: we sit at it: loom says if the keeper has it, too.
                    value.0.with_mut(|count| unsafe { *count += 1 });
                    1
                });
                seat.rise();
                worked
            });
            let value = loop {
                match keeper.take(Duration::from_secs(1000)) {
                    Ok(value) => break value.expect("it was put there"),
                    Err(Taken) => loom::thread::yield_now(),
                }
            };
            // SAFETY: it was taken away from the worker: loom says if it has it still.
            let counted = value.0.with_mut(|count| unsafe { *count });
            let worked = worker.join().expect("the worker ends");
            assert!(counted == worked, "{counted} {worked}");
        });
    }
}
