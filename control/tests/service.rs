//! The daemon as a service: what a manager hears of it, and what its unit allows.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;

use daemon::{Daemon, HAIRPIN, LOCAL, PATIENCE, Place, eventually, ip, port, stderr, stdout};
use means::{has_means, has_program};
use rustix::process::Signal;

/// The user of nobody, as which the unit's capabilities are tried.
const NOBODY: u32 = 65534;

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(file)
}

fn unit() -> String {
    fs::read_to_string(dist("hairpin.service")).unwrap()
}

/// What a manager hears.
struct Ear(UnixDatagram);

impl Ear {
    fn at(path: &Path) -> Ear {
        Ear::on(UnixDatagram::bind(path).unwrap())
    }

    fn on(socket: UnixDatagram) -> Ear {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Ear(socket)
    }

    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// What is said next that is no sign of life.
    fn news(&self) -> String {
        loop {
            let message = self.hear();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }
}

#[test]
fn a_manager_hears_of_the_start_of_life_of_changes_and_of_the_end() {
    let place = Place::new();
    place.write(LOCAL);
    let socket = place.socket().with_file_name("notify.sock");
    let ear = Ear::at(&socket);
    let mut command = place.daemon_command();
    let daemon = Daemon::start({
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
        command
    });
    assert_eq!(ear.hear(), "READY=1\nSTATUS=0 ports, 1 links");
    for _ in 0..5 {
        assert_eq!(ear.hear(), "WATCHDOG=1");
    }
    for _ in 0..2 {
        daemon.signal(Signal::HUP);
        let reloading = ear.news();
        let (_, at) = reloading.split_once("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let at = at.parse::<f64>().unwrap() / 1e6;
        // The clock of /proc/uptime runs while the machine is suspended, too.
        assert!(at > 0.0 && at <= uptime + 1.0, "{at} at {uptime}");
        assert_eq!(ear.news(), "READY=1\nSTATUS=0 ports, 1 links");
    }
    daemon.signal(Signal::STOP);
    // What was said before it was stopped is heard yet.
    ear.0.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    while ear.0.recv(&mut [0; 64]).is_ok() {}
    daemon.signal(Signal::CONT);
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ear.hear(), "WATCHDOG=1");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert_eq!(ear.news(), "STOPPING=1");
}

#[test]
fn a_manager_is_found_by_name_and_only_who_is_watched_gives_signs_of_life() {
    let place = Place::new();
    place.write(LOCAL);
    let name = format!("hairpin-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let ear = Ear::on(UnixDatagram::bind_addr(&address).unwrap());
    let mut command = place.daemon_command();
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    // Another process than this is watched.
    command.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let daemon = Daemon::start(command);
    assert!(ear.hear().starts_with("READY=1\n"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert_eq!(ear.hear(), "STOPPING=1");
}

#[test]
fn a_start_that_fails_is_not_said_to_be_ready_and_nobody_who_listens_is_no_error() {
    let place = Place::new();
    place.write("[[link]]\n");
    let socket = place.socket().with_file_name("notify.sock");
    let ear = Ear::at(&socket);
    let output = place.daemon_command().env("NOTIFY_SOCKET", &socket).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    ear.0.set_nonblocking(true).unwrap();
    assert!(ear.0.recv(&mut [0; 64]).is_err());

    place.write(LOCAL);
    for nobody in ["/nonexistent/notify.sock", "nonsense"] {
        let mut command = place.daemon_command();
        command.env("NOTIFY_SOCKET", nobody).env("WATCHDOG_USEC", "100000");
        let daemon = Daemon::start(command);
        assert_eq!(place.json("show")["name"], "t");
        assert_eq!(daemon.end(Signal::TERM), Some(0));
    }
}

/// What a key of the unit is set to, word by word.
fn setting(key: &str) -> Vec<String> {
    let unit = unit();
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_unit_s_capabilities_suffice_for_every_kind_of_device() {
    if !has_means("the_unit_s_capabilities_suffice_for_every_kind_of_device") {
        return;
    }
    let capabilities = setting("AmbientCapabilities");
    assert_eq!(capabilities, setting("CapabilityBoundingSet"));
    let names = capabilities.iter().map(|it| it.to_lowercase().replace("cap_", ",+"));
    // What the unit does by LimitMEMLOCK=. Root of a container may not, and gives what stands
    // for it.
    let raise = ["prlimit", "--memlock=unlimited"];
    let raised = Command::new(raise[0]).args([raise[1], "true"]).output().unwrap();
    let (raise, lock) = match raised.status.success() {
        true => (&raise[..], ""),
        false => (&[][..], ",+ipc_lock"),
    };
    let set = format!("-all{}{lock}", names.collect::<String>());
    let place = Place::new();
    let at = |name: &str| place.socket().with_file_name(name).display().to_string();
    let device = |name: &str, device: &str| {
        format!(
            "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\ndevice = {{ {device} }}\n"
        )
    };
    let vm = format!(
        "vhost-user = {{ socket = \"{}\", role = \"server\", owner = 0, group = 0 }}",
        at("vm.sock")
    );
    place.write(&format!(
        "{LOCAL}{}{}{}{}",
        port("tap", "tap1"),
        device("packet", "packet = { interface = \"ve0\" }"),
        device("xdp", "xdp = { interface = \"vf0\" }"),
        device("vm", &vm),
    ));
    chown(place.socket().parent().unwrap(), Some(NOBODY), Some(NOBODY)).unwrap();
    // Who may not reach the program where it was built reaches a copy.
    let program = place.socket().with_file_name("hairpin");
    fs::copy(HAIRPIN, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net").args(raise).arg("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.args(["--inh-caps", &set, "--ambient-caps", &set, "--bounding-set", &set]);
    command.arg(&program).args(["run", "--config"]).arg(place.file());
    let daemon = Daemon::start(command);
    for end in ["ve", "vf"] {
        let made = ip(&daemon, &format!("link add {end}0 type veth peer name {end}1"));
        assert!(made.status.success(), "{}", stderr(&made));
        for side in ["0", "1"] {
            ip(&daemon, &format!("link set {end}{side} up"));
        }
    }
    for name in ["tap", "packet", "xdp"] {
        let state = || place.json(&format!("port show {name}"))["state"].clone();
        eventually(&format!("port {name}"), || state() == "up");
    }
    assert_eq!(place.json("port show vm")["state"], "waiting");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(at("vm.sock")).unwrap());
    assert_eq!(owner, 0);
    assert!(place.client("stats").status.success());
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn systemd_has_nothing_to_say_of_the_unit() {
    if !has_program("systemd_has_nothing_to_say_of_the_unit", "systemd-analyze", "systemd") {
        return;
    }
    // The program need not be installed where the test runs.
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("hairpin.service");
    fs::write(&file, unit().replace("/usr/bin/hairpin", HAIRPIN)).unwrap();
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["verify", "--man=no"]).arg(&file).output().unwrap();
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""), "{}", stdout(&output));
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=yes", "--threshold=35", "--no-pager"]).arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "exposed:\n{}", stdout(&output));
}

#[test]
fn users_and_directories_are_those_of_the_unit() {
    let users = fs::read_to_string(dist("hairpin.sysusers")).unwrap();
    let user = setting("User").concat();
    assert!(users.lines().any(|line| line.starts_with(&format!("u {user} - "))), "{users}");
    let files = fs::read_to_string(dist("hairpin.tmpfiles")).unwrap();
    let directories = [("/run/", "RuntimeDirectory"), ("/var/lib/", "StateDirectory")];
    for (root, key) in directories {
        let (name, mode) = (setting(key).concat(), setting(&format!("{key}Mode")).concat());
        let line = format!("d {root}{name} {mode} {user} {user} -");
        assert!(files.lines().any(|it| it == line), "{line} in {files}");
    }
}
