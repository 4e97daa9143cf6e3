//! A daemon, its clients and what tests of both need.

// Each program that includes this uses its part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const HAIRPIN: &str = env!("CARGO_BIN_EXE_hairpin");
/// Far longer than anything here takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a configuration and room for a socket.
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Place {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place { directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("hairpin.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Writes a configuration whose socket is here, and whose applied states.
    pub fn write(&self, objects: &str) {
        let text = format!(
            "[switch]\nname = \"t\"\napi = \"unix:{}\"\nstate-dir = {:?}\n{objects}",
            self.socket().display(),
            self.state()
        );
        fs::write(self.file(), text).unwrap();
    }

    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(HAIRPIN);
        command.args(["run", "--config"]).arg(self.file());
        command
    }

    /// A client command of this place's daemon.
    pub fn client(&self, words: &str) -> Output {
        let address = format!("unix:{}", self.socket().display());
        let words = words.split_whitespace();
        Command::new(HAIRPIN).env("HAIRPIN_API", address).args(words).output().unwrap()
    }

    pub fn json(&self, words: &str) -> Value {
        let output = self.client(&format!("{words} --json"));
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon that is ready; killed when dropped.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    pub fn start(mut command: Command) -> Daemon {
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

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end; the number of the signal that ended it, if one did.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }

    /// Ends it and says how it ended.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
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

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A host-local link.
pub const LOCAL: &str = "[[link]]\nname = \"up0\"\nrole = \"station\"\n";

/// A port on a TAP.
pub fn port(name: &str, tap: &str) -> String {
    format!(
        "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\ndevice = {{ tap = {{ \
         interface = \"{tap}\" }} }}\n"
    )
}

/// The daemon in a network namespace of its own, started by way of these words.
pub fn in_own_network(place: &Place, way: &[&str]) -> Daemon {
    let mut command = Command::new("unshare");
    command.arg("--net").args(way).args([HAIRPIN, "run", "--config"]).arg(place.file());
    Daemon::start(command)
}

/// Runs `ip` in the daemon's network namespace.
pub fn ip(daemon: &Daemon, words: &str) -> Output {
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--net", "ip"]).args(words.split_whitespace());
    command.output().unwrap()
}

/// Lets the guest at a TAP send frames until these ports have received one and
/// been sent one.
pub fn assert_frames_pass(place: &Place, daemon: &Daemon, tap: &str, from: &str, to: &str) {
    let frames = || {
        let stats = place.json("stats");
        let count = |port: &str, counter: &str| stats["ports"][port][counter].as_u64().unwrap();
        (count(from, "rx_frames"), count(to, "tx_frames"))
    };
    let before = frames();
    // Somebody who is not there is asked for: a broadcast.
    ip(daemon, &format!("addr replace 10.0.0.1/24 dev {tap}"));
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let mut ping = Command::new("nsenter");
    ping.args(["--target", &pid, "--net", "ping", "-i", "0.2", "-I", tap, "10.0.0.77"]);
    let mut ping = ping.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(&format!("a frame from {from} to {to}"), || {
        let now = frames();
        now.0 > before.0 && now.1 > before.1
    });
    ping.kill().unwrap();
    ping.wait().unwrap();
    ip(daemon, &format!("addr flush dev {tap}"));
}

impl Daemon {
    /// Has the file applied; says what was logged of it.
    pub fn reload(&self) -> String {
        let before = self.log().len();
        self.signal(Signal::HUP);
        let said = || self.log()[before..].to_owned();
        eventually("an answer to the signal", || said().contains("the configuration was"));
        said()
    }
}
