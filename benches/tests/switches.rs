//! Whole switches under the suite's generator: what it offers comes, and nothing stays behind.

use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::suite::bench::{Bench, Profile};
use hairpin_bench::suite::pace::Pace;
use hairpin_bench::suite::peers::{DpdkWire, Hairpin, LinuxBridge, Macvtap, OvsDpdk, Peer};
use hairpin_bench::suite::scenario::{SCENARIOS, Scenario};
use hairpin_bench::suite::site::Site;
use hairpin_bench::suite::trial::Load;
use hairpin_tests::bed::{self, Root};

/// Frames a second that any switch forwards, on a busy machine too.
const FEW: f64 = 2000.0;

/// Offers a load that is no challenge, stops the switch in between, and does it again.
fn carries(_: Root, peer: &dyn Peer, scenario: &Scenario) {
    let run = RunDirectory::create(peer.pages()).expect("huge pages");
    let mut site = Site::start(peer, scenario, 0, &run).expect("a switch with its ports");
    let what = format!("{} {}", peer.name(), scenario.name);
    let mut bench = Bench::new(Profile { trial_ns: 500_000_000, ..Profile::QUICK });
    for bytes in [64, 1518] {
        let load = Load::Open(Pace { frames_per_second: FEW });
        let outcome = bench.trial(&mut site, bytes, load).expect("a trial");
        assert_eq!(outcome.offered, 1000, "{what} {bytes}");
        // Whoever else uses the machine may take the generator's CPU away from it, for a while.
        assert_eq!(outcome.lost(), outcome.missed + outcome.refused, "{what}: {outcome:?}");
        assert!(outcome.counts.received > 0);
        assert_eq!((outcome.corrupted, outcome.counts.duplicated), (0, 0));
        assert_eq!(outcome.counts.reordered, 0);
        site.pause().expect("a switch");
        site.resume().expect("a switch");
    }
    let rate = bench.forwarding_rate(&mut site, 64).expect("frames");
    assert!(rate > FEW, "{what}: {rate}");
}

#[test]
fn every_switch_that_is_installed_carries_what_is_offered_in_every_scenario_it_has() {
    let Some(root) = bed::root() else { return };
    // One after the other: a process has one run directory.
    let hairpin = Hairpin { program: bed::program().unwrap() };
    let peers: [&dyn Peer; 5] = [&hairpin, &DpdkWire, &OvsDpdk, &LinuxBridge, &Macvtap];
    for peer in peers {
        if let Err(error) = peer.version() {
            eprintln!("skipped {}: {error}", peer.name());
            continue;
        }
        for scenario in SCENARIOS {
            if peer.refusal(&scenario, 0).is_none() {
                carries(root, peer, &scenario);
            }
        }
    }
}
