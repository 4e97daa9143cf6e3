//! A run: which switches take part, their turns, and what is written down.
//!
//! Scenarios come one after the other. In each, all switches that have it are started first and
//! stopped where they stand; again for tests that take more ports, or ports that learn, and for
//! frames that take a greater MTU. In each slice every switch has
//! a turn, in an order that rotates, in which it does one test once. What drifts on the machine
//! drifts for all of them. Whatever ends the run, the switches' processes end with it: they are
//! dropped on the way out.

use std::collections::BTreeMap;
use std::time::Instant;

use super::bench::{Bench, Profile};
use super::disturbance::{self, Disturbance};
use super::methods::{Drawn, Figure, METHODS, Method, Taken};
use super::options::{Kind, Options};
use super::peers::{DpdkWire, Hairpin, LinuxBridge, Macvtap, OvsDpdk, Peer};
use super::progress::{self, Progress, rounded};
use super::record::{self, Bound, Curve, Note, Parameters, Ratio, Record, Sample};
use super::scenario::{SCENARIOS, Scenario};
use super::setting::{Addresses, Lengths, Setting, Traffic};
use super::site::Site;
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
    let plan: Vec<Turn> =
        options.scenarios.iter().flat_map(|scenario| turns(scenario, options)).collect();
    let directory = RunDirectory::create(pages(&there, &plan, &options.sizes))?;
    for lengths in Lengths::ALL {
        let sizes = lengths.among(&options.sizes);
        if !sizes.is_empty() {
            for record in selftest::records(&mut bench, lengths.layout(), &sizes)? {
                output.write(record)?;
            }
        }
    }
    for scenario in &options.scenarios {
        for method in options.methods.iter().filter(|method| !fits(method, scenario)) {
            let reason = "skipped: it is not for these ports";
            output.write(remark(method.name, scenario.name, "", reason.to_owned()))?;
        }
    }
    if plan.is_empty() {
        return Err(RigError::new(
            "none of the tests is for any of the scenarios asked for: `hairpin-bench list` says \
             what they are for (tcp: --scenarios h2h)",
        ));
    }
    let progress = ahead(&there, &plan, options.profile);
    let (there, directory) = (&there[..], &directory);
    let mut stage = Stage { there, directory, output: &mut output, progress };
    for turn in &plan {
        stage.play(&mut bench, turn)?;
    }
    report::show_run(&report::run::Run::of(output.records())?, options.html.as_deref())
}

/// Huge pages of the switches, and of the VMs of those that run beside each other.
fn pages(there: &[Box<dyn Peer>], plan: &[Turn], sizes: &[usize]) -> u64 {
    let switches: u64 = there.iter().map(|peer| peer.pages()).sum();
    let turns = plan.iter().map(|turn| participants(there, turn) as u64 * turn.setting.pages());
    let tested = sizes.iter().map(|&bytes| selftest::pages(Lengths::of(bytes).layout()));
    switches + turns.chain(tested).max().unwrap_or_default()
}

/// The switches that take part in a turn.
fn participants(there: &[Box<dyn Peer>], turn: &Turn) -> usize {
    there.iter().filter(|peer| refusal(peer.as_ref(), turn).is_none()).count()
}

/// Tests at sites of one setting.
#[derive(Debug)]
struct Turn {
    setting: Setting,
    methods: Vec<Method>,
    sizes: Vec<usize>,
}

/// Whether a test is for the scenario's kinds of ports, and its neighbours have a place there.
fn fits(method: &Method, scenario: &Scenario) -> bool {
    let alone = method.needs.ports == 0;
    (alone || scenario.is_plain())
        && scenario.seats.iter().all(|seat| method.needs.kinds.contains(&seat.kind))
}

/// The tests that fit, by the lengths of frames, the ports that they take, and how these know
/// addresses; in their order otherwise.
fn turns(scenario: &Scenario, options: &Options) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for lengths in Lengths::ALL {
        for method in options.methods.iter().filter(|method| fits(method, scenario)) {
            let sizes = method.needs.sizes.of(&options.sizes, lengths);
            if sizes.is_empty() {
                continue;
            }
            let ports = method.needs.ports.max(scenario.seats.len());
            let (addresses, traffic) = (method.needs.addresses, options.traffic);
            let kind = (lengths, ports, addresses);
            // What one test had a switch learn another would find there.
            let of = |turn: &Turn| {
                addresses == Addresses::Registered
                    && (turn.setting.lengths, turn.setting.ports, turn.setting.addresses) == kind
            };
            if let Some(turn) = turns.iter_mut().find(|turn| of(turn)) {
                turn.methods.push(*method);
                continue;
            }
            let setting = Setting { scenario: *scenario, ports, addresses, lengths, traffic };
            turns.push(Turn { setting, methods: vec![*method], sizes });
        }
    }
    turns
}

/// What is ahead of a run with these switches.
fn ahead(there: &[Box<dyn Peer>], plan: &[Turn], profile: Profile) -> Progress {
    let mut progress = Progress::new(profile.trial_ns);
    for turn in plan {
        let count = participants(there, turn);
        progress.plan(progress::START, count);
        for method in &turn.methods {
            progress.plan(method.name, count * turn.sizes.len() * profile.slices);
        }
    }
    progress
}

/// Why a switch does not take part in a turn.
fn refusal(peer: &dyn Peer, turn: &Turn) -> Option<String> {
    let setting = &turn.setting;
    let refused = peer.refusal(&setting.scenario, setting.ports);
    refused.or_else(|| setting.refusal()).or_else(|| peer.declines(setting))
}

/// What a turn is played with.
struct Stage<'r> {
    there: &'r [Box<dyn Peer>],
    directory: &'r RunDirectory,
    output: &'r mut Output,
    progress: Progress,
}

impl<'r> Stage<'r> {
    /// Starts the switches that have the scenario and does the tests, with frames of all lengths.
    fn play(&mut self, bench: &mut Bench, turn: &Turn) -> Result<()> {
        let mut sites = self.start(turn, bench.profile.slices)?;
        let Setting { scenario, traffic, .. } = turn.setting;
        for method in &turn.methods {
            for &bytes in &turn.sizes {
                if sites.is_empty() {
                    return Ok(());
                }
                let subject = Subject { method, scenario: scenario.name, bytes, traffic };
                for record in take(bench, &mut sites, subject, &mut self.progress)? {
                    self.output.write_once(record)?;
                }
            }
        }
        Ok(())
    }

    /// The switches that have the scenario; of others a note says why not.
    fn start(&mut self, turn: &Turn, slices: usize) -> Result<Vec<Site<'r>>> {
        let (mut sites, scenario) = (Vec::new(), turn.setting.scenario.name);
        for peer in self.there {
            let name = peer.name();
            if let Some(reason) = refusal(peer.as_ref(), turn) {
                let text = format!("skipped: {reason}");
                self.output.write_once(remark("", scenario, name, text))?;
                continue;
            }
            let left = rounded(self.progress.left());
            eprintln!("hairpin-bench: starting {name} for {scenario}; about {left} left");
            let begun = Instant::now();
            let started = Site::start(peer.as_ref(), &turn.setting, self.directory);
            // An interrupt is no result of the switch's.
            interrupt::check()?;
            self.progress.did(progress::START, begun.elapsed());
            match started {
                Ok(mut site) => {
                    site.pause()?;
                    sites.push(site);
                }
                Err(error) => {
                    for method in &turn.methods {
                        self.progress.drop(method.name, turn.sizes.len() * slices);
                    }
                    let text = format!("failed: {error}");
                    self.output.write_once(remark("", scenario, name, text))?;
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

/// Does one test with frames of one length, each switch in each slice; what there is to record. A
/// switch that has ended is left out from then on.
fn take(
    bench: &mut Bench,
    sites: &mut Vec<Site>,
    subject: Subject<'_>,
    progress: &mut Progress,
) -> Result<Vec<Record>> {
    let Subject { method, scenario, bytes, .. } = subject;
    let slices = bench.profile.slices;
    let names: Vec<&'static str> = sites.iter().map(|site| site.name).collect();
    let mut turns: BTreeMap<&'static str, Vec<Slice>> = BTreeMap::new();
    let mut records = Vec::new();
    let mut gauge = Gauge::new(GENERATOR_CPU, WIRE_CPU)?;
    for slice in 0..slices {
        let (count, test) = (sites.len(), method.name);
        let (number, left) = (slice + 1, rounded(progress.left()));
        eprintln!(
            "hairpin-bench: {scenario} {test} {bytes} B, slice {number} of {slices}; about {left} \
             left"
        );
        for place in 0..count {
            let site = &mut sites[(slice + place) % count];
            bench.cores = gauge.now();
            let begun = Instant::now();
            let turn = turn(bench, site, method, bytes);
            // An interrupt is no result of the switch's.
            interrupt::check()?;
            let cores = gauge.since()?;
            if cores != bench.cores {
                bench.forget(site);
            }
            progress.did(method.name, begun.elapsed());
            match turn {
                Ok((taken, waited)) => {
                    records.extend(taken.notes.iter().map(|text| note(subject, site.name, text)));
                    turns.entry(site.name).or_default().push(Slice { cores, waited, taken });
                }
                Err(error) => {
                    records.push(note(subject, site.name, &format!("failed: {error}")));
                }
            }
        }
        sites.retain_mut(|site| {
            let there = site.is_there();
            let text = "it has ended: left out from here on";
            records.extend((!there).then(|| note(subject, site.name, text)));
            there
        });
    }
    for name in &names {
        let turns = turns.get(name).map_or(&[][..], Vec::as_slice);
        let waited: Vec<f64> = turns.iter().map(|slice| slice.waited).collect();
        records.extend(disturbance::remark(&waited).map(|text| note(subject, name, &text)));
        records.extend(subject.samples(name, turns));
        records.extend(subject.curves(name, turns));
    }
    records.extend(subject.ratios(&names, &turns));
    Ok(records)
}

/// A switch's turn: what the test gave, and in which share of the time it waited for a CPU.
fn turn(bench: &mut Bench, site: &mut Site, method: &Method, bytes: usize) -> Result<(Taken, f64)> {
    let begun = Instant::now();
    site.resume()?;
    let before = Disturbance::now(site);
    let taken = (method.take)(bench, site, bytes);
    let waited_ns = Disturbance::now(site).since(&before);
    site.pause()?;
    // Hosts run where the scheduler has them, beside whom they talk to.
    let waited_ns = if site.scenario.bears_frames() { waited_ns } else { 0 };
    Ok((taken?, waited_ns as f64 / begun.elapsed().as_nanos() as f64))
}

fn note(subject: Subject<'_>, peer: &str, text: &str) -> Record {
    remark(subject.method.name, subject.scenario, peer, text.to_owned())
}

fn remark(test: &str, scenario: &str, peer: &str, text: String) -> Record {
    let [test, scenario, peer] = [test, scenario, peer].map(str::to_owned);
    Record::Note(Note { test, scenario, peer, text })
}

/// What a record is about.
#[derive(Clone, Copy)]
struct Subject<'m> {
    method: &'m Method,
    scenario: &'m str,
    bytes: usize,
    traffic: Traffic,
}

/// What a switch's turn gave, and where the generator's CPU and the switch's were.
#[derive(Clone, Debug)]
struct Slice {
    cores: Placement,
    /// The share of the turn in which one of them waited for its CPU.
    waited: f64,
    taken: Taken,
}

/// What makes figures of several slices one sample: metric, load, and where the CPUs were.
type Key = (String, Option<u32>, Placement);

impl Subject<'_> {
    fn parameters(self, load: Option<u32>, cores: Placement) -> Parameters {
        let size = ("size".to_owned(), self.bytes.to_string());
        let cores = ("cores".to_owned(), cores.to_string());
        let load = load.map(|percent| ("load".to_owned(), percent.to_string()));
        let Traffic { tagging, flows } = self.traffic;
        // What is as ever goes without saying.
        let tag = (tagging != Traffic::PLAIN.tagging).then(|| tagging.name().to_owned());
        let flows = (flows != Traffic::PLAIN.flows).then(|| flows.to_string());
        let named = [("tag", tag), ("flows", flows)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        [size, cores].into_iter().chain(load).chain(named).collect()
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
        let Some(Slice { cores, taken, .. }) = turns.last() else { return Vec::new() };
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
            // Of figures from here and there, who is ahead is by chance.
            for (key, figures) in ours.iter().filter(|(key, _)| key.2 != Placement::Mixed) {
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
    for Slice { cores, taken, .. } in turns {
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
        Slice { cores: Placement::Near, waited: 0.0, taken }
    }

    #[test]
    fn tests_that_take_as_many_ports_share_their_sites() {
        let [two, other, ..] = METHODS;
        let more = Method { needs: Needs { ports: 3, kinds: &[Kind::Vm], ..other.needs }, ..other };
        let needs = Needs { addresses: Addresses::Learned, ..other.needs };
        let learned = Method { needs, ..other };
        let named = |name, sizes: &[usize]| {
            let (methods, sizes) = (vec![two, more, other, learned, learned], sizes.to_vec());
            let options = Options { methods, sizes, ..Options::default() };
            let turns = turns(&Scenario::named(name).unwrap(), &options);
            let shown = |turn: &Turn| (turn.setting.ports, turn.methods.len(), turn.sizes.len());
            turns.iter().map(shown).collect::<Vec<_>>()
        };
        // But what one of them had a switch learn is nothing for another to find.
        let both = [(2, 2, 1), (2, 1, 1), (2, 1, 1)];
        assert_eq!(named("v2v", &[64, 1518]), [(2, 2, 2), (3, 1, 2), (2, 1, 2), (2, 1, 2)]);
        assert_eq!(named("t2t", &[64]), both);
        assert_eq!(named("t2t", &[9018, 64]), [both, both].concat());
        assert_eq!(named("h2h", &[64, 1518]), []);
    }

    #[test]
    fn slices_become_a_sample_and_two_switches_a_ratio() {
        let traffic = Traffic { flows: 10, ..Traffic::PLAIN };
        let subject = Subject { method: &METHODS[0], scenario: "v2v", bytes: 64, traffic };
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
        assert_eq!(sample.parameters["flows"], "10");
        assert!(!sample.parameters.contains_key("tag"));
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
