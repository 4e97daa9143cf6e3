//! A transmitter that one worker owns, or that several share.
//!
//! What only one worker transmits to takes no lock: the worker proves who it is
//! with its [`WorkerToken`], of which there is exactly one.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64 as UniqueIds, Ordering as UniqueOrdering};

use super::sync::{AtomicBool, Ordering, yield_now};

/// Tries before the CPU is given away: a burst's transmission takes 1 to 5 µs,
/// a try some 10 ns.
const SPINS_MAX: u32 = if cfg!(loom) { 1 } else { 256 };
/// Yields before giving up, some 10 ms of spinning where nobody else wants this CPU: a
/// holder that is preempted on a busy one has mostly had its next turn by then.
const YIELDS_MAX: u32 = if cfg!(loom) { 2 } else { 4096 };

/// Proof of being one worker: neither copied nor made twice.
#[derive(Debug)]
pub struct WorkerToken {
    id: TokenId,
}

/// Which token; any number of copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenId(u64);

impl WorkerToken {
    /// A token like no other in this process.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> WorkerToken {
        // Not loom's: the names' uniqueness is not what it explores.
        static NEXT: UniqueIds = UniqueIds::new(0);
        WorkerToken { id: TokenId(NEXT.fetch_add(1, UniqueOrdering::Relaxed)) }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }
}

/// Who may enter a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The worker with this token, without a lock.
    Owned(TokenId),
    /// Any worker, one at a time.
    Shared,
}

/// A value that workers enter one at a time.
pub struct Lane<T> {
    access: Access,
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `enter` lets one thread at a time at the value: the one with the unique
// token, or the one that set `locked`.
unsafe impl<T: Send> Sync for Lane<T> {}

/// The way out of a lane.
enum Exit<'l> {
    Owned,
    Unlock(&'l AtomicBool),
}

/// The value of a lane, until dropped.
pub struct Entered<'l, T> {
    value: &'l mut T,
    exit: Exit<'l>,
}

impl<T> Lane<T> {
    /// A lane for those whom `access` admits.
    pub fn new(access: Access, value: T) -> Lane<T> {
        Lane { access, locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Enters, spinning and then yielding for a bounded time where it is shared.
    /// Nothing if the lane is another worker's or stays taken.
    #[inline]
    pub fn enter<'l>(&'l self, token: &'l mut WorkerToken) -> Option<Entered<'l, T>> {
        let exit = match self.access {
            Access::Owned(owner) if owner == token.id => Exit::Owned,
            Access::Owned(_) => return None,
            Access::Shared if self.lock() => Exit::Unlock(&self.locked),
            Access::Shared => return None,
        };
        // SAFETY: an owned lane is entered only with its one token, which stays
        // borrowed mutably as long as the result lives; a shared one only by whoever
        // turned `locked` from false to true, until the result is dropped.
        let value = unsafe { &mut *self.value.get() };
        Some(Entered { value, exit })
    }

    fn lock(&self) -> bool {
        (0..YIELDS_MAX).any(|_| {
            self.spin() || {
                yield_now();
                false
            }
        })
    }

    fn spin(&self) -> bool {
        (0..SPINS_MAX).any(|_| {
            let free = !self.locked.load(Ordering::Relaxed);
            let won = free
                && self
                    .locked
                    .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if !won {
                std::hint::spin_loop();
            }
            won
        })
    }

    /// The value, once nobody else can enter.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Entered<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        if let Exit::Unlock(locked) = self.exit {
            locked.store(false, Ordering::Release);
        }
    }
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("access", &self.access).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_owned_lane_knows_its_worker() {
        let (mut mine, mut other) = (WorkerToken::new(), WorkerToken::new());
        let lane = Lane::new(Access::Owned(mine.id()), 7);
        *lane.enter(&mut mine).unwrap() += 1;
        assert!(lane.enter(&mut other).is_none());
        assert_eq!(lane.into_inner(), 8);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::sync::TrackedCell;
    use super::*;
    use loom::sync::Arc;

    /// Whether the lane could be entered to raise its value. loom sees the look into
    /// the value's cell, and refuses one that another does not know to be over.
    fn raise(lane: &Lane<TrackedCell<u32>>) -> bool {
        let mut token = WorkerToken::new();
        let Some(entered) = lane.enter(&mut token) else { return false };
        // SAFETY: nobody else is in the lane: if one were, loom would say so here.
        entered.with_mut(|count| unsafe { *count += 1 });
        true
    }

    #[test]
    fn a_shared_lane_loses_no_update() {
        loom::model(|| {
            let lane = Arc::new(Lane::new(Access::Shared, TrackedCell::new(0_u32)));
            let other = Arc::clone(&lane);
            let thread = loom::thread::spawn(move || u32::from(raise(&other)));
            let ours = u32::from(raise(&lane));
            let raised = ours + thread.join().expect("the thread ends");
            assert!(raised >= 1, "each was refused, and nobody was inside");
            let lane = Arc::try_unwrap(lane).expect("nobody else");
            // SAFETY: the lane is ours alone, and so is the value that was in it.
            assert_eq!(lane.into_inner().with(|count| unsafe { *count }), raised);
        });
    }
}
