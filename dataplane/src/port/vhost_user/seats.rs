//! How what a session starts and halts reaches the workers: each ring lies at a
//! [`seat`] of the worker that serves it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::queue::{QueueReceiver, QueueTransmitter};
use super::receiver::VhostUserReceiver;
use super::ring::{Direction, PAIRS_MAX, RingHost, RingIndex, Service, Start, Stuck};
use super::transmitter::VhostUserTransmitter;
use crate::port::{Opened, Receiver, Steering, Transmitter};
use crate::sys::eventfd::Eventfd;
use crate::sys::seat::{Keeper, seat};
use crate::sys::virtqueue::{LayoutError, Position, RingFault};
use crate::wire::offload::Capabilities;

/// How long a worker is waited for: some breaths. One that takes longer is asked again
/// later, as all vhost-user ports are served by the thread that waits here.
const PATIENCE: Duration = Duration::from_millis(1);

/// A driver's transmit queue, as a worker serves it.
#[derive(Debug)]
pub(super) struct Incoming {
    pub queue: QueueReceiver,
    pub service: Service,
    pub kick: Option<Arc<Eventfd>>,
    pub call: Option<Arc<Eventfd>>,
    pub faults: Arc<Faults>,
}

/// A driver's receive queue, likewise.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub queue: QueueTransmitter,
    pub service: Service,
    pub accepts: Capabilities,
    pub call: Option<Arc<Eventfd>>,
    pub faults: Arc<Faults>,
}

/// How a driver broke its ring, as its worker found it.
#[derive(Debug, Default)]
pub(super) struct Faults(AtomicU8);

impl Faults {
    const ALL: [RingFault; 5] = [
        RingFault::Overrun,
        RingFault::Index,
        RingFault::Endless,
        RingFault::Buffer,
        RingFault::Memory,
    ];

    /// Tells control. A ring that is broken once stays so.
    #[cold]
    pub fn note(&self, fault: RingFault) {
        let number = Faults::ALL.iter().position(|&one| one == fault).map_or(1, |at| at as u8 + 1);
        self.0.store(number, Ordering::Release);
    }

    fn take(&self) -> Option<RingFault> {
        let number = self.0.swap(0, Ordering::Acquire);
        Faults::ALL.get(usize::from(number.checked_sub(1)?)).copied()
    }
}

/// What wakes the worker of a driver's transmit queue: the ring's kick, whichever that is
/// at the time, and control. A ring's kick comes and goes with the ring; what the worker
/// waits for stays.
#[derive(Debug)]
pub(super) struct Waker {
    epoll: OwnedFd,
    stir: Eventfd,
}

impl Waker {
    fn new() -> io::Result<Waker> {
        let (epoll, stir) = (epoll::create(CreateFlags::CLOEXEC)?, Eventfd::new()?);
        epoll::add(&epoll, &stir, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Waker { epoll, stir })
    }

    /// Takes back what control woke the worker by.
    pub fn consume(&self) {
        self.stir.consume();
    }

    /// Has a ring's kick wake the worker.
    ///
    /// # Errors
    /// Those of epoll_ctl(2): the user's watches may be used up (`ENOSPC`).
    pub fn add(&self, kick: &Eventfd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, kick, EventData::new_u64(1), EventFlags::IN)?)
    }

    fn remove(&self, kick: &Eventfd) {
        let _ = epoll::delete(&self.epoll, kick);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Control's end of a device: it starts and halts the rings of all pairs.
#[derive(Debug)]
pub struct Host {
    pub(super) pairs: Vec<Pair>,
    open: Arc<AtomicU16>,
}

#[derive(Debug)]
pub(super) struct Pair {
    incoming: Keeper<Incoming>,
    outgoing: Keeper<Outgoing>,
    pub waker: Arc<Waker>,
    /// What the waker has of the ring that is served.
    kick: Option<Arc<Eventfd>>,
    /// Of the rings that run, the driver's receive queue first.
    faults: [Option<Arc<Faults>>; 2],
}

/// A device of so many queue pairs (1 to [`PAIRS_MAX`]) without a driver yet, and what
/// starts and halts its rings. It has a receiver and a transmitter for each pair.
///
/// # Errors
/// Those of epoll_create1(2) and eventfd(2); `InvalidInput` for another number of pairs.
pub fn open(pairs: usize) -> io::Result<(Opened, Host)> {
    if !(1..=PAIRS_MAX).contains(&pairs) {
        let problem = format!("queues {pairs}: 1 to {PAIRS_MAX} are possible");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let open = Arc::new(AtomicU16::new(0));
    let mut host = Host { pairs: Vec::new(), open: Arc::clone(&open) };
    let (mut receivers, mut transmitters) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let waker = Arc::new(Waker::new()?);
        let (receiving, incoming) = seat();
        let (transmitting, outgoing) = seat();
        let receiver = VhostUserReceiver::new(receiving, Arc::clone(&waker));
        receivers.push(Receiver::VhostUser(receiver));
        transmitters.push(Transmitter::VhostUser(VhostUserTransmitter::new(transmitting)));
        host.pairs.push(Pair { incoming, outgoing, waker, kick: None, faults: [None, None] });
    }
    let steering = Steering::BySender { open };
    // What a driver takes is known when it starts its rings: the transmitters know then.
    let capabilities = Capabilities::ALL;
    Ok((Opened { receivers, transmitters, capabilities, steering }, host))
}

impl Host {
    fn set_open(&self, pair: usize, service: Service) {
        let bit = 1 << pair;
        match service {
            Service::Enabled => self.open.fetch_or(bit, Ordering::Release),
            Service::Disabled => self.open.fetch_and(!bit, Ordering::Release),
        };
    }
}

impl RingHost for Host {
    fn start(&mut self, ring: RingIndex, start: Start) -> Result<(), LayoutError> {
        let Start { kind, terms, service, headers, accepts, kick, call } = start;
        let pair = &mut self.pairs[ring.pair()];
        let faults = Arc::new(Faults::default());
        pair.faults[ring.number() % 2] = Some(Arc::clone(&faults));
        match ring.direction() {
            Direction::FromDriver => {
                let mut queue = QueueReceiver::open(kind, &terms)?;
                queue.set_headers(headers);
                // One that cannot wake the worker has it poll.
                let kick = kick.filter(|kick| pair.waker.add(kick).is_ok());
                pair.kick.clone_from(&kick);
                let incoming =
                    Box::new(Incoming { queue, service, kick, call: call.clone(), faults });
                let put = pair.incoming.put(incoming);
                assert!(put.is_ok(), "ring {} was started while it ran", ring.number());
                pair.waker.stir.signal();
            }
            Direction::ToDriver => {
                let queue = QueueTransmitter::open(kind, &terms)?;
                let outgoing =
                    Box::new(Outgoing { queue, service, accepts, call: call.clone(), faults });
                let put = pair.outgoing.put(outgoing);
                assert!(put.is_ok(), "ring {} was started while it ran", ring.number());
                self.set_open(ring.pair(), service);
            }
        }
        // Whoever served it before may have owed its driver a call.
        if let Some(call) = &call {
            call.signal();
        }
        Ok(())
    }

    fn halt(&mut self, ring: RingIndex) -> Result<Option<Position>, Stuck> {
        match ring.direction() {
            Direction::FromDriver => {
                let pair = &mut self.pairs[ring.pair()];
                let incoming = pair.incoming.take(PATIENCE).map_err(|_| Stuck)?;
                if let Some(kick) = pair.kick.take() {
                    pair.waker.remove(&kick);
                }
                Ok(incoming.map(|mut incoming| incoming.queue.position()))
            }
            Direction::ToDriver => {
                self.set_open(ring.pair(), Service::Disabled);
                let pair = &mut self.pairs[ring.pair()];
                let outgoing = pair.outgoing.take(PATIENCE).map_err(|_| Stuck)?;
                Ok(outgoing.map(|outgoing| outgoing.queue.position()))
            }
        }
    }

    fn broken(&mut self) -> Vec<(RingIndex, RingFault)> {
        let each = RingIndex::all(self.pairs.len());
        let fault = |ring: RingIndex| {
            let faults = self.pairs[ring.pair()].faults[ring.number() % 2].as_ref()?;
            faults.take().map(|fault| (ring, fault))
        };
        each.filter_map(fault).collect()
    }
}
