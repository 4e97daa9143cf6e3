//! What serves a VMM's messages, and what is seen of it.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::port::vhost_user::ring::Stuck;
use hairpin_dataplane::port::vhost_user::session::Notifier;

/// One port's end of the protocol, connection after connection. Nothing of it blocks.
pub trait Backend: fmt::Debug + Send {
    /// A VMM is there, at the other end of this socket, which does not block.
    ///
    /// # Errors
    /// What stands against serving it; the socket is closed then.
    fn begin(&mut self, socket: OwnedFd) -> io::Result<()>;

    /// The socket of the VMM that is served.
    fn socket(&self) -> Option<BorrowedFd<'_>>;

    /// Handles what has come: `most` messages at most.
    fn turn(&mut self, most: usize) -> Turn;

    /// What became of rings by themselves since the last look: why the port cannot be
    /// served any more, in a sentence.
    fn look(&mut self) -> Option<String>;

    /// Lets go of the VMM: its rings, its memory and its socket.
    ///
    /// # Errors
    /// A worker still has a ring in hand; to be called again.
    fn end(&mut self) -> Result<(), Stuck>;

    /// Has rings that their driver broke run again where they stood.
    ///
    /// # Errors
    /// A worker still has a ring in hand; to be called again.
    fn release(&mut self) -> Result<(), Stuck>;

    /// What was agreed with the VMM, and how far it has come.
    fn report(&self) -> Session;

    /// What is written to that the VMM made; it changes by turns only.
    fn notifiers(&self) -> Vec<Notifier> {
        Vec::new()
    }
}

/// What came of a turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to be done at once.
    More,
    /// Nothing, until the socket has more, or takes more.
    Idle(Interest),
    /// A worker has something in hand that is to be changed: a little later.
    Later,
    /// The VMM has closed the socket.
    Closed,
    /// It did what no VMM does: why, in a sentence.
    Fault(String),
}

/// What a socket is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// More to read.
    Read,
    /// Room for a reply that is waiting, and nothing else before it is sent.
    Write,
    /// Nothing.
    Nothing,
}

/// What is known of a VMM that is connected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// Negotiated features, by name.
    pub features: Vec<String>,
    /// How its rings are laid out, once that is agreed on.
    pub ring: Option<RingKind>,
    /// Its queue pairs, by number.
    pub pairs: Vec<Pair>,
    /// Regions of memory that it lends.
    pub regions: usize,
    /// Their bytes, added up.
    pub memory_bytes: u64,
    /// Why a ring that was set up does not run, in a sentence; empty if there is none.
    pub trouble: String,
    /// What may be wrong with a ring that runs, in a sentence; empty if nothing is.
    pub warning: String,
    /// Requests that were refused, its own and those of VMMs before it.
    pub refused_requests: u64,
    /// Descriptors that came where they do not belong, likewise; they were closed.
    pub stray_descriptors: u64,
    /// Why the last one was refused, or a ring broke; empty if none was.
    pub last_refusal: String,
}

impl Session {
    /// Whether the guest's driver has started the device: its first queue pair runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.pairs.first().is_some_and(Pair::runs)
    }
}

/// A queue pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pair {
    /// By which the driver receives.
    pub receive: Ring,
    /// By which it transmits.
    pub transmit: Ring,
}

impl Pair {
    /// Whether frames pass both ways.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.receive.state == RingState::Running && self.transmit.state == RingState::Running
    }
}

/// A ring.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    /// Descriptors; 0 as long as that is not known.
    pub size: u32,
    /// How it is.
    pub state: RingState,
}

/// How a ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RingState {
    /// It was not started, or was stopped.
    #[default]
    Stopped,
    /// It was started, and its frames are not wanted.
    Disabled,
    /// Frames pass.
    Running,
    /// Its driver broke it.
    Broken,
}
