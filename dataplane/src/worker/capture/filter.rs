//! Which frames a capture wants: a predicate over what a worker knows of a frame anyway.
//!
//! It looks at the private header only, so a frame that is not wanted costs no byte of the
//! ring and none of the sender's memory.

use crate::ledger::DropReason;
use crate::port::pcapng::Direction;
use crate::wire::ethernet::{self, ADDRESSES_BYTES, HEADER_BYTES, Outer, TAG_BYTES};
use crate::wire::{Mac, Vid};

/// Tags that are looked behind for an EtherType, or a C-tag.
const TAGS_MAX: usize = 2;

/// Which frames are wanted: those to which all of this applies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Which way they went.
    pub ways: Ways,
    /// What became of them.
    pub fates: Fates,
    /// Their source or destination is one of these; none: any.
    pub hosts: Box<[Mac]>,
    /// The VID of their C-tag, behind an S-tag if they have one; 0 where there is none.
    pub vid: Option<Vid>,
    /// Their EtherType, behind up to two tags.
    pub ethertype: Option<u16>,
}

/// Which way frames went, seen from the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ways {
    /// Either.
    #[default]
    Both,
    /// From the device into the switch.
    Inbound,
    /// From the switch to the device.
    Outbound,
}

/// What became of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fates {
    /// Whatever did.
    #[default]
    Any,
    /// They were dropped, for one of these reasons.
    Dropped(Reasons),
}

/// A set of drop reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reasons(u64);

impl Reasons {
    /// All of them.
    pub const ALL: Reasons = Reasons(u64::MAX >> (u64::BITS as usize - DropReason::COUNT));

    /// Whether a reason is one of them.
    #[inline]
    #[must_use]
    pub fn contains(self, reason: DropReason) -> bool {
        self.0 >> (reason as u8) & 1 == 1
    }
}

impl FromIterator<DropReason> for Reasons {
    fn from_iter<I: IntoIterator<Item = DropReason>>(reasons: I) -> Reasons {
        Reasons(reasons.into_iter().fold(0, |set, reason| set | 1 << (reason as u8)))
    }
}

impl Filter {
    /// Whether a frame is wanted, given which way it went, why it was dropped if it was, and
    /// its private first bytes: none of a frame that could not be viewed.
    #[must_use]
    pub fn wants(&self, way: Direction, dropped: Option<DropReason>, header: &[u8]) -> bool {
        self.ways.contain(way)
            && self.fates.contain(dropped)
            && self.wants_host(header)
            && self.vid.is_none_or(|wanted| vid(header) == Some(wanted))
            && self.ethertype.is_none_or(|wanted| ethertype(header) == Some(wanted))
    }

    fn wants_host(&self, header: &[u8]) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        if header.len() < ADDRESSES_BYTES {
            return false;
        }
        let (destination, source) = ethernet::addresses(header);
        self.hosts.iter().any(|host| *host == destination || *host == source)
    }
}

impl Ways {
    fn contain(self, way: Direction) -> bool {
        match self {
            Ways::Both => true,
            Ways::Inbound => way == Direction::Inbound,
            Ways::Outbound => way == Direction::Outbound,
        }
    }
}

impl Fates {
    fn contain(self, dropped: Option<DropReason>) -> bool {
        match self {
            Fates::Any => true,
            Fates::Dropped(reasons) => dropped.is_some_and(|reason| reasons.contains(reason)),
        }
    }
}

/// The EtherType of a frame behind up to two tags, if it is whole.
#[must_use]
pub fn ethertype(header: &[u8]) -> Option<u16> {
    ethernet::word(header, ethernet::network_offset(header, TAGS_MAX) - 2)
}

/// The VID of a frame's C-tag, behind an S-tag if it has one: 0 without a C-tag; nothing if
/// the frame ends before.
#[must_use]
pub fn vid(header: &[u8]) -> Option<Vid> {
    if header.len() < HEADER_BYTES {
        return None;
    }
    let at = match ethernet::outer(header, ADDRESSES_BYTES) {
        Outer::S(_) => ADDRESSES_BYTES + TAG_BYTES,
        _ => ADDRESSES_BYTES,
    };
    match ethernet::outer(header, at) {
        Outer::C(tag) => Vid::new(tag.vid_bits()),
        Outer::Truncated => None,
        Outer::Untagged | Outer::S(_) | Outer::Extension => Some(Vid::UNTAGGED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
    const THERE: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 2]);

    /// A frame from here to there, with these words behind the addresses.
    fn frame(words: &[u16]) -> Vec<u8> {
        let mut frame = [THERE.octets(), HERE.octets()].concat();
        frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        frame
    }

    fn passed(filter: &Filter, frame: &[u8]) -> bool {
        filter.wants(Direction::Inbound, None, frame)
    }

    #[test]
    fn vids_and_ethertypes_are_found_behind_tags() {
        // Words, VID, EtherType.
        let cases: [(&[u16], Option<u16>, Option<u16>); 9] = [
            (&[0x0800, 0], Some(0), Some(0x0800)),
            (&[0x8100, 0x600a, 0x0806], Some(10), Some(0x0806)),
            (&[0x8100, 0x6000, 0x86dd], Some(0), Some(0x86dd)),
            (&[0x88a8, 100, 0x0800], Some(0), Some(0x0800)),
            (&[0x88a8, 100, 0x8100, 10, 0x0800], Some(10), Some(0x0800)),
            (&[0x8100, 10, 0x8100, 20, 0x0800], Some(10), Some(0x0800)),
            (&[0x8100, 10], None, Some(0x8100)),
            (&[0x88a8, 100, 0x8100], None, Some(0x8100)),
            (&[], None, None),
        ];
        for (words, expected_vid, expected_ethertype) in cases {
            let frame = frame(words);
            let found = (vid(&frame).map(Vid::get), ethertype(&frame));
            assert_eq!(found, (expected_vid, expected_ethertype), "{words:04x?}");
        }
    }

    #[test]
    fn a_filter_wants_what_all_of_it_applies_to() {
        let any = Filter::default();
        let tagged = frame(&[0x8100, 10, 0x0800]);
        for header in [&tagged[..], &tagged[..9], &[]] {
            assert!(passed(&any, header));
        }
        let vid = Vid::new(10);
        let of_host = |host: Mac| Filter { hosts: Box::new([Mac::BROADCAST, host]), ..any.clone() };
        let narrow = Filter { vid, ethertype: Some(0x0800), ..of_host(HERE) };
        assert!(passed(&narrow, &tagged) && passed(&of_host(THERE), &tagged));
        for other in [
            Filter { vid: Vid::new(11), ..narrow.clone() },
            Filter { ethertype: Some(0x0806), ..narrow.clone() },
            Filter { hosts: Box::new([Mac::ZERO]), ..narrow.clone() },
            Filter { ways: Ways::Outbound, ..narrow.clone() },
            Filter { fates: Fates::Dropped(Reasons::ALL), ..narrow.clone() },
        ] {
            assert!(!passed(&other, &tagged), "{other:?}");
        }
        for header in [&tagged[..11], &[]] {
            assert!(!passed(&narrow, header), "nothing is known of it");
        }
    }

    #[test]
    fn reasons_are_a_set() {
        let (runt, full) = (DropReason::Runt, DropReason::RxRingFull);
        for reason in DropReason::ALL {
            assert!(Reasons::ALL.contains(*reason) && !Reasons::default().contains(*reason));
            let one = Reasons::from_iter([*reason]);
            assert_eq!(DropReason::ALL.iter().filter(|other| one.contains(**other)).count(), 1);
        }
        let fates = Fates::Dropped([runt, full].into_iter().collect());
        let dropped = Filter { fates, ways: Ways::Outbound, ..Filter::default() };
        assert!(dropped.wants(Direction::Outbound, Some(full), &[]));
        for (way, fate) in [
            (Direction::Outbound, None),
            (Direction::Outbound, Some(DropReason::Giant)),
            (Direction::Inbound, Some(runt)),
        ] {
            assert!(!dropped.wants(way, fate, &[]), "{way:?} {fate:?}");
        }
    }
}
