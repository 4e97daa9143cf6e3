//! What a switch under test looks like, in plain words that the oracle and the
//! rig both understand, and how it may change.
//!
//! A site plays control's part: it refuses what control would refuse, and
//! raises generations as control does.

use hairpin_dataplane::snapshot::{Admin, Mode};

/// A MAC address in wire order.
pub type Address = [u8; 6];

/// Ports a site has room for.
pub const SLOTS: usize = 8;
/// The MTU of what has no link to take one from.
pub const MTU_DEFAULT: usize = 1500;

/// What has rings and counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Device {
    /// A link, by its index.
    Link(usize),
    /// A port, by its slot.
    Port(usize),
}

/// Where a port is plugged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seat {
    /// A channel of a station link, by its index.
    Channel(usize),
    /// The site's bridge.
    Bridge,
}

/// A port's VLANs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vlan {
    /// Member of every VID.
    Transparent,
    /// Untagged member of one.
    Access(u16),
    /// Tagged member of some, untagged of `native`, which is among them.
    Trunk {
        /// The VIDs.
        members: Vec<u16>,
        /// Where untagged frames belong.
        native: Option<u16>,
    },
}

impl Vlan {
    /// Whether a port with these VLANs is a member of a classified VID.
    #[must_use]
    pub fn contains(&self, vid: u16) -> bool {
        match self {
            Vlan::Transparent => true,
            Vlan::Access(access) => *access == vid,
            Vlan::Trunk { members, .. } => members.contains(&vid),
        }
    }

    fn meets(&self, other: &Vlan) -> bool {
        (0..4095).any(|vid| self.contains(vid) && other.contains(vid))
    }
}

/// A port's addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sources {
    /// These only.
    Registered(Vec<Address>),
    /// Learned, so many at a time.
    Learned {
        /// The limit.
        limit: usize,
    },
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Where it is plugged in.
    pub seat: Seat,
    /// Its mode; without meaning on the bridge.
    pub mode: Mode,
    /// Its VLANs.
    pub vlan: Vlan,
    /// Its addresses.
    pub sources: Sources,
    /// Whether it is up.
    pub admin: Admin,
}

/// What is at the far end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The adjacent bridge.
    Station,
    /// Stations.
    Bridge,
}

/// Whether a link has a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cable {
    /// It has.
    Present,
    /// It is host-local.
    Absent,
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its role.
    pub role: Role,
    /// Its device.
    pub cable: Cable,
    /// Largest payload in bytes.
    pub mtu: usize,
    /// Whether it is up.
    pub admin: Admin,
}

/// Whether a bridge returns a member's frames to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reflection {
    /// It does not.
    Off,
    /// It does, so many group frames a second.
    On {
        /// The rate, and the burst.
        group_rate: u64,
    },
}

/// What a channel is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Ports of a station link.
    Station,
    /// A member of the bridge.
    Member(Reflection),
    /// Nothing: a channel of a bridge link outside the bridge.
    Idle,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its link's index.
    pub link: usize,
    /// Its S-VID; none for the default channel.
    pub svid: Option<u16>,
    /// What it is for.
    pub purpose: Purpose,
}

/// A switch under test.
#[derive(Clone, Debug)]
pub struct Site {
    /// Links.
    pub links: Vec<Link>,
    /// Channels, the default ones included.
    pub channels: Vec<Channel>,
    /// Ports by slot.
    pub ports: Vec<Option<Port>>,
    /// Which tenant of its slot a port is.
    pub port_generations: Vec<u16>,
    /// How often a channel was flushed.
    pub channel_generations: Vec<u16>,
    /// How long a learned address lives unused.
    pub ageing_ms: u64,
}

/// A change to a site.
#[derive(Clone, Debug)]
pub enum Change {
    /// A port comes.
    Plug(usize, Port),
    /// A port goes.
    Unplug(usize),
    /// A port moves.
    Seat(usize, Seat),
    /// A port gets another mode.
    Mode(usize, Mode),
    /// A port gets other VLANs.
    Vlan(usize, Vlan),
    /// A port gets other addresses.
    Sources(usize, Sources),
    /// A port goes up or down.
    Admin(usize, Admin),
    /// A link goes up or down.
    LinkAdmin(usize, Admin),
    /// A member of the bridge gets another reflective relay.
    Reflection(usize, Reflection),
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It holds.
    Done,
    /// The site is as before.
    Refused,
}

impl Site {
    /// Applies a change, or refuses it as control would: a second port in a
    /// `direct` channel, an address registered twice in a VLAN, or nothing there
    /// to be changed.
    pub fn apply(&mut self, change: &Change) -> Applied {
        let mut next = self.clone();
        if next.try_apply(change).is_none() || !next.is_valid() {
            return Applied::Refused;
        }
        next.raise_generations(self);
        *self = next;
        Applied::Done
    }

    fn try_apply(&mut self, change: &Change) -> Option<()> {
        match change {
            Change::Plug(slot, port) => {
                let place = self.ports.get_mut(*slot).filter(|place| place.is_none())?;
                *place = Some(port.clone());
            }
            Change::Unplug(slot) => drop(self.ports.get_mut(*slot)?.take()?),
            Change::Seat(slot, seat) => self.port_mut(*slot)?.seat = *seat,
            Change::Mode(slot, mode) => self.port_mut(*slot)?.mode = *mode,
            Change::Vlan(slot, vlan) => self.port_mut(*slot)?.vlan = vlan.clone(),
            Change::Sources(slot, sources) => self.port_mut(*slot)?.sources = sources.clone(),
            Change::Admin(slot, admin) => self.port_mut(*slot)?.admin = *admin,
            Change::LinkAdmin(link, admin) => self.links.get_mut(*link)?.admin = *admin,
            Change::Reflection(channel, reflection) => {
                match &mut self.channels.get_mut(*channel)?.purpose {
                    Purpose::Member(old) => *old = *reflection,
                    Purpose::Station | Purpose::Idle => return None,
                }
            }
        }
        Some(())
    }

    /// A generation is raised when its port goes down, changes its domain or VLANs,
    /// begins or ceases to learn, or when the slot gets a new tenant; a member's when
    /// its link goes down.
    fn raise_generations(&mut self, before: &Site) {
        for slot in 0..self.ports.len() {
            let tenancy = |site: &Site| {
                site.port(slot).filter(|port| port.admin == Admin::Up).map(|port| {
                    let learns = matches!(port.sources, Sources::Learned { .. });
                    (port.seat, port.vlan.clone(), learns)
                })
            };
            if tenancy(self) != tenancy(before) {
                self.port_generations[slot] += 1;
            }
        }
        for channel in 0..self.channels.len() {
            let link = self.channels[channel].link;
            if self.links[link].admin != before.links[link].admin {
                self.channel_generations[channel] += 1;
            }
        }
    }

    fn is_valid(&self) -> bool {
        (0..self.channels.len()).all(|channel| {
            let mut ports = self.ports_at(Seat::Channel(channel));
            ports.len() < 2 || ports.all(|(_, port)| port.mode != Mode::Direct)
        }) && (0..self.ports.len()).all(|a| (0..a).all(|b| !self.claims_collide(a, b)))
    }

    fn claims_collide(&self, a: usize, b: usize) -> bool {
        let (Some(a), Some(b)) = (self.port(a), self.port(b)) else { return false };
        let (Sources::Registered(ours), Sources::Registered(theirs)) = (&a.sources, &b.sources)
        else {
            return false;
        };
        a.seat == b.seat && ours.iter().any(|mac| theirs.contains(mac)) && a.vlan.meets(&b.vlan)
    }

    /// The port in a slot.
    #[must_use]
    pub fn port(&self, slot: usize) -> Option<&Port> {
        self.ports.get(slot)?.as_ref()
    }

    fn port_mut(&mut self, slot: usize) -> Option<&mut Port> {
        self.ports.get_mut(slot)?.as_mut()
    }

    /// The ports plugged in somewhere, with their slots.
    pub fn ports_at(&self, seat: Seat) -> std::vec::IntoIter<(usize, &Port)> {
        let here = |(slot, port): (usize, &'_ Option<Port>)| {
            port.as_ref().filter(|port| port.seat == seat).map(|_| slot)
        };
        let slots: Vec<usize> = self.ports.iter().enumerate().filter_map(here).collect();
        let ports: Vec<_> =
            slots.into_iter().filter_map(|slot| Some((slot, self.port(slot)?))).collect();
        ports.into_iter()
    }

    /// The channels that are members of the bridge.
    #[must_use]
    pub fn members(&self) -> Vec<usize> {
        (0..self.channels.len())
            .filter(|&channel| matches!(self.channels[channel].purpose, Purpose::Member(_)))
            .collect()
    }

    /// The `direct` port of a channel, if it has one.
    #[must_use]
    pub fn direct_port(&self, channel: usize) -> Option<usize> {
        self.ports_at(Seat::Channel(channel))
            .find(|(_, port)| port.mode == Mode::Direct)
            .map(|(slot, _)| slot)
    }

    /// Largest payload of the ports plugged in somewhere.
    #[must_use]
    pub fn mtu_at(&self, seat: Seat) -> usize {
        match seat {
            Seat::Channel(channel) => self.links[self.channels[channel].link].mtu,
            Seat::Bridge => {
                let link_mtu = |&channel: &usize| self.links[self.channels[channel].link].mtu;
                self.members().iter().map(link_mtu).min().unwrap_or(MTU_DEFAULT)
            }
        }
    }

    /// Whether frames are pulled from a device.
    #[must_use]
    pub fn admin_of(&self, device: Device) -> Admin {
        match device {
            Device::Link(link) => self.links[link].admin,
            Device::Port(slot) => self.port(slot).map_or(Admin::Down, |port| port.admin),
        }
    }

    /// Every device there can be.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let wired = |link: &usize| self.links[*link].cable == Cable::Present;
        let links = (0..self.links.len()).filter(wired).map(Device::Link);
        links.chain((0..self.ports.len()).map(Device::Port)).collect()
    }
}
