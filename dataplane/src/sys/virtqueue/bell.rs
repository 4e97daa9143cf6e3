//! When a driver is asked whether it wants to be woken: what split and packed rings
//! have in common.

use std::sync::atomic::{Ordering, fence};

use super::{Doorbell, Moment};

/// Whether the driver's wish was read since something was published.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Bell {
    #[default]
    Asked,
    Due,
}

impl Bell {
    /// Something was published: the driver's wish counts anew.
    #[inline(always)]
    pub(super) fn note_publication(&mut self) {
        *self = Bell::Due;
    }

    /// Reads the driver's wish, once after each publication for certain.
    #[inline]
    pub(super) fn ask(&mut self, moment: Moment, wish: impl Fn() -> Doorbell) -> Doorbell {
        if *self == Bell::Asked {
            return Doorbell::Silent;
        }
        if moment == Moment::Idle {
            // What was published must be seen before the driver's wish is read, or both
            // sides could miss each other (2.7.22.1, 2.8.21.3.1). The fence waits for every
            // store in flight, which is why it waits itself for a moment without work.
            fence(Ordering::SeqCst);
            *self = Bell::Asked;
        }
        let wish = wish();
        if wish == Doorbell::Wanted {
            *self = Bell::Asked;
        }
        wish
    }
}
