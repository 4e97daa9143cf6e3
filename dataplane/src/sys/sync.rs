//! The atomics that workers share: the standard ones, or loom's when it explores them.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(super) use loom::cell::UnsafeCell as TrackedCell;

/// The standard cell with the interface of loom's, which sees who looks in when.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct TrackedCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> TrackedCell<T> {
    pub(super) fn new(value: T) -> TrackedCell<T> {
        TrackedCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(super) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    #[inline]
    pub(super) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}

/// Gives the CPU to whoever holds what we wait for.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}
