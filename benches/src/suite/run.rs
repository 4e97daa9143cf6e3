//! A run: which switches take part, their turns, and what is written down.
//!
//! All switches are started first and stopped where they stand. In each slice every switch has a
//! turn, in an order that rotates, in which it does one test once. What drifts on the machine
//! drifts for all of them. Whatever ends the run, the switches' processes end with it: they are
//! dropped on the way out.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::methods::{Drawn, Figure, METHODS, Method, Taken};
use super::options::{Kind, Options};
use super::peers::{Attached, DpdkWire, Hairpin, OvsDpdk, Peer};
use super::record::{self, Bound, Curve, Note, Parameters, Ratio, Record, Sample};
use super::{machine, output::Output};
use crate::error::{Context, Result, RigError};
use crate::hugepages::RunDirectory;
use crate::statistics::{self, median, median_interval};
use crate::testpmd::GENERATOR_CPU;
use crate::{interrupt, program};

/// The one scenario that there is: from VM to VM.
const SCENARIO: &str = "v2v";

/// Prints what tests there are.
pub fn list() {
    for Method { name, explanation: [first, second], .. } in METHODS {
        println!("{name}\n    {first}\n    {second}");
    }
}

/// Measures.
///
/// # Errors
/// Without root or any of the switches, and if one of them ends or the run is interrupted.
pub fn measure(options: &Options) -> Result<()> {
    program::begin_as_root("huge pages, namespaces and priorities")?;
    let mut output = Output::open(options.json.as_deref())?;
    let peers = peers(options)?;
    let (there, said): (Vec<_>, Vec<_>) = peers.into_iter().map(ask).unzip();
    let there: Vec<Box<dyn Peer>> = there.into_iter().flatten().collect();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    for peer in said.iter().filter(|peer| peer.skipped.is_some()) {
        let reason = peer.skipped.as_deref().unwrap_or_default();
        eprintln!("hairpin-bench: skipped {}: {reason}", peer.name);
    }
    output.write(&Record::Header(machine::header(command, said)))?;
    if there.is_empty() {
        return Err(RigError::new("none of the switches asked for is on this machine"));
    }
    core_affinity::set_for_current(core_affinity::CoreId { id: GENERATOR_CPU });
    let directory = RunDirectory::create(there.iter().map(|peer| peer.pages()).sum())?;
    let mut attached = Vec::new();
    for peer in &there {
        eprintln!("hairpin-bench: starting {}", peer.name());
        let mut one = Attached::start(peer.as_ref(), &directory)?;
        one.pause()?;
        attached.push(one);
    }
    let mut bench = Bench::new(options.profile);
    for method in &options.methods {
        for &bytes in &options.sizes {
            for record in take(&mut bench, &mut attached, method, bytes)? {
                output.write(&record)?;
            }
        }
    }
    Ok(())
}

fn peers(options: &Options) -> Result<Vec<Box<dyn Peer>>> {
    let peer = |kind: &Kind| -> Result<Box<dyn Peer>> {
        Ok(match kind {
            Kind::Hairpin => {
                let built = || hairpin_tests::bed::program().context("Hairpin");
                Box::new(Hairpin { program: options.hairpin.clone().map_or_else(built, Ok)? })
            }
            Kind::DpdkWire => Box::new(DpdkWire),
            Kind::OvsDpdk => Box::new(OvsDpdk),
        })
    };
    options.kinds.iter().map(peer).collect()
}

/// A switch if it is there, and what the header says of it.
fn ask(peer: Box<dyn Peer>) -> (Option<Box<dyn Peer>>, record::Peer) {
    let name = peer.name().to_owned();
    match peer.version() {
        Ok(version) => (Some(peer), record::Peer { name, version: Some(version), skipped: None }),
        Err(error) => {
            let skipped = Some(error.to_string());
            (None, record::Peer { name, version: None, skipped })
        }
    }
}

/// Does one test with frames of one length, each switch in each slice; what there is to record.
fn take(
    bench: &mut Bench,
    attached: &mut [Attached],
    method: &Method,
    bytes: usize,
) -> Result<Vec<Record>> {
    let slices = bench.profile.slices;
    let mut turns: BTreeMap<&'static str, Vec<Taken>> = BTreeMap::new();
    let mut records = Vec::new();
    for slice in 0..slices {
        let count = attached.len();
        eprintln!("hairpin-bench: {} {bytes} B, slice {} of {slices}", method.name, slice + 1);
        for place in 0..count {
            let one = &mut attached[(slice + place) % count];
            one.resume()?;
            let taken = (method.take)(bench, &mut one.ports, bytes);
            one.pause()?;
            // An interrupt is no result of the switch's.
            interrupt::check()?;
            match taken {
                Ok(taken) => turns.entry(one.name).or_default().push(taken),
                Err(error) => records.push(note(method, one.name, &error)),
            }
        }
    }
    let subject = Subject { method, bytes };
    for one in attached.iter() {
        let turns = turns.get(one.name).map_or(&[][..], Vec::as_slice);
        records.extend(subject.samples(one.name, turns));
        records.extend(subject.curves(one.name, turns));
    }
    let names: Vec<&str> = attached.iter().map(|one| one.name).collect();
    records.extend(subject.ratios(&names, &turns));
    Ok(records)
}

fn note(method: &Method, peer: &str, error: &RigError) -> Record {
    let (test, peer) = (method.name.to_owned(), peer.to_owned());
    Record::Note(Note { test, peer, text: format!("failed: {error}") })
}

/// What a record is about.
#[derive(Clone, Copy)]
struct Subject<'m> {
    method: &'m Method,
    bytes: usize,
}

/// What makes figures of several slices one sample: metric and load.
type Key = (String, Option<u32>);

impl Subject<'_> {
    fn parameters(self, load: Option<u32>) -> Parameters {
        let size = ("size".to_owned(), self.bytes.to_string());
        let load = load.map(|percent| ("load".to_owned(), percent.to_string()));
        [size].into_iter().chain(load).collect()
    }

    fn samples(self, peer: &str, turns: &[Taken]) -> Vec<Record> {
        let sample = |(metric, load): Key, figures: Vec<&Figure>| {
            let first = figures.first()?;
            let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
            let own = figures.iter().any(|figure| figure.bound == Bound::Generator);
            Some(Record::Sample(Sample {
                test: self.method.name.to_owned(),
                scenario: SCENARIO.to_owned(),
                peer: peer.to_owned(),
                parameters: self.parameters(load),
                metric,
                unit: first.unit.to_owned(),
                better: first.better,
                median: median(&values)?,
                interval: median_interval(&values)?,
                values,
                bound: if own { Bound::Generator } else { Bound::None },
            }))
        };
        by_key(turns).into_iter().filter_map(|(key, figures)| sample(key, figures)).collect()
    }

    /// The curves of the last turn.
    fn curves(self, peer: &str, turns: &[Taken]) -> Vec<Record> {
        let drawn = turns.last().map_or(&[][..], |taken| &taken.curves);
        let curve = |Drawn { load, x, y, points }: &Drawn| {
            Record::Curve(Curve {
                test: self.method.name.to_owned(),
                scenario: SCENARIO.to_owned(),
                peer: peer.to_owned(),
                parameters: self.parameters(*load),
                x: x.clone(),
                y: y.clone(),
                points: points.clone(),
            })
        };
        drawn.iter().map(curve).collect()
    }

    /// The first switch beside each other one.
    fn ratios(self, names: &[&str], turns: &BTreeMap<&'static str, Vec<Taken>>) -> Vec<Record> {
        let Some((of, others)) = names.split_first() else { return Vec::new() };
        let figures = |name: &str| turns.get(name).map(|turns| by_key(turns)).unwrap_or_default();
        let ours = figures(of);
        let mut records = Vec::new();
        for to in others {
            let theirs = figures(to);
            for ((metric, load), figures) in &ours {
                let Some(other) = theirs.get(&(metric.clone(), *load)) else { continue };
                let values = |figures: &[&Figure]| -> Vec<f64> {
                    figures.iter().map(|figure| figure.value).collect()
                };
                let round = (values(figures), values(other));
                let Some(ratio) = statistics::ratio(&[round]) else { continue };
                records.push(Record::Ratio(Ratio {
                    test: self.method.name.to_owned(),
                    scenario: SCENARIO.to_owned(),
                    parameters: self.parameters(*load),
                    of: (*of).to_owned(),
                    to: (*to).to_owned(),
                    metric: metric.clone(),
                    median: ratio.value,
                    interval: [ratio.low, ratio.high],
                }));
            }
        }
        records
    }
}

fn by_key(turns: &[Taken]) -> BTreeMap<Key, Vec<&Figure>> {
    let mut figures: BTreeMap<Key, Vec<&Figure>> = BTreeMap::new();
    for figure in turns.iter().flat_map(|taken| &taken.figures) {
        figures.entry((figure.metric.clone(), figure.load)).or_default().push(figure);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::record::Better;

    fn taken(value: f64, bound: Bound) -> Taken {
        let figure = Figure {
            metric: "PDR".to_owned(),
            unit: "frames/s",
            better: Better::Higher,
            load: Some(50),
            value,
            bound,
        };
        Taken { figures: vec![figure], ..Taken::default() }
    }

    #[test]
    fn slices_become_a_sample_and_two_switches_a_ratio() {
        let subject = Subject { method: &METHODS[0], bytes: 64 };
        let ours: Vec<Taken> = [2.0, 4.0, 6.0].map(|value| taken(value, Bound::None)).into();
        let mut theirs = ours.clone();
        theirs.iter_mut().for_each(|taken| taken.figures[0].value /= 2.0);
        theirs[1].figures[0].bound = Bound::Generator;
        let samples = subject.samples("b", &theirs);
        let [Record::Sample(sample)] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((sample.median, &sample.values[..]), (2.0, &[1.0, 2.0, 3.0][..]));
        assert_eq!(sample.bound, Bound::Generator);
        assert_eq!(sample.parameters["size"], "64");
        assert_eq!(sample.parameters["load"], "50");
        let turns = BTreeMap::from([("a", ours), ("b", theirs)]);
        let ratios = subject.ratios(&["a", "b"], &turns);
        let [Record::Ratio(ratio)] = &ratios[..] else { panic!("{ratios:?}") };
        assert_eq!((ratio.median, &ratio.of[..], &ratio.to[..]), (2.0, "a", "b"));
        assert!(subject.ratios(&["a", "c"], &turns).is_empty());
    }
}
