//! Completions and manual pages, which are made of the command line itself.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use daemon::{HAIRPIN, stderr, stdout};
use tempfile::TempDir;

fn hairpin(words: &[&str]) -> Output {
    let output = Command::new(HAIRPIN).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    output
}

/// The commands that `hairpin WORDS --help` lists.
fn commands(words: &[&str]) -> BTreeSet<String> {
    let help = stdout(&hairpin(&[words, &["--help"]].concat()));
    let Some((_, list)) = help.split_once("Commands:\n") else { return BTreeSet::new() };
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let name = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    lines.filter(|line| !line.starts_with("   ")).map(name).collect()
}

#[test]
fn bash_takes_its_script_and_completes_by_it() {
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("hairpin.bash");
    fs::write(&script, hairpin(&["completions", "bash"]).stdout).unwrap();
    let complete = |words: &str, last: usize| {
        let typed = format!(
            "set -u; source '{}'; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _hairpin hairpin \"${{COMP_WORDS[{last}]}}\" x; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &typed]).output().unwrap();
        assert_eq!(stderr(&output), "", "{words}");
        stdout(&output).trim().to_owned()
    };
    assert_eq!(complete("hairpin sta", 1), "stats");
    assert_eq!(complete("hairpin port sh", 2), "show");
    let all = complete("hairpin ''", 1);
    let missing: Vec<String> =
        commands(&[]).into_iter().filter(|it| !all.split(' ').any(|word| word == it)).collect();
    assert!(missing.is_empty(), "{missing:?} in {all}");
}

#[test]
fn other_shells_scripts_know_all_commands() {
    for shell in ["zsh", "fish"] {
        let script = stdout(&hairpin(&["completions", shell]));
        for command in commands(&[]) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
    let output = Command::new(HAIRPIN).args(["completions", "csh"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = TempDir::new().unwrap();
    let pages = directory.path().join("man/man1");
    let written = hairpin(&["man", pages.to_str().unwrap(), "--json"]);
    let written: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    let mut expected = BTreeSet::from(["hairpin.1".to_owned()]);
    for command in commands(&[]) {
        expected.insert(format!("hairpin-{command}.1"));
        let inner = commands(&[&command]);
        expected.extend(inner.iter().map(|it| format!("hairpin-{command}-{it}.1")));
    }
    assert!(expected.contains("hairpin-port-set.1"), "{expected:?}");
    let files = fs::read_dir(&pages).unwrap();
    let found: BTreeSet<String> =
        files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
    assert_eq!(written["pages"].as_array().unwrap().len(), expected.len());
    for page in found {
        let text = fs::read_to_string(pages.join(&page)).unwrap();
        for part in [".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH \"EXIT STATUS\"\n"] {
            assert!(text.contains(part), "{page} has no {part}: {text}");
        }
    }
    let text = fs::read_to_string(pages.join("hairpin.1")).unwrap();
    for command in commands(&[]) {
        assert!(
            text.contains(&format!("hairpin\\-{}(1)", command.replace('-', "\\-"))),
            "{command}"
        );
    }
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let output = Command::new(HAIRPIN).args(["man", "/proc/nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("/proc/nothing: write into a directory"), "{said}");
}
