//! The head of a frame: addresses and the tag stack behind them.
//!
//! Heads up: IEEE 802.1Q-2022 clause 9 (tag formats) before editing. Accessors
//! never judge; [`crate::relay::admit`] judges once.

use super::{Mac, SVid, Tci};

/// Bytes before the first tag or EtherType.
pub const ADDRESSES_BYTES: usize = 12;
/// Bytes of an untagged Ethernet header.
pub const HEADER_BYTES: usize = 14;
/// Bytes of one C- or S-tag.
pub const TAG_BYTES: usize = 4;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// C-tag TPID, 802.1Q-2022 table 9-1.
pub const TPID_C: u16 = 0x8100;
/// S-tag TPID, 802.1Q-2022 table 9-1.
pub const TPID_S: u16 = 0x88a8;
/// E-tag TPID, 802.1BR.
pub const TPID_E: u16 = 0x893f;
/// VN-Tag EtherType (Cisco, before 802.1Qbh).
pub const TPID_VN: u16 = 0x8926;

/// Destination and source of a frame of at least [`HEADER_BYTES`].
///
/// # Panics
/// If the header is shorter.
#[inline]
#[must_use]
pub fn addresses(header: &[u8]) -> (Mac, Mac) {
    let bytes: &[u8; 12] = header.first_chunk().expect("admit refused runts");
    // One load of eight bytes for each address; `from_u64` drops the two others.
    let first = bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let last = bytes.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (Mac::from_u64(first >> 16), Mac::from_u64(last))
}

/// The 16 bits at `offset`, big endian.
#[inline]
#[must_use]
pub fn word(header: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*header.get(offset..)?.first_chunk()?))
}

/// What stands at `offset`, where a tag or an EtherType is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outer {
    /// An EtherType: no tag.
    Untagged,
    /// A C-tag.
    C(Tci),
    /// An S-tag.
    S(Tci),
    /// An E-tag or VN-Tag.
    Extension,
    /// A C- or S-tag cut off before the EtherType behind it.
    Truncated,
}

/// Reads the tag at `offset` of a frame's header.
#[inline]
#[must_use]
pub fn outer(header: &[u8], offset: usize) -> Outer {
    match word(header, offset) {
        Some(TPID_C) => tag(header, offset).map_or(Outer::Truncated, Outer::C),
        Some(TPID_S) => tag(header, offset).map_or(Outer::Truncated, Outer::S),
        Some(TPID_E | TPID_VN) => Outer::Extension,
        _ => Outer::Untagged,
    }
}

/// The TCI of a tag that is followed by a whole EtherType.
#[inline]
fn tag(header: &[u8], offset: usize) -> Option<Tci> {
    word(header, offset + TAG_BYTES)?;
    word(header, offset + 2).map(Tci::from_bits)
}

/// Where the network header begins: behind the EtherType that follows at most
/// `tags_max` C- and S-tags. The EtherType is the [`word`] before it.
#[inline]
#[must_use]
pub fn network_offset(header: &[u8], tags_max: usize) -> usize {
    let mut offset = ADDRESSES_BYTES;
    for _ in 0..tags_max {
        match outer(header, offset) {
            Outer::C(_) | Outer::S(_) => offset += TAG_BYTES,
            Outer::Untagged | Outer::Extension | Outer::Truncated => break,
        }
    }
    offset + 2
}

/// A change to the tags directly behind the addresses: some go, some come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagEdit {
    strip: u8,
    insert_length: u8,
    insert: [u8; 2 * TAG_BYTES],
}

impl TagEdit {
    /// No change.
    pub const NONE: TagEdit = TagEdit { strip: 0, insert_length: 0, insert: [0; 8] };

    /// Takes `tags` (at most two) tags away.
    #[inline]
    #[must_use]
    pub const fn strip(tags: u8) -> TagEdit {
        assert!(tags <= 2);
        TagEdit { strip: tags * TAG_BYTES as u8, ..TagEdit::NONE }
    }

    /// Puts a C-tag outermost, in front of what was inserted so far.
    ///
    /// # Panics
    /// If two tags are inserted already.
    #[inline]
    #[must_use]
    pub fn push_c(self, tci: Tci) -> TagEdit {
        self.push(TPID_C, tci)
    }

    /// Puts an S-tag outermost, its PCP and DEI from `priority`.
    ///
    /// # Panics
    /// If two tags are inserted already.
    #[inline]
    #[must_use]
    pub fn push_s(self, svid: SVid, priority: Tci) -> TagEdit {
        self.push(TPID_S, priority.with_vid(svid.get()))
    }

    #[inline]
    fn push(mut self, tpid: u16, tci: Tci) -> TagEdit {
        assert!(usize::from(self.insert_length) <= TAG_BYTES, "at most two tags are inserted");
        self.insert.copy_within(0..TAG_BYTES, TAG_BYTES);
        self.insert[..2].copy_from_slice(&tpid.to_be_bytes());
        self.insert[2..4].copy_from_slice(&tci.bits().to_be_bytes());
        self.insert_length += TAG_BYTES as u8;
        self
    }

    /// Whether the frame stays as it is.
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.strip == 0 && self.insert_length == 0
    }

    /// Bytes the frame grows by (shrinks, if negative).
    #[inline]
    #[must_use]
    pub fn delta(&self) -> i16 {
        i16::from(self.insert_length) - i16::from(self.strip)
    }

    /// Writes the edited header to `into`, which has room for 8 bytes more than
    /// `header`; says how many bytes it has.
    ///
    /// # Panics
    /// If `into` is too short, or the header ends within what is stripped.
    #[inline]
    pub fn apply(&self, header: &[u8], into: &mut [u8]) -> usize {
        let inserted = usize::from(self.insert_length);
        let rest = &header[ADDRESSES_BYTES + usize::from(self.strip)..];
        into[..ADDRESSES_BYTES].copy_from_slice(&header[..ADDRESSES_BYTES]);
        into[ADDRESSES_BYTES..ADDRESSES_BYTES + inserted].copy_from_slice(&self.insert[..inserted]);
        let start = ADDRESSES_BYTES + inserted;
        into[start..start + rest.len()].copy_from_slice(rest);
        start + rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::specimen::{Specimen, parsed};
    use super::*;
    use crate::wire::offload::Checksum;
    use crate::wire::segment;
    use proptest::prelude::*;

    const ADDRESSES: [u8; 12] = [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];

    /// A frame of these bytes behind the addresses.
    fn frame(rest: &[u8]) -> Vec<u8> {
        [&ADDRESSES[..], rest].concat()
    }

    fn edited(edit: TagEdit, header: &[u8]) -> Vec<u8> {
        let mut into = vec![0xee; header.len() + 8];
        let length = edit.apply(header, &mut into);
        assert!(into[length..].iter().all(|&byte| byte == 0xee), "wrote beyond the header");
        assert_eq!(length as i64 - header.len() as i64, i64::from(edit.delta()));
        into.truncate(length);
        into
    }

    fn svid(id: u16) -> SVid {
        SVid::new(id).unwrap()
    }

    #[test]
    fn an_s_tag_goes_outside() {
        let untagged = frame(&[8, 0, 0x45]);
        let tagged = frame(&[0x88, 0xa8, 0, 100, 8, 0, 0x45]);
        let push = TagEdit::NONE.push_s(svid(100), Tci::default());
        assert_eq!(edited(push, &untagged), tagged);
        assert_eq!(edited(TagEdit::strip(1), &tagged), untagged);
        assert_eq!(edited(TagEdit::NONE, &untagged), untagged);
        assert!(TagEdit::NONE.is_none() && !push.is_none());
    }

    #[test]
    fn an_s_tag_takes_priority_and_drop_eligibility_from_the_c_tag_inside() {
        let c = frame(&[0x81, 0x00, 0xb0, 0x0a, 0x86, 0xdd]);
        let Outer::C(tci) = outer(&c, ADDRESSES_BYTES) else { panic!("a C-tag") };
        let s_and_c = frame(&[0x88, 0xa8, 0xb0, 0xc8, 0x81, 0x00, 0xb0, 0x0a, 0x86, 0xdd]);
        assert_eq!(edited(TagEdit::NONE.push_s(svid(200), tci), &c), s_and_c);
        assert_eq!(edited(TagEdit::strip(2), &s_and_c), frame(&[0x86, 0xdd]));
        assert_eq!(network_offset(&s_and_c, 2), 22);
        assert_eq!(network_offset(&s_and_c, 1), 18);
    }

    #[test]
    fn both_tags_are_inserted_in_one_edit() {
        let tci = Tci::from_bits(0x600a);
        let edit = TagEdit::NONE.push_c(tci).push_s(svid(4094), tci);
        let expected = [0x88, 0xa8, 0x6f, 0xfe, 0x81, 0x00, 0x60, 0x0a, 8, 6];
        assert_eq!(edited(edit, &frame(&[8, 6])), frame(&expected));
        assert_eq!(edit.delta(), 8);
    }

    #[test]
    fn a_priority_tags_vid_is_replaced() {
        let priority = frame(&[0x81, 0x00, 0xe0, 0x00, 8, 0]);
        let Outer::C(tci) = outer(&priority, ADDRESSES_BYTES) else { panic!("a C-tag") };
        let edit = TagEdit::strip(1).push_c(tci.with_vid(7));
        assert_eq!(edited(edit, &priority), frame(&[0x81, 0x00, 0xe0, 0x07, 8, 0]));
        assert_eq!(edit.delta(), 0);
        assert_eq!(edited(TagEdit::strip(1), &priority), frame(&[8, 0]));
    }

    #[test]
    fn tags_are_read_for_what_they_are() {
        let read = |rest: &[u8]| outer(&frame(rest), ADDRESSES_BYTES);
        assert_eq!(read(&[8, 0]), Outer::Untagged);
        assert_eq!(read(&[0x81, 0, 0x20, 1, 8, 0]), Outer::C(Tci::from_bits(0x2001)));
        assert_eq!(read(&[0x88, 0xa8, 0x20, 1, 8, 0]), Outer::S(Tci::from_bits(0x2001)));
        assert_eq!(read(&[0x89, 0x3f, 0, 0, 0, 0, 0, 0]), Outer::Extension);
        assert_eq!(read(&[0x89, 0x26, 0, 0, 0, 0]), Outer::Extension);
        for cut in 2..6 {
            assert_eq!(read(&[0x81, 0, 0x20, 1, 8, 0][..cut]), Outer::Truncated, "{cut}");
        }
        let nested = frame(&[0x81, 0, 0, 1].repeat(1000));
        assert_eq!(network_offset(&nested, 2), 22);
    }

    #[test]
    fn a_tag_in_front_moves_the_checksum_that_is_still_to_be_filled_in() {
        let specimen = Specimen::tcp(100, 0);
        let edit = TagEdit::NONE.push_c(Tci::from_bits(10)).push_s(svid(300), Tci::default());
        let offload = specimen.checksum_offload().shifted(edit.delta());
        assert_eq!(offload.checksum, Checksum::Partial { start: 42, offset: 16 });
        let completed = segment::to_frames(&edited(edit, &specimen.frame()), &offload).unwrap();
        // The same as if the checksum had been filled in first and tagged then.
        assert_eq!(completed, [edited(edit, &specimen.completed())]);
        assert_eq!(parsed(&completed[0]), (vec![300, 10], specimen.payload));
    }

    /// The tag at `at` by the letters of the standard's figures, two octets a time.
    fn spelled(bytes: &[u8], at: usize) -> Outer {
        match bytes.get(at..).unwrap_or_default() {
            &[0x81, 0x00, high, low, _, _, ..] => {
                Outer::C(Tci::from_bits(u16::from_be_bytes([high, low])))
            }
            &[0x88, 0xa8, high, low, _, _, ..] => {
                Outer::S(Tci::from_bits(u16::from_be_bytes([high, low])))
            }
            [0x81, 0x00, ..] | [0x88, 0xa8, ..] => Outer::Truncated,
            [0x89, 0x3f | 0x26, ..] => Outer::Extension,
            _ => Outer::Untagged,
        }
    }

    /// Bytes that are a stack of tags, most of them, cut somewhere.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let tpid =
            prop::sample::select(vec![TPID_C, TPID_S, TPID_C, TPID_S, TPID_E, TPID_VN, 0x0800]);
        let whole = |(tpid, tci): (u16, u16)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
        let tag = prop_oneof![
            8 => (tpid, any::<u16>()).prop_map(whole),
            1 => proptest::collection::vec(any::<u8>(), 0..5),
        ];
        let stack = proptest::collection::vec(tag, 0..8).prop_map(|tags| frame(&tags.concat()));
        let cut = (stack, 0..40_usize).prop_map(|(mut bytes, length)| {
            bytes.truncate(length);
            bytes
        });
        prop_oneof![3 => cut, 1 => proptest::collection::vec(any::<u8>(), 0..60)]
    }

    proptest! {
        #[test]
        fn a_stack_of_tags_is_walked_tag_by_tag(
            bytes in any_bytes(), at in 0..44_usize, tags_max in 0..6_usize
        ) {
            prop_assert_eq!(outer(&bytes, at), spelled(&bytes, at));
            let is_tag = |&tag: &usize| {
                matches!(spelled(&bytes, 12 + 4 * tag), Outer::C(_) | Outer::S(_))
            };
            let tags = (0..tags_max).take_while(is_tag).count();
            prop_assert_eq!(network_offset(&bytes, tags_max), 14 + 4 * tags);
        }

        #[test]
        fn what_was_pushed_is_found_and_stripped(
            rest in proptest::collection::vec(any::<u8>(), 2..116), bits: u16, vid in 2..4095_u16
        ) {
            let (header, tci) = (frame(&rest), Tci::from_bits(bits));
            let both = edited(TagEdit::NONE.push_c(tci).push_s(svid(vid), tci), &header);
            prop_assert_eq!(outer(&both, 12), Outer::S(tci.with_vid(vid)));
            prop_assert_eq!(outer(&both, 16), Outer::C(tci));
            prop_assert_eq!(edited(TagEdit::strip(2), &both), header);
        }

        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0..70_usize
        ) {
            let read = (outer(&bytes, at), word(&bytes, at));
            prop_assert_eq!(read.1.is_none(), at + 2 > bytes.len());
            prop_assert!(read.1.is_some() || read.0 == Outer::Untagged);
            prop_assert!(network_offset(&bytes, 4) <= 14 + 16);
        }
    }
}
