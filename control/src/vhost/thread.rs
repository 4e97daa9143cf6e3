//! The thread that serves all sockets, and how it is told what to do.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use hairpin_dataplane::sys::eventfd::Eventfd;
use rustix::event::{Timespec, epoll};

use super::backend::Backend;
use super::pace::Retry;
use super::slot::{self, End, Slot, Which, meaning};
use super::socket::{Access, Listening, SocketError};
use super::status::{Shared, Status};
use super::watch::{Blocked, Notifiers, Watch};
use crate::config::vhost_user::{SocketRole, VhostUserConfig};

/// Events that are taken at a time.
const EVENTS: usize = 64;
/// What the thread's own descriptor is called among those of slots, which count from 1.
const WAKER: u64 = 0;
/// How long whoever wants a socket waits for the thread, which has other things to do: the
/// engine's lock is held meanwhile.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end waits for workers to let go of rings.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_STEP: Duration = Duration::from_millis(10);

enum Command {
    Open { order: Order, reply: Sender<Result<(), SocketError>> },
    Activate(u64),
    Release(u64),
    Quarantine(u64, String),
    Blocked(Blocked),
    Close(u64),
    End,
}

/// A socket that is to be had.
struct Order {
    key: u64,
    path: PathBuf,
    /// Who may connect, if it is ours to make.
    access: Option<Access>,
    backend: Box<dyn Backend>,
    shared: Shared,
}

/// How the thread is reached.
#[derive(Clone, Debug)]
struct Commands {
    commands: Sender<Command>,
    waker: Arc<Eventfd>,
    /// Of the thread, as long as it goes on.
    life: Weak<()>,
}

impl Commands {
    /// Whether the thread has ended that was to obey.
    fn are_in_vain(&self) -> bool {
        self.life.strong_count() == 0
    }

    fn send(&self, command: Command) {
        // A thread that has ended serves nothing that could be changed.
        let _ = self.commands.send(command);
        self.waker.signal();
    }
}

/// All sockets, and the thread that serves them, which begins with the first.
#[derive(Debug)]
pub struct Sockets {
    running: Option<Running>,
    notifiers: Notifiers,
    /// Of the next one.
    key: u64,
    bell: Sender<()>,
    rings: Receiver<()>,
}

#[derive(Debug)]
struct Running {
    commands: Commands,
    thread: JoinHandle<()>,
    watch: Watch,
}

impl Default for Sockets {
    fn default() -> Sockets {
        let (bell, rings) = bounded(1);
        Sockets { running: None, notifiers: Notifiers::default(), key: WAKER + 1, bell, rings }
    }
}

impl Sockets {
    /// What is rung whenever a status has become another.
    #[must_use]
    pub fn rings(&self) -> Receiver<()> {
        self.rings.clone()
    }

    /// Has a device's socket made, or prepares to connect to it. Nobody is served before
    /// [`Plug::activate`]: a port may still have the same socket.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn open(
        &mut self,
        config: &VhostUserConfig,
        backend: Box<dyn Backend>,
    ) -> Result<Plug, SocketError> {
        let access = match &config.role {
            SocketRole::Client => None,
            SocketRole::Server(access) => Some(Access::of(access)?),
        };
        let running = match self.running.take() {
            Some(running) if !running.commands.are_in_vain() => running,
            Some(_) | None => Running::start(&self.notifiers).map_err(SocketError::Thread)?,
        };
        let commands = self.running.insert(running).commands.clone();
        let key = self.key;
        self.key += 1;
        let shared = Shared::new(self.bell.clone());
        let plug = Plug { key, commands, shared: shared.clone() };
        let path = config.socket.clone();
        let (reply, replied) = bounded(1);
        let order = Order { key, path, access, backend, shared };
        plug.commands.send(Command::Open { order, reply });
        // Given up, it is closed again as soon as the thread comes to it.
        replied.recv_timeout(OPEN_PATIENCE).map_err(|error| {
            let problem = match error {
                RecvTimeoutError::Timeout => "it does not answer",
                RecvTimeoutError::Disconnected => "it has ended",
            };
            SocketError::Thread(io::Error::other(problem))
        })??;
        Ok(plug)
    }

    /// Closes all sockets; whoever is connected is let go.
    pub fn close(&mut self) {
        let Some(Running { commands, thread, watch }) = self.running.take() else { return };
        commands.send(Command::End);
        drop(commands);
        // Its panic, if it had one, was reported by the hook.
        let _ = thread.join();
        // Last: the thread waits for workers.
        drop(watch);
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.close();
    }
}

impl Running {
    fn start(notifiers: &Notifiers) -> io::Result<Running> {
        let (commands, receiver) = unbounded();
        let waker = Arc::new(Eventfd::new()?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        slot::watch_always(&poll, &waker, WAKER)?;
        let life = Arc::new(());
        let commands =
            Commands { commands, waker: Arc::clone(&waker), life: Arc::downgrade(&life) };
        let (slots, leaving, look) = (BTreeMap::new(), Vec::new(), Instant::now());
        let watch = {
            let commands = commands.clone();
            Watch::start(notifiers.clone(), move |blocked| {
                commands.send(Command::Blocked(blocked));
            })?
        };
        let notifiers = notifiers.clone();
        let serving = Serving { poll, waker, commands: receiver, slots, leaving, look, notifiers };
        let thread =
            std::thread::Builder::new().name("vhost-user".to_owned()).spawn(move || {
                let _life = life;
                if catch_unwind(AssertUnwindSafe(|| serving.run())).is_err() {
                    tracing::error!(
                        "the thread that serves the sockets of vhost-user ports has failed: their \
                         VMMs are let go; restart the daemon, and report this"
                    );
                }
            })?;
        Ok(Running { commands, thread, watch })
    }
}

/// A port's socket, as long as this is kept.
#[derive(Debug)]
pub struct Plug {
    key: u64,
    commands: Commands,
    shared: Shared,
}

impl Plug {
    /// Serves it from now on.
    pub fn activate(&self) {
        self.commands.send(Command::Activate(self.key));
    }

    /// Ends its quarantine.
    pub fn release(&self) {
        self.commands.send(Command::Release(self.key));
    }

    /// Quarantines it for a reason that its socket does not tell.
    pub fn quarantine(&self, reason: &str) {
        self.commands.send(Command::Quarantine(self.key, reason.to_owned()));
    }

    /// Whether nobody serves it any more: the thread that did has failed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.commands.are_in_vain()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.get()
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.commands.send(Command::Close(self.key));
    }
}

/// What the thread has.
struct Serving {
    poll: OwnedFd,
    waker: Arc<Eventfd>,
    commands: Receiver<Command>,
    slots: BTreeMap<u64, Slot>,
    /// Closed, but a worker has a ring of theirs in hand.
    leaving: Vec<Slot>,
    /// When those are looked at: each look waits for their workers.
    look: Instant,
    notifiers: Notifiers,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    ToItsEnd,
}

impl Serving {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        // Slots that had more to do than fits into a turn.
        let mut again: Vec<u64> = Vec::new();
        loop {
            let wait = if again.is_empty() { self.wait() } else { Some(Duration::ZERO) };
            events.clear();
            self.await_events(&mut events, wait);
            if self.obey() == Goes::ToItsEnd {
                break;
            }
            let now = Instant::now();
            let more = std::mem::take(&mut again).into_iter().map(|key| (key, Which::Connection));
            let told = events.iter().map(|event| meaning(event.data.u64()));
            let mut turns: Vec<(u64, Which)> = more.chain(told).collect();
            // Those who are served first: who leaves makes room for who waits. And each once.
            turns.sort_unstable_by_key(|&(key, which)| (which == Which::Listener, key));
            turns.dedup();
            for (key, which) in turns {
                let Some(slot) = self.slots.get_mut(&key) else { continue };
                if slot.event(&self.poll, which, now) {
                    again.push(key);
                }
            }
            let due = |slot: &Slot| slot.due_at().is_some_and(|at| at <= now);
            for (&key, slot) in self.slots.iter_mut().filter(|(_, slot)| due(slot)) {
                if slot.due(&self.poll, now) {
                    again.push(key);
                }
            }
            if !self.leaving.is_empty() && self.look <= now {
                self.leaving.retain_mut(|slot| !slot.close());
                self.look = now + slot::LOOK;
            }
        }
        self.end();
    }

    /// How long nothing is due.
    fn wait(&self) -> Option<Duration> {
        let next = self.slots.values().filter_map(Slot::due_at).min();
        let look = (!self.leaving.is_empty()).then_some(self.look);
        let next = next.into_iter().chain(look).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn await_events(&self, events: &mut Vec<epoll::Event>, wait: Option<Duration>) {
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.poll, room, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "sockets of vhost-user ports cannot be awaited");
                // Not in a circle as fast as it goes.
                std::thread::sleep(Retry::default().pause());
            }
        }
    }

    /// Does what was asked for.
    fn obey(&mut self) -> Goes {
        self.waker.consume();
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return Goes::On,
                Err(TryRecvError::Disconnected) => return Goes::ToItsEnd,
            };
            let now = Instant::now();
            match command {
                Command::Open { order, reply } => {
                    let key = order.key;
                    let opened = self.open(order).map(|slot| {
                        self.slots.insert(key, slot);
                    });
                    // Who asked is waiting.
                    let _ = reply.send(opened);
                }
                Command::Activate(key) => {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.activate(&self.poll, now);
                    }
                }
                Command::Release(key) => {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.release(now);
                    }
                }
                Command::Quarantine(key, reason) => {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.quarantine(reason, now);
                    }
                }
                Command::Blocked(Blocked { key, reason }) => {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.blocked(reason, now);
                    }
                }
                Command::End => return Goes::ToItsEnd,
                Command::Close(key) => {
                    // Here, and again later if that was not enough.
                    if let Some(left) = self.slots.remove(&key).and_then(Slot::closed) {
                        self.look = now + slot::LOOK;
                        self.leaving.push(left);
                    }
                }
            }
        }
    }

    fn open(&self, order: Order) -> Result<Slot, SocketError> {
        let Order { key, path, access, backend, shared } = order;
        let end = match access {
            None => End::Client(Retry::default()),
            Some(access) => {
                // One that is still leaving may have it, too.
                let mut others = self.slots.values().chain(&self.leaving);
                let ours = others.find_map(|slot| slot.listening(&path)).map(Arc::clone);
                let listening = match ours {
                    Some(ours) => ours,
                    None => Arc::new(Listening::open(&path, access)?),
                };
                End::Server(listening, access)
            }
        };
        Ok(Slot::new(key, path, end, backend, shared, self.notifiers.clone()))
    }

    /// Lets go of all VMMs; waits for workers that have a ring in hand, but not for ever.
    fn end(mut self) {
        let until = Instant::now() + PATIENCE;
        self.leaving.extend(std::mem::take(&mut self.slots).into_values());
        loop {
            self.leaving.retain_mut(|slot| !slot.close());
            if self.leaving.is_empty() || Instant::now() >= until {
                return;
            }
            std::thread::sleep(PATIENCE_STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vhost_user::SocketAccess;
    use crate::vhost::session::Served;

    #[test]
    fn a_port_whose_thread_has_ended_says_so_and_the_next_one_gets_another() {
        let directory = tempfile::tempdir().unwrap();
        let mut sockets = Sockets::default();
        let mut open = |name: &str| {
            let path = directory.path().join(name);
            let config = VhostUserConfig::server(path, SocketAccess::default());
            let (_, host) = hairpin_dataplane::port::vhost_user::open(1).unwrap();
            sockets.open(&config, Box::new(Served::new(1, Box::new(host)))).unwrap()
        };
        let (first, second) = (open("vm1"), open("vm2"));
        assert!(!first.is_abandoned());
        first.commands.send(Command::End);
        let until = Instant::now() + Duration::from_secs(10);
        while !second.is_abandoned() {
            assert!(Instant::now() < until, "nobody notices");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(first.is_abandoned());
        assert!(!open("vm3").is_abandoned());
    }
}
