//! Desired states over the API and by the command: applied whole, edited, kept, gone back to.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use daemon::{Daemon, LOCAL, Place, eventually, stderr, stdout};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A port that needs no privilege: a socket in the place.
fn port(place: &Place, name: &str) -> String {
    let socket = place.file().with_file_name(format!("{name}.sock"));
    format!(
        "[[port]]\nname = {name:?}\nchannel = \"up0\"\nmode = \"veb\"\ndevice = {{ vhost-user = {{ \
         socket = {socket:?}, role = \"server\" }} }}\n"
    )
}

/// A place whose file has these ports.
fn write(place: &Place, ports: &[&str]) {
    let ports: String = ports.iter().map(|name| port(place, name)).collect();
    place.write(&format!("{LOCAL}{ports}"));
}

fn start(place: &Place) -> Daemon {
    Daemon::start(place.daemon_command())
}

fn names(place: &Place) -> Vec<String> {
    let ports = place.json("port list")["ports"].as_array().unwrap().clone();
    ports.iter().map(|port| port["name"].as_str().unwrap().to_owned()).collect()
}

fn revision(place: &Place) -> u64 {
    place.json("show")["revision"].as_u64().unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    stderr(output)
}

/// Another file in the place, with these ports.
fn another(place: &Place, ports: &[&str]) -> PathBuf {
    let own = fs::read_to_string(place.file()).unwrap();
    write(place, ports);
    let path = place.file().with_file_name("another.toml");
    fs::rename(place.file(), &path).unwrap();
    fs::write(place.file(), own).unwrap();
    path
}

#[test]
fn a_file_is_applied_whole_and_says_what_changes() {
    let place = Place::new();
    write(&place, &["vm1", "vm2"]);
    let daemon = start(&place);
    assert_eq!(revision(&place), 1);
    let file = another(&place, &["vm2", "vm3"]).display().to_string();

    let dry = place.client(&format!("apply {file} --dry-run"));
    let said = "- port vm1\n+ port vm3\nnothing was changed; revision 1 runs\n";
    assert_eq!(stdout(&dry), said, "{}", stderr(&dry));
    assert_eq!((revision(&place), names(&place)), (1, vec!["vm1".into(), "vm2".into()]));

    let done = place.json(&format!("apply {file}"));
    let changes = json!([
        { "kind": "port", "name": "vm1", "what": "removed", "fields": [] },
        { "kind": "port", "name": "vm3", "what": "added", "fields": [] },
    ]);
    assert_eq!(done, json!({ "revision": 2, "dry_run": false, "changes": changes }));
    assert_eq!(names(&place), ["vm2", "vm3"]);
    let sockets = ["vm1", "vm2", "vm3"].map(|name| place.file().with_file_name(name));
    let there = || sockets.each_ref().map(|path| path.with_extension("sock").exists());
    eventually("sockets of the ports that there are", || there() == [false, true, true]);

    // The running state changes nothing, applied as a file or as what `config` prints.
    let same = place.client(&format!("apply {file}"));
    assert_eq!(stdout(&same), "nothing changes; revision 2 runs\n");
    fs::write(&file, stdout(&place.client("config"))).unwrap();
    let same = place.client(&format!("apply {file}"));
    assert_eq!(stdout(&same), "nothing changes; revision 2 runs\n", "{}", stderr(&same));
    drop(daemon);
}

#[test]
fn an_apply_is_refused_whole_and_says_why() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    let before = place.json("show")["ports"].clone();
    let file = another(&place, &["vm1", "vm2"]).display().to_string();

    let late = refused(&place.client(&format!("apply {file} --base 7")));
    assert!(late.starts_with("revision 1 runs, not 7, from which this was made: "), "{late}");

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("mode = \"veb\"", "mode = \"vbe\"")).unwrap();
    let wrong = refused(&place.client(&format!("apply {file}")));
    let near = "another.toml:11: port vm1: mode: \"vbe\" is not a mode (did you mean veb?); ";
    assert!(wrong.contains(near), "{wrong}");

    // A device that cannot be opened, beside one that could.
    fs::write(&file, text.replace("vm2.sock", "none/vm2.sock")).unwrap();
    let unopened = refused(&place.client(&format!("apply {file}")));
    assert!(unopened.starts_with("port vm2: device: "), "{unopened}");

    fs::write(&file, text.replace("name = \"t\"", "name = \"t\"\npoll = \"busy\"")).unwrap();
    let restart = refused(&place.client(&format!("apply {file}")));
    assert!(restart.starts_with("switch: poll: a running switch cannot change it"), "{restart}");

    assert_eq!((revision(&place), &place.json("show")["ports"]), (1, &before));
    drop(daemon);
}

#[test]
fn single_objects_are_added_set_and_deleted() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    let say = |words: &str| {
        let output = place.client(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        stdout(&output)
    };
    let socket = place.file().with_file_name("vm2.sock");
    let socket = socket.display();
    assert_eq!(say("channel add blue link=up0 svid=100"), "+ channel blue\nrevision 2 runs\n");
    let vm2 = format!("port add vm2 channel=blue mode=vepa device=vhost-user:{socket},role=server");
    assert_eq!(say(&vm2), "+ port vm2\nrevision 3 runs\n");
    let both = say("link set up0 mtu=9000 admin=down");
    assert_eq!(both, "~ link up0: mtu, admin\nrevision 4 runs\n");
    assert_eq!(place.json("link show up0")["mtu"], 9000);
    say("port set vm2 mac=52:54:00:00:00:02,52:54:00:00:00:03 learn-limit=9 admin=down");
    let port = place.json("port show vm2");
    assert_eq!(port["mac"], json!(["52:54:00:00:00:02", "52:54:00:00:00:03"]));
    assert_eq!((&port["mode"], &port["learn_limit"]), (&"vepa".into(), &9.into()));
    say("port set vm2 mac=");
    assert_eq!(place.json("port show vm2")["mac"], json!([]));
    say("link add sbp0 role=bridge");
    say("bridge add br0 members=sbp0:on:50");
    say("bridge set br0 members=sbp0");
    assert_eq!(place.json("bridge show br0")["members"][0]["reflective_relay"], "off");
    assert_eq!(say("channel set blue svid=101"), "~ channel blue: svid\nrevision 10 runs\n");

    let taken = refused(&place.client("link add vm1 role=station"));
    let whose =
        "link vm1: name: it is already that of port vm1; take another, or set what is there";
    assert_eq!(taken, format!("{whose}\n"));
    let used = refused(&place.client("channel del blue"));
    assert!(used.starts_with("port vm2: channel: there is no channel \"blue\""), "{used}");
    let near = refused(&place.client("port del vm9"));
    assert_eq!(near, "there is no port \"vm9\" (did you mean vm1?)\n");
    let kind = refused(&place.client("link del vm1"));
    assert!(kind.starts_with("there is no link \"vm1\""), "{kind}");
    let number = refused(&place.client("channel set blue svid=1"));
    assert!(number.starts_with("channel blue: svid: 1 is not an S-VID; "), "{number}");

    // All of them or none.
    assert!(refused(&place.client("port del vm2 vm9")).contains("vm9"));
    assert_eq!(names(&place), ["vm1", "vm2"]);
    assert_eq!(say("port del vm2 vm1"), "- port vm1\n- port vm2\nrevision 11 runs\n");
    assert_eq!(say("bridge del br0"), "- bridge br0\nrevision 12 runs\n");
    drop(daemon);
}

#[test]
fn what_was_applied_outlives_the_daemon_unless_the_file_changed() {
    let place = Place::new();
    write(&place, &["vm1", "vm2"]);
    let daemon = start(&place);
    assert!(place.client("port set vm1 mode=vepa").status.success());
    assert!(place.client("port del vm2").status.success());
    assert_eq!(daemon.end(Signal::TERM), Some(0));

    let daemon = start(&place);
    assert_eq!((revision(&place), names(&place)), (3, vec!["vm1".to_owned()]));
    assert_eq!(place.json("port show vm1")["mode"], "vepa");
    assert!(daemon.log().contains("the last revision is restored"), "{}", daemon.log());
    // However it ends, and with a file applied meanwhile that is not the start-up file.
    let file = another(&place, &["vm3"]).display().to_string();
    assert!(place.client(&format!("apply {file}")).status.success());
    assert_eq!(daemon.end(Signal::KILL), None);
    let daemon = start(&place);
    assert_eq!((revision(&place), names(&place)), (4, vec!["vm3".to_owned()]));
    assert_eq!(daemon.end(Signal::TERM), Some(0));

    let text = fs::read_to_string(place.file()).unwrap();
    fs::write(place.file(), format!("{text}# another text\n")).unwrap();
    let daemon = start(&place);
    assert_eq!((revision(&place), names(&place)), (5, vec!["vm1".into(), "vm2".into()]));
    assert_eq!(place.json("port show vm1")["mode"], "veb");
    // A file that is edited and applied by the command is the start-up file from then on.
    fs::write(place.file(), format!("{text}# yet another\n")).unwrap();
    let apply = format!("apply {}", place.file().display());
    assert_eq!(stdout(&place.client(&apply)), "nothing changes; revision 5 runs\n");
    assert!(place.client("port del vm2").status.success());
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let daemon = start(&place);
    assert_eq!((revision(&place), names(&place)), (6, vec!["vm1".to_owned()]));
    drop(daemon);
}

#[test]
fn one_goes_back_to_an_earlier_revision() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    for mode in ["vepa", "private"] {
        assert!(place.client(&format!("port set vm1 mode={mode}")).status.success());
    }
    let mode = || place.json("port show vm1")["mode"].clone();
    let back = place.client("rollback");
    assert_eq!(stdout(&back), "~ port vm1: mode\nrevision 4 runs\n", "{}", stderr(&back));
    assert_eq!(mode(), "vepa");
    let dry = place.client("rollback 1 --dry-run");
    assert_eq!(stdout(&dry), "~ port vm1: mode\nnothing was changed; revision 4 runs\n");
    assert!(place.client("rollback 1").status.success());
    assert_eq!(mode(), "veb");
    let none = refused(&place.client("rollback 9"));
    assert_eq!(none, "there is no revision 9: those kept are 1, 2, 3, 4, 5\n");

    let revisions = place.json("revisions");
    let origins: Vec<&Value> =
        revisions["revisions"].as_array().unwrap().iter().map(|it| &it["origin"]).collect();
    let user = rustix::process::geteuid().as_raw();
    let by = |what: &str| json!(format!("user {user}{what}"));
    let back = [by(", back to revision 2"), by(", back to revision 1")];
    assert_eq!(origins, [&json!("file"), &by(""), &by(""), &back[0], &back[1]]);
    assert_eq!(revisions["directory"], json!(place.state().join("revisions")));
    // Twenty are kept.
    for number in 0..20 {
        let mode = ["vepa", "veb"][number % 2];
        assert!(place.client(&format!("port set vm1 mode={mode}")).status.success());
    }
    let kept = place.json("revisions")["revisions"].as_array().unwrap().clone();
    assert_eq!((&kept[0]["number"], kept.len()), (&json!(6), 20));
    let files = fs::read_dir(place.state().join("revisions")).unwrap();
    assert_eq!(files.count(), 20);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let daemon = start(&place);
    assert_eq!(revision(&place), 25);
    assert!(place.client("rollback 6").status.success());
    drop(daemon);
}

#[test]
fn a_torn_revision_is_put_aside_and_the_one_before_it_counts() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    for mode in ["vepa", "private"] {
        assert!(place.client(&format!("port set vm1 mode={mode}")).status.success());
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let last = place.state().join("revisions/0000000003.toml");
    let whole = fs::read(&last).unwrap();
    // Cut short, changed by hand, emptied: none is taken for what was applied.
    let changed = String::from_utf8(whole.clone()).unwrap().replace("private", "direct");
    for torn in [&whole[..whole.len() - 20], changed.as_bytes(), &[]] {
        fs::write(&last, torn).unwrap();
        let daemon = start(&place);
        assert_eq!(place.json("port show vm1")["mode"], "vepa");
        assert_eq!(revision(&place), 2);
        let said = "an applied state cannot be read: it is put aside";
        assert!(daemon.log().contains(said), "{}", daemon.log());
        assert!(!last.exists() && last.with_extension("torn").exists());
        // Its number is not given again.
        assert!(place.client("port set vm1 admin=down").status.success());
        assert_eq!(revision(&place), 4);
        assert_eq!(daemon.end(Signal::TERM), Some(0));
        fs::remove_file(last.with_file_name("0000000004.toml")).unwrap();
    }
}

#[test]
fn a_state_that_cannot_be_written_down_is_not_applied() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    // A directory in the place of the file that is written next holds it up for anybody.
    let next = place.state().join("revisions/0000000002.new");
    fs::create_dir(&next).unwrap();
    let said = refused(&place.client("port set vm1 mode=vepa"));
    assert!(said.starts_with("switch: state-dir: revision 2 cannot be written to "), "{said}");
    assert_eq!((revision(&place), &place.json("port show vm1")["mode"]), (1, &json!("veb")));
    fs::remove_dir(next).unwrap();
    assert!(place.client("port set vm1 mode=vepa").status.success());
    assert_eq!(revision(&place), 2);

    // Two daemons do not share one.
    let other = Place::new();
    write(&other, &["vm1"]);
    let text = fs::read_to_string(other.file()).unwrap();
    let shared = text.replace(&format!("{:?}", other.state()), &format!("{:?}", place.state()));
    fs::write(other.file(), shared).unwrap();
    let output = other.daemon_command().output().unwrap();
    assert!(refused(&output).contains("state-dir: another daemon uses"), "{}", stderr(&output));
    drop(daemon);
    let file = place.file().with_file_name("a-file");
    fs::write(&file, "").unwrap();
    fs::write(other.file(), text.replace(&format!("{:?}", other.state()), &format!("{file:?}")))
        .unwrap();
    let daemon = start(&other);
    let forgetful = "applied states are not kept: a live change ends with the daemon";
    assert!(daemon.log().contains(forgetful), "{}", daemon.log());
    assert!(other.client("port set vm1 mode=vepa").status.success());
    assert!(other.client("rollback").status.success());
    assert_eq!(other.json("revisions")["directory"], Value::Null);
}

#[test]
fn what_was_applied_is_not_forgotten_for_a_disk_or_a_version() {
    let place = Place::new();
    write(&place, &["vm1"]);
    let daemon = start(&place);
    assert!(place.client("port set vm1 mode=vepa").status.success());
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    // Whole, and of a version that knows more.
    let last = place.state().join("revisions/0000000002.toml");
    let (text, rest) =
        (fs::read_to_string(&last).unwrap(), "# by user 0\n[switch]\ntelepathy = 1\n");
    let rest = format!("# applied_ms 1, changes 1, file -, by x\n{rest}");
    let sum = hairpin::switch::digest::Digest::of(rest.as_bytes());
    fs::write(&last, format!("# hairpin revision 2 sha256 {sum}\n{rest}")).unwrap();
    let output = place.daemon_command().output().unwrap();
    let said = refused(&output);
    assert!(said.contains("0000000002.toml\" cannot be read: "), "{said}");
    assert!(said.contains("telepathy") && last.exists(), "{said}");
    fs::write(&last, &text).unwrap();
    // A directory that cannot be written any more: a file stands where one is tried out.
    let folder = place.state().join("revisions");
    fs::create_dir(folder.join("trial.new")).unwrap();
    let said = refused(&place.daemon_command().output().unwrap());
    assert!(said.contains("state-dir: ") && said.contains("cannot be used"), "{said}");
    fs::remove_dir(folder.join("trial.new")).unwrap();
    // And going back goes past what only a start can change.
    let text = fs::read_to_string(place.file()).unwrap();
    fs::write(place.file(), text.replace("name = \"t\"", "name = \"t\"\npoll = \"busy\"")).unwrap();
    let daemon = start(&place);
    assert_eq!(revision(&place), 3);
    let back = place.client("rollback 2");
    assert!(back.status.success(), "{}", stderr(&back));
    assert_eq!(place.json("port show vm1")["mode"], "vepa");
    assert_eq!(place.json("workers")["workers"][0]["poll"], "busy");
    drop(daemon);
}

/// Places of `switch::crash`, and which revision a start finds after the second apply was
/// ended there.
const PLACES: [(&str, u64); 7] = [
    ("Opened", 1),
    ("Tuned", 1),
    ("Half", 1),
    ("Written", 1),
    ("Named", 2),
    ("Recorded", 2),
    ("Published", 2),
];

#[test]
fn an_apply_that_is_killed_leaves_the_old_state_or_the_new_one() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: there are no places to crash at in builds for use");
        return;
    }
    for (crash, expected) in PLACES {
        let place = Place::new();
        write(&place, &["vm1", "vm2"]);
        let mut command = place.daemon_command();
        command.env("HAIRPIN_CRASH_AT", format!("{crash}:2"));
        let mut daemon = Daemon::start(command);
        let file = another(&place, &["vm2", "vm3"]).display().to_string();
        let output = place.client(&format!("apply {file}"));
        assert_eq!(output.status.code(), Some(1), "{crash}: {}", stdout(&output));
        assert_eq!(daemon.ended(), Some(Signal::KILL.as_raw()), "{crash}");

        let daemon = start(&place);
        let (number, names) = (revision(&place), names(&place));
        let states = [vec!["vm1", "vm2"], vec!["vm2", "vm3"]];
        assert_eq!(number, expected, "{crash}");
        assert_eq!(names, states[number as usize - 1], "{crash}");
        // Nothing is left of it that would stand in the way of the next.
        assert!(place.client(&format!("apply {file}")).status.success(), "{crash}");
        let mut left = fs::read_dir(place.state().join("revisions")).unwrap();
        let is_whole = |path: PathBuf| path.extension().is_some_and(|it| it == "toml");
        assert!(left.all(|entry| is_whole(entry.unwrap().path())), "{crash}");
        assert_eq!(daemon.end(Signal::TERM), Some(0));
    }
}
