//! A [`Backend`] by the dataplane's session: messages from the socket to it, its replies
//! back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hairpin_dataplane::port::vhost_user::connection::{Connection, Received};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::ring::{RingHost, Service, Stuck};
use hairpin_dataplane::port::vhost_user::session::{self, Config, Handled};

use super::backend::{self, Backend, Interest, Pair, Ring, RingState, Turn};

/// One port's session, connection after connection.
#[derive(Debug)]
pub struct Served {
    session: session::Session,
    connection: Option<Connection>,
    /// Whether a message is half done, since a worker has something in hand.
    unfinished: bool,
    /// Rings that were broken when they were last looked at, in all sessions.
    broken: u64,
}

impl Served {
    /// A device of so many queue pairs, whose rings are started and halted there.
    #[must_use]
    pub fn new(pairs: usize, host: Box<dyn RingHost>) -> Served {
        let config = Config { pairs, features: Features::OFFERED };
        let session = session::Session::new(config, host);
        Served { session, connection: None, unfinished: false, broken: 0 }
    }

    fn step(&mut self) -> Result<Step, String> {
        let Some(connection) = &mut self.connection else { return Ok(Step::Ends(Turn::Closed)) };
        let problem = |error: &dyn std::error::Error| error.to_string();
        connection.flush().map_err(|error| problem(&error))?;
        if connection.holds_output() {
            return Ok(Step::Ends(Turn::Idle(Interest::Write)));
        }
        let handled = if self.unfinished {
            self.session.resume()
        } else {
            match connection.receive().map_err(|error| problem(&error))? {
                Received::Message(message) => self.session.handle(message),
                Received::Nothing => return Ok(Step::Ends(Turn::Idle(Interest::Read))),
                Received::Again => return Ok(Step::Ends(Turn::More)),
                Received::Closed => return Ok(Step::Ends(Turn::Closed)),
            }
        };
        self.unfinished = false;
        match handled.map_err(|error| problem(&error))? {
            Handled::Silently => {}
            Handled::Reply(reply) => connection.send(&reply).map_err(|error| problem(&error))?,
            Handled::Stuck => {
                self.unfinished = true;
                return Ok(Step::Ends(Turn::Later));
            }
        }
        Ok(Step::Done)
    }
}

/// What came of a message.
enum Step {
    /// The next one.
    Done,
    /// No further in this turn.
    Ends(Turn),
}

impl Backend for Served {
    fn begin(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.connection = Some(Connection::new(socket.into())?);
        self.unfinished = false;
        Ok(())
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    fn turn(&mut self, most: usize) -> Turn {
        for _ in 0..most {
            match self.step() {
                Ok(Step::Done) => {}
                Ok(Step::Ends(turn)) => return turn,
                Err(problem) => return Turn::Fault(problem),
            }
        }
        Turn::More
    }

    fn look(&mut self) -> Option<String> {
        self.session.attend();
        let status = self.session.status();
        let before = std::mem::replace(&mut self.broken, status.counts.broken_rings);
        let is_new = self.broken > before;
        is_new.then(|| status.last_error.unwrap_or_else(|| "a ring is broken".to_owned()))
    }

    fn release(&mut self) {
        // A broken ring is its driver's to set up again: until then its port is down.
    }

    fn end(&mut self) -> Result<(), Stuck> {
        // Whatever becomes of rings: nobody is to wait for an answer.
        self.connection = None;
        self.unfinished = false;
        self.session.end()
    }

    fn report(&self) -> backend::Session {
        let status = self.session.status();
        let mut features: Vec<String> =
            status.features.into_iter().flat_map(Features::names).collect();
        features.extend(status.protocol.names());
        backend::Session {
            features,
            ring: status.ring_kind,
            pairs: status.rings.chunks_exact(2).map(pair).collect(),
            regions: status.memory.regions,
            memory_bytes: status.memory.bytes,
        }
    }
}

/// Even rings are those by which a driver receives.
fn pair(rings: &[session::RingStatus]) -> Pair {
    Pair { receive: ring(&rings[0]), transmit: ring(&rings[1]) }
}

fn ring(ring: &session::RingStatus) -> Ring {
    let state = match (&ring.state, ring.service) {
        (session::RingState::Started, Service::Enabled) => RingState::Running,
        (session::RingState::Started, Service::Disabled) => RingState::Disabled,
        (session::RingState::Broken(_), _) => RingState::Broken,
        (session::RingState::Stopped | session::RingState::Failed(_), _) => RingState::Stopped,
    };
    Ring { size: ring.size.unwrap_or(0).into(), state }
}

#[cfg(test)]
mod tests;
