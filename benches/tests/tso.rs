//! The suite's pieces of 64 KiB between VMs, once, on every switch that takes them.

use hairpin_bench::hugepages::RunDirectory;
use hairpin_bench::suite::bench::{Bench, Profile};
use hairpin_bench::suite::methods::METHODS;
use hairpin_bench::suite::peers::{DpdkWire, Hairpin, OvsDpdk, Peer};
use hairpin_bench::suite::scenario::Scenario;
use hairpin_bench::suite::setting::{Lengths, Setting};
use hairpin_bench::suite::site::Site;
use hairpin_tests::bed::{self, Root};

/// What is carried on a busy machine too, in Gbit/s.
const LITTLE: f64 = 0.1;

fn carries(_: Root, peer: &dyn Peer, setting: &Setting) {
    let run = RunDirectory::create(peer.pages() + setting.pages()).expect("huge pages");
    let mut site = Site::start(peer, setting, &run).expect("a switch with its VMs");
    let mut bench = Bench::new(Profile { trial_ns: 200_000_000, ..Profile::QUICK });
    let method = METHODS.into_iter().find(|method| method.name == "tso").expect("a test");
    let [bytes] = method.needs.sizes.of(&[64, 1518], setting.lengths)[..] else {
        panic!("one length")
    };
    let taken = (method.take)(&mut bench, &mut site, bytes).expect("whole pieces");
    let value = taken.figures[0].value;
    eprintln!("{}: {value} Gbit/s", peer.name());
    assert!(value > LITTLE, "{}: {value}", peer.name());
}

#[test]
fn hairpin_and_open_v_switch_pass_pieces_of_64_kib_on_whole() {
    let Some(root) = bed::root() else { return };
    let plain = Setting::plain(Scenario::named("v2v").unwrap(), 2);
    let setting = Setting { lengths: Lengths::Segments, ..plain };
    let hairpin = Hairpin { program: bed::program().unwrap() };
    carries(root, &hairpin, &setting);
    assert!(DpdkWire.declines(&setting).is_some());
    match OvsDpdk.version() {
        Ok(_) => carries(root, &OvsDpdk, &setting),
        Err(error) => eprintln!("skipped ovs-dpdk: {error}"),
    }
}
