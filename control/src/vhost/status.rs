//! What others see of a socket's port: written by the thread, read at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use hairpin_dataplane::sys::netdev::Line;

use super::backend::Session;
use crate::switch::line::Seen;

/// How a port is, as its socket tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// What is agreed with the VMM that is connected; nothing if none is.
    pub session: Option<Arc<Session>>,
    /// How often one has connected.
    pub connects: u64,
    /// How often the first queue pair has stopped running.
    pub falls: u32,
    /// Why the port is quarantined; nothing if it is not.
    pub fault: Option<String>,
    /// How often it was, so that one is told from the next.
    pub faults: u64,
    /// The last trouble; empty if there was none.
    pub last_error: String,
}

impl Status {
    /// How often a VMM has connected again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    /// What the engine acts upon.
    fn tells(&self) -> Tells {
        let line = self.seen().line;
        Tells { line, faults: self.faults, is_at_fault: self.fault.is_some() }
    }

    /// The port's line: as a netdev's that has no carrier while no VMM is connected, and
    /// that is down while the guest's driver has not started its device.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let line = match &self.session {
            None => Line::NoCarrier,
            Some(session) if session.runs() => Line::Up,
            Some(_) => Line::Down,
        };
        Seen { line, carrier_losses: self.falls }
    }
}

/// What the engine acts upon.
#[derive(PartialEq, Eq)]
struct Tells {
    line: Line,
    faults: u64,
    is_at_fault: bool,
}

/// A status that is shared, and a bell that is rung when it becomes another.
#[derive(Clone, Debug)]
pub struct Shared {
    status: Arc<Mutex<Status>>,
    bell: Sender<()>,
}

impl Shared {
    /// Of a port of which nothing is known yet.
    #[must_use]
    pub fn new(bell: Sender<()>) -> Shared {
        Shared { status: Arc::default(), bell }
    }

    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Status {
        self.lock().clone()
    }

    /// Changes it, and rings if the engine has something to do about that: the rest waits
    /// until somebody looks.
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.lock();
        let before = status.tells();
        change(&mut status);
        if before.line == Line::Up && status.seen().line != Line::Up {
            status.falls = status.falls.wrapping_add(1);
        }
        let differs = status.tells() != before;
        drop(status);
        if differs {
            // One that rings already is heard.
            let _ = self.bell.try_send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
