//! Whole breaths over memory ports: a burst of 64 frames from one `veb` port to
//! another, addresses registered, source and VLAN checked.
//!
//! Only [`Wiring::breathe`] is timed, not what the guests do. A breath takes some
//! 256 KiB from a port, so a burst of 64 KiB frames is several of them.

#[path = "../tests/wiring/mod.rs"]
mod wiring;

mod tcp;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hairpin_dataplane::port::memory;
use hairpin_dataplane::wire::layout::Network;
use hairpin_dataplane::wire::offload::Offload;
use tcp::Tcp;
use wiring::{Wiring, frame, mac, plain};

const BURST: usize = 64;
/// Room for a burst of the longest frames.
const RING_BYTES: usize = 8 << 20;

/// What one port sends to the other, over and over.
struct Load {
    wiring: Wiring,
    frame: Vec<u8>,
    offload: Offload,
    received: Vec<u8>,
}

impl Load {
    fn plain(length: usize) -> Load {
        Load::new(Wiring::new(2), frame(0, mac(1), length), Offload::NONE)
    }

    fn tso(network: Network) -> Load {
        let config = memory::Config { bytes: RING_BYTES, ..memory::Config::default() };
        let frame = Tcp::to_cut(network, [mac(1), mac(0)]);
        Load::new(Wiring::with(2, |_| plain(config)), frame.bytes, frame.offload)
    }

    fn new(wiring: Wiring, frame: Vec<u8>, offload: Offload) -> Load {
        let received = Vec::with_capacity(frame.len());
        let mut load = Load { wiring, frame, offload, received };
        load.burst();
        assert_eq!(load.received, load.frame);
        load
    }

    /// Brings a burst across; says how long its breaths took.
    fn burst(&mut self) -> Duration {
        for _ in 0..BURST {
            let queued = self.wiring.endpoints[0].queue(&self.frame, self.offload);
            queued.expect("a burst fits into the ring");
        }
        self.wiring.endpoints[0].flush();
        let (start, mut frames) = (Instant::now(), 0);
        while frames < BURST {
            let received = self.wiring.breathe();
            assert!(received > 0, "frames are left behind");
            frames += received;
        }
        let took = start.elapsed();
        for _ in 0..BURST {
            let delivered = self.wiring.endpoints[1].receive(&mut self.received);
            assert_eq!(delivered, Some(self.offload));
        }
        took
    }
}

fn breath(criterion: &mut Criterion) {
    let loads = [
        ("64", Load::plain(64)),
        ("1500", Load::plain(1500)),
        ("tso4", Load::tso(Network::Ipv4)),
        ("tso6", Load::tso(Network::Ipv6)),
    ];
    let mut group = criterion.benchmark_group("breath");
    for (name, mut load) in loads {
        let bytes = (BURST * load.frame.len()) as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: BURST as u64, bytes });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|bursts| (0..bursts).map(|_| load.burst()).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, breath);
criterion_main!(benches);
