//! How many addresses a switch learns, and how fast (RFC 2889, 5.7 and 5.8).
//!
//! One port sends from many addresses to a second one, which then sends a frame to each of them; a
//! third one gets those that the switch has not learned. Attempts at a number of addresses all use
//! the same ones, so that a table that keeps what it has, and one that forgets the oldest, show
//! their size alike; attempts at a rate use new ones. A switch whose table can be configured has
//! it as large as that goes.

use hairpin_dataplane::wire::Mac;

use super::{Figure, Method, Needs, Taken, switch_loss};
use crate::error::{Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::frame::{FLOWS_MAX, Stations, Stream};
use crate::suite::joint::Lane;
use crate::suite::pace::Pace;
use crate::suite::record::{Better, Bound};
use crate::suite::search::{Goal, search};
use crate::suite::setting::Addresses;
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};

/// Who asks, who has the addresses, who gets what is flooded.
const TEST: usize = 0;
const LEARNED: usize = 1;
const MONITOR: usize = 2;
/// Of PDR, the rate at which addresses are learned and asked for.
const SHARE: f64 = 0.25;
/// Addresses of the first attempt.
const FEW: u32 = 16;
/// New addresses of an attempt at a rate.
const NEW: u32 = 256;
/// How often addresses are taught before a switch counts as not knowing them.
const ROUNDS: usize = 4;
/// Of the frames to addresses, so many may be lost.
const LOST_SHARE: f64 = 0.01;
/// The first address of those that count, and of those that are new.
const COUNTED: Mac = Mac::new([0x52, 0x54, 0x40, 0, 0, 0]);

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "addresses",
    explanation: [
        "The most addresses behind one port none of which is flooded once learned,",
        "and the highest rate at which new ones are learned (RFC 2889, 5.7 and 5.8).",
    ],
    needs: Needs { addresses: Addresses::Learned, ..Needs::vms(3) },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let highest = bench.partial(site, bytes)?;
    let rate = SHARE * highest;
    let mut asked = Asked { bench, site, bytes };
    // First, while there is room for new ones.
    let mut taken = learning(&mut asked, highest, rate)?;
    let capacity = most(FEW, FLOWS_MAX, |count| {
        // Several times before it counts: of as many frames that teach one may be lost by whoever
        // else uses the machine, and what it would have taught is taught the next time.
        for _ in 1..ROUNDS {
            if asked.learns(COUNTED, count, rate, rate)? == Learned::All {
                return Ok(Learned::All);
            }
        }
        asked.learns(COUNTED, count, rate, rate)
    })?;
    let Some(capacity) = capacity else {
        return Err(RigError::new(
            "frames to addresses that a port has used are flooded, or frames from them dropped: \
             the switch does not learn here",
        ));
    };
    let bound = if capacity == FLOWS_MAX { Bound::Generator } else { Bound::None };
    let figure = Figure::new("addresses", "", Better::Higher, f64::from(capacity));
    taken.figures.push(figure.bounded(bound));
    Ok(taken)
}

/// The highest rate at which new addresses are all learned.
fn learning(asked: &mut Asked<'_, '_>, highest: f64, rate: f64) -> Result<Taken> {
    let goal = Goal { loss: 0.0, precision: 0.1 };
    let found = search(goal, (highest / 1000.0, highest), |learning| {
        let first = new_ones(asked.bench.draw());
        let learned = asked.learns(first, NEW, learning, rate)?;
        Ok(if learned == Learned::All { 0.0 } else { 1.0 })
    })?;
    let Some(rate) = found.passed else {
        let note = format!("not measured: learning: at no rate were {NEW} new addresses learned");
        return Ok(Taken { notes: vec![note], ..Taken::default() });
    };
    let bound = if found.failed.is_none() { Bound::Generator } else { Bound::None };
    Ok(vec![Figure::new("learning", "/s", Better::Higher, rate).bounded(bound)].into())
}

/// The first address of an attempt at a rate, each with another number.
fn new_ones(attempt: u16) -> Mac {
    let [high, low] = attempt.to_be_bytes();
    Mac::new([0x52, 0x54, 0x41, high, low, 0])
}

/// What became of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Learned {
    All,
    NotAll,
}

/// Who is asked.
struct Asked<'a, 'p> {
    bench: &'a mut Bench,
    site: &'a mut Site<'p>,
    bytes: usize,
}

impl Asked<'_, '_> {
    /// Whether all of these addresses are learned at a rate: none of the frames that are then sent
    /// to them is flooded, and nearly all come.
    fn learns(&mut self, first: Mac, count: u32, learning: f64, asking: f64) -> Result<Learned> {
        let Asked { bench, site, bytes } = self;
        let stations = Stations { first, count };
        let asking_stream = Stream {
            destination: stations,
            flows: count,
            ..site.stream_between(TEST, LEARNED, *bytes)
        };
        let lane = |stream, (from, to): (usize, Vec<usize>), frames_per_second| Lane {
            stream,
            load: Load::Open(Pace { frames_per_second }),
            from,
            to,
        };
        let said = lane(asking_stream.turned(), (LEARNED, vec![TEST]), learning);
        bench.jointly_for(site, &[said], length_ns(count, learning))?;
        let asked = lane(asking_stream, (TEST, vec![LEARNED, MONITOR]), asking);
        let outcomes = bench.jointly_for(site, &[asked], length_ns(count, asking))?;
        let [there, flooded] = &outcomes[0][..] else { return Ok(Learned::NotAll) };
        Ok(verdict(there, flooded))
    }
}

/// What frames say that were to come there and nowhere else. One that is lost tells nothing of
/// addresses, but where many are, those that would have been flooded may be among them.
fn verdict(there: &Outcome, flooded: &Outcome) -> Learned {
    let nearly_all = there.counts.received > 0 && switch_loss(there) <= LOST_SHARE;
    if nearly_all && flooded.counts.received == 0 { Learned::All } else { Learned::NotAll }
}

/// For how long one frame for each address is sent, in nanoseconds.
fn length_ns(count: u32, frames_per_second: f64) -> u64 {
    (f64::from(count) * 1e9 / frames_per_second) as u64
}

/// The most that are all learned, by doubling and then halving, to within a sixteenth; `None` if
/// not even the fewest are.
fn most(
    fewest: u32,
    greatest: u32,
    mut attempt: impl FnMut(u32) -> Result<Learned>,
) -> Result<Option<u32>> {
    let mut count = fewest;
    while attempt(count)? == Learned::All {
        if count == greatest {
            return Ok(Some(greatest));
        }
        count = count.saturating_mul(2).min(greatest);
    }
    if count == fewest {
        return Ok(None);
    }
    let (mut all, mut not_all) = (count / 2, count);
    while not_all - all > (all / 16).max(1) {
        let middle = all.midpoint(not_all);
        match attempt(middle)? {
            Learned::All => all = middle,
            Learned::NotAll => not_all = middle,
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::methods::tests::outcome;

    #[test]
    fn a_table_s_size_is_found_to_within_a_sixteenth() {
        for size in [0, 15, 16, 17, 1000, 8192, 8193, 500_000, FLOWS_MAX, u32::MAX] {
            let learned = |count| Ok(if count <= size { Learned::All } else { Learned::NotAll });
            let found = most(FEW, FLOWS_MAX, learned).unwrap();
            match size {
                ..FEW => assert_eq!(found, None),
                FLOWS_MAX.. => assert_eq!(found, Some(FLOWS_MAX)),
                _ => {
                    let found = found.unwrap();
                    assert!(found <= size && size - found <= size / 16 + 1, "{found} {size}");
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_lost_decides_nothing_and_one_that_is_flooded_does() {
        let (all, none) = (outcome(1000, 1000), outcome(1000, 0));
        assert_eq!(verdict(&all, &none), Learned::All);
        assert_eq!(verdict(&outcome(1000, 990), &none), Learned::All);
        assert_eq!(verdict(&outcome(1000, 989), &none), Learned::NotAll);
        assert_eq!(verdict(&all, &outcome(1000, 1)), Learned::NotAll);
        assert_eq!(verdict(&none, &none), Learned::NotAll);
    }

    #[test]
    fn every_address_has_its_frame() {
        let (count, rate) = (4096, 100_000.0);
        let pace = Pace { frames_per_second: rate };
        let total = pace.total(length_ns(count, rate));
        assert!(total.abs_diff(u64::from(count)) <= 1, "{total}");
    }
}
