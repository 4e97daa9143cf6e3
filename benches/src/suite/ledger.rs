//! What became of a trial's frames, flow by flow.
//!
//! * received: whole, for the first time;
//! * duplicated: whole, once more;
//! * reordered (RFC 4737, 3): received after a frame of its flow with a higher number;
//! * corrupted: altered. Its number cannot be trusted, so the frame it was counts as lost;
//! * late: whole, of an earlier trial;
//! * lost: offered and not received, whether it could be sent or not.

use super::frame::{NUMBERS, Seen, Stamp, Stream};
use super::histogram::Histogram;

/// Counts of one flow, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Whole, for the first time.
    pub received: u64,
    /// Whole, once more.
    pub duplicated: u64,
    /// Received after a later frame of its flow.
    pub reordered: u64,
}

/// A flow's counts, and the number that its next frame has at least.
#[derive(Clone, Copy, Default, Debug)]
struct Flow {
    counts: Counts,
    next: u64,
}

/// The account of one trial.
#[derive(Clone, Debug)]
pub struct Ledger {
    stream: Stream,
    /// The trial's first number.
    first: u64,
    /// A bit for each number of the trial.
    seen: Vec<u64>,
    flows: Vec<Flow>,
    total: Counts,
    corrupted: u64,
    late: u64,
    foreign: u64,
    latency: Histogram,
    arrivals: Option<Arrivals>,
}

/// When frames came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrivals {
    /// The first, in nanoseconds of the trial's clock.
    pub first_ns: u64,
    /// The last.
    pub last_ns: u64,
    /// The longest time between two, in nanoseconds.
    pub longest_gap_ns: u64,
}

impl Ledger {
    /// An account of `count` frames, whose first has this number.
    #[must_use]
    pub fn new(stream: Stream, first: u64, count: u64) -> Ledger {
        Ledger {
            stream,
            first,
            seen: vec![0; count.div_ceil(64) as usize],
            flows: vec![Flow::default(); stream.flows.max(1) as usize],
            total: Counts::default(),
            corrupted: 0,
            late: 0,
            foreign: 0,
            latency: Histogram::new(),
            arrivals: None,
        }
    }

    /// What its frames are like.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes a frame that came at this time into account.
    pub fn enter(&mut self, frame: &[u8], now_ns: u64) {
        match self.stream.read(frame) {
            Seen::Whole(stamp) => self.enter_whole(stamp, now_ns),
            Seen::Altered => self.corrupted += 1,
            Seen::Foreign => self.foreign += 1,
        }
    }

    fn enter_whole(&mut self, stamp: Stamp, now_ns: u64) {
        let Stamp { number, flow, sent_ns } = stamp;
        let Some(index) = number.checked_sub(self.first) else {
            self.late += 1;
            return;
        };
        let word = self.seen.get_mut((index / 64) as usize);
        let (Some(word), Some(flow)) = (word, self.flows.get_mut(flow as usize)) else {
            // A hash that is right by chance.
            self.corrupted += 1;
            return;
        };
        let bit = 1 << (index % 64);
        if *word & bit != 0 {
            flow.counts.duplicated += 1;
            self.total.duplicated += 1;
            return;
        }
        *word |= bit;
        flow.counts.received += 1;
        self.total.received += 1;
        if number < flow.next {
            flow.counts.reordered += 1;
            self.total.reordered += 1;
        }
        flow.next = flow.next.max(number + 1);
        self.latency.record(now_ns.wrapping_sub(sent_ns) % NUMBERS);
        self.arrivals = Some(match self.arrivals {
            None => Arrivals { first_ns: now_ns, last_ns: now_ns, longest_gap_ns: 0 },
            Some(Arrivals { first_ns, last_ns, longest_gap_ns }) => Arrivals {
                first_ns,
                last_ns: now_ns,
                longest_gap_ns: longest_gap_ns.max(now_ns.saturating_sub(last_ns)),
            },
        });
    }

    /// The counts of all flows together.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.total
    }

    /// The counts of each flow.
    pub fn flows(&self) -> impl Iterator<Item = Counts> + '_ {
        self.flows.iter().map(|flow| flow.counts)
    }

    /// Frames that came altered.
    #[must_use]
    pub fn corrupted(&self) -> u64 {
        self.corrupted
    }

    /// Frames of an earlier trial.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Frames that are not the stream's.
    #[must_use]
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// How long received frames took, in nanoseconds; less than 18 minutes each.
    #[must_use]
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// When frames came; `None` if none did.
    #[must_use]
    pub fn arrivals(&self) -> Option<Arrivals> {
        self.arrivals
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hairpin_dataplane::wire::Mac;

    use super::super::frame::{Size, Tag};
    use super::*;
    use crate::front_end::station::Noise;

    fn stream(flows: u32) -> Stream {
        let (source, destination) = (Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2]));
        let (source, destination) = (source.into(), destination.into());
        Stream { source, destination, tag: Tag::Untagged, size: Size::Fixed(64), flows }
    }

    /// What a naive reader of the definitions counts, flow by flow.
    fn model(stream: &Stream, heard: &[u64]) -> BTreeMap<u32, Counts> {
        let mut counts: BTreeMap<u32, Counts> = BTreeMap::new();
        for (at, number) in heard.iter().enumerate() {
            let flow = stream.flow_of(*number);
            let before: BTreeSet<u64> = heard[..at].iter().copied().collect();
            let counts = counts.entry(flow).or_default();
            if before.contains(number) {
                counts.duplicated += 1;
                continue;
            }
            counts.received += 1;
            let later = before.range(number + 1..).any(|&other| stream.flow_of(other) == flow);
            counts.reordered += u64::from(later);
        }
        counts
    }

    #[test]
    fn any_order_with_any_gaps_is_counted_as_a_naive_model_counts_it() {
        for seed in 0..200 {
            println!("seed {seed}");
            let mut noise = Noise::new(seed);
            let stream = stream(1 + noise.below(5) as u32);
            let (first, count) = (noise.below(1000), 1 + noise.below(150));
            let heard: Vec<u64> =
                (0..noise.below(2 * count)).map(|_| first + noise.below(count)).collect();
            let (mut ledger, mut frame) = (Ledger::new(stream, first, count), Vec::new());
            for &number in &heard {
                stream.write(number, 1000, &mut frame);
                ledger.enter(&frame, 1100);
            }
            let expected = model(&stream, &heard);
            for (flow, counts) in (0..).zip(ledger.flows()) {
                let expected = expected.get(&flow).copied().unwrap_or_default();
                assert_eq!(counts, expected, "flow {flow} of {heard:?}");
            }
            let distinct: BTreeSet<&u64> = heard.iter().collect();
            assert_eq!(ledger.total().received, distinct.len() as u64);
            assert_eq!(ledger.latency().count(), distinct.len() as u64);
            assert_eq!(ledger.corrupted() + ledger.late() + ledger.foreign(), 0);
        }
    }

    #[test]
    fn altered_late_and_foreign_frames_are_not_received() {
        let stream = stream(3);
        let (mut ledger, mut frame) = (Ledger::new(stream, 100, 10), Vec::new());
        stream.write(99, 0, &mut frame);
        ledger.enter(&frame, 0);
        stream.write(105, 0, &mut frame);
        frame[50] ^= 4;
        ledger.enter(&frame, 0);
        // A number that was never offered.
        stream.write(100 + 64, 0, &mut frame);
        ledger.enter(&frame, 0);
        ledger.enter(&[0xff; 60], 0);
        assert_eq!((ledger.late(), ledger.corrupted(), ledger.foreign()), (1, 2, 1));
        assert_eq!((ledger.total(), ledger.arrivals()), (Counts::default(), None));
    }

    #[test]
    fn times_are_from_stamp_to_arrival_even_where_the_stamp_wraps() {
        let stream = stream(1);
        let (mut ledger, mut frame) = (Ledger::new(stream, 0, 3), Vec::new());
        let wrap = NUMBERS;
        for (number, sent, came) in [(0, 5, 105), (1, wrap - 50, wrap + 50), (2, wrap, wrap + 400)]
        {
            stream.write(number, sent, &mut frame);
            ledger.enter(&frame, came);
        }
        assert_eq!(ledger.latency().quantile(0.5), Some(100));
        assert_eq!(ledger.latency().greatest(), Some(400));
        let arrivals = ledger.arrivals().unwrap();
        assert_eq!((arrivals.first_ns, arrivals.last_ns), (105, wrap + 400));
        assert_eq!(arrivals.longest_gap_ns, wrap + 50 - 105);
    }
}
