//! Every frame is accounted for, and what was lost meanwhile is said by name.

use std::collections::BTreeMap;

use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_tests::bed::{Daemon, eventually};
use serde_json::Value;

/// Waits until both ledgers of every port and link hold: frames on their way at this moment
/// are in neither.
#[track_caller]
pub fn assert_ledgers_hold(daemon: &Daemon) {
    let mut broken = Vec::new();
    let held = eventually("both ledgers of every port", || {
        let stats = daemon.hairpin("stats").unwrap();
        let ports = stats["ports"].as_object().unwrap();
        let broken_one = |(name, counters): (&String, &Value)| {
            let count = |key: &str| counters[key].as_u64().unwrap();
            let lost = |side| -> u64 {
                let drops = drops(counters).into_iter();
                drops.filter(|(reason, _)| reason.side() == side).map(|(_, count)| count).sum()
            };
            let holds = count("rx_frames") == count("decided") + lost(Side::Ingress)
                && count("offered") == count("tx_frames") + lost(Side::Egress);
            (!holds).then(|| format!("{name}: {counters}"))
        };
        broken = ports.iter().filter_map(broken_one).collect();
        broken.is_empty()
    });
    assert!(held.is_ok(), "{broken:#?}");
}

/// What every port and link has lost so far, by name and reason, what devices lost included.
pub fn losses(daemon: &Daemon) -> BTreeMap<(String, String), u64> {
    let stats = daemon.hairpin("stats").unwrap();
    let mut losses = BTreeMap::new();
    for (name, counters) in stats["ports"].as_object().unwrap() {
        for (reason, count) in drops(counters) {
            losses.insert((name.clone(), reason.name().to_owned()), count);
        }
        let by_device = counters["device_drops"].as_u64().unwrap();
        losses.insert((name.clone(), "device_drops".to_owned()), by_device);
    }
    losses
}

fn drops(counters: &Value) -> Vec<(DropReason, u64)> {
    let drops = counters["drops"].as_object().unwrap();
    let reason = |name: &String| DropReason::from_name(name).unwrap();
    drops.iter().map(|(name, count)| (reason(name), count.as_u64().unwrap())).collect()
}
