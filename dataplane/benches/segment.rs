//! What an egress costs that leaves work to software, beside one that does not.
//!
//! 64 KiB frames of TCP, to be cut into segments of 1448 bytes:
//! `copied` is a plain copy of the same bytes; `whole` a device that takes the
//! frame as it is; `cut` one that takes checksums but no segmentation; `summed`
//! one that takes neither. Then bursts of 1500-byte frames whose checksums are
//! filled in, under the same names. Only the transmission is timed.

mod tcp;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hairpin_dataplane::frame::{BATCH_FRAMES, Batch};
use hairpin_dataplane::ledger::Counters;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::software::Software;
use hairpin_dataplane::port::{Departure, Transmitter};
use hairpin_dataplane::sys::memory::{Memory, RegionHint};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::layout::Network;
use hairpin_dataplane::wire::offload::{Capabilities, Support};
use hairpin_dataplane::wire::segment;
use tcp::{SEGMENTS, Tcp};

const ADDRESSES: [Mac; 2] =
    [Mac::new([0x52, 0x54, 0, 0, 0, 2]), Mac::new([0x52, 0x54, 0, 0, 0, 1])];
/// 1500 bytes less Ethernet's, IPv4's and TCP's headers.
const SHORT_PAYLOAD: usize = 1500 - 14 - 20 - 32;
const CHECKSUMS_ONLY: Capabilities =
    Capabilities { checksum: Support::Taken, ..Capabilities::NONE };

/// A sender's frames, and the device that they leave by.
struct Egress {
    batch: Batch,
    software: Software,
    transmitter: Transmitter,
    capabilities: Capabilities,
    counters: Counters,
    endpoint: Endpoint,
    received: Vec<u8>,
}

impl Egress {
    /// `count` times the same frame, to a device that takes this much.
    fn new(frame: &Tcp, count: usize, capabilities: Capabilities) -> Egress {
        let config = memory::Config { capabilities, ..memory::Config::default() };
        let (device, endpoint) = memory::pair(config).expect("memory and descriptors");
        let mut egress = Egress {
            batch: batch(frame, count),
            software: Software::new().expect("memory"),
            transmitter: Transmitter::Memory(device.transmitter),
            capabilities,
            counters: Counters::default(),
            endpoint,
            received: Vec::with_capacity(frame.bytes.len()),
        };
        egress.check(frame);
        egress
    }

    /// Transmits all frames; says how long that took.
    fn transmit(&mut self) -> Duration {
        let mut departures: Vec<Departure<'_>> =
            (0..self.batch.count()).map(|index| self.batch.view(index).into()).collect();
        let start = Instant::now();
        let (transmitter, capabilities) = (&mut self.transmitter, &self.capabilities);
        self.software.transmit(transmitter, capabilities, &mut departures, &self.counters);
        let took = start.elapsed();
        assert!(departures.iter().all(|departure| departure.fate.is_ok()));
        took
    }

    /// Frames that arrived, emptying the ring.
    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.endpoint.receive(&mut self.received)).count()
    }

    /// What arrives is, when nothing is left to do on it, what the frame stands for.
    fn check(&mut self, frame: &Tcp) {
        let expected = segment::to_frames(&frame.bytes, &frame.offload).expect("a sound frame");
        self.transmit();
        let mut arrived = 0;
        while let Some(offload) = self.endpoint.receive(&mut self.received) {
            let finished = segment::to_frames(&self.received, &offload).expect("a sound frame");
            for one in finished {
                assert_eq!(one, expected[arrived % expected.len()]);
                arrived += 1;
            }
        }
        assert_eq!(arrived, expected.len() * self.batch.count());
    }
}

/// The frame in its sender's memory, several times, received.
fn batch(frame: &Tcp, count: usize) -> Batch {
    let stride = frame.bytes.len().next_multiple_of(64);
    let memory = Arc::new(Memory::arena(stride * count).expect("memory"));
    let (mut batch, mut hint) = (Batch::new(), RegionHint::default());
    batch.begin(&memory);
    for address in (0..count).map(|index| (index * stride) as u64) {
        let length = frame.bytes.len() as u32;
        let place = memory.place(&mut hint, address, length).expect("the memory is ours");
        place.write(&frame.bytes);
        batch.push(&mut hint, &[(address, length)], frame.offload);
    }
    batch
}

/// A plain copy into memory as large as a device's ring, one frame after the other.
fn copied(group: &mut BenchmarkGroup<'_, WallTime>, frame: &Tcp, count: usize) {
    let mut ring = vec![0_u8; memory::Config::default().bytes];
    let mut at = 0;
    group.bench_function("copied", |bencher| {
        bencher.iter(|| {
            for _ in 0..count {
                let end = at + frame.bytes.len();
                ring[at..end].copy_from_slice(black_box(&frame.bytes));
                at = if end + frame.bytes.len() > ring.len() { 0 } else { end };
            }
            black_box(&mut ring);
        });
    });
}

fn transmitted(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut egress: Egress,
    arriving: usize,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let once = |_| {
                let took = egress.transmit();
                assert_eq!(egress.drain(), arriving);
                took
            };
            (0..times).map(once).sum()
        });
    });
}

fn cut(criterion: &mut Criterion) {
    for (name, network) in [("segment/tcp4", Network::Ipv4), ("segment/tcp6", Network::Ipv6)] {
        let frame = Tcp::to_cut(network, ADDRESSES);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(frame.bytes.len() as u64));
        copied(&mut group, &frame, 1);
        for (name, capabilities, arriving) in [
            ("whole", Capabilities::ALL, 1),
            ("cut", CHECKSUMS_ONLY, SEGMENTS),
            ("summed", Capabilities::NONE, SEGMENTS),
        ] {
            transmitted(&mut group, name, Egress::new(&frame, 1, capabilities), arriving);
        }
        group.finish();
    }
}

fn checksum(criterion: &mut Criterion) {
    let frame = Tcp::to_sum(Network::Ipv4, ADDRESSES, SHORT_PAYLOAD);
    let mut group = criterion.benchmark_group("checksum/1500");
    let bytes = (BATCH_FRAMES * frame.bytes.len()) as u64;
    group.throughput(Throughput::ElementsAndBytes { elements: BATCH_FRAMES as u64, bytes });
    copied(&mut group, &frame, BATCH_FRAMES);
    for (name, capabilities) in [("whole", Capabilities::ALL), ("summed", Capabilities::NONE)] {
        let egress = Egress::new(&frame, BATCH_FRAMES, capabilities);
        transmitted(&mut group, name, egress, BATCH_FRAMES);
    }
    group.finish();
}

criterion_group!(benches, cut, checksum);
criterion_main!(benches);
