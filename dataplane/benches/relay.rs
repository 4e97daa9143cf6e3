//! The relay's share of a frame: admit, decide, egress.
//!
//! `registered` is what DESIGN's budget of 15 ns is about. `learned/N` looks up
//! addresses in a table that holds N of them, in an order that no cache likes, a
//! burst at a time. At the end both table sizes are measured by turns, and the
//! ratio is printed that DESIGN 7 bounds.

mod relay_site;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relay_site::{BURST, Site, Work};

/// Addresses in the small table and in the large one.
const FEW: u32 = 1_000;
const MANY: u32 = 1_000_000;
/// The numbers of the addresses that are learned start here.
const FIRST: u64 = 1000;

/// Windows per table size, alternating; the ratio is that of their medians.
const WINDOWS: usize = 101;
const WINDOW_BURSTS: usize = 1000;
/// Bursts at a window's start that bring the caches back.
const WARMING_BURSTS: usize = 200;

fn registered(criterion: &mut Criterion) {
    let site = Site::registered();
    let mut work = site.work();
    assert_eq!(work.switch(), BURST);
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("registered", |bencher| bencher.iter(|| work.switch()));
    group.finish();
}

/// Bursts to learned addresses, each burst to other ones.
struct Scattered<'s> {
    work: Work<'s>,
    addresses: u32,
    state: u64,
}

impl Scattered<'_> {
    fn new(site: &Site, addresses: u32) -> Scattered<'_> {
        let work = site.work_to((0..BURST as u64).map(|number| FIRST + number));
        Scattered { work, addresses, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// A number below `addresses`, each as likely, from a linear congruence.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((u128::from(self.state) * u128::from(self.addresses)) >> 64) as u64
    }

    /// Switches a burst; says how long that took, without choosing the addresses.
    fn burst(&mut self) -> Duration {
        let chosen: [u64; BURST] = std::array::from_fn(|_| FIRST + self.next());
        self.work.aim(chosen.into_iter());
        let start = Instant::now();
        black_box(self.work.switch());
        start.elapsed()
    }

    /// Nanoseconds a frame.
    fn window(&mut self) -> f64 {
        for _ in 0..WARMING_BURSTS {
            self.burst();
        }
        let took: Duration = (0..WINDOW_BURSTS).map(|_| self.burst()).sum();
        took.as_nanos() as f64 / (WINDOW_BURSTS * BURST) as f64
    }
}

fn learned(criterion: &mut Criterion) {
    let sites = [FEW, MANY].map(|addresses| (Site::learned(addresses), addresses));
    let mut group = criterion.benchmark_group("relay/learned");
    group.throughput(Throughput::Elements(BURST as u64));
    for (site, addresses) in &sites {
        let mut scattered = Scattered::new(site, *addresses);
        group.bench_function(BenchmarkId::from_parameter(addresses), |bencher| {
            bencher.iter_custom(|bursts| (0..bursts).map(|_| scattered.burst()).sum());
        });
    }
    group.finish();
    // What `cargo bench` passes; without it this is a test, and nothing is measured.
    if std::env::args().any(|argument| argument == "--bench") {
        let [few, many] = sites.each_ref().map(|(site, count)| Scattered::new(site, *count));
        compare(few, many);
    }
}

/// Measures both by turns, and prints how they compare.
fn compare(mut few: Scattered<'_>, mut many: Scattered<'_>) {
    let (mut few_ns, mut many_ns): (Vec<f64>, Vec<f64>) =
        (0..WINDOWS).map(|_| (few.window(), many.window())).unzip();
    let (few_ns, many_ns) = (median(&mut few_ns), median(&mut many_ns));
    println!(
        "relay/learned: {few_ns:.1} ns a frame at {FEW} addresses, {many_ns:.1} ns at {MANY}: \
         {:.2} of the rate (DESIGN 7: at least 0.7)\n",
        few_ns / many_ns
    );
}

fn median(sample: &mut [f64]) -> f64 {
    sample.sort_by(f64::total_cmp);
    sample[sample.len() / 2]
}

criterion_group!(benches, registered, learned);
criterion_main!(benches);
