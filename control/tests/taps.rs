//! TAPs that somebody made before the daemon came.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use daemon::{LOCAL, Place, assert_frames_pass, in_own_network, port};
use means::has_means;
use rustix::process::Signal;

#[test]
fn taps_made_before_serve_one_and_two_workers() {
    if !has_means("taps_made_before_serve_one_and_two_workers") {
        return;
    }
    // One queue, as `ip tuntap add` has it unless asked for more; several; not there.
    let made = "ip tuntap add dev tap1 mode tap && ip tuntap add dev tap2 mode tap multi_queue \
                && ip link set tap1 up && ip link set tap2 up && exec \"$@\"";
    for (workers, queues) in [("", [1, 1, 1]), ("workers = [0, 1]\n", [1, 2, 2])] {
        let place = Place::new();
        let taps = [("vm1", "tap1"), ("vm2", "tap2"), ("vm3", "tap3")];
        let ports = taps.map(|(name, tap)| port(name, tap)).concat();
        place.write(&format!("{workers}{LOCAL}{ports}"));
        let daemon = in_own_network(&place, &["sh", "-c", made, "sh"]);
        let served = taps.map(|(name, _)| {
            let port = place.json(&format!("port show {name}"));
            port["workers"].as_array().unwrap().len()
        });
        assert_eq!(served, queues, "queues by port: {}", daemon.log());
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
            assert_frames_pass(&place, &daemon, taps[from].1, taps[from].0, taps[to].0);
        }
        assert_eq!(daemon.end(Signal::TERM), Some(0));
    }
}
