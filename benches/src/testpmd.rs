//! Driving `dpdk-testpmd` over its standard input: as the generator, and as DPDK's bare wire.

use crate::error::{Result, RigError};
use crate::hugepages::RunDirectory;
use crate::layout::Layout;
use crate::process::{Line, Process};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The CPU the generator polls on.
pub const GENERATOR_CPU: usize = 0;
/// The CPU every wire polls on.
pub const WIRE_CPU: usize = 1;
/// Huge pages of 2 MiB one testpmd takes: `--socket-mem=512` and a few for the wire's many files.
pub const PAGES: u64 = 256 + 4;

const PROGRAM: &str = "dpdk-testpmd";
/// Starting takes some seconds, twice that on a busy host.
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);
/// In this time everything in a wire has come out of it: 512 frames take well under 1 ms.
const DRAIN: Duration = Duration::from_millis(20);
/// Frames per burst of `start tx_first`, and ports.
const FRAMES_PER_BURST: u64 = 32 * 2;

/// Checks that testpmd is installed.
pub fn check_installed() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file()) {
        return Ok(());
    }
    Err(RigError::new(format!(
        "{PROGRAM} is not installed: on Debian it is in the package dpdk-dev \
         (apt-get install --no-install-recommends dpdk-dev)"
    )))
}

/// A port's counters at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// When they were read, by our clock.
    pub at: Instant,
    /// Frames received since start.
    pub received: u64,
    /// Frames sent since start.
    pub sent: u64,
}

/// Both ports' counters.
pub type Counters = [PortCounters; 2];

/// Frames per second received on both ports between two readings.
pub fn rate(before: &Counters, after: &Counters) -> f64 {
    let rates = before.iter().zip(after).map(|(before, after)| {
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        (after.received - before.received) as f64 / seconds
    });
    rates.sum()
}

/// What the generator spent between `clear fwd stats` and this reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Cycles in calls that handled at least one frame, over all frames.
    pub cycles_per_frame: f64,
    /// Such cycles in all.
    pub cycles: f64,
    /// The time-stamp counter's rate.
    pub hertz: f64,
    /// Frames the generator could not send, its transmit ring being full.
    pub dropped: u64,
}

/// How the generator treats frames.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// testpmd's forwarding engine: `mac` (writes addresses) or `io` (touches nothing).
    pub engine: String,
    /// N of `start tx_first N`: 64 N frames in flight.
    pub bursts: u64,
}

impl Traffic {
    /// Frames in flight.
    pub fn frames(&self) -> u64 {
        self.bursts * FRAMES_PER_BURST
    }
}

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
    marks: u32,
}

impl Testpmd {
    /// Starts the two "guests" of a generator, which serve `sockets` and wait for a wire there.
    pub fn generator(
        name: &str,
        layout: &Layout,
        sockets: &[PathBuf; 2],
        run: &RunDirectory,
    ) -> Result<Self> {
        let mut arguments = eal_arguments(name, GENERATOR_CPU, run);
        arguments.push("--single-file-segments".into());
        // Names the ring paths chosen and the features agreed on, while starting.
        arguments.push("--log-level=pmd.net.virtio.init:debug".into());
        arguments.extend(layout.eal.iter().map(ToString::to_string));
        for (index, socket) in sockets.iter().enumerate() {
            arguments.push(format!(
                "--vdev=net_virtio_user{index},path={},server=1,queues=1,queue_size=1024,\
                 mac=52:54:00:00:00:0{},{}",
                socket.display(),
                index + 1,
                layout.device
            ));
        }
        arguments.extend(["--", "-i", "--forward-mode=mac", "--port-topology=chained"].map(owned));
        arguments.extend(
            ["--eth-peer=0,52:54:00:00:00:02", "--eth-peer=1,52:54:00:00:00:01"].map(owned),
        );
        arguments.extend(RING_ARGUMENTS.map(owned));
        Self::spawn(name, PROGRAM, &arguments, run.path())
    }

    /// Starts DPDK's bare wire between `sockets`.
    pub fn wire(name: &str, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Self> {
        let mut arguments = eal_arguments(name, WIRE_CPU, run);
        for (index, socket) in sockets.iter().enumerate() {
            arguments.push(format!(
                "--vdev=net_vhost{index},iface={},client=1,queues=1",
                socket.display()
            ));
        }
        arguments.extend(["--", "-i", "--forward-mode=io", "-a"].map(owned));
        arguments.extend(RING_ARGUMENTS.map(owned));
        Self::spawn(name, PROGRAM, &arguments, run.path())
    }

    /// Starts DPDK's bare wire between two ends in a network namespace: frames go from each
    /// to the other. No huge pages; `directory` is for its run-time files.
    pub fn netdev_wire(
        name: &str,
        namespace: &str,
        ends: [WireEnd<'_>; 2],
        directory: &Path,
    ) -> Result<Self> {
        let mut arguments: Vec<String> = ["netns", "exec", namespace, PROGRAM].map(owned).into();
        arguments.push(format!("--lcores=(0-1)@{WIRE_CPU}"));
        arguments.extend(NO_HUGE_PAGES.map(owned));
        arguments.extend((0..).zip(ends).map(|(index, end)| end.argument(index)));
        arguments.extend(["--", "-i", "--forward-mode=io", "-a"].map(owned));
        arguments.extend(AF_XDP_ARGUMENTS.map(owned));
        Self::spawn(name, "ip", &arguments, directory)
    }

    fn spawn(name: &str, program: &str, arguments: &[String], directory: &Path) -> Result<Self> {
        // Where DPDK keeps its run-time files, instead of /var/run/dpdk.
        let environment = [("RUNTIME_DIRECTORY", directory.as_os_str())];
        let process = Process::spawn(name, program, arguments, &environment)?;
        Ok(Self { process, marks: 0 })
    }

    /// The process behind it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until testpmd takes commands.
    pub fn await_start(&mut self) -> Result<()> {
        self.run_within(START, &[])?;
        self.process.favour_main_thread()
    }

    /// Gives commands; returns every line up to the end of the last one's answer.
    fn run(&mut self, commands: &[&str]) -> Result<Vec<Line>> {
        self.run_within(ANSWER, commands)
    }

    fn run_within(&mut self, timeout: Duration, commands: &[&str]) -> Result<Vec<Line>> {
        // testpmd echoes what it reads, in order, and takes a '#' for a comment: the echo of this
        // mark says that all before it is done.
        self.marks += 1;
        let mark = format!("# mark {}", self.marks);
        let mut text = String::new();
        for command in commands.iter().copied().chain([mark.as_str()]) {
            text.push_str(command);
            text.push('\n');
        }
        self.process.write(&text)?;
        self.process.read_until(timeout, |line| line.ends_with(&mark))
    }

    /// Primes the loop: from now on the generator sends every frame back that it receives.
    pub fn start_traffic(&mut self, bytes: u32, traffic: &Traffic) -> Result<()> {
        let lines = self.run(&[
            &format!("set txpkts {bytes}"),
            &format!("set fwd {}", traffic.engine),
            "set record-core-cycles on",
            &format!("start tx_first {}", traffic.bursts),
        ])?;
        if lines.iter().any(|line| line.text.contains("packet forwarding - ports=2 ")) {
            return Ok(());
        }
        Err(RigError::new("the generator did not start forwarding"))
    }

    /// Stops the traffic and takes out all that is in flight; returns how many frames that was.
    ///
    /// Fewer than were primed means that a wire or the generator has lost the others.
    pub fn drain(&mut self) -> Result<u64> {
        let stopped = self.run(&["stop", SHOW_PORTS])?;
        let before = counters(&stopped)?;
        // Starting flushes the receive rings, and `rxonly` keeps them empty.
        self.run(&["set fwd rxonly", "start"])?;
        std::thread::sleep(DRAIN);
        let drained = self.run(&["stop", SHOW_PORTS])?;
        let after = counters(&drained)?;
        Ok(received(&after) - received(&before))
    }

    /// Reads the ports' counters.
    pub fn counters(&mut self) -> Result<Counters> {
        counters(&self.run(&[SHOW_PORTS])?)
    }

    /// Starts a measurement: effort counts from here, and so do the counters returned.
    pub fn begin(&mut self) -> Result<Counters> {
        counters(&self.run(&["clear fwd stats all", SHOW_PORTS])?)
    }

    /// Ends a measurement.
    pub fn end(&mut self) -> Result<(Counters, Option<Effort>)> {
        let lines = self.run(&[SHOW_PORTS, "show fwd stats all"])?;
        Ok((counters(&lines)?, effort(&lines)))
    }

    /// The features agreed on, as the generator logged them.
    pub fn features(&self) -> Option<u64> {
        let line = self.process.find_in_log(|line| line.contains("features after negotiate"))?;
        u64::from_str_radix(line.rsplit(' ').next()?, 16).ok()
    }

    /// The receive path chosen, e.g. "packed ring standard".
    pub fn receive_path(&self) -> Option<String> {
        let line = self.process.find_in_log(|line| line.contains(" Rx path on port 0"))?;
        let path = line.split("using ").nth(1)?.split(" Rx path").next()?;
        Some(path.to_owned())
    }
}

/// An end of a bare wire that is not between two VMs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireEnd<'e> {
    /// An interface, by AF_XDP.
    Netdev(&'e str),
    /// A socket that is made for a VM.
    Socket(&'e Path),
}

impl WireEnd<'_> {
    fn argument(self, index: usize) -> String {
        match self {
            WireEnd::Netdev(interface) => format!("--vdev=net_af_xdp{index},iface={interface}"),
            WireEnd::Socket(path) => {
                format!("--vdev=net_vhost{index},iface={},queues=1", path.display())
            }
        }
    }
}

/// As in the recipe every figure of the peers was taken with.
const RING_ARGUMENTS: [&str; 4] = ["--txd=1024", "--rxd=1024", "--burst=32", "--nb-cores=1"];
/// Memory of its own, 512 MiB, and no files that another DPDK process could meet.
const NO_HUGE_PAGES: [&str; 6] =
    ["--no-pci", "--no-telemetry", "--no-huge", "--no-shconf", "-m", "512"];
/// Rings as long as the AF_XDP driver's default, and buffers for both ports' rings.
const AF_XDP_ARGUMENTS: [&str; 5] =
    ["--txd=2048", "--rxd=2048", "--burst=32", "--nb-cores=1", "--total-num-mbufs=32768"];
const SHOW_PORTS: &str = "show port stats all";

fn owned(text: &str) -> String {
    text.to_owned()
}

fn eal_arguments(name: &str, cpu: usize, run: &RunDirectory) -> Vec<String> {
    vec![
        format!("--lcores=(0-1)@{cpu}"),
        "--no-pci".into(),
        "--no-telemetry".into(),
        format!("--huge-dir={}", run.huge().display()),
        format!("--file-prefix={name}"),
        "--socket-mem=512".into(),
    ]
}

fn received(counters: &Counters) -> u64 {
    counters.iter().map(|port| port.received).sum()
}

/// The number after `key` in a line such as `RX-packets: 7273184    RX-missed: 0`.
fn number<T: std::str::FromStr>(text: &str, key: &str) -> Option<T> {
    let rest = text[text.find(key)? + key.len()..].trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Reads the last `show port stats all` among the lines.
fn counters(lines: &[Line]) -> Result<Counters> {
    let port = |index: u32| {
        let title = format!("NIC statistics for port {index} ");
        let start = lines.iter().rposition(|line| line.text.contains(&title))?;
        let value = |key| lines[start..].iter().find_map(|line| number(&line.text, key));
        // The title is printed right after the counters were read.
        let at = lines[start].at;
        Some(PortCounters { at, received: value("RX-packets:")?, sent: value("TX-packets:")? })
    };
    port(0).zip(port(1)).map(Into::into).ok_or_else(|| {
        RigError::new("testpmd printed no port statistics that this rig understands")
    })
}

/// Reads `show fwd stats all`; `None` if nothing was forwarded (testpmd then names no cycles).
fn effort(lines: &[Line]) -> Option<Effort> {
    let sum = lines.iter().position(|line| line.text.contains("Accumulated forward statistics"))?;
    let value = |key| lines[sum..].iter().find_map(|line| number::<f64>(&line.text, key));
    Some(Effort {
        cycles_per_frame: value("CPU cycles/packet=")?,
        cycles: value("total cycles=")?,
        hertz: value(" at ")? * 1e6,
        dropped: value("TX-dropped:")? as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: &str = "\
testpmd> show port stats all

  ######################## NIC statistics for port 0  ########################
  RX-packets: 14976768   RX-missed: 0          RX-bytes:  958513152
  RX-errors: 0
  RX-nombuf:  0         
  TX-packets: 14976992   TX-errors: 0          TX-bytes:  958527488

  ######################## NIC statistics for port 1  ########################
  RX-packets: 14976736   RX-missed: 0          RX-bytes:  958511104
  TX-packets: 14977024   TX-errors: 0          TX-bytes:  958529536
testpmd> show fwd stats all

  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 7658720        RX-dropped: 0             RX-total: 7658720
  TX-packets: 7658688        TX-dropped: 1             TX-total: 7658688

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 15317408       RX-dropped: 0             RX-total: 15317408
  TX-packets: 15317408       TX-dropped: 3             TX-total: 15317408

  CPU cycles/packet=137.01 (total cycles=2098593330 / total mac packets=15317408) at 2600 MHz Clock
testpmd> # mark 2";

    fn lines() -> Vec<Line> {
        let at = Instant::now();
        ANSWERED.lines().map(|text| Line { at, text: text.into() }).collect()
    }

    #[test]
    fn reads_what_testpmd_prints() {
        let [first, second] = counters(&lines()).unwrap();
        assert_eq!((first.received, first.sent), (14_976_768, 14_976_992));
        assert_eq!((second.received, second.sent), (14_976_736, 14_977_024));
        let effort = effort(&lines()).unwrap();
        assert_eq!(effort.cycles_per_frame, 137.01);
        assert_eq!(effort.cycles, 2_098_593_330.0);
        assert_eq!(effort.hertz, 2.6e9);
        assert_eq!(effort.dropped, 3);
    }

    #[test]
    fn statistics_that_are_missing_are_an_error() {
        assert!(counters(&lines()[..5]).is_err());
        assert_eq!(effort(&lines()[..5]), None);
    }

    #[test]
    fn rates_add_up_both_directions() {
        let at = Instant::now();
        let later = at + Duration::from_millis(500);
        let before = [PortCounters { at, received: 100, sent: 0 }; 2];
        let mut after = before;
        after[0] = PortCounters { at: later, received: 1100, sent: 0 };
        after[1] = PortCounters { at: later, received: 2100, sent: 0 };
        assert_eq!(rate(&before, &after), 6000.0);
    }
}
