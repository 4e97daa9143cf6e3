//! The tests, in one table: what each is called, what it says, how it is done.

use super::bench::Bench;
use super::frame::Stream;
use super::joint::Lane;
use super::pace::Pace;
use super::record::{Better, Bound, Quantity};
use super::scenario::Kind;
use super::setting::{Addresses, Lengths};
use super::site::Site;
use super::trial::{Load, Outcome};
use crate::error::Result;
use crate::statistics::median;

mod addresses;
mod back_to_back;
mod broadcast;
mod cpu;
mod fairness;
pub(super) mod forwarding;
mod head_of_line;
mod idle_ports;
mod isolation;
mod latency;
mod loss;
mod meanwhile;
mod mixes;
mod reconfiguration;
mod reset;
mod scale;
mod tcp;
mod throughput;
mod tso;

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it says, in two lines.
    pub explanation: [&'static str; 2],
    /// With what.
    pub needs: Needs,
    /// Does it once, at a switch that runs, with frames of so many bytes.
    pub take: fn(&mut Bench, &mut Site, usize) -> Result<Taken>,
}

/// What a test takes: ports, and frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// How many: beyond the scenario's, these are neighbours like the first of them.
    pub ports: usize,
    /// Of which kinds all of the scenario's may be.
    pub kinds: &'static [Kind],
    /// How the switch has to know addresses.
    pub addresses: Addresses,
    /// How long frames are.
    pub sizes: Sizes,
}

/// How long a test's frames are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sizes {
    /// As asked for.
    Asked,
    /// As the test has them, whatever was asked for.
    Own {
        /// Bytes, the checksum included.
        bytes: usize,
        /// Their class.
        lengths: Lengths,
    },
}

impl Sizes {
    /// Those of this class, of those asked for.
    #[must_use]
    pub fn of(self, asked: &[usize], lengths: Lengths) -> Vec<usize> {
        match self {
            Sizes::Asked => lengths.among(asked),
            Sizes::Own { bytes, lengths: own } if own == lengths => vec![bytes],
            Sizes::Own { .. } => Vec::new(),
        }
    }
}

impl Needs {
    /// The scenario's ports, whatever they are, if frames can be sent there.
    pub const SCENARIO: Needs = Needs::at(0, &Kind::FRAMES);

    /// So many ports of these kinds, registered addresses, and frames as asked for.
    const fn at(ports: usize, kinds: &'static [Kind]) -> Needs {
        Needs { ports, kinds, addresses: Addresses::Registered, sizes: Sizes::Asked }
    }

    /// So many VMs.
    const fn vms(ports: usize) -> Needs {
        Needs::at(ports, &[Kind::Vm])
    }
}

/// A generator that comes too late for more than this share of a load has not offered that load.
const MISSED_SHARE: f64 = 0.05;

/// Pairs of trials, one without what a test is about and one with it, where these are compared.
const ROUNDS: usize = 3;

/// Where no more than this share of what several send together is lost, they did not contend.
const CONTESTED_SHARE: f64 = 0.1;

/// All of them, in the order of a run.
pub const METHODS: [Method; 18] = [
    throughput::METHOD,
    forwarding::METHOD,
    latency::METHOD,
    loss::METHOD,
    back_to_back::METHOD,
    mixes::METHOD,
    cpu::METHOD,
    reset::METHOD,
    reconfiguration::METHOD,
    addresses::METHOD,
    scale::METHOD,
    broadcast::METHOD,
    fairness::METHOD,
    head_of_line::METHOD,
    isolation::METHOD,
    idle_ports::METHOD,
    tcp::METHOD,
    tso::METHOD,
];

/// What came of doing a test once.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Taken {
    /// Figures.
    pub figures: Vec<Figure>,
    /// Curves.
    pub curves: Vec<Drawn>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// A figure of one slice.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What was measured, as `PDR`.
    pub metric: String,
    /// In what unit.
    pub unit: &'static str,
    /// Which way it is good.
    pub better: Better,
    /// The load, in percent of PDR, where it matters.
    pub load: Option<u32>,
    /// The value.
    pub value: f64,
    /// What bounded it.
    pub bound: Bound,
}

impl Figure {
    /// One at no load in particular that nothing but the switch bounded.
    fn new(metric: &str, unit: &'static str, better: Better, value: f64) -> Figure {
        let metric = metric.to_owned();
        Figure { metric, unit, better, load: None, value, bound: Bound::None }
    }

    /// The same, bounded otherwise.
    fn bounded(self, bound: Bound) -> Figure {
        Figure { bound, ..self }
    }
}

impl From<Vec<Figure>> for Taken {
    fn from(figures: Vec<Figure>) -> Taken {
        Taken { figures, ..Taken::default() }
    }
}

/// Frames of a stream from one port to another, as a lane of several.
fn lane(stream: Stream, (from, to): (usize, usize), frames_per_second: f64) -> Lane {
    Lane { stream, load: Load::Open(Pace { frames_per_second }), from, to: vec![to] }
}

/// The share of a load that a switch lost, 0 to 1: without what the generator was too late for.
fn switch_loss(outcome: &Outcome) -> f64 {
    let offered = outcome.offered - outcome.missed;
    outcome.lost().saturating_sub(outcome.missed) as f64 / offered.max(1) as f64
}

/// How much more there is of something bad in the second trial of each pair than in the first,
/// which is as the machine is: the middle of the differences, so that a pair in which somebody else
/// had the CPU does not decide. Less than nothing is nothing; `None` without any.
fn beyond(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    let differences: Vec<f64> = pairs.into_iter().map(|(without, with)| with - without).collect();
    median(&differences).map(|middle| middle.max(0.0))
}

/// Who bounded a closed loop: a generator that hardly waits is what it measures itself.
fn bound_of_loop(outcome: &Outcome) -> Bound {
    if outcome.waited() < forwarding::WAITING_SHARE { Bound::Generator } else { Bound::None }
}

/// Who bounded a test in which this share of the load was missed by the generator.
fn bound_of(missed: f64) -> Bound {
    if missed > MISSED_SHARE { Bound::Generator } else { Bound::None }
}

/// The share of these loads that the generator was too late for.
fn missed_share<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> f64 {
    let sum = |(missed, offered): (u64, u64), outcome: &Outcome| {
        (missed + outcome.missed, offered + outcome.offered)
    };
    let (missed, offered) = outcomes.into_iter().fold((0, 0), sum);
    missed as f64 / offered.max(1) as f64
}

/// A curve of one slice.
#[derive(Clone, PartialEq, Debug)]
pub struct Drawn {
    /// The load, in percent of PDR, where there is one.
    pub load: Option<u32>,
    /// To the right.
    pub x: Quantity,
    /// Upwards.
    pub y: Quantity,
    /// Its points.
    pub points: Vec<[f64; 2]>,
}

/// What an axis shows.
fn quantity(name: &str, unit: &str) -> Quantity {
    Quantity { name: name.to_owned(), unit: unit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::histogram::Histogram;
    use crate::suite::ledger::Counts;

    /// Of so many frames so many came.
    pub fn outcome(offered: u64, received: u64) -> Outcome {
        Outcome {
            offered,
            refused: 0,
            missed: 0,
            counts: Counts { received, ..Counts::default() },
            received_by_flow: vec![received],
            corrupted: 0,
            late: 0,
            foreign: 0,
            latency: Histogram::new(),
            arrivals: None,
            length_ns: 1_000_000_000,
            idle_ns: 0,
        }
    }

    #[test]
    fn what_the_generator_missed_is_no_loss_of_the_switch_s() {
        let late = Outcome { missed: 100, ..outcome(1000, 891) };
        assert_eq!(switch_loss(&late), 9.0 / 900.0);
        assert_eq!(missed_share([&late, &outcome(1000, 1000)]), 0.05);
        assert_eq!((bound_of(0.05), bound_of(0.06)), (Bound::None, Bound::Generator));
        let waiting = Outcome { idle_ns: 100_000_000, ..outcome(1000, 1000) };
        let busy = Outcome { idle_ns: 99_000_000, ..waiting.clone() };
        assert_eq!(
            (bound_of_loop(&waiting), bound_of_loop(&busy)),
            (Bound::None, Bound::Generator)
        );
    }

    #[test]
    fn one_preempted_trial_decides_no_comparison_and_what_both_have_is_no_difference() {
        assert_eq!(beyond([(0.0, 0.5), (3.0, 0.5), (0.0, 0.5)]), Some(0.5));
        assert_eq!(beyond([(0.0, 0.5), (0.0, 9.0), (0.25, 0.75)]), Some(0.5));
        assert_eq!((beyond([(2.0, 2.0), (3.0, 1.0)]), beyond([])), (Some(0.0), None));
    }

    #[test]
    fn hosts_and_pieces_to_be_cut_have_lengths_of_their_own() {
        for method in METHODS {
            let sizes = |lengths| method.needs.sizes.of(&[64, 9018], lengths);
            let expected: [&[usize]; 3] = match method.name {
                "tcp" => [&[1518], &[], &[]],
                "tso" => [&[], &[], &[64_298]],
                _ => [&[64], &[9018], &[]],
            };
            assert_eq!(Lengths::ALL.map(sizes), expected, "{}", method.name);
        }
    }

    #[test]
    fn every_method_has_a_name_of_its_own_and_two_lines() {
        for (index, method) in METHODS.iter().enumerate() {
            assert!(METHODS[..index].iter().all(|other| other.name != method.name));
            for line in method.explanation {
                assert!(!line.is_empty() && line.len() <= 76, "{}: {line}", method.name);
            }
        }
    }
}
