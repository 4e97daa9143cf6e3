//! The command itself: the daemon and its clients, over a socket of their own.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const HAIRPIN: &str = env!("CARGO_BIN_EXE_hairpin");
/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a configuration and room for a socket.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("hairpin.toml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// Writes a configuration whose socket is here.
    fn write(&self, objects: &str) {
        let socket = self.socket();
        let text =
            format!("[switch]\nname = \"t\"\napi = \"unix:{}\"\n{objects}", socket.display());
        fs::write(self.file(), text).unwrap();
    }

    fn daemon_command(&self) -> Command {
        let mut command = Command::new(HAIRPIN);
        command.args(["run", "--config"]).arg(self.file());
        command
    }

    /// A client command of this place's daemon.
    fn client(&self, words: &str) -> Output {
        let address = format!("unix:{}", self.socket().display());
        let words = words.split_whitespace();
        Command::new(HAIRPIN).env("HAIRPIN_API", address).args(words).output().unwrap()
    }

    fn json(&self, words: &str) -> Value {
        let output = self.client(&format!("{words} --json"));
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon that is ready; killed when dropped.
struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    fn start(mut command: Command) -> Daemon {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                written.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let daemon = Daemon { child, log };
        assert_eq!(line, "ready\n", "{}", daemon.log());
        daemon
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it and says how it ended.
    fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Either it ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether to run a test that needs root; where everything must run, it fails.
fn is_root(test: &str) -> bool {
    let root = geteuid().is_root();
    let all = std::env::var("HAIRPIN_TESTS").is_ok_and(|tests| tests == "all");
    assert!(root || !all, "{test} needs root, and HAIRPIN_TESTS=all forbids to skip it");
    if !root {
        println!("skipped: {test} needs root to make TAPs in a network namespace");
    }
    root
}

const LOCAL: &str = "[[link]]\nname = \"up0\"\nrole = \"station\"\n";

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/two-taps.toml")
}

fn hairpin(words: &[&str]) -> Output {
    Command::new(HAIRPIN).args(words).output().unwrap()
}

#[test]
fn check_accepts_the_example() {
    let output = Command::new(HAIRPIN).arg("check").arg(example()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("valid: 1 links, 1 channels, 0 bridges, 2 ports\n"));
}

#[test]
fn check_names_every_error_with_file_and_line() {
    let place = Place::new();
    place.write("[[link]]\nname = \"up0\"\nrole = \"statoin\"\nmtu = 1\n");
    let file = place.file().display().to_string();
    let output = place.client(&format!("check {file}"));
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
    assert_eq!(
        stderr(&output),
        format!(
            "{file}:6: link up0: role: \"statoin\" is not a role (did you mean station?); write \
             station or bridge\n{file}:7: link up0: mtu: 1 is out of range; write a number from \
             68 to 65521\n"
        )
    );
    let output = place.client(&format!("check {file} --json"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["errors"][1]["line"], 7);
}

#[test]
fn wrong_usage_is_2_and_refusal_is_1() {
    for usage in [&["shwo"][..], &["port", "set", "vm1"], &["port", "set", "vm1", "mdoe=veb"]] {
        let output = hairpin(usage);
        assert_eq!(output.status.code(), Some(2), "{usage:?}");
        assert!(!output.stderr.is_empty());
    }
    let output = hairpin(&["port", "set", "vm1", "mdoe=veb"]);
    assert_eq!(
        stderr(&output),
        "unknown key \"mdoe\" (did you mean mode?); keys are mode, channel, bridge, vlan, admin\n"
    );
    let output = hairpin(&["port", "set", "vm1", "mode=bev"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "port vm1: mode: \"bev\" is not a mode (did you mean veb?); write veb, vepa, private or \
         direct\n"
    );
}

#[test]
fn a_client_says_that_nobody_answers() {
    let place = Place::new();
    let output = place.client("show");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("no switch answers at unix:/"), "{said}");
    assert!(said.contains("hairpin run --config FILE"), "{said}");
}

#[test]
fn drop_reasons_are_listed_without_a_daemon() {
    let json: Value =
        serde_json::from_slice(&hairpin(&["drops", "--list", "--json"]).stdout).unwrap();
    let named = |name: &str| {
        let reasons = json["reasons"].as_array().unwrap();
        let reason = reasons.iter().find(|reason| reason["name"] == name);
        reason.is_some_and(|reason| reason["meaning"] != "" && reason["remedy"] != "")
    };
    for name in ["flood_budget", "own_frame_returned", "source_not_registered", "rx_ring_full"] {
        assert!(named(name), "{name}");
    }
    assert!(stdout(&hairpin(&["drops", "--list"])).contains("learn_limit\n    "));
}

#[test]
fn a_daemon_without_privilege_serves_what_needs_none() {
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let show = place.json("show");
    assert_eq!((&show["name"], &show["links"][0]["state"]), (&"t".into(), &"up".into()));
    assert_eq!(show["workers"][0]["health"], "breathing");
    assert_eq!(place.json("link show up0")["role"], "station");
    assert_eq!(place.json("stats"), serde_json::json!({ "ports": {} }));
    assert_eq!(place.json("fdb")["addresses"], serde_json::json!([]));
    for table in ["show", "link", "channel list", "bridge", "port", "stats", "fdb", "workers"] {
        let output = place.client(table);
        assert!(output.status.success(), "{table}: {}", stderr(&output));
        assert!(stdout(&output).lines().all(|line| line.chars().count() <= 80), "{table}");
    }
    let output = place.client("link show up1");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "there is no link \"up1\" (did you mean up0?)\n");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert!(!place.socket().exists());
}

#[test]
fn a_hangup_applies_the_file_anew_and_a_wrong_one_changes_nothing() {
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let channels = || place.json("channel list")["channels"].as_array().unwrap().len();
    assert_eq!(channels(), 1);
    let blue = "[[channel]]\nname = \"blue\"\nlink = \"up0\"\nsvid = 100\n";
    place.write(&format!("{LOCAL}{blue}"));
    daemon.signal(Signal::HUP);
    eventually("the channel", || channels() == 2);
    let revision = place.json("show")["revision"].clone();
    place.write("[[link]]\nname = \"up0\"\n");
    daemon.signal(Signal::HUP);
    let refused = "hairpin.toml:4: link up0: role: it is missing";
    eventually("the refusal", || daemon.log().contains(refused));
    assert_eq!(place.json("show")["revision"], revision);
    place.write(&format!("{LOCAL}{blue}[[link]]\nname = \"up1\"\nrole = \"bridge\"\n"));
    daemon.signal(Signal::HUP);
    eventually("the second link", || channels() == 3);
    assert_eq!(place.json("show")["revision"].as_u64(), revision.as_u64().map(|r| r + 1));
    assert_eq!(daemon.end(Signal::INT), Some(0));
}

#[test]
fn a_second_daemon_is_refused_and_a_dead_ones_socket_is_replaced() {
    let place = Place::new();
    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let second = place.daemon_command().output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another program answers"), "{}", stderr(&second));
    assert_eq!(daemon.end(Signal::KILL), None);
    assert!(place.socket().exists());
    let daemon = Daemon::start(place.daemon_command());
    assert_eq!(place.json("show")["name"], "t");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let place = Place::new();
    fs::write(place.file(), "[switch]\napi = \"unix:/nonexistent/api.sock\"\n").unwrap();
    let output = place.daemon_command().output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
    let said = stderr(&output);
    assert!(said.contains("\"/nonexistent\" does not exist; create it"), "{said}");
}

/// A daemon with ports `vm1` and `vm2` on TAPs in a network namespace of its own,
/// which goes when it ends.
fn with_taps(place: &Place) -> Daemon {
    let port = |name: &str, tap: &str| {
        format!(
            "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\ndevice = {{ tap = \
             {{ interface = \"{tap}\" }} }}\n"
        )
    };
    place.write(&format!("{LOCAL}{}{}", port("vm1", "tap1"), port("vm2", "tap2")));
    let mut command = Command::new("unshare");
    command.args(["--net", HAIRPIN, "run", "--config"]).arg(place.file());
    Daemon::start(command)
}

/// Runs `ip` in the daemon's network namespace.
fn ip(daemon: &Daemon, words: &str) -> Output {
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--net", "ip"]).args(words.split_whitespace());
    command.output().unwrap()
}

#[test]
fn ports_on_taps_are_shown_and_set() {
    if !is_root("ports_on_taps_are_shown_and_set") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let port = place.json("port show vm1");
    assert_eq!(port["device"]["tap"]["interface"], "tap1");
    let shown = [&port["name"], &port["mode"], &port["channel"], &port["state"]];
    assert_eq!(shown, ["vm1", "veb", "up0", "up"]);
    let set = place.json("port set vm1 mode=vepa vlan=trunk:10,20-22,native:10 admin=down");
    assert_eq!((&set["mode"], &set["state"]), (&"vepa".into(), &"down".into()));
    assert_eq!(set["vlan"]["trunk"], serde_json::json!([10, 20, 21, 22]));
    assert_eq!(place.json("port show vm2")["state"], "up");
    assert!(place.json("stats")["ports"]["vm2"]["rx_frames"].is_u64());
    let output = place.client("port show vm7");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "there is no port \"vm7\" (did you mean vm1?)\n");
    let output = place.client("port set vm1 mode=direct");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("only port of its channel"), "{}", stderr(&output));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn a_deleted_tap_is_made_again() {
    if !is_root("a_deleted_tap_is_made_again") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let deleted = ip(&daemon, "link del tap1");
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    eventually("the second opening", || place.json("port show vm1")["reopened"] == 1);
    let port = place.json("port show vm1");
    assert_eq!(port["state"], "up", "{port}");
    assert!(ip(&daemon, "link show dev tap1").status.success());
    assert_eq!(place.json("port show vm2")["reopened"], 0);
}

#[test]
fn others_may_read_but_not_write() {
    if !is_root("others_may_read_but_not_write") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let client = place.directory.path().join("client");
    fs::copy(HAIRPIN, &client).unwrap();
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&client);
        command.arg("--api").arg(format!("unix:{}", place.socket().display()));
        command.args(words).output().unwrap()
    };
    assert!(nobody(&["show"]).status.success());
    let output = nobody(&["port", "set", "vm1", "mode=vepa"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("user 65534 may read but not change"), "{}", stderr(&output));
    assert_eq!(place.json("port show vm1")["mode"], "veb");
    drop(daemon);
}
