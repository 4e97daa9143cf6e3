//! Two runs beside each other: what has become worse, noise excluded.

use std::fmt::Write as _;

use crate::statistics;
use crate::suite::record::{Better, Bound, Sample};
use crate::suite::report::numbers::{number, percent};
use crate::suite::report::run::{Run, conditions};
use crate::suite::report::table::{Ink, fold};

/// By how much a figure may become worse, unless said otherwise.
pub const LIMIT: f64 = 0.05;
/// Facts of a machine that vary from run to run on one that is the same.
const VARYING: [&str; 2] = ["load", "load average"];

/// What is to be said of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is not past the limit, or noise may explain it.
    Same,
    /// It is past the limit, and the interval has no change outside.
    Worse,
    /// The same, in the other direction.
    Better,
    /// The new figure is the generator's, which says nothing of the peer.
    Unknown,
    /// There are too few values to tell a change from noise.
    Few,
}

/// A figure now and then.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose, of what.
    pub what: String,
    /// The median before.
    pub old: f64,
    /// And now.
    pub new: f64,
    /// New over old, less 1.
    pub change: f64,
    /// The change's 95 % interval.
    pub interval: [f64; 2],
    /// What is to be said of it.
    pub verdict: Verdict,
}

/// All figures that both runs have.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// In the order of the new run.
    pub changes: Vec<Change>,
    /// What differs beside the switch: machine facts, figures that one run lacks.
    pub remarks: Vec<String>,
    limit: f64,
}

impl Comparison {
    /// Compares two runs; a change of more than `limit` counts.
    #[must_use]
    pub fn of(new: &Run, old: &Run, limit: f64) -> Self {
        let mut remarks = machines(new, old);
        let mut changes = Vec::new();
        for sample in &new.samples {
            match old.samples.iter().find(|other| alike(sample, other)) {
                Some(other) => changes.push(change(sample, other, limit)),
                None => remarks.push(format!("{}: not in the old run", what(sample))),
            }
        }
        for sample in &old.samples {
            if !new.samples.iter().any(|other| alike(sample, other)) {
                remarks.push(format!("{}: not in the new run", what(sample)));
            }
        }
        Self { changes, remarks, limit }
    }

    /// All changes, those that count marked.
    #[must_use]
    pub fn text(&self, ink: Ink) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let mark = match change.verdict {
                Verdict::Same => "",
                Verdict::Worse => "WORSE ",
                Verdict::Better => "better ",
                Verdict::Unknown => "(generator-bound) ",
                Verdict::Few => "(too few slices) ",
            };
            let folded = fold(&format!("{mark}{}", sentence(change)), "  ");
            let line = if mark == "WORSE " { ink.warning(&folded) } else { folded };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "{}", fold(remark, "  "));
        }
        text
    }

    /// What has become worse, if anything has, or that nothing could be compared.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        if self.changes.is_empty() {
            return Some(
                "no figure is in both runs: they need the same tests, scenarios and sizes, and \
                 CPUs that were equally near"
                    .to_owned(),
            );
        }
        let worse = self.changes.iter().filter(|change| change.verdict == Verdict::Worse);
        let sentences: Vec<String> = worse.map(sentence).collect();
        let limit = number(self.limit * 100.0);
        (!sentences.is_empty())
            .then(|| format!("worse by more than {limit} %:\n  {}", sentences.join("\n  ")))
    }
}

fn sentence(change: &Change) -> String {
    let Change { what, old, new, interval: [low, high], .. } = change;
    let by = match change.change.is_finite() {
        true => format!("{} [{}, {}]", percent(change.change), percent(*low), percent(*high)),
        false => "from nothing".to_owned(),
    };
    format!("{what}: {} → {}, {by}", number(*old), number(*new))
}

/// Values on either side without which an interval says nothing.
const VALUES_MIN: usize = 3;

/// Facts of the machines that differ.
fn machines(new: &Run, old: &Run) -> Vec<String> {
    let (new, old) = (&new.header.machine, &old.header.machine);
    let facts = old.iter().filter(|(name, _)| !VARYING.contains(&name.as_str()));
    let other = facts.filter_map(|(name, before)| {
        let now = new.get(name).filter(|now| *now != before)?;
        Some(format!("another machine: {name} is {now}, was {before}"))
    });
    other.collect()
}

fn alike(one: &Sample, other: &Sample) -> bool {
    (&one.test, &one.scenario, &one.peer, &one.parameters, &one.metric, &one.unit)
        == (
            &other.test,
            &other.scenario,
            &other.peer,
            &other.parameters,
            &other.metric,
            &other.unit,
        )
}

fn what(sample: &Sample) -> String {
    let Sample { test, scenario, peer, metric, parameters, .. } = sample;
    format!("{test}, {scenario}, {peer}, {}: {metric}", conditions(parameters))
}

fn change(new: &Sample, old: &Sample, limit: f64) -> Change {
    let [low, high] = ratio(new, old);
    let change = new.median / old.median - 1.0;
    let (change, interval) = match old.median == 0.0 && new.median == 0.0 {
        true => (0.0, [0.0, 0.0]),
        false => (change, [low - 1.0, high - 1.0]),
    };
    let grown = change > limit && interval[0] > 0.0;
    let shrunk = change < -limit && interval[1] < 0.0;
    let verdict = match new.better {
        Better::Neither => Verdict::Same,
        _ if !grown && !shrunk => Verdict::Same,
        Better::Higher if grown => Verdict::Better,
        Better::Lower if shrunk => Verdict::Better,
        _ if new.values.len().min(old.values.len()) < VALUES_MIN => Verdict::Few,
        _ if new.bound == Bound::Generator => Verdict::Unknown,
        _ => Verdict::Worse,
    };
    Change { what: what(new), old: old.median, new: new.median, change, interval, verdict }
}

/// New over old: by bootstrap where there are slices enough, else by the ends of both intervals,
/// which is wider. From nothing to something that is surely not nothing is infinite.
fn ratio(new: &Sample, old: &Sample) -> [f64; 2] {
    match statistics::ratio(&[(new.values.clone(), old.values.clone())]) {
        Some(ratio) if ratio.low.is_finite() && ratio.high.is_finite() => [ratio.low, ratio.high],
        _ => {
            let ([new_low, new_high], [old_low, old_high]) = (new.interval, old.interval);
            match new_low > old_high {
                true if old_high <= 0.0 => [f64::INFINITY, f64::INFINITY],
                _ if old_high <= 0.0 => [0.0, f64::INFINITY],
                _ => [new_low / old_high, new_high / old_low.max(0.0)],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::report::example;

    /// The example with its first figure (throughput, higher is better) and its last (latency,
    /// lower is) changed.
    fn changed(throughput: f64, latency: f64) -> Run {
        let mut run = Run::parse(example::TEXT).unwrap();
        let last = run.samples.len() - 1;
        for (index, factor) in [(1, throughput), (last, latency)] {
            let sample = &mut run.samples[index];
            sample.values.iter_mut().for_each(|value| *value *= factor);
            sample.interval.iter_mut().for_each(|end| *end *= factor);
            sample.median *= factor;
        }
        run
    }

    fn worse(new: &Run, old: &Run) -> usize {
        let comparison = Comparison::of(new, old, LIMIT);
        comparison.changes.iter().filter(|change| change.verdict == Verdict::Worse).count()
    }

    #[test]
    fn what_is_worse_beyond_the_limit_and_noise_is_named() {
        let old = changed(1.0, 1.0);
        for (throughput, latency, expected) in [
            (1.0, 1.0, 0),
            (0.97, 1.0, 0), // within the limit
            (0.9, 1.0, 1),
            (1.2, 0.8, 0), // better
            (1.0, 1.3, 1),
            (1.0, 1.06, 0), // past the limit, but noise may be the reason
            (0.5, 2.0, 2),
        ] {
            assert_eq!(worse(&changed(throughput, latency), &old), expected, "{throughput}");
        }
        let complaint = Comparison::of(&changed(0.9, 1.0), &old, LIMIT).complaint().unwrap();
        let expected = "worse by more than 5.00 %:\n  throughput, v2v, ovs-dpdk, flows 1, size 64: \
                        PDR: 12.1 → 10.9, -10.0 % [";
        assert!(complaint.starts_with(expected), "{complaint}");
        assert!(Comparison::of(&old, &old, LIMIT).complaint().is_none());
    }

    #[test]
    fn few_values_accuse_nobody_and_nothing_in_common_is_no_success() {
        let (mut new, old) = (changed(0.5, 1.0), changed(1.0, 1.0));
        new.samples[1].values.truncate(2);
        assert_eq!(worse(&new, &old), 0);
        new.samples.clear();
        let complaint = Comparison::of(&new, &old, LIMIT).complaint().unwrap();
        assert!(complaint.starts_with("no figure is in both runs"), "{complaint}");
    }

    #[test]
    fn a_generator_bound_figure_accuses_nobody() {
        let (mut new, old) = (changed(0.5, 1.0), changed(1.0, 1.0));
        new.samples[1].bound = Bound::Generator;
        assert_eq!(worse(&new, &old), 0);
    }

    #[test]
    fn from_nothing_to_something_is_worse_where_less_is_better() {
        let (mut new, mut old) = (changed(1.0, 1.0), changed(1.0, 1.0));
        let last = new.samples.len() - 1;
        old.samples[last].values = vec![0.0; 5];
        (old.samples[last].median, old.samples[last].interval) = (0.0, [0.0, 0.0]);
        assert_eq!(worse(&new, &old), 1);
        new.samples[last] = old.samples[last].clone();
        assert_eq!(worse(&new, &old), 0);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let (mut new, old) = (changed(1.0, 1.0), changed(1.0, 1.0));
        new.samples[0].peer = "another".to_owned();
        new.header.machine.insert("kernel".to_owned(), "6.2.0".to_owned());
        let text = Comparison::of(&new, &old, LIMIT).text(Ink::Plain);
        for expected in [
            "another machine: kernel is 6.2.0, was 6.1.0",
            "another, flows 1, size 64: PDR: not in the old run",
            "hairpin, flows 1, size 64: PDR: not in the new run",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
