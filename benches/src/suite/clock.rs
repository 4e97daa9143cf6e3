//! What time it is: the machine's, or that of a test.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// A clock that never goes back.
pub trait Clock {
    /// Nanoseconds since some moment before the first call.
    fn now_ns(&mut self) -> u64;
}

/// A test's time, which goes on by so much with each look at it. Clones are the same time.
#[derive(Clone, Debug)]
pub struct Looked {
    now_ns: Rc<Cell<u64>>,
    step_ns: u64,
}

impl Looked {
    /// Time that begins at 0 and goes on by so many nanoseconds with each look.
    #[must_use]
    pub fn by(step_ns: u64) -> Looked {
        Looked { now_ns: Rc::default(), step_ns }
    }

    /// What time it is, without looking.
    #[must_use]
    pub fn peek_ns(&self) -> u64 {
        self.now_ns.get()
    }
}

impl Clock for Looked {
    fn now_ns(&mut self) -> u64 {
        self.now_ns.set(self.peek_ns() + self.step_ns);
        self.peek_ns()
    }
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
