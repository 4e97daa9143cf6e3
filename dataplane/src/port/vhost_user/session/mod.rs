//! One VMM, from its first message to its end.
//!
//! Any request may come at any time, any number of times. Each goes the same way:
//!
//! 1. what it changes is at rest: the rings concerned are halted, and nobody else has the
//!    memory. If a worker does not let go of either, the session is
//!    [`Stuck`](Handled::Stuck) here, and goes on by [`Session::resume`];
//! 2. it is applied, or refused;
//! 3. all rings that can run are started;
//! 4. it is answered, if it is to be.
//!
//! So an answer always is a promise: what was taken back is not touched any more.

mod error;
mod notifier;
mod rings;
mod status;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use error::{Fault, Refusal, RingTrouble};
pub use notifier::{Notice, Notifier};
pub use rings::Footing;
pub use status::{Counts, RingState, RingStatus, Status};

use super::features::{Features, ProtocolFeatures};
use super::message::{Acknowledge, Awaits, Body, Code, Message, Parsed, Reply, Request};
use super::queue::RingKind;
use super::regions::{REGIONS_MAX, Regions};
use super::ring::{PAIRS_MAX, RingHost, RingIndex, Stuck};
use crate::sys::eventfd::Eventfd;
use crate::sys::virtqueue::{RingFault, SIZE_MAX};
use rings::{Base, Ground, Kick, Ring, Run};

/// What a device offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Queue pairs, 1 to [`PAIRS_MAX`].
    pub pairs: usize,
    /// Features; those not in [`Features::OFFERED`] are not offered.
    pub features: Features,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// It is done; there is nothing to send.
    Silently,
    /// It is done; this is to be sent.
    Reply(Reply),
    /// It is not done: a worker has something in hand. [`Session::resume`] is to be called
    /// a little later, and no message to be handed over before; when this takes too long,
    /// the connection is to be closed.
    Stuck,
}

/// A device's side of what its front end says.
#[derive(Debug)]
pub struct Session {
    pairs: usize,
    offered: Features,
    host: Box<dyn RingHost>,
    features: Option<Features>,
    protocol: ProtocolFeatures,
    regions: Regions,
    rings: Vec<Ring>,
    mtu: Option<u16>,
    /// A message that something has to be at rest for.
    unfinished: Option<(Asked, Request)>,
    counts: Counts,
    last_error: Option<String>,
}

/// Who asked, and whether it is to be told.
#[derive(Clone, Copy, Debug)]
struct Asked {
    code: Code,
    acknowledge: Acknowledge,
}

type Outcome = Result<Option<Body>, Refusal>;

/// What has to be at rest before a request is applied.
enum Rest {
    Nothing,
    Ring(RingIndex),
    Rings,
    RingsAndMemory,
}

impl Session {
    /// A session that nothing was said in yet.
    #[must_use]
    pub fn new(config: Config, host: Box<dyn RingHost>) -> Session {
        let pairs = config.pairs.clamp(1, PAIRS_MAX);
        let offered = Features::from_bits(config.features.bits() & Features::OFFERED.bits());
        Session {
            pairs,
            offered: if pairs == 1 { offered.without(Features::MQ) } else { offered },
            host,
            features: None,
            protocol: ProtocolFeatures::NONE,
            regions: Regions::default(),
            rings: RingIndex::all(pairs).map(Ring::new).collect(),
            mtu: None,
            unfinished: None,
            counts: Counts::default(),
            last_error: None,
        }
    }

    /// Handles a message. Halts and starts rings, maps and unmaps memory.
    ///
    /// # Errors
    /// [`Fault`]: the connection is to be closed, and the session to be ended.
    pub fn handle(&mut self, message: Message) -> Result<Handled, Fault> {
        let asked = Asked { code: message.code, acknowledge: message.acknowledge };
        if self.unfinished.is_some() {
            return Err(Fault::Unfinished(asked.code));
        }
        self.counts.requests += 1;
        let descriptors = message.descriptors.len() + message.surplus;
        match Request::parse(message) {
            Ok(Parsed { request, stray }) => {
                self.counts.stray_descriptors += stray as u64;
                self.advance(asked, request)
            }
            Err(malformed) => {
                self.counts.stray_descriptors += descriptors as u64;
                self.answer(asked, Err(malformed.into()))
            }
        }
    }

    /// Goes on with a message that was [`Handled::Stuck`].
    ///
    /// # Errors
    /// As for [`Session::handle`].
    pub fn resume(&mut self) -> Result<Handled, Fault> {
        match self.unfinished.take() {
            Some((asked, request)) => self.advance(asked, request),
            None => Ok(Handled::Silently),
        }
    }

    fn advance(&mut self, asked: Asked, request: Request) -> Result<Handled, Fault> {
        let (rest, about) = self.concerns(&request);
        if self.rest(&rest).is_err() {
            self.unfinished = Some((asked, request));
            return Ok(Handled::Stuck);
        }
        let outcome = self.apply(asked.code, request);
        let started = self.start_all(about);
        self.answer(asked, started.and(outcome))
    }

    /// What a request concerns: what is to be at rest, and the ring it is about.
    fn concerns(&self, request: &Request) -> (Rest, Option<RingIndex>) {
        let number = match request {
            Request::SetFeatures(bits) => {
                let features = Features::from_bits(*bits);
                let changes = self.offered.has(features) && self.features != Some(features);
                return (if changes { Rest::Rings } else { Rest::Nothing }, None);
            }
            Request::ResetDevice => return (Rest::Rings, None),
            Request::SetMemTable(_) | Request::AddMemReg(..) | Request::RemMemReg(_) => {
                return (Rest::RingsAndMemory, None);
            }
            Request::SetVringNum { ring, .. }
            | Request::SetVringAddr { ring, .. }
            | Request::SetVringBase { ring, .. }
            | Request::GetVringBase { ring }
            | Request::SetVringKick { ring, .. }
            | Request::SetVringCall { ring, .. }
            | Request::SetVringEnable { ring, .. } => *ring,
            _ => return (Rest::Nothing, None),
        };
        let Some(index) = RingIndex::new(number, self.pairs) else { return (Rest::Nothing, None) };
        let unchanged = self.rings.get(index.number()).is_some_and(|ring| match request {
            Request::SetVringNum { size, .. } => ring.size.map(u32::from) == Some(*size),
            Request::SetVringAddr { addresses, .. } => ring.addresses == Some(*addresses),
            Request::SetVringEnable { service, .. } => ring.service == Some(*service),
            _ => false,
        });
        (if unchanged { Rest::Nothing } else { Rest::Ring(index) }, Some(index))
    }

    /// Brings to rest what is to be; can be repeated.
    fn rest(&mut self, rest: &Rest) -> Result<(), Stuck> {
        let host = self.host.as_mut();
        match rest {
            Rest::Nothing => Ok(()),
            Rest::Ring(index) => match self.rings.get_mut(index.number()) {
                Some(ring) => ring.halt(host),
                None => Ok(()),
            },
            Rest::Rings => self.rings.iter_mut().try_for_each(|ring| ring.halt(host)),
            Rest::RingsAndMemory => {
                self.rings.iter_mut().try_for_each(|ring| ring.halt(host))?;
                self.regions.release()
            }
        }
    }

    /// Starts all rings that can run and do not. The result is that of one of them; what
    /// goes wrong with the others is noted only.
    fn start_all(&mut self, about: Option<RingIndex>) -> Result<(), Refusal> {
        let (Some(features), Some(memory)) = (self.features, self.regions.memory()) else {
            return Ok(());
        };
        let ground = Ground { features, regions: &self.regions, memory };
        let mut outcome = Ok(());
        for ring in &mut self.rings {
            let Err(error) = ring.start(ground, self.host.as_mut()) else { continue };
            let refusal = Refusal::Ring { ring: ring.index.number(), error };
            match about {
                Some(index) if index == ring.index => outcome = Err(refusal),
                _ => self.last_error = Some(refusal.to_string()),
            }
        }
        outcome
    }

    fn apply(&mut self, code: Code, request: Request) -> Outcome {
        match request {
            Request::GetFeatures => return Ok(Some(Body::Value(self.offered.bits()))),
            Request::GetProtocolFeatures => {
                return Ok(Some(Body::Value(ProtocolFeatures::OFFERED.bits())));
            }
            Request::GetQueueNum => return Ok(Some(Body::Value(self.pairs as u64))),
            Request::GetMaxMemSlots => return Ok(Some(Body::Value(REGIONS_MAX as u64))),
            Request::GetVringBase { ring: number } => return self.stop(code, number).map(Some),
            Request::SetFeatures(bits) => self.accept(Features::from_bits(bits))?,
            Request::SetProtocolFeatures(bits) => {
                self.protocol = accepted(ProtocolFeatures::from_bits(bits))?;
            }
            Request::SetMemTable(_) | Request::AddMemReg(..) | Request::RemMemReg(_) => {
                self.lend(code, request)?;
            }
            Request::NetSetMtu(bytes) => match u16::try_from(bytes) {
                Ok(mtu @ 68..) => self.mtu = Some(mtu),
                _ => return Err(Refusal::Mtu(bytes)),
            },
            Request::ResetDevice => {
                self.rings = RingIndex::all(self.pairs).map(Ring::new).collect();
                self.mtu = None;
            }
            Request::SetOwner | Request::ResetOwner | Request::SendRarp => {}
            Request::Unknown => {
                self.counts.unknown += 1;
                return Err(Refusal::Unknown(code));
            }
            ring => self.set_ring(code, ring)?,
        }
        Ok(None)
    }

    /// Accepts features, all rings at rest if they change.
    fn accept(&mut self, features: Features) -> Result<(), Refusal> {
        if !self.offered.has(features) {
            return Err(Refusal::Features(features.without(self.offered)));
        }
        let kind = self.features.map(Features::ring_kind);
        for ring in &mut self.rings {
            // A place in one kind of ring is none in another.
            if kind.is_some_and(|kind| kind != features.ring_kind())
                && let Base::Stood(_) = ring.base
            {
                ring.base = Base::Beginning;
            }
            ring.reconsider();
        }
        self.features = Some(features);
        Ok(())
    }

    /// Changes the memory, all rings at rest and nobody else having it.
    fn lend(&mut self, code: Code, request: Request) -> Result<(), Refusal> {
        let lent = match request {
            Request::SetMemTable(table) => self.regions.replace(table),
            Request::AddMemReg(spec, file) => self.regions.add(spec, &file),
            Request::RemMemReg(spec) => self.regions.remove(spec),
            _ => Ok(()),
        };
        self.rings.iter_mut().for_each(Ring::reconsider);
        lent.map_err(|error| Refusal::Region { code, error })
    }

    /// Has a ring, which is at rest, stay so; tells where it stood.
    fn stop(&mut self, code: Code, number: u32) -> Result<Body, Refusal> {
        let kind = self.features.map_or(RingKind::Split, Features::ring_kind);
        let ring = self.ring(code, number)?;
        ring.kick = Kick::Awaited;
        ring.mend();
        Ok(Body::Base { ring: number, base: ring.base(kind) })
    }

    /// Changes a ring, which is at rest if it changes.
    fn set_ring(&mut self, code: Code, request: Request) -> Result<(), Refusal> {
        match request {
            Request::SetVringNum { ring: number, size } => {
                let ring = self.ring(code, number)?;
                let entries = u16::try_from(size).ok().filter(|n| (1..=SIZE_MAX).contains(n));
                ring.size = Some(entries.ok_or(Refusal::Size { ring: number, size })?);
                ring.reconsider();
            }
            Request::SetVringAddr { ring: number, addresses } => {
                let ring = self.ring(code, number)?;
                ring.addresses = Some(addresses);
                ring.reconsider();
            }
            Request::SetVringBase { ring: number, base } => {
                let ring = self.ring(code, number)?;
                ring.base = Base::Told(base);
                ring.reconsider();
            }
            Request::SetVringKick { ring: number, fd } => {
                let ring = self.ring(code, number)?;
                ring.kick = match eventfd(code, number, fd)? {
                    Some(kick) => Kick::By(Arc::new(kick)),
                    None => Kick::Polled,
                };
                ring.mend();
            }
            Request::SetVringCall { ring: number, fd } => {
                let ring = self.ring(code, number)?;
                ring.call = eventfd(code, number, fd)?.map(Arc::new);
            }
            Request::SetVringErr { ring: number, fd } => {
                let ring = self.ring(code, number)?;
                ring.error = eventfd(code, number, fd)?.map(Arc::new);
            }
            Request::SetVringEnable { ring: number, service } => {
                self.ring(code, number)?.service = Some(service);
            }
            _ => {}
        }
        Ok(())
    }

    fn ring(&mut self, code: Code, number: u32) -> Result<&mut Ring, Refusal> {
        let pairs = self.pairs;
        RingIndex::new(number, pairs)
            .and_then(|index| self.rings.get_mut(index.number()))
            .ok_or(Refusal::NoRing { code, ring: number, pairs })
    }

    /// Answers a request, if it is to be.
    fn answer(&mut self, asked: Asked, outcome: Outcome) -> Result<Handled, Fault> {
        let Asked { code, acknowledge } = asked;
        let value = match outcome {
            Ok(Some(body)) => return Ok(Handled::Reply(Reply { code, body })),
            Ok(None) => 0,
            Err(refusal) => {
                self.counts.refused += 1;
                self.last_error = Some(refusal.to_string());
                if code.awaits() == Awaits::Reply {
                    return Err(Fault::Unanswerable { code, refusal });
                }
                1
            }
        };
        let acknowledged = self.protocol.has(ProtocolFeatures::REPLY_ACK);
        match acknowledge {
            Acknowledge::Asked if acknowledged => {
                Ok(Handled::Reply(Reply { code, body: Body::Value(value) }))
            }
            _ => Ok(Handled::Silently),
        }
    }

    /// Looks after the rings: notes those that their drivers broke, and all if memory was
    /// cut short, and tells the front end of them. To be called now and then.
    pub fn attend(&mut self) {
        for (index, fault) in self.host.broken() {
            self.note_broken(index, fault);
        }
        if self.regions.memory().is_some_and(|memory| memory.is_poisoned()) {
            RingIndex::all(self.pairs).for_each(|index| self.note_broken(index, RingFault::Memory));
        }
    }

    fn note_broken(&mut self, index: RingIndex, fault: RingFault) {
        let Some(ring) = self.rings.get_mut(index.number()) else { return };
        if !matches!(ring.run, Run::Running | Run::Leaving) {
            return;
        }
        ring.run = Run::Broken(fault);
        ring.error.iter().for_each(|error| error.signal());
        self.counts.broken_rings += 1;
        let remedy = match fault {
            RingFault::Memory => "restart the VM",
            _ => "reset the guest's network device",
        };
        let number = index.number();
        self.last_error = Some(format!("ring {number} is broken: {fault}: {remedy}"));
    }

    /// Has broken rings run again where they stood, whoever sees to it that they are not
    /// broken again. One that cannot says why in its status, and as the last error.
    ///
    /// # Errors
    /// [`Stuck`]: a worker has something in hand; to be called again.
    pub fn release(&mut self) -> Result<(), Stuck> {
        let host = self.host.as_mut();
        self.rings.iter_mut().try_for_each(|ring| ring.release(host))?;
        // A message that is not done starts them when it is.
        if self.unfinished.is_none() {
            // What goes wrong with one of them is noted, as it is about none.
            let _ = self.start_all(None);
        }
        Ok(())
    }

    /// Ends the session: halts all rings and lets the memory go. After that it is as new,
    /// for the next connection; counts and the last error stay.
    ///
    /// # Errors
    /// [`Stuck`]: a worker has something in hand; to be called again.
    pub fn end(&mut self) -> Result<(), Stuck> {
        self.unfinished = None;
        self.rest(&Rest::RingsAndMemory)?;
        self.regions.clear();
        self.rings = RingIndex::all(self.pairs).map(Ring::new).collect();
        (self.features, self.protocol, self.mtu) = (None, ProtocolFeatures::NONE, None);
        Ok(())
    }

    /// What was handled so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What is written to of the front end's, by workers and by [`Session::attend`].
    #[must_use]
    pub fn notifiers(&self) -> Vec<Notifier> {
        let of_ring = |ring: &Ring| {
            let each = [(Notice::Call, &ring.call), (Notice::Error, &ring.error)];
            let ring = ring.index.number();
            each.map(|(notice, eventfd)| {
                eventfd.clone().map(|eventfd| Notifier { ring, notice, eventfd })
            })
        };
        self.rings.iter().flat_map(of_ring).flatten().collect()
    }

    /// The session as it is now, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            features: self.features,
            protocol: self.protocol,
            ring_kind: self.features.map(Features::ring_kind),
            rings: self.rings.iter().map(|ring| RingStatus::of(ring, self.features)).collect(),
            memory: self.regions.extent(),
            mtu: self.mtu,
            counts: self.counts,
            last_error: self.last_error.clone(),
        }
    }
}

impl Drop for Session {
    /// A session that is dropped without its end: rings are halted as far as workers let
    /// go of them; what they do not is theirs to keep mapped.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn accepted(features: ProtocolFeatures) -> Result<ProtocolFeatures, Refusal> {
    let strange = features.without(ProtocolFeatures::OFFERED);
    if strange == ProtocolFeatures::NONE { Ok(features) } else { Err(Refusal::Protocol(strange)) }
}

fn eventfd(code: Code, ring: u32, fd: Option<OwnedFd>) -> Result<Option<Eventfd>, Refusal> {
    fd.map(Eventfd::adopt).transpose().map_err(|error| Refusal::Eventfd { code, ring, error })
}
