//! What `hairpin why` says is what the dataplane then does: over random sites, frames and
//! changes, each frame is asked about immediately before it is sent. The same copies leave,
//! byte for byte and in order, the same reason is counted at the same device, and the table
//! is taught what was said. Asking changes nothing.
//!
//! `HAIRPIN_CASES` sets the number of scenarios. A failure is shrunk, printed and kept in
//! `proptest-regressions/why.txt`, from where it is tried first.

use std::collections::{BTreeMap, BTreeSet};

use hairpin_dataplane::frame::HEADER_BYTES;
use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::Condition;
use hairpin_dataplane::relay::fdb::Row;
use hairpin_dataplane::relay::why::{Copy, Explanation, Outcome, Rule, Standing, Step};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::foresee::{Foreseen, Pull};
use hairpin_tests::oracle::Frame;
use hairpin_tests::rig::{Rig, device_of};
use hairpin_tests::scenario::{self, Scenario, scenario};
use hairpin_tests::site::{Applied, Change, Device, Port, SLOTS, Seat, Site, Sources, Vlan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

/// Scenarios without `HAIRPIN_CASES`.
const CASES: u32 = 3000;
/// Scenarios among which every rule must have decided.
const CASES_FOR_ALL: u32 = 1500;
/// When a scenario begins.
const START_MS: u64 = 10_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("HAIRPIN_CASES")
        .map_or(CASES, |cases| cases.parse().expect("HAIRPIN_CASES is a number of scenarios"));
    let kept = FileFailurePersistence::Direct("proptest-regressions/why.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_foreseen_comes_to_pass(scenario in scenario()) {
        let mut reached = Reached::default();
        Trial::new(&scenario).run(&scenario.steps, &mut reached).map_err(TestCaseError::fail)?;
    }
}

/// What explanations there were.
#[derive(Default)]
struct Reached {
    rules: BTreeSet<&'static str>,
    reasons: BTreeSet<DropReason>,
    standings: BTreeSet<&'static str>,
    not_taken: usize,
}

/// A switch that is asked and then given frames, one at a time.
struct Trial {
    site: Site,
    rig: Rig,
    /// What the far ends of links got last and have not sent back.
    at_links: BTreeMap<usize, Vec<Frame>>,
    now_ms: u64,
    frames: u32,
}

/// All that asking must not change.
#[derive(Clone, PartialEq, Debug)]
struct State {
    totals: BTreeMap<Device, Totals>,
    learned: (Vec<Row>, u64),
}

impl Trial {
    fn new(scenario: &Scenario) -> Trial {
        let (site, rig) = (scenario.site.clone(), Rig::new(&scenario.site));
        Trial { site, rig, at_links: BTreeMap::new(), now_ms: START_MS, frames: 0 }
    }

    fn run(&mut self, steps: &[scenario::Step], reached: &mut Reached) -> Result<(), String> {
        for (index, step) in steps.iter().enumerate() {
            self.take(step, reached)
                .map_err(|difference| format!("step {index}, {step:?}: {difference}"))?;
        }
        Ok(())
    }

    fn take(&mut self, step: &scenario::Step, reached: &mut Reached) -> Result<(), String> {
        match step {
            scenario::Step::Burst(device, drafts) if self.is_there(*device) => {
                drafts.iter().try_for_each(|draft| {
                    self.frames += 1;
                    self.send(*device, draft.frame(self.frames), reached)
                })
            }
            scenario::Step::Burst(..) => Ok(()),
            scenario::Step::Return(link) => {
                let frames = self.at_links.remove(link).unwrap_or_default();
                let device = Device::Link(*link);
                frames.into_iter().try_for_each(|frame| self.send(device, frame, reached))
            }
            scenario::Step::Change(change) => {
                if self.site.apply(change) == Applied::Done {
                    self.rig.change(&self.site);
                    // Frames that waited for it are not asked about.
                    self.rig.breathe(self.now_ms);
                    self.rig.deliveries();
                }
                Ok(())
            }
            scenario::Step::Wait(seconds) => {
                self.now_ms += 1000 * seconds;
                self.rig.breathe(self.now_ms);
                Ok(())
            }
        }
    }

    /// A host-local link has no device, an empty slot nobody who sends.
    fn is_there(&self, device: Device) -> bool {
        self.rig.has(device)
            && match device {
                Device::Link(_) => true,
                Device::Port(slot) => self.site.port(slot).is_some(),
            }
    }

    fn state(&self) -> State {
        State { totals: self.rig.totals(), learned: self.rig.learned(self.now_ms) }
    }

    /// Asks about a frame, sends it, and compares.
    fn send(&mut self, at: Device, frame: Frame, reached: &mut Reached) -> Result<(), String> {
        let before = self.state();
        let foreseen = self.rig.foresee(at, &frame, self.now_ms);
        let again = self.rig.foresee(at, &frame, self.now_ms);
        if foreseen != again {
            return Err(format!("{foreseen:?}, asked again {again:?}"));
        }
        if self.state() != before {
            return Err(format!("asking changed {before:?} to {:?}", self.state()));
        }
        self.rig.send(at, std::slice::from_ref(&frame));
        self.rig.breathe(self.now_ms);
        let deliveries = self.rig.deliveries();
        for (device, frames) in &deliveries {
            if let Device::Link(link) = device {
                self.at_links.insert(*link, frames.clone());
            }
        }
        let (after, seen) = (self.state(), deliveries);
        reached.note(&foreseen);
        let drops = drops(&before.totals, &after.totals);
        let taken = after.totals[&at].rx_frames - before.totals[&at].rx_frames;
        compare(at, &frame, &foreseen, taken, (&seen, &drops))
            .and_then(|()| compare_learned(&foreseen, &before.learned, &after.learned))
            .map_err(|said| format!("{frame:?} at {at:?}: {said}\n  foreseen {foreseen:#?}"))
    }
}

type Deliveries = BTreeMap<Device, Vec<Frame>>;
type Drops = BTreeMap<(Device, DropReason), u64>;

fn drops(before: &BTreeMap<Device, Totals>, after: &BTreeMap<Device, Totals>) -> Drops {
    let mut drops = Drops::new();
    for (&device, totals) in after {
        for (reason, count) in totals.drops() {
            let more = count - before[&device].dropped(reason);
            drops.extend((more > 0).then_some(((device, reason), more)));
        }
    }
    drops
}

/// Whether a frame did what was foreseen.
fn compare(
    at: Device,
    frame: &Frame,
    foreseen: &Foreseen,
    taken: u64,
    seen: (&Deliveries, &Drops),
) -> Result<(), String> {
    let (mut deliveries, mut drops) = (Deliveries::new(), Drops::new());
    let taken_expected = match foreseen {
        Foreseen::NotTaken(_) => 0,
        Foreseen::Taken(explanation) => {
            match &explanation.outcome {
                Outcome::Dropped(reason) => drops.extend([((at, *reason), 1)]),
                Outcome::Copies(copies) => {
                    for copy in copies {
                        foresee_copy(frame, copy, seen.1, &mut deliveries, &mut drops);
                    }
                }
            }
            1
        }
    };
    if taken != taken_expected {
        return Err(format!("{taken} frames were taken, not {taken_expected}"));
    }
    if seen.0 != &deliveries {
        return Err(format!("delivered {:#?}, not {deliveries:#?}", seen.0));
    }
    match seen.1 == &drops {
        true => Ok(()),
        false => Err(format!("dropped {:?}, not {drops:?}", seen.1)),
    }
}

/// One copy, as it was foreseen; or, where its bucket was empty, what may have become of it.
fn foresee_copy(
    frame: &Frame,
    copy: &Copy,
    seen: &Drops,
    deliveries: &mut Deliveries,
    drops: &mut Drops,
) {
    let device = device_of(copy.device);
    let rate = (device, DropReason::ReflectedGroupRate);
    let is_over = copy.may.contains(&rate.1) && seen.contains_key(&rate);
    match &copy.fate {
        _ if is_over => *drops.entry(rate).or_default() += 1,
        Err(reason) => *drops.entry((device, *reason)).or_default() += 1,
        Ok(leaving) => {
            let body = frame.bytes.get(HEADER_BYTES..).unwrap_or_default();
            let bytes = [&leaving.header, body].concat();
            assert_eq!(bytes.len(), leaving.length);
            deliveries.entry(device).or_default().push(Frame { bytes, offload: leaving.offload });
        }
    }
}

/// Whether the table was taught what was foreseen.
fn compare_learned(
    foreseen: &Foreseen,
    before: &(Vec<Row>, u64),
    after: &(Vec<Row>, u64),
) -> Result<(), String> {
    let Foreseen::Taken(explanation) = foreseen else { return Ok(()) };
    let Some((admitted, standing)) = explanation.admitted.zip(standing(explanation)) else {
        return Ok(());
    };
    let address = admitted.address(admitted.source);
    let holder = |rows: &[Row]| {
        let mut found = rows.iter().filter(|row| row.address == address);
        found.next().map(|row| row.tenant.port)
    };
    let (had, has) = (holder(&before.0), holder(&after.0));
    let moves = after.1 - before.1;
    let holds = match standing {
        Standing::New | Standing::Known { .. } => (has, moves) == (Some(admitted.ingress), 0),
        Standing::Moves(from) => (had, has, moves) == (Some(from), Some(admitted.ingress), 1),
        Standing::Leaves(port) => (had, has, moves) == (Some(port), None, 1),
        // What is there may be swept, never anybody else's.
        _ => (has.is_none() || has == had) && moves == 0,
    };
    match holds {
        true => Ok(()),
        false => Err(format!("{address:?} went from {had:?} to {has:?}, {moves} moves")),
    }
}

fn standing(explanation: &Explanation) -> Option<Standing> {
    explanation.steps.iter().find_map(|step| match step {
        Step::Source { standing, .. } => Some(*standing),
        _ => None,
    })
}

impl Reached {
    fn note(&mut self, foreseen: &Foreseen) {
        let Foreseen::Taken(explanation) = foreseen else {
            self.not_taken += 1;
            return;
        };
        match &explanation.outcome {
            Outcome::Dropped(reason) => drop(self.reasons.insert(*reason)),
            Outcome::Copies(copies) => {
                self.reasons.extend(copies.iter().filter_map(|copy| copy.fate.clone().err()));
                self.reasons.extend(copies.iter().flat_map(|copy| copy.may.iter().copied()));
            }
        }
        if let Some(Step::Rule(rule)) = explanation.steps.last() {
            self.rules.insert(rule.name());
        }
        self.standings.extend(standing(explanation).map(|standing| match standing {
            Standing::Own => "own",
            Standing::NotOwn => "not own",
            Standing::RegisteredElsewhere(_) => "registered elsewhere",
            Standing::Known { .. } => "known",
            Standing::New => "new",
            Standing::Moves(_) => "moves",
            Standing::NoRoom { .. } => "no room",
            Standing::Foreign => "foreign",
            Standing::Local(..) => "local",
            Standing::Leaves(_) => "leaves",
        }));
    }
}

/// Two `veb` ports with a registered address each, on the first channel of a random site.
fn two_ports() -> Scenario {
    let mut runner = TestRunner::deterministic();
    let mut scenario = scenario().new_tree(&mut runner).expect("nothing is filtered").current();
    for slot in 0..SLOTS {
        scenario.site.apply(&Change::Unplug(slot));
    }
    for slot in 0..2 {
        let (seat, mode, vlan) = (Seat::Channel(0), Mode::Veb, Vlan::Transparent);
        let sources = Sources::Registered(vec![[2, 0, 0, 0, 0, slot as u8]]);
        let port = Port { seat, mode, vlan, sources, admin: Admin::Up };
        assert_eq!(scenario.site.apply(&Change::Plug(slot, port)), Applied::Done);
    }
    scenario
}

#[test]
fn a_device_that_does_not_work_is_foreseen_to_take_and_give_nothing() {
    for (condition, pull) in
        [(Condition::Lost, Pull::Lost), (Condition::Quarantined, Pull::Quarantined)]
    {
        let mut trial = Trial::new(&two_ports());
        let mut reached = Reached::default();
        let frame = |to: u8, from: u8| Frame {
            bytes: [&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0][..], &[7; 46]].concat(),
            offload: Offload::NONE,
        };
        let mut send = |trial: &mut Trial, slot: u8| {
            trial.send(Device::Port(slot.into()), frame(1 - slot, slot), &mut reached)
        };
        assert_eq!(send(&mut trial, 0), Ok(()));
        trial.rig.set_condition(Device::Port(1), condition);
        assert_eq!((send(&mut trial, 0), send(&mut trial, 1)), (Ok(()), Ok(())));
        let waiting = trial.rig.foresee(Device::Port(1), &frame(0, 1), START_MS);
        assert_eq!(waiting, Foreseen::NotTaken(pull));
        assert_eq!(reached.not_taken, 1);
        assert!(reached.reasons.contains(&DropReason::PortDown), "{:?}", reached.reasons);
    }
}

/// Reasons that no policy gives: of devices, of failures, and of budgets that nothing here
/// spends.
const BEYOND: [DropReason; 11] = [
    DropReason::TooManySegments,
    DropReason::BadAddress,
    DropReason::QueueDisabled,
    DropReason::ReadError,
    DropReason::PortFault,
    DropReason::SenderFault,
    DropReason::ReceiverFault,
    DropReason::DeviceError,
    DropReason::TransmitBusy,
    // Scenarios have no mirrors: `control/tests/mirrors.rs` asks of a port on one.
    DropReason::FromMonitor,
    DropReason::MirrorBudget,
];

#[test]
fn every_rule_and_reason_is_foreseen_by_some() {
    let mut runner = TestRunner::deterministic();
    let mut reached = Reached::default();
    for _ in 0..CASES_FOR_ALL {
        let scenario = scenario().new_tree(&mut runner).expect("nothing is filtered").current();
        if let Err(said) = Trial::new(&scenario).run(&scenario.steps, &mut reached) {
            panic!("{scenario:?}: {said}");
        }
    }
    let rules = Rule::ALL.iter().map(|rule| rule.name());
    let missing: Vec<_> = rules.filter(|name| !reached.rules.contains(name)).collect();
    assert!(missing.is_empty(), "no frame came under {missing:?}");
    let reasons = DropReason::ALL.iter().filter(|reason| !BEYOND.contains(reason));
    let missing: Vec<_> = reasons.filter(|reason| !reached.reasons.contains(reason)).collect();
    assert!(missing.is_empty(), "no frame was foreseen to be {missing:?}");
    assert_eq!(reached.standings.len(), 10, "{:?}", reached.standings);
    assert!(reached.not_taken > 0);
}
