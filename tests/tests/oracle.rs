//! The dataplane does what the model of its rules does: over random sites,
//! frames and changes the same copies, byte for byte and in order, the same
//! reasons for what is lost, and balanced ledgers after every step.
//!
//! `HAIRPIN_CASES` sets the number of scenarios. A failure is shrunk, printed
//! and kept in `proptest-regressions/oracle.txt`, from where it is tried first.

use std::collections::{BTreeMap, BTreeSet};

use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::pcapng::Direction;
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::worker::capture::SNAPSHOT_BYTES_MAX;
use hairpin_tests::oracle::{Frame, Oracle, Outcome};
use hairpin_tests::rig::{Captured, Rig};
use hairpin_tests::scenario::{Scenario, Step, scenario};
use hairpin_tests::site::{Applied, Change, Device, Seat, Site};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

/// Scenarios without `HAIRPIN_CASES`.
const CASES: u32 = 20_000;
/// When a scenario begins.
const START_MS: u64 = 10_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("HAIRPIN_CASES")
        .map_or(CASES, |cases| cases.parse().expect("HAIRPIN_CASES is a number of scenarios"));
    let kept = FileFailurePersistence::Direct("proptest-regressions/oracle.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_dataplane_does_what_its_rules_say(scenario in scenario()) {
        Trial::new(&scenario).run(&scenario.steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(8), ..config() })]

    /// All that is received, that leaves and that is lost, and what became of it.
    #[test]
    fn what_is_captured_is_what_happens(scenario in scenario()) {
        let mut trial = Trial::new(&scenario);
        trial.rig.capture();
        trial.watch = Watch::Captured;
        trial.run(&scenario.steps)?;
    }
}

/// Whether what happens is captured as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    Unwatched,
    Captured,
}

/// The switch and its model, side by side.
struct Trial {
    watch: Watch,
    site: Site,
    oracle: Oracle,
    rig: Rig,
    before: BTreeMap<Device, Totals>,
    /// What the far ends of links got last and have not sent back.
    at_links: BTreeMap<usize, Vec<Frame>>,
    now_ms: u64,
    frames: u32,
}

impl Trial {
    fn new(scenario: &Scenario) -> Trial {
        let rig = Rig::new(&scenario.site);
        let mut oracle = Oracle::new(&scenario.site);
        oracle.wait(START_MS);
        let before = rig.totals();
        let site = scenario.site.clone();
        let at_links = BTreeMap::new();
        let watch = Watch::Unwatched;
        Trial { watch, site, oracle, rig, before, at_links, now_ms: START_MS, frames: 0 }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for (index, step) in steps.iter().enumerate() {
            self.take(step);
            self.rig.breathe(self.now_ms);
            self.compare().map_err(|difference| {
                TestCaseError::fail(format!("step {index}, {step:?}: {difference}"))
            })?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Burst(device, drafts) if is_there(&self.site, *device) => {
                let mut frames = Vec::new();
                for draft in drafts {
                    self.frames += 1;
                    frames.push(draft.frame(self.frames));
                }
                self.send(*device, frames);
            }
            Step::Burst(..) => {}
            Step::Return(link) => {
                if let Some(frames) = self.at_links.remove(link) {
                    self.send(Device::Link(*link), frames);
                }
            }
            Step::Change(change) => self.change(change),
            Step::Wait(seconds) => self.wait(*seconds),
        }
    }

    fn send(&mut self, device: Device, frames: Vec<Frame>) {
        self.rig.send(device, &frames);
        frames.into_iter().for_each(|frame| self.oracle.step(device, frame));
    }

    fn change(&mut self, change: &Change) {
        if self.site.apply(change) == Applied::Refused {
            return;
        }
        self.oracle.change(change);
        self.rig.change(&self.site);
        if let Change::Reflection(..) = change {
            // The rules do not say what a bucket holds right after its rate changed.
            self.wait(1);
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now_ms += 1000 * seconds;
        self.oracle.wait(self.now_ms);
    }

    fn compare(&mut self) -> Result<(), String> {
        let Outcome { deliveries, received, drops } = self.oracle.outcome();
        self.at_links.extend(at_links(&deliveries));
        let (arrived, now) = (self.rig.deliveries(), self.rig.totals());
        if self.watch == Watch::Captured {
            compare_captured(&self.rig.captured(), &arrived, &self.before, &now)?;
        }
        compare_deliveries(deliveries, arrived)?;
        compare_counters(&received, &drops, &self.before, &now)?;
        check_ledgers(&now)?;
        self.before = now;
        Ok(())
    }
}

fn at_links(deliveries: &BTreeMap<Device, Vec<Vec<Frame>>>) -> BTreeMap<usize, Vec<Frame>> {
    let link = |(device, bundles): (&Device, &Vec<Vec<Frame>>)| match device {
        Device::Link(link) => Some((*link, bundles.concat())),
        Device::Port(_) => None,
    };
    deliveries.iter().filter_map(link).collect()
}

/// A host-local link has no device, an empty slot nobody who sends.
fn is_there(site: &Site, device: Device) -> bool {
    site.devices().contains(&device)
        && match device {
            Device::Link(_) => true,
            Device::Port(slot) => site.port(slot).is_some(),
        }
}

/// The copies of one frame at one device may come in any order, frames may not.
fn compare_deliveries(
    expected: BTreeMap<Device, Vec<Vec<Frame>>>,
    mut actual: BTreeMap<Device, Vec<Frame>>,
) -> Result<(), String> {
    for (device, bundles) in expected {
        let frames = actual.remove(&device).unwrap_or_default();
        let mut rest = frames.as_slice();
        for mut bundle in bundles {
            let (now, later) = rest.split_at(bundle.len().min(rest.len()));
            let mut now = now.to_vec();
            now.sort_by(|a, b| a.bytes.cmp(&b.bytes));
            bundle.sort_by(|a, b| a.bytes.cmp(&b.bytes));
            if now != bundle {
                return Err(explain(device, &bundle, &now));
            }
            rest = later;
        }
        if !rest.is_empty() {
            return Err(explain(device, &[], rest));
        }
    }
    match actual.into_iter().next() {
        Some((device, frames)) => Err(explain(device, &[], &frames)),
        None => Ok(()),
    }
}

/// What was captured as leaving is what came out, in this order; the rest agrees with the
/// counters.
fn compare_captured(
    captured: &BTreeMap<Device, Vec<Captured>>,
    arrived: &BTreeMap<Device, Vec<Frame>>,
    before: &BTreeMap<Device, Totals>,
    now: &BTreeMap<Device, Totals>,
) -> Result<(), String> {
    for (device, totals) in now {
        let frames = captured.get(device).map_or(&[][..], Vec::as_slice);
        let left = frames.iter().filter(|one| one.way == Direction::Outbound);
        let left: Vec<_> = left.filter(|one| one.dropped.is_none()).collect();
        let arrived = arrived.get(device).map_or(&[][..], Vec::as_slice);
        let same = |(one, other): (&&Captured, &Frame)| {
            let kept = other.bytes.len().min(SNAPSHOT_BYTES_MAX);
            one.length == other.bytes.len() && one.bytes == other.bytes[..kept]
        };
        if left.len() != arrived.len() || !left.iter().zip(arrived).all(same) {
            return Err(format!("{device:?} captured {left:#?}, where {arrived:#?} arrived"));
        }
        let received = frames.iter().filter(|one| one.way == Direction::Inbound).count() as u64;
        if received != totals.rx_frames - before[device].rx_frames {
            return Err(format!("{device:?} captured {received} received frames of {totals:?}"));
        }
        for &reason in DropReason::ALL {
            let lost = frames.iter().filter(|one| one.dropped == Some(reason)).count() as u64;
            if lost != totals.dropped(reason) - before[device].dropped(reason) {
                return Err(format!("{device:?} captured {lost} drops, {reason}, of {totals:?}"));
            }
        }
    }
    Ok(())
}

fn explain(device: Device, expected: &[Frame], actual: &[Frame]) -> String {
    format!("at {device:?}\n  expected {expected:#?}\n  got {actual:#?}")
}

fn compare_counters(
    received: &BTreeMap<Device, u64>,
    drops: &BTreeMap<(Device, DropReason), u64>,
    before: &BTreeMap<Device, Totals>,
    now: &BTreeMap<Device, Totals>,
) -> Result<(), String> {
    let mut actual = BTreeMap::new();
    for (&device, totals) in now {
        let frames = totals.rx_frames - before[&device].rx_frames;
        let expected = received.get(&device).copied().unwrap_or(0);
        if frames != expected {
            return Err(format!("{device:?} gave {frames} frames, not {expected}"));
        }
        for (reason, count) in totals.drops() {
            let count = count - before[&device].dropped(reason);
            if count > 0 {
                actual.insert((device, reason), count);
            }
        }
    }
    match &actual == drops {
        true => Ok(()),
        false => Err(format!("drops\n  expected {drops:?}\n  got {actual:?}")),
    }
}

fn check_ledgers(totals: &BTreeMap<Device, Totals>) -> Result<(), String> {
    for (device, totals) in totals {
        if !totals.is_balanced() {
            return Err(format!("{device:?} is out of balance: {totals:?}"));
        }
    }
    let fan_out: u64 = totals.values().map(|totals| totals.fan_out).sum();
    let offered: u64 = totals.values().map(|totals| totals.offered).sum();
    match fan_out == offered {
        true => Ok(()),
        false => Err(format!("{fan_out} copies were decided, {offered} offered")),
    }
}

/// What random scenarios have to reach, or they prove nothing: every reason that
/// policy alone can give.
const REACHED: [DropReason; 27] = [
    DropReason::Runt,
    DropReason::Giant,
    DropReason::TruncatedTag,
    DropReason::ReservedAddress,
    DropReason::SourceInvalid,
    DropReason::TagNotAllowed,
    DropReason::VlanInvalid,
    DropReason::VlanTagged,
    DropReason::VlanUntagged,
    DropReason::VlanNotMember,
    DropReason::OffloadInvalid,
    DropReason::SourceNotRegistered,
    DropReason::SourceRegisteredElsewhere,
    DropReason::LearnLimit,
    DropReason::OwnAddress,
    DropReason::OwnFrameReturned,
    DropReason::LocalFrameReturned,
    DropReason::Private,
    DropReason::UnknownUnicast,
    DropReason::NoReceiver,
    DropReason::NoUplink,
    DropReason::UnknownSvid,
    DropReason::ChannelUnused,
    DropReason::ReflectionOff,
    DropReason::PortDown,
    DropReason::MtuExceeded,
    DropReason::ReflectedGroupRate,
];

#[test]
fn scenarios_reach_every_rule() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::new();
    let mut delivered_to = BTreeSet::new();
    for _ in 0..2000 {
        let scenario = scenario().new_tree(&mut runner).expect("nothing is filtered").current();
        let mut oracle = Oracle::new(&scenario.site);
        let mut site = scenario.site.clone();
        let (mut now_ms, mut returning) = (0, BTreeMap::new());
        for step in &scenario.steps {
            match step {
                Step::Burst(device, drafts) if is_there(&site, *device) => {
                    drafts.iter().for_each(|draft| oracle.step(*device, draft.frame(0)));
                }
                Step::Burst(..) => {}
                Step::Return(link) => {
                    let frames: Vec<Frame> = returning.remove(link).unwrap_or_default();
                    frames.into_iter().for_each(|frame| oracle.step(Device::Link(*link), frame));
                }
                Step::Change(change) => {
                    site.apply(change);
                    oracle.change(change);
                }
                Step::Wait(seconds) => {
                    now_ms += 1000 * seconds;
                    oracle.wait(now_ms);
                }
            }
            let outcome = oracle.outcome();
            returning.extend(at_links(&outcome.deliveries));
            for ((_, reason), count) in outcome.drops {
                *reached.entry(reason).or_insert(0) += count;
            }
            delivered_to
                .extend(outcome.deliveries.keys().filter_map(|device| what(&site, *device)));
        }
    }
    println!("{reached:?}");
    let missing: Vec<_> = REACHED.iter().filter(|&reason| !reached.contains_key(reason)).collect();
    assert!(missing.is_empty(), "no scenario led to {missing:?}");
    assert_eq!(delivered_to.len(), 6, "{delivered_to:?}");
}

/// A link, a bridge's port, or a port of some mode.
fn what(site: &Site, device: Device) -> Option<&'static str> {
    let Device::Port(slot) = device else { return Some("link") };
    let port = site.port(slot)?;
    Some(match (port.seat, port.mode) {
        (Seat::Bridge, _) => "bridge",
        (_, Mode::Veb) => "veb",
        (_, Mode::Vepa) => "vepa",
        (_, Mode::Private) => "private",
        (_, Mode::Direct) => "direct",
    })
}
