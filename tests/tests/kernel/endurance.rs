//! TCP through the hairpin for as long as `HAIRPIN_SECONDS` says; without it, for two.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use hairpin_tests::bed::{
    Daemon, Family, Flooding, Host, KernelBridge, Reflection, Workers, assert_reach, await_state,
    root, transfer_for,
};

use crate::ledgers::{assert_ledgers_hold, losses};
use crate::netdev::{Kind, lay};
use crate::site::registered_port;

/// Seconds without `HAIRPIN_SECONDS`.
const SECONDS: u64 = 2;
/// As long as the receiver may look in vain. A segment that is lost is sent again after
/// 200 ms, twice that if it is lost once more.
const STALL_MAX: Duration = Duration::from_secs(1);
/// What sending as fast as it goes brings about, and what reflection does: the sender's own
/// group frames come back.
const EXPECTED_LOSSES: [&str; 3] = ["rx_ring_full", "device_drops", "own_frame_returned"];

fn seconds() -> u64 {
    std::env::var("HAIRPIN_SECONDS")
        .map_or(SECONDS, |seconds| seconds.parse().expect("HAIRPIN_SECONDS is a number"))
}

#[test]
fn tcp_flows_through_the_hairpin_of_a_kernel_bridge_without_a_stall() {
    let Some(_root) = root() else { return };
    let ports: String = [1, 2].map(|number| registered_port(number, "up0", "vepa")).concat();
    let configuration = Kind::Xdp.link("station", 0) + &ports;
    let daemon = Daemon::start(Workers::One, &configuration).unwrap();
    lay(daemon.namespace(), 0).unwrap();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(daemon.namespace(), "far0").unwrap();
    bridge.reflect("far0", Reflection::On).unwrap();
    await_state(&daemon, "link up0", "up");
    let [one, two] = [1, 2]
        .map(|number| Host::plug(daemon.namespace(), &format!("tap{number}"), number).unwrap());
    assert_reach(&one, &two);

    let before = losses(&daemon);
    let sent = transfer_for(&one, &two, Family::Ipv4, Duration::from_secs(seconds())).unwrap();
    assert_ledgers_hold(&daemon);
    let mut lost = losses(&daemon);
    for (key, count) in &mut lost {
        *count -= before.get(key).unwrap_or(&0);
    }
    lost.retain(|_, count| *count > 0);
    say(&lost, sent.bytes, sent.longest_silence);
    assert!(sent.longest_silence < STALL_MAX, "{sent:?}");
    let is_expected = |reason: &str| EXPECTED_LOSSES.contains(&reason);
    assert!(lost.keys().all(|(_, reason)| is_expected(reason)), "{lost:?}");
    // All of it went out and came back.
    assert!(daemon.count("up0", "/tx_bytes").unwrap() > sent.bytes);
    assert!(daemon.count("up0", "/rx_bytes").unwrap() > sent.bytes);
    daemon.stop().unwrap();
}

/// Not by a macro of the print family, whose output the harness keeps to itself.
fn say(lost: &BTreeMap<(String, String), u64>, bytes: u64, longest_silence: Duration) {
    let lost: Vec<_> =
        lost.iter().map(|((port, reason), count)| format!("{port} {reason} {count}")).collect();
    let _ = writeln!(
        std::io::stderr(),
        "through the hairpin: {} MB in {} s, longest silence {longest_silence:?}, lost: [{}]",
        bytes / 1_000_000,
        seconds(),
        lost.join(", "),
    );
}
