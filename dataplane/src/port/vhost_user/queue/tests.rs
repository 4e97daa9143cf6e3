//! A driver's half in plain memory at either end of a queue.

use super::*;
use crate::sys::memory::{Body, Mapping, Region};
use crate::sys::virtqueue::driver::{
    Access, Buffer, Driver, Negotiated, PackedDriver, SplitDriver,
};
use crate::sys::virtqueue::{Indirect, Layout, Merge, Order, Wishes};
use crate::wire::offload::{Checksum, Ecn, Segmentation};

const SIZE: u16 = 64;
const BUFFERS: u64 = 0x4000;
const TABLES: u64 = 0xc000;
const MEMORY_BYTES: u64 = 0x1_0000;
/// A second region, with a hole before it.
const SECOND: u64 = MEMORY_BYTES + 0x1000;

/// A TSO frame's header: checksum at 34 + 16, 1448 bytes a segment, `hdr_len` a lie.
const TSO: [u8; 12] = [1, 1, 0xff, 0xff, 0xa8, 5, 34, 0, 16, 0, 0, 0];

fn tso() -> Offload {
    Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        segmentation: Segmentation::Tcp4 { size: 1448, ecn: Ecn::Without },
    }
}

fn terms(start: u16, merge: Merge) -> Terms {
    let region = |at, bytes| Region::new(at, Mapping::anonymous(bytes).unwrap()).unwrap();
    let regions = vec![region(0, MEMORY_BYTES as usize), region(SECOND, 0x1000)];
    Terms {
        memory: Arc::new(Memory::new(regions)),
        layout: Layout { size: SIZE, descriptors: 0, driver: 0x1000, device: 0x2000 },
        position: Position { available: start, used: start },
        order: Order::Any,
        merge,
        indirect: Indirect::Allowed,
        wishes: Wishes::EventIndex,
    }
}

/// A driver and the terms under which its ring is served.
struct Bed<D> {
    driver: D,
    terms: Terms,
    kind: RingKind,
}

fn split(merge: Merge) -> Bed<SplitDriver> {
    let terms = terms(0, merge);
    let driver = SplitDriver::new(&terms.memory, terms.layout, terms.order).unwrap();
    Bed { driver: driver.from_position(terms.position, terms.wishes), terms, kind: RingKind::Split }
}

fn packed(merge: Merge) -> Bed<PackedDriver> {
    let terms = terms(1 << 15, merge);
    let driver = PackedDriver::new(&terms.memory, terms.layout, terms.order).unwrap();
    let driver = driver.from_position(terms.position, terms.wishes).unwrap();
    Bed { driver, terms, kind: RingKind::Packed }
}

macro_rules! on_both {
    ($check:ident) => {{
        $check(split(Merge::Mergeable));
        $check(packed(Merge::Mergeable));
    }};
}

impl<D: Negotiated> Bed<D> {
    fn write(&self, address: u64, bytes: &[u8]) {
        let mut hint = RegionHint::default();
        let place = self.terms.memory.place(&mut hint, address, bytes.len() as u32);
        place.unwrap().write(bytes);
    }

    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut hint = RegionHint::default();
        self.terms.memory.place(&mut hint, address, length as u32).unwrap().read(&mut bytes);
        bytes
    }

    fn receiver(&self) -> QueueReceiver {
        QueueReceiver::open(self.kind, &self.terms).unwrap()
    }

    fn transmitter(&self) -> QueueTransmitter {
        QueueTransmitter::open(self.kind, &self.terms).unwrap()
    }

    /// Sends what lies in these pieces.
    fn send(&mut self, pieces: &[Piece]) {
        let chain: Vec<Buffer> = pieces.iter().map(|&piece| buffer(piece, Access::Read)).collect();
        self.driver.add(&chain).unwrap();
        self.driver.publish();
    }

    /// Sends a frame of 60 bytes behind this header, in one piece.
    fn send_frame(&mut self, header: [u8; 12], tag: u8) {
        let at = BUFFERS + u64::from(tag) * 128;
        self.write(at, &header);
        self.write(at + 12, &[tag; 60]);
        self.send(&[(at, 72)]);
    }

    fn collected(&mut self) -> usize {
        let mut count = 0;
        self.driver.collect(|_| count += 1);
        count
    }
}

fn buffer((address, length): Piece, access: Access) -> Buffer {
    Buffer { address, length, access }
}

/// The first byte and the offload of each frame of a batch.
fn frames(batch: &Batch) -> Vec<(u8, Offload)> {
    (0..batch.count()).map(|index| (batch.header(index)[0], batch.offload(index))).collect()
}

#[test]
fn a_header_says_what_is_left_to_do() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        bed.send_frame([0; 12], 1);
        bed.send_frame(TSO, 2);
        // DATA_VALID: a guest's word.
        bed.send_frame([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 3);
        assert_eq!(receiver.receive(&mut batch), Received::Drained);
        assert_eq!(frames(&batch), [(1, Offload::NONE), (2, tso()), (3, Offload::NONE)]);
        receiver.release();
        receiver.set_headers(NetHeaders::Ignored);
        bed.send_frame(TSO, 4);
        receiver.receive(&mut batch);
        assert_eq!(frames(&batch), [(4, Offload::NONE)]);
    }
    on_both!(check);
}

#[test]
fn a_header_that_nobody_negotiated_costs_its_frame_alone() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        let ufo = [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (header, tag) in [(ufo, 1), (TSO, 2), (ufo, 3), (ufo, 4), ([0; 12], 5), (ufo, 6)] {
            bed.send_frame(header, tag);
        }
        bed.write(BUFFERS + 0x2000, &ufo);
        bed.send(&[(BUFFERS + 0x2000, 12), (BUFFERS, 60)]);
        receiver.receive(&mut batch);
        assert_eq!(frames(&batch), [(2, tso()), (5, Offload::NONE)]);
        assert_eq!(batch.rejected(), [DropReason::OffloadInvalid; 5]);
        assert_eq!(batch.bytes(), 120);
        assert_eq!(batch.view(1).header, [5; 60]);
        receiver.release();
        receiver.flush();
        assert_eq!(bed.collected(), 7);
    }
    on_both!(check);
}

/// CVE-2022-2132.
#[test]
fn a_header_may_be_split_over_descriptors_anyhow() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        bed.write(BUFFERS, &TSO);
        bed.write(BUFFERS + 12, &[9; 60]);
        for cuts in [&(0..=12).collect::<Vec<u64>>()[..], &[0, 5, 5, 7, 30], &[0, 12], &[0, 13]] {
            let ends = cuts[1..].iter().chain(&[72]);
            let pieces: Vec<Piece> = cuts
                .iter()
                .zip(ends)
                .map(|(&from, &to)| (BUFFERS + from, (to - from) as u32))
                .collect();
            let chain: Vec<Buffer> =
                pieces.iter().map(|&piece| buffer(piece, Access::Read)).collect();
            bed.send(&pieces);
            bed.driver.add_indirect(&chain, TABLES).unwrap();
            bed.driver.publish();
            receiver.receive(&mut batch);
            assert_eq!(frames(&batch), [(9, tso()); 2], "{cuts:?}");
            assert_eq!(batch.length(0), 60);
            receiver.release();
            receiver.flush();
            bed.collected();
        }
    }
    on_both!(check);
}

#[test]
fn a_chain_shorter_than_a_header_is_a_runt() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        bed.send(&[(BUFFERS, 11)]);
        bed.send(&[(BUFFERS, 0)]);
        bed.send(&[(BUFFERS, 5), (BUFFERS, 0), (BUFFERS, 6)]);
        bed.send(&[(BUFFERS, 0); 40]);
        receiver.receive(&mut batch);
        assert_eq!(batch.rejected(), [DropReason::Runt; 4]);
        assert_eq!(batch.count(), 0);
    }
    on_both!(check);
}

/// CVE-2018-1059, CVE-2020-10725: in every slot of a burst.
#[test]
fn what_does_not_lie_in_one_region_is_a_bad_address() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        let bad = [
            (MEMORY_BYTES - 20, 72),
            (MEMORY_BYTES, 72),
            (MEMORY_BYTES - 20, 0x2000),
            (SECOND - 1, 72),
            (SECOND + 0x1000 - 71, 72),
            (u64::MAX - 20, 72),
            (BUFFERS, u32::MAX),
        ];
        for slot in 0..32 {
            for other in 0..32 {
                if other == slot {
                    bed.send(&[bad[slot % bad.len()]]);
                } else {
                    bed.send_frame([0; 12], 1);
                }
            }
            receiver.receive(&mut batch);
            assert_eq!(batch.rejected(), [DropReason::BadAddress], "slot {slot}");
            assert_eq!(frames(&batch), [(1, Offload::NONE); 31]);
            receiver.release();
            receiver.flush();
            assert_eq!(bed.collected(), 32);
        }
        bed.send(&[(SECOND, 12), (SECOND + 0x1000 - 60, 60)]);
        bed.send(&[(SECOND - 12, 12), (SECOND, 60)]);
        bed.send(&[(BUFFERS, 12), (u64::MAX, 60)]);
        receiver.receive(&mut batch);
        assert_eq!((batch.count(), batch.rejected()), (1, &[DropReason::BadAddress; 2][..]));
    }
    on_both!(check);
}

#[test]
fn a_frame_of_more_than_256_pieces_is_counted_as_that() {
    let mut bed = packed(Merge::Mergeable);
    let mut receiver = bed.receiver();
    let mut batch = Batch::new();
    let piece = buffer((BUFFERS, 1), Access::Read);
    bed.driver.add_indirect(&[piece; 256], TABLES).unwrap();
    bed.driver.add_indirect(&[piece; 257], TABLES + 0x1000).unwrap();
    bed.driver.publish();
    // The first fills the batch, whatever comes behind it.
    assert_eq!(receiver.receive(&mut batch), Received::Drained);
    assert_eq!((batch.count(), batch.length(0)), (1, 256 - 12));
    assert_eq!(batch.rejected(), [DropReason::TooManySegments]);
}

/// rust-vmm/vm-virtio#196: an index that jumps must not have chains processed again.
#[test]
fn an_index_that_jumps_breaks_the_ring_after_what_was_found_before() {
    let mut bed = split(Merge::Mergeable);
    let mut receiver = bed.receiver();
    let mut batch = Batch::new();
    bed.send_frame([0; 12], 1);
    assert_eq!(receiver.receive(&mut batch), Received::Drained);
    receiver.release();
    bed.write(0x1002, &0x8001_u16.to_le_bytes());
    assert!(receiver.has_frames());
    assert_eq!(receiver.receive(&mut batch), Received::Failing);
    assert_eq!((batch.count(), receiver.fault()), (0, Some(RingFault::Overrun)));
    // Repaired or not: it is over.
    bed.write(0x1002, &1_u16.to_le_bytes());
    assert!(!receiver.has_frames() && !receiver.want_kicks());
    assert_eq!(receiver.receive(&mut batch), Received::Failing);
}

#[test]
fn a_broken_ring_gives_what_was_found_before() {
    let mut bed = split(Merge::Mergeable);
    let mut receiver = bed.receiver();
    let mut batch = Batch::new();
    bed.send_frame([0; 12], 1);
    bed.send_frame([0; 12], 2);
    // The second head.
    bed.write(0x1006, &SIZE.to_le_bytes());
    assert_eq!(receiver.receive(&mut batch), Received::More);
    assert_eq!(receiver.fault(), Some(RingFault::Index));
    assert_eq!(frames(&batch), [(1, Offload::NONE)]);
    receiver.release();
    receiver.flush();
    assert_eq!(bed.collected(), 1);
    assert_eq!(receiver.receive(&mut batch), Received::Failing);
}

/// Sends one frame to the driver.
fn transmit(transmitter: &mut QueueTransmitter, offload: Offload) -> Result<(), DropReason> {
    let header = [7; 60];
    let departure = Departure { header: &header, body: Body::EMPTY, offload, fate: Ok(()) };
    let mut departures = [departure];
    transmitter.transmit(&mut departures);
    departures[0].fate
}

#[test]
fn a_frame_for_the_driver_lies_behind_a_header_that_says_what_is_left_to_do() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut transmitter = bed.transmitter();
        let valid = Offload { checksum: Checksum::Valid, ..Offload::NONE };
        let partial = Offload { segmentation: Segmentation::None, ..tso() };
        let none = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        // The same buffer again and again, with what the frame before left in it.
        for (offload, header) in [
            (Offload::NONE, none),
            (partial, [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 1, 0]),
            (Offload::NONE, none),
            (valid, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            (tso(), virtio_net::encode(&tso(), &[7; 60], 1)),
            (Offload::NONE, none),
        ] {
            bed.driver.add(&[buffer((BUFFERS, 512), Access::Write)]).unwrap();
            bed.driver.publish();
            assert_eq!(transmit(&mut transmitter, offload), Ok(()));
            assert_eq!(bed.read(BUFFERS, 12), header, "{offload:?}");
            assert_eq!(bed.read(BUFFERS + 12, 60), [7; 60]);
            assert_eq!(bed.collected(), 1);
        }
    }
    on_both!(check);
}

#[test]
fn a_header_for_the_driver_is_spread_over_buffers_of_one_byte() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut transmitter = bed.transmitter();
        let partial = Offload { segmentation: Segmentation::None, ..tso() };
        let mut chain: Vec<Buffer> =
            (0..20).map(|at| buffer((BUFFERS + at, 1), Access::Write)).collect();
        chain.push(buffer((BUFFERS + 20, 40), Access::Write));
        bed.driver.add_indirect(&chain, TABLES).unwrap();
        bed.driver.add(&[buffer((BUFFERS + 60, 100), Access::Write)]).unwrap();
        bed.driver.publish();
        assert_eq!(transmit(&mut transmitter, partial), Ok(()));
        assert_eq!(bed.read(BUFFERS, 12), [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 2, 0]);
        assert_eq!(bed.read(BUFFERS + 12, 60), [7; 60]);
        assert_eq!(bed.collected(), 2);
        assert_eq!(transmit(&mut transmitter, partial), Err(DropReason::RxRingFull));
        assert_eq!(transmitter.fault(), None);
    }
    on_both!(check);
}

#[test]
fn a_receive_buffer_outside_memory_is_told_as_a_fault() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut transmitter = bed.transmitter();
        bed.driver.add(&[buffer((MEMORY_BYTES - 1, 100), Access::Write)]).unwrap();
        bed.driver.publish();
        assert_eq!(transmit(&mut transmitter, Offload::NONE), Err(DropReason::DeviceError));
        assert_eq!(transmitter.fault(), Some(RingFault::Buffer));
    }
    on_both!(check);
}

/// CVE-2020-14375: values that change between check and use.
#[test]
fn a_driver_that_changes_descriptors_while_they_are_read_harms_nobody_else() {
    fn check<D: Negotiated>(mut bed: Bed<D>) {
        let mut receiver = bed.receiver();
        let mut batch = Batch::new();
        let memory = Arc::clone(&bed.terms.memory);
        let chain = [buffer((BUFFERS, 72), Access::Read); 2];
        let scribble = move || {
            let place = memory.place(&mut RegionHint::default(), TABLES, 16).unwrap();
            let entry = |address: u64, length: u64| {
                [address, length | 1 << 32 | 1 << 48].map(u64::to_le_bytes).concat()
            };
            for _ in 0..100_000 {
                place.write(&entry(BUFFERS, 72));
                place.write(&entry(u64::MAX - 80, 0xffff_ffff));
            }
        };
        let scribbler = std::thread::spawn(scribble);
        while !scribbler.is_finished() {
            bed.driver.add_indirect(&chain, TABLES).unwrap();
            bed.driver.publish();
            receiver.receive(&mut batch);
            assert_eq!(batch.count() + batch.rejected().len(), 1);
            (0..batch.count()).for_each(|index| _ = batch.view(index).body.read(&mut [0; 256]));
            receiver.release();
            receiver.flush();
            assert_eq!(bed.collected(), 1);
        }
        scribbler.join().unwrap();
    }
    on_both!(check);
}
