//! Which function of this repository an instruction comes from, inlined or not: what addr2line
//! (binutils, which the linker is of, too) reads in a program's line tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::error::{Context, Result, RigError};

/// The repository that this program and those it counts were built from.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../");

/// Addresses on one command line: far fewer than fit.
const AT_ONCE: usize = 8192;

/// Functions of ours, by object and address.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<String, BTreeMap<u64, String>>);

impl Places {
    /// Looks up addresses of a program. Its libraries are others'.
    ///
    /// # Errors
    /// If addr2line is missing or fails, or the program has no line tables of our files.
    pub fn of(program: &Path, addresses: &BTreeMap<String, BTreeSet<u64>>) -> Result<Self> {
        let object = program.display().to_string();
        let found = match addresses.get(&object) {
            Some(addresses) => parse(&addr2line(program, addresses)?, &root()),
            None => BTreeMap::new(),
        };
        if found.is_empty() {
            return Err(RigError::new(format!(
                "{object}: no line of it is of a file below {}; build it there, with line tables",
                root()
            )));
        }
        Ok(Self([(object, found)].into()))
    }

    /// The function of ours that the instruction at an address comes from, and its file.
    #[must_use]
    pub fn at(&self, object: &str, address: u64) -> Option<&str> {
        self.0.get(object)?.get(&address).map(String::as_str)
    }

    /// Places as a test has them.
    #[cfg(test)]
    pub fn made<'p>(object: &str, places: impl IntoIterator<Item = (u64, &'p str)>) -> Self {
        let places = places.into_iter().map(|(address, name)| (address, name.to_owned()));
        Self([(object.to_owned(), places.collect())].into())
    }
}

/// The repository's root as paths in line tables begin.
fn root() -> String {
    normal(ROOT)
}

fn addr2line(program: &Path, addresses: &BTreeSet<u64>) -> Result<String> {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("{address:#x}")).collect();
    let mut answer = String::new();
    for some in addresses.chunks(AT_ONCE) {
        let mut command = Command::new("addr2line");
        command.args(["--addresses", "--functions", "--inlines", "--demangle", "--exe"]);
        command.arg(program).args(some);
        let output = command.output().context("running addr2line (the Debian package binutils)")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(RigError::new(format!("addr2line: {}: {said}", output.status)));
        }
        answer.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(answer)
}

/// Of each address, the innermost function that lies below `root`. addr2line's answer is the
/// address, and from the innermost outwards a function's name and a line of it.
fn parse(answer: &str, root: &str) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let mut address = None;
    let mut lines = answer.lines();
    while let Some(line) = lines.next() {
        if let Some(digits) = line.strip_prefix("0x") {
            address = u64::from_str_radix(digits, 16).ok();
            continue;
        }
        let Some(position) = lines.next() else { break };
        let file = normal(position.rsplit_once(':').map_or(position, |(file, _)| file));
        if let (Some(address), Some(file)) = (address, file.strip_prefix(root)) {
            let name = || format!("{} ({file})", short(line));
            found.entry(address).or_insert_with(name);
        }
    }
    found
}

/// A path without `..` and doubled slashes.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            "" if !parts.is_empty() && !path.ends_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The last part of a function's path, without types: symbols have all of it, functions that were
/// inlined only that.
fn short(name: &str) -> String {
    let (mut depth, mut last) = (0_u32, String::new());
    let arrows = name.replace("->", "");
    for character in arrows.chars() {
        match character {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => last.clear(),
            _ if depth == 0 => last.push(character),
            _ => {}
        }
    }
    if last.starts_with("{closure") || last.starts_with("{{closure") {
        return "a closure".to_owned();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_function_of_ours_is_taken() {
        let answer = "\
0x0000000000000010
next<u8>
/rustc/5980/library/core/src/slice/iter.rs:3
take
/here/dataplane/examples/../src/frame.rs:44
hairpin_dataplane::worker::Worker::breathe
/here/dataplane/src/worker/mod.rs:9 (discriminator 4)
0x0000000000000014
??
??:0
0x0000000000000018
core::ops::call
/rustc/5980/library/core/src/ops.rs:3
";
        let found = parse(answer, "/here/");
        assert_eq!(found, [(0x10, "take (dataplane/src/frame.rs)".to_owned())].into());
        assert_eq!(parse(answer, "/elsewhere/"), BTreeMap::new());
    }

    #[test]
    fn names_are_short_whoever_gives_them() {
        for (name, expected) in [
            ("turn", "turn"),
            ("hairpin_dataplane::worker::serve::Bench::turn", "turn"),
            ("<alloc::vec::Vec<T,A> as core::iter::Extend<T>>::extend", "extend"),
            ("visit<fn(u8) -> alloc::vec::Vec<u8>, u8>", "visit"),
            ("hairpin_dataplane::sys::published::Reader<T>::renew", "renew"),
            ("{closure#0}<core::option::Option<u8>>", "a closure"),
            ("alloc::vec::Vec<T,A>::retain::{{closure}}", "a closure"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(normal("/here/benches/../"), "/here/");
        assert_eq!(normal("/here/a/./../b//c.rs"), "/here/b/c.rs");
    }
}
