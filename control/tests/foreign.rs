//! The API as a client of another make finds it: Python's grpcio, by reflection.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::path::Path;
use std::process::{Command, Stdio};

use daemon::{Daemon, LOCAL, Place, stderr, stdout};
use means::{has_means, has_python};

#[test]
fn a_client_that_knows_nothing_reads_changes_and_watches() {
    let Some(python) = has_python("a_client_that_knows_nothing_reads_changes_and_watches") else {
        return;
    };
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/client.py");
    let output = Command::new(python).arg(script).arg(place.socket()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let services = said.lines().next().unwrap();
    for service in ["grpc.health.v1.Health", "hairpin.v1.Switch"] {
        assert!(services.contains(service), "{services}");
    }
    let rest: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(
        rest,
        [
            "serving True",
            "links up0",
            "revision 2 blue",
            "late ABORTED",
            "wrong INVALID_ARGUMENT",
            "fields link_up0:_mtu",
            "event 1 switch",
        ]
    );
    drop(daemon);
}

#[test]
fn who_may_only_read_has_a_share_of_the_answers_and_others_change_things_meanwhile() {
    let test = "who_may_only_read_has_a_share_of_the_answers_and_others_change_things_meanwhile";
    if !has_means(test) {
        return;
    }
    let Some(python) = has_python(test) else { return };
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/flood.py");
    let mut flood = Command::new(python);
    flood.arg(script).arg(place.socket()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let flood = std::thread::spawn(move || flood.output().unwrap());
    let mut changes = 0;
    while !flood.is_finished() {
        for change in ["channel add c link=up0 svid=2", "channel del c"] {
            let changed = place.client(change);
            assert!(changed.status.success(), "{change}: {}", stderr(&changed));
            changes += 1;
        }
    }
    let output = flood.join().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let mut lines = said.lines();
    let answered = lines.next().and_then(|line| line.strip_prefix("answered ")).unwrap();
    // 200 a second, and what one may save up; twice that on a machine that stands still at times.
    let answered: u32 = answered.parse().unwrap();
    assert!((1..=2 * (3 * 200 + 250)).contains(&answered), "{answered}");
    assert!(
        ["refused", "refused RESOURCE_EXHAUSTED"].contains(&lines.next().unwrap().trim()),
        "{said}"
    );
    assert!(changes >= 10, "{changes} changes");
    drop(daemon);
}
