//! The daemon: `hairpin run` in a namespace of its own, and its command line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::error::{BedError, Result};
use super::namespace::Namespace;

/// How long the daemon may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon's workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// One, on whatever CPU: its TAPs have one queue.
    One,
    /// Two, on CPUs 0 and 1: its TAPs have a queue for each.
    Two,
    /// One, on this CPU.
    On(usize),
}

impl Workers {
    /// As `[switch]` has them.
    fn cpus(self) -> String {
        match self {
            Workers::One => "[]".to_owned(),
            Workers::Two => "[0, 1]".to_owned(),
            Workers::On(cpu) => format!("[{cpu}]"),
        }
    }
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    /// Its own, if it has one.
    namespace: Option<Namespace>,
    /// What stands in its configuration before what a test gives.
    head: String,
    directory: TempDir,
    program: PathBuf,
    child: Child,
    ready: Receiver<()>,
}

impl Daemon {
    /// Starts `hairpin run` with a configuration (without `[switch]`, which the bed
    /// adds, with these workers) and waits for `ready`. TAPs appear in
    /// [`Daemon::namespace`].
    ///
    /// # Errors
    /// If the program is missing or older than its sources, or ends instead; then
    /// with what it said.
    pub fn start(workers: Workers, configuration: &str) -> Result<Daemon> {
        Daemon::start_in(Namespace::new()?, &program()?, workers, configuration)
    }

    /// The same where this process is, for a configuration that touches no network: needs
    /// no root.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_here(workers: Workers, configuration: &str) -> Result<Daemon> {
        Daemon::start_anywhere(None, &program()?, workers, configuration)
    }

    /// The same with a given program, in a given namespace.
    ///
    /// # Errors
    /// If it ends instead of being ready.
    pub fn start_in(
        namespace: Namespace,
        program: &Path,
        workers: Workers,
        configuration: &str,
    ) -> Result<Daemon> {
        Daemon::start_anywhere(Some(namespace), program, workers, configuration)
    }

    fn start_anywhere(
        namespace: Option<Namespace>,
        program: &Path,
        workers: Workers,
        configuration: &str,
    ) -> Result<Daemon> {
        let directory = TempDir::new().map_err(BedError::while_doing("a directory"))?;
        let head = head(directory.path(), workers);
        Daemon::start_at(namespace, program, directory, head, configuration)
    }

    /// The same with a whole configuration, written for the directory that is given: its `api`
    /// is `unix:DIRECTORY/api.sock` there, its `state-dir` `DIRECTORY/state`.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_whole(
        namespace: Namespace,
        configuration: impl FnOnce(&Path) -> String,
    ) -> Result<Daemon> {
        let directory = TempDir::new().map_err(BedError::while_doing("a directory"))?;
        let configuration = configuration(directory.path());
        Daemon::start_at(Some(namespace), &program()?, directory, String::new(), &configuration)
    }

    fn start_at(
        namespace: Option<Namespace>,
        program: &Path,
        directory: TempDir,
        head: String,
        configuration: &str,
    ) -> Result<Daemon> {
        write_configuration(directory.path(), &head, configuration)?;
        let (child, ready) = spawn(namespace.as_ref(), program, directory.path())?;
        let program = program.into();
        let mut daemon = Daemon { namespace, head, directory, program, child, ready };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// The namespace it runs in.
    ///
    /// # Panics
    /// If it has none of its own ([`Daemon::start_here`]).
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().expect("a daemon with a namespace of its own")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// If it is gone.
    pub fn open_descriptors(&self) -> Result<usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        Ok(open.map_err(BedError::while_doing("counting the daemon's descriptors"))?.count())
    }

    /// Runs `hairpin WORDS… --json` on it and reads the answer (null if empty).
    ///
    /// # Errors
    /// If the command is refused, with its standard error; if its answer is no JSON.
    pub fn hairpin(&self, words: &str) -> Result<Value> {
        let output = Command::new(&self.program)
            .args(words.split_whitespace())
            .arg("--json")
            .env("HAIRPIN_API", self.api())
            .output()
            .map_err(BedError::while_doing("running the command line"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(BedError::new(format_args!("{}: {complaint}", output.status)));
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .map_err(|error| BedError::new(format_args!("`{words}`: {error} in {text}")))
    }

    /// One number of `stats --json` for a port or link, such as `/rx_frames`; 0 if it
    /// is not there.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn count(&self, port: &str, pointer: &str) -> Result<u64> {
        let stats = self.hairpin("stats")?;
        let value = stats.pointer(&format!("/ports/{port}{pointer}"));
        Ok(value.and_then(Value::as_u64).unwrap_or(0))
    }

    /// Replaces the configuration file (not yet applied).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn rewrite(&self, configuration: &str) -> Result<()> {
        write_configuration(self.directory.path(), &self.head, configuration)
    }

    /// Has it stand still, all its threads (SIGSTOP), until [`Daemon::go_on`].
    ///
    /// # Errors
    /// If it is gone.
    pub fn stand_still(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has it go on (SIGCONT).
    ///
    /// # Errors
    /// If it is gone.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to apply its file (SIGHUP).
    ///
    /// # Errors
    /// If it is gone.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// The path of its configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("hairpin.toml")
    }

    /// The directory of that file, and of its sockets.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has written to standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it (SIGTERM).
    ///
    /// # Errors
    /// If it does not end, or not with exit code 0.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// Ends it (SIGTERM); what it was started with stays for [`Daemon::start_again`].
    ///
    /// # Errors
    /// If it does not end, or not with exit code 0.
    pub fn end(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        match self.wait_for_end(PATIENCE)? {
            Some(0) => Ok(()),
            Some(code) => {
                let log = self.log();
                Err(BedError::new(format_args!("the daemon ended with {code}:\n{log}")))
            }
            None => Err(BedError::new("the daemon does not end on SIGTERM")),
        }
    }

    /// Kills it (SIGKILL): it has no time to put anything in order.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(BedError::while_doing("killing the daemon"))?;
        self.child.wait().map(drop).map_err(BedError::while_doing("waiting"))
    }

    /// Starts it again after its end: same namespace, file and state-dir, a new log.
    ///
    /// # Errors
    /// If it ends instead of being ready.
    pub fn start_again(&mut self) -> Result<()> {
        (self.child, self.ready) =
            spawn(self.namespace.as_ref(), &self.program, self.directory.path())?;
        self.wait_until_ready()
    }

    /// Where it keeps its state; not there before it has any.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        state_dir(self.directory.path())
    }

    /// Whether it is still running.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn api(&self) -> String {
        api(self.directory.path())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| BedError::new(format_args!("signalling the daemon: {error}")))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let said = self.ready.recv_timeout(PATIENCE);
        said.map_err(|_| {
            let state = match self.child.try_wait() {
                Ok(Some(status)) => format!("ended ({status})"),
                _ => format!("was not ready in {PATIENCE:?}"),
            };
            BedError::new(format_args!("the daemon {state}:\n{}", self.log()))
        })
    }

    /// Its exit code if it ends in time; -1 for an end by signal.
    fn wait_for_end(&mut self, patience: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + patience;
        loop {
            match self.child.try_wait().map_err(BedError::while_doing("waiting"))? {
                Some(status) => return Ok(Some(status.code().unwrap_or(-1))),
                None if Instant::now() > end => return Ok(None),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.signal(Signal::TERM);
        if !matches!(self.wait_for_end(Duration::from_secs(2)), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.log());
        }
    }
}

/// Starts the program; whoever waits on the receiver hears of `ready`, or of its end.
fn spawn(
    namespace: Option<&Namespace>,
    program: &Path,
    directory: &Path,
) -> Result<(Child, Receiver<()>)> {
    let opening = || BedError::while_doing("a log");
    let log = File::create(directory.join("log")).map_err(opening())?;
    let mut copy = log.try_clone().map_err(opening())?;
    // setpriv and ip become the daemon by exec: the process id stays. With the thread that
    // starts it the daemon goes too, so that a killed test leaves none behind.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(namespace) = namespace {
        command.args(["ip", "netns", "exec", namespace.name()]);
    }
    let mut child = command
        .arg(program)
        .args(["run", "--config"])
        .arg(directory.join("hairpin.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(BedError::while_doing("starting the daemon (through setpriv of util-linux)"))?;
    let (sender, ready) = channel();
    let output = child.stdout.take().ok_or_else(|| BedError::new("a daemon without output"))?;
    std::thread::spawn(move || {
        // To the end, lest the daemon's output find no reader.
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let _ = writeln!(copy, "{line}");
            if line.trim() == "ready" {
                let _ = sender.send(());
            }
        }
    });
    Ok((child, ready))
}

fn api(directory: &Path) -> String {
    format!("unix:{}", directory.join("api.sock").display())
}

fn state_dir(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// The `[switch]` of a bed's daemon.
fn head(directory: &Path, workers: Workers) -> String {
    format!(
        "[switch]\nname = \"bed\"\nworkers = {}\napi = \"{}\"\nstate-dir = \"{}\"\n\n",
        workers.cpus(),
        api(directory),
        state_dir(directory).display(),
    )
}

fn write_configuration(directory: &Path, head: &str, configuration: &str) -> Result<()> {
    let file = directory.join("hairpin.toml");
    fs::write(&file, format!("{head}{configuration}"))
        .map_err(BedError::while_doing(format_args!("{}", file.display())))
}

/// The `hairpin` that cargo built along with the running program: in the same
/// directory, or in its parent (tests lie in `deps/`).
///
/// # Errors
/// If there is none, or it is older than a source file of this workspace.
pub fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().map_err(BedError::while_doing("finding this program"))?;
    let places = me.ancestors().skip(1).take(2).map(|place| place.join("hairpin"));
    let program = places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        BedError::new(format_args!(
            "no `hairpin` beside {}: build it with `cargo build` (or, in a release run, \
             `cargo build --release`)",
            me.display()
        ))
    })?;
    let newest = sources(&program)?.iter().map(|path| newest(path)).max();
    if newest.is_some_and(|newest| modified(&program) < newest) {
        return Err(BedError::new(format_args!(
            "{} is older than its sources: build it with `cargo build`",
            program.display()
        )));
    }
    Ok(program)
}

/// What a program was built from, as cargo notes beside it: files, and directories that a
/// build script watches. Blanks in paths are escaped by a backslash.
fn sources(program: &Path) -> Result<Vec<PathBuf>> {
    let notes = program.with_extension("d");
    let text = fs::read_to_string(&notes)
        .map_err(BedError::while_doing(format_args!("{}", notes.display())))?;
    let (_, sources) = text.split_once(": ").unwrap_or_default();
    let sources = sources.trim_end().replace("\\ ", "\0");
    Ok(sources.split(' ').map(|source| source.replace('\0', " ").into()).collect())
}

/// When a file, or the newest below a directory, was written.
fn newest(path: &Path) -> SystemTime {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    below.map(|entry| newest(&entry.path())).fold(modified(path), SystemTime::max)
}

fn modified(path: &Path) -> SystemTime {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.unwrap_or(SystemTime::UNIX_EPOCH)
}
