//! VMs that must be apart: that they do not even resolve each other's addresses.

use std::time::Instant;

use anyhow::Result;
use hairpin_dataplane::ledger::DropReason;

use super::checks::{Resolution, Trial, pairs};
use super::plan::{Expectation, Family, VmPlan};

/// What came of asking for addresses that must not be told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Strangers {
    /// Who was answered by whom all the same, over what.
    pub answered: Vec<(usize, usize, Family)>,
    /// Questions of private VMs,
    pub asked: u64,
    /// and how many frames the station dropped as `own_frame_returned` meanwhile: these,
    /// and whatever else private VMs may have sent to groups.
    pub returned: u64,
}

impl Strangers {
    /// Whether what private VMs asked came back, and no further. Answers are held against
    /// the pairs.
    pub fn hold(&self) -> bool {
        self.returned >= self.asked
    }

    /// What came of a VM's question for another.
    pub fn resolution(&self, from: usize, to: usize, family: Family) -> Resolution {
        match self.answered.contains(&(from, to, family)) {
            true => Resolution::Answered,
            false => Resolution::Unanswered,
        }
    }
}

/// Pings every pair that must be apart before the VMs know each other's addresses.
pub(super) fn ask_all(trial: &mut Trial<'_>) -> Result<Strangers> {
    let Trial { vms, site, pace, interrupt } = trial;
    let before = site.refused(DropReason::OwnFrameReturned);
    let mut strangers = Strangers::default();
    for family in Family::ALL {
        for round in rounds(vms) {
            interrupt.check()?;
            let ping = |&(from, to): &(usize, usize)| (from, vms[to].address(family));
            let pings: Vec<_> = round.iter().map(ping).collect();
            let answers = site.guests.ping_at_once(&pings, pace.stranger);
            let answered = round.iter().zip(answers).filter(|(_, answered)| *answered);
            strangers.answered.extend(answered.map(|(&(from, to), _)| (from, to, family)));
            let private = round.iter().filter(|(from, _)| vms[*from].is_private());
            strangers.asked += private.count() as u64;
        }
    }
    // The last ones may still be on their way.
    let is_back = site.has_refused(DropReason::OwnFrameReturned, before + strangers.asked);
    let started = Instant::now();
    while !is_back() && started.elapsed() < pace.echo {
        site.guests.idle();
    }
    strangers.returned = site.refused(DropReason::OwnFrameReturned) - before;
    Ok(strangers)
}

/// The pairs that must be apart, in rounds in which every VM asks for one at most.
fn rounds(vms: &[VmPlan]) -> Vec<Vec<(usize, usize)>> {
    let mut rounds: Vec<Vec<(usize, usize)>> = Vec::new();
    for (from, to) in pairs(vms) {
        if let Expectation::Apart(_) = Expectation::of(&vms[from], &vms[to]) {
            let free = rounds.iter_mut().find(|round| round.iter().all(|pair| pair.0 != from));
            match free {
                Some(round) => round.push((from, to)),
                None => rounds.push(vec![(from, to)]),
            }
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::super::plan::Scenario;
    use super::*;

    #[test]
    fn every_pair_that_must_be_apart_is_asked_once() {
        let rounds = rounds(&Scenario::All.vms());
        let mut asked: Vec<_> = rounds.iter().flatten().collect();
        asked.sort();
        asked.dedup();
        // Two private VMs with four others, both ways, and with each other.
        assert_eq!((asked.len(), rounds.iter().flatten().count()), (18, 18));
        assert_eq!(rounds.len(), 5);
    }
}
