//! `hairpin lab` as a program: what it says, how it ends, and that nothing stays behind.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod means;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hairpin_dataplane::sys::packet_socket::{Format, PacketSocket};
use means::has_means;
use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

const HAIRPIN: &str = env!("CARGO_BIN_EXE_hairpin");
/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
const NETNS: &str = "/run/netns";
/// Of a whole lab: the cable's, with both switches, and one for each VM.
const NAMESPACES: usize = 1 + 12;
/// In the environment of a lab and of all that it starts, with a number.
const MARK: &str = "HAIRPIN_LAB_TEST";
/// The lab's last words when it is interrupted.
const INTERRUPTED: &str = "lab: interrupted; everything it made is removed\n";

/// One test at a time: each lab clears away what dead ones left, and takes two CPUs.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A turn for a test that needs root; where everything must run, it fails without.
fn turn_of_root(test: &str) -> Option<MutexGuard<'static, ()>> {
    has_means(test).then(turn)
}

/// A lab in a process group of its own, as a shell would start it; its group is killed
/// when it is dropped.
struct Lab {
    child: Child,
    /// Lines of both outputs, as they come.
    lines: Receiver<String>,
    said: String,
    mark: String,
}

impl Lab {
    fn start(words: &str) -> Lab {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let mut child = Command::new(HAIRPIN)
            .arg("lab")
            .args(words.split_whitespace())
            .env(MARK, &mark)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // The test may have ended.
                    let _ = sender.send(line);
                }
            });
        }
        Lab { child, lines, said: String::new(), mark }
    }

    /// Waits until it has said a line that begins so, and gives the line.
    #[track_caller]
    fn hear(&mut self, beginning: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if line.starts_with(beginning) {
                        return line;
                    }
                }
                Err(error) => panic!("{beginning:?}: {error}; it said:\n{}", self.said),
            }
        }
    }

    /// Waits until it has made so many namespaces.
    #[track_caller]
    fn wait_for_namespaces(&self, count: usize) {
        eventually("namespaces", || self.namespaces().len() >= count);
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn namespaces(&self) -> Vec<String> {
        entries(NETNS, &format!("hairpin-lab-{}-", self.pid()))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// As a terminal does it: to everything that the lab has running.
    fn press_ctrl_c(&self) {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Its exit code, or the signal that ended it, as a negative number.
    #[track_caller]
    fn end(&mut self) -> i32 {
        let patience = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < patience, "it does not end; it said:\n{}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        };
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.extend([line.as_str(), "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("somebody holds its outputs open"),
            }
        }
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    /// All that is there of it: processes, namespaces, files. Its interfaces are in its
    /// namespaces.
    fn traces(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.mark);
        let marked = |process: &PathBuf| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|word| word == mark.as_bytes())
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let mut traces: Vec<String> =
            processes.filter(marked).map(|process| process.display().to_string()).collect();
        traces.extend(self.namespaces());
        let temporary = std::env::temp_dir();
        for directory in [Path::new("/run"), &temporary] {
            traces.extend(entries(directory, &format!("hairpin-lab-{}", self.pid())));
        }
        traces
    }

    #[track_caller]
    fn assert_left_nothing(&self) {
        assert_eq!(self.traces(), [""; 0], "it said:\n{}", self.said);
    }

    /// Asserts that it ends as one that was interrupted before its verdict.
    #[track_caller]
    fn assert_ends_interrupted(mut self) {
        assert_eq!(self.end(), 1, "it said:\n{}", self.said);
        assert!(self.said.ends_with(INTERRUPTED), "it said:\n{}", self.said);
        assert!(!self.said.contains("every expectation"), "it was through:\n{}", self.said);
        self.assert_left_nothing();
    }

    #[track_caller]
    fn assert_passes(mut self) -> String {
        assert_eq!(self.end(), 0, "it said:\n{}", self.said);
        assert!(self.said.contains("\nevery expectation holds"), "{}", self.said);
        self.assert_left_nothing();
        std::mem::take(&mut self.said)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Either it ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names in a directory that begin so.
fn entries(directory: impl AsRef<Path>, beginning: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(beginning)).collect()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ip(words: &str) -> Output {
    Command::new("ip").args(words.split_whitespace()).output().unwrap()
}

/// A namespace of the test's own, whatever its name looks like.
struct Foreign(String);

impl Foreign {
    fn new(name: String) -> Foreign {
        let added = ip(&format!("netns add {name}"));
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        Foreign(name)
    }

    fn exists(&self) -> bool {
        Path::new(NETNS).join(&self.0).exists()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

/// The grid of a report: a row's name with its symbols.
fn grid(report: &str) -> Vec<String> {
    let rows = report.lines().skip_while(|line| !line.starts_with("Who reached whom")).skip(3);
    let rows = rows.take_while(|line| !line.is_empty());
    rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The rows of the table of paths: the path, pairs over IPv4, pairs over IPv6.
fn paths(report: &str) -> Vec<(String, String, String)> {
    let rows = report.lines().skip_while(|line| !line.starts_with("  path at the cable")).skip(1);
    let rows = rows.take_while(|line| !line.is_empty());
    let cells = rows.map(|row| {
        let (path, numbers) = row.split_at(24);
        let numbers: Vec<_> = numbers.split_whitespace().collect();
        // Pairs, time, unit; twice; lost.
        assert_eq!((numbers.len(), numbers[6]), (7, "0"), "{row}");
        (path.trim().to_owned(), numbers[0].to_owned(), numbers[3].to_owned())
    });
    cells.collect()
}

fn row(path: &str, pairs: usize) -> (String, String, String) {
    (path.to_owned(), pairs.to_string(), pairs.to_string())
}

#[test]
fn scenario_veb_is_two_vms_switched_locally() {
    let _turn = turn();
    let report = Lab::start("--scenario veb").assert_passes();
    assert_eq!(grid(&report), ["veb1 . l", "veb2 l ."]);
    assert_eq!(paths(&report), [row("local", 2)]);
    assert!(report.contains("  veb1 to veb2           local  "), "{report}");
}

#[test]
fn scenario_vepa_is_two_vms_switched_by_the_bridge_and_two_that_are_apart() {
    let _turn = turn();
    let report = Lab::start("--scenario vepa").assert_passes();
    let rows = ["vepa1 . h - -", "vepa2 h . - -", "priv1 - - . -", "priv2 - - - ."];
    assert_eq!(grid(&report), rows);
    assert_eq!(paths(&report), [row("hairpin untagged", 2)]);
    let apart = "apart: 10 pairs; of 60 echoes 0 answered, 60 dropped as private at the station";
    assert!(report.contains(apart), "{report}");
    assert!(report.contains("  vepa1 to vepa2         hairpin untagged  "), "{report}");
}

fn multichannel_paths() -> [(String, String, String); 8] {
    [
        row("hairpin S-100", 2),
        row("S-100 > S-200", 4),
        row("S-100 > S-300", 2),
        row("S-200 > S-100", 4),
        row("local", 2),
        row("S-200 > S-300", 2),
        row("S-300 > S-100", 2),
        row("S-300 > S-200", 2),
    ]
}

#[test]
fn scenario_multichannel_is_five_vms_on_three_channels() {
    let _turn = turn();
    let report = Lab::start("--scenario multichannel").assert_passes();
    let rows = ["blue1 . h c c c", "blue2 h . c c c", "green1 c c . l c", "green2 c c l . c"];
    assert_eq!(grid(&report)[..4], rows);
    assert_eq!(grid(&report)[4], "red1 c c c c .");
    assert_eq!(paths(&report), multichannel_paths());
    for transfer in ["blue1 to blue2", "green1 to green2", "blue1 to green1", "red1 to green1"] {
        assert!(report.contains(&format!("  {transfer}")), "{transfer}: {report}");
    }
}

#[test]
fn scenario_all_is_the_default_and_has_every_vm() {
    let _turn = turn();
    let whole = Lab::start("--scenario all").assert_passes();
    assert_eq!(grid(&whole).len(), 12);
    assert_eq!(grid(&whole)[0], "veb1 . l h h - - c c c c c b");
    assert_eq!(grid(&whole)[4], "priv1 - - - - . - c c c c c b");
    assert_eq!(grid(&whole)[11], "server b b b b b b b b b b b .");
    assert_eq!(paths(&whole).len(), 23);
    let transfers = whole.lines().filter(|line| line.contains(" to ") && line.contains("  "));
    assert_eq!(transfers.filter(|line| line.ends_with(|c: char| c.is_ascii_digit())).count(), 8);
    assert_eq!(grid(&Lab::start("").assert_passes()), grid(&whole));
}

#[test]
fn an_unknown_scenario_is_wrong_usage_and_builds_nothing() {
    let output = Command::new(HAIRPIN).args(["lab", "--scenario", "evb"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("[possible values: veb, vepa, multichannel, all]"), "{said}");
}

#[test]
fn the_statuses_are_documented() {
    let output = Command::new(HAIRPIN).args(["lab", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
    assert!(help.contains("Exit status: 0 if every expectation holds; 1 if"), "{help}");
}

#[test]
fn an_ordinary_user_is_told_what_namespaces_need() {
    let _turn = turn();
    // The program may lie where only root may read.
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy.path().join("hairpin");
    fs::copy(HAIRPIN, &program).unwrap();
    let mut command = match geteuid().is_root() {
        true => Command::new("setpriv"),
        false => Command::new("env"),
    };
    if geteuid().is_root() {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    let output = command.arg(&program).args(["lab", "--netns"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("need root; run it as root, or without --netns"), "{said}");
}

/// Runs a lab in namespaces without some of what root has, and says what it said.
#[track_caller]
fn refused(without: &[&str]) -> String {
    let (program, words) = without.split_first().unwrap();
    let mut command = Command::new(program);
    let output = command.args(words).arg(HAIRPIN).args(["lab", "--netns"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    said
}

#[test]
fn root_without_what_af_xdp_needs_is_told_what_that_is() {
    let Some(_turn) = turn_of_root("root_without_what_af_xdp_needs_is_told_what_that_is") else {
        return;
    };
    for (lacks, name) in [("-net_raw", "CAP_NET_RAW"), ("-net_admin", "CAP_NET_ADMIN")] {
        let said = refused(&["setpriv", "--bounding-set", lacks]);
        assert!(said.contains(&format!("need {name}, which this root has not")), "{said}");
    }
    let no_locks = ["setpriv", "--bounding-set", "-ipc_lock", "prlimit", "--memlock=65536"];
    let said = refused(&no_locks);
    assert!(said.contains("the station's switch: link up0: device: xdp `up0`: "), "{said}");
    assert!(said.contains("run with CAP_IPC_LOCK, raise the limit"), "{said}");
    // In a user namespace, with a /run of its own: root of all but the kernel itself.
    let own = "mount -t tmpfs none /run && exec \"$@\"";
    let unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net"];
    let said = refused(&[&unshare[..], &["sh", "-c", own, "sh"]].concat());
    assert!(said.contains("run with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"), "{said}");
}

/// The addresses that a held lab says its switches answer at.
fn addresses(lab: &mut Lab) -> [String; 2] {
    ["station", "bridge"].map(|switch| {
        let line = lab.hear("  hairpin --api unix:");
        assert!(line.ends_with(&format!("-{switch}.sock show")), "{line}");
        line.split_whitespace().nth(2).unwrap().to_owned()
    })
}

fn ask(api: &str, words: &str) -> Output {
    Command::new(HAIRPIN).args(["--api", api]).args(words.split_whitespace()).output().unwrap()
}

/// Names of ports with their states, as the command lists them.
fn ports(api: &str) -> Vec<(String, String)> {
    let output = ask(api, "port list --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ports = json["ports"].as_array().unwrap().iter();
    ports.map(|port| (text(&port["name"]), text(&port["state"]))).collect()
}

fn up(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "up".to_owned())).collect()
}

/// What can be asked of both switches while the lab holds them.
fn assert_answers([station, bridge]: &[String; 2]) {
    for (api, name) in [(station, "station"), (bridge, "bridge")] {
        let shown = ask(api, "show --json");
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(json["name"], name);
        let listed = ask(api, "port list");
        assert!(listed.status.success() && listed.stdout.starts_with(b"NAME"));
    }
    let vms = [
        "veb1", "veb2", "vepa1", "vepa2", "priv1", "priv2", "blue1", "blue2", "green1", "green2",
        "red1",
    ];
    let mut found = ports(station);
    found.sort();
    let mut expected = up(&vms);
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(ports(bridge), up(&["server"]));
}

#[test]
fn a_held_lab_answers_at_both_switches_until_ctrl_c() {
    let _turn = turn();
    let mut lab = Lab::start("--hold");
    lab.hear("every expectation holds");
    let addresses = addresses(&mut lab);
    assert_answers(&addresses);
    lab.press_ctrl_c();
    assert_eq!(lab.end(), 0, "it said:\n{}", lab.said);
    lab.assert_left_nothing();
    assert!(!ask(&addresses[0], "show").status.success());
}

#[test]
fn a_held_lab_that_is_killed_leaves_sockets_to_the_next_one() {
    let _turn = turn();
    let mut killed = Lab::start("--scenario veb --hold");
    addresses(&mut killed);
    killed.signal(Signal::KILL);
    assert_eq!(killed.end(), -Signal::KILL.as_raw());
    assert_eq!(killed.traces().len(), 3, "a will and two sockets");
    Lab::start("--scenario veb").assert_passes();
    killed.assert_left_nothing();
}

#[test]
fn ctrl_c_ends_a_lab_in_the_process_at_any_stage() {
    let _turn = turn();
    for stage in ["lab: building ", "lab: 132 pings", "lab: 8 transfers"] {
        let mut lab = Lab::start("--hold");
        lab.hear(stage);
        lab.press_ctrl_c();
        lab.assert_ends_interrupted();
    }
    for signal in [Signal::TERM, Signal::HUP] {
        let mut lab = Lab::start("");
        lab.hear("lab: 132 pings");
        lab.signal(signal);
        lab.assert_ends_interrupted();
    }
}

#[test]
fn ctrl_c_ends_a_lab_in_namespaces_while_it_makes_them() {
    let Some(_turn) = turn_of_root("ctrl_c_ends_a_lab_in_namespaces_while_it_makes_them") else {
        return;
    };
    for namespaces in 1..=NAMESPACES {
        let lab = Lab::start("--netns");
        lab.wait_for_namespaces(namespaces);
        // Twice: whoever presses it once presses it again while things are removed.
        lab.press_ctrl_c();
        std::thread::sleep(Duration::from_millis(30));
        lab.press_ctrl_c();
        lab.assert_ends_interrupted();
    }
}

#[test]
fn ctrl_c_ends_a_lab_in_namespaces_while_traffic_flows() {
    let Some(_turn) = turn_of_root("ctrl_c_ends_a_lab_in_namespaces_while_traffic_flows") else {
        return;
    };
    for stage in ["lab: 132 pings", "lab: 8 transfers"] {
        let mut lab = Lab::start("--netns");
        lab.hear(stage);
        // Into the middle of it: neither takes less than a second.
        std::thread::sleep(Duration::from_millis(300));
        lab.press_ctrl_c();
        lab.assert_ends_interrupted();
    }
}

#[test]
fn ctrl_c_ends_a_held_lab_in_namespaces() {
    let Some(_turn) = turn_of_root("ctrl_c_ends_a_held_lab_in_namespaces") else { return };
    let mut lab = Lab::start("--netns --hold");
    assert_answers(&addresses(&mut lab));
    assert_eq!(lab.namespaces().len(), NAMESPACES);
    lab.press_ctrl_c();
    assert_eq!(lab.end(), 0, "it said:\n{}", lab.said);
    lab.assert_left_nothing();
}

/// A command's JSON.
#[track_caller]
fn json(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The XDP program of an interface in a lab's namespace of the cable.
#[track_caller]
fn program(lab: &Lab, interface: &str) -> Value {
    let mut command = Command::new("ip");
    command.args(["-n", &format!("hairpin-lab-{}-cable", lab.pid()), "-details", "-json"]);
    command.args(["link", "show", interface]);
    json(command)[0]["xdp"]["prog"]["name"].clone()
}

/// A packet socket on the card of a lab's VM.
fn card(lab: &Lab, vm: &str) -> PacketSocket {
    let namespace = format!("{NETNS}/hairpin-lab-{}-{vm}", lab.pid());
    let namespace = fs::File::open(namespace).unwrap();
    let open = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        PacketSocket::open("eth0", Format::Ethernet).unwrap()
    };
    std::thread::spawn(open).join().unwrap()
}

/// Sends 1500 bytes of payload behind a C-tag from blue1 to green1: on the cable they are
/// behind an S-tag as well, both ways.
#[track_caller]
fn assert_whole_payload_passes(lab: &Lab) {
    let [blue1, green1] = ["blue1", "green1"].map(|vm| card(lab, vm));
    let mac = |number| [0x52, 0x54, 0, 0, 0, number];
    let (tag, ethertype) = ([0x81, 0, 0, 10], [0x88, 0xb5]);
    let frame = [&mac(7)[..], &mac(5), &tag, &ethertype, &[0x77; 1500]].concat();
    blue1.send(&frame).unwrap();
    green1.set_patience(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 2000];
    loop {
        let received = green1.receive(&mut buffer).expect("the frame comes");
        if buffer[12..14] == ethertype {
            assert_eq!((received.length, received.tag), (14 + 1500, Some((0x8100, 10))));
            return;
        }
    }
}

#[test]
fn the_cable_of_a_lab_in_namespaces_is_af_xdp_s_at_both_ends_until_it_is_killed() {
    let Some(_turn) = turn_of_root(
        "the_cable_of_a_lab_in_namespaces_is_af_xdp_s_at_both_ends_until_it_is_killed",
    ) else {
        return;
    };
    let mut lab = Lab::start("--netns --scenario multichannel --hold");
    let addresses = addresses(&mut lab);
    let cable = "  cable: veth, AF_XDP at either end (station copy, bridge copy)\n";
    assert!(lab.said.contains(cable), "{}", lab.said);
    // Nobody but the VMs sends: no kernel has its own address in the switches' namespace.
    assert!(!lab.said.contains("source_not_registered"), "{}", lab.said);
    // What was counted there is what is counted of a cable in the process.
    assert_eq!(paths(&lab.said), multichannel_paths());
    for (api, link) in addresses.iter().zip(["up0", "sbp0"]) {
        let mut show = Command::new(HAIRPIN);
        show.args(["--api", api, "link", "show", link, "--json"]);
        let shown = json(show);
        assert_eq!((&shown["state"], &shown["mtu"]), (&"up".into(), &1500.into()), "{shown}");
        let xdp = &shown["device"]["xdp"];
        assert_eq!([&xdp["interface"], &xdp["mode"], &xdp["granted"]], [link, "auto", "copy"]);
        assert_eq!(program(&lab, link), "hairpin_xsk");
    }
    assert_whole_payload_passes(&lab);
    assert!(!ip("link show tap-blue1").status.success(), "it is in the host's network");
    kill(&mut lab);
    for link in ["up0", "sbp0"] {
        eventually("the end of a program", || program(&lab, link).is_null());
    }
    Lab::start("--netns --scenario veb").assert_passes();
    lab.assert_left_nothing();
}

#[test]
fn a_cut_cable_costs_all_that_crosses_it_and_nothing_else() {
    let Some(_turn) = turn_of_root("a_cut_cable_costs_all_that_crosses_it_and_nothing_else") else {
        return;
    };
    let mut lab = Lab::start("--netns --scenario multichannel");
    lab.hear("lab: 4 transfers");
    let cut = ip(&format!("-n hairpin-lab-{}-cable link set sbp0 down", lab.pid()));
    assert!(cut.status.success(), "{}", String::from_utf8_lossy(&cut.stderr));
    assert_eq!(lab.end(), 1, "it said:\n{}", lab.said);
    let failed = lab.said.lines().filter_map(|line| line.strip_prefix("  ! "));
    let pairs: Vec<&str> =
        failed.filter_map(|line| Some(line.split_once(" over TCP: ")?.0)).collect();
    assert_eq!(pairs, ["blue1 to blue2", "blue1 to green1", "red1 to green1"], "{}", lab.said);
    assert!(lab.said.contains("  green1 to green2       local  "), "{}", lab.said);
    lab.assert_left_nothing();
}

/// Kills a lab and asserts that of its processes none stays.
#[track_caller]
fn kill(lab: &mut Lab) {
    lab.signal(Signal::KILL);
    assert_eq!(lab.end(), -Signal::KILL.as_raw());
    eventually("the end of what it started", || {
        lab.traces().iter().all(|trace| !trace.starts_with("/proc/"))
    });
}

#[test]
fn what_a_killed_lab_left_is_cleared_by_the_next_one() {
    let Some(_turn) = turn_of_root("what_a_killed_lab_left_is_cleared_by_the_next_one") else {
        return;
    };
    let mut young = Lab::start("--netns --scenario multichannel");
    young.wait_for_namespaces(2);
    kill(&mut young);
    let mut busy = Lab::start("--netns");
    busy.hear("lab: 8 transfers");
    young.assert_left_nothing();
    kill(&mut busy);
    assert_eq!(busy.namespaces().len(), NAMESPACES, "a crash that leaves nothing proves nothing");
    Lab::start("--netns").assert_passes();
    busy.assert_left_nothing();
}

#[test]
fn labs_in_namespaces_run_side_by_side() {
    let Some(_turn) = turn_of_root("labs_in_namespaces_run_side_by_side") else { return };
    let mut held = Lab::start("--netns --hold");
    let addresses = addresses(&mut held);
    let (one, mut two) = (Lab::start("--netns"), Lab::start("--netns"));
    two.hear("lab: 132 pings");
    two.press_ctrl_c();
    two.assert_ends_interrupted();
    one.assert_passes();
    assert_eq!(held.namespaces().len(), NAMESPACES);
    assert_answers(&addresses);
    let veb1 = format!("hairpin-lab-{}-veb1", held.pid());
    let ping = ip(&format!("netns exec {veb1} ping -c 1 -W 5 10.77.0.9"));
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
    held.press_ctrl_c();
    assert_eq!(held.end(), 0, "it said:\n{}", held.said);
    held.assert_left_nothing();
}

#[test]
fn a_lab_in_which_something_fails_says_what_and_ends_with_1() {
    let Some(_turn) = turn_of_root("a_lab_in_which_something_fails_says_what_and_ends_with_1")
    else {
        return;
    };
    let mut lab = Lab::start("--netns --scenario multichannel");
    // Long before the last of them, which is red1's.
    lab.hear("lab: 4 transfers");
    let unplugged = ip(&format!("-n hairpin-lab-{}-red1 link set eth0 down", lab.pid()));
    assert!(unplugged.status.success(), "{}", String::from_utf8_lossy(&unplugged.stderr));
    assert_eq!(lab.end(), 1, "it said:\n{}", lab.said);
    assert!(lab.said.contains("\n  ! red1 to green1 over TCP: "), "{}", lab.said);
    assert!(lab.said.contains(": connecting to 10.77.0.7:7000: "), "{}", lab.said);
    assert_eq!(lab.said.matches("\n  ! ").count(), 1, "{}", lab.said);
    assert!(lab.said.contains("\nNOT every expectation holds ("), "{}", lab.said);
    lab.assert_left_nothing();
}

/// A process id that no process has: that of one which has ended.
fn dead_pid() -> u32 {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    ended.id()
}

#[test]
fn a_namespace_that_only_looks_like_a_lab_s_stays() {
    let Some(_turn) = turn_of_root("a_namespace_that_only_looks_like_a_lab_s_stays") else {
        return;
    };
    let dead = dead_pid();
    let foreign = ["veb1", "mine"].map(|vm| Foreign::new(format!("hairpin-lab-{dead}-{vm}")));
    let nameless = Foreign::new("hairpin-lab-nobody".to_owned());
    Lab::start("--netns --scenario veb").assert_passes();
    assert!(foreign.iter().all(Foreign::exists) && nameless.exists());
}

#[test]
fn a_namespace_beside_a_dead_lab_s_stays() {
    let Some(_turn) = turn_of_root("a_namespace_beside_a_dead_lab_s_stays") else { return };
    let mut dead = Lab::start("--netns --scenario veb --hold");
    addresses(&mut dead);
    let foreign = Foreign::new(format!("hairpin-lab-{}-vepa1", dead.pid()));
    kill(&mut dead);
    Lab::start("--netns --scenario veb").assert_passes();
    assert!(foreign.exists(), "it was in nobody's will");
    drop(foreign);
    dead.assert_left_nothing();
}
