//! A generator at the ports of a switch: what the methods measure with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Monotonic;
use super::endpoint::{Receiver, Sender, Straight};
use super::frame::{Size, Stream, Tag};
use super::joint::{Joint, Lane};
use super::pace::Pace;
use super::port::Port;
use super::search::{Found, Goal, search};
use super::setting::Addresses;
use super::site::{GREETINGS, SHORTEST, Site, station};
use super::trial::{Generator, Load, Outcome, Plan};
use crate::error::{Result, RigError};
use crate::front_end::FrontEnd;
use crate::gauge::Placement;
use crate::interrupt;

/// Frames of a closed loop.
pub const WINDOW: u64 = 256;
/// How long frames may take after a trial.
const DRAIN_NS: u64 = 50_000_000;
/// How much above the rate of a closed loop a search begins.
const HEADROOM: f64 = 1.3;
/// How far below that it may end.
const LEAST: f64 = 0.01;
/// In this time they have gone where they go.
const SETTLING: Duration = Duration::from_millis(10);
/// What PDR allows to be lost.
pub const PARTIAL: f64 = 0.001;
/// Of a straight loop's rate: what is above this share is bound by the generator.
const CEILING_SHARE: f64 = 0.8;

/// How much time there is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Profile {
    /// Of each trial, in nanoseconds.
    pub trial_ns: u64,
    /// Turns of each switch.
    pub slices: usize,
    /// Of searches, as a share.
    pub precision: f64,
    /// Of what is short and varies: bursts, lone frames.
    pub repeats: usize,
}

impl Profile {
    /// For figures that are quoted.
    pub const WHOLE: Profile =
        Profile { trial_ns: 1_000_000_000, slices: 10, precision: 0.005, repeats: 50 };
    /// For a first picture.
    pub const QUICK: Profile =
        Profile { trial_ns: 150_000_000, slices: 3, precision: 0.02, repeats: 10 };
}

/// Of what a PDR is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Searched {
    name: &'static str,
    scenario: &'static str,
    ports: usize,
    bytes: usize,
    addresses: Addresses,
    cores: Placement,
}

/// What a search found, and whose limit it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limit {
    /// What was found.
    pub found: Found,
    /// Share of what was lost in the last trial that failed which the generator was too slow for.
    pub missed: f64,
}

/// A generator, a clock, and the profile of a run.
#[derive(Debug)]
pub struct Bench {
    generator: Generator,
    clock: Monotonic,
    /// The number that was drawn last.
    drawn: u16,
    /// PDRs that were found.
    found: BTreeMap<Searched, f64>,
    /// Where the generator's CPU and the switch's are: each place has rates of its own.
    pub cores: Placement,
    /// How much time there is.
    pub profile: Profile,
}

impl Bench {
    /// For runs of this profile.
    #[must_use]
    pub fn new(profile: Profile) -> Bench {
        Bench {
            generator: Generator::default(),
            clock: Monotonic::new(),
            drawn: 0,
            found: BTreeMap::new(),
            cores: Placement::Mixed,
            profile,
        }
    }

    /// Offers this load of the scenario's frames for a trial's time, after the switch was told
    /// who is where.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn trial(&mut self, site: &mut Site, bytes: usize, load: Load) -> Result<Outcome> {
        let stream = site.stream(bytes);
        self.trial_of(site, stream, load)
    }

    /// The same with any frames between the scenario's ends.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn trial_of(&mut self, site: &mut Site, stream: Stream, load: Load) -> Result<Outcome> {
        let plan = self.plan(stream, load);
        self.trial_by(site, plan)
    }

    /// The same by any plan.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn trial_by(&mut self, site: &mut Site, plan: Plan) -> Result<Outcome> {
        site.greet()?;
        self.trial_in_silence(site, plan)
    }

    /// The same without telling the switch who is where.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn trial_in_silence(&mut self, site: &mut Site, plan: Plan) -> Result<Outcome> {
        let ends = site.ends();
        self.generator.run(&plan, &mut self.clock, &mut &ends, &mut &ends)
    }

    /// What a trial of these is by the profile.
    #[must_use]
    pub fn plan(&self, stream: Stream, load: Load) -> Plan {
        Plan { stream, load, length_ns: self.profile.trial_ns, drain_ns: DRAIN_NS }
    }

    /// What the switch forwards of a closed loop, in frames a second.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn forwarding_rate(&mut self, site: &mut Site, bytes: usize) -> Result<f64> {
        self.forwarding(site, bytes).map(|(rate, _)| rate)
    }

    /// The same, and the share of the time, 0 to 1, in which the generator waited for the switch.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn forwarding(&mut self, site: &mut Site, bytes: usize) -> Result<(f64, f64)> {
        let outcome = self.trial(site, bytes, Load::Closed { window: WINDOW })?;
        forwarded(&outcome)
    }

    /// The same between two VMs of no site.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn forwarding_between(
        &mut self,
        [from, to]: &mut [FrontEnd; 2],
        bytes: usize,
    ) -> Result<(f64, f64)> {
        let plan = self.plan(between_vms(bytes), Load::Closed { window: WINDOW });
        forwarded(&self.generator.run(&plan, &mut self.clock, from, to)?)
    }

    /// The highest load of which no more than this share is lost.
    ///
    /// # Errors
    /// Those of trials.
    pub fn limit(&mut self, site: &mut Site, bytes: usize, loss: f64) -> Result<Limit> {
        let highest = HEADROOM * self.forwarding_rate(site, bytes)?;
        let goal = Goal { loss, precision: self.profile.precision };
        let mut missed = 0.0;
        let found = search(goal, (LEAST * highest, highest), |frames_per_second| {
            let load = Load::Open(Pace { frames_per_second });
            let outcome = self.trial(site, bytes, load)?;
            if outcome.loss() > loss {
                missed = outcome.missed as f64 / outcome.lost() as f64;
            }
            Ok(outcome.loss())
        })?;
        Ok(Limit { found, missed })
    }

    /// The highest load of which no more than 0.1 % is lost, for tests that load a switch by a
    /// share of it: searched for once in a run.
    ///
    /// # Errors
    /// Those of trials; if there is none.
    pub fn partial(&mut self, site: &mut Site, bytes: usize) -> Result<f64> {
        let key = Searched {
            name: site.name,
            scenario: site.scenario.name,
            ports: site.ports.len(),
            bytes,
            addresses: site.ground().addressing,
            cores: self.cores,
        };
        if let Some(&found) = self.found.get(&key) {
            return Ok(found);
        }
        let passed = self.limit(site, bytes, PARTIAL)?.found.passed;
        let found = passed.ok_or_else(|| {
            RigError::new("no load passes at 0.1 % loss: there is no PDR to load by")
        })?;
        self.found.insert(key, found);
        Ok(found)
    }

    /// A number that was not drawn before, until there are no more.
    pub fn draw(&mut self) -> u16 {
        self.drawn = self.drawn.wrapping_add(1);
        self.drawn
    }

    /// Forgets what was found at a switch whose CPU moved meanwhile: it is of neither place.
    pub fn forget(&mut self, site: &Site) {
        let cores = self.cores;
        self.found.retain(|of, _| (of.name, of.cores) != (site.name, cores));
    }

    /// Offers several loads at once for a trial's time, after every port has spoken.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn jointly(&mut self, site: &mut Site, lanes: &[Lane]) -> Result<Vec<Vec<Outcome>>> {
        self.jointly_by(site, self.joint(lanes))
    }

    /// The same for so many nanoseconds.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn jointly_for(
        &mut self,
        site: &mut Site,
        lanes: &[Lane],
        length_ns: u64,
    ) -> Result<Vec<Vec<Outcome>>> {
        self.jointly_by(site, Joint { length_ns, ..self.joint(lanes) })
    }

    /// What a trial of these lanes is by the profile.
    #[must_use]
    pub fn joint<'l>(&self, lanes: &'l [Lane]) -> Joint<'l> {
        Joint { lanes, length_ns: self.profile.trial_ns, drain_ns: DRAIN_NS, dozer: None }
    }

    /// The same by any plan.
    ///
    /// # Errors
    /// If nothing of it can be sent, or the run is interrupted.
    pub fn jointly_by(&mut self, site: &mut Site, joint: Joint<'_>) -> Result<Vec<Vec<Outcome>>> {
        let mut frame = Vec::new();
        for from in 0..site.ports.len() {
            let to = usize::from(from == 0);
            for number in 0..GREETINGS {
                site.stream_between(from, to, SHORTEST).write(number, 0, &mut frame);
                site.ports[from].send(&[&frame])?;
            }
        }
        interrupt::sleep(SETTLING)?;
        site.ports.iter_mut().try_for_each(Port::discard)?;
        self.generator.run_jointly(joint, &mut self.clock, &mut site.ports)
    }

    /// What generator and receiver do without a switch or rings between them, in frames a second:
    /// the self-test.
    ///
    /// # Errors
    /// If a frame is lost or altered.
    pub fn ceiling(&mut self, bytes: usize) -> Result<f64> {
        let wire = std::cell::RefCell::new(Straight::default());
        let plan = self.plan(between_vms(bytes), Load::Closed { window: WINDOW });
        let (mut sender, mut receiver) = (Through(&wire), Through(&wire));
        let outcome = self.generator.run(&plan, &mut self.clock, &mut sender, &mut receiver)?;
        match outcome.forwarded_per_second() {
            Some(rate) if outcome.lost() == 0 && outcome.corrupted == 0 => Ok(rate),
            _ => Err(RigError::new(format!(
                "the self-test lost {} of {} frames, {} were altered: this is a defect of the rig",
                outcome.lost(),
                outcome.offered,
                outcome.corrupted
            ))),
        }
    }
}

/// Frames from the first station to the second.
fn between_vms(bytes: usize) -> Stream {
    let (source, destination) = (station(0).into(), station(1).into());
    Stream { source, destination, tag: Tag::Untagged, size: Size::Fixed(bytes), flows: 1 }
}

/// A closed loop's rate, and the share of the time in which the generator waited.
fn forwarded(outcome: &Outcome) -> Result<(f64, f64)> {
    let rate = outcome.forwarded_per_second().ok_or_else(|| {
        let offered = outcome.offered;
        RigError::new(format!("of {offered} frames sent none came: are both ports up?"))
    })?;
    Ok((rate, outcome.waited()))
}

/// Whether a rate is so near to what the generator can do without a switch that it may be its own.
#[must_use]
pub fn is_near_ceiling(rate: f64, ceiling: f64) -> bool {
    rate > CEILING_SHARE * ceiling
}

/// A loop without a switch, as both of its ends see it.
#[derive(Clone, Copy, Debug)]
struct Through<'w>(&'w std::cell::RefCell<Straight>);

impl Sender for Through<'_> {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        Ok(self.0.borrow_mut().put(frames))
    }
}

impl Receiver for Through<'_> {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.0.borrow_mut().take(visit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_loses_nothing() {
        let profile = Profile { trial_ns: 20_000_000, ..Profile::QUICK };
        let mut bench = Bench::new(profile);
        for bytes in [64, 1518, 9000] {
            assert!(bench.ceiling(bytes).unwrap() > 0.0);
        }
        assert!(is_near_ceiling(9.0, 10.0) && !is_near_ceiling(7.0, 10.0));
    }
}
