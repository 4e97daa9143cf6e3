//! The repository keeps its own rules: this reads it and says where it does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hairpin_dataplane::ledger::DropReason;
use hairpin_tests::source::{Source, has_word, rust_files};

/// Lines of a function that fit on a screen.
const FUNCTION_LINES: usize = 70;
/// Lines of a function on a frame's way.
const HOT_FUNCTION_LINES: usize = 40;
/// Columns of a line.
const COLUMNS: usize = 100;

/// Which modules of the dataplane may name which.
const MAY_NAME: [(&str, &[&str]); 8] = [
    ("wire", &[]),
    ("ledger", &[]),
    ("sys", &[]),
    ("frame", &["ledger", "sys", "wire"]),
    ("snapshot", &["ledger", "sys", "wire"]),
    ("relay", &["frame", "ledger", "snapshot", "sys", "wire"]),
    ("port", &["frame", "ledger", "sys", "wire"]),
    ("worker", &["frame", "ledger", "port", "relay", "snapshot", "sys", "wire"]),
];

/// What they may name beyond that, and why.
const EXCEPTIONS: [(&str, &str); 2] = [
    // The snapshot carries the transmitters to the workers, unopened.
    ("snapshot", "port::Attached"),
    // A device bears its number; it is no policy.
    ("port", "snapshot::DeviceId"),
];

/// Devices, clocks and descriptors: not for the relay, which decides only.
const NOT_IN_RELAY: [&str; 10] = [
    "Instant",
    "SystemTime",
    "BorrowedFd",
    "OwnedFd",
    "RawFd",
    "rustix",
    "libc",
    "eventfd",
    "tun",
    "io",
];

/// VLAN policy: not for ports, which move frames.
const NOT_IN_PORT: [&str; 6] =
    ["VlanPolicy", "VlanId", "VidSet", "DomainId", "RelayPort", "Snapshot"];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("this package lies in the repository").to_owned()
}

fn sources() -> Vec<Source> {
    let root = root();
    rust_files(&root).iter().map(|path| Source::read(&root, path)).collect()
}

#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The module path of a file of the dataplane: `["relay", "veb"]`.
fn module(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix("dataplane/src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    (path != "lib").then(|| path.split('/').collect())
}

/// Every path that starts at `crate` or `super`, resolved to start at the crate;
/// braces are multiplied out.
fn paths(code: &str, module: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        if !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            expand(&code[start + "crate::".len()..], &[], &mut found);
        }
    }
    for (start, _) in code.match_indices("super::") {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut rest = &code[start..];
        let mut prefix: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
        while let Some(behind) = rest.strip_prefix("super::") {
            prefix.pop();
            rest = behind;
        }
        expand(rest, &prefix, &mut found);
    }
    found
}

/// Adds the paths that `code` starts with; says how many bytes they took.
fn expand(code: &str, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let name_end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let mut path = prefix.to_vec();
    if name_end > 0 {
        path.push(code[..name_end].to_owned());
    }
    let rest = &code[name_end..];
    if let Some(behind) = rest.strip_prefix("::") {
        return name_end + 2 + expand(behind, &path, found);
    }
    if name_end > 0 || !rest.starts_with('{') {
        found.push(path);
        return name_end;
    }
    let mut at = 1;
    while at < code.len() && !code[at..].starts_with('}') {
        let skipped = code[at..].find(|c: char| !c.is_whitespace() && c != ',').unwrap_or(0);
        at += skipped;
        if !code[at..].starts_with('}') {
            at += expand(&code[at..], prefix, found).max(1);
        }
    }
    at + 1
}

#[test]
fn paths_in_braces_are_multiplied_out() {
    let code = "use crate::{a::{self, b::C}, d}; let x = super::super::e::F; use super::g;";
    let found: BTreeSet<String> =
        paths(code, &["m", "n"]).into_iter().map(|path| path.join("::")).collect();
    let expected = ["a::b::C", "a::self", "d", "e::F", "m::g"].map(str::to_owned);
    assert_eq!(found, expected.into());
}

#[test]
fn dependencies_in_the_dataplane_go_one_way() {
    let mut found = Vec::new();
    for source in sources() {
        let Some(module) = module(&source.path) else { continue };
        let layer = MAY_NAME.iter().find(|(name, _)| *name == module[0]);
        let Some((layer, may_name)) = layer else {
            found.push(format!("{}: no layer is called `{}`", source.path, module[0]));
            continue;
        };
        for path in paths(&source.shipped, &module) {
            let target = path.first().map_or("", String::as_str);
            let known = MAY_NAME.iter().any(|(name, _)| *name == target);
            let excepted = EXCEPTIONS
                .iter()
                .any(|(from, exception)| from == layer && path.join("::").starts_with(exception));
            if known && target != *layer && !may_name.contains(&target) && !excepted {
                found.push(format!("{}: {}", source.path, path.join("::")));
            }
        }
    }
    assert_none(&found, "wire ← snapshot ← relay ← worker, sys ← frame ← port ← worker");
}

#[test]
fn the_relay_names_no_device_and_ports_name_no_policy() {
    let mut found = Vec::new();
    for source in sources() {
        let banned: &[&str] = match module(&source.path).as_deref() {
            Some(["relay", ..]) => &NOT_IN_RELAY,
            Some(["port", ..]) => &NOT_IN_PORT,
            _ => &[],
        };
        let words = banned.iter().filter(|word| has_word(&source.shipped, word));
        found.extend(words.map(|word| format!("{}: {word}", source.path)));
    }
    assert_none(&found, "relay: no device, clock or descriptor; port: no VLAN policy");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let outside = |source: &&Source| !source.path.starts_with("dataplane/src/sys/");
    let found: Vec<String> = sources()
        .iter()
        .filter(outside)
        .filter(|source| source.has_word("unsafe"))
        .map(|source| source.path.clone())
        .collect();
    assert_none(&found, "unsafe code lies in dataplane/src/sys");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for source in sources() {
        let hot = ["dataplane/src/relay/", "dataplane/src/worker/"];
        let limit = match hot.iter().any(|folder| source.path.starts_with(folder)) {
            true => HOT_FUNCTION_LINES,
            false => FUNCTION_LINES,
        };
        let long = source.functions().into_iter().filter(|(_, _, lines)| *lines > limit);
        found.extend(long.map(|(name, line, lines)| {
            format!("{}:{line}: `{name}` has {lines} lines, {limit} fit", source.path)
        }));
    }
    assert_none(&found, "a function fits on a screen");
}

#[test]
fn lines_fit_in_a_hundred_columns() {
    let mut found = Vec::new();
    for source in sources() {
        let wide = source.columns().filter(|(_, width)| *width > COLUMNS);
        found.extend(wide.map(|(line, width)| format!("{}:{line}: {width}", source.path)));
    }
    assert_none(&found, "a line has at most 100 columns beside quoted text");
}

#[test]
fn nothing_is_left_for_later() {
    let notes = ["TODO", "FIXME", "XXX"];
    let calls = ["dbg!", "todo!", "unimplemented!"];
    let mut found = Vec::new();
    for source in sources() {
        if source.path == "tests/tests/tidy.rs" {
            continue;
        }
        let noted = notes.iter().filter(|word| has_word(&source.text, word));
        let called = calls.iter().filter(|call| source.code.contains(*call));
        let named = ["utils"].iter().filter(|word| {
            source.has_word(word) || source.path.split(['/', '.']).any(|part| part == **word)
        });
        let words = noted.chain(called).chain(named);
        found.extend(words.map(|word| format!("{}: {word}", source.path)));
    }
    assert_none(&found, "what is not done belongs in an issue, what has no subject in no file");
}

#[test]
fn the_top_level_is_the_list_of_the_design() {
    let required = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "control",
        "dataplane",
        "proto",
        "tests",
    ];
    let optional = ["fuzz", "target"];
    let present: BTreeSet<String> = fs::read_dir(root())
        .expect("the repository is readable")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !optional.contains(&name.as_str()))
        .collect();
    assert_eq!(present, required.map(str::to_owned).into());
}

/// The workspace's dependencies on others' crates.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let table = manifest.split("[workspace.dependencies]").nth(1).expect("a table of them");
    table
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.contains("path ="))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a document");
    let mut found = dependencies();
    found.retain(|name| !reasons.contains(&format!("`{name}`")));
    assert_none(&found, "ARCHITECTURE.md says what each dependency is for");
}

#[test]
fn every_dependency_is_some_crate_s() {
    let members = ["benches", "control", "dataplane", "proto", "tests"];
    let manifests = members.map(|member| {
        fs::read_to_string(root().join(member).join("Cargo.toml")).expect("a member's manifest")
    });
    let uses = |name: &String, line: &str| {
        let behind = line.strip_prefix(name.as_str());
        behind.is_some_and(|behind| behind.starts_with(['.', ' ']))
    };
    let mut found = dependencies();
    found.retain(|name| !manifests.iter().any(|text| text.lines().any(|line| uses(name, line))));
    assert_none(&found, "a pinned crate is used");
}

#[test]
fn every_drop_reason_is_named_in_a_test() {
    let tests: Vec<String> = sources()
        .iter()
        .filter(|source| source.path != "tests/tests/tidy.rs")
        .map(test_code)
        .collect();
    let named = |reason: &DropReason| {
        let variant = format!("{reason:?}");
        tests.iter().any(|test| has_word(test, &variant))
    };
    let missing: Vec<String> = DropReason::ALL
        .iter()
        .filter(|reason| !named(reason))
        .map(|reason| reason.to_string())
        .collect();
    assert_none(&missing, "each reason is expected in some test");
}

/// The lines of a source's code that are compiled for tests only.
fn test_code(source: &Source) -> String {
    let is_test = source.path.split('/').nth(1) == Some("tests");
    if is_test || source.shipped.is_empty() {
        return source.code.clone();
    }
    let lines = source.code.lines().zip(source.shipped.lines());
    lines.filter(|(code, shipped)| code != shipped).map(|(code, _)| format!("{code}\n")).collect()
}
