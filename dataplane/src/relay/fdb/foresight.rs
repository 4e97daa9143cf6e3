//! The table as it will be once one frame is decided, while nothing of it is written: what
//! that frame teaches is kept here.

use std::cell::Cell;

use super::{Address, Fdb, Learn, Learned, Slot, Table};
use crate::ledger::DropReason;

/// A table, and what one frame teaches it.
#[derive(Debug)]
pub struct Foresight<'f> {
    fdb: &'f Fdb,
    learned: Cell<Learn>,
}

impl<'f> Foresight<'f> {
    /// Nothing is taught yet.
    #[must_use]
    pub fn new(fdb: &'f Fdb) -> Foresight<'f> {
        Foresight { fdb, learned: Cell::new(Learn::Nothing) }
    }

    /// See [`Fdb::foresee`].
    ///
    /// # Errors
    /// As there.
    pub fn foresee(&self, learn: Learn) -> Result<(), DropReason> {
        self.fdb.foresee(learn)
    }
}

impl Table for Foresight<'_> {
    fn hash(&self, address: Address) -> u64 {
        self.fdb.hash(address)
    }

    fn prefetch(&self, _: u64) {}

    fn find(&self, hash: u64, address: Address, now_ms: u64) -> Option<Learned> {
        match self.learned.get() {
            Learn::New(binding) | Learn::Move(binding) if binding.address == address => {
                // Used just now: nobody looks at where it stands.
                let slot = Slot { line: 0, way: 0 };
                Some(Learned { tenant: binding.tenant, idle_ms: 0, slot })
            }
            Learn::Release { address: released, .. } if released == address => None,
            _ => self.fdb.find(hash, address, now_ms),
        }
    }

    fn apply(&self, learn: Learn, _: u64) -> Result<(), DropReason> {
        self.foresee(learn)?;
        self.learned.set(learn);
        Ok(())
    }
}
