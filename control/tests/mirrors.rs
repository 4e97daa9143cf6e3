//! Mirrors of real daemons: what a probe sees, what it costs others, and how people make one.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::process::Command;

use daemon::{LOCAL, Place, assert_frames_pass, eventually, in_own_network, port, stderr, stdout};
use hairpin::config::{
    Config, Desired, DeviceConfig, LinkConfig, LinkRole, MirrorConfig, PortConfig,
};
use hairpin::switch::Switch;
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use means::has_means;
use rustix::process::Signal;
use serde_json::json;

fn count(place: &Place, port: &str, counter: &str) -> u64 {
    place.json("stats")["ports"][port][counter].as_u64().unwrap()
}

fn obeyed(place: &Place, words: &str) -> String {
    let output = place.client(words);
    assert!(output.status.success(), "{words}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_probe_on_a_tap_sees_what_guests_exchange() {
    if !has_means("a_probe_on_a_tap_sees_what_guests_exchange") {
        return;
    }
    let place = Place::new();
    place.write(&format!("{LOCAL}{}{}", port("vm1", "tap1"), port("vm2", "tap2")));
    let daemon = in_own_network(&place, &[]);
    obeyed(&place, "mirror add ids from=vm1,up* frames=received");
    obeyed(&place, "port add probe mirror=ids device=tap:probe0");
    assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm2");
    // What the kernel has from the probe's TAP is what came from vm1, and only that.
    let mirrored = count(&place, "probe", "tx_frames");
    assert!(mirrored > 0 && mirrored <= count(&place, "vm1", "rx_frames"));
    let statistics = stdout(&daemon::ip(&daemon, "-s -j link show dev probe0"));
    let statistics: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    assert!(statistics[0]["stats64"]["rx"]["packets"].as_u64() >= Some(mirrored), "{statistics}");

    let shown = place.json("mirror show ids");
    let expected = json!({
        "name": "ids", "from": ["vm1", "up*"], "frames": "received", "ports": ["probe"],
    });
    assert_eq!(shown, expected);
    let probe = place.json("port show probe");
    assert_eq!((&probe["mirror"], &probe["channel"]), (&json!("ids"), &json!(null)));
    let why = place.json("why --in vm1 --arp");
    let expected = json!([{ "port": "probe", "of": "vm1", "frames": "received" }]);
    assert_eq!(why["mirrored"], expected);
    assert!(obeyed(&place, "why --in vm1 --arp").contains("copied to probe, as it comes from vm1"));

    // What looks on sends nothing: the host's own words at its TAP go nowhere.
    daemon::ip(&daemon, "addr replace 10.0.1.1/24 dev probe0");
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut ping = Command::new("nsenter");
    ping.args(["--target", &pid, "--net", "ping", "-c", "2", "-W", "1", "-I", "probe0"]);
    assert!(!ping.arg("10.0.1.77").output().unwrap().status.success(), "nobody is there");
    eventually("all that the probe sent to be dropped", || {
        let stats = place.json("stats");
        let probe = &stats["ports"]["probe"];
        let dropped = probe["drops"][DropReason::FromMonitor.name()].as_u64();
        dropped > Some(0) && dropped == probe["rx_frames"].as_u64()
    });
    let why = place.json("why --in probe --arp");
    assert_eq!(why["drop"]["reason"], "from_monitor");

    // What is mirrored has to be there, and the mirror while a port is on it.
    let refused = place.client("mirror set ids from=vm9");
    assert!(stderr(&refused).contains("there is no port or link \"vm9\""), "{}", stderr(&refused));
    let refused = place.client("mirror set ids from=probe");
    assert!(stderr(&refused).contains("is on a mirror itself"), "{}", stderr(&refused));
    assert_eq!(place.client("mirror del ids").status.code(), Some(1));
    obeyed(&place, "port del probe");
    obeyed(&place, "mirror del ids");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

/// Rings that are soon full.
const SLOTS: usize = 64;

fn device() -> DeviceConfig {
    DeviceConfig::Memory(memory::Config { slots: SLOTS, ..memory::Config::default() })
}

/// Two ports, and a probe of the first if there is to be one.
fn desired(mirrors: &[MirrorConfig]) -> Desired {
    let vm = |number: u8| {
        let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, device());
        port.macs.push(mac(number).into());
        port
    };
    let mut config = Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: vec![vm(1), vm(2)],
        mirrors: mirrors.to_vec(),
        ..Config::default()
    };
    let probes = mirrors.iter().map(|mirror| &mirror.name.value);
    config.ports.extend(probes.map(|it| PortConfig::on_mirror(&format!("at-{it}"), it, device())));
    Desired::try_from(config).unwrap()
}

/// Sends a numbered frame and waits for it.
fn cross(from: &mut Endpoint, to: &mut Endpoint, number: u32) -> Vec<u8> {
    let mut frame = [mac(2).octets(), mac(1).octets()].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    from.send(&frame, Offload::default()).unwrap();
    let mut received = Vec::new();
    eventually(&format!("frame {number}"), || to.receive(&mut received).is_some());
    assert_eq!(received, frame);
    frame
}

#[test]
fn a_mirror_that_comes_and_goes_costs_nobody_a_frame_and_a_full_probe_only_itself() {
    let switch = Switch::start(desired(&[])).unwrap();
    let [mut one, mut two] = ["vm1", "vm2"].map(|name| switch.take_endpoint(name).unwrap());
    let (mut number, mut received) = (0, Vec::new());
    let mut next = |one: &mut Endpoint, two: &mut Endpoint| {
        number += 1;
        cross(one, two, number)
    };
    for round in 0..50 {
        switch.apply(desired(&[MirrorConfig::new("ids", &["vm*"])])).unwrap();
        let mut probe = switch.take_endpoint("at-ids").unwrap();
        // Each frame is there twice, as it came from vm1 and as it went to vm2: the second time
        // perhaps only after vm2 has it.
        for _ in 0..2 {
            let sent = next(&mut one, &mut two);
            for _ in 0..2 {
                eventually("a copy", || probe.receive(&mut received).is_some());
                assert_eq!(received, sent, "in round {round}");
            }
        }
        switch.apply(desired(&[])).unwrap();
        next(&mut one, &mut two);
    }
    switch.apply(desired(&[MirrorConfig::new("ids", &["vm1"])])).unwrap();
    for _ in 0..2 * SLOTS {
        next(&mut one, &mut two);
    }
    let totals = switch.totals();
    assert!(totals["at-ids"].dropped(DropReason::RxRingFull) > 0);
    assert_eq!(totals["vm2"].dropped(DropReason::RxRingFull), 0);
    let sum = |of: fn(&hairpin_dataplane::ledger::Totals) -> u64| -> u64 {
        totals.values().map(of).sum()
    };
    assert!(totals.values().all(hairpin_dataplane::ledger::Totals::is_balanced), "{totals:?}");
    // The probes of earlier rounds are gone with their counts, but for the last's.
    assert!(sum(|totals| totals.fan_out) >= sum(|totals| totals.offered));
}

#[test]
fn what_a_mirror_may_say_is_held() {
    let refused = |text: &str| hairpin::config::parse(text).unwrap_err().to_string();
    let vm1 = port("vm1", "tap1");
    let probe = |more: &str| {
        format!(
            "[[port]]\nname = \"probe\"\nmirror = \"ids\"\ndevice = {{ tap = {{ interface = \
             \"p\" }} }}\n{more}"
        )
    };
    let mirror = |from: &str| format!("[[mirror]]\nname = \"ids\"\nfrom = {from}\n");
    for (text, said) in [
        (format!("{LOCAL}{vm1}{}", probe("")), "port probe: mirror: there is no mirror \"ids\""),
        (format!("{LOCAL}{vm1}{}", mirror("[]")), "mirror ids: from: it has 0 names"),
        (format!("{LOCAL}{vm1}{}", mirror("[\"vm2\"]")), "there is no port or link \"vm2\" (did"),
        (format!("{LOCAL}{vm1}{}", mirror("[\"vm 1\"]")), "is neither a name nor a pattern"),
        (format!("{LOCAL}{vm1}{}", mirror("\"vm1\"")), "mirror ids: from: it is not a list"),
        (
            format!("{LOCAL}{vm1}{}{}", mirror("[\"vm1\"]"), probe("mode = \"veb\"\n")),
            "port probe: mode: a port on a mirror has no mode",
        ),
        (
            format!("{LOCAL}{vm1}{}{}", mirror("[\"vm1\"]"), probe("vlan = { access = 1 }\n")),
            "port probe: vlan: a port on a mirror is in no VLAN",
        ),
        (
            format!("{LOCAL}{vm1}{}{}", mirror("[\"vm1\"]"), probe("channel = \"up0\"\n")),
            "port probe: mirror: a port on a mirror is on no channel and no bridge",
        ),
    ] {
        let errors = refused(&text);
        assert!(errors.contains(said), "{errors}\n{said}");
    }
    let right = format!("{LOCAL}{vm1}{}{}", mirror("[\"vm1\", \"vif*\"]"), probe(""));
    hairpin::config::parse(&right).unwrap();
}
