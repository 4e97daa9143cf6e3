//! The command line of `hairpin-bench`.

use std::path::PathBuf;

use super::bench::Profile;
use super::frame::FLOWS_MAX;
use super::methods::{METHODS, Method};
use super::report::options::{Compare, Show};
use super::scenario::{SCENARIOS, Scenario};
use super::setting::{JUMBO_BYTES, Tagging, Traffic};
use crate::command_line::{self, Given};
use crate::error::{Result, RigError};

/// What `--help` prints.
pub const HELP: &str = "\
hairpin-bench: what host switches do with every frame, side by side

Usage: hairpin-bench list              what tests and scenarios there are
       hairpin-bench quick [OPTIONS]   a first picture in three minutes
       hairpin-bench run [OPTIONS]     figures to quote
                           (as root, on a machine with two CPUs and nothing else to do)
       hairpin-bench show FILE [--html OUT]
                           print the table of a run; write its page, one file with all plots
       hairpin-bench compare NEW OLD [--limit P]
                           how NEW's figures have changed since OLD: fails if one is worse by
                           more than P percent (5), and its interval says that it is not noise

  --only A,B      switches, of: hairpin dpdk-wire ovs-dpdk linux-bridge macvtap (default: all that
                  are there)
  --tests A,B     tests (default: quick: throughput,latency; run: all; see list)
  --scenarios A,B scenarios (default: v2v,t2t, of which each switch has one; run: h2h, too, which
                  is for tcp; see list)
  --sizes A,B     frame lengths with checksum, 64 to 9018 (default: quick: 64; run: 64,512,1518);
                  what is longer than 1518 is measured apart, with an MTU of 9000
  --tag T         what frames in VLANs enter the switch with: none (default; access ports), vlan
                  (a C-tag; trunk ports), svlan (an S-tag)
  --flows N       flows from each sender to each receiver, 1 to 1048576 (default: 1)
  --slices N      turns of each switch (default: quick: 3; run: 10)
  --trial-ms N    length of each trial (default: quick: 150; run: 1000)
  --hairpin FILE  Hairpin's program (default: the one built beside this program)
  --json FILE     write all records there, a line of JSON each
  --html FILE     write a page with all plots there
  --help          this

Generator and receiver are one thread on CPU 0, the switch forwards on CPU 1. A switch of the
kernel's forwards on CPU 0, too, in what the generator sends by. Only one switch runs at a time, by
turns; the others are stopped where they stand. VMs have huge pages of 2 MiB, which a run sets aside
and gives back. Hosts (h2h) are namespaces with the kernel's stack, run where the scheduler has them,
and take neither --sizes nor --tag nor --flows; test tcp needs ethtool.
";

/// Those of which every switch has one.
const QUICK_SCENARIOS: [&str; 2] = ["v2v", "t2t"];
/// These, and the one of test tcp.
const RUN_SCENARIOS: [&str; 3] = ["v2v", "t2t", "h2h"];

/// A switch that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Hairpin.
    Hairpin,
    /// DPDK's bare wire.
    DpdkWire,
    /// Open vSwitch with DPDK.
    OvsDpdk,
    /// The kernel's bridge.
    LinuxBridge,
    /// macvtap in bridge mode.
    Macvtap,
}

impl Kind {
    /// All of them; ratios are of the first.
    pub const ALL: [Kind; 5] =
        [Kind::Hairpin, Kind::DpdkWire, Kind::OvsDpdk, Kind::LinuxBridge, Kind::Macvtap];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hairpin => "hairpin",
            Kind::DpdkWire => "dpdk-wire",
            Kind::OvsDpdk => "ovs-dpdk",
            Kind::LinuxBridge => "linux-bridge",
            Kind::Macvtap => "macvtap",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// Say what tests and scenarios there are.
    List,
    /// Measure.
    Measure(Options),
    /// Show what was measured.
    Show(Show),
    /// Compare two runs.
    Compare(Compare),
}

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Switches.
    pub kinds: Vec<Kind>,
    /// Tests.
    pub methods: Vec<Method>,
    /// Scenarios.
    pub scenarios: Vec<Scenario>,
    /// Frame lengths, their checksum included.
    pub sizes: Vec<usize>,
    /// What frames are like besides.
    pub traffic: Traffic,
    /// How much time there is.
    pub profile: Profile,
    /// Hairpin's program.
    pub hairpin: Option<PathBuf>,
    /// Where records go.
    pub json: Option<PathBuf>,
    /// Where a page of them goes.
    pub html: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            kinds: Kind::ALL.to_vec(),
            methods: METHODS.to_vec(),
            scenarios: RUN_SCENARIOS.iter().filter_map(|name| Scenario::named(name)).collect(),
            sizes: vec![64, 512, 1518],
            traffic: Traffic::PLAIN,
            profile: Profile::WHOLE,
            hairpin: None,
            json: None,
            html: None,
        }
    }
}

/// [`Options`] as `quick` has them.
#[derive(Clone, Debug)]
struct Quick(Options);

impl Default for Quick {
    fn default() -> Quick {
        let quick = ["throughput", "latency"];
        let methods = METHODS.into_iter().filter(|method| quick.contains(&method.name)).collect();
        let (sizes, profile) = (vec![64], Profile::QUICK);
        let scenarios = QUICK_SCENARIOS.iter().filter_map(|name| Scenario::named(name)).collect();
        Quick(Options { methods, scenarios, sizes, profile, ..Options::default() })
    }
}

impl command_line::Options for Quick {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        self.0.set(given)
    }
}

impl command_line::Options for Options {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--only" => self.kinds = given.named("switch", &Kind::ALL, Kind::name)?,
            "--tests" => self.methods = given.named("test", &METHODS, |method| method.name)?,
            "--scenarios" => {
                self.scenarios = given.named("scenario", &SCENARIOS, |scenario| scenario.name)?;
            }
            "--sizes" => self.sizes = given.list(size)?,
            "--tag" => {
                let [tagging] = given.named("tag", &Tagging::ALL, Tagging::name)?[..] else {
                    return Err(RigError::new("--tag takes one"));
                };
                self.traffic.tagging = tagging;
            }
            "--flows" => self.traffic.flows = flows(given.number()?)?,
            "--slices" => self.profile.slices = given.number()? as usize,
            "--trial-ms" => self.profile.trial_ns = given.milliseconds()?.as_nanos() as u64,
            "--hairpin" => self.hairpin = Some(given.value()?.into()),
            "--json" => self.json = Some(given.value()?.into()),
            "--html" => self.html = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

/// As many as a stream may have.
fn flows(number: u32) -> Result<u32> {
    match number {
        1..=FLOWS_MAX => Ok(number),
        _ => Err(RigError::new(format!("--flows takes 1 to {FLOWS_MAX}, not {number}"))),
    }
}

/// Up to what an MTU of 9000 lets through.
fn size(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(bytes) if (64..=JUMBO_BYTES).contains(&bytes) => Ok(bytes),
        _ => {
            let range = format!("64 to {JUMBO_BYTES}");
            Err(RigError::new(format!("--sizes takes lengths from {range}, not {text:?}")))
        }
    }
}

/// Reads the command line; `None` asks for help.
///
/// # Errors
/// With what would be right.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Task>> {
    let mut arguments = arguments.into_iter();
    match arguments.next().as_deref() {
        None | Some("--help" | "-h") => Ok(None),
        Some("list") => Ok(Some(Task::List)),
        Some("run") => Ok(command_line::parse(arguments)?.map(Task::Measure)),
        Some("quick") => {
            let quick: Option<Quick> = command_line::parse(arguments)?;
            Ok(quick.map(|Quick(options)| Task::Measure(options)))
        }
        Some("show") => Ok(Show::parse(arguments)?.map(Task::Show)),
        Some("compare") => Ok(Compare::parse(arguments)?.map(Task::Compare)),
        Some(other) => {
            let known = "list, quick, run, show, compare";
            Err(RigError::new(format!("{other:?} is none of {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(line: &str) -> Options {
        match parse(line.split_whitespace().map(Into::into)).unwrap().unwrap() {
            Task::Measure(options) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn quick_and_run_have_defaults_of_their_own_and_options_override_them() {
        let (quick, whole) = (measure("quick"), measure("run"));
        assert_eq!((quick.methods.len(), whole.methods.len()), (2, METHODS.len()));
        assert_eq!((quick.profile, whole.profile), (Profile::QUICK, Profile::WHOLE));
        let named = |options: &Options| {
            options.scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>()
        };
        assert_eq!(named(&quick), ["v2v", "t2t"]);
        assert_eq!(named(&whole), ["v2v", "t2t", "h2h"]);
        assert_eq!(whole.traffic, Traffic::PLAIN);
        let options = measure("run --tag vlan --flows 1000 --sizes 9018");
        assert_eq!(options.traffic, Traffic { tagging: Tagging::Customer, flows: 1000 });
        assert_eq!(options.sizes, [9018]);
        let options = measure("run --scenarios p2p,t2t");
        assert_eq!((options.scenarios[0].name, options.scenarios[1].name), ("p2p", "t2t"));
        let options = measure("quick --only ovs-dpdk --sizes 64,1518 --tests loss --slices 7");
        assert_eq!((options.kinds, options.sizes), (vec![Kind::OvsDpdk], vec![64, 1518]));
        assert_eq!((options.methods[0].name, options.profile.slices), ("loss", 7));
    }

    #[test]
    fn a_run_is_shown_and_compared() {
        let task = |line: &str| parse(line.split_whitespace().map(Into::into)).unwrap().unwrap();
        assert!(matches!(task("list"), Task::List));
        assert!(matches!(task("show a.json --html a.html"), Task::Show(_)));
        assert!(matches!(task("compare new old --limit 3"), Task::Compare(_)));
        assert_eq!(measure("quick --html page").html, Some("page".into()));
    }

    #[test]
    fn nonsense_is_refused() {
        let parameters = ["run --tag qinq", "run --tag vlan,svlan", "run --flows 0"];
        let lengths = ["quick --sizes 63", "run --sizes 9019", "run --flows 1048577"];
        let words = ["slow", "run --only vpp", "run --x"];
        for line in [parameters, lengths, words].concat() {
            assert!(parse(line.split_whitespace().map(Into::into)).is_err(), "{line}");
        }
        assert!(parse([]).unwrap().is_none());
        assert!(parse(["run".to_owned(), "--help".to_owned()]).unwrap().is_none());
    }
}
