//! The command line of `tcp`.

use std::path::PathBuf;
use std::time::Duration;

use hairpin_tests::bed::Family;

use super::connection::{Placement, Plan};
use super::contestant::Kind;
use crate::command_line::{self, Given};
use crate::error::{Result, RigError};

/// What `--help` prints.
pub const HELP: &str = "\
tcp: TCP between two kernel stacks through Hairpin's TAPs, its packet ports, the kernel's bridge and
Open vSwitch

Usage: tcp [OPTIONS]          (as root, on a machine with two CPUs and nothing else to do)

  --only A,B        contestants, of: hairpin hairpin-packet bridge ovs ovs-tso (default: all)
  --rounds N        turns of each contestant (default: 12)
  --slice-ms N      length of a turn (default: 3000)
  --family 4|6      IP version (default: 4)
  --placement P     free: nothing is pinned (default); ends: the sender on CPU 0, the receiver on
                    CPU 1. Switches are never pinned
  --hairpin FILE    Hairpin's program (default: the one built beside this program)
  --json FILE       write every turn and the medians as JSON
  --help            this

All contestants are up for the whole run and take turns, in an order that rotates; a turn is one TCP
connection from one network namespace to another. CPU time is that of the whole machine, soft
interrupts included, and beside it that of the switch's own process.
";

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Contestants, in the table's order.
    pub kinds: Vec<Kind>,
    /// Turns of each.
    pub rounds: usize,
    /// How turns are taken.
    pub plan: Plan,
    /// Hairpin's program.
    pub hairpin: Option<PathBuf>,
    /// Where the figures go.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let length = Duration::from_secs(3);
        let plan = Plan { length, family: Family::Ipv4, placement: Placement::Free };
        Options { kinds: Kind::ALL.to_vec(), rounds: 12, plan, hairpin: None, json: None }
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
            "--rounds" => self.rounds = given.number()? as usize,
            "--slice-ms" => self.plan.length = given.milliseconds()?,
            "--family" => self.plan.family = family(&given.value()?)?,
            "--placement" => self.plan.placement = placement(&given.value()?)?,
            "--hairpin" => self.hairpin = Some(given.value()?.into()),
            "--json" => self.json = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

fn family(value: &str) -> Result<Family> {
    match value {
        "4" => Ok(Family::Ipv4),
        "6" => Ok(Family::Ipv6),
        _ => Err(RigError::new(format!("--family takes 4 or 6, not {value:?}"))),
    }
}

fn placement(value: &str) -> Result<Placement> {
    match value {
        "free" => Ok(Placement::Free),
        "ends" => Ok(Placement::Ends),
        _ => Err(RigError::new(format!("--placement takes free or ends, not {value:?}"))),
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
        let options = parse("--only ovs,bridge --rounds 3 --placement ends").unwrap().unwrap();
        assert_eq!(options.kinds, [Kind::Ovs, Kind::Bridge]);
        assert_eq!((options.rounds, options.plan.placement), (3, Placement::Ends));
        assert!(parse("--help").unwrap().is_none());
        for line in ["--only vpp", "--rounds 0", "--rounds", "--family 5", "--colour red"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
