//! The command line of `vhost`.

use std::path::PathBuf;
use std::time::Duration;

use hairpin_tests::bed::program;

use super::open_vswitch;
use crate::command_line::{self, Given};
use crate::error::{Context, Result, RigError};
use crate::layout::{LAYOUTS, Layout};
use crate::pair::{Side, WireKind};
use crate::testpmd;

/// What `--help` prints.
pub const HELP: &str = "\
vhost: frames from VM to VM through Hairpin, DPDK's bare wire and Open vSwitch with DPDK

Usage: vhost [OPTIONS]          (as root, on a machine with two CPUs and nothing else to do)

  --only A,B      contestants, of: hairpin hairpin-idle dpdk ovs (default: all but hairpin-idle)
  --layouts A,B   ring layouts, of: split split-nomrg split-inorder packed packed-inorder
                  packed-vector (default: split,packed,packed-inorder)
  --sizes A,B     frame lengths without checksum (default: 64,1500)
  --windows N     windows for each contestant (default: 20)
  --rounds N      spread over so many starts of all processes (default: 4)
  --window-ms N   length of a window (default: 1000)
  --hairpin FILE  Hairpin's program (default: the one built beside this program)
  --json FILE     append every window as a line of JSON
  --help          this

The two VMs are the ports of one testpmd on CPU 0, which sends every frame back that it receives,
512 on their way in all; the switch forwards on CPU 1. Hairpin has both addresses registered, an
access VLAN and the source check on; hairpin-idle has 254 more ports beside them, each with a guest
that says nothing; the bare wire (testpmd io between two net_vhost ports) has no
switch in it at all; Open vSwitch is as it comes (NORMAL).

Only one contestant runs at a time, the others are stopped (SIGSTOP) with their frames on their way.
A window is labelled near, far or mixed after what a cache line takes between the two CPUs right
before and after it; ratios are formed within near and within far only. `busy` is the share of its
CPU that the generator spends on frames: near 100 % it, not the switch, sets the figure.
";

/// Idle ports of [`Kind::HairpinIdle`].
const IDLE_PORTS: usize = 254;

/// A contestant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Hairpin.
    Hairpin,
    /// Hairpin with idle ports beside the two.
    HairpinIdle,
    /// DPDK's bare wire.
    Dpdk,
    /// Open vSwitch with DPDK.
    OpenVSwitch,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Hairpin, Kind::HairpinIdle, Kind::Dpdk, Kind::OpenVSwitch];
    /// Those that are compared unless others are asked for.
    const USUAL: [Kind; 3] = [Kind::Hairpin, Kind::Dpdk, Kind::OpenVSwitch];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hairpin => "hairpin",
            Kind::HairpinIdle => "hairpin-idle",
            Kind::Dpdk => "dpdk",
            Kind::OpenVSwitch => "ovs",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Kind::Hairpin | Kind::HairpinIdle)
    }

    /// Why it cannot be measured on this machine; `None` if it can.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Kind::OpenVSwitch => open_vswitch::missing(),
            Kind::Hairpin | Kind::HairpinIdle | Kind::Dpdk => None,
        }
    }
}

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Contestants.
    pub kinds: Vec<Kind>,
    /// Layouts to measure.
    pub layouts: Vec<Layout>,
    /// Frame lengths to measure.
    pub sizes: Vec<u32>,
    /// Windows for each contestant.
    pub windows: usize,
    /// Starts of all processes that they are spread over.
    pub rounds: usize,
    /// Length of a window.
    pub length: Duration,
    /// Hairpin's program.
    pub hairpin: Option<PathBuf>,
    /// Where raw windows go.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let layouts = LAYOUTS.into_iter();
        let usual = |layout: &Layout| ["split", "packed", "packed-inorder"].contains(&layout.name);
        Options {
            kinds: Kind::USUAL.to_vec(),
            layouts: layouts.filter(usual).collect(),
            sizes: vec![64, 1500],
            windows: 20,
            rounds: 4,
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

    /// What a contestant is, as one side of the comparison.
    ///
    /// # Errors
    /// If Hairpin was not built.
    pub fn side(&self, kind: Kind) -> Result<Side> {
        let wire = match kind {
            Kind::Hairpin => WireKind::Hairpin { program: self.program()?, idle: 0 },
            Kind::HairpinIdle => WireKind::Hairpin { program: self.program()?, idle: IDLE_PORTS },
            Kind::Dpdk => WireKind::Dpdk,
            Kind::OpenVSwitch => WireKind::OpenVSwitch,
        };
        Ok(Side { name: kind.name(), wire })
    }

    fn program(&self) -> Result<PathBuf> {
        let built = || program().context("Hairpin");
        self.hairpin.clone().map_or_else(built, Ok)
    }

    /// Huge pages that all contestants take: a generator each, and those on DPDK as much again.
    #[must_use]
    pub fn pages(&self) -> u64 {
        let on_dpdk = self.kinds.iter().filter(|kind| !kind.is_ours()).count();
        (self.kinds.len() + on_dpdk) as u64 * testpmd::PAGES
    }
}

impl command_line::Options for Options {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--only" => self.kinds = given.named("contestant", &Kind::ALL, Kind::name)?,
            "--layouts" => self.layouts = given.named("layout", &LAYOUTS, |layout| layout.name)?,
            "--sizes" => self.sizes = given.list(size)?,
            "--windows" => self.windows = given.number()? as usize,
            "--rounds" => self.rounds = given.number()? as usize,
            "--window-ms" => self.length = given.milliseconds()?,
            "--hairpin" => self.hairpin = Some(given.value()?.into()),
            "--json" => self.json = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

/// Up to what an MTU of 1500 lets through.
fn size(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(bytes) if (60..=1514).contains(&bytes) => Ok(bytes),
        _ => Err(RigError::new(format!("--sizes takes lengths from 60 to 1514, not {text:?}"))),
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
        let options = parse("--only ovs,hairpin --layouts split --sizes 256").unwrap().unwrap();
        assert_eq!(options.kinds, [Kind::OpenVSwitch, Kind::Hairpin]);
        assert_eq!((options.layouts.len(), options.pages()), (1, 3 * testpmd::PAGES));
        assert_eq!(Options::default().layouts.len(), 3);
        assert!(parse("--help").unwrap().is_none());
        let lines = ["--only vpp", "--sizes 59", "--sizes 1515", "--rounds 0", "--layouts odd"];
        for line in lines.into_iter().chain(["--windows", "--colour red"]) {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
