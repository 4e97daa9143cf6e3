//! The README's session with the daemon, run as it is shown.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use daemon::{HAIRPIN, PATIENCE};
use hairpin_dataplane::wire::Mac;
use means::has_means;
use tempfile::TempDir;

/// Ends the output of each command.
const MARK: &str = "-- that was it --";

/// A command of the session, over several lines if need be, and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    output: Vec<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What stands between the fences of the section on the daemon.
fn session() -> Vec<Step> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## The daemon\n").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        if let Some(command) = line.strip_prefix("# ") {
            steps.push(Step { command: command.to_owned(), output: Vec::new() });
            continue;
        }
        let step = steps.last_mut().unwrap();
        match line.strip_prefix("> ") {
            Some(more) => step.command = format!("{}\n{more}", step.command),
            None => step.output.push(line.to_owned()),
        }
    }
    steps
}

/// A root's shell whose network, `/run` and processes are its own; all of it goes
/// when it ends.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    directory: TempDir,
}

impl Shell {
    fn start() -> Shell {
        let directory = TempDir::new().unwrap();
        let programs = Path::new(HAIRPIN).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let own = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut child = Command::new("unshare")
            .args(own)
            .args([
                "sh",
                "-c",
                "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && exec bash",
            ])
            .current_dir(repository())
            .env("PATH", format!("{programs}:{path}"))
            .env_remove("HAIRPIN_API")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Whoever no longer listens has failed already.
                let _ = sender.send(line);
            }
        });
        Shell { child, input, output, directory }
    }

    fn type_in(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// What is printed until a line.
    fn read_until(&self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.output.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
                panic!("no {last:?} after {lines:#?}; on standard error:\n{log}")
            });
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    /// Runs a command and says what it printed.
    fn run(&mut self, command: &str) -> Vec<String> {
        self.type_in(command);
        self.type_in(&format!("echo '{MARK}'"));
        self.read_until(MARK)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // With the first process of its namespace all others go.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line with the same address in place of each.
fn without_addresses(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.parse::<Mac>() {
        Ok(_) => Mac::ZERO.to_string(),
        Err(_) => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Of what is shown, what is the same each time: all of the list of ports and of what
/// becomes of a frame, of other tables the titles, of ping what came back.
fn lasting(command: &str, output: &[String]) -> Vec<String> {
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    match command {
        "hairpin port list" => output.to_vec(),
        why if why.starts_with("hairpin why ") => {
            // When an address was used is another time each time.
            let lines = output.iter().filter(|line| !line.is_empty() && !line.contains(", used "));
            lines.map(|line| without_addresses(line)).collect()
        }
        ping if ping.contains(" ping ") => {
            let counts = |line: &String| line.split(", time").next().unwrap().to_owned();
            output.iter().filter(|line| line.contains("transmitted")).map(counts).collect()
        }
        _ => output.iter().take(1).map(words).collect(),
    }
}

#[test]
fn the_readmes_session_with_the_daemon_is_true() {
    if !has_means("the_readmes_session_with_the_daemon_is_true") {
        return;
    }
    let steps = session();
    let told = |word: &str| steps.iter().filter(|step| step.command.contains(word)).count();
    let words = [" ping ", "port list", "hairpin fdb", "port set", "drops", "stats", "why"];
    assert_eq!(words.map(told), [2, 1, 1, 1, 1, 1, 1], "{steps:#?}");
    let mut shell = Shell::start();
    for Step { command, output } in &steps {
        if command.ends_with('&') {
            shell.type_in(command);
            for line in output {
                shell.read_until(line);
            }
            continue;
        }
        let printed = shell.run(command);
        assert_eq!(lasting(command, &printed), lasting(command, output), "{command}: {printed:#?}");
    }
    assert_eq!(shell.run("kill %1; wait %1; echo $?"), ["0"]);
}
