//! A machine whose first process is systemd, for what a service is there: the programs of
//! this one, and otherwise only what a test puts into it. `tests/machine/boot` makes it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::command::run;
use super::daemon::program;
use super::error::{BedError, Result};
use super::namespace::Namespace;
use super::root::skip;
use super::wait::eventually;

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// File systems of the kernel that it is made of.
const FILE_SYSTEMS: [&str; 2] = ["overlay", "cgroup2"];
/// Where programs are in it.
const PROGRAMS: &str = "usr/bin";

/// A running machine, with our program as /usr/bin/hairpin; dropping it ends it and all that
/// runs in it.
#[derive(Debug)]
pub struct Machine {
    namespace: Namespace,
    directory: TempDir,
    child: Child,
    /// That of systemd.
    pid: u32,
}

impl Machine {
    /// Whether one can be had on this machine; if not, a test that asks is skipped, which
    /// is said with the reason on standard error.
    ///
    /// # Panics
    /// If not, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
    #[must_use]
    pub fn can_be_had() -> bool {
        let Some(lacking) = lacking() else { return true };
        skip(&lacking);
        false
    }

    /// Boots one with these files of its /etc, by their paths below that.
    ///
    /// # Errors
    /// If it does not boot; then with what it said.
    pub fn boot(files: &[(&str, &str)]) -> Result<Machine> {
        let namespace = Namespace::new()?;
        let directory = TempDir::new().map_err(BedError::while_doing("a directory"))?;
        furnish(directory.path(), files)?;
        let (child, pid) = spawn(&namespace, directory.path())?;
        let machine = Machine { namespace, directory, child, pid };
        let up = || machine.run("systemctl is-system-running").is_ok_and(|it| it == "running\n");
        eventually("a machine that runs", up)
            .map_err(|error| machine.complaint(&error.to_string()))?;
        Ok(machine)
    }

    /// Its network, in which its daemon's TAPs appear.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Runs a program in it as root, with arguments separated by blanks.
    ///
    /// # Errors
    /// If the program fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let pid = self.pid.to_string();
        let mut words = vec!["nsenter", "--target", &pid, "--all"];
        words.extend(line.split_whitespace());
        run(&words)
    }

    /// Runs `hairpin WORDS… --json` in it and reads the answer.
    ///
    /// # Errors
    /// If the command is refused, with its standard error; if its answer is no JSON.
    pub fn hairpin(&self, words: &str) -> Result<Value> {
        let text = self.run(&format!("hairpin {words} --json"))?;
        serde_json::from_str(&text)
            .map_err(|error| BedError::new(format_args!("`{words}`: {error} in {text}")))
    }

    /// Where one of its files is, seen from this machine: its path, without the slash that
    /// it begins with.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join("root").join(inside)
    }

    /// What a unit has written, and systemd of it.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        let said = self.run(&format!("journalctl --no-pager --output=cat --unit={unit}"));
        said.unwrap_or_else(|error| error.to_string())
    }

    fn complaint(&self, what: &str) -> BedError {
        let log = log(self.directory.path());
        let failed = self.run("systemctl --failed --no-pager").unwrap_or_default();
        BedError::new(format_args!("{what}:\n{log}{failed}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine said:\n{}", self.journal("hairpin"));
        }
        // Its standard input ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Boots what lies in a directory; the process id of its systemd.
fn spawn(namespace: &Namespace, place: &Path) -> Result<(Child, u32)> {
    let log_file = File::create(place.join("log")).map_err(BedError::while_doing("a log"))?;
    // Without a writer to its standard input, as after an error here, it ends.
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace.name()])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/boot"))
        .arg(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(BedError::while_doing("booting a machine"))?;
    let mut said = String::new();
    let output = child.stdout.take().ok_or_else(|| BedError::new("a machine without output"))?;
    BufReader::new(output)
        .read_line(&mut said)
        .map_err(BedError::while_doing("booting a machine"))?;
    let pid = said.trim().parse();
    let pid = pid.map_err(|_| BedError::new(format_args!("no machine:\n{}", log(place))))?;
    Ok((child, pid))
}

/// What the script has said, and systemd before it had a journal.
fn log(place: &Path) -> String {
    fs::read_to_string(place.join("log")).unwrap_or_default()
}

/// What this machine has not.
fn lacking() -> Option<String> {
    if !Path::new(SYSTEMD).exists() {
        return Some(format!("no {SYSTEMD} (Debian package systemd)"));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let unknown = FILE_SYSTEMS.iter().find(|name| !known.contains(*name))?;
    Some(format!("this kernel has no {unknown}"))
}

/// Lays into a directory what is to be in the machine.
fn furnish(place: &Path, files: &[(&str, &str)]) -> Result<()> {
    let writing = |path: &Path| BedError::while_doing(path.display().to_string());
    let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    let target = place.join(PROGRAMS).join("hairpin");
    fs::create_dir_all(place.join(PROGRAMS)).map_err(writing(place))?;
    fs::copy(program()?, &target).map_err(writing(&target))?;
    for path in [place.join("usr"), place.join(PROGRAMS), target] {
        mode(&path).map_err(writing(&path))?;
    }
    let always = [
        // As what it boots, and as who it is.
        ("systemd/system/default.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\n"),
        ("machine-id", "11111111111111111111111111111111\n"),
    ];
    for (path, text) in always.iter().chain(files) {
        let path = place.join("etc").join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(writing(&path))?;
        }
        fs::write(&path, text).map_err(writing(&path))?;
    }
    Ok(())
}
