//! VLAN identifiers (IEEE 802.1Q-2022 clause 9.6) as types that cannot be wrong.

use std::fmt;

/// A customer VLAN a configuration can name: 1..=4094.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// The id, if it is in 1..=4094.
    #[must_use]
    pub const fn new(id: u16) -> Option<VlanId> {
        if id >= 1 && id <= 4094 { Some(VlanId(id)) } else { None }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The S-VID of a tagged S-channel: 2..=4094 (1 is the untagged default channel).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SVid(u16);

impl SVid {
    /// The S-VID, if it is in 2..=4094.
    #[must_use]
    pub const fn new(id: u16) -> Option<SVid> {
        if id >= 2 && id <= 4094 { Some(SVid(id)) } else { None }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for SVid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The classified VID that filtering uses: 0 (untagged on a port without a
/// PVID) to 4094.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Vid(u16);

impl Vid {
    /// No VLAN: untagged or priority-tagged where no PVID applies.
    pub const UNTAGGED: Vid = Vid(0);

    /// The VID, if it is below the reserved 4095.
    #[inline]
    #[must_use]
    pub const fn new(id: u16) -> Option<Vid> {
        if id <= 4094 { Some(Vid(id)) } else { None }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<VlanId> for Vid {
    fn from(id: VlanId) -> Vid {
        Vid(id.0)
    }
}

/// Tag control information: PCP (3 bits), DEI (1), VID (12), as in a tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tci(u16);

impl Tci {
    /// The 16 bits of a tag.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u16) -> Tci {
        Tci(bits)
    }

    /// The 16 bits for a tag.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The VID field, 0..=4095.
    #[inline]
    #[must_use]
    pub const fn vid_bits(self) -> u16 {
        self.0 & 0x0fff
    }

    /// The same priority and drop eligibility with another VID.
    #[inline]
    #[must_use]
    pub const fn with_vid(self, vid: u16) -> Tci {
        Tci(self.0 & 0xf000 | vid & 0x0fff)
    }
}

/// A set of VIDs 0..=4094: one bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct VidSet([u64; 64]);

impl VidSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> VidSet {
        VidSet([0; 64])
    }

    /// Adds a VID.
    pub fn insert(&mut self, vid: Vid) {
        self.0[usize::from(vid.0 >> 6) & 63] |= 1 << (vid.0 & 63);
    }

    /// Whether the VID is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, vid: Vid) -> bool {
        self.0[usize::from(vid.0 >> 6) & 63] >> (vid.0 & 63) & 1 == 1
    }

    /// Whether the sets share a VID.
    #[must_use]
    pub fn intersects(&self, other: &VidSet) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

impl Default for VidSet {
    fn default() -> VidSet {
        VidSet::new()
    }
}

impl FromIterator<VlanId> for VidSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(ids: I) -> VidSet {
        let mut set = VidSet::new();
        ids.into_iter().for_each(|id| set.insert(id.into()));
        set
    }
}

impl fmt::Debug for VidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..=4094).filter(|&id| self.contains(Vid(id)))).finish()
    }
}
