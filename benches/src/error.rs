//! The rig's error: one sentence for the person at the terminal.

use std::fmt;

/// What went wrong and, where the rig knows it, what to do about it.
#[derive(Debug)]
pub struct RigError(String);

/// A result of the rig.
pub type Result<T> = std::result::Result<T, RigError>;

impl RigError {
    /// An error that reads `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RigError {}

/// Adds to a foreign error what was being attempted.
pub trait Context<T> {
    /// Prefixes the error with `what`.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| RigError(format!("{what}: {error}")))
    }
}
