//! Chains and buffers in tables.

use super::*;

/// Where the flags of a ring's or a table's descriptor lie.
fn flags_offset(kind: Kind) -> u64 {
    match kind {
        Kind::Split => 12,
        Kind::Packed => 14,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Split,
    Packed,
}

impl<D> Bed<D> {
    /// Sets flags of the descriptor at an address beside those that it has.
    fn add_flags(&self, kind: Kind, descriptor: u64, flags: u16) {
        let at = descriptor + flags_offset(kind);
        self.write(at, &(self.word16(at) | flags).to_le_bytes());
    }
}

impl<D: Negotiated> Bed<D> {
    fn send_indirect(&mut self, chain: &[Buffer], table: u64) -> u16 {
        let id = self.driver.add_indirect(chain, table).unwrap();
        self.driver.publish();
        id
    }
}

#[test]
fn a_chain_in_a_table_is_a_frame_and_one_descriptor() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
        for round in 0..20 {
            let parts = [readable(BUFFERS + round, 12), readable(BUFFERS, 60)];
            // Tables may lie anywhere.
            let first = bed.send_indirect(&parts, TABLES + 1);
            let second = bed.send(&parts);
            let third = bed.send_indirect(&parts[..1], TABLES + 64);
            let both = vec![(BUFFERS + round, 12), (BUFFERS, 60)];
            let frames = take(&mut source, 64);
            assert_eq!(frames, [Ok(both.clone()), Ok(both), Ok(vec![(BUFFERS + round, 12)])]);
            source.give_back();
            source.flush();
            let ids: Vec<u16> = bed.collected().iter().map(|chain| chain.0).collect();
            assert_eq!(ids, [first, second, third]);
        }
    }
    on_both!(check, Source, 4, Order::Any, Merge::Single);
    on_both!(check, Source, 4, Order::InOrder, Merge::Single);
}

/// Has a chain in a table spoiled, between two that are frames: it is unusable, and
/// given back.
fn spoiled<D: Negotiated>(
    bed: &mut Bed<D>,
    source: &mut impl Source,
    spoil: impl Fn(&Bed<D>),
) -> ChainFault {
    let part = [readable(BUFFERS, 60)];
    bed.send_indirect(&[part[0]; 3], TABLES);
    bed.send(&part);
    spoil(bed);
    let mut chains = take(source, 64);
    assert_eq!(chains.pop(), Some(Ok(vec![(BUFFERS, 60)])));
    source.give_back();
    source.flush();
    assert_eq!(bed.collected().len(), 2);
    chains.pop().unwrap().unwrap_err()
}

/// Spoils a table in each kind of ring.
fn spoil_both(expected: ChainFault, spoil: impl Fn(&Bed<()>, Kind)) {
    let nameless = |terms: &Terms| Bed { driver: (), terms: terms.clone() };
    let mut bed = split(8, Order::Any, Merge::Single);
    let mut source = split::Source::open(&bed.terms).unwrap();
    let fault = spoiled(&mut bed, &mut source, |bed| spoil(&nameless(&bed.terms), Kind::Split));
    assert_eq!(fault, expected, "split");
    let mut bed = packed(8, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    let fault = spoiled(&mut bed, &mut source, |bed| spoil(&nameless(&bed.terms), Kind::Packed));
    assert_eq!(fault, expected, "packed");
}

#[test]
fn a_table_inside_a_table_is_no_frame() {
    spoil_both(ChainFault::Descriptor, |bed, kind| bed.add_flags(kind, TABLES + 16, INDIRECT));
}

#[test]
fn a_table_that_a_chain_goes_on_behind_is_no_frame() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source, kind: Kind) {
        bed.send_indirect(&[readable(BUFFERS, 60)], TABLES);
        bed.add_flags(kind, DESCRIPTORS, NEXT);
        bed.send(&[readable(BUFFERS, 60)]);
        bed.send(&[readable(BUFFERS, 61)]);
        let chains = take(&mut source, 64);
        assert_eq!(chains[0], Err(ChainFault::Descriptor));
        assert_eq!(chains.last(), Some(&Ok(vec![(BUFFERS, 61)])));
    }
    let bed = split(8, Order::Any, Merge::Single);
    let source = split::Source::open(&bed.terms).unwrap();
    check(bed, source, Kind::Split);
    let bed = packed(8, Order::Any, Merge::Single);
    let source = packed::Source::open(&bed.terms).unwrap();
    check(bed, source, Kind::Packed);
}

#[test]
fn a_packed_list_does_not_end_in_a_table() {
    let mut bed = packed(8, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    bed.send(&[readable(BUFFERS, 60), readable(TABLES, 16)]);
    bed.add_flags(Kind::Packed, DESCRIPTORS + 16, INDIRECT);
    assert_eq!(take(&mut source, 64), [Err(ChainFault::Descriptor)]);
}

#[test]
fn a_table_of_no_whole_entries_is_no_frame() {
    for length in [0_u32, 8, 24, 56, u32::MAX] {
        spoil_both(ChainFault::Descriptor, |bed, _| {
            bed.write(DESCRIPTORS + 8, &length.to_le_bytes());
        });
    }
}

#[test]
fn a_table_outside_memory_is_no_frame() {
    for address in [MEMORY_BYTES as u64 - 47, MEMORY_BYTES as u64, u64::MAX - 15] {
        spoil_both(ChainFault::Descriptor, |bed, _| {
            bed.write(DESCRIPTORS, &address.to_le_bytes());
        });
    }
}

#[test]
fn a_table_of_more_than_256_entries_is_too_long() {
    let mut bed = packed(8, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    let entry = readable(BUFFERS, 1);
    bed.send_indirect(&[entry; CHAIN_DESCRIPTORS], TABLES);
    bed.send_indirect(&[entry; CHAIN_DESCRIPTORS + 1], TABLES + 0x2000);
    let chains = take(&mut source, 64);
    assert_eq!(chains[0].as_ref().map(Vec::len), Ok(CHAIN_DESCRIPTORS));
    assert_eq!(chains[1], Err(ChainFault::TooLong));
}

#[test]
fn a_split_table_that_bites_its_tail_is_too_long() {
    let mut bed = split(8, Order::Any, Merge::Single);
    let mut source = split::Source::open(&bed.terms).unwrap();
    let fault = spoiled(&mut bed, &mut source, |bed| {
        bed.write(TABLES + 32 + 12, &[NEXT as u8, 0, 0, 0]);
    });
    assert_eq!(fault, ChainFault::TooLong);
}

#[test]
fn a_split_table_s_entries_lie_within_it() {
    for next in [3_u16, 0x8000, u16::MAX] {
        let mut bed = split(8, Order::Any, Merge::Single);
        let mut source = split::Source::open(&bed.terms).unwrap();
        let fault = spoiled(&mut bed, &mut source, |bed| {
            bed.write(TABLES + 14, &next.to_le_bytes());
        });
        assert_eq!(fault, ChainFault::Descriptor);
    }
}

#[test]
fn a_split_chain_may_end_in_a_table_of_at_most_256_with_it() {
    let mut bed = split(8, Order::Any, Merge::Single);
    let mut source = split::Source::open(&bed.terms).unwrap();
    for (entries, good) in [(CHAIN_DESCRIPTORS - 1, true), (CHAIN_DESCRIPTORS, false)] {
        bed.send_indirect(&vec![readable(BUFFERS, 1); entries], TABLES);
        take(&mut source, 1);
        source.give_back();
        source.flush();
        bed.collected();
        let head = bed.send(&[readable(BUFFERS + 60, 12), readable(TABLES, 16 * entries as u32)]);
        let second = bed.word16(DESCRIPTORS + u64::from(head) * 16 + 14);
        bed.add_flags(Kind::Split, DESCRIPTORS + u64::from(second) * 16, INDIRECT | WRITE);
        let chain = take(&mut source, 1).pop().unwrap();
        let expected = if good { Ok(CHAIN_DESCRIPTORS) } else { Err(ChainFault::TooLong) };
        assert_eq!(chain.map(|pieces| pieces.len()), expected);
        source.give_back();
    }
}

#[test]
fn what_is_the_device_s_to_write_is_no_frame_in_a_split_table_and_read_in_a_packed_one() {
    let mut bed = split(8, Order::Any, Merge::Single);
    let mut source = split::Source::open(&bed.terms).unwrap();
    bed.send_indirect(&[readable(BUFFERS, 12), writable(BUFFERS, 60)], TABLES);
    assert_eq!(take(&mut source, 64), [Err(ChainFault::Descriptor)]);
    let mut bed = packed(8, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    bed.send_indirect(&[writable(BUFFERS, 12), readable(BUFFERS, 60)], TABLES);
    assert_eq!(take(&mut source, 64), [Ok(vec![(BUFFERS, 12), (BUFFERS, 60)])]);
}

#[test]
fn tables_that_were_not_negotiated_are_no_frames_and_break_receive_rings() {
    fn as_source<D: Negotiated>(
        mut bed: Bed<D>,
        open: impl Fn(&Terms) -> Box<dyn FnMut() -> bool>,
    ) {
        bed.send_indirect(&[readable(BUFFERS, 60)], TABLES);
        bed.terms.indirect = Indirect::Refused;
        assert!(open(&bed.terms)());
    }
    as_source(split(8, Order::Any, Merge::Single), |terms| {
        let mut source = split::Source::open(terms).unwrap();
        Box::new(move || take(&mut source, 64) == [Err(ChainFault::Descriptor)])
    });
    as_source(packed(8, Order::Any, Merge::Single), |terms| {
        let mut source = packed::Source::open(terms).unwrap();
        Box::new(move || take(&mut source, 64) == [Err(ChainFault::Descriptor)])
    });
    let broken = Err(Refusal::Broken(RingFault::Buffer));
    as_source(split(8, Order::Any, Merge::Single), |terms| {
        let mut sink = split::Sink::open(terms).unwrap();
        Box::new(move || offer(&mut sink, &[0; 60]) == broken)
    });
    as_source(packed(8, Order::Any, Merge::Single), |terms| {
        let mut sink = packed::Sink::open(terms).unwrap();
        Box::new(move || offer(&mut sink, &[0; 60]) == broken)
    });
}

#[test]
fn a_frame_is_spread_over_a_table_and_the_buffers_behind_it() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut sink: impl Sink) {
        let frame: Vec<u8> = (0..=255).collect();
        for _ in 0..10 {
            let table = [writable(BUFFERS, 7), writable(BUFFERS + 0x100, 125)];
            let first = bed.send_indirect(&table, TABLES);
            let second = bed.send(&[writable(BUFFERS + 0x200, 200)]);
            let third = bed.send_indirect(&[writable(BUFFERS + 0x300, 200)], TABLES + 64);
            offer(&mut sink, &frame).unwrap();
            offer(&mut sink, &frame[..60]).unwrap();
            sink.publish();
            assert_eq!(bed.collected(), [(first, 132), (second, 136), (third, 72)]);
            assert_eq!(bed.word16(BUFFERS + 0x100 + 3), 2, "num_buffers");
            let mut received = bed.read(BUFFERS + 0x105, 120);
            received.extend(bed.read(BUFFERS + 0x200, 136));
            assert_eq!(received, frame);
            assert_eq!(bed.read(BUFFERS + 0x30c, 60), frame[..60]);
        }
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Mergeable);
    on_both!(check, Sink, 8, Order::InOrder, Merge::Mergeable);
}

#[test]
fn a_receive_table_that_cannot_be_breaks_the_ring_and_spares_what_was_before() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut sink: impl Sink) {
        bed.send_indirect(&[writable(BUFFERS, 200)], TABLES);
        bed.send_indirect(&[writable(BUFFERS, 12), readable(BUFFERS, 200)], TABLES + 64);
        assert_eq!(offer(&mut sink, &[7; 60]), Ok(()));
        assert_eq!(offer(&mut sink, &[7; 60]), Err(Refusal::Broken(RingFault::Buffer)));
        assert_eq!(sink.fault(), Some(RingFault::Buffer));
        sink.publish();
        assert_eq!(bed.collected().len(), 1);
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Mergeable);
}
