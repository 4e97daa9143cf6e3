//! Ids that stay: the same port keeps its numbers whatever else changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hairpin_dataplane::snapshot::{
    Admin, DEVICES_MAX, DeviceId, DomainId, Generation, PORTS_MAX, PortId, VlanPolicy,
};

use crate::config::DeviceConfig;

/// A number, and the last change that its name was wanted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tenancy {
    number: u16,
    wanted: u64,
}

/// Numbers by name. A name that goes gives its number back, to be used again as
/// late as possible.
#[derive(Clone, Debug, Default)]
struct Pool {
    by_name: BTreeMap<Arc<str>, Tenancy>,
    free: VecDeque<u16>,
    next: u16,
}

impl Pool {
    /// The number of a name that a change wants, an unused one if it is new; nothing if `most`
    /// are in use.
    fn number(&mut self, name: &str, change: u64, most: usize) -> Option<u16> {
        if let Some(tenancy) = self.by_name.get_mut(name) {
            tenancy.wanted = change;
            return Some(tenancy.number);
        }
        let number = if usize::from(self.next) < most {
            self.next += 1;
            self.next - 1
        } else {
            self.free.pop_front()?
        };
        self.by_name.insert(name.into(), Tenancy { number, wanted: change });
        Some(number)
    }

    /// Lets go of all names but those that this change wants.
    fn keep(&mut self, change: u64) {
        let free = &mut self.free;
        self.by_name.retain(|_, tenancy| {
            let keep = tenancy.wanted == change;
            if !keep {
                free.push_back(tenancy.number);
            }
            keep
        });
    }
}

/// What learned addresses depend on: when it changes, they no longer count.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// What it is plugged into: behind another device are other stations.
    pub device: Option<DeviceConfig>,
    /// Where the port is.
    pub domain: DomainId,
    /// Up or down, be it that its netdev is.
    pub admin: Admin,
    /// How often its netdev's line fell.
    pub falls: u64,
    /// Its VLANs.
    pub vlan: VlanPolicy,
    /// Where its addresses come from.
    pub sources: Sources,
}

/// Where a port's addresses come from. Which ones, and how many, is no matter: what
/// was learned counts all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sources {
    /// From the configuration: nothing is learned, and nothing counts that was.
    Registered,
    /// From the frames it sends.
    Learned,
}

/// All ids of a switch. A clone is edited while a change is prepared and takes
/// the place of the original when it is committed; both have the same names in memory.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    ports: Pool,
    devices: Pool,
    domains: Pool,
    generations: BTreeMap<PortId, Generation>,
    standings: BTreeMap<Arc<str>, Arc<Standing>>,
    /// Counts the changes, from [`Ids::begin`] to [`Ids::end`].
    change: u64,
}

/// A switch has no more numbers of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

impl Ids {
    /// Starts a change: what is not asked for until [`Ids::end`] is let go.
    pub fn begin(&mut self) {
        self.change += 1;
    }

    /// Ends a change.
    pub fn end(&mut self) {
        let Ids { ports, devices, domains, standings, change, .. } = self;
        [&mut *ports, devices, domains].into_iter().for_each(|pool| pool.keep(*change));
        standings.retain(|name, _| ports.by_name.contains_key(name));
    }

    /// The device of a port or link.
    ///
    /// # Errors
    /// There are [`DEVICES_MAX`] already.
    pub fn device(&mut self, name: &str) -> Result<DeviceId, Exhausted> {
        self.devices.number(name, self.change, DEVICES_MAX).map(DeviceId).ok_or(Exhausted)
    }

    /// The domain of a channel or bridge.
    ///
    /// # Errors
    /// There are [`PORTS_MAX`] already.
    pub fn domain(&mut self, name: &str) -> Result<DomainId, Exhausted> {
        self.domains.number(name, self.change, PORTS_MAX).map(DomainId).ok_or(Exhausted)
    }

    /// The relay port of a port or of a channel's end on its link.
    ///
    /// # Errors
    /// There are [`PORTS_MAX`] already.
    pub fn port(&mut self, name: &str) -> Result<PortId, Exhausted> {
        self.ports.number(name, self.change, PORTS_MAX).map(PortId).ok_or(Exhausted)
    }

    /// The generation of a relay port, raised if what its learned addresses depend
    /// on has changed or the id has a new tenant.
    pub fn generation(&mut self, name: &str, id: PortId, standing: Standing) -> Generation {
        let generation = self.generations.entry(id).or_default();
        if self.standings.get(name).map(|before| &**before) != Some(&standing) {
            generation.0 = generation.0.wrapping_add(1);
            self.standings.insert(name.into(), Arc::new(standing));
        }
        *generation
    }

    /// Has the next compilation raise the generation of a relay port, or of all: what was
    /// learned on it no longer counts then. Whether there is one of that name.
    pub fn flush(&mut self, name: Option<&str>) -> bool {
        match name {
            None => {
                self.standings.clear();
                true
            }
            Some(name) => {
                self.standings.remove(name);
                self.ports.by_name.contains_key(name)
            }
        }
    }

    /// Names of relay ports.
    pub fn port_names(&self) -> impl Iterator<Item = &str> {
        self.ports.by_name.keys().map(|name| &**name)
    }

    /// Who has which relay port, and its generation.
    #[must_use]
    pub fn tenants(&self) -> BTreeMap<PortId, (String, Generation)> {
        let tenant = |(name, tenancy): (&Arc<str>, &Tenancy)| {
            let id = PortId(tenancy.number);
            let generation = self.generations.get(&id).copied().unwrap_or_default();
            (id, (name.to_string(), generation))
        };
        self.ports.by_name.iter().map(tenant).collect()
    }

    /// Which channel or bridge is which domain.
    #[must_use]
    pub fn domain_names(&self) -> BTreeMap<DomainId, String> {
        let by_name = self.domains.by_name.iter();
        by_name.map(|(name, tenancy)| (DomainId(tenancy.number), name.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::wire::VlanId;

    use super::*;

    fn standing() -> Standing {
        Standing {
            device: None,
            domain: DomainId(0),
            admin: Admin::Up,
            falls: 0,
            vlan: VlanPolicy::Transparent,
            sources: Sources::Learned,
        }
    }

    /// One change in which these ports are wanted.
    fn change(ids: &mut Ids, names: &[&str]) -> Vec<(PortId, Generation)> {
        ids.begin();
        let tenant = |ids: &mut Ids, name: &&str| {
            let id = ids.port(name).unwrap();
            (id, ids.generation(name, id, standing()))
        };
        let tenants = names.iter().map(|name| tenant(ids, name)).collect();
        ids.end();
        tenants
    }

    #[test]
    fn ids_stay_while_others_come_and_go() {
        let mut ids = Ids::default();
        let first = change(&mut ids, &["a", "b", "c"]);
        let second = change(&mut ids, &["c", "d", "a"]);
        assert_eq!((second[2], second[0]), (first[0], first[2]));
        assert!(first.iter().all(|tenant| tenant.0 != second[1].0));
    }

    #[test]
    fn a_generation_is_raised_by_what_voids_learned_addresses() {
        let tap = DeviceConfig::Tap { interface: "tap1".to_owned() };
        let others = [
            Standing { device: Some(tap), ..standing() },
            Standing { domain: DomainId(1), ..standing() },
            Standing { admin: Admin::Down, ..standing() },
            Standing { falls: 1, ..standing() },
            Standing { vlan: VlanPolicy::Access(VlanId::new(10).unwrap()), ..standing() },
            Standing { sources: Sources::Registered, ..standing() },
        ];
        for other in others {
            let mut ids = Ids::default();
            let id = ids.port("a").unwrap();
            let before = ids.generation("a", id, standing());
            assert_eq!(ids.generation("a", id, standing()), before);
            let after = ids.generation("a", id, other.clone());
            assert_ne!(after, before, "{other:?}");
            assert_ne!(ids.generation("a", id, standing()), after, "back from {other:?}");
        }
    }

    #[test]
    fn a_flush_raises_the_generation_of_who_is_meant() {
        let mut ids = Ids::default();
        let before = change(&mut ids, &["a", "b"]);
        assert!(ids.flush(Some("a")));
        let after = change(&mut ids, &["a", "b"]);
        assert_ne!(after[0].1, before[0].1);
        assert_eq!(after[1], before[1]);
        assert!(ids.flush(None));
        let last = change(&mut ids, &["a", "b"]);
        assert!(last[0].1 != after[0].1 && last[1].1 != after[1].1);
        assert!(!ids.flush(Some("c")));
    }

    #[test]
    fn a_used_id_returns_with_another_generation() {
        let mut ids =
            Ids { ports: Pool { next: PORTS_MAX as u16, ..Pool::default() }, ..Ids::default() };
        ids.ports.free.push_back(7);
        let first = change(&mut ids, &["a"])[0];
        assert_eq!(change(&mut ids, &[]), []);
        let second = change(&mut ids, &["b"])[0];
        assert_eq!((first.0, second.0), (PortId(7), PortId(7)));
        assert_ne!(first.1, second.1);
    }
}
