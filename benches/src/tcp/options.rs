//! The command line of `tcp`.

use std::path::PathBuf;
use std::time::Duration;

use hairpin_tests::bed::Family;

use super::contestant::Kind;
use super::slice::{Placement, Plan};
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
        let mut options = Options::default();
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            if option == "--help" || option == "-h" {
                return Ok(None);
            }
            let value = arguments
                .next()
                .ok_or_else(|| RigError::new(format!("{option} needs a value (see --help)")))?;
            options.set(&option, &value)?;
        }
        Ok(Some(options))
    }

    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        match option {
            "--only" => self.kinds = value.split(',').map(kind).collect::<Result<_>>()?,
            "--rounds" => self.rounds = number(option, value)?,
            "--slice-ms" => {
                self.plan.length = Duration::from_millis(number(option, value)? as u64);
            }
            "--family" => self.plan.family = family(value)?,
            "--placement" => self.plan.placement = placement(value)?,
            "--hairpin" => self.hairpin = Some(value.into()),
            "--json" => self.json = Some(value.into()),
            _ => return Err(RigError::new(format!("unknown option {option} (see --help)"))),
        }
        Ok(())
    }
}

/// The value of an option that takes a number above 0.
///
/// # Errors
/// If it is none.
pub(crate) fn number(option: &str, value: &str) -> Result<usize> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(RigError::new(format!("{option} takes a number above 0, not {value:?}"))),
    }
}

fn kind(name: &str) -> Result<Kind> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let known = Kind::ALL.map(Kind::name).join(", ");
        RigError::new(format!("unknown contestant {name:?}: there are {known}"))
    })
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
