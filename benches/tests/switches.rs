//! Whole switches under the suite's generator: what it offers comes, and nothing stays behind.

use std::sync::{Mutex, PoisonError};

use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::suite::bench::{Bench, Profile};
use hairpin_bench::suite::pace::Pace;
use hairpin_bench::suite::peers::{DpdkWire, Hairpin, LinuxBridge, Macvtap, OvsDpdk, Peer};
use hairpin_bench::suite::scenario::{SCENARIOS, Scenario};
use hairpin_bench::suite::setting::{Addresses, JUMBO_BYTES, Lengths, Setting, Tagging, Traffic};
use hairpin_bench::suite::site::Site;
use hairpin_bench::suite::trial::Load;
use hairpin_tests::bed::{self, Root};

/// A process has one run directory.
static TURN: Mutex<()> = Mutex::new(());

/// Frames a second that any switch forwards, on a busy machine too.
const FEW: f64 = 2000.0;

/// A busy machine may take the switch's CPU away from it for longer than frames are waited for:
/// one of so many trials has to lose nothing.
const TRIALS: usize = 10;

/// Offers a load that is no challenge, stops the switch in between, and does it again.
fn carries(_: Root, peer: &dyn Peer, setting: &Setting) {
    let Setting { scenario, addresses, lengths, traffic, .. } = setting;
    let run = RunDirectory::create(peer.pages() + setting.pages()).expect("huge pages");
    let what = format!("{} {} {addresses:?} {lengths:?} {traffic:?}", peer.name(), scenario.name);
    let site = Site::start(peer, setting, &run);
    let mut site = site.unwrap_or_else(|error| panic!("{what}: {error}"));
    let longest = if *lengths == Lengths::Jumbo { JUMBO_BYTES } else { 1518 };
    let mut bench = Bench::new(Profile { trial_ns: 500_000_000, ..Profile::QUICK });
    for bytes in [64, longest] {
        let lost: Vec<u64> =
            (0..TRIALS).map_while(|_| lost(&mut bench, &mut site, bytes)).collect();
        assert!(lost.len() < TRIALS, "{what} {bytes}: of 1000 frames {lost:?} were lost");
        site.pause().expect("a switch");
        site.resume().expect("a switch");
    }
    let rate = bench.forwarding_rate(&mut site, 64).expect("frames");
    assert!(rate > FEW, "{what}: {rate}");
    assert!(site.is_there(), "{what}");
    if let Some(process) = site.switch().process() {
        process.kill();
        assert!(!site.is_there(), "{what}: its process was killed");
    }
}

/// Frames of a trial that the switch has lost, if any.
fn lost(bench: &mut Bench, site: &mut Site<'_>, bytes: usize) -> Option<u64> {
    let load = Load::Open(Pace { frames_per_second: FEW });
    let outcome = bench.trial(site, bytes, load).expect("a trial");
    assert_eq!(outcome.offered, 1000);
    let altered = (outcome.corrupted, outcome.counts.duplicated, outcome.counts.reordered);
    assert_eq!(altered, (0, 0, 0), "{} {}", site.name, site.scenario.name);
    // Whoever else uses the machine may take the generator's CPU away from it, for a while.
    let lost = outcome.lost() - (outcome.missed + outcome.refused);
    (lost > 0).then_some(lost)
}

#[test]
fn every_switch_that_is_installed_carries_what_is_offered_in_every_scenario_it_has() {
    let Some(root) = bed::root() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let hairpin = Hairpin { program: bed::program().unwrap() };
    for scenario in SCENARIOS {
        assert_eq!(hairpin.refusal(&scenario, 0), None, "{}", scenario.name);
    }
    let peers: [&dyn Peer; 5] = [&hairpin, &DpdkWire, &OvsDpdk, &LinuxBridge, &Macvtap];
    for peer in peers {
        if let Err(error) = peer.version() {
            eprintln!("skipped {}: {error}", peer.name());
            continue;
        }
        let has =
            |scenario: &&Scenario| scenario.bears_frames() && peer.refusal(scenario, 0).is_none();
        let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(has).collect();
        assert!(!scenarios.is_empty(), "{}", peer.name());
        for scenario in scenarios {
            carries(root, peer, &Setting::plain(*scenario, 0));
        }
    }
}

#[test]
fn switches_carry_long_frames_tags_and_flows_and_learn_where_they_do_not_decline() {
    let Some(root) = bed::root() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let hairpin = Hairpin { program: bed::program().unwrap() };
    let peers: [&dyn Peer; 5] = [&hairpin, &DpdkWire, &OvsDpdk, &LinuxBridge, &Macvtap];
    let there = peers.into_iter().filter(|peer| peer.version().is_ok());
    for (peer, name) in there.flat_map(|peer| [(peer, "v2v"), (peer, "t2t")]) {
        let plain = Setting::plain(Scenario::named(name).unwrap(), 0);
        if peer.refusal(&plain.scenario, 0).is_some() {
            continue;
        }
        let tagged = |tagging| Traffic { tagging, flows: 1000 };
        for setting in [
            Setting { lengths: Lengths::Jumbo, ..plain },
            Setting { traffic: tagged(Tagging::Customer), ..plain },
            Setting { traffic: tagged(Tagging::Service), ..plain },
            Setting { addresses: Addresses::Learned, ..plain },
        ] {
            match peer.declines(&setting) {
                None => carries(root, peer, &setting),
                Some(reason) => eprintln!("{} declines {name}: {reason}", peer.name()),
            }
        }
    }
}
