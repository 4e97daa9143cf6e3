//! What the suite says of a cable whose faults are known: it has to say what they are.
//!
//! The cable is the dataplane's fault middleware between two memory devices, moved by the
//! receiver in time that the test makes: the same faults befall the same frames in each run,
//! however busy the machine is. The middleware counts in milliseconds; here one of them is ten
//! microseconds, so that faults are as small as the issue has them.

use std::sync::Arc;

use hairpin_bench::error::Result;
use hairpin_bench::suite::clock::Looked;
use hairpin_bench::suite::endpoint::{MemoryReceiver, Receiver};
use hairpin_bench::suite::frame::{Size, Stream, Tag};
use hairpin_bench::suite::pace::Pace;
use hairpin_bench::suite::trial::{Generator, Load, Outcome, Plan};
use hairpin_dataplane::frame::Batch;
use hairpin_dataplane::port::fault::{self, Chance, FaultCounts, FaultDevice, Faults, Stall};
use hairpin_dataplane::port::memory::{self, Config, EndpointSender, MemoryDevice};
use hairpin_dataplane::port::{Arena, Departure};
use hairpin_dataplane::wire::Mac;

/// What the middleware takes for a millisecond.
const UNIT_NS: u64 = 10_000;
/// What a look at the clock takes.
const LOOK_NS: u64 = 500;

/// A cable with faults, and the receiver at its end.
struct Cable {
    from: FaultDevice,
    to: MemoryDevice,
    arena: Arena,
    batch: Batch,
    time: Looked,
    end: MemoryReceiver,
}

impl Receiver for Cable {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.arena.now_ms = self.time.peek_ns() / UNIT_NS;
        self.from.receiver.receive(&mut self.arena, &mut self.batch);
        for index in 0..self.batch.count() {
            let mut departures = [Departure::from(self.batch.view(index))];
            self.to.transmitter.transmit(&mut departures);
            assert_eq!(departures[0].fate, Ok(()), "the far end has room");
        }
        self.from.receiver.release(&mut self.batch);
        self.end.receive(visit)
    }
}

fn cable(faults: Faults, time: &Looked) -> (EndpointSender, Cable, Arc<FaultCounts>) {
    println!("seed {}", faults.seed);
    let (near, sender) = memory::pair(Config::default()).expect("memory");
    let (to, end) = memory::pair(Config::default()).expect("memory");
    let from = fault::wrap(near, faults, Faults::default()).expect("memory");
    let counts = Arc::clone(&from.inward);
    let end = MemoryReceiver::new(end.split().1);
    let (arena, batch) = (Arena::new().expect("memory"), Batch::new());
    let cable = Cable { from, to, arena, batch, time: time.clone(), end };
    (sender.split().0, cable, counts)
}

/// A second of this load over a cable with these faults.
fn outcome(frames_per_second: f64, faults: Faults) -> (Outcome, Arc<FaultCounts>) {
    outcome_of(Load::Open(Pace { frames_per_second }), 1, faults)
}

/// The same of any load, of so many flows.
fn outcome_of(load: Load, flows: u32, faults: Faults) -> (Outcome, Arc<FaultCounts>) {
    let mut time = Looked::by(LOOK_NS);
    let (mut sender, mut cable, counts) = cable(faults, &time);
    let (source, destination) = (Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2]));
    let (source, destination) = (source.into(), destination.into());
    let stream =
        Stream { source, destination, tag: Tag::Customer(10), size: Size::Fixed(128), flows };
    let plan = Plan { stream, load, length_ns: 1_000_000_000, drain_ns: 100_000_000 };
    let said = Generator::default().run(&plan, &mut time, &mut sender, &mut cable);
    (said.expect("nothing is gone"), counts)
}

/// Nothing but what the test is about is wrong.
#[track_caller]
fn assert_otherwise_whole(outcome: &Outcome) {
    assert_eq!((outcome.refused, outcome.missed, outcome.late), (0, 0, 0));
    assert_eq!(outcome.foreign, 0);
}

#[test]
fn a_cable_without_faults_has_none() {
    let (outcome, _) = outcome(100_000.0, Faults::default());
    assert_otherwise_whole(&outcome);
    assert_eq!((outcome.offered, outcome.lost()), (100_000, 0));
    assert_eq!((outcome.counts.duplicated, outcome.counts.reordered), (0, 0));
    assert_eq!(outcome.corrupted, 0);
    assert!(outcome.latency.greatest().unwrap() < 2 * UNIT_NS);
}

#[test]
fn one_lost_in_a_thousand_is_one_lost_in_a_thousand() {
    let drop = Chance::per_million(1000);
    let (outcome, counts) = outcome(100_000.0, Faults { seed: 1, drop, ..Faults::default() });
    assert_otherwise_whole(&outcome);
    assert_eq!(outcome.lost(), counts.dropped.get());
    assert!((0.0008..0.0012).contains(&outcome.loss()), "{}", outcome.loss());
    assert_eq!((outcome.counts.duplicated, outcome.corrupted), (0, 0));
    assert_eq!(outcome.counts.reordered, 0);
}

#[test]
fn frames_that_come_twice_are_duplicates_and_no_loss() {
    let duplicate = Chance::per_million(2000);
    let (outcome, counts) = outcome(100_000.0, Faults { seed: 2, duplicate, ..Faults::default() });
    assert_otherwise_whole(&outcome);
    assert_eq!(outcome.counts.duplicated, counts.duplicated.get());
    assert!((150..250).contains(&outcome.counts.duplicated));
    assert_eq!((outcome.lost(), outcome.counts.reordered, outcome.corrupted), (0, 0, 0));
}

#[test]
fn altered_frames_are_corrupted_and_lost() {
    let corrupt = Chance::per_million(5000);
    let (outcome, counts) = outcome(100_000.0, Faults { seed: 3, corrupt, ..Faults::default() });
    assert_otherwise_whole(&outcome);
    let altered = counts.corrupted.get();
    // A bit of the tag is not the frame's: a switch may change it (1 byte of 31).
    let unseen = altered - outcome.corrupted;
    assert!(unseen <= altered / 10, "{unseen} of {altered} unseen");
    assert_eq!(outcome.lost(), outcome.corrupted);
    assert!((350..650).contains(&outcome.corrupted), "{}", outcome.corrupted);
}

#[test]
fn a_lone_frame_takes_what_its_cable_takes() {
    let burst = Load::Burst { frames: 1 };
    let (plain, _) = outcome_of(burst, 1, Faults::default());
    let (delayed, _) = outcome_of(burst, 1, Faults { delay_ms: 10, ..Faults::default() });
    assert_eq!((plain.lost(), delayed.lost(), delayed.offered), (0, 0, 1));
    let of = |outcome: &Outcome| outcome.latency.greatest().unwrap();
    let more = of(&delayed).saturating_sub(of(&plain));
    assert!(more.abs_diff(100_000) <= UNIT_NS + 2000, "{more} ns more");
}

#[test]
fn a_burst_loses_what_its_cable_loses_flow_by_flow() {
    let drop = Chance::per_million(10_000);
    let faults = Faults { seed: 5, drop, ..Faults::default() };
    let (outcome, counts) = outcome_of(Load::Burst { frames: 50_000 }, 1000, faults);
    assert_otherwise_whole(&outcome);
    assert_eq!((outcome.offered, outcome.lost()), (50_000, counts.dropped.get()));
    // Each flow has 50 frames.
    let lost = |received: &u64| 50 - received;
    let by_flow: u64 = outcome.received_by_flow.iter().map(lost).sum();
    assert_eq!((outcome.received_by_flow.len(), by_flow), (1000, counts.dropped.get()));
}

#[test]
fn overtaken_frames_are_reordered_and_no_loss() {
    let reorder = Chance::per_million(1000);
    let faults = Faults { seed: 4, reorder, reorder_ms: 10, ..Faults::default() };
    let (outcome, counts) = outcome(100_000.0, faults);
    assert_otherwise_whole(&outcome);
    // Those that wait when the load ends are overtaken by nobody.
    let reordered = counts.reordered.get();
    assert!(reordered - outcome.counts.reordered <= 1, "{reordered} {outcome:?}");
    assert!((60..140).contains(&reordered));
    assert_eq!((outcome.lost(), outcome.counts.duplicated, outcome.corrupted), (0, 0, 0));
}

#[test]
fn a_hundred_microseconds_more_are_a_hundred_microseconds_more() {
    let (plain, _) = outcome(100_000.0, Faults::default());
    let (delayed, _) = outcome(100_000.0, Faults { delay_ms: 10, ..Faults::default() });
    assert_otherwise_whole(&delayed);
    assert_eq!(delayed.lost(), 0);
    for share in [0.5, 0.99, 0.9999] {
        let of = |outcome: &Outcome| outcome.latency.quantile(share).unwrap();
        let more = of(&delayed).saturating_sub(of(&plain));
        // To within what the middleware calls a millisecond.
        assert!(more.abs_diff(100_000) <= UNIT_NS + 2000, "{share}: {more} ns more");
    }
}

#[test]
fn a_stall_of_twenty_milliseconds_shows_in_gap_and_tail_and_loses_nothing() {
    let stall = Some(Stall { every_ms: 50_000, lasts_ms: 2000 });
    let (outcome, _) = outcome(20_000.0, Faults { stall, ..Faults::default() });
    assert_otherwise_whole(&outcome);
    assert_eq!(outcome.lost(), 0);
    let near = |ns: u64| (19_500_000..=20_500_000).contains(&ns);
    let gap_ns = outcome.arrivals.unwrap().longest_gap_ns;
    let slowest_ns = outcome.latency.greatest().unwrap();
    assert!(near(gap_ns) && near(slowest_ns), "gap {gap_ns} ns, slowest {slowest_ns} ns");
    // Twice 20 ms of a second are 4 % of the frames: p50 does not know of them, p99 does.
    assert!(outcome.latency.quantile(0.5).unwrap() < 100_000);
    assert!(outcome.latency.quantile(0.99).unwrap() > 10_000_000);
}

#[test]
fn a_rate_limit_is_the_rate_that_is_forwarded() {
    // 500 in what the middleware takes for a second, which is 10 ms here.
    let (outcome, _) = outcome(100_000.0, Faults { rate: Some(500), ..Faults::default() });
    let rate = outcome.forwarded_per_second().unwrap();
    assert!((49_000.0..51_000.0).contains(&rate), "{rate} frames/s");
    // What was not forwarded found no room, but for what waited at the end.
    assert_eq!(outcome.lost(), outcome.refused);
    assert!((0.45..0.50).contains(&outcome.loss()), "{}", outcome.loss());
}
