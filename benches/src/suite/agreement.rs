//! Whether two generators say the same of one switch: ours, and DPDK's testpmd.
//!
//! Both have two VMs at the switch with rings alike, and keep 512 frames of the same length under
//! way, half of them in each direction; what is received at both VMs is summed up. testpmd sends
//! the frames back that it receives, ours numbers new ones and accounts for each. Windows
//! alternate, as in [`crate::measure`], and are compared where the CPUs were the same
//! ([`crate::gauge`]). Where a generator has no time to wait, it measures itself,
//! and the two need not agree: this is said then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::bench::{Bench, Profile};
use super::joint::Lane;
use super::methods::forwarding::WAITING_SHARE;
use super::options::Kind;
use super::peers::{DpdkWire, Hairpin, OvsDpdk, Peer};
use super::scenario::Scenario;
use super::setting::Setting;
use super::site::Site;
use super::trial::{Load, Outcome};
use crate::command_line::{self, Given};
use crate::error::{Context, Result, RigError};
use crate::gauge::{Gauge, Placement};
use crate::hugepages::RunDirectory;
use crate::layout::LAYOUTS;
use crate::measure::{Plan, measure};
use crate::pair::{Pair, Side, WireKind};
use crate::statistics::{median, median_interval};
use crate::testpmd::{self, GENERATOR_CPU, Traffic, WIRE_CPU};
use crate::{interrupt, program};

/// What `--help` prints.
pub const HELP: &str = "\
agreement: what hairpin-bench's generator and DPDK's testpmd say of one switch

Usage: agreement [OPTIONS]     (as root, on a machine with two CPUs and nothing else to do)

  --switch A      one of: hairpin dpdk-wire ovs-dpdk (default: ovs-dpdk)
  --bytes N       frame length without checksum (default: 64)
  --windows N     windows of each generator (default: 20)
  --window-ms N   length of a window (default: 1000)
  --hairpin FILE  Hairpin's program (default: the one built beside this program)
  --help          this

Windows are put together by where the CPUs were (near, far), 5 at least. Ends with 1 if the intervals
of two medians do not overlap although neither generator was short of time, or nothing was compared.
";

/// Windows of one place that are worth comparing.
const WINDOWS_MIN: usize = 5;
/// Frames that either direction has under way.
const WINDOW: u64 = 256;
/// Bytes of the checksum, which testpmd does not count.
const FCS_BYTES: usize = 4;

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    kind: Kind,
    bytes: u32,
    windows: usize,
    length: Duration,
    hairpin: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let (kind, length) = (Kind::OvsDpdk, Duration::from_secs(1));
        Options { kind, bytes: 64, windows: 20, length, hairpin: None }
    }
}

impl command_line::Options for Options {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--switch" => {
                let kinds = [Kind::Hairpin, Kind::DpdkWire, Kind::OvsDpdk];
                let named = given.named("switch", &kinds, Kind::name)?;
                let [kind] = named[..] else { return Err(RigError::new("--switch takes one")) };
                self.kind = kind;
            }
            "--bytes" => self.bytes = given.number()?,
            "--windows" => self.windows = given.number()? as usize,
            "--window-ms" => self.length = given.milliseconds()?,
            "--hairpin" => self.hairpin = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

/// What a generator found: frames a second in each window, and how much of its time it waited.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Found {
    /// One for each window.
    pub rates: Vec<f64>,
    /// Likewise, 0 to 1.
    pub waited: Vec<f64>,
}

impl Found {
    fn add(&mut self, (rate, waited): (f64, f64)) {
        self.rates.push(rate);
        self.waited.push(waited);
    }

    /// Whether it had time to wait in most windows.
    fn had_time(&self) -> bool {
        median(&self.waited).is_some_and(|waited| waited >= WAITING_SHARE)
    }
}

/// How two generators compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The intervals of their medians overlap.
    Agree,
    /// One of them had no time to wait, and measured itself: whether they overlap says nothing.
    Bounded,
    /// They do not overlap.
    Disagree,
}

/// What two generators say of the same switch; `None` without windows.
#[must_use]
pub fn verdict(ours: &Found, theirs: &Found) -> Option<Verdict> {
    let [low, high] = median_interval(&ours.rates)?;
    let [their_low, their_high] = median_interval(&theirs.rates)?;
    let had_time = ours.had_time() && theirs.had_time();
    Some(match low <= their_high && their_low <= high {
        _ if !had_time => Verdict::Bounded,
        true => Verdict::Agree,
        false => Verdict::Disagree,
    })
}

/// Measures and says what came of it.
///
/// # Errors
/// If the generators disagree; without root or the switch; if a process ends.
pub fn run(options: Options) -> Result<()> {
    program::begin_as_root("huge pages, namespaces and priorities")?;
    testpmd::check_installed()?;
    let (peer, wire) = contestants(&options)?;
    println!("{}: {}", peer.name(), peer.version()?);
    core_affinity::set_for_current(core_affinity::CoreId { id: GENERATOR_CPU });
    let scenario = Scenario::named("v2v").ok_or_else(|| RigError::new("there is no v2v"))?;
    let setting = Setting::plain(scenario, 2);
    let directory = RunDirectory::create(2 * peer.pages() + testpmd::PAGES + setting.pages())?;
    let mut site = Site::start(peer.as_ref(), &setting, &directory)?;
    site.pause()?;
    let mut pairs = [Pair::start(&Side { name: "testpmd", wire }, &LAYOUTS[0], &directory)?];
    pairs[0].pause()?;
    let trial_ns = options.length.as_nanos() as u64;
    let mut bench = Bench::new(Profile { trial_ns, ..Profile::WHOLE });
    let mut found: BTreeMap<Placement, [Found; 2]> = BTreeMap::new();
    let mut gauge = Gauge::new(GENERATOR_CPU, WIRE_CPU)?;
    for window in 0..options.windows {
        interrupt::check()?;
        eprintln!("agreement: window {} of {}", window + 1, options.windows);
        site.resume()?;
        let ours = both_ways(&mut bench, &mut site, options.bytes as usize + FCS_BYTES);
        site.pause()?;
        let (ours, theirs) = (ours?, by_testpmd(&mut pairs, &options)?);
        let [of_ours, of_theirs] = found.entry(gauge.since()?).or_default();
        of_ours.add(ours);
        of_theirs.add(theirs);
    }
    judge(&found)
}

/// Says what came of it, by where the CPUs were.
///
/// # Errors
/// If the generators disagree where the CPUs stayed.
fn judge(found: &BTreeMap<Placement, [Found; 2]>) -> Result<()> {
    let (mut disagreed, mut compared) = (Vec::new(), 0);
    for (cores, [ours, theirs]) in found {
        println!("cores {cores}, windows: {}", ours.rates.len());
        tell("hairpin-bench", ours);
        tell("testpmd", theirs);
        match verdict(ours, theirs) {
            _ if *cores == Placement::Mixed || ours.rates.len() < WINDOWS_MIN => {
                println!("  not compared: too few windows, or the CPUs moved");
                continue;
            }
            Some(Verdict::Agree) => println!("  the intervals overlap: they agree"),
            Some(Verdict::Bounded) => {
                println!(
                    "  who hardly waited has measured himself: this says nothing of the other"
                );
            }
            Some(Verdict::Disagree) => disagreed.push(cores.name()),
            None => continue,
        }
        compared += 1;
    }
    if compared == 0 {
        return Err(RigError::new("nothing was compared: ask for more --windows"));
    }
    if disagreed.is_empty() {
        return Ok(());
    }
    let labels = disagreed.join(", ");
    let what = format!("{labels}: the intervals do not overlap, and both had time to wait");
    Err(RigError::new(what))
}

/// The switch as the suite starts it, and as testpmd's rig does.
fn contestants(options: &Options) -> Result<(Box<dyn Peer>, WireKind)> {
    Ok(match options.kind {
        Kind::Hairpin => {
            let built = || hairpin_tests::bed::program().context("Hairpin");
            let program = options.hairpin.clone().map_or_else(built, Ok)?;
            (Box::new(Hairpin { program: program.clone() }), WireKind::Hairpin { program, idle: 0 })
        }
        Kind::OvsDpdk => (Box::new(OvsDpdk), WireKind::OpenVSwitch),
        _ => (Box::new(DpdkWire), WireKind::Dpdk),
    })
}

/// A closed loop each way by our generator: frames a second, and the share of time it waited.
fn both_ways(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<(f64, f64)> {
    let lanes = [(0, 1), (1, 0)].map(|(from, to)| Lane {
        stream: site.stream_between(from, to, bytes),
        load: Load::Closed { window: WINDOW },
        from,
        to: vec![to],
    });
    let outcomes = bench.jointly(site, &lanes)?;
    let rates = outcomes.iter().flatten().map(|outcome| outcome.forwarded_per_second());
    let rates: Option<Vec<f64>> = rates.collect();
    let rates = rates.ok_or_else(|| RigError::new("nothing came by one of the ways"))?;
    let waited = outcomes[0].first().map_or(0.0, Outcome::waited);
    Ok((rates.iter().sum(), waited))
}

/// The same by testpmd.
fn by_testpmd(pairs: &mut [Pair; 1], options: &Options) -> Result<(f64, f64)> {
    let traffic = Traffic { engine: "mac".into(), bursts: 8 };
    let Options { bytes, length, .. } = *options;
    let outcome = measure(pairs, &Plan { bytes, round: 0, windows: 1, length, traffic })?;
    let window = outcome.windows.first().ok_or_else(|| RigError::new("testpmd has no window"))?;
    Ok((1e6 * window.mpps, 1.0 - window.busy().unwrap_or(1.0)))
}

fn tell(name: &str, found: &Found) {
    let (Some(rate), Some([low, high]), Some(waited)) =
        (median(&found.rates), median_interval(&found.rates), median(&found.waited))
    else {
        return;
    };
    println!(
        "  {name:14} {:.3} M frames/s [{:.3}, {:.3}], waited {:.0} % of its time",
        rate / 1e6,
        low / 1e6,
        high / 1e6,
        100.0 * waited
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rate: f64, waited: f64) -> Found {
        let rates = (0..9).map(|step| rate * (1.0 + 0.001 * f64::from(step))).collect();
        Found { rates, waited: vec![waited; 9] }
    }

    #[test]
    fn they_agree_where_intervals_overlap_and_who_has_no_time_has_no_say() {
        assert_eq!(verdict(&found(1e6, 0.5), &found(1.004e6, 0.2)), Some(Verdict::Agree));
        assert_eq!(verdict(&found(1e6, 0.5), &found(1.004e6, 0.0)), Some(Verdict::Bounded));
        assert_eq!(verdict(&found(1e6, 0.5), &found(1.1e6, 0.5)), Some(Verdict::Disagree));
        assert_eq!(verdict(&found(1e6, 0.02), &found(1.1e6, 0.5)), Some(Verdict::Bounded));
        assert_eq!(verdict(&Found::default(), &found(1e6, 0.5)), None);
    }

    #[test]
    fn only_windows_of_one_place_are_compared() {
        let pair = |ours, theirs| [found(ours, 0.5), found(theirs, 0.5)];
        let (same, other) = (pair(1e6, 1.001e6), pair(1e6, 2e6));
        let all = [(Placement::Near, same.clone()), (Placement::Mixed, other.clone())];
        assert!(judge(&all.into()).is_ok());
        assert!(judge(&[(Placement::Mixed, other.clone())].into()).is_err());
        let error = judge(&[(Placement::Near, same), (Placement::Far, other)].into());
        assert!(error.unwrap_err().to_string().starts_with("far: "));
    }

    #[test]
    fn one_switch_is_asked_for() {
        let parse =
            |line: &str| command_line::parse::<Options>(line.split_whitespace().map(Into::into));
        let options = parse("--switch hairpin --windows 5 --bytes 1514").unwrap().unwrap();
        assert_eq!((options.kind, options.windows, options.bytes), (Kind::Hairpin, 5, 1514));
        assert!(parse("--switch hairpin,ovs-dpdk").is_err());
        assert!(parse("--switch vpp").is_err());
    }
}
