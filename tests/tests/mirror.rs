//! Mirrors against captures: a probe gets, frame by frame, what a capture of the mirrored
//! devices shows (which `oracle` holds to the rules), and nobody else notices.
//!
//! `HAIRPIN_CASES` sets the number of scenarios, 100,000 at most. A failure is shrunk, printed
//! and kept in `proptest-regressions/mirror.txt`, from where it is tried first.

use hairpin_dataplane::port::pcapng::Direction;
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::capture::SNAPSHOT_BYTES_MAX;
use hairpin_tests::oracle::Frame;
use hairpin_tests::rig::{Captured, Rig};
use hairpin_tests::scenario::{Scenario, Step, scenario};
use hairpin_tests::site::{Applied, Device, Site};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError};

const START_MS: u64 = 1_000_000;
const CHOICES: [Option<Mirrored>; 4] =
    [Some(Mirrored::Both), Some(Mirrored::Received), Some(Mirrored::Sent), None];

/// Scenarios without `HAIRPIN_CASES`.
const CASES: u32 = 2000;

fn config() -> ProptestConfig {
    let cases = std::env::var("HAIRPIN_CASES")
        .map_or(CASES, |cases| cases.parse().expect("HAIRPIN_CASES is a number of scenarios"));
    let kept = FileFailurePersistence::Direct("proptest-regressions/mirror.txt");
    let cases = cases.min(100_000);
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..Default::default() }
}

fn is_there(site: &Site, rig: &Rig, device: Device) -> bool {
    rig.has(device)
        && match device {
            Device::Link(_) => true,
            Device::Port(slot) => site.port(slot).is_some(),
        }
}

/// Whether a mirror copies what a capture shows. What is lost for its length never was on its
/// way; with rings that are never full nothing else is lost behind a decision.
fn copies(what: Mirrored, captured: &Captured) -> bool {
    match captured.way {
        Direction::Inbound => what != Mirrored::Sent,
        Direction::Outbound => what != Mirrored::Received && captured.dropped.is_none(),
    }
}

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(SNAPSHOT_BYTES_MAX)].to_vec()
}

/// The probe's frames are those that captures of the mirrored devices show, in some order, but
/// for those that nobody else got either and that are none (`odd` of them at most); and the
/// ledgers of all devices and the probe's balance.
fn compare(rig: &mut Rig, mirrors: &[(Device, Mirrored)], odd: usize) -> Result<(), TestCaseError> {
    let captured = rig.captured();
    let (frames, of_probe) = rig.probed();
    let mut seen: Vec<_> =
        frames.iter().map(|frame| (frame.bytes.len(), first_bytes(&frame.bytes))).collect();
    let mut missing = 0;
    for (device, what) in mirrors {
        let of_device = captured.get(device).map(Vec::as_slice).unwrap_or_default();
        for frame in of_device.iter().filter(|captured| copies(*what, captured)) {
            let expected = (frame.length, frame.bytes.clone());
            if let Some(at) = seen.iter().position(|seen| *seen == expected) {
                seen.swap_remove(at);
            } else {
                prop_assert!(frame.dropped.is_some(), "{device:?}: {frame:?} is not there");
                missing += 1;
            }
        }
    }
    prop_assert!(seen.is_empty(), "{:?} came from nowhere", seen);
    prop_assert!(missing <= odd, "{missing} frames are missing, {odd} are odd");
    let totals = rig.totals();
    let sum = |of: fn(&hairpin_dataplane::ledger::Totals) -> u64| {
        totals.values().chain([&of_probe]).map(of).sum::<u64>()
    };
    prop_assert_eq!(sum(|totals| totals.fan_out), sum(|totals| totals.offered));
    prop_assert!(totals.values().chain([&of_probe]).all(|totals| totals.is_balanced()));
    Ok(())
}

fn run(scenario: &Scenario, choices: &[usize]) -> Result<(), TestCaseError> {
    let (mut site, mut rig) = (scenario.site.clone(), Rig::new(&scenario.site));
    let chosen = site.devices().into_iter().zip(choices.iter().cycle());
    let mirrors: Vec<_> =
        chosen.filter_map(|(device, &choice)| Some((device, CHOICES[choice]?))).collect();
    rig.capture();
    rig.mirror(&site, mirrors.clone());
    let (mut now_ms, mut number, mut odd) = (START_MS, 0, 0);
    for step in &scenario.steps {
        match step {
            Step::Burst(device, drafts) if is_there(&site, &rig, *device) => {
                let frames: Vec<_> = drafts
                    .iter()
                    .map(|draft| {
                        number += 1;
                        draft.frame(number)
                    })
                    .collect();
                let is_odd =
                    |frame: &&Frame| frame.offload != Offload::NONE || frame.bytes.len() < 14;
                odd += frames.iter().filter(is_odd).count();
                rig.send(*device, &frames);
            }
            Step::Change(change) if site.apply(change) != Applied::Refused => rig.change(&site),
            Step::Wait(seconds) => now_ms += 1000 * seconds,
            Step::Burst(..) | Step::Return(_) | Step::Change(_) => {}
        }
        rig.breathe(now_ms);
        // What came out is of no interest here, but makes room.
        rig.deliveries();
        compare(&mut rig, &mirrors, odd)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_probe_gets_what_captures_show(
        scenario in scenario(),
        choices in prop::collection::vec(0..CHOICES.len(), 1..6),
    ) {
        run(&scenario, &choices)?;
    }
}
