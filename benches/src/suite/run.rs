//! A run: which switches take part, their turns, and what is written down.
//!
//! Scenarios come one after the other. In each, all switches that have it are started first and
//! stopped where they stand; again for tests that take more ports. In each slice every switch has
//! a turn, in an order that rotates, in which it does one test once. What drifts on the machine
//! drifts for all of them. Whatever ends the run, the switches' processes end with it: they are
//! dropped on the way out.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::methods::{Drawn, Figure, METHODS, Method, Taken};
use super::options::{Kind, Options};
use super::peers::{DpdkWire, Hairpin, LinuxBridge, Macvtap, OvsDpdk, Peer};
use super::record::{self, Bound, Curve, Note, Parameters, Ratio, Record, Sample};
use super::scenario::{SCENARIOS, Scenario};
use super::site::{self, Site};
use super::{machine, output::Output, report, selftest};
use crate::error::{Context, Result, RigError};
use crate::gauge::{Gauge, Placement};
use crate::hugepages::RunDirectory;
use crate::statistics::{self, median, median_interval};
use crate::testpmd::{GENERATOR_CPU, WIRE_CPU};
use crate::{interrupt, program};

/// Prints what tests and scenarios there are.
pub fn list() {
    println!("Scenarios\n");
    for Scenario { name, explanation: [first, second], .. } in SCENARIOS {
        println!("{name}\n    {first}\n    {second}");
    }
    println!("\nTests\n");
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
    output.write(Record::Header(machine::header(command, said)))?;
    if there.is_empty() {
        return Err(RigError::new("none of the switches asked for is on this machine"));
    }
    core_affinity::set_for_current(core_affinity::CoreId { id: GENERATOR_CPU });
    let mut bench = Bench::new(options.profile);
    let directory = RunDirectory::create(pages(&there, options))?;
    for record in selftest::records(&mut bench, site::LAYOUT, &options.sizes)? {
        output.write(record)?;
    }
    for scenario in &options.scenarios {
        for method in options.methods.iter().filter(|method| !fits(method, scenario)) {
            let reason = "skipped: it is not for these ports";
            output.write(remark(method.name, scenario.name, reason.to_owned()))?;
        }
        for turn in turns(scenario, &options.methods) {
            let mut stage = Stage { there: &there, directory: &directory, output: &mut output };
            stage.play(&mut bench, scenario, &turn, &options.sizes)?;
        }
    }
    report::show_run(&report::run::Run::of(output.records())?, options.html.as_deref())
}

/// Huge pages of the switches, and of the VMs of as many of them as run beside each other.
fn pages(there: &[Box<dyn Peer>], options: &Options) -> u64 {
    let turns = options.scenarios.iter().flat_map(|scenario| turns(scenario, &options.methods));
    let ports = turns.map(|turn| turn.ports).max().unwrap_or_default();
    let switches: u64 = there.iter().map(|peer| peer.pages()).sum();
    switches + site::pages(selftest::VMS + ports * there.len())
}

/// Tests at sites of one size.
#[derive(Debug)]
struct Turn {
    ports: usize,
    methods: Vec<Method>,
}

/// Whether a test is for the scenario's kinds of ports, and its neighbours have a place there.
fn fits(method: &Method, scenario: &Scenario) -> bool {
    let alone = method.needs.ports == 0;
    (alone || scenario.is_plain())
        && scenario.seats.iter().all(|seat| method.needs.kinds.contains(&seat.kind))
}

/// The tests that fit by the ports that they take, in their order otherwise.
fn turns(scenario: &Scenario, methods: &[Method]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for method in methods.iter().filter(|method| fits(method, scenario)) {
        let ports = method.needs.ports.max(scenario.seats.len());
        match turns.iter_mut().find(|turn| turn.ports == ports) {
            Some(turn) => turn.methods.push(*method),
            None => turns.push(Turn { ports, methods: vec![*method] }),
        }
    }
    turns
}

/// What a turn is played with.
struct Stage<'r> {
    there: &'r [Box<dyn Peer>],
    directory: &'r RunDirectory,
    output: &'r mut Output,
}

impl<'r> Stage<'r> {
    /// Starts the switches that have the scenario and does the tests, with frames of all lengths.
    fn play(
        &mut self,
        bench: &mut Bench,
        scenario: &Scenario,
        turn: &Turn,
        sizes: &[usize],
    ) -> Result<()> {
        let mut sites = self.start(scenario, turn.ports)?;
        if sites.is_empty() {
            return Ok(());
        }
        for method in &turn.methods {
            for &bytes in scenario.lengths(sizes) {
                let subject = Subject { method, scenario: scenario.name, bytes };
                for record in take(bench, &mut sites, subject)? {
                    self.output.write(record)?;
                }
            }
        }
        Ok(())
    }

    /// The switches that have the scenario; of others a note says why not.
    fn start(&mut self, scenario: &Scenario, ports: usize) -> Result<Vec<Site<'r>>> {
        let mut sites = Vec::new();
        for peer in self.there {
            if let Some(reason) = peer.refusal(scenario, ports) {
                let text = format!("skipped: {reason}");
                self.output.write_once(remark(scenario.name, peer.name(), text))?;
                continue;
            }
            eprintln!("hairpin-bench: starting {} for {}", peer.name(), scenario.name);
            let started = Site::start(peer.as_ref(), scenario, ports, self.directory);
            // An interrupt is no result of the switch's.
            interrupt::check()?;
            match started {
                Ok(mut site) => {
                    site.pause()?;
                    sites.push(site);
                }
                Err(error) => {
                    let text = format!("failed: {error}");
                    self.output.write(remark(scenario.name, peer.name(), text))?;
                }
            }
        }
        Ok(sites)
    }
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
            Kind::LinuxBridge => Box::new(LinuxBridge),
            Kind::Macvtap => Box::new(Macvtap),
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
fn take(bench: &mut Bench, sites: &mut [Site], subject: Subject<'_>) -> Result<Vec<Record>> {
    let Subject { method, scenario, bytes } = subject;
    let slices = bench.profile.slices;
    let mut turns: BTreeMap<&'static str, Vec<Slice>> = BTreeMap::new();
    let mut records = Vec::new();
    let mut gauge = Gauge::new(GENERATOR_CPU, WIRE_CPU)?;
    for slice in 0..slices {
        let (count, test) = (sites.len(), method.name);
        eprintln!("hairpin-bench: {scenario} {test} {bytes} B, slice {} of {slices}", slice + 1);
        for place in 0..count {
            let site = &mut sites[(slice + place) % count];
            bench.cores = gauge.now();
            site.resume()?;
            let taken = (method.take)(bench, site, bytes);
            site.pause()?;
            // An interrupt is no result of the switch's.
            interrupt::check()?;
            let cores = gauge.since()?;
            match taken {
                Ok(taken) => turns.entry(site.name).or_default().push(Slice { cores, taken }),
                Err(error) => records.push(note(method, site.name, &error)),
            }
        }
    }
    for site in sites.iter() {
        let turns = turns.get(site.name).map_or(&[][..], Vec::as_slice);
        records.extend(subject.samples(site.name, turns));
        records.extend(subject.curves(site.name, turns));
    }
    let names: Vec<&str> = sites.iter().map(|site| site.name).collect();
    records.extend(subject.ratios(&names, &turns));
    Ok(records)
}

fn note(method: &Method, peer: &str, error: &RigError) -> Record {
    remark(method.name, peer, format!("failed: {error}"))
}

fn remark(test: &str, peer: &str, text: String) -> Record {
    Record::Note(Note { test: test.to_owned(), peer: peer.to_owned(), text })
}

/// What a record is about.
#[derive(Clone, Copy)]
struct Subject<'m> {
    method: &'m Method,
    scenario: &'m str,
    bytes: usize,
}

/// What a switch's turn gave, and where the generator's CPU and the switch's were.
#[derive(Clone, Debug)]
struct Slice {
    cores: Placement,
    taken: Taken,
}

/// What makes figures of several slices one sample: metric, load, and where the CPUs were.
type Key = (String, Option<u32>, Placement);

impl Subject<'_> {
    fn parameters(self, load: Option<u32>, cores: Placement) -> Parameters {
        let size = ("size".to_owned(), self.bytes.to_string());
        let cores = ("cores".to_owned(), cores.to_string());
        let load = load.map(|percent| ("load".to_owned(), percent.to_string()));
        [size, cores].into_iter().chain(load).collect()
    }

    fn samples(self, peer: &str, turns: &[Slice]) -> Vec<Record> {
        let sample = |(metric, load, cores): Key, figures: Vec<&Figure>| {
            let first = figures.first()?;
            let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
            let own = figures.iter().any(|figure| figure.bound == Bound::Generator);
            Some(Record::Sample(Sample {
                test: self.method.name.to_owned(),
                scenario: self.scenario.to_owned(),
                peer: peer.to_owned(),
                parameters: self.parameters(load, cores),
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
    fn curves(self, peer: &str, turns: &[Slice]) -> Vec<Record> {
        let Some(Slice { cores, taken }) = turns.last() else { return Vec::new() };
        let curve = |Drawn { load, x, y, points }: &Drawn| {
            Record::Curve(Curve {
                test: self.method.name.to_owned(),
                scenario: self.scenario.to_owned(),
                peer: peer.to_owned(),
                parameters: self.parameters(*load, *cores),
                x: x.clone(),
                y: y.clone(),
                points: points.clone(),
            })
        };
        taken.curves.iter().map(curve).collect()
    }

    /// The first switch beside each other one.
    fn ratios(self, names: &[&str], turns: &BTreeMap<&'static str, Vec<Slice>>) -> Vec<Record> {
        let Some((of, others)) = names.split_first() else { return Vec::new() };
        let figures = |name: &str| turns.get(name).map(|turns| by_key(turns)).unwrap_or_default();
        let ours = figures(of);
        let mut records = Vec::new();
        for to in others {
            let theirs = figures(to);
            for (key, figures) in &ours {
                let Some(other) = theirs.get(key) else { continue };
                let (metric, load, cores) = key;
                let values = |figures: &[&Figure]| -> Vec<f64> {
                    figures.iter().map(|figure| figure.value).collect()
                };
                let round = (values(figures), values(other));
                let Some(ratio) = statistics::ratio(&[round]) else { continue };
                // There is none to nothing.
                if ![ratio.low, ratio.value, ratio.high].iter().all(|value| value.is_finite()) {
                    continue;
                }
                records.push(Record::Ratio(Ratio {
                    test: self.method.name.to_owned(),
                    scenario: self.scenario.to_owned(),
                    parameters: self.parameters(*load, *cores),
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

fn by_key(turns: &[Slice]) -> BTreeMap<Key, Vec<&Figure>> {
    let mut figures: BTreeMap<Key, Vec<&Figure>> = BTreeMap::new();
    for Slice { cores, taken } in turns {
        for figure in &taken.figures {
            let key = (figure.metric.clone(), figure.load, *cores);
            figures.entry(key).or_default().push(figure);
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::methods::Needs;
    use crate::suite::record::Better;
    use crate::suite::scenario::Kind;

    fn slice(value: f64, bound: Bound) -> Slice {
        let figure = Figure {
            metric: "PDR".to_owned(),
            unit: "frames/s",
            better: Better::Higher,
            load: Some(50),
            value,
            bound,
        };
        let taken = Taken { figures: vec![figure], ..Taken::default() };
        Slice { cores: Placement::Near, taken }
    }

    #[test]
    fn tests_that_take_as_many_ports_share_their_sites() {
        let [two, other, ..] = METHODS;
        let more = Method { needs: Needs { ports: 3, kinds: &[Kind::Vm] }, ..other };
        let named = |name, methods: &[Method]| {
            let turns = turns(&Scenario::named(name).unwrap(), methods);
            turns.iter().map(|turn| (turn.ports, turn.methods.len())).collect::<Vec<_>>()
        };
        assert_eq!(named("v2v", &[two, more, other]), [(2, 2), (3, 1)]);
        assert_eq!(named("t2t", &[two, more, other]), [(2, 2)]);
        assert_eq!(named("h2h", &[two, more, other]), []);
    }

    #[test]
    fn slices_become_a_sample_and_two_switches_a_ratio() {
        let subject = Subject { method: &METHODS[0], scenario: "v2v", bytes: 64 };
        let ours: Vec<Slice> = [2.0, 4.0, 6.0].map(|value| slice(value, Bound::None)).into();
        let mut theirs = ours.clone();
        theirs.iter_mut().for_each(|slice| slice.taken.figures[0].value /= 2.0);
        theirs[1].taken.figures[0].bound = Bound::Generator;
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
        // What was measured elsewhere is another figure.
        let mut moved = turns["b"].clone();
        moved[2].cores = Placement::Far;
        let samples = subject.samples("b", &moved);
        assert_eq!(samples.len(), 2);
        let [Record::Sample(near), Record::Sample(far)] = &samples[..] else { panic!() };
        assert_eq!((&near.parameters["cores"][..], near.values.len()), ("near", 2));
        assert_eq!((&far.parameters["cores"][..], far.values.len()), ("far", 1));
        let nothing = [0.0; 3].map(|value| slice(value, Bound::None)).into();
        let turns = BTreeMap::from([("a", turns["a"].clone()), ("b", nothing)]);
        assert!(subject.ratios(&["a", "b"], &turns).is_empty());
        assert_eq!(subject.ratios(&["b", "a"], &turns).len(), 1);
    }
}
