//! Who binds an address: a worker, which writes, or somebody who only asks whether it
//! could be bound. Both go the same way through the table.

use super::line::{Line, Seen, Ways, Writing};
use super::{Fdb, Tenant, claimed};
use crate::ledger::DropReason;
use crate::sys::sync::Ordering;

/// How lines are taken and addresses counted.
pub(super) trait Hand<'f>: Copy {
    /// A line in this hand.
    type Line: Ways;

    /// A line of the table; nothing if others keep it.
    fn take(self, fdb: &'f Fdb, index: usize) -> Option<Self::Line>;

    /// Counts an address for a tenant.
    ///
    /// # Errors
    /// [`DropReason::LearnLimit`]: the tenant has its limit.
    fn claim(self, fdb: &Fdb, tenant: Tenant, limit: u32) -> Result<(), DropReason>;

    /// Counts an address less.
    fn unclaim(self, fdb: &Fdb, tenant: Tenant);
}

/// In earnest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writes;

impl<'f> Hand<'f> for Writes {
    type Line = Writing<'f>;

    #[inline(always)]
    fn take(self, fdb: &'f Fdb, index: usize) -> Option<Writing<'f>> {
        fdb.lock(index)
    }

    #[inline(always)]
    fn claim(self, fdb: &Fdb, tenant: Tenant, limit: u32) -> Result<(), DropReason> {
        fdb.claim(tenant, limit)
    }

    #[inline(always)]
    fn unclaim(self, fdb: &Fdb, tenant: Tenant) {
        fdb.unclaim(tenant);
    }
}

/// For the answer only: no word of the table is written, no line held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks;

impl<'f> Hand<'f> for Asks {
    type Line = Seen;

    fn take(self, fdb: &'f Fdb, index: usize) -> Option<Seen> {
        fdb.lines.get(index).and_then(Line::seen)
    }

    fn claim(self, fdb: &Fdb, tenant: Tenant, limit: u32) -> Result<(), DropReason> {
        let word = fdb.tenancy(tenant.port).ok_or(DropReason::LearnLimit)?;
        let raised = claimed(word.load(Ordering::Relaxed), tenant.generation, limit);
        raised.map(drop).ok_or(DropReason::LearnLimit)
    }

    fn unclaim(self, _: &Fdb, _: Tenant) {}
}
