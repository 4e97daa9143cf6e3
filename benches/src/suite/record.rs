//! What a run writes down: one JSON object a line, the header first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was varied: names and values, as `size` and `64`.
pub type Parameters = BTreeMap<String, String>;

/// One line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// The run.
    Header(Header),
    /// A figure.
    Sample(Sample),
    /// A curve.
    Curve(Curve),
    /// Two peers beside each other.
    Ratio(Ratio),
    /// What could not be measured, or is to be known of what was.
    Note(Note),
}

/// The run, and where it ran.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Header {
    /// Of `hairpin-bench`.
    pub version: String,
    /// When it began, RFC 3339.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Facts of the machine: processor, kernel, load.
    pub machine: BTreeMap<String, String>,
    /// The revision in git, if it is known.
    pub revision: Option<String>,
    /// The peers, measured or not.
    pub peers: Vec<Peer>,
}

/// A peer, and whether it took part.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub version: Option<String>,
    /// Why it did not take part.
    pub skipped: Option<String>,
}

/// Which way a figure is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither.
    Neither,
}

/// What bounded a figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// What was measured.
    None,
    /// The generator: the peer may be capable of more.
    Generator,
}

/// A figure: one value for each slice.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The test, as `throughput`.
    pub test: String,
    /// The scenario, as `v2v`.
    pub scenario: String,
    /// Whom it is of.
    pub peer: String,
    /// What was varied.
    pub parameters: Parameters,
    /// What was measured, as `PDR`.
    pub metric: String,
    /// In what unit.
    pub unit: String,
    /// Which way it is good.
    pub better: Better,
    /// One for each slice.
    pub values: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// What bounded it.
    pub bound: Bound,
}

/// What an axis shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quantity {
    /// Its name, as `latency`.
    pub name: String,
    /// Its unit; empty if it has none.
    pub unit: String,
}

/// A curve of one peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// The test.
    pub test: String,
    /// The scenario.
    pub scenario: String,
    /// Whom it is of.
    pub peer: String,
    /// What was varied.
    pub parameters: Parameters,
    /// To the right.
    pub x: Quantity,
    /// Upwards.
    pub y: Quantity,
    /// Its points, x and y.
    pub points: Vec<[f64; 2]>,
}

/// Two peers beside each other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The test.
    pub test: String,
    /// The scenario.
    pub scenario: String,
    /// What was varied.
    pub parameters: Parameters,
    /// The one.
    pub of: String,
    /// Whom it is compared with.
    pub to: String,
    /// What was measured.
    pub metric: String,
    /// The ratio of medians.
    pub median: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
}

/// What could not be measured, or is to be known of what was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// The test; empty if it is of all in the scenario.
    pub test: String,
    /// The scenario; empty in what older versions wrote.
    #[serde(default)]
    pub scenario: String,
    /// The peer; empty if it is of all.
    pub peer: String,
    /// What there is to say.
    pub text: String,
}

impl Note {
    /// What it is about, as `reset, v2v, ovs-dpdk`.
    #[must_use]
    pub fn subject(&self) -> String {
        let parts = [&*self.test, &*self.scenario, &*self.peer];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}
