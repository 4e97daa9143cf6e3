//! Both ends of a queue in plain memory: our device half against our driver half.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::driver::{Access, Buffer, Driver, Negotiated, PackedDriver, SplitDriver};
use super::*;
use crate::sys::memory::{RegionHint, Spans};

const DESCRIPTORS: u64 = 0;
const DRIVER_AREA: u64 = 0x8_0000;
const DEVICE_AREA: u64 = 0xa_0000;
const BUFFERS: u64 = 0x10_0000;
const TABLES: u64 = 0x14_0000;
const MEMORY_BYTES: usize = 0x18_0000;

/// A queue's memory and its driver's half.
struct Bed<D> {
    driver: D,
    terms: Terms,
}

fn terms(size: u16, order: Order, merge: Merge) -> Terms {
    let memory = Arc::new(Memory::arena(MEMORY_BYTES).unwrap());
    let layout =
        Layout { size, descriptors: DESCRIPTORS, driver: DRIVER_AREA, device: DEVICE_AREA };
    let position = Position { available: 0, used: 0 };
    let (indirect, wishes) = (Indirect::Allowed, Wishes::Flags);
    Terms { memory, layout, position, order, merge, indirect, wishes }
}

fn split(size: u16, order: Order, merge: Merge) -> Bed<SplitDriver> {
    let terms = terms(size, order, merge);
    let driver = SplitDriver::new(&terms.memory, terms.layout, order).unwrap();
    Bed { driver, terms }
}

fn packed(size: u16, order: Order, merge: Merge) -> Bed<PackedDriver> {
    let mut terms = terms(size, order, merge);
    terms.position = Position { available: 1 << 15, used: 1 << 15 };
    let driver = PackedDriver::new(&terms.memory, terms.layout, order).unwrap();
    Bed { driver, terms }
}

/// A split ring that stands at this index.
fn split_at(size: u16, order: Order, index: u16, wishes: Wishes) -> Bed<SplitDriver> {
    let Bed { driver, mut terms } = split(size, order, Merge::Mergeable);
    terms.position = Position { available: index, used: index };
    terms.wishes = wishes;
    for area in [DRIVER_AREA, DEVICE_AREA] {
        let bed = Bed { driver: (), terms: terms.clone() };
        bed.write(area + 2, &index.to_le_bytes());
    }
    Bed { driver: driver.from_position(terms.position, wishes), terms }
}

/// A packed ring that stands at this place, the wrap counter in bit 15.
fn packed_at(size: u16, order: Order, place: u16, wishes: Wishes) -> Bed<PackedDriver> {
    let Bed { driver, mut terms } = packed(size, order, Merge::Mergeable);
    terms.position = Position { available: place, used: place };
    terms.wishes = wishes;
    Bed { driver: driver.from_position(terms.position, wishes).unwrap(), terms }
}

/// Runs a check on each kind of ring.
macro_rules! on_both {
    ($check:ident, $end:ident, $size:expr, $order:expr, $merge:expr) => {{
        let bed = split($size, $order, $merge);
        let end = split::$end::open(&bed.terms).unwrap();
        $check(bed, end);
        let bed = packed($size, $order, $merge);
        let end = packed::$end::open(&bed.terms).unwrap();
        $check(bed, end);
    }};
}

fn readable(address: u64, length: u32) -> Buffer {
    Buffer { address, length, access: Access::Read }
}

fn writable(address: u64, length: u32) -> Buffer {
    Buffer { address, length, access: Access::Write }
}

impl<D> Bed<D> {
    fn write(&self, address: u64, bytes: &[u8]) {
        let place =
            self.terms.memory.place(&mut RegionHint::default(), address, bytes.len() as u32);
        place.unwrap().write(bytes);
    }

    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let place = self.terms.memory.place(&mut RegionHint::default(), address, length as u32);
        place.unwrap().read(&mut bytes);
        bytes
    }

    fn word16(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.read(address, 2).try_into().unwrap())
    }
}

impl<D: Driver> Bed<D> {
    fn send(&mut self, chain: &[Buffer]) -> u16 {
        let id = self.driver.add(chain).unwrap();
        self.driver.publish();
        id
    }

    fn collected(&mut self) -> Vec<(u16, u32)> {
        let mut all = Vec::new();
        self.driver.collect(|returned| all.push((returned.id, returned.length)));
        all
    }
}

/// A visitor that treats all chains alike.
struct Each<F>(F);

impl<F: FnMut(Chain<'_>) -> ControlFlow<()>> Visit for Each<F> {
    fn piece(&mut self, piece: Piece) -> ControlFlow<()> {
        (self.0)(Chain::Pieces(&[piece]))
    }

    fn chain(&mut self, chain: Chain<'_>) -> ControlFlow<()> {
        (self.0)(chain)
    }
}

fn each<F: FnMut(Chain<'_>) -> ControlFlow<()>>(visit: F) -> Each<F> {
    Each(visit)
}

/// Takes up to `limit` chains; each one's pieces, or its fault.
fn take(source: &mut impl Source, limit: usize) -> Vec<Result<Vec<Piece>, ChainFault>> {
    let mut chains = Vec::new();
    let taken = source.take(
        limit,
        each(|chain| {
            chains.push(match chain {
                Chain::Pieces(pieces) => Ok(pieces.to_vec()),
                Chain::Unusable(fault) => Err(fault),
            });
            ControlFlow::Continue(())
        }),
    );
    assert_eq!(taken, Ok(chains.len()));
    chains
}

fn offer(sink: &mut impl Sink, header: &[u8]) -> Result<(), Refusal> {
    sink.offer(NetHeader::COMPLETE, header, Body::EMPTY)
}

#[test]
fn frames_arrive_in_order_lap_after_lap() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        for round in 0..50_u64 {
            let chains: Vec<Vec<Piece>> = (0..3)
                .map(|chain| vec![(BUFFERS + round * 64 + chain, 60); 1 + chain as usize % 2])
                .collect();
            let ids: Vec<u16> = chains
                .iter()
                .map(|pieces| {
                    let chain: Vec<_> = pieces.iter().map(|p| readable(p.0, p.1)).collect();
                    bed.send(&chain)
                })
                .collect();
            assert_eq!(take(&mut source, 64), chains.into_iter().map(Ok).collect::<Vec<_>>());
            assert!(bed.collected().is_empty());
            source.give_back();
            source.flush();
            assert_eq!(bed.collected().iter().map(|c| c.0).collect::<Vec<_>>(), ids);
        }
    }
    on_both!(check, Source, 8, Order::Any, Merge::Single);
    on_both!(check, Source, 8, Order::InOrder, Merge::Single);
}

#[test]
fn a_full_ring_is_taken_whole_and_an_empty_one_gives_nothing() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        assert!(take(&mut source, 64).is_empty());
        while bed.driver.add(&[readable(BUFFERS, 60)]).is_some() {}
        bed.driver.publish();
        assert_eq!(take(&mut source, 5).len(), 5);
        source.give_back();
        assert_eq!(take(&mut source, 64).len(), 11);
        assert!(take(&mut source, 64).is_empty());
        source.give_back();
        source.flush();
        assert_eq!(bed.collected().len(), 16);
    }
    on_both!(check, Source, 16, Order::Any, Merge::Single);
    on_both!(check, Source, 16, Order::InOrder, Merge::Single);
}

#[test]
fn at_most_a_burst_is_taken_before_it_is_given_back() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        while bed.driver.add(&[readable(BUFFERS, 60)]).is_some() {}
        bed.driver.publish();
        assert_eq!(take(&mut source, usize::MAX).len(), BURST);
        assert!(take(&mut source, 1).is_empty());
        source.give_back();
        assert_eq!(take(&mut source, usize::MAX).len(), BURST);
    }
    on_both!(check, Source, 256, Order::InOrder, Merge::Single);
}

#[test]
fn chains_that_are_no_frames_are_given_back_too() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        bed.send(&[readable(BUFFERS, 60)]);
        bed.send(&[readable(BUFFERS, 60), writable(BUFFERS, 60)]);
        bed.send(&vec![readable(BUFFERS, 1); CHAIN_DESCRIPTORS + 1]);
        bed.send(&[readable(BUFFERS, 61)]);
        let chains = take(&mut source, 64);
        assert_eq!(chains[1], Err(ChainFault::Descriptor));
        assert_eq!(chains[2], Err(ChainFault::TooLong));
        assert_eq!(chains[3], Ok(vec![(BUFFERS, 61)]));
        source.give_back();
        source.flush();
        assert_eq!(bed.collected().len(), 4);
    }
    on_both!(check, Source, 512, Order::Any, Merge::Single);
}

#[test]
fn a_received_frame_lies_behind_its_virtio_net_header() {
    fn check<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        bed.write(BUFFERS, &[0xff; 4096]);
        let id = bed.send(&[writable(BUFFERS, 2048)]);
        let frame: Vec<u8> = (0..100).collect();
        offer(&mut sink, &frame).unwrap();
        assert!(bed.collected().is_empty());
        sink.publish();
        assert_eq!(bed.collected(), [(id, 112)]);
        assert_eq!(bed.read(BUFFERS, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(bed.read(BUFFERS + 12, 100), frame);
        assert_eq!(bed.read(BUFFERS + 112, 8), [0xff; 8]);
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Single);
    on_both!(check, Sink, 8, Order::InOrder, Merge::Mergeable);
}

#[test]
fn a_frame_is_spread_over_a_chain_or_over_merged_buffers() {
    fn check<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        let frame: Vec<u8> = (0..=255).collect();
        bed.write(BUFFERS + 0x8000, &frame);
        let mut spans = Spans::with_capacity(2);
        spans.begin(&bed.terms.memory);
        let mut hint = RegionHint::default();
        spans.push(&mut hint, (BUFFERS + 0x8000 + 64, 100), 0).unwrap();
        spans.push(&mut hint, (BUFFERS + 0x8000 + 164, 92), 0).unwrap();
        let first = bed.send(&[writable(BUFFERS, 12), writable(BUFFERS + 0x100, 120)]);
        let second = bed.send(&[writable(BUFFERS + 0x200, 200)]);
        sink.offer(NetHeader::COMPLETE, &frame[..64], spans.body(0, 2)).unwrap();
        sink.publish();
        assert_eq!(bed.collected(), [(first, 132), (second, 136)]);
        assert_eq!(bed.word16(BUFFERS + 10), 2);
        let mut received = bed.read(BUFFERS + 0x100, 120);
        received.extend(bed.read(BUFFERS + 0x200, 136));
        assert_eq!(received, frame);
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Mergeable);
}

#[test]
fn without_enough_buffers_nothing_is_published_and_nothing_lost() {
    fn check<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        let frame = [7; 128];
        bed.send(&[writable(BUFFERS, 100)]);
        assert_eq!(offer(&mut sink, &frame), Err(Refusal::NoBuffer));
        sink.publish();
        assert!(bed.collected().is_empty());
        bed.send(&[writable(BUFFERS + 0x1000, 100)]);
        assert_eq!(offer(&mut sink, &frame), Ok(()));
        sink.publish();
        assert_eq!(bed.collected().iter().map(|c| c.1).collect::<Vec<_>>(), [100, 40]);
        assert_eq!(offer(&mut sink, &frame), Err(Refusal::NoBuffer));
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Mergeable);
    on_both!(check, Sink, 8, Order::InOrder, Merge::Mergeable);
}

#[test]
fn without_merging_a_frame_too_long_is_refused_and_the_buffer_kept() {
    fn check<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        let id = bed.send(&[writable(BUFFERS, 100)]);
        bed.send(&[writable(BUFFERS + 0x1000, 100)]);
        assert_eq!(offer(&mut sink, &[7; 89]), Err(Refusal::TooSmall));
        assert_eq!(offer(&mut sink, &[7; 88]), Ok(()));
        sink.publish();
        assert_eq!(bed.collected(), [(id, 100)]);
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Single);
}

#[test]
fn a_receive_buffer_outside_memory_or_not_ours_breaks_the_ring() {
    fn check<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        bed.send(&[writable(BUFFERS, 100)]);
        bed.send(&[writable(MEMORY_BYTES as u64 - 10, 100)]);
        assert_eq!(offer(&mut sink, &[7; 60]), Ok(()));
        assert_eq!(offer(&mut sink, &[7; 60]), Err(Refusal::Broken(RingFault::Buffer)));
        sink.publish();
        assert_eq!(bed.collected().len(), 1);
    }
    fn check_access<D: Driver>(mut bed: Bed<D>, mut sink: impl Sink) {
        bed.send(&[readable(BUFFERS, 100)]);
        assert_eq!(offer(&mut sink, &[7; 60]), Err(Refusal::Broken(RingFault::Buffer)));
    }
    on_both!(check, Sink, 8, Order::Any, Merge::Single);
    on_both!(check_access, Sink, 8, Order::Any, Merge::Single);
}

#[test]
fn a_split_ring_with_impossible_indexes_is_broken() {
    let bed = split(8, Order::Any, Merge::Single);
    let mut source = split::Source::open(&bed.terms).unwrap();
    bed.write(DRIVER_AREA + 2, &9_u16.to_le_bytes());
    assert_eq!(source.take(64, each(|_| ControlFlow::Continue(()))), Err(RingFault::Overrun));
    bed.write(DRIVER_AREA + 2, &1_u16.to_le_bytes());
    bed.write(DRIVER_AREA + 4, &8_u16.to_le_bytes());
    assert_eq!(source.take(64, each(|_| ControlFlow::Continue(()))), Err(RingFault::Index));
}

#[test]
fn a_split_chain_that_bites_its_tail_is_too_long() {
    let mut bed = split(8, Order::Any, Merge::Single);
    bed.send(&[readable(BUFFERS, 60), readable(BUFFERS, 60)]);
    let mut source = split::Source::open(&bed.terms).unwrap();
    // Both descriptors now say: go on with descriptor 0.
    for descriptor in 0..2_u64 {
        bed.write(DESCRIPTORS + descriptor * 16 + 12, &[NEXT as u8, 0, 0, 0]);
    }
    assert_eq!(take(&mut source, 64), [Err(ChainFault::TooLong)]);
}

#[test]
fn a_packed_chain_without_an_end_breaks_the_ring() {
    let bed = packed(8, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    for descriptor in 0..8_u64 {
        bed.write(DESCRIPTORS + descriptor * 16 + 14, &0x81_u16.to_le_bytes());
    }
    assert_eq!(source.take(64, each(|_| ControlFlow::Continue(()))), Err(RingFault::Endless));
}

#[test]
fn rings_must_be_aligned_mapped_and_of_a_legal_size() {
    let good = terms(8, Order::Any, Merge::Single);
    let with = |layout| split::Source::open(&Terms { layout, ..good.clone() }).err();
    let layout = good.layout;
    assert_eq!(with(Layout { size: 0, ..layout }), Some(LayoutError::Size(0)));
    assert_eq!(with(Layout { size: 12, ..layout }), Some(LayoutError::Size(12)));
    assert_eq!(with(Layout { descriptors: 8, ..layout }), Some(LayoutError::Misaligned(8)));
    let end = MEMORY_BYTES as u64 - 16;
    assert_eq!(with(Layout { descriptors: end, ..layout }), Some(LayoutError::Unmapped(end)));
    let packed = |layout, available| {
        let position = Position { available, used: 0 };
        packed::Sink::open(&Terms { layout, position, ..good.clone() }).err()
    };
    assert_eq!(packed(Layout { size: 32769, ..layout }, 0), Some(LayoutError::Size(32769)));
    assert_eq!(packed(layout, 8), Some(LayoutError::Position));
    assert_eq!(packed(Layout { size: 12, ..layout }, 11), None);
}

#[test]
fn a_doorbell_is_asked_for_once_and_surely_when_idle() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source, flags: u64, silent: u16) {
        // Whoever served the ring before may not have asked.
        source.doorbell(Moment::Idle);
        bed.send(&[readable(BUFFERS, 60)]);
        assert_eq!(source.doorbell(Moment::Idle), Doorbell::Silent);
        take(&mut source, 1);
        source.give_back();
        source.flush();
        bed.write(DRIVER_AREA + flags, &silent.to_le_bytes());
        assert_eq!(source.doorbell(Moment::Busy), Doorbell::Silent);
        bed.write(DRIVER_AREA + flags, &[0, 0]);
        assert_eq!(source.doorbell(Moment::Idle), Doorbell::Wanted);
        assert_eq!(source.doorbell(Moment::Idle), Doorbell::Silent);
    }
    let bed = split(8, Order::Any, Merge::Single);
    let source = split::Source::open(&bed.terms).unwrap();
    check(bed, source, 0, 1);
    let bed = packed(8, Order::Any, Merge::Single);
    let source = packed::Source::open(&bed.terms).unwrap();
    check(bed, source, 2, 1);
}

#[test]
fn a_split_ring_shows_its_last_entries_when_more_follow_or_after_a_while() {
    for order in [Order::Any, Order::InOrder] {
        let mut bed = split(8, order, Merge::Single);
        let mut source = split::Source::open(&bed.terms).unwrap();
        let mut round = |bed: &mut Bed<SplitDriver>, count: usize| {
            (0..count).for_each(|_| _ = bed.send(&[readable(BUFFERS, 60)]));
            assert_eq!(take(&mut source, 64).len(), count);
            source.give_back();
            bed.collected().len()
        };
        assert_eq!(round(&mut bed, 1), 0);
        assert_eq!(round(&mut bed, 1), 0);
        assert_eq!(round(&mut bed, 3), 3);
        assert_eq!(round(&mut bed, 1), 1);
        (0..2000).for_each(|_| _ = source.doorbell(Moment::Busy));
        assert_eq!(bed.collected().len(), 2);
    }
}

#[test]
fn a_successor_goes_on_where_its_predecessor_stopped() {
    fn source<D: Driver, S: Source>(bed: &mut Bed<D>, open: impl Fn(&Terms) -> S) {
        let mut position = bed.terms.position;
        for round in 0..20 {
            let mut source = open(&Terms { position, ..bed.terms.clone() });
            (0..3).for_each(|_| _ = bed.send(&[readable(BUFFERS + round, 60)]));
            assert_eq!(take(&mut source, 64).len(), 3 + usize::from(round > 0));
            source.give_back();
            source.flush();
            bed.send(&[readable(BUFFERS + round, 60)]);
            take(&mut source, 1);
            // Not given back: the successor takes it again.
            position = source.position();
            bed.collected();
        }
    }
    source(&mut split(8, Order::Any, Merge::Single), |terms| split::Source::open(terms).unwrap());
    source(&mut packed(7, Order::Any, Merge::Single), |terms| packed::Source::open(terms).unwrap());
}

/// What a driver and a device may do, in any order.
#[derive(Clone, Debug)]
enum Op {
    Add(u8),
    AddIndirect(u8),
    Publish,
    Take(u8),
    GiveBack,
    Collect,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..4_u8).prop_map(Op::Add),
        2 => (1..5_u8).prop_map(Op::AddIndirect),
        2 => Just(Op::Publish),
        2 => (1..9_u8).prop_map(Op::Take),
        2 => Just(Op::GiveBack),
        1 => Just(Op::Collect),
    ]
}

/// Where the chains of a source are: each at one place.
#[derive(Default)]
struct Oracle {
    hidden: Vec<(u16, u64)>,
    available: Vec<(u16, u64)>,
    taken: Vec<u16>,
    given: Vec<u16>,
}

/// No chain is lost, changed, reordered or given back twice.
fn no_chain_lost<D: Negotiated>(bed: &mut Bed<D>, source: &mut impl Source, ops: &[Op]) {
    let mut oracle = Oracle::default();
    let mut tag = 0;
    let rest = [Op::Take(64), Op::GiveBack].iter().cycle().take(8);
    for op in ops.iter().chain(&[Op::Publish, Op::GiveBack]).chain(rest).chain(&[Op::Collect]) {
        match op {
            Op::Add(length) => {
                tag += 1;
                let chain = vec![readable(BUFFERS + tag, 60); usize::from(*length)];
                oracle.hidden.extend(bed.driver.add(&chain).map(|id| (id, BUFFERS + tag)));
            }
            Op::AddIndirect(length) => {
                tag += 1;
                let chain = vec![readable(BUFFERS + tag, 60); usize::from(*length)];
                let id = bed.driver.add_indirect(&chain, TABLES + tag % 512 * 64);
                oracle.hidden.extend(id.map(|id| (id, BUFFERS + tag)));
            }
            Op::Publish => {
                bed.driver.publish();
                oracle.available.append(&mut oracle.hidden);
            }
            Op::Take(limit) => {
                let chains = take(source, usize::from(*limit));
                let room = BURST - oracle.taken.len();
                let expected = oracle.available.len().min(usize::from(*limit)).min(room);
                assert_eq!(chains.len(), expected);
                for (chain, (id, address)) in chains.iter().zip(oracle.available.drain(..expected))
                {
                    assert_eq!(chain.as_ref().unwrap()[0].0, address);
                    oracle.taken.push(id);
                }
            }
            Op::GiveBack => {
                source.give_back();
                oracle.given.append(&mut oracle.taken);
            }
            Op::Collect => {
                source.flush();
                let ids: Vec<u16> = bed.collected().iter().map(|c| c.0).collect();
                assert_eq!(ids, std::mem::take(&mut oracle.given));
            }
        }
    }
    assert!(oracle.available.is_empty() && oracle.given.is_empty());
}

/// Buffers in, frames out: every published frame is collected once, in order, whole.
fn no_frame_lost<D: Negotiated>(bed: &mut Bed<D>, sink: &mut impl Sink, ops: &[Op]) {
    let mut posted: HashMap<u16, u64> = HashMap::new();
    let mut offered: Vec<Vec<u8>> = Vec::new();
    let (mut tag, mut buffer) = (0_u64, 0);
    for op in ops.iter().chain(&[Op::GiveBack, Op::Collect]) {
        match op {
            Op::AddIndirect(parts) => {
                buffer += 1;
                let address = BUFFERS + (buffer % 64) * 256;
                let part = 256 / u64::from(*parts);
                let parts: Vec<Buffer> = (0..u64::from(*parts))
                    .map(|at| writable(address + at * part, part as u32))
                    .collect();
                let id = bed.driver.add_indirect(&parts, TABLES + (buffer % 64) * 64);
                posted.extend(id.map(|id| (id, address)));
            }
            Op::Add(_) => {
                // At most 16 are posted at a time: 64 places never meet.
                buffer += 1;
                let address = BUFFERS + (buffer % 64) * 256;
                posted.extend(bed.driver.add(&[writable(address, 256)]).map(|id| (id, address)));
            }
            Op::Publish => bed.driver.publish(),
            Op::Take(count) => {
                for _ in 0..*count {
                    let frame = vec![tag as u8; 60 + usize::from(*count) * 8];
                    match offer(sink, &frame) {
                        Ok(()) => offered.push(frame),
                        Err(refusal) => assert_eq!(refusal, Refusal::NoBuffer),
                    }
                    tag += 1;
                }
            }
            Op::GiveBack => sink.publish(),
            Op::Collect => {
                sink.publish();
                let frames = std::mem::take(&mut offered);
                let returned = bed.collected();
                assert_eq!(returned.len(), frames.len());
                for ((id, length), frame) in returned.into_iter().zip(frames) {
                    let address = posted.remove(&id).expect("a buffer that was posted");
                    assert_eq!(bed.read(address + 12, length as usize - 12), frame);
                }
            }
        }
    }
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Any, Order::InOrder])
}

fn wishes() -> impl Strategy<Value = Wishes> {
    prop::sample::select(vec![Wishes::Flags, Wishes::EventIndex])
}

/// Any size of a packed ring and any place in it.
fn packed_place() -> impl Strategy<Value = (u16, u16)> {
    let size = prop_oneof![1..20_u16, 1..=SIZE_MAX, Just(SIZE_MAX)];
    (size, any::<u16>()).prop_map(|(size, at)| (size, (at & 0x8000) | ((at & 0x7fff) % size)))
}

proptest! {
    #[test]
    fn sources_lose_nothing(
        ops in prop::collection::vec(op(), 1..200),
        order in order(),
        wishes in wishes(),
        size in (0..16_u32).prop_map(|power| 1_u16 << power),
        index: u16,
        (places, place) in packed_place(),
    ) {
        let mut bed = split_at(size, order, index, wishes);
        let mut source = split::Source::open(&bed.terms).unwrap();
        no_chain_lost(&mut bed, &mut source, &ops);
        let mut bed = packed_at(places, order, place, wishes);
        let mut source = packed::Source::open(&bed.terms).unwrap();
        no_chain_lost(&mut bed, &mut source, &ops);
    }

    #[test]
    fn sinks_lose_nothing(
        ops in prop::collection::vec(op(), 1..200),
        wishes in wishes(),
        size in (0..5_u32).prop_map(|power| 1_u16 << power),
        index: u16,
        (places, place) in (1..17_u16, any::<u16>())
            .prop_map(|(size, at)| (size, (at & 0x8000) | ((at & 0x7fff) % size))),
    ) {
        let mut bed = split_at(size, Order::Any, index, wishes);
        let mut sink = split::Sink::open(&bed.terms).unwrap();
        no_frame_lost(&mut bed, &mut sink, &ops);
        let mut bed = packed_at(places, Order::Any, place, wishes);
        let mut sink = packed::Sink::open(&bed.terms).unwrap();
        no_frame_lost(&mut bed, &mut sink, &ops);
    }
}

/// Every sequence of so many steps, one after the other on the same small ring: all its
/// places and wrap counters come up in all states.
fn every_sequence<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source, steps: u32) {
    const OPS: [Op; 7] = [
        Op::Add(1),
        Op::Add(2),
        Op::AddIndirect(2),
        Op::Publish,
        Op::Take(1),
        Op::GiveBack,
        Op::Collect,
    ];
    for sequence in 0..OPS.len().pow(steps) {
        let op = |step| OPS[sequence / OPS.len().pow(step) % OPS.len()].clone();
        let ops: Vec<Op> = (0..steps).map(op).collect();
        no_chain_lost(&mut bed, &mut source, &ops);
    }
}

#[test]
fn no_sequence_of_steps_loses_a_chain_or_gives_it_back_twice() {
    for order in [Order::Any, Order::InOrder] {
        for size in [1, 2, 3] {
            let bed = packed_at(size, order, 0x8000, Wishes::EventIndex);
            let source = packed::Source::open(&bed.terms).unwrap();
            every_sequence(bed, source, 5);
        }
        for size in [1, 2] {
            let bed = split_at(size, order, 0xfff0, Wishes::EventIndex);
            let source = split::Source::open(&bed.terms).unwrap();
            every_sequence(bed, source, 5);
        }
    }
}

/// What a hostile driver does between two steps of the device.
#[derive(Clone, Debug)]
enum Hostile {
    /// Writes a word of the descriptors.
    Descriptor(u8, u64),
    /// Writes a half-word of its area.
    Driver(u8, u16),
    /// Writes a word of the tables.
    Table(u8, u64),
    /// Makes every packed descriptor available in this lap, with these flags beside.
    Lap(packed::Lap, u16),
    /// The device's step: takes or fills this many.
    Step(u8),
    /// The device gives back or publishes.
    Back,
}

/// Ids, flags and lengths that are nearly right do the most harm.
fn word() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![
        prop::sample::select(vec![
            0_u64, 0x80, 0x8000, 0x8080, 0x81, 0x8001, 0x82, 0x8002, 0x8082, 0x84, 0x8004, 0x86
        ]),
        0..0x1_0000_u64,
    ];
    prop_oneof![
        (0..64_u64, 0..20_u64, flags)
            .prop_map(|(length, id, flags)| flags << 48 | id << 32 | (length * 4)),
        (0..16_u64).prop_map(|slot| BUFFERS + slot * 256),
        (0..16_u64).prop_map(|slot| TABLES + slot * 16),
        any::<u64>(),
    ]
}

fn hostile() -> impl Strategy<Value = Hostile> {
    prop_oneof![
        6 => (0..32_u8, word()).prop_map(|(at, word)| Hostile::Descriptor(at, word)),
        4 => (0..32_u8, word()).prop_map(|(at, word)| Hostile::Table(at, word)),
        2 => (0..20_u8, prop_oneof![0..40_u16, any::<u16>()])
            .prop_map(|(at, word)| Hostile::Driver(at, word)),
        2 => (prop::sample::select(vec![packed::Lap::Odd, packed::Lap::Even]), 0..8_u16)
            .prop_map(|(lap, flags)| Hostile::Lap(lap, flags)),
        3 => (1..70_u8).prop_map(Hostile::Step),
        1 => Just(Hostile::Back),
    ]
}

/// The driver's writing, as far as an op is one.
fn scribble<D: Driver>(bed: &Bed<D>, op: &Hostile) {
    match *op {
        Hostile::Descriptor(at, word) => bed.write(u64::from(at) * 8, &word.to_le_bytes()),
        Hostile::Table(at, word) => {
            bed.write(TABLES + u64::from(at) * 8, &word.to_le_bytes());
        }
        Hostile::Driver(at, word) => {
            bed.write(DRIVER_AREA + u64::from(at) * 2, &word.to_le_bytes());
        }
        Hostile::Lap(lap, flags) => make_available(bed, 13, lap, flags),
        Hostile::Step(_) | Hostile::Back => {}
    }
}

fn survives_as_source<D: Driver>(
    bed: &Bed<D>,
    source: &mut impl Source,
    held_max: usize,
    ops: &[Hostile],
) {
    let mut held = 0;
    for op in ops {
        scribble(bed, op);
        match op {
            Hostile::Step(limit) => {
                let visit = each(|_| {
                    held += 1;
                    ControlFlow::Continue(())
                });
                let _ = source.take(usize::from(*limit), visit);
                assert!(held <= held_max, "{held} chains are held");
                source.has_frames();
                source.want_kicks();
                source.doorbell(Moment::Busy);
                source.refuse_kicks();
            }
            Hostile::Back => {
                source.give_back();
                held = 0;
            }
            _ => {}
        }
    }
    source.position();
}

fn survives_as_sink<D: Driver>(bed: &Bed<D>, sink: &mut impl Sink, ops: &[Hostile]) {
    for op in ops {
        scribble(bed, op);
        match op {
            Hostile::Step(count) => {
                sink.look_ahead();
                for length in 0..usize::from(*count) {
                    let _ = offer(sink, &vec![0; 14 + length * 8]);
                }
            }
            Hostile::Back => {
                sink.publish();
                sink.doorbell(Moment::Idle);
            }
            _ => {}
        }
    }
    sink.position();
}

proptest! {
    #[test]
    fn a_hostile_driver_breaks_its_own_ring_only(
        ops in prop::collection::vec(hostile(), 1..300),
        order in order(),
        wishes in wishes(),
        merge in prop::sample::select(vec![Merge::Single, Merge::Mergeable]),
        indirect in prop::sample::select(vec![Indirect::Refused, Indirect::Allowed]),
    ) {
        let terms = |terms: &Terms| Terms { wishes, indirect, ..terms.clone() };
        let bed = split(16, order, merge);
        let mut source = split::Source::open(&terms(&bed.terms)).unwrap();
        survives_as_source(&bed, &mut source, BURST, &ops);
        let bed = split(16, order, merge);
        survives_as_sink(&bed, &mut split::Sink::open(&terms(&bed.terms)).unwrap(), &ops);
        let bed = packed(13, order, merge);
        let mut source = packed::Source::open(&terms(&bed.terms)).unwrap();
        survives_as_source(&bed, &mut source, 13, &ops);
        let bed = packed(13, order, merge);
        survives_as_sink(&bed, &mut packed::Sink::open(&terms(&bed.terms)).unwrap(), &ops);
    }
}

/// Makes every descriptor of a packed ring available in a lap.
fn make_available<D: Driver>(bed: &Bed<D>, size: u64, lap: packed::Lap, flags: u16) {
    for index in 0..size {
        let tail = u64::from(lap.available() | flags) << 48 | index << 32 | 256;
        bed.write(DESCRIPTORS + index * 16, &(BUFFERS + index * 256).to_le_bytes());
        bed.write(DESCRIPTORS + index * 16 + 8, &tail.to_le_bytes());
    }
}

#[test]
fn a_visit_that_ends_early_goes_on_behind_the_last_chain() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        let single = [readable(BUFFERS, 60)];
        let double = [readable(BUFFERS, 60), readable(BUFFERS + 64, 60)];
        for chain in [&single[..], &single, &single, &single, &double, &single] {
            bed.send(chain);
        }
        let stop_after = |mut chains: usize| {
            each(move |_| {
                chains -= 1;
                if chains == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        assert_eq!(source.take(64, stop_after(2)), Ok(2));
        assert_eq!(source.take(64, stop_after(3)), Ok(3), "the last of them is the double");
        assert_eq!(take(&mut source, 64).len(), 1);
        source.give_back();
        source.flush();
        assert_eq!(bed.collected().len(), 6);
    }
    on_both!(check, Source, 16, Order::Any, Merge::Single);
}

#[test]
fn a_visit_that_panics_loses_nothing_and_repeats_nothing() {
    fn check<D: Driver>(mut bed: Bed<D>, mut source: impl Source) {
        (0..3).for_each(|_| _ = bed.send(&[readable(BUFFERS, 60)]));
        let visit = || source.take(64, each(|_| std::panic::resume_unwind(Box::new(()))));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(visit)).unwrap_err();
        assert_eq!(take(&mut source, 64).len(), 2);
        source.give_back();
        source.flush();
        assert_eq!(bed.collected().len(), 3);
    }
    on_both!(check, Source, 8, Order::Any, Merge::Single);
}

#[test]
fn what_a_packed_ring_gave_before_it_broke_is_given_back() {
    const SIZE: u16 = 8;
    let bed = packed(SIZE, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    make_available(&bed, SIZE.into(), packed::Lap::Odd, 0);
    assert_eq!(take(&mut source, 4).len(), 4);
    make_available(&bed, 1, packed::Lap::Even, 0);
    let again = source.take(64, each(|_| ControlFlow::Continue(())));
    assert_eq!(again, Err(RingFault::Overrun));
    source.give_back();
    for index in 0..u64::from(SIZE) {
        let flags = bed.word16(DESCRIPTORS + index * 16 + 14);
        assert!(packed::Lap::Odd.is_used(flags), "descriptor {index}: {flags:#x}");
    }
}

#[test]
fn a_packed_ring_does_not_run_over_what_is_held() {
    let mut bed = packed(4, Order::Any, Merge::Single);
    let mut source = packed::Source::open(&bed.terms).unwrap();
    (0..4).for_each(|_| _ = bed.send(&[readable(BUFFERS, 60)]));
    assert_eq!(take(&mut source, 64).len(), 4);
    make_available(&bed, 4, packed::Lap::Even, 0);
    let again = source.take(64, each(|_| ControlFlow::Continue(())));
    assert_eq!(again, Err(RingFault::Overrun));
    source.give_back();

    let mut bed = packed(4, Order::Any, Merge::Single);
    let mut sink = packed::Sink::open(&bed.terms).unwrap();
    (0..4).for_each(|_| _ = bed.send(&[writable(BUFFERS, 256)]));
    sink.look_ahead();
    make_available(&bed, 4, packed::Lap::Even, WRITE);
    (0..4).for_each(|_| offer(&mut sink, &[0; 60]).unwrap());
    assert_eq!(offer(&mut sink, &[0; 60]), Err(Refusal::Broken(RingFault::Overrun)));
    sink.publish();
}

mod indirect;
mod model;
mod wishes;
