//! What a neighbour can do to two ports that mind their own business.
//!
//! What they lose beside one that does nothing is the machine's doing, not his: each trial beside
//! his mischief comes right after one in which he is silent, and counts by how much it is worse.

use std::time::Duration;

use super::meanwhile::Meanwhile;
use super::{
    Figure, Method, Needs, ROUNDS, Taken, beyond, bound_of, lane, missed_share, switch_loss,
};
use crate::error::{Result, RigError};
use crate::statistics::median;
use crate::suite::bench::Bench;
use crate::suite::frame::{FLOWS_MAX, Size, Stations, Stream};
use crate::suite::joint::{Joint, Lane};
use crate::suite::pace::Pace;
use crate::suite::record::{Better, Bound};
use crate::suite::site::{Ending, Site};
use crate::suite::trial::{Load, Outcome};
use hairpin_dataplane::wire::Mac;

/// The neighbour, and whom it floods.
const VICTIM: usize = 0;
const NEIGHBOUR: usize = 2;
const OTHER: usize = 3;
/// Of PDR, what the victims exchange.
const VICTIM_SHARE: f64 = 0.5;
/// Of PDR, what the neighbour sends: with the victims' too much for a switch with one CPU.
const NEIGHBOUR_SHARE: f64 = 1.0;
/// Its ring to transmit by, and how far beyond what is used it claims to be.
const TRANSMIT: usize = 1;
const BEYOND: u16 = 0x8000;
/// The first of the addresses that the neighbour makes up.
const SPRAYED: Mac = Mac::new([0x52, 0x54, 0x80, 0, 0, 0]);

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "isolation",
    explanation: [
        "Two ports at half of PDR beside one that floods, broadcasts, makes addresses",
        "up, or corrupts its ring: loss and p99 beyond those beside a silent one.",
    ],
    needs: Needs::vms(4),
    take,
};

/// What the neighbour does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Conduct {
    Floods,
    Broadcasts,
    Sprays,
    Corrupts,
}

impl Conduct {
    const ALL: [(Conduct, &'static str); 4] = [
        (Conduct::Floods, "flooding"),
        (Conduct::Broadcasts, "broadcasting"),
        (Conduct::Sprays, "address-spraying"),
        // The last: the switch is started again after it.
        (Conduct::Corrupts, "ring-corrupting"),
    ];

    /// What it sends.
    fn lane(self, flood: Stream, frames_per_second: f64) -> Option<Lane> {
        let stream = match self {
            Conduct::Corrupts => return None,
            Conduct::Floods => flood,
            Conduct::Broadcasts => {
                Stream { destination: Mac::new([0xff; 6]).into(), size: Size::Fixed(64), ..flood }
            }
            Conduct::Sprays => {
                let source = Stations { first: SPRAYED, count: FLOWS_MAX };
                Stream { source, flows: FLOWS_MAX, ..flood }
            }
        };
        let load = Load::Open(Pace { frames_per_second });
        // The fourth port takes what it gets, and of broadcasts the victim's sender, too: a VM that
        // reads. Nobody keeps an account of it.
        let to = match self {
            Conduct::Broadcasts => vec![OTHER, VICTIM],
            _ => vec![OTHER],
        };
        Some(Lane { stream, load, from: NEIGHBOUR, to })
    }
}

/// A trial while the neighbour's driver claims, a thousand times a second, to have made more
/// buffers available than its ring has; the switch is started again afterwards.
fn beside_corruption(
    bench: &mut Bench,
    site: &mut Site,
    joint: Joint<'_>,
) -> Result<Vec<Vec<Outcome>>> {
    let neighbour = site.ports[NEIGHBOUR].vm();
    let neighbour = neighbour.ok_or_else(|| RigError::new("only VMs have rings to corrupt"))?;
    let ring = neighbour.hostile().ring(TRANSMIT);
    let corrupting = Meanwhile::start(move || {
        ring.set_available(ring.used().wrapping_add(BEYOND));
        ring.kick();
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    let outcomes = bench.jointly_by(site, joint);
    corrupting.stop()?;
    site.reset(Ending::Asked)?;
    outcomes
}

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let highest = bench.partial(site, bytes)?;
    let length_ns = bench.profile.trial_ns / ROUNDS as u64;
    let between = |from, to, bytes| site.stream_between(from, to, bytes);
    let path = site.scenario.path;
    let victims = lane(between(path.0, path.1, bytes), path, VICTIM_SHARE * highest);
    let flood = between(NEIGHBOUR, OTHER, 64);
    let (mut figures, mut alone) = (Vec::new(), Vec::new());
    for (conduct, name) in Conduct::ALL {
        let quiet = [victims.clone()];
        let neighbour = conduct.lane(flood, NEIGHBOUR_SHARE * highest);
        let lanes: Vec<Lane> = quiet.iter().cloned().chain(neighbour).collect();
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let joint = Joint { length_ns, ..bench.joint(&quiet) };
            let silent = Seen::of(&bench.jointly_by(site, joint)?);
            let joint = Joint { length_ns, ..bench.joint(&lanes) };
            let busy = match conduct {
                Conduct::Corrupts => beside_corruption(bench, site, joint)?,
                _ => bench.jointly_by(site, joint)?,
            };
            rounds.push(Round { silent, busy: Seen::of(&busy) });
        }
        alone.extend(rounds.iter().map(|round| round.silent));
        figures.extend(extra(name, &rounds));
    }
    figures.extend(beside_silence(&alone));
    Ok(figures.into())
}

/// What a trial showed of the victims.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    /// What they lost, in percent.
    loss: f64,
    /// Their p99, in microseconds; `None` if nothing came.
    p99_us: Option<f64>,
    /// Who bounded it.
    bound: Bound,
}

impl Seen {
    /// Of the lanes of a trial, the victims' is the first.
    fn of(outcomes: &[Vec<Outcome>]) -> Seen {
        let victims = outcomes.first().map_or(&[][..], Vec::as_slice);
        let p99_ns = victims.iter().find_map(|victim| victim.latency.quantile(0.99));
        Seen {
            loss: 100.0 * victims.iter().map(switch_loss).sum::<f64>(),
            p99_us: p99_ns.map(|ns| ns as f64 / 1000.0),
            bound: bound_of(missed_share(outcomes.iter().flatten())),
        }
    }
}

/// Two trials, one right after the other.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Round {
    silent: Seen,
    busy: Seen,
}

/// What a busy neighbour costs.
fn extra(conduct: &str, rounds: &[Round]) -> Vec<Figure> {
    let bound = worst(rounds.iter().flat_map(|round| [round.silent, round.busy]));
    let figure = |what: &str, unit, value: Option<f64>| {
        let metric = format!("{what}, neighbour {conduct}");
        Some(Figure::new(&metric, unit, Better::Lower, value?).bounded(bound))
    };
    let loss = beyond(rounds.iter().map(|round| (round.silent.loss, round.busy.loss)));
    let p99_us = |round: &Round| Some((round.silent.p99_us?, round.busy.p99_us?));
    let p99_us = beyond(rounds.iter().filter_map(p99_us));
    let figures = [figure("extra loss", "%", loss), figure("extra latency p99", "µs", p99_us)];
    figures.into_iter().flatten().collect()
}

/// What the same ports lose, and how late they are, where nobody does anything to them.
fn beside_silence(trials: &[Seen]) -> Vec<Figure> {
    let bound = worst(trials.iter().copied());
    let figure = |what, unit, values: Vec<f64>| {
        let figure = Figure::new(what, unit, Better::Lower, median(&values)?);
        Some(figure.bounded(bound))
    };
    let loss = trials.iter().map(|seen| seen.loss).collect();
    let p99_us = trials.iter().filter_map(|seen| seen.p99_us).collect();
    let figures = [
        figure("loss, neighbour silent", "%", loss),
        figure("latency p99, neighbour silent", "µs", p99_us),
    ];
    figures.into_iter().flatten().collect()
}

/// The generator, if it bounded any of these trials.
fn worst(trials: impl IntoIterator<Item = Seen>) -> Bound {
    let own = trials.into_iter().any(|seen| seen.bound == Bound::Generator);
    if own { Bound::Generator } else { Bound::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub::{self, Law};
    use crate::suite::methods::tests::outcome;

    fn seen(loss: f64, p99_us: f64) -> Seen {
        Seen { loss, p99_us: Some(p99_us), bound: Bound::None }
    }

    fn values(figures: &[Figure]) -> Vec<f64> {
        figures.iter().map(|figure| figure.value).collect()
    }

    /// What is seen of victims with 50,000 frames a second at a hub that carries 100,000, of each
    /// port so many in a row, beside a neighbour that floods.
    fn beside_a_flood(turns: [usize; 4], frames_per_second: f64) -> (f64, f64) {
        let law = || Law::ByTurns { frames_per_second: 100_000.0, turns: turns.to_vec() };
        let victims = lane(hub::stream(0, 1), (0, 1), 50_000.0);
        let flood = Conduct::Floods.lane(hub::stream(NEIGHBOUR, OTHER), frames_per_second);
        let lanes: Vec<Lane> = [victims.clone()].into_iter().chain(flood).collect();
        let silent = Seen::of(&hub::offer(law(), 64, hub::joint(&[victims])).0);
        let busy = Seen::of(&hub::offer(law(), 64, hub::joint(&lanes)).0);
        let values = values(&extra("flooding", &[Round { silent, busy }]));
        (values[0], values[1])
    }

    #[test]
    fn a_switch_that_gives_a_flood_its_share_and_no_more_takes_nothing_from_its_victims() {
        let (loss, _) = beside_a_flood([1, 0, 1, 0], 200_000.0);
        assert!(loss < 1.0, "{loss} %");
    }

    #[test]
    fn a_switch_that_prefers_the_flood_has_its_victims_lose_what_it_takes() {
        // A fifth of 100,000 is left of 50,000: three fifths are lost.
        let (loss, later_us) = beside_a_flood([1, 0, 4, 0], 200_000.0);
        assert!((58.0..61.0).contains(&loss), "{loss} %");
        // 64 frames wait where 20,000 a second leave.
        assert!((2500.0..4000.0).contains(&later_us), "{later_us} µs");
        // Where there is room for both, nothing is taken.
        assert_eq!(beside_a_flood([1, 0, 4, 0], 40_000.0).0, 0.0);
    }

    #[test]
    fn what_both_trials_lose_is_not_the_neighbour_s_and_the_silent_one_s_is_said() {
        let machine = seen(0.2, 40.0);
        let rounds = [
            Round { silent: machine, busy: machine },
            Round { silent: machine, busy: seen(0.1, 30.0) },
        ];
        assert_eq!(values(&extra("flooding", &rounds)), [0.0, 0.0]);
        let figures = beside_silence(&[machine]);
        assert_eq!(figures[0].metric, "loss, neighbour silent");
        assert_eq!(values(&figures), [0.2, 40.0]);
    }

    #[test]
    fn victims_that_get_nothing_through_lose_everything_and_have_no_p99() {
        let none = Seen::of(&[vec![outcome(1000, 0)]]);
        assert_eq!((none.loss, none.p99_us, none.bound), (100.0, None, Bound::None));
        let round = Round { silent: seen(0.0, 20.0), busy: none };
        assert_eq!(values(&extra("flooding", &[round])), [100.0]);
        // The neighbour's frames are the load, too: without them it is another one.
        let late = Outcome { missed: 500, ..outcome(1000, 500) };
        let seen = Seen::of(&[vec![outcome(1000, 1000)], vec![late]]);
        assert_eq!((seen.loss, seen.bound), (0.0, Bound::Generator));
    }

    #[test]
    fn what_a_neighbour_sends_is_what_it_is_said_to() {
        let flood = hub::stream(NEIGHBOUR, OTHER);
        let lanes = Conduct::ALL.map(|(conduct, _)| conduct.lane(flood, 1e5));
        let [Some(floods), Some(broadcasts), Some(sprays), None] = &lanes else {
            panic!("{lanes:?}")
        };
        assert_eq!((floods.stream, floods.from, &floods.to[..]), (flood, NEIGHBOUR, &[OTHER][..]));
        assert_eq!(broadcasts.stream.destination.first, Mac::new([0xff; 6]));
        assert_eq!(sprays.stream.source.count, FLOWS_MAX);
    }
}
