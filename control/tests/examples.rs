//! The examples: each is right, also by the schema (`dist/hairpin.schema.json`), and
//! together they show every key that there is. Of those for
//! VMMs, `.ci/run` checks libvirt's, and the tests of guests run QEMU's.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloud_hypervisor_client::models::VmConfig;
use hairpin::config::{self, DeviceConfig};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// A key that nothing knows, in every kind of table: whoever refuses it names those that it
/// knows. Kinds of device are told apart by the tables in which they stand.
const EVERY_TABLE: &str = r#"
nothing = 1
[switch]
nothing = 1
fdb = { nothing = 1 }
[[link]]
name = "up0"
nothing = 1
device = { tap = { nothing = 1 } }
[[link]]
name = "up1"
device = { packet = { nothing = 1 } }
[[link]]
name = "up2"
device = { xdp = { nothing = 1 } }
[[channel]]
nothing = 1
[[bridge]]
nothing = 1
members = [{ nothing = 1 }]
[[port]]
nothing = 1
device = { vhost-user = { nothing = 1 } }
vlan = { nothing = 1 }
[[port-template]]
nothing = 1
vlan = { nothing = 1 }
[[mirror]]
nothing = 1
"#;
/// The tables in it, line by line, which is how they are refused, as paths of keys.
const TABLES: [&str; 16] = [
    "",
    "switch",
    "switch.fdb",
    "link",
    "link.device.tap",
    "link.device.packet",
    "link.device.xdp",
    "channel",
    "bridge",
    "bridge.members",
    "port",
    "port.device.vhost-user",
    "port.vlan",
    "port-template",
    "port-template.vlan",
    "mirror",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn examples() -> Vec<PathBuf> {
    let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    examples
}

/// Every key that the configuration knows, by its path. A device is a link's as well as a
/// port's: its keys are counted as `device.…`.
fn known() -> BTreeSet<String> {
    let refusals = config::parse(EVERY_TABLE).unwrap_err().to_string();
    let lists: Vec<&str> =
        refusals.lines().filter_map(|line| Some(line.split_once("known keys are ")?.1)).collect();
    assert_eq!(lists.len(), TABLES.len(), "{refusals}");
    let keys = TABLES
        .into_iter()
        .zip(lists)
        .flat_map(|(table, list)| list.split(", ").map(move |key| path(table, key)));
    keys.collect()
}

/// A key's path.
fn path(table: &str, key: &str) -> String {
    let path = format!("{table}.{key}");
    let path = path.trim_start_matches('.');
    let device = path.find("device.").map(|at| &path[at..]);
    device.unwrap_or(path).to_owned()
}

/// Adds the paths of all keys of a table, and of the tables in it.
fn collect(table: &DeTable<'_>, at: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = path(at, key.get_ref());
        collect_value(value.get_ref(), &path, found);
        found.insert(path);
    }
}

fn collect_value(value: &DeValue<'_>, at: &str, found: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(table) => collect(table, at, found),
        DeValue::Array(items) => items.iter().for_each(|it| collect_value(it.get_ref(), at, found)),
        _ => {}
    }
}

#[test]
fn every_example_is_right() {
    for example in examples() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hairpin"));
        let output = command.arg("check").arg(&example).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", example.display());
        assert_eq!(config::load(&example).unwrap().switch().name, "host1", "{example:?}");
    }
}

#[test]
fn every_key_is_in_an_example() {
    let mut shown = BTreeSet::new();
    for example in examples() {
        let text = fs::read_to_string(&example).unwrap();
        collect(DeTable::parse(&text).unwrap().get_ref(), "", &mut shown);
    }
    let known = known();
    let keys = ["switch.fdb.ageing", "device.xdp.mode", "bridge.members.reflected-group-rate"];
    assert!(keys.iter().all(|&key| known.contains(key)), "{known:#?}");
    let missing: Vec<&String> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "in no example: {missing:?}");
}

fn cloud_hypervisor() -> String {
    fs::read_to_string(directory().join("cloud-hypervisor.json")).unwrap()
}

#[test]
fn cloud_hypervisor_s_keeps_to_the_schema_of_its_api() {
    let given: Value = serde_json::from_str(&cloud_hypervisor()).unwrap();
    let understood: VmConfig = serde_json::from_value(given.clone()).unwrap();
    // A key that the schema does not have would be missing here, and a default of it there.
    assert_eq!(serde_json::to_value(understood).unwrap(), given);
}

#[test]
fn cloud_hypervisor_s_is_for_the_first_port_of_qemu_s() {
    let shown: VmConfig = serde_json::from_str(&cloud_hypervisor()).unwrap();
    let [card] = &shown.net.unwrap()[..] else { panic!("one network card") };
    let desired = config::load(&directory().join("qemu.toml")).unwrap();
    let port = &desired.config().ports[0];
    let DeviceConfig::VhostUser(device) = &port.device.value else { panic!("{port:?}") };
    assert_eq!(card.vhost_socket.as_ref().map(Path::new), Some(&*device.socket));
    assert_eq!(card.num_queues, Some(2 * i32::from(device.queues)));
    assert_eq!(shown.memory.unwrap().shared, Some(true));
}

fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/hairpin.schema.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What the schema has against a configuration.
fn objections(schema: &jsonschema::Validator, text: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(text).unwrap();
    let instance = serde_json::to_value(table).unwrap();
    schema.iter_errors(&instance).map(|it| format!("{}: {it}", it.instance_path())).collect()
}

#[test]
fn every_example_keeps_to_the_schema() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for example in examples() {
        let text = fs::read_to_string(&example).unwrap();
        assert_eq!(objections(&schema, &text), Vec::<String>::new(), "{example:?}");
    }
}

/// Adds the paths of all keys that a part of the schema knows.
fn keys_of(schema: &Value, part: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(reference) = part["$ref"].as_str() {
        let definition = schema.pointer(reference.trim_start_matches('#')).unwrap();
        return keys_of(schema, definition, at, found);
    }
    if let Some(items) = part.get("items") {
        keys_of(schema, items, at, found);
    }
    for (key, inner) in part["properties"].as_object().into_iter().flatten() {
        let path = path(at, key);
        keys_of(schema, inner, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_schema_knows_the_keys_that_the_reader_knows() {
    let (schema, mut keys) = (schema(), BTreeSet::new());
    keys_of(&schema, &schema, "", &mut keys);
    // The reader names kinds of device in another way.
    let kinds = ["device.packet", "device.tap", "device.vhost-user", "device.xdp"];
    assert!(kinds.iter().all(|&kind| keys.remove(kind)), "{keys:#?}");
    assert_eq!(keys, known());
}

/// What is put in place of something in a configuration that is right, and wrong there.
const WRONG: [(&str, &str); 38] = [
    ("name = \"host1\"", "name = \"-host1\""),
    ("name = \"host1\"", "nmae = \"host1\""),
    ("workers = [1]", "workers = [1, 1]"),
    ("workers = [1]", "workers = [1024]"),
    ("workers = [1]", "poll = \"often\""),
    ("workers = [1]", "api = \"/run/api.sock\""),
    ("workers = [1]", "metrics = \"0.0.0.0:9750\""),
    ("workers = [1]", "metrics = \"127.0.0.1:0\""),
    ("workers = [1]", "metrics = \"localhost:9750\""),
    ("workers = [1]", "state-dir = \"state\""),
    ("workers = [1]", "fdb = { capacity = 63 }"),
    ("workers = [1]", "fdb = { ageing = \"300\" }"),
    ("role = \"station\"", "role = \"switch\""),
    ("role = \"station\"", "mtu = 1500"),
    ("role = \"station\"", "role = \"station\"\nmtu = 67"),
    ("interface = \"eth1\"", "interface = \"an-interface-of-20\""),
    ("interface = \"eth1\"", "interface = \"eth1\", mode = \"fast\""),
    ("xdp = { interface = \"eth1\" }", "vhost-user = { socket = \"/run/s\", role = \"client\" }"),
    ("xdp = { interface = \"eth1\" }", "memory = {}"),
    ("xdp = { interface = \"eth1\" }", "xdp = { interface = \"e\" }, tap = { interface = \"t\" }"),
    ("svid = 100", "svid = 1"),
    ("channel = \"up0\"", ""),
    ("channel = \"up0\"", "channel = \"up0\"\nbridge = \"br0\""),
    ("mode = \"veb\"", ""),
    ("mode = \"veb\"", "mode = \"bridge\""),
    ("mac = \"52:54:00:00:00:01\"", "mac = \"53:54:00:00:00:01\""),
    ("mac = \"52:54:00:00:00:01\"", "mac = []"),
    ("access = 10", "access = 4095"),
    ("access = 10", "access = 10, native = 10"),
    ("access = 10", "trunk = []"),
    ("role = \"server\"", "role = \"client\""),
    ("queues = 4", "queues = 17"),
    ("socket-mode = \"0660\"", "socket-mode = \"660 \""),
    ("reflective-relay = \"on\"", "reflective-relay = \"off\""),
    ("from = [\"vm1\"]", ""),
    ("from = [\"vm1\"]", "from = [\"vm 1\"]"),
    ("from = [\"vm1\"]", "from = [\"vm1\"]\nframes = \"all\""),
    ("mirror = \"ids\"", "mirror = \"ids\"\nmode = \"veb\""),
];

/// One of everything, and right.
const RIGHT: &str = r#"
[switch]
name = "host1"
workers = [1]
[[link]]
name = "up0"
role = "station"
device = { xdp = { interface = "eth1" } }
[[link]]
name = "sbp0"
role = "bridge"
[[channel]]
name = "blue"
link = "sbp0"
svid = 100
[[bridge]]
name = "br0"
members = [{ link = "sbp0", reflective-relay = "on", reflected-group-rate = 10 }]
[[port]]
name = "vm1"
channel = "up0"
mode = "veb"
mac = "52:54:00:00:00:01"
vlan = { access = 10 }
[port.device.vhost-user]
socket = "/run/hairpin/vm1.sock"
role = "server"
queues = 4
owner = 107
group = "kvm"
socket-mode = "0660"
[[mirror]]
name = "ids"
from = ["vm1"]
[[port]]
name = "probe"
mirror = "ids"
device = { tap = { interface = "probe0" } }
"#;

#[test]
fn what_is_wrong_by_itself_is_wrong_for_the_reader_and_by_the_schema() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    config::parse(RIGHT).unwrap();
    assert_eq!(objections(&schema, RIGHT), Vec::<String>::new());
    for (right, wrong) in WRONG {
        assert!(RIGHT.contains(right), "{right}");
        let text = RIGHT.replacen(right, wrong, 1);
        assert!(config::parse(&text).is_err(), "the reader takes {wrong}");
        assert!(!objections(&schema, &text).is_empty(), "the schema takes {wrong}");
    }
}
