//! A failure costs the device at which it happened, and nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::command::Event;
use crate::port::{Attached, Condition};

/// What a panic said, as far as it can be read without allocating.
pub(super) type Cause = &'static str;

/// Does some work for one device, or for nobody in particular.
///
/// # Errors
/// What the panic said that ended it. What the work was to change is then in any state
/// that its types allow: the caller puts it in order.
// A panic allocates its message and frees it here: the one case in which a breath does.
#[inline]
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|payload| payload.downcast_ref::<Cause>().copied().unwrap_or("panic"))
}

/// Takes a device out of service; control is told.
pub(super) fn quarantine(attached: &Attached, cause: Cause) -> Event {
    attached.set_condition(Condition::Quarantined);
    Event::Quarantined { device: attached.id, cause }
}
