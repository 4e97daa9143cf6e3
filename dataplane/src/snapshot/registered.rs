//! The addresses that ports registered: built by control, read by workers.
//!
//! An open-addressed table, at most a quarter full, of (domain, address). Ports may
//! share an address if their VLANs are disjoint; such entries stand one behind
//! the other and the lookup takes the one whose port is a member of the VID.

use std::num::NonZeroU64;

use super::keyed::Secret;
use super::{DomainId, PortId};
use crate::sys::prefetch::prefetch_read;
use crate::wire::{Mac, Vid};

/// In which VLANs a registered address is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In every VID: the port is transparent.
    Every,
    /// In one: an access port's.
    Only(Vid),
    /// In those that its trunk port is a member of.
    Members,
}

/// One registered address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The address space.
    pub domain: DomainId,
    /// The address, a station's.
    pub mac: Mac,
    /// Who registered it.
    pub port: PortId,
    /// Where it is valid.
    pub scope: Scope,
}

/// What the table finds entries by: domain and address in one word. Never zero,
/// as no station has the address zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(NonZeroU64);

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    port: PortId,
    scope: Scope,
}

/// The table.
#[derive(Debug)]
pub struct Registered {
    /// A power of two of them, at least three quarters of them empty.
    slots: Box<[Option<Entry>]>,
    secret: Secret,
}

const _: () = assert!(size_of::<Option<Entry>>() == 16, "four slots to a cache line");

/// So many that the few addresses of a small site hardly ever collide.
const SLOTS_MIN: usize = 64;

#[inline]
fn word(domain: DomainId, mac: Mac) -> u64 {
    u64::from(domain.0) << 48 | mac.to_u64()
}

impl Registered {
    /// A table of these registrations; those of no station's address are left out.
    #[must_use]
    pub fn new(registrations: &[Registration]) -> Registered {
        let count = (4 * registrations.len()).next_power_of_two().max(SLOTS_MIN);
        let mut table =
            Registered { slots: vec![None; count].into_boxed_slice(), secret: Secret::random() };
        registrations.iter().for_each(|registration| table.insert(registration));
        table
    }

    fn insert(&mut self, registration: &Registration) {
        let &Registration { domain, mac, port, scope } = registration;
        let Some(number) = NonZeroU64::new(word(domain, mac)).filter(|_| mac.is_station()) else {
            return;
        };
        let entry = Entry { key: Key(number), port, scope };
        let start = self.start(self.hash(domain, mac));
        let (behind, ahead) = self.slots.split_at_mut(start);
        let free = ahead.iter_mut().chain(behind).find(|slot| slot.is_none());
        *free.expect("most slots stay empty") = Some(entry);
    }

    /// The hash to look an address up by.
    #[inline]
    #[must_use]
    pub fn hash(&self, domain: DomainId, mac: Mac) -> u64 {
        self.secret.hash(word(domain, mac), 0)
    }

    #[inline]
    fn start(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// Asks for the line that [`Registered::find`] will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.start(hash)) {
            prefetch_read(slot);
        }
    }

    /// Which port registered the address for this VID. `is_member` says whether a
    /// trunk port is a member of it.
    #[inline(always)]
    pub fn find(
        &self,
        hash: u64,
        domain: DomainId,
        mac: Mac,
        vid: Vid,
        is_member: impl Fn(PortId) -> bool,
    ) -> Option<PortId> {
        let wanted = word(domain, mac);
        let mut index = self.start(hash);
        loop {
            let entry = self.slots.get(index)?.as_ref()?;
            if entry.key.0.get() == wanted && entry.scope.holds(vid, || is_member(entry.port)) {
                return Some(entry.port);
            }
            index = (index + 1) & (self.slots.len() - 1);
        }
    }
}

impl Scope {
    #[inline(always)]
    fn holds(self, vid: Vid, is_member: impl Fn() -> bool) -> bool {
        match self {
            Scope::Every => true,
            Scope::Only(only) => only == vid,
            Scope::Members => is_member(),
        }
    }
}

impl Default for Registered {
    fn default() -> Registered {
        Registered::new(&[])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registration() -> impl Strategy<Value = Registration> {
        let scope = prop_oneof![
            Just(Scope::Every),
            (0..4_u16).prop_map(|vid| Scope::Only(Vid::new(vid).unwrap())),
            Just(Scope::Members),
        ];
        (0..3_u16, 1..30_u64, 0..20_u16, scope).prop_map(|(domain, mac, port, scope)| {
            let (domain, mac) = (DomainId(domain), Mac::from_u64(mac << 8));
            Registration { domain, mac, port: PortId(port), scope }
        })
    }

    /// Trunk ports are members of the VIDs that their number divides.
    fn is_member(port: PortId, vid: Vid) -> bool {
        vid.get().is_multiple_of(port.0 + 1)
    }

    fn is_valid(registration: &Registration, vid: Vid) -> bool {
        match registration.scope {
            Scope::Every => true,
            Scope::Only(only) => only == vid,
            Scope::Members => is_member(registration.port, vid),
        }
    }

    proptest! {
        #[test]
        fn the_table_finds_what_a_list_finds(
            registrations in prop::collection::vec(registration(), 0..80),
            domain in 0..3_u16,
            mac in 0..30_u64,
            vid in 0..4_u16,
        ) {
            let table = Registered::new(&registrations);
            let (domain, mac) = (DomainId(domain), Mac::from_u64(mac << 8));
            let vid = Vid::new(vid).unwrap();
            let hash = table.hash(domain, mac);
            table.prefetch(hash);
            let found = table.find(hash, domain, mac, vid, |port| is_member(port, vid));
            let naive = registrations
                .iter()
                .find(|it| it.domain == domain && it.mac == mac && is_valid(it, vid));
            prop_assert_eq!(found, naive.map(|it| it.port));
        }
    }

    #[test]
    fn no_station_s_address_is_ever_found() {
        let group = Mac::BROADCAST;
        let registration =
            |mac| Registration { domain: DomainId(0), mac, port: PortId(0), scope: Scope::Every };
        let table = Registered::new(&[registration(group), registration(Mac::ZERO)]);
        for mac in [group, Mac::ZERO] {
            let hash = table.hash(DomainId(0), mac);
            assert_eq!(table.find(hash, DomainId(0), mac, Vid::UNTAGGED, |_| true), None);
        }
    }
}
