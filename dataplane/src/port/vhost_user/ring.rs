//! What a session starts and halts: rings, by their index.

use std::fmt;
use std::sync::Arc;

use crate::port::vhost_user::queue::{NetHeaders, RingKind};
use crate::sys::eventfd::Eventfd;
use crate::sys::virtqueue::{LayoutError, Position, Terms};
use crate::wire::offload::Capabilities;

/// Queue pairs that a device can have.
pub const PAIRS_MAX: usize = 16;

/// A ring of a device. Even ones are the driver's receive queues, odd ones its transmit
/// queues (virtio 1.2, 5.1.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RingIndex(u8);

/// Which way frames go on a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The driver's receive queue.
    ToDriver,
    /// The driver's transmit queue.
    FromDriver,
}

impl RingIndex {
    /// The ring of this number, if a device of so many pairs has it.
    #[must_use]
    pub fn new(number: u32, pairs: usize) -> Option<RingIndex> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < 2 * pairs.min(PAIRS_MAX)).then_some(RingIndex(number))
    }

    /// All rings of a device of so many pairs, in order.
    pub fn all(pairs: usize) -> impl Iterator<Item = RingIndex> {
        (0..2 * pairs.min(PAIRS_MAX) as u8).map(RingIndex)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// The pair it belongs to.
    #[must_use]
    pub fn pair(self) -> usize {
        usize::from(self.0 / 2)
    }

    /// Which way its frames go.
    #[must_use]
    pub fn direction(self) -> Direction {
        if self.0.is_multiple_of(2) { Direction::ToDriver } else { Direction::FromDriver }
    }
}

/// Whether a started ring's frames are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// They are.
    Enabled,
    /// They are not: what the driver sends is drained as `queue_disabled`, and nothing is
    /// sent to it.
    Disabled,
}

/// What a ring is served with.
#[derive(Clone, Debug)]
pub struct Start {
    /// How it is laid out.
    pub kind: RingKind,
    /// Where it lies and where it stands.
    pub terms: Terms,
    /// Whether its frames are wanted.
    pub service: Service,
    /// Whether the driver's frames may be incomplete (its transmit queues).
    pub headers: NetHeaders,
    /// What the driver takes of frames that are not complete (its receive queues).
    pub accepts: Capabilities,
    /// By what the driver tells that it made buffers available; without, it is polled.
    pub kick: Option<Arc<Eventfd>>,
    /// By what it is told that buffers were used; without, it polls.
    pub call: Option<Arc<Eventfd>>,
}

/// The worker that has a ring in hand did not end its breath in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stuck;

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker does not let go of the ring: it does not breathe")
    }
}

impl std::error::Error for Stuck {}

/// Where rings are started and halted: the workers' side of a device, or a test's.
pub trait RingHost: fmt::Debug + Send {
    /// Has a worker serve a ring from now on, which does not run.
    ///
    /// # Errors
    /// [`LayoutError`]; the ring does not run then.
    ///
    /// # Panics
    /// It may if the ring runs.
    fn start(&mut self, ring: RingIndex, start: Start) -> Result<(), LayoutError>;

    /// Takes a ring from its worker. When this returns nobody touches it, nor any buffer
    /// of its, any more. Where it stood; nothing if it did not run.
    ///
    /// # Errors
    /// [`Stuck`]: it still may be touched; ask again.
    fn halt(&mut self, ring: RingIndex) -> Result<Option<Position>, Stuck>;

    /// What became of rings by themselves since the last call: those that their drivers
    /// broke, and how.
    fn broken(&mut self) -> Vec<(RingIndex, crate::sys::virtqueue::RingFault)>;
}
