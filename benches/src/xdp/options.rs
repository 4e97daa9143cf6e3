//! The command line of `xdp`.

use std::path::PathBuf;
use std::time::Duration;

use super::contestant::Kind;
use super::datagram::{BYTES_MAX, BYTES_MIN};
use super::generator::Load;
use super::target::Target;
use crate::command_line::{self, Given};
use crate::error::{Result, RigError};

/// What `--help` prints.
pub const HELP: &str = "\
xdp: frames from one veth pair to another or to a VM, through Hairpin's AF_XDP ports, DPDK's AF_XDP
driver and the kernel's bridge

Usage: xdp [OPTIONS]          (as root, on a machine with two CPUs and nothing else to do)

  --only A,B        contestants, of: hairpin dpdk bridge bridge-rps (default: all)
  --to A,B          netdev, or a VM by vhost-user with rings of: split packed packed-inorder; the
                    bridge goes to netdev only (default: netdev)
  --sizes A,B       frame lengths without checksum (default: 64,1500)
  --loads A,B       full, or frames a second (default: full,100000)
  --rounds N        turns of each contestant for each length and load (default: 12)
  --slice-ms N      length of a turn (default: 1000)
  --hairpin FILE    Hairpin's program (default: the one built beside this program)
  --json FILE       write every turn and the medians as JSON
  --help            this

The sender is the same for all: an AF_XDP socket on CPU 0 with frames written beforehand, which
waits for nobody, so that what a forwarder cannot take is lost. Hairpin's worker and testpmd's core
are on CPU 1; the kernel's bridge works on the sender's CPU, or (bridge-rps) is steered to CPU 1.
Frames are counted where they arrive and dropped there by a tc program. A VM takes them in the
sender's thread, between its bursts, and wants no calls.

CPU time is what all CPUs worked during a turn, the sender's, the counter's and the kernel's soft
interrupts included, less what they worked in a turn of the same round in which nobody sent; it is
shared out over the frames that arrived. At full load both CPUs are busy with most contestants, and
it says no more than the rate does; at a load that all can take it says what a frame costs.

A turn is labelled near, far or mixed after what a cache line takes between the two CPUs right
before and after it; each label has its own rows, and ratios are formed within one.
";

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Contestants, in the table's order.
    pub kinds: Vec<Kind>,
    /// Where frames go.
    pub targets: Vec<Target>,
    /// Frame lengths.
    pub sizes: Vec<usize>,
    /// How fast frames are sent.
    pub loads: Vec<Load>,
    /// Turns of each contestant for each length and load.
    pub rounds: usize,
    /// Length of a turn.
    pub length: Duration,
    /// Hairpin's program.
    pub hairpin: Option<PathBuf>,
    /// Where the figures go.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            kinds: Kind::ALL.to_vec(),
            targets: vec![Target::Netdev],
            sizes: vec![64, 1500],
            loads: vec![Load::Full, Load::Frames(100_000)],
            rounds: 12,
            length: Duration::from_secs(1),
            hairpin: None,
            json: None,
        }
    }
}

impl Options {
    /// Reads the command line; `None` asks for help.
    ///
    /// # Errors
    /// With what would be right.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Options>> {
        command_line::parse(arguments)
    }
}

impl command_line::Options for Options {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--only" => self.kinds = given.named("contestant", &Kind::ALL, Kind::name)?,
            "--to" => self.targets = given.named("target", &Target::ALL, Target::name)?,
            "--sizes" => self.sizes = given.list(size)?,
            "--loads" => self.loads = given.list(load)?,
            "--rounds" => self.rounds = given.number()? as usize,
            "--slice-ms" => self.length = given.milliseconds()?,
            "--hairpin" => self.hairpin = Some(given.value()?.into()),
            "--json" => self.json = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

fn size(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(bytes) if (BYTES_MIN..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(RigError::new(format!(
            "--sizes takes lengths from {BYTES_MIN} to {BYTES_MAX}, not {text:?}"
        ))),
    }
}

fn load(text: &str) -> Result<Load> {
    match (text, text.parse()) {
        ("full", _) => Ok(Load::Full),
        (_, Ok(frames)) if frames > 0 => Ok(Load::Frames(frames)),
        _ => Err(RigError::new(format!("--loads takes full or frames a second, not {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let line = "--only bridge-rps,dpdk --to netdev,packed --sizes 64,1514 --loads 5000,full \
                    --slice-ms 500";
        let options = parse(line).unwrap().unwrap();
        assert_eq!(options.kinds, [Kind::SteeredBridge, Kind::Dpdk]);
        assert_eq!(options.targets, [Target::Netdev, Target::Packed]);
        assert_eq!(options.sizes, [64, 1514]);
        assert_eq!(options.loads, [Load::Frames(5000), Load::Full]);
        assert_eq!(options.length, Duration::from_millis(500));
        assert!(parse("--help").unwrap().is_none());
        let lines =
            ["--only ovs", "--to tap", "--sizes 41", "--sizes 1515", "--loads 0", "--loads fast"];
        for line in lines.into_iter().chain(["--rounds 0", "--rounds", "--colour red"]) {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
