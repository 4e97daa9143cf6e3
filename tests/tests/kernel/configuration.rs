//! Configurations that are refused, with object, field and remedy; the running
//! state stays as it is.

use std::time::Duration;

use hairpin_tests::bed::{Daemon, Family, Flow, assert_reach, eventually, program, root, run};
use serde_json::Value;

use crate::site::{Site, learning_port, local_link, registered_port, station_link};

/// A bad configuration, and words that its refusal must hold: object and field.
struct Bad {
    text: String,
    words: &'static [&'static str],
}

fn channel(name: &str, svid: u16) -> String {
    format!("[[channel]]\nname = \"{name}\"\nlink = \"up0\"\nsvid = {svid}\n")
}

fn bad_configurations() -> Vec<Bad> {
    let port = |number: u8| learning_port(number, "up0", "veb");
    let bad = |parts: &[&str], words| Bad { text: parts.concat(), words };
    let link = local_link();
    let tap_link = station_link();
    vec![
        bad(&[&link, &port(1), "colour = \"red\"\n"], &["colour"]),
        bad(&[&link, &port(1), &port(1)], &["vm1"]),
        bad(&[&link, &channel("vm1", 100), &port(1)], &["vm1"]),
        bad(&[&link, &port(1), "vlan = { access = 0 }\n"], &["vm1", "vlan"]),
        bad(&[&link, &port(1), "vlan = { access = 4095 }\n"], &["vm1", "vlan"]),
        bad(&[&tap_link, &channel("red", 100), &channel("blue", 100)], &["100"]),
        bad(&[&tap_link, &channel("red", 1)], &["red", "svid"]),
        bad(&[&link, &learning_port(1, "blue", "veb")], &["vm1", "blue"]),
        bad(&[&link, &learning_port(1, "up0", "vebb")], &["vebb"]),
        bad(
            &[
                &tap_link,
                &channel("red", 100),
                &learning_port(1, "red", "direct"),
                &learning_port(2, "red", "veb"),
            ],
            &["vm", "direct"],
        ),
        bad(
            &[&link, &registered_port(1, "up0", "veb"), &port(2), "mac = \"52:54:00:00:00:01\"\n"],
            &["vm2", "52:54:00:00:00:01"],
        ),
    ]
}

/// What a refused file must leave as it is: all that the switch says of itself, its
/// revision and what it has learned included, but for what changes by itself.
fn state(daemon: &Daemon) -> Vec<(&'static str, Value)> {
    let asked = ["show", "link list", "channel list", "port list", "bridge list", "fdb"];
    let answer = |words| {
        let mut answer = daemon.hairpin(words).unwrap();
        settle(&mut answer);
        (words, answer)
    };
    asked.map(answer).into()
}

/// What goes on counting while frames flow, and what follows from it.
const COUNTERS: [&str; 11] = [
    "uptime_ms",
    "idle_ms",
    "breaths",
    "sleeps",
    "batches",
    "busy_ns",
    "frames",
    "bytes",
    "frames_per_second",
    "bytes_per_second",
    "load",
];

/// Takes out what goes on counting.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("batches") {
                // A queue's: polled or asleep.
                fields.remove("state");
            }
            fields.retain(|name, _| !COUNTERS.contains(&name.as_str()));
            fields.values_mut().for_each(settle);
        }
        Value::Array(values) => values.iter_mut().for_each(settle),
        _ => {}
    }
}

#[test]
fn a_bad_file_is_refused_and_changes_nothing() {
    let Some(_root) = root() else { return };
    let ports = registered_port(1, "up0", "veb") + &learning_port(2, "up0", "veb");
    let mut site = Site::start(&(local_link() + &ports), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    let flow = Flow::start(one, two, Family::Ipv4, Duration::from_micros(500)).unwrap();
    // The addresses of both are learned or registered by now.
    assert_reach(one, two);
    let before = state(&site.daemon);
    for bad in bad_configurations() {
        site.daemon.rewrite(&bad.text).unwrap();
        let said = site.daemon.log().len();
        site.daemon.reload().unwrap();
        let refused = || {
            let log = site.daemon.log();
            bad.words.iter().all(|word| log[said..].contains(word))
        };
        eventually(&format!("a refusal with {:?} of\n{}", bad.words, bad.text), refused).unwrap();
        assert_eq!(state(&site.daemon), before, "after the refusal of\n{}", bad.text);
    }
    let report = flow.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_reach(one, two);
    assert!(site.daemon.is_running());
}

#[test]
fn check_refuses_what_the_daemon_refuses() {
    let hairpin = program().unwrap();
    let hairpin = hairpin.to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hairpin.toml");
    let check = || run(&[hairpin, "check", file.to_str().unwrap()]);
    std::fs::write(&file, local_link() + &learning_port(1, "up0", "veb")).unwrap();
    check().unwrap();
    for bad in bad_configurations() {
        std::fs::write(&file, &bad.text).unwrap();
        let refusal = check().expect_err(&bad.text).to_string();
        for word in bad.words {
            assert!(
                refusal.contains(word),
                "no {word:?} in the refusal of\n{}: {refusal}",
                bad.text
            );
        }
        assert!(refusal.contains("hairpin.toml:"), "no line: {refusal}");
    }
}
