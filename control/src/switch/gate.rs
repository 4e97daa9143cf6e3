//! A lock that one thread is never kept from for longer than one other holds it.
//!
//! The mutex of the standard library goes to whoever comes first after it is free: a client
//! that asks flat out would get it again and again before the control thread, which has to
//! wake up first, does. Whoever calls takes a second lock first and waits with it, so that the
//! control thread competes with one of them, and only until it is next.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::lock;

/// A value that callers and the control thread take in turn.
#[derive(Debug)]
pub struct Gate<T> {
    value: Mutex<T>,
    /// Who has this is next.
    next: Mutex<()>,
    /// Of callers, one at a time comes further than this.
    callers: Mutex<()>,
    /// Since when somebody has it.
    taken: Mutex<Option<Instant>>,
}

/// The value, until dropped.
#[derive(Debug)]
pub struct Turn<'g, T> {
    // In the order in which they are let go.
    _stay: Stay<'g>,
    value: MutexGuard<'g, T>,
    _caller: Option<MutexGuard<'g, ()>>,
}

/// While somebody has it.
#[derive(Debug)]
struct Stay<'g>(&'g Mutex<Option<Instant>>);

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

impl<T> Gate<T> {
    /// A gate before a value.
    pub fn new(value: T) -> Gate<T> {
        let (next, callers) = (Mutex::new(()), Mutex::new(()));
        Gate { value: Mutex::new(value), next, callers, taken: Mutex::new(None) }
    }

    /// The value for somebody who calls.
    pub fn call(&self) -> Turn<'_, T> {
        let caller = lock(&self.callers);
        self.turn(self.take(), Some(caller))
    }

    /// The value for the control thread.
    pub fn control(&self) -> Turn<'_, T> {
        self.turn(self.take(), None)
    }

    /// The value, if nobody has it now.
    pub fn glance(&self) -> Option<Turn<'_, T>> {
        match self.value.try_lock() {
            Ok(value) => Some(self.turn(value, None)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.turn(poisoned.into_inner(), None)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// How long whoever has it has had it.
    pub fn taken_for(&self) -> Option<Duration> {
        lock(&self.taken).map(|since| since.elapsed())
    }

    fn turn<'g>(
        &'g self,
        value: MutexGuard<'g, T>,
        caller: Option<MutexGuard<'g, ()>>,
    ) -> Turn<'g, T> {
        *lock(&self.taken) = Some(Instant::now());
        Turn { _stay: Stay(&self.taken), value, _caller: caller }
    }

    fn take(&self) -> MutexGuard<'_, T> {
        let _next = lock(&self.next);
        lock(&self.value)
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[test]
    fn it_is_known_how_long_somebody_has_had_it() {
        let gate = Gate::new(());
        assert_eq!(gate.taken_for(), None);
        let turn = gate.call();
        std::thread::sleep(Duration::from_millis(2));
        assert!(gate.taken_for() >= Some(Duration::from_millis(2)));
        assert!(gate.glance().is_none());
        drop(turn);
        assert_eq!(gate.taken_for(), None);
        assert!(gate.glance().is_some());
    }

    /// How many calls come between two turns of the control thread at most, while callers
    /// come as fast as they can, and each keeps the value for a while.
    #[test]
    fn callers_do_not_keep_the_control_thread_out() {
        let (gate, done, calls) = (Gate::new(()), AtomicBool::new(false), AtomicU64::new(0));
        let most = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let turn = gate.call();
                        let until = Instant::now() + Duration::from_micros(500);
                        while Instant::now() < until {}
                        calls.fetch_add(1, Ordering::Relaxed);
                        drop(turn);
                    }
                });
            }
            let mut most = 0;
            for _ in 0..100 {
                let before = calls.load(Ordering::Relaxed);
                drop(gate.control());
                most = most.max(calls.load(Ordering::Relaxed) - before);
            }
            done.store(true, Ordering::Relaxed);
            most
        });
        // The one that has it, one that is next already, and what the scheduler adds.
        assert!(most <= 20, "{most} calls came first");
    }
}
