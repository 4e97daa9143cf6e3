//! The API as a client of another make finds it: Python's grpcio, by reflection.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::path::Path;
use std::process::Command;

use daemon::{Daemon, LOCAL, Place, stderr, stdout};
use means::has_python;

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
