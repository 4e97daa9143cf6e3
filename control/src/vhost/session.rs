//! A [`Backend`] by the dataplane's session: messages from the socket to it, its replies
//! back.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use hairpin_dataplane::port::vhost_user::connection::{Connection, ConnectionError, Received};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::ring::{RingHost, Service, Stuck};
use hairpin_dataplane::port::vhost_user::session::{self, Config, Footing, Handled, Notifier};

use super::backend::{self, Backend, Interest, Pair, Ring, RingState, Turn};
use super::spate::Spate;

/// One port's session, connection after connection.
#[derive(Debug)]
pub struct Served {
    session: session::Session,
    connection: Option<Connection>,
    /// Whether a message is half done, since a worker has something in hand.
    unfinished: bool,
    /// Rings that were broken when they were last looked at, in all sessions.
    broken: u64,
    /// Messages that are refused.
    refused: Spate,
}

/// Messages within a second that may be refused. A front end that works has one refused now
/// and then, such as a request of a newer protocol; each costs all VMMs some microseconds of
/// the thread that serves them.
pub const REFUSED_MAX: u64 = 10_000;

impl Served {
    /// A device of so many queue pairs, whose rings are started and halted there.
    #[must_use]
    pub fn new(pairs: usize, host: Box<dyn RingHost>) -> Served {
        let config = Config { pairs, features: Features::OFFERED };
        let session = session::Session::new(config, host);
        let refused = Spate::begin(0, Instant::now());
        Served { session, connection: None, unfinished: false, broken: 0, refused }
    }

    /// Handles one message.
    ///
    /// # Errors
    /// The end of the turn: it goes no further.
    fn step(&mut self) -> Result<(), Turn> {
        let Some(connection) = &mut self.connection else { return Err(Turn::Closed) };
        connection.flush().map_err(broken)?;
        if connection.holds_output() {
            return Err(Turn::Idle(Interest::Write));
        }
        let handled = if self.unfinished {
            self.session.resume()
        } else {
            match connection.receive().map_err(broken)? {
                Received::Message(message) => self.session.handle(message),
                Received::Nothing => return Err(Turn::Idle(Interest::Read)),
                Received::Again => return Err(Turn::More),
                Received::Closed => return Err(Turn::Closed),
            }
        };
        self.unfinished = false;
        match handled.map_err(|fault| Turn::Fault(fault.to_string()))? {
            Handled::Silently => Ok(()),
            Handled::Reply(reply) => connection.send(&reply).map_err(broken),
            Handled::Stuck => {
                self.unfinished = true;
                Err(Turn::Later)
            }
        }
    }
}

/// What a connection's error means. A VMM that was killed before it read its reply is gone,
/// and at no fault.
fn broken(error: ConnectionError) -> Turn {
    match error {
        ConnectionError::Io(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Turn::Closed
        }
        error => Turn::Fault(error.to_string()),
    }
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
        let mut steps = (0..most).map(|_| self.step());
        let turn = steps.find_map(Result::err).unwrap_or(Turn::More);
        let counts = self.session.counts();
        match (self.refused.look(counts.refused, Instant::now()), turn) {
            (refused @ REFUSED_MAX.., turn) if turn != Turn::Closed => Turn::Fault(format!(
                "{refused} messages within a second were refused, the last one since {}: see to \
                 the VMM; it may be hostile",
                self.session.status().last_error.unwrap_or_default()
            )),
            (_, turn) => turn,
        }
    }

    fn look(&mut self) -> Option<String> {
        self.session.attend();
        let broken = self.session.counts().broken_rings;
        let is_new = broken > std::mem::replace(&mut self.broken, broken);
        let reason = || self.session.status().last_error;
        is_new.then(|| reason().unwrap_or_else(|| "a ring is broken".to_owned()))
    }

    fn end(&mut self) -> Result<(), Stuck> {
        // Whatever becomes of rings: nobody is to wait for an answer.
        self.connection = None;
        self.unfinished = false;
        self.session.end()
    }

    fn release(&mut self) -> Result<(), Stuck> {
        self.session.release()
    }

    fn notifiers(&self) -> Vec<Notifier> {
        self.session.notifiers()
    }

    fn report(&self) -> backend::Session {
        let status = self.session.status();
        let mut features: Vec<String> =
            status.features.into_iter().flat_map(Features::names).collect();
        features.extend(status.protocol.names());
        let trouble = status.rings.iter().find_map(|ring| match &ring.state {
            session::RingState::Failed(trouble) => {
                Some(format!("ring {} cannot run: {trouble}", ring.number))
            }
            _ => None,
        });
        let doubtful = status.rings.iter().find(|ring| {
            ring.state == session::RingState::Started && ring.footing == Footing::Doubtful
        });
        let warning = doubtful.map(|ring| {
            format!(
                "ring {} is a packed one that another back end has used before, and the VMM does \
                 not know how far: if no frames pass, bind the guest's driver anew, or restart \
                 the guest",
                ring.number
            )
        });
        backend::Session {
            features,
            ring: status.ring_kind,
            pairs: status.rings.chunks_exact(2).map(pair).collect(),
            regions: status.memory.regions,
            memory_bytes: status.memory.bytes,
            trouble: trouble.unwrap_or_default(),
            warning: warning.unwrap_or_default(),
            refused_requests: status.counts.refused,
            stray_descriptors: status.counts.stray_descriptors,
            last_refusal: status.last_error.unwrap_or_default(),
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
