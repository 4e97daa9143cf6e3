//! When a driver is asked whether it wants to be woken: what split and packed rings
//! have in common.

use super::{Doorbell, Moment};
use crate::sys::sync::{Ordering, fence};

/// What was published since the driver's wish was last read for certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bell {
    size: u32,
    /// Places of the ring, at most all. A driver that waits for a place is at most a
    /// ring behind: it gives no buffers while it sleeps.
    pending: u32,
}

impl Bell {
    /// The bell of a ring of `size` places. Somebody may have served it before and not have
    /// asked for all: a ring that stands at its first place may have come round to it.
    pub(super) fn new(size: u16) -> Bell {
        Bell { size: size.into(), pending: size.into() }
    }

    /// So many places were published: the driver's wish counts anew.
    #[inline(always)]
    pub(super) fn note_publication(&mut self, places: u16) {
        self.pending = (self.pending + u32::from(places)).min(self.size);
    }

    /// Reads the driver's wish, once after each publication for certain. The wish is
    /// told how many places were published since.
    #[inline]
    pub(super) fn ask(&mut self, moment: Moment, wish: impl Fn(u32) -> Doorbell) -> Doorbell {
        let pending = self.pending;
        if pending == 0 {
            return Doorbell::Silent;
        }
        if moment == Moment::Idle {
            // What was published must be seen before the driver's wish is read, or both
            // sides could miss each other (2.7.22.1, 2.8.21.3.1). The fence waits for every
            // store in flight, which is why it waits itself for a moment without work.
            fence(Ordering::SeqCst);
            self.pending = 0;
        }
        let wish = wish(pending);
        if wish == Doorbell::Wanted {
            self.pending = 0;
        }
        wish
    }
}

/// Asks the other side for a wake-up with `ask`, and looks afterwards whether there is
/// reason for one already: the other side has seen the one, or this one sees the other.
pub(super) fn ask_and_look<R>(ask: impl FnOnce(), look: impl FnOnce() -> R) -> R {
    ask();
    fence(Ordering::SeqCst);
    look()
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32;

    use super::*;

    /// One side publishes and rings, the other asks for a wake-up and looks, over a used
    /// index and the event that is waited for.
    #[test]
    fn who_goes_to_sleep_is_rung_for_or_sees_what_was_published() {
        loom::model(|| {
            let ring = Arc::new([AtomicU32::new(0), AtomicU32::new(u32::MAX)]);
            let sleeper = Arc::clone(&ring);
            let sleeper = loom::thread::spawn(move || {
                let [used, event] = &*sleeper;
                let ask = || event.store(0, Ordering::Relaxed);
                ask_and_look(ask, || used.load(Ordering::Acquire))
            });
            let [used, event] = &*ring;
            let mut bell = Bell::new(4);
            bell.ask(Moment::Idle, |_| Doorbell::Silent);
            used.store(1, Ordering::Release);
            bell.note_publication(1);
            let wish = |pending| {
                let passed = 1_u32.wrapping_sub(event.load(Ordering::Relaxed)).wrapping_sub(1);
                if passed < pending { Doorbell::Wanted } else { Doorbell::Silent }
            };
            let busy = bell.ask(Moment::Busy, wish);
            let idle = bell.ask(Moment::Idle, wish);
            let rung = busy == Doorbell::Wanted || idle == Doorbell::Wanted;
            let asleep = sleeper.join().unwrap() == 0;
            assert!(rung || !asleep);
            assert!(busy == Doorbell::Silent || idle == Doorbell::Silent, "rung twice");
        });
    }
}
