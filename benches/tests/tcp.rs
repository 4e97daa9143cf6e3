//! The suite's TCP between hosts, once, on every switch that is there and has hosts.

use std::collections::BTreeMap;

use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::suite::bench::{Bench, Profile};
use hairpin_bench::suite::methods::{METHODS, Method};
use hairpin_bench::suite::peers::{DpdkWire, Hairpin, LinuxBridge, Macvtap, OvsDpdk, Peer};
use hairpin_bench::suite::scenario::Scenario;
use hairpin_bench::suite::setting::Setting;
use hairpin_bench::suite::site::Site;
use hairpin_tests::bed::{self, Root};

/// What a connection carries on a busy machine too, in Gbit/s.
const LITTLE: f64 = 0.01;
const SETTINGS: [&str; 3] = ["offloads on", "offloads off", "mixed"];

fn method() -> Method {
    METHODS.into_iter().find(|method| method.name == "tcp").expect("a test of that name")
}

/// Stops the switch in between, as a run does.
fn carries(_: Root, peer: &dyn Peer, scenario: &Scenario) {
    let run = RunDirectory::create(peer.pages()).expect("huge pages");
    let mut site =
        Site::start(peer, &Setting::plain(*scenario, 0), &run).expect("a switch with its hosts");
    let mut bench = Bench::new(Profile { trial_ns: 200_000_000, ..Profile::QUICK });
    for _ in 0..2 {
        site.pause().expect("a switch");
        site.resume().expect("a switch");
        let taken = (method().take)(&mut bench, &mut site, 1518).expect("connections");
        let figures = taken.figures.iter().map(|figure| (figure.metric.as_str(), figure.value));
        let figures: BTreeMap<&str, f64> = figures.collect();
        eprintln!("{}: {figures:?}", peer.name());
        let owned = site.switch().process().is_some();
        let columns = if owned { 3 } else { 2 };
        assert!(figures.len() > 2 * columns, "{}", peer.name());
        for setting in SETTINGS {
            assert!(figures[&*format!("payload, {setting}")] > LITTLE, "{}", peer.name());
        }
    }
}

#[test]
fn every_switch_that_has_hosts_carries_tcp_with_offloads_without_and_mixed() {
    let Some(root) = bed::root() else { return };
    let scenario = Scenario::named("h2h").unwrap();
    let hairpin = Hairpin { program: bed::program().unwrap() };
    let peers: [&dyn Peer; 5] = [&hairpin, &DpdkWire, &OvsDpdk, &LinuxBridge, &Macvtap];
    let mut carried = 0;
    for peer in peers {
        let reason = peer.version().err().map(|error| error.to_string());
        match reason.or_else(|| peer.refusal(&scenario, 0)) {
            Some(reason) => eprintln!("skipped {}: {reason}", peer.name()),
            None => {
                carries(root, peer, &scenario);
                carried += 1;
            }
        }
    }
    assert!(carried >= 1, "not even Hairpin has hosts");
}
