//! Whole switches under the suite's generator: what it offers comes, and nothing stays behind.

use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::suite::bench::{Bench, Profile};
use hairpin_bench::suite::pace::Pace;
use hairpin_bench::suite::peers::{Attached, DpdkWire, Hairpin, OvsDpdk, Peer};
use hairpin_bench::suite::trial::Load;
use hairpin_tests::bed::{self, Root};

/// Frames a second that any switch forwards, on a busy machine too.
const FEW: f64 = 2000.0;

/// Offers a load that is no challenge, stops the switch in between, and does it again.
fn carries(_: Root, peer: &dyn Peer) {
    let run = RunDirectory::create(peer.pages()).expect("huge pages");
    let mut attached = Attached::start(peer, &run).expect("a switch with two VMs");
    let mut bench = Bench::new(Profile { trial_ns: 500_000_000, ..Profile::QUICK });
    for bytes in [64, 1518] {
        let load = Load::Open(Pace { frames_per_second: FEW });
        let outcome = bench.trial(&mut attached.ports, bytes, load).expect("a trial");
        assert_eq!(outcome.offered, 1000, "{} {bytes}", peer.name());
        // Whoever else uses the machine may take the generator's CPU away from it, for a while.
        assert_eq!(outcome.lost(), outcome.missed + outcome.refused, "{outcome:?}");
        assert!(outcome.counts.received > 0);
        assert_eq!((outcome.corrupted, outcome.counts.duplicated), (0, 0));
        assert_eq!(outcome.counts.reordered, 0);
        attached.pause().expect("a switch");
        attached.resume().expect("a switch");
    }
    let rate = bench.forwarding_rate(&mut attached.ports, 64).expect("frames");
    assert!(rate > FEW, "{rate}");
}

#[test]
fn hairpin_and_the_others_that_are_installed_carry_what_is_offered() {
    let Some(root) = bed::root() else { return };
    // One after the other: a process has one run directory.
    carries(root, &Hairpin { program: bed::program().unwrap() });
    let peers: [&dyn Peer; 2] = [&DpdkWire, &OvsDpdk];
    for peer in peers {
        match peer.version() {
            Ok(_) => carries(root, peer),
            Err(error) => eprintln!("skipped {}: {error}", peer.name()),
        }
    }
}
