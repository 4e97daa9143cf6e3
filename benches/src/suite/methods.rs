//! The tests, in one table: what each is called, what it says, how it is done.

use super::bench::Bench;
use super::record::{Better, Bound, Quantity};
use super::scenario::Kind;
use super::site::Site;
use crate::error::Result;

pub(super) mod forwarding;
mod latency;
mod loss;
mod throughput;

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it says, in two lines.
    pub explanation: [&'static str; 2],
    /// At what ports.
    pub needs: Needs,
    /// Does it once, at a switch that runs, with frames of so many bytes.
    pub take: fn(&mut Bench, &mut Site, usize) -> Result<Taken>,
}

/// The ports that a test takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// How many: beyond the scenario's, these are neighbours like the first of them.
    pub ports: usize,
    /// Of which kinds all of the scenario's may be.
    pub kinds: &'static [Kind],
}

impl Needs {
    /// The scenario's ports, whatever they are.
    pub const SCENARIO: Needs = Needs { ports: 0, kinds: &Kind::ALL };
}

/// All of them, in the order of a run.
pub const METHODS: [Method; 4] =
    [throughput::METHOD, forwarding::METHOD, latency::METHOD, loss::METHOD];

/// What came of doing a test once.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Taken {
    /// Figures.
    pub figures: Vec<Figure>,
    /// Curves.
    pub curves: Vec<Drawn>,
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
