//! What time it is: the machine's, or that of a test.

use std::time::Instant;

/// A clock that never goes back.
pub trait Clock {
    /// Nanoseconds since some moment before the first call.
    fn now_ns(&mut self) -> u64;
}

/// The machine's clock, from its making.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Monotonic {
        Monotonic(Instant::now())
    }
}

impl Default for Monotonic {
    fn default() -> Monotonic {
        Monotonic::new()
    }
}

impl Clock for Monotonic {
    fn now_ns(&mut self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
