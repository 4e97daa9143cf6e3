//! The command itself: the daemon and its clients, over a socket of their own.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use daemon::{
    Daemon, HAIRPIN, LOCAL, Place, assert_frames_pass, eventually, in_own_network, ip, port,
    stderr, stdout,
};
use means::has_means;
use rustix::process::Signal;
use serde_json::Value;

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
            "{file}:7: link up0: role: \"statoin\" is not a role (did you mean station?); write \
             station or bridge\n{file}:8: link up0: mtu: 1 is out of range; write a number from \
             68 to 65521\n"
        )
    );
    let output = place.client(&format!("check {file} --json"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["errors"][1]["line"], 8);
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
        "unknown key \"mdoe\" (did you mean mode?); keys are channel, bridge, mirror, mode, \
         device, mac, vlan, learn-limit, admin\n"
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
fn a_start_that_fails_leaves_no_socket_behind_and_takes_none_of_another_s() {
    let place = Place::new();
    let bad = port("vm1", "lo").replace("{ tap =", "{ packet =");
    place.write(&format!("{LOCAL}{bad}"));
    let output = place.daemon_command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("port vm1: device: "), "{}", stderr(&output));
    assert!(!place.socket().exists());

    place.write(LOCAL);
    let daemon = Daemon::start(place.daemon_command());
    let output = place.daemon_command().output().unwrap();
    assert!(stderr(&output).contains("another program answers"), "{}", stderr(&output));
    assert_eq!(place.json("show")["name"], "t");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
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
    let refused = "hairpin.toml:5: link up0: role: it is missing";
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
    place.write(&format!("{LOCAL}{}{}", port("vm1", "tap1"), port("vm2", "tap2")));
    in_own_network(place, &[])
}

#[test]
fn ports_on_taps_are_shown_and_set() {
    if !has_means("ports_on_taps_are_shown_and_set") {
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

/// What the kernel says of an interface: `5: tap1: <…> mtu 1500 …`.
fn interface(daemon: &Daemon, name: &str) -> String {
    stdout(&ip(daemon, &format!("-o link show dev {name}")))
}

/// The number that an interface keeps for as long as it lives.
fn number(daemon: &Daemon, name: &str) -> String {
    interface(daemon, name).split(':').next().unwrap_or_default().to_owned()
}

const APPLIED: &str = "the configuration was applied";

#[test]
fn taps_are_swapped_and_renamed_in_one_apply_without_being_opened_anew() {
    if !has_means("taps_are_swapped_and_renamed_in_one_apply_without_being_opened_anew") {
        return;
    }
    for workers in ["", "workers = [0, 1]\n"] {
        let place = Place::new();
        let write = |ports: [(&str, &str); 3]| {
            let ports: String = ports.map(|(name, tap)| port(name, tap)).concat();
            place.write(&format!("{workers}{LOCAL}{ports}"));
        };
        write([("vm1", "tap1"), ("vm2", "tap2"), ("vm3", "tap3")]);
        let daemon = in_own_network(&place, &[]);
        let numbers = || ["tap1", "tap2", "tap3"].map(|tap| number(&daemon, tap));
        let before = numbers();
        assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm3");

        // Twice there and back: what was handed over is handed over again.
        for _ in 0..2 {
            write([("vm1", "tap2"), ("vm2", "tap1"), ("vm3", "tap3")]);
            let said = daemon.reload();
            assert!(said.contains(APPLIED), "{said}");
            assert_frames_pass(&place, &daemon, "tap1", "vm2", "vm1");
            assert_frames_pass(&place, &daemon, "tap2", "vm1", "vm2");
            write([("vm1", "tap1"), ("vm2", "tap2"), ("vm3", "tap3")]);
            let said = daemon.reload();
            assert!(said.contains(APPLIED), "{said}");
            assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm2");
        }
        // A new name, and one TAP after the other.
        write([("vm9", "tap1"), ("vm3", "tap2"), ("vm2", "tap3")]);
        let said = daemon.reload();
        assert!(said.contains(APPLIED), "{said}");
        assert_frames_pass(&place, &daemon, "tap1", "vm9", "vm3");
        assert_frames_pass(&place, &daemon, "tap3", "vm2", "vm9");

        assert_eq!(numbers(), before, "no interface was made anew");
        for name in ["vm2", "vm3", "vm9"] {
            let port = place.json(&format!("port show {name}"));
            assert_eq!((&port["state"], &port["reopened"]), (&"up".into(), &0.into()), "{port}");
        }
        // What was handed over still closes when nobody wants it.
        place.write(&format!("{workers}{LOCAL}{}", port("vm9", "tap1")));
        daemon.reload();
        let alone = [before[0].clone(), String::new(), String::new()];
        eventually("the others' end", || numbers() == alone);
    }
}

#[test]
fn a_swap_beside_a_device_that_cannot_be_opened_changes_nothing() {
    if !has_means("a_swap_beside_a_device_that_cannot_be_opened_changes_nothing") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let taken = ip(&daemon, "link add br0 type bridge");
    assert!(taken.status.success(), "{}", stderr(&taken));
    let (before, shown) = ([number(&daemon, "tap1"), number(&daemon, "tap2")], place.json("show"));
    let swapped = [port("vm1", "tap2"), port("vm2", "tap1"), port("vm0", "tap0")].concat();
    place.write(&format!("{LOCAL}{swapped}{}", port("vm3", "br0")));
    let said = daemon.reload();
    assert!(said.contains("port vm3: device: interface `br0` is not a TAP"), "{said}");
    let after = place.json("show");
    assert_eq!((&after["ports"], &after["revision"]), (&shown["ports"], &shown["revision"]));
    assert_eq!([number(&daemon, "tap1"), number(&daemon, "tap2")], before);
    eventually("the end of what was opened for nothing", || number(&daemon, "tap0").is_empty());
    assert_frames_pass(&place, &daemon, "tap1", "vm1", "vm2");
    assert_frames_pass(&place, &daemon, "tap2", "vm2", "vm1");
}

/// Another network namespace, for as long as this lives.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Elsewhere {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let elsewhere = Elsewhere(child);
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        eventually("another network", || network(&elsewhere.pid()) != network("self"));
        elsewhere
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn interface(&self, name: &str) -> String {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", "ip", "-o", "link", "show", "dev", name]);
        stdout(&command.output().unwrap())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // It ends now, if it has not ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes two ports on a link with this `mtu`.
fn write_mtu(place: &Place, mtu: &str) {
    let ports = [port("vm1", "tap1"), port("vm2", "tap2")].concat();
    place.write(&format!("{LOCAL}{mtu}\n{ports}"));
}

#[test]
fn a_changed_mtu_reaches_the_netdevs_wherever_they_are() {
    if !has_means("a_changed_mtu_reaches_the_netdevs_wherever_they_are") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let elsewhere = Elsewhere::new();
    ip(&daemon, &format!("link set tap2 netns {} name eth0", elsewhere.pid()));
    let before = number(&daemon, "tap1");
    // Without one, host-local links have 1500.
    for (mtu, bytes) in [("mtu = 2000", 2000), ("mtu = 9000", 9000), ("", 1500)] {
        write_mtu(&place, mtu);
        let said = daemon.reload();
        assert!(said.contains(APPLIED), "{said}");
        let has = format!(" mtu {bytes} ");
        assert!(interface(&daemon, "tap1").contains(&has), "{}", interface(&daemon, "tap1"));
        assert!(elsewhere.interface("eth0").contains(&has), "{}", elsewhere.interface("eth0"));
        assert_eq!(place.json("port show vm1")["mtu"], bytes);
    }
    assert_eq!(number(&daemon, "tap1"), before);
    assert_eq!(place.json("port show vm1")["reopened"], 0);
}

#[test]
fn an_mtu_that_cannot_be_set_is_refused_and_others_are_set_back() {
    if !has_means("an_mtu_that_cannot_be_set_is_refused_and_others_are_set_back") {
        return;
    }
    let place = Place::new();
    write_mtu(&place, "");
    // It may set interfaces, but not enter other namespaces.
    let daemon = in_own_network(&place, &["setpriv", "--bounding-set", "-sys_admin"]);
    let elsewhere = Elsewhere::new();
    ip(&daemon, &format!("link set tap2 netns {}", elsewhere.pid()));
    write_mtu(&place, "mtu = 2000");
    let said = daemon.reload();
    let refusal = "link up0: mtu = 2000 is not permitted at tap `tap2`: run with CAP_NET_ADMIN";
    assert!(said.contains(refusal), "{said}");
    assert!(interface(&daemon, "tap1").contains(" mtu 1500 "), "{}", interface(&daemon, "tap1"));
    assert_eq!(place.json("port show vm1")["mtu"], 1500);
}

#[test]
fn a_deleted_tap_is_made_again() {
    if !has_means("a_deleted_tap_is_made_again") {
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
    if !has_means("others_may_read_but_not_write") {
        return;
    }
    let place = Place::new();
    let daemon = with_taps(&place);
    let client = place.file().with_file_name("client");
    fs::copy(HAIRPIN, &client).unwrap();
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&client);
        command.arg("--api").arg(format!("unix:{}", place.socket().display()));
        command.args(words).output().unwrap()
    };
    assert!(nobody(&["show"]).status.success());
    for words in [&["port", "set", "vm1", "mode=vepa"][..], &["port", "release", "vm1"]] {
        let output = nobody(words);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains("user 65534 may not change this switch"), "{said}");
    }
    assert_eq!(place.json("port show vm1")["mode"], "veb");
    drop(daemon);
}
