//! DPDK's testpmd with two virtio-user devices: VMs without a VM, that send each other
//! every frame back, or hand frames on. Told by its standard input, read by its standard
//! output.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::{BedError, Result};
use super::host::mac_text;
use super::root::skip;

const PROGRAM: &str = "dpdk-testpmd";
/// How long it may take to start, and for a command: seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// In this time everything on its way through the switch has come out of it.
const DRAIN: Duration = Duration::from_millis(300);
const SHOW_PORTS: &str = "show port stats all";
/// Entries of each ring.
const RING_ENTRIES: u32 = 1024;
/// What DPDK keeps free in front of each buffer.
const HEADROOM_BYTES: u16 = 128;

/// Who makes the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sockets {
    /// The front end, and waits there for a back end: as it starts, and again if one goes.
    Made,
    /// The back end: they have to be there before testpmd starts; QEMU tries again.
    There,
}

/// What its memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages<'a> {
    /// 512 MiB of the machine's ordinary pages.
    Ordinary,
    /// 128 MiB of 2 MiB pages, and a few more as it needs them, of a hugetlbfs that is
    /// mounted here: [`HUGE_PAGES`] have to be free.
    Huge(&'a Path),
}

/// Huge pages that it may need.
pub const HUGE_PAGES: u64 = 80;

/// How long its buffers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Buffers {
    /// Each holds any frame: 2048 bytes.
    Whole,
    /// 640 bytes: a frame of 1500 bytes is received into three, which takes
    /// `mrg_rxbuf=1`, and sent from three.
    Parts,
}

impl Buffers {
    /// Bytes of a frame, or of a part of one, and the virtio-net header.
    fn bytes(self) -> u16 {
        match self {
            Buffers::Whole => 2048,
            Buffers::Parts => 640,
        }
    }

    /// How many bursts of 32 frames each of two devices sends to begin with.
    fn bursts(self) -> u16 {
        match self {
            Buffers::Whole => 8,
            Buffers::Parts => 4,
        }
    }

    /// How many to make for so many queue pairs: with full rings there are some left. The
    /// driver keeps what it has sent until it needs the place.
    fn count(self, queues: u16) -> u32 {
        let of_a_frame = match self {
            Buffers::Whole => 1,
            Buffers::Parts => 3,
        };
        let full = 2 * u32::from(queues) * RING_ENTRIES * (1 + of_a_frame);
        full + 8192
    }
}

/// What the devices are like.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a> {
    /// Arguments of virtio-user: the layout of the rings. Its own defaults are
    /// `packed_vq=0,mrg_rxbuf=1,in_order=1`.
    pub layout: &'static str,
    /// Their buffers.
    pub buffers: Buffers,
    /// Queue pairs each.
    pub queues: u16,
    /// Who makes the sockets.
    pub sockets: Sockets,
    /// What rings and buffers lie in.
    pub pages: Pages<'a>,
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
    buffers: Buffers,
    queues: u16,
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
    /// 52:54:00:00:00:01 and 52:54:00:00:00:02. It polls on CPU 0. Sockets that it makes
    /// replace files that are there. It may be a while until it takes commands:
    /// [`Testpmd::await_start`].
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start(sockets: [&Path; 2], devices: Devices<'_>) -> Result<Testpmd> {
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
        let Devices { buffers, queues, .. } = devices;
        Ok(Testpmd { child, input, lines, buffers, queues, waits: 0, directory })
    }

    /// Waits until it takes commands: both devices have found their back ends.
    ///
    /// # Errors
    /// If it ends instead, or does not start; then with what it said.
    pub fn await_start(&mut self) -> Result<()> {
        self.run(&[]).map(drop)
    }

    /// Sends some frames of this size from each queue, of which each is sent back from where
    /// it arrives, and so on. However they come together, no ring is too short for them: there
    /// are as many as fill half of one, or three quarters of one with [`Buffers::Parts`].
    ///
    /// # Errors
    /// If it does not start forwarding.
    pub fn start_traffic(&mut self, frame_bytes: u16) -> Result<()> {
        let size = format!("set txpkts {}", parts(frame_bytes, self.buffers));
        let bursts = self.buffers.bursts().div_ceil(self.queues);
        self.forward(&mac_text(1), &[&size, &format!("start tx_first {bursts}")])
    }

    /// From now on the first device sends each frame that it receives to the second one, and
    /// that one to this address; what was waiting in their queues is thrown away.
    ///
    /// # Errors
    /// If it does not start forwarding.
    pub fn start_handing_on(&mut self, to: &str) -> Result<()> {
        self.forward(to, &["start"])
    }

    /// Has the second device send what it receives to this address.
    fn forward(&mut self, to: &str, commands: &[&str]) -> Result<()> {
        let peers = [(0, mac_text(2)), (1, to.to_owned())];
        let peers = peers.map(|(port, mac)| format!("set eth-peer {port} {mac}"));
        let before = ["stop", "set fwd mac", &peers[0], &peers[1]];
        let lines = self.run(&[&before, commands].concat())?;
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
        let end = Instant::now() + DRAIN;
        while Instant::now() < end {
            let [one, two] = self.counters()?;
            if one.sent_frames == two.received_frames && two.sent_frames == one.received_frames {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
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

    /// How many frames each queue of a port has received.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn received_by_queues(&mut self, port: u16, queues: u16) -> Result<Vec<u64>> {
        let lines = self.run(&[&format!("show port xstats {port}")])?;
        let received = |queue| {
            let key = format!("rx_q{queue}_good_packets:");
            lines.iter().find_map(|line| number(line, &key))
        };
        let received: Option<Vec<u64>> = (0..queues).map(received).collect();
        received.ok_or_else(|| self.complaint("testpmd shows no statistics of queues"))
    }

    /// By which of its ways a port receives, such as `packed ring vectorized`.
    #[must_use]
    pub fn receive_path(&self, port: u16) -> Option<String> {
        let log = self.log();
        let end = format!(" Rx path on port {port}");
        let path = log.lines().rev().find_map(|line| line.strip_suffix(&end))?;
        Some(path.split_once("using ")?.1.to_owned())
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

/// One that polls on CPU 0 while its threads share it, and says how it receives.
fn arguments(sockets: [&Path; 2], devices: Devices<'_>) -> Vec<String> {
    let Devices { layout, buffers, queues, sockets: made, pages } = devices;
    let server = u8::from(made == Sockets::Made);
    let device = |(index, socket): (usize, &Path)| {
        format!(
            "--vdev=net_virtio_user{index},path={},server={server},queues={queues},\
             queue_size={RING_ENTRIES},mac={},{layout}",
            socket.display(),
            mac_text(index as u8 + 1),
        )
    };
    let machine = "--lcores=(0-1)@0 --no-pci --no-telemetry --no-shconf \
                   --single-file-segments --force-max-simd-bitwidth=512 \
                   --log-level=pmd.net.virtio.init:debug";
    let memory = match pages {
        Pages::Ordinary => "--no-huge -m 512".to_owned(),
        Pages::Huge(mount) => format!("--socket-mem=128 --huge-dir={}", mount.display()),
    };
    let program = "-- -i --port-topology=loop --burst=32 --nb-cores=1";
    let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut arguments = of(machine);
    arguments.extend(of(&memory));
    arguments.extend(sockets.into_iter().enumerate().map(device));
    arguments.extend(of(program));
    arguments.extend(["rxq", "txq"].map(|queue| format!("--{queue}={queues}")));
    arguments.extend(["rxd", "txd"].map(|ring| format!("--{ring}={RING_ENTRIES}")));
    arguments.push(format!("--mbuf-size={}", HEADROOM_BYTES + buffers.bytes()));
    arguments.push(format!("--total-num-mbufs={}", buffers.count(queues)));
    if buffers == Buffers::Parts {
        arguments.push("--enable-scatter".to_owned());
    }
    arguments
}

/// A frame's length as `set txpkts` has it: that of each buffer.
fn parts(frame_bytes: u16, buffers: Buffers) -> String {
    let count = frame_bytes.div_ceil(buffers.bytes());
    let part = |index| frame_bytes / count + u16::from(index < frame_bytes % count);
    (0..count).map(|index| part(index).to_string()).collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_sent_from_as_many_buffers_as_it_takes() {
        assert_eq!(parts(64, Buffers::Whole), "64");
        assert_eq!(parts(1500, Buffers::Whole), "1500");
        assert_eq!(parts(640, Buffers::Parts), "640");
        assert_eq!(parts(641, Buffers::Parts), "321,320");
        assert_eq!(parts(1500, Buffers::Parts), "500,500,500");
    }
}
