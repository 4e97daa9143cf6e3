//! A child process that is read line by line, can be paused, and never outlives the rig.

use crate::error::{Context, Result, RigError};
use crate::{interrupt, load};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setpriority_process, waitpid};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines kept from a child's beginning: what it says about itself while starting.
const HEAD: usize = 400;
/// Lines kept from its end: why it died.
const TAIL: usize = 15;
/// How long a child may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(1);
/// How far the reader of a child's standard error may lag behind that of its output.
const LAG: Duration = Duration::from_secs(1);

/// A line a child wrote, and when it reached us.
#[derive(Clone, Debug)]
pub struct Line {
    /// The moment it was read.
    pub at: Instant,
    /// The line without its end.
    pub text: String,
}

/// What a child has written so far: its first and its last lines.
#[derive(Debug, Default)]
struct Log {
    head: Vec<String>,
    tail: VecDeque<String>,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    log: Arc<Mutex<Log>>,
    ticks_when_paused: Option<u64>,
}

impl Process {
    /// Starts `program`; `name` is how errors call it.
    pub fn spawn<A: AsRef<OsStr>>(
        name: &str,
        program: &str,
        arguments: &[A],
        environment: &[(&str, &OsStr)],
    ) -> Result<Self> {
        // setpriv: even if the rig is killed outright, the kernel kills the child. stdbuf: a line
        // into a pipe must not wait for a full buffer. Both exec, so the pid stays the child's.
        // A process group of its own keeps the terminal's Ctrl-C for the rig alone.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "stdbuf", "-oL", program])
            .args(arguments)
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(format_args!("starting {name} (through setpriv of util-linux)"))?;
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(Log::default()));
        if let Some(stream) = child.stdout.take() {
            listen(stream, sender.clone(), Arc::clone(&log));
        }
        if let Some(stream) = child.stderr.take() {
            listen(stream, sender, Arc::clone(&log));
        }
        let pid = Pid::from_child(&child);
        let input = child.stdin.take();
        Ok(Self { name: name.into(), child, pid, input, lines, log, ticks_when_paused: None })
    }

    /// Writes `text` to the child's standard input.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Err(RigError::new(format!("{} has no standard input", self.name)));
        };
        let result = input.write_all(text.as_bytes()).and_then(|()| input.flush());
        result.map_err(|error| self.failed(&format!("does not listen ({error})")))
    }

    /// Reads lines up to and including the first that `last` accepts.
    pub fn read_until(&self, timeout: Duration, last: impl Fn(&str) -> bool) -> Result<Vec<Line>> {
        let end = Instant::now() + timeout;
        let mut lines = Vec::new();
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(interrupt::SLICE) {
                Ok(line) => {
                    let found = last(&line.text);
                    lines.push(line);
                    if found {
                        return Ok(lines);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.failed("ended")),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.failed("does not answer")),
            }
        }
    }

    /// The first line among what the child wrote while starting that `wanted` accepts.
    ///
    /// Waits a little: standard error has a reader of its own, which may lag behind.
    pub fn find_in_log(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + LAG;
        loop {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let found = log.head.iter().find(|line| wanted(line)).cloned();
            drop(log);
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if the child has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("ended ({status})"))),
            Err(error) => Err(self.failed(&format!("is lost ({error})"))),
        }
    }

    /// Stops the child where it stands (SIGSTOP), and returns when all its threads have.
    pub fn pause(&mut self) -> Result<()> {
        if self.ticks_when_paused.is_some() {
            return Ok(());
        }
        let said = kill_process(self.pid, Signal::STOP)
            .and_then(|()| waitpid(Some(self.pid), WaitOptions::UNTRACED));
        match said {
            Ok(Some((_, status))) if status.stopped() => {
                self.ticks_when_paused = Some(self.ticks()?);
                Ok(())
            }
            Ok(_) => Err(self.failed("ended")),
            Err(error) => Err(self.failed(&format!("cannot be paused ({error})"))),
        }
    }

    /// Lets the child go on. Fails if it has used CPU time while paused.
    pub fn resume(&mut self) -> Result<()> {
        let Some(before) = self.ticks_when_paused.take() else { return Ok(()) };
        let ran = self.ticks()? - before;
        kill_process(self.pid, Signal::CONT).context(format_args!("resuming {}", self.name))?;
        if ran > 0 {
            return Err(self.failed(&format!("ran for {ran} clock ticks while paused")));
        }
        Ok(())
    }

    /// Raises the priority of the child's main thread (and of no other thread of it).
    pub fn favour_main_thread(&self) -> Result<()> {
        setpriority_process(Some(self.pid), -20).context("raising a priority")
    }

    /// Asks the child to end (SIGTERM), waits a little, kills it; returns what it still said.
    pub fn terminate(mut self) -> Vec<String> {
        self.end();
        self.lines.iter().map(|line| line.text).collect()
    }

    /// Asks the child to end (SIGTERM), waits a little, kills it.
    pub fn end(&mut self) {
        let asked = kill_process(self.pid, Signal::TERM)
            .and_then(|()| kill_process(self.pid, Signal::CONT));
        let end = Instant::now() + PATIENCE;
        while asked.is_ok() && Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        self.kill();
    }

    /// Ends the child (SIGKILL).
    pub fn kill(&mut self) {
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all threads so far, in clock ticks.
    pub fn ticks(&self) -> Result<u64> {
        load::process_ticks(&self.pid.to_string())
    }

    /// An error about this child with its last words.
    pub fn failed(&self, what: &str) -> RigError {
        // The reader threads may still be a moment behind a child that has just died.
        std::thread::sleep(interrupt::SLICE);
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = format!("{} {what}; it last said:", self.name);
        for line in &log.tail {
            message.push_str("\n    ");
            message.push_str(line);
        }
        RigError::new(message)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a stream's lines on a thread of its own, stamped as they come.
fn listen(stream: impl Read + Send + 'static, sender: Sender<Line>, log: Arc<Mutex<Log>>) {
    std::thread::spawn(move || {
        // The stamp is a measurement, and both CPUs are busy: run as soon as there is a line.
        // Without the privilege the stamps are merely less sharp.
        let _ = setpriority_process(None, -20);
        for text in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
            let at = Instant::now();
            {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                if log.head.len() < HEAD {
                    log.head.push(text.clone());
                }
                if log.tail.len() == TAIL {
                    log.tail.pop_front();
                }
                log.tail.push_back(text.clone());
            }
            if sender.send(Line { at, text }).is_err() {
                return;
            }
        }
    });
}
