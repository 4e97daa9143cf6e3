//! Reading that fails: what one failure costs, and how many are too many.

use super::Received;
use crate::frame::Batch;
use crate::ledger::DropReason;

/// Reads that fail in a row, one each breath, before the queue is left alone.
pub(super) const FAILURES_MAX: u32 = 64;

/// How often reading has failed in a row.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// A read that went well, or found nothing.
    #[inline]
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }

    /// The kernel lets go of a frame that it cannot hand over: it is counted, and
    /// reading goes on in the next breath.
    #[cold]
    pub(super) fn note(&mut self, batch: &mut Batch) -> Received {
        batch.reject(DropReason::ReadError);
        self.0 += 1;
        if self.0 < FAILURES_MAX {
            return Received::Drained;
        }
        self.0 = 0;
        Received::Failing
    }
}
