//! What a session writes to that its front end made.

use std::fmt;
use std::sync::Arc;

use crate::sys::eventfd::Eventfd;

/// An eventfd of the front end's that is written to. Whoever shares it can make a write to
/// it wait.
#[derive(Clone, Debug)]
pub struct Notifier {
    /// The number of its ring.
    pub ring: usize,
    /// What it tells.
    pub notice: Notice,
    /// It.
    pub eventfd: Arc<Eventfd>,
}

/// What a front end is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Buffers were used; workers say so.
    Call,
    /// The ring is broken; the session says so.
    Error,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Notice::Call => "call",
            Notice::Error => "error",
        })
    }
}
