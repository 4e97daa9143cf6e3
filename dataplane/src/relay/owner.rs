//! Whose an address is: registered first, then learned; and what a frame's source
//! leads to.

use super::fdb::{Address, Binding, Learn, Learned, REFRESH_MS, Table, Tenant};
use super::{Admitted, Relay};
use crate::ledger::DropReason;
use crate::snapshot::{Admin, Mode, PortId, RelayPort, Role, Snapshot};
use crate::wire::Mac;

/// How long a learned address must be unused before the uplink may take it, in
/// milliseconds.
pub const RELEASE_IDLE_MS: u32 = 1000;

/// Where a frame's destination is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// It is a group.
    Group,
    /// This relay port owns it.
    Owned(PortId, Role),
    /// Nobody here owns it.
    Unknown,
}

/// Who owns the source of a frame from an uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nobody here.
    Foreign,
    /// This port, whose mode says who had the frame already.
    Local(PortId, Mode),
}

impl<T: Table> Relay<'_, T> {
    /// Which port of the frame's domain registered this address for the frame's VID.
    #[inline(always)]
    pub(super) fn registered(&self, frame: &Admitted, mac: Mac) -> Option<PortId> {
        let hash = self.snapshot.registered.hash(frame.domain, mac);
        let is_member =
            |id| self.snapshot.port(id).is_some_and(|port| port.vlan.contains(frame.vid));
        self.snapshot.registered.find(hash, frame.domain, mac, frame.vid, is_member)
    }

    /// The entry of an address that counts: its port is up, of the same generation,
    /// and used it less than the ageing time ago.
    #[inline(never)]
    pub(super) fn learned(&self, hash: u64, address: Address) -> Option<Learned> {
        let learned = self.fdb.find(hash, address, self.now_ms)?;
        let counts = u64::from(learned.idle_ms) < self.snapshot.ageing_ms
            && is_tenant(self.snapshot, learned.tenant);
        counts.then_some(learned)
    }
}

/// Asks for what the source's lookups will read.
#[inline]
pub(super) fn prefetch_source<T: Table>(relay: &Relay<'_, T>, frame: &Admitted) {
    let registered = &relay.snapshot.registered;
    registered.prefetch(registered.hash(frame.domain, frame.source));
    relay.fdb.prefetch(relay.fdb.hash(frame.address(frame.source)));
}

/// Asks for what the lookup of a station's address will read that nobody registered.
#[inline]
pub(super) fn prefetch_destination<T: Table>(relay: &Relay<'_, T>, frame: &Admitted) {
    relay.fdb.prefetch(relay.fdb.hash(frame.address(frame.destination)));
}

/// Whether learned addresses of this tenant count.
#[inline]
#[must_use]
pub fn is_tenant(snapshot: &Snapshot, tenant: Tenant) -> bool {
    snapshot
        .port(tenant.port)
        .is_some_and(|port| port.generation == tenant.generation && port.admin == Admin::Up)
}

/// Where a frame's destination is, which this port registered, if any did.
#[inline(always)]
pub(super) fn destination<T: Table>(
    relay: &Relay<'_, T>,
    frame: &Admitted,
    registered: Option<PortId>,
) -> Destination {
    if frame.destination.is_group() {
        return Destination::Group;
    }
    let owner = registered.or_else(|| {
        let address = frame.address(frame.destination);
        let learned = relay.learned(relay.fdb.hash(address), address)?;
        Some(learned.tenant.port)
    });
    let known = owner.and_then(|id| Some((id, relay.snapshot.port(id)?.role)));
    known.map_or(Destination::Unknown, |(id, role)| Destination::Owned(id, role))
}

/// What the source of a frame leads to that came in by this port, which learns.
///
/// # Errors
/// [`DropReason::SourceRegisteredElsewhere`].
#[inline]
pub(super) fn learn_source<T: Table>(
    relay: &Relay<'_, T>,
    port: &RelayPort,
    limit: u32,
    frame: &Admitted,
) -> Result<Learn, DropReason> {
    if relay.registered(frame, frame.source).is_some() {
        return Err(DropReason::SourceRegisteredElsewhere);
    }
    let tenant = Tenant { port: frame.ingress, generation: port.generation };
    let address = frame.address(frame.source);
    let hash = relay.fdb.hash(address);
    let binding = Binding { hash, address, tenant, limit };
    Ok(match relay.learned(hash, address) {
        None => Learn::New(binding),
        Some(known) if known.tenant != tenant => Learn::Move(binding),
        Some(known) if known.idle_ms >= REFRESH_MS => Learn::Refresh(known.slot),
        Some(_) => Learn::Nothing,
    })
}

/// Who owns the source of a frame from the uplink, and whether its port loses it
/// by that: a learned address that its port has not used for a second has moved
/// away (a migration, VRRP).
#[inline]
pub(super) fn source_from_uplink<T: Table>(
    relay: &Relay<'_, T>,
    frame: &Admitted,
) -> (Source, Learn) {
    let mode = |id| match relay.snapshot.port(id)?.role {
        Role::Station(mode) => Some(Source::Local(id, mode)),
        _ => None,
    };
    if let Some(id) = relay.registered(frame, frame.source) {
        return (mode(id).unwrap_or(Source::Foreign), Learn::Nothing);
    }
    let address = frame.address(frame.source);
    let hash = relay.fdb.hash(address);
    match relay.learned(hash, address) {
        Some(Learned { tenant, idle_ms, .. }) if idle_ms >= RELEASE_IDLE_MS => {
            (Source::Foreign, Learn::Release { hash, address, tenant })
        }
        Some(known) => (mode(known.tenant.port).unwrap_or(Source::Foreign), Learn::Nothing),
        None => (Source::Foreign, Learn::Nothing),
    }
}
