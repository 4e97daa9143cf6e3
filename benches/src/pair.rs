//! One generator with one wire between its two ports: what a side of a comparison is.

use crate::error::{Context, Result, RigError};
use crate::hugepages::RunDirectory;
use crate::layout::Layout;
use crate::process::Process;
use crate::testpmd::{Testpmd, WIRE_CPU};
use crate::vhost::hairpin::Hairpin;
use crate::vhost::open_vswitch::OpenVSwitch;
use std::path::PathBuf;
use std::time::Duration;

/// How long a wire may take to say `ready` once the generator is up.
const READY: Duration = Duration::from_secs(30);

/// How to get a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// testpmd between two `net_vhost` ports.
    Dpdk,
    /// A program and its first arguments; `--cpu 1 SOCKET0 SOCKET1` is appended.
    Command(Vec<String>),
    /// Hairpin's daemon.
    Hairpin {
        /// Its program.
        program: PathBuf,
        /// Idle ports beside the generator's two.
        idle: usize,
    },
    /// Open vSwitch with DPDK.
    OpenVSwitch,
}

impl WireKind {
    /// `dpdk`, or a command split at blanks.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<String> = text.split_whitespace().map(Into::into).collect();
        match words.as_slice() {
            [] => Err(RigError::new("a wire's command is empty")),
            [word] if word == "dpdk" => Ok(Self::Dpdk),
            _ => Ok(Self::Command(words)),
        }
    }
}

/// A side of the comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What the table and `--only` call it, such as `dpdk`.
    pub name: &'static str,
    /// Its wire.
    pub wire: WireKind,
}

#[derive(Debug)]
enum Wire {
    Dpdk(Testpmd),
    Command(Process),
    Hairpin(Hairpin),
    OpenVSwitch(OpenVSwitch),
}

impl Wire {
    fn start(side: &Side, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Self> {
        let name = format!("wire-{}", side.name);
        let words = match &side.wire {
            WireKind::Dpdk => return Ok(Self::Dpdk(Testpmd::wire(&name, sockets, run)?)),
            WireKind::Hairpin { program, idle } => {
                return Ok(Self::Hairpin(Hairpin::start(&name, program, *idle, sockets, run)?));
            }
            WireKind::OpenVSwitch => {
                return Ok(Self::OpenVSwitch(OpenVSwitch::start(&name, sockets, run)?));
            }
            WireKind::Command(words) => words,
        };
        let (program, arguments) = match words.as_slice() {
            [program, arguments @ ..] => (program, arguments),
            [] => return Err(RigError::new("a wire's command is empty")),
        };
        let cpu = WIRE_CPU.to_string();
        let sockets = sockets.each_ref().map(|socket| socket.display().to_string());
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(["--cpu", &cpu, &sockets[0], &sockets[1]]);
        Ok(Self::Command(Process::spawn(&name, program, &all, &[])?))
    }

    fn await_start(&mut self) -> Result<()> {
        match self {
            Self::Dpdk(testpmd) => testpmd.await_start(),
            Self::Command(process) => {
                process.read_until(READY, |line| line.trim() == "ready").map(drop)
            }
            Self::Hairpin(hairpin) => hairpin.await_start(),
            // Its database answered for it.
            Self::OpenVSwitch(_) => Ok(()),
        }
    }

    /// Waits until it carries frames between the generator's ports, which are there.
    fn await_up(&mut self) -> Result<()> {
        match self {
            Self::Dpdk(_) | Self::Command(_) => Ok(()),
            Self::Hairpin(hairpin) => hairpin.await_up(),
            Self::OpenVSwitch(switch) => switch.await_up(),
        }
    }

    fn process(&mut self) -> &mut Process {
        match self {
            Self::Dpdk(testpmd) => testpmd.process(),
            Self::Command(process) => process,
            Self::Hairpin(hairpin) => hairpin.process(),
            Self::OpenVSwitch(switch) => switch.process(),
        }
    }
}

/// A generator and its wire, both running or both paused.
#[derive(Debug)]
pub struct Pair {
    /// The generator.
    pub generator: Testpmd,
    side: Side,
    wire: Wire,
}

impl Pair {
    /// Starts both; they run when this returns, without traffic.
    pub fn start(side: &Side, layout: &Layout, run: &RunDirectory) -> Result<Self> {
        // Names are short: a socket's path must fit into 107 bytes.
        let sockets = [0, 1]
            .map(|port| run.path().join(format!("{}-{}-{port}.sock", layout.name, side.name)));
        // Left by the round before, whose generator was killed; testpmd would not bind to it.
        for socket in sockets.iter().filter(|socket| socket.exists()) {
            std::fs::remove_file(socket).context(format_args!("removing {}", socket.display()))?;
        }
        let name = format!("generator-{}", side.name);
        let generator = Testpmd::generator(&name, layout, &sockets, run)?;
        // The generator serves its second socket only once the first has a client: wires retry.
        let wire = Wire::start(side, &sockets, run)?;
        let mut pair = Self { generator, side: side.clone(), wire };
        // The wire first: one that dies is noticed at once, while its generator would wait on.
        if let Err(error) = pair.wire.await_start() {
            return Err(pair.generator.process().check_alive().err().unwrap_or(error));
        }
        pair.generator.await_start()?;
        pair.wire.await_up()?;
        pair.check_path(layout)?;
        Ok(pair)
    }

    /// Starts all of them in this order, and pauses them.
    pub fn start_all(sides: &[&Side], layout: &Layout, run: &RunDirectory) -> Result<Vec<Self>> {
        let mut pairs = Vec::with_capacity(sides.len());
        for side in sides {
            let mut pair = Self::start(side, layout, run)?;
            pair.pause()?;
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// The side this pair measures.
    pub fn side(&self) -> &Side {
        &self.side
    }

    /// A wire that does not offer what the layout needs would have another layout measured.
    fn check_path(&mut self, layout: &Layout) -> Result<()> {
        let Some(features) = self.generator.features() else {
            return Err(self.generator.process().failed("did not bring up its ports"));
        };
        let path = self.generator.receive_path();
        if path.as_deref() == Some(layout.receive_path) {
            return Ok(());
        }
        Err(RigError::new(format!(
            "layout {}: with the wire of {} the generator takes the receive path {:?} instead of \
             {:?} (features agreed on: {features:#x}): does the wire offer what the layout needs?",
            layout.name,
            self.side.name,
            path.unwrap_or_default(),
            layout.receive_path
        )))
    }

    /// Stops both where they stand, frames in flight included.
    pub fn pause(&mut self) -> Result<()> {
        self.generator.process().pause()?;
        self.wire.process().pause()
    }

    /// Lets both go on; fails if either has run while paused.
    pub fn resume(&mut self) -> Result<()> {
        self.wire.process().resume()?;
        self.generator.process().resume()
    }

    /// CPU time of both so far, in clock ticks.
    pub fn ticks(&mut self) -> Result<u64> {
        Ok(self.generator.process().ticks()? + self.wire.process().ticks()?)
    }

    /// Ends both; returns what the wire said after it was ready.
    pub fn stop(self) -> Vec<String> {
        // The generator is killed after this: a wire may have something to say about its rings.
        match self.wire {
            Wire::Dpdk(_) | Wire::Hairpin(_) | Wire::OpenVSwitch(_) => Vec::new(),
            Wire::Command(process) => process.terminate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wires_are_named_or_commands() {
        assert_eq!(WireKind::parse("dpdk").unwrap(), WireKind::Dpdk);
        let command = WireKind::parse(" wire  --null ").unwrap();
        assert_eq!(command, WireKind::Command(vec!["wire".into(), "--null".into()]));
        assert!(WireKind::parse(" ").is_err());
    }
}
