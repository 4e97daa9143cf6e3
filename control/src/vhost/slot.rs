//! One port's socket: who is awaited, who is served, who is kept out.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hairpin_dataplane::port::vhost_user::ring::Stuck;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::backend::{Backend, Interest, Turn};
use super::pace::{Penalty, Retry};
use super::socket::{self, Access, Listening};
use super::status::Shared;
use super::watch::Notifiers;

/// Messages of one VMM that are handled before the next one's.
pub const MESSAGES_PER_TURN: usize = 32;
/// Between two looks at rings that run, and at workers that hold one.
pub const LOOK: Duration = Duration::from_millis(100);
/// Before a worker is asked again that had something in hand. Asking it waits for it, in
/// everybody's time, and one that breathes had let go by then.
const LATER: Duration = Duration::from_millis(10);
/// A VMM that stayed for so long is one that works: it is let in, or tried, at once.
const STAYED: Duration = Duration::from_secs(1);

/// Which end of the socket we are.
#[derive(Debug)]
pub enum End {
    /// We connect.
    Client(Retry),
    /// We are connected to. A port that is to follow another at the same socket shares it.
    Server(Arc<Listening>, Access),
}

/// Which of a slot's descriptors an event is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The socket that listens.
    Listener,
    /// A VMM's.
    Connection,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The change that it is made for is not committed yet.
    Idle,
    /// Nobody is served.
    Awaiting {
        /// Not before this, and then without being told; nothing: as soon as one comes.
        at: Option<Instant>,
    },
    /// A VMM is.
    Served {
        since: Instant,
        /// When its rings are looked at.
        look: Instant,
        interest: Interest,
    },
    /// One that was still has a ring in a worker's hand.
    Leaving {
        at: Instant,
        /// When the next one is let in.
        then: Instant,
    },
}

/// A port's socket.
#[derive(Debug)]
pub struct Slot {
    path: PathBuf,
    end: End,
    backend: Box<dyn Backend>,
    shared: Shared,
    notifiers: Notifiers,
    phase: Phase,
    penalty: Penalty,
    /// Until when VMMs are kept out.
    held: Option<Instant>,
    /// Whether it was said that another VMM waits.
    told_waiting: bool,
    mending: Mending,
    key: u64,
}

/// Whether rings that the guest broke are to run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mending {
    /// Not by themselves.
    Not,
    /// As soon as their workers let go of them.
    Due,
}

/// What an event of a slot carries.
#[must_use]
pub fn token(key: u64, which: Which) -> EventData {
    EventData::new_u64(2 * key + u64::from(which == Which::Connection))
}

/// What a token means.
#[must_use]
pub fn meaning(token: u64) -> (u64, Which) {
    let which = if token.is_multiple_of(2) { Which::Listener } else { Which::Connection };
    (token / 2, which)
}

impl Slot {
    /// A socket that is not served yet.
    pub fn new(
        key: u64,
        path: PathBuf,
        end: End,
        backend: Box<dyn Backend>,
        shared: Shared,
        notifiers: Notifiers,
    ) -> Slot {
        Slot {
            path,
            end,
            backend,
            shared,
            notifiers,
            phase: Phase::Idle,
            penalty: Penalty::default(),
            held: None,
            told_waiting: false,
            mending: Mending::Not,
            key,
        }
    }

    /// The socket that it listens at.
    #[must_use]
    pub fn listening(&self, path: &Path) -> Option<&Arc<Listening>> {
        match &self.end {
            End::Server(listening, _) if listening.path() == path => Some(listening),
            End::Server(..) | End::Client(_) => None,
        }
    }

    /// Begins to serve it.
    pub fn activate(&mut self, poll: &OwnedFd, now: Instant) {
        if let End::Server(listening, access) = &self.end {
            if let Err(error) = listening.set(*access) {
                tracing::warn!(socket = ?self.path, %error, "who may connect is not as configured");
            }
            let events = EventFlags::IN | EventFlags::ET;
            let token = token(self.key, Which::Listener);
            // The port that had this socket before may have watched it.
            let _ = epoll::delete(poll, &**listening);
            if let Err(error) = epoll::add(poll, &**listening, token, events) {
                self.note(format!("socket {:?} cannot be watched: {error}", self.path));
            }
        }
        self.phase = Phase::Awaiting { at: Some(now) };
    }

    /// When something is due.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle => None,
            Phase::Awaiting { at } => at,
            Phase::Served { look, .. } => Some(look),
            Phase::Leaving { at, .. } => Some(at),
        }
    }

    /// Does what is due. Whether it is to be looked at again at once.
    #[must_use]
    pub fn due(&mut self, poll: &OwnedFd, now: Instant) -> bool {
        self.contained(now, |slot| slot.do_due(poll, now))
    }

    fn do_due(&mut self, poll: &OwnedFd, now: Instant) -> bool {
        match self.phase {
            Phase::Idle => {}
            Phase::Awaiting { .. } => self.welcome(poll, now),
            Phase::Served { interest: Interest::Nothing, .. } => return self.turn(poll, now),
            Phase::Served { since, interest, .. } => {
                self.phase = Phase::Served { since, look: now + LOOK, interest };
                if self.mending == Mending::Due {
                    self.mend();
                }
                // Nothing else becomes another by itself.
                if let Some(reason) = self.backend.look() {
                    self.quarantine(reason, now);
                    self.report();
                }
            }
            Phase::Leaving { then, .. } => self.leave(then, now),
        }
        false
    }

    /// A descriptor of its has something. Whether it is to be looked at again at once.
    #[must_use]
    pub fn event(&mut self, poll: &OwnedFd, which: Which, now: Instant) -> bool {
        self.contained(now, |slot| slot.do_event(poll, which, now))
    }

    /// Does something for this port. A panic in it costs this port only: it is quarantined,
    /// and its VMM sent away, as nobody knows how far its messages had come.
    fn contained(&mut self, now: Instant, work: impl FnOnce(&mut Slot) -> bool) -> bool {
        let worked = catch_unwind(AssertUnwindSafe(|| work(self)));
        worked.unwrap_or_else(|panic| {
            let cause = said(panic.as_ref());
            self.quarantine(format!("serving its socket failed: {cause}; report this"), now);
            if catch_unwind(AssertUnwindSafe(|| self.part(now))).is_err() {
                // Tried again, but not at once.
                let then = self.held.unwrap_or(now + LOOK);
                self.phase = Phase::Leaving { at: then, then };
                self.shared.change(|status| status.session = None);
            }
            false
        })
    }

    fn do_event(&mut self, poll: &OwnedFd, which: Which, now: Instant) -> bool {
        match (which, self.phase) {
            (Which::Listener, Phase::Awaiting { at: None }) => self.welcome(poll, now),
            (Which::Listener, Phase::Served { .. }) if !self.told_waiting => {
                self.told_waiting = true;
                tracing::warn!(
                    socket = ?self.path,
                    "another VMM waits: a port serves one at a time, it is next when that ends"
                );
            }
            (Which::Connection, Phase::Served { .. }) => return self.turn(poll, now),
            (Which::Listener | Which::Connection, _) => {}
        }
        false
    }

    /// Takes the next VMM, if there is one.
    fn welcome(&mut self, poll: &OwnedFd, now: Instant) {
        self.phase = Phase::Awaiting { at: None };
        let socket = match &mut self.end {
            End::Server(listening, _) => match listening.accept() {
                Ok(None) => return,
                Ok(Some(socket)) => Ok(socket),
                Err(error) => Err((format!("socket {:?}: {error}", self.path), LOOK)),
            },
            End::Client(retry) => {
                socket::connect(&self.path).map_err(|problem| (problem, retry.pause()))
            }
        };
        let (problem, wait) = match socket {
            Ok(socket) => match self.serve(socket, poll, now) {
                Ok(()) => return,
                Err(error) => (format!("socket {:?}: {error}", self.path), LOOK),
            },
            Err(problem) => problem,
        };
        self.note(problem);
        self.phase = Phase::Awaiting { at: Some(now + wait) };
    }

    fn serve(&mut self, socket: OwnedFd, poll: &OwnedFd, now: Instant) -> io::Result<()> {
        self.backend.begin(socket)?;
        if let Some(socket) = self.backend.socket() {
            let token = token(self.key, Which::Connection);
            if let Err(error) = epoll::add(poll, socket, token, EventFlags::IN) {
                // It said nothing yet, so no worker has anything of its.
                let _ = self.backend.end();
                return Err(error.into());
            }
        }
        self.phase = Phase::Served { since: now, look: now + LOOK, interest: Interest::Read };
        (self.held, self.told_waiting) = (None, false);
        tracing::info!(socket = ?self.path, "a VMM is connected");
        let session = self.backend.report();
        self.shared.change(|status| {
            status.session = Some(Arc::new(session));
            status.connects += 1;
            // It was kept out for as long as it had to be.
            status.fault = None;
            // What stood against it does no more.
            status.last_error.clear();
        });
        Ok(())
    }

    /// Handles some of what the VMM says. Whether there is more.
    fn turn(&mut self, poll: &OwnedFd, now: Instant) -> bool {
        match self.backend.turn(MESSAGES_PER_TURN) {
            Turn::More => {
                self.watch(poll, Interest::Read);
                self.report();
                return true;
            }
            Turn::Idle(interest) => {
                self.watch(poll, interest);
                self.report();
            }
            Turn::Later => {
                self.watch(poll, Interest::Nothing);
                self.report();
                if let Phase::Served { look, .. } = &mut self.phase {
                    *look = now + LATER;
                }
            }
            Turn::Closed => {
                tracing::info!(socket = ?self.path, "the VMM is gone");
                self.part(now);
            }
            Turn::Fault(reason) => {
                self.quarantine(reason, now);
                self.part(now);
            }
        }
        false
    }

    /// Watches the VMM's socket for what it is waited for.
    fn watch(&mut self, poll: &OwnedFd, wanted: Interest) {
        let Phase::Served { interest, .. } = &mut self.phase else { return };
        let Some(socket) = self.backend.socket() else { return };
        let token = token(self.key, Which::Connection);
        let watched = match (*interest, wanted) {
            (is, wanted) if is == wanted => return,
            // One that is watched for nothing would still tell of its end, for ever.
            (_, Interest::Nothing) => epoll::delete(poll, socket),
            (Interest::Nothing, wanted) => epoll::add(poll, socket, token, flags(wanted)),
            (_, wanted) => epoll::modify(poll, socket, token, flags(wanted)),
        };
        match watched {
            Ok(()) => *interest = wanted,
            Err(error) => tracing::warn!(socket = ?self.path, %error, "it is not watched"),
        }
    }

    /// Says what is agreed on by now, and has that watched which is written to.
    fn report(&self) {
        self.notifiers.set(self.key, self.backend.notifiers());
        let session = self.backend.report();
        self.shared.change(|status| status.session = Some(Arc::new(session)));
    }

    /// The port is not to be served until the VMM was kept out for long enough and has
    /// connected anew, or somebody releases it.
    pub fn quarantine(&mut self, reason: String, now: Instant) {
        let wait = self.penalty.fault(now);
        self.held = Some(now + wait);
        tracing::error!(
            socket = ?self.path,
            reason,
            kept_out_s = wait.as_secs(),
            "the port is quarantined: a VMM that connects anew is let in when this time is over"
        );
        match &mut self.phase {
            Phase::Awaiting { at } => *at = Some(now + wait),
            // One that is leaving skips nothing of it.
            Phase::Leaving { then, .. } => *then = (*then).max(now + wait),
            Phase::Idle | Phase::Served { .. } => {}
        }
        self.shared.change(|status| {
            status.faults += 1;
            status.last_error.clone_from(&reason);
            status.fault = Some(reason);
        });
    }

    /// A worker would have been held up by its VMM, which is sent away.
    pub fn blocked(&mut self, reason: String, now: Instant) {
        // As long as it does so this is said again and again.
        if self.shared.get().fault.is_none() {
            self.quarantine(reason, now);
        }
        if let Phase::Served { .. } = self.phase {
            let _ = self.contained(now, |slot| {
                slot.part(now);
                false
            });
        }
    }

    /// Ends a quarantine.
    pub fn release(&mut self, now: Instant) {
        self.held = None;
        self.shared.change(|status| status.fault = None);
        match &mut self.phase {
            Phase::Awaiting { at: Some(at) } => *at = now,
            Phase::Leaving { then, .. } => *then = now,
            // What broke stands where it stood.
            Phase::Served { .. } => {
                let _ = self.contained(now, |slot| {
                    slot.mend();
                    false
                });
            }
            Phase::Idle | Phase::Awaiting { at: None } => {}
        }
    }

    /// Has what the guest broke run again; later, if a worker has it in hand.
    fn mend(&mut self) {
        self.mending = match self.backend.release() {
            Ok(()) => Mending::Not,
            Err(Stuck) => Mending::Due,
        };
        self.report();
    }

    /// The VMM is gone, or sent away.
    fn part(&mut self, now: Instant) {
        self.mending = Mending::Not;
        let stayed = match self.phase {
            Phase::Served { since, .. } => now.saturating_duration_since(since) >= STAYED,
            Phase::Idle | Phase::Awaiting { .. } | Phase::Leaving { .. } => false,
        };
        let pause = match &mut self.end {
            End::Client(retry) => {
                if stayed {
                    *retry = Retry::default();
                }
                retry.pause()
            }
            End::Server(..) if stayed => Duration::ZERO,
            End::Server(..) => Retry::default().pause(),
        };
        let then = self.held.map_or(now + pause, |held| held.max(now + pause));
        self.leave(then, now);
    }

    fn leave(&mut self, then: Instant, now: Instant) {
        self.phase = match self.backend.end() {
            Ok(()) => {
                self.notifiers.set(self.key, Vec::new());
                Phase::Awaiting { at: Some(then) }
            }
            Err(stuck) => {
                self.note(stuck.to_string());
                Phase::Leaving { at: now + LOOK, then }
            }
        };
        self.shared.change(|status| status.session = None);
    }

    /// Closes it; what is left of it while a worker has something of it in hand.
    #[must_use]
    pub fn closed(mut self) -> Option<Slot> {
        (!self.close()).then_some(self)
    }

    /// Ends it. Whether nobody has anything of it in hand any more.
    #[must_use]
    pub fn close(&mut self) -> bool {
        let ended = catch_unwind(AssertUnwindSafe(|| self.backend.end()));
        // After a panic it has let go of all that it ever will.
        let ended = ended.map_or(true, |ended| ended.is_ok());
        if ended {
            self.notifiers.set(self.key, Vec::new());
        }
        self.shared.change(|status| status.session = None);
        ended
    }

    fn note(&self, problem: String) {
        let before = self.shared.get().last_error;
        if before != problem {
            tracing::info!(socket = ?self.path, problem, "no VMM is connected");
        }
        self.shared.change(|status| status.last_error = problem);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.close() {
            tracing::error!(socket = ?self.path, "a worker does not let go of its rings");
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic")
}

fn flags(interest: Interest) -> EventFlags {
    match interest {
        Interest::Read => EventFlags::IN,
        Interest::Write => EventFlags::OUT,
        Interest::Nothing => EventFlags::empty(),
    }
}

/// Watches another descriptor.
pub(super) fn watch_always(poll: &OwnedFd, fd: impl AsFd, token: u64) -> io::Result<()> {
    Ok(epoll::add(poll, fd, EventData::new_u64(token), EventFlags::IN)?)
}
