//! What went wrong in a bed.

use std::fmt::Display;
use std::io;

/// A sentence that says what was tried and what came of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BedError(pub(super) String);

/// Of a bed's operations.
pub type Result<T> = std::result::Result<T, BedError>;

impl BedError {
    /// An error in these words.
    pub(super) fn new(what: impl Display) -> BedError {
        BedError(what.to_string())
    }

    /// Turns a system call's error into one that says what was tried.
    pub(super) fn while_doing(what: impl Display) -> impl FnOnce(io::Error) -> BedError {
        move |error| BedError(format!("{what}: {error}"))
    }
}
