//! What a session knows of one ring.

use std::sync::Arc;

use super::error::RingTrouble;
use crate::port::vhost_user::features::{Features, NetHeader};
use crate::port::vhost_user::message::Addresses;
use crate::port::vhost_user::queue::RingKind;
use crate::port::vhost_user::regions::Regions;
use crate::port::vhost_user::ring::{RingHost, RingIndex, Service, Start, Stuck};
use crate::sys::eventfd::Eventfd;
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::virtqueue::{Layout, Position, RingFault, Terms, packed};

/// The position of a packed ring that was never used: both laps are the first.
const PACKED_START: u32 = 0x8000_8000;
/// Where a packed descriptor has its flags, in bytes.
const FLAGS_BYTE: u64 = 14;
/// Where the used index is in a split ring's used ring.
const USED_INDEX_BYTE: u64 = 2;

/// How a ring's driver tells of buffers.
#[derive(Clone, Debug)]
pub(super) enum Kick {
    /// That was not said yet: the ring is not to run.
    Awaited,
    /// Not at all.
    Polled,
    /// By this.
    By(Arc<Eventfd>),
}

/// Where a ring is to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    /// At its beginning.
    Beginning,
    /// As the front end said.
    Told(u32),
    /// Where it was halted.
    Stood(Position),
}

/// Whether a ring runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    /// It does not; it is started when it can be.
    Halted,
    /// It does.
    Running,
    /// It did, and is to be halted: nobody takes it up any more, but its worker still has
    /// it in hand.
    Leaving,
    /// It cannot with what is known; something has to change first.
    Failed(RingTrouble),
    /// Its driver broke it, or its memory was cut short; it has to be set up anew. It was
    /// not halted yet.
    Broken(RingFault),
    /// As `Broken`, and halted.
    BrokenHalted(RingFault),
}

/// Whether a ring runs from where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Footing {
    /// As far as is known.
    Sure,
    /// It was to start at its beginning, but was used before by somebody who did not say how
    /// far: a packed ring tells where it stands to its device only, and its driver may now
    /// wait for what is at another place.
    Doubtful,
}

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) index: RingIndex,
    pub(super) size: Option<u16>,
    pub(super) addresses: Option<Addresses>,
    pub(super) base: Base,
    pub(super) kick: Kick,
    pub(super) call: Option<Arc<Eventfd>>,
    pub(super) error: Option<Arc<Eventfd>>,
    /// As said, if it was.
    pub(super) service: Option<Service>,
    pub(super) run: Run,
    pub(super) footing: Footing,
}

/// What all rings of a device share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub(super) features: Features,
    pub(super) regions: &'a Regions,
    pub(super) memory: &'a Arc<Memory>,
}

impl Ring {
    pub(super) fn new(index: RingIndex) -> Ring {
        Ring {
            index,
            size: None,
            addresses: None,
            base: Base::Beginning,
            kick: Kick::Awaited,
            call: None,
            error: None,
            service: None,
            run: Run::Halted,
            footing: Footing::Sure,
        }
    }

    /// Has it not run any more; notes where it stood.
    pub(super) fn halt(&mut self, host: &mut dyn RingHost) -> Result<(), Stuck> {
        let (leaving, halted) = match self.run {
            Run::Running | Run::Leaving => (Run::Leaving, Run::Halted),
            Run::Broken(fault) => (self.run, Run::BrokenHalted(fault)),
            Run::Halted | Run::Failed(_) | Run::BrokenHalted(_) => return Ok(()),
        };
        self.run = leaving;
        if let Some(position) = host.halt(self.index)? {
            self.base = Base::Stood(position);
        }
        self.run = halted;
        Ok(())
    }

    /// Something changed: what failed may work now.
    pub(super) fn reconsider(&mut self) {
        if let Run::Failed(_) = self.run {
            self.run = Run::Halted;
        }
    }

    /// It is set up anew: what was broken may work now.
    pub(super) fn mend(&mut self) {
        if let Run::Failed(_) | Run::BrokenHalted(_) = self.run {
            self.run = Run::Halted;
        }
    }

    /// Has it run again where it stood, if it is broken, once it is started.
    pub(super) fn release(&mut self, host: &mut dyn RingHost) -> Result<(), Stuck> {
        if let Run::Broken(_) | Run::BrokenHalted(_) = self.run {
            self.halt(host)?;
            self.mend();
        }
        Ok(())
    }

    /// Starts it, if it does not run, and all that it needs is known.
    pub(super) fn start(
        &mut self,
        ground: Ground<'_>,
        host: &mut dyn RingHost,
    ) -> Result<(), RingTrouble> {
        let (Run::Halted, Some(size), Some(addresses)) = (self.run, self.size, self.addresses)
        else {
            return Ok(());
        };
        let kick = match &self.kick {
            Kick::Awaited => return Ok(()),
            Kick::Polled => None,
            Kick::By(kick) => Some(Arc::clone(kick)),
        };
        let mut footing = self.footing;
        let outcome = self.terms(ground, size, addresses).and_then(|terms| {
            if !matches!(self.base, Base::Stood(_)) {
                footing = footing_of(ground.features.ring_kind(), &terms);
            }
            let start = Start {
                kind: ground.features.ring_kind(),
                terms,
                service: self.service(ground.features),
                headers: ground.features.headers(),
                accepts: ground.features.accepts(),
                kick,
                call: self.call.clone(),
            };
            Ok(host.start(self.index, start)?)
        });
        self.footing = footing;
        self.run = outcome.map_or_else(Run::Failed, |()| Run::Running);
        outcome
    }

    /// Whether its frames are wanted. Without protocol features nobody can say so, and
    /// they are.
    pub(super) fn service(&self, features: Features) -> Service {
        let unsaid = match features.has(Features::PROTOCOL_FEATURES) {
            true => Service::Disabled,
            false => Service::Enabled,
        };
        self.service.unwrap_or(unsaid)
    }

    fn terms(
        &self,
        Ground { features, regions, memory }: Ground<'_>,
        size: u16,
        addresses: Addresses,
    ) -> Result<Terms, RingTrouble> {
        if features.header() == NetHeader::Ten {
            return Err(RingTrouble::ShortHeader);
        }
        if memory.is_poisoned() {
            return Err(RingTrouble::Memory);
        }
        let guest = |user| regions.translate(user).ok_or(RingTrouble::Untranslated(user));
        let layout = Layout {
            size,
            descriptors: guest(addresses.descriptors)?,
            driver: guest(addresses.driver)?,
            device: guest(addresses.device)?,
        };
        Ok(Terms {
            memory: Arc::clone(memory),
            layout,
            position: self.position(features.ring_kind(), memory, layout),
            order: features.order(),
            merge: features.merge(),
            indirect: features.indirect(),
            wishes: features.wishes(),
        })
    }

    /// Where to start. A split ring's used index is in memory, and is believed more than
    /// what the front end says: one that comes back after we were restarted may know no
    /// better than 0 (DPDK's virtio-user), and a ring's descriptors that were taken but
    /// not given back are to be taken again.
    fn position(&self, kind: RingKind, memory: &Memory, layout: Layout) -> Position {
        let told = match (self.base, kind) {
            (Base::Stood(position), _) => return position,
            (Base::Told(base), _) => base,
            (Base::Beginning, RingKind::Split) => 0,
            (Base::Beginning, RingKind::Packed) => PACKED_START,
        };
        let (low, high) = (told as u16, (told >> 16) as u16);
        match kind {
            RingKind::Split => {
                let used = used_index(memory, layout).unwrap_or(low);
                Position { available: used, used }
            }
            // Not said by all: DPDK's virtio-user gives the available side only.
            RingKind::Packed if high == 0 => Position { available: low, used: low },
            RingKind::Packed => Position { available: low, used: high },
        }
    }

    /// Where it stands, as [`Request::GetVringBase`](super::Request) is answered.
    pub(super) fn base(&self, kind: RingKind) -> u32 {
        match (self.base, kind) {
            (Base::Told(base), _) => base,
            (Base::Beginning, RingKind::Split) => 0,
            (Base::Beginning, RingKind::Packed) => PACKED_START,
            (Base::Stood(position), RingKind::Split) => u32::from(position.available),
            (Base::Stood(position), RingKind::Packed) => {
                u32::from(position.available) | u32::from(position.used) << 16
            }
        }
    }
}

/// Whether a ring that is to start at its beginning was never used, if it is a packed one. In
/// its first lap a driver sets one of the two bits of a descriptor (virtio 1.2, 2.8.1), and the
/// other one is a device's or of a later lap.
fn footing_of(kind: RingKind, terms: &Terms) -> Footing {
    let beginning = Position { available: PACKED_START as u16, used: PACKED_START as u16 };
    let Terms { memory, layout, position, .. } = terms;
    let mut hint = RegionHint::default();
    let mut flags = |entry: u16| {
        let at = layout.descriptors.checked_add(u64::from(entry) * 16 + FLAGS_BYTE)?;
        let mut flags = [0; 2];
        memory.place(&mut hint, at, 2)?.read(&mut flags);
        Some(u16::from_le_bytes(flags))
    };
    let was_used = |entry| flags(entry).is_some_and(|flags| flags & packed::USED != 0);
    let begins = kind == RingKind::Packed && *position == beginning;
    if begins && (0..layout.size).any(was_used) { Footing::Doubtful } else { Footing::Sure }
}

/// What a split ring's used index is.
fn used_index(memory: &Memory, layout: Layout) -> Option<u16> {
    let at = layout.device.checked_add(USED_INDEX_BYTE)?;
    let mut index = [0; 2];
    memory.place(&mut RegionHint::default(), at, 2)?.read(&mut index);
    Some(u16::from_le_bytes(index))
}
