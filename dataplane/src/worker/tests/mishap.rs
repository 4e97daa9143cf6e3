//! Failures of the worker's own, in places that no device reaches.

use std::cell::Cell;

/// Where a worker on this thread can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::worker) enum Place {
    /// A frame's verdict is about to become copies.
    Deciding,
    /// The table is about to be swept.
    Sweeping,
}

thread_local! {
    /// Where it is to fail, and how often it passes there before.
    static DUE: Cell<Option<(Place, usize)>> = const { Cell::new(None) };
}

/// Has the worker fail, once, at this place, after it passed there so many times.
pub(in crate::worker) fn plan(place: Place, passes: usize) {
    DUE.set(Some((place, passes)));
}

/// Whether what was planned is still to come.
pub(super) fn is_due() -> bool {
    DUE.get().is_some()
}

/// The worker is at this place: fails if that was planned.
pub(in crate::worker) fn at(place: Place) {
    match DUE.get() {
        Some((planned, 0)) if planned == place => {
            DUE.set(None);
            panic!("a test asked for it");
        }
        Some((planned, passes)) if planned == place => DUE.set(Some((place, passes - 1))),
        _ => {}
    }
}
