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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_type_takes_the_numbers_of_its_range() {
        for id in 0..=u16::MAX {
            let within = |first: u16, last: u16| (first <= id && id <= last).then_some(id);
            assert_eq!(VlanId::new(id).map(VlanId::get), within(1, 4094));
            assert_eq!(SVid::new(id).map(SVid::get), within(2, 4094));
            assert_eq!(Vid::new(id).map(Vid::get), within(0, 4094));
            assert_eq!(VlanId::new(id).map(|id| Vid::from(id).get()), within(1, 4094));
            assert_eq!(
                VlanId::new(id).map(|id| id.to_string()),
                within(1, 4094).map(|id| id.to_string())
            );
            assert_eq!(
                SVid::new(id).map(|id| id.to_string()),
                within(2, 4094).map(|id| id.to_string())
            );
        }
    }

    fn set_of(ids: &BTreeSet<u16>) -> VidSet {
        let mut set = VidSet::new();
        ids.iter().for_each(|&id| set.insert(Vid::new(id).unwrap()));
        set
    }

    /// A few VIDs, and those at the ends of the words that hold them.
    fn any_ids() -> impl Strategy<Value = BTreeSet<u16>> {
        let id =
            prop_oneof![0..=4094_u16, prop::sample::select(vec![0, 1, 63, 64, 4031, 4032, 4094])];
        btree_set(id, 0..40)
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(one in any_ids(), other in any_ids()) {
            let (set, others) = (set_of(&one), set_of(&other));
            for id in 0..=4094 {
                prop_assert_eq!(set.contains(Vid::new(id).unwrap()), one.contains(&id), "{}", id);
            }
            prop_assert_eq!(set.intersects(&others), !one.is_disjoint(&other));
            prop_assert_eq!(set == others, one == other);
            prop_assert_eq!(format!("{set:?}"), format!("{one:?}"));
            let named: BTreeSet<u16> = one.into_iter().filter(|&id| id > 0).collect();
            let collected: VidSet = named.iter().filter_map(|&id| VlanId::new(id)).collect();
            prop_assert_eq!(collected, set_of(&named));
        }

        #[test]
        fn a_tag_keeps_its_priority_whatever_its_vid(bits: u16, vid: u16) {
            let tci = Tci::from_bits(bits);
            prop_assert_eq!(tci.bits(), bits);
            prop_assert_eq!(tci.vid_bits(), bits % 4096);
            let other = tci.with_vid(vid);
            prop_assert_eq!((other.bits() / 4096, other.vid_bits()), (bits / 4096, vid % 4096));
            prop_assert_eq!(other.with_vid(tci.vid_bits()), tci);
        }
    }
}
