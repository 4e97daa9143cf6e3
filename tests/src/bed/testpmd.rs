//! DPDK's testpmd with two virtio-user devices: VMs without a VM, that send each other
//! every frame back. Told by its standard input, read by its standard output.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::{BedError, Result};
use super::root::skip;

const PROGRAM: &str = "dpdk-testpmd";
/// How long it may take to start, and for a command: seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// In this time everything on its way through the switch has come out of it.
const DRAIN: Duration = Duration::from_millis(300);
const SHOW_PORTS: &str = "show port stats all";

/// Who makes the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sockets {
    /// The front end, and waits there for a back end: as it starts, and again if one goes.
    Made,
    /// The back end: they have to be there before testpmd starts; QEMU tries again.
    There,
}

/// What the devices are like.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// Arguments of virtio-user: the layout of the rings. Its own defaults are
    /// `packed_vq=0,mrg_rxbuf=1,in_order=1`.
    pub layout: &'static str,
    /// Queue pairs each.
    pub queues: u16,
    /// Who makes the sockets.
    pub sockets: Sockets,
}

/// What one of its ports has counted since it started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortCounters {
    /// Frames received.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that it found wrong, or had no room for.
    pub received_errors: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
}

/// A running testpmd; dropping it kills it.
#[derive(Debug)]
pub struct Testpmd {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Commands that were waited for.
    waits: u32,
    directory: TempDir,
}

impl Testpmd {
    /// Whether it can be had on this machine; if not, a test that asks is skipped, which
    /// is said with the reason on standard error.
    ///
    /// # Panics
    /// If not, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
    #[must_use]
    pub fn is_installed() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let there = std::env::split_paths(&path).any(|place| place.join(PROGRAM).is_file());
        if !there {
            skip("no dpdk-testpmd (Debian package dpdk-dev)");
        }
        there
    }

    /// Starts one with a device at each of two sockets, of the addresses
    /// 52:54:00:00:00:01 and 52:54:00:00:00:02. It polls on CPU 0 and takes 512 MiB, none
    /// of them huge pages. Sockets that it makes replace files that are there. It may be
    /// a while until it takes commands: [`Testpmd::await_start`].
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start(sockets: [&Path; 2], devices: Devices) -> Result<Testpmd> {
        if devices.sockets == Sockets::Made {
            // It does not itself replace what a killed one has left.
            sockets.map(fs::remove_file).into_iter().for_each(drop);
        }
        let directory = TempDir::new().map_err(BedError::while_doing("a directory"))?;
        let log = open_log(&directory)?;
        let mut child = Command::new("setpriv")
            // What it prints goes the same way as its echoes, in order, only line by line.
            .args(["--pdeathsig", "KILL", "stdbuf", "-oL", PROGRAM])
            .args(arguments(sockets, devices))
            // Where DPDK has its run-time files: no other DPDK's process meets them.
            .env("RUNTIME_DIRECTORY", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(BedError::while_doing(format_args!("starting {PROGRAM} (by setpriv)")))?;
        let streams = child.stdin.take().zip(child.stdout.take());
        let (input, output) = streams.ok_or_else(|| BedError::new("a testpmd without streams"))?;
        let lines = read(output, open_log(&directory)?);
        Ok(Testpmd { child, input, lines, waits: 0, directory })
    }

    /// Waits until it takes commands: both devices have found their back ends.
    ///
    /// # Errors
    /// If it ends instead, or does not start; then with what it said.
    pub fn await_start(&mut self) -> Result<()> {
        self.run(&[]).map(drop)
    }

    /// Sends 256 frames of this size from each queue, of which each is sent back from where
    /// it arrives, and so on.
    ///
    /// # Errors
    /// If it does not start forwarding.
    pub fn start_traffic(&mut self, frame_bytes: u16) -> Result<()> {
        let size = format!("set txpkts {frame_bytes}");
        let lines = self.run(&["stop", "set fwd mac", &size, "start tx_first 8"])?;
        if lines.iter().any(|line| line.contains("packet forwarding - ports=2 ")) {
            return Ok(());
        }
        Err(self.complaint("testpmd does not forward"))
    }

    /// Stops the traffic and takes out what is in flight.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn stop_traffic(&mut self) -> Result<()> {
        // `rxonly` counts what it finds and sends nothing.
        self.run(&["stop", "set fwd rxonly", "start"])?;
        std::thread::sleep(DRAIN);
        self.run(&["stop"]).map(drop)
    }

    /// Reads both ports' counters.
    ///
    /// # Errors
    /// If it does not answer, or in words that we do not know.
    pub fn counters(&mut self) -> Result<[PortCounters; 2]> {
        let lines = self.run(&[SHOW_PORTS])?;
        counters(&lines).ok_or_else(|| self.complaint("testpmd shows no statistics"))
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(BedError::while_doing("killing testpmd"))?;
        self.child.wait().map(drop).map_err(BedError::while_doing("waiting"))
    }

    /// What it has written to standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log(&self.directory)).unwrap_or_default()
    }

    /// Gives commands, one after the other; returns all lines until the last is done.
    fn run(&mut self, commands: &[&str]) -> Result<Vec<String>> {
        // It echoes what it reads, in order, and takes '#' for a comment: when the mark is
        // echoed, all that was before it is done.
        self.waits += 1;
        let mark = format!("# mark {}", self.waits);
        let text: String =
            commands.iter().chain([&mark.as_str()]).map(|line| format!("{line}\n")).collect();
        let written = self.input.write_all(text.as_bytes());
        written.map_err(|error| self.complaint(&format!("testpmd takes no command: {error}")))?;
        let end = Instant::now() + PATIENCE;
        let mut answer = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                return Err(self.complaint(&format!("testpmd does not do {commands:?}")));
            };
            let is_last = line.ends_with(&mark);
            answer.push(line);
            if is_last {
                return Ok(answer);
            }
        }
    }

    fn complaint(&self, what: &str) -> BedError {
        BedError::new(format_args!("{what}:\n{}", self.log()))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.kill();
        if std::thread::panicking() {
            eprintln!("testpmd said:\n{}", self.log());
        }
    }
}

/// One that polls on CPU 0 while its threads share it.
fn arguments(sockets: [&Path; 2], devices: Devices) -> Vec<String> {
    let Devices { layout, queues, sockets: made } = devices;
    let server = u8::from(made == Sockets::Made);
    let device = |(index, socket): (usize, &Path)| {
        format!(
            "--vdev=net_virtio_user{index},path={},server={server},queues={queues},\
             queue_size=1024,mac=52:54:00:00:00:0{},{layout}",
            socket.display(),
            index + 1,
        )
    };
    let machine = "--lcores=(0-1)@0 --no-pci --no-telemetry --no-shconf --no-huge -m 512 \
                   --single-file-segments --force-max-simd-bitwidth=512";
    let program = "-- -i --total-num-mbufs=16384 --port-topology=chained \
                   --eth-peer=0,52:54:00:00:00:02 --eth-peer=1,52:54:00:00:00:01 \
                   --txd=1024 --rxd=1024 --burst=32 --nb-cores=1";
    let mut arguments: Vec<String> = machine.split_whitespace().map(str::to_owned).collect();
    arguments.extend(sockets.into_iter().enumerate().map(device));
    arguments.extend(program.split_whitespace().map(str::to_owned));
    arguments.extend([format!("--rxq={queues}"), format!("--txq={queues}")]);
    arguments
}

fn log(directory: &TempDir) -> PathBuf {
    directory.path().join("log")
}

/// For one of its two writers.
fn open_log(directory: &TempDir) -> Result<File> {
    let file = File::options().create(true).append(true).open(log(directory));
    file.map_err(BedError::while_doing("a log"))
}

/// Reads to the end, lest a write find no reader.
fn read(output: ChildStdout, mut copy: File) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let _ = writeln!(copy, "{line}");
            let _ = sender.send(line);
        }
    });
    lines
}

/// Of the last `show port stats all` among the lines.
fn counters(lines: &[String]) -> Option<[PortCounters; 2]> {
    let port = |index: u32| {
        let title = format!("NIC statistics for port {index} ");
        let start = lines.iter().rposition(|line| line.contains(&title))?;
        let value = |key| lines[start..].iter().find_map(|line| number(line, key));
        Some(PortCounters {
            received_frames: value("RX-packets:")?,
            received_bytes: value("RX-bytes:")?,
            received_errors: value("RX-errors:")? + value("RX-missed:")? + value("RX-nombuf:")?,
            sent_frames: value("TX-packets:")?,
            sent_bytes: value("TX-bytes:")?,
        })
    };
    Some([port(0)?, port(1)?])
}

/// The number after `key` in a line such as `RX-packets: 7273184    RX-missed: 0`.
fn number(line: &str, key: &str) -> Option<u64> {
    let (_, rest) = line.split_once(key)?;
    rest.split_whitespace().next()?.parse().ok()
}
