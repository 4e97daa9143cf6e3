//! Idle costs nothing: silent queues are armed, a silent worker sleeps.
//!
//! A queue that gave nothing for a while is armed: its device will make its
//! descriptor readable. Armed queues are asked for all together, by one
//! epoll(7) call now and then; when all are armed and nothing came for
//! [`SPIN_NS`], that call blocks.
//!
//! Only armed queues are with epoll: whoever waits for a socket or a TAP is called for
//! each frame that comes, and for each that was sent, whether it wants to be or not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Polls in a row that gave nothing before a queue is armed. Arming and being
/// woken costs some three system calls; an empty poll of a TAP costs one, of a
/// memory ring a load.
pub(super) const EMPTY_POLLS_MAX: u32 = 32;
/// Breaths between two looks at the armed queues while others are busy.
pub(super) const BREATHS_PER_LOOK: u64 = 16;
/// How long a worker whose queues are all armed keeps looking before it sleeps.
pub(super) const SPIN_NS: u64 = 50_000;
/// The longest sleep: ageing and the watchdog want a sign of life.
const SLEEP_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Wake-ups taken from one call.
const EVENTS_MAX: usize = 64;
/// The event data of the worker's own wake-up; queues have their indexes.
const WAKE: u64 = u64::MAX;

/// How long to wait for a wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Only look.
    Look,
    /// Sleep until one comes, a second at most.
    Sleep,
}

/// The wake-up descriptors of a worker's queues, and its own.
pub(super) struct Poller {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
}

impl Poller {
    /// An empty one.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and eventfd(2).
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Poller { epoll, wake })
    }

    /// What wakes the worker itself.
    pub fn waker(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.wake)
    }

    /// Arms a queue for one wake-up.
    pub fn arm(&self, queue: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(queue), flags)?)
    }

    /// Disarms a queue, woken or not.
    pub fn disarm(&self, fd: BorrowedFd<'_>) {
        // Fails only if the descriptor was not armed.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// The queues that were woken.
    pub fn wait(&self, wait: Wait) -> ArrayVec<u64, EVENTS_MAX> {
        let timeout = match wait {
            Wait::Look => Timespec { tv_sec: 0, tv_nsec: 0 },
            Wait::Sleep => SLEEP_MAX,
        };
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        // EINTR is a wake-up without events.
        let woken = epoll::wait(&self.epoll, &mut room, Some(&timeout));
        let events = woken.map_or(&[][..], |(events, _)| events);
        if events.iter().any(|event| event.data.u64() == WAKE) {
            // Empty if somebody woke us twice: as good as consumed.
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
        events.iter().map(|event| event.data.u64()).filter(|&queue| queue != WAKE).collect()
    }
}
