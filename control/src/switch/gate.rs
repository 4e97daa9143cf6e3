//! A lock that one thread is never kept from for longer than one other holds it.
//!
//! The mutex of the standard library goes to whoever comes first after it is free: a client
//! that asks flat out would get it again and again before the control thread, which has to
//! wake up first, does. Whoever calls takes a second lock first and waits with it, so that the
//! control thread competes with one of them, and only until it is next.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

use super::lock;

/// A value that callers and the control thread take in turn.
#[derive(Debug)]
pub struct Gate<T> {
    value: Mutex<T>,
    /// Who has this is next.
    next: Mutex<()>,
    /// Of callers, one at a time comes further than this.
    callers: Mutex<()>,
}

/// The value, until dropped.
#[derive(Debug)]
pub struct Turn<'g, T> {
    // In the order in which they are let go.
    value: MutexGuard<'g, T>,
    _caller: Option<MutexGuard<'g, ()>>,
}

impl<T> Gate<T> {
    /// A gate before a value.
    pub fn new(value: T) -> Gate<T> {
        Gate { value: Mutex::new(value), next: Mutex::new(()), callers: Mutex::new(()) }
    }

    /// The value for somebody who calls.
    pub fn call(&self) -> Turn<'_, T> {
        let caller = lock(&self.callers);
        Turn { value: self.take(), _caller: Some(caller) }
    }

    /// The value for the control thread.
    pub fn control(&self) -> Turn<'_, T> {
        Turn { value: self.take(), _caller: None }
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
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

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
