//! Learned addresses as decisions find and change them: the table itself, or somebody's
//! [`Foresight`](super::Foresight) of it.

use super::{Address, Fdb, Learn, Learned};
use crate::ledger::DropReason;

/// What decisions need of a table.
pub trait Table {
    /// The hash to look an address up by.
    fn hash(&self, address: Address) -> u64;

    /// Asks for what [`Table::find`] will read.
    fn prefetch(&self, hash: u64);

    /// Who learned the address: see [`Fdb::find`].
    fn find(&self, hash: u64, address: Address, now_ms: u64) -> Option<Learned>;

    /// Carries out what a frame's source leads to: see [`Fdb::apply`].
    ///
    /// # Errors
    /// [`DropReason::LearnLimit`].
    fn apply(&self, learn: Learn, now_ms: u64) -> Result<(), DropReason>;
}

impl Table for Fdb {
    #[inline(always)]
    fn hash(&self, address: Address) -> u64 {
        Fdb::hash(self, address)
    }

    #[inline(always)]
    fn prefetch(&self, hash: u64) {
        Fdb::prefetch(self, hash);
    }

    #[inline(always)]
    fn find(&self, hash: u64, address: Address, now_ms: u64) -> Option<Learned> {
        Fdb::find(self, hash, address, now_ms)
    }

    #[inline(always)]
    fn apply(&self, learn: Learn, now_ms: u64) -> Result<(), DropReason> {
        Fdb::apply(self, learn, now_ms)
    }
}
