//! How many frames a switch takes at one go (RFC 9004).

use super::{Figure, Method, Needs, Taken};
use crate::error::{Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;
use crate::suite::trial::{Load, Plan};

/// Frames of the longest burst that is tried.
const GREATEST: u64 = 1 << 16;
/// How long the frames of a burst may take, in nanoseconds: with loss, all of it is waited for.
const DRAIN_NS: u64 = 5_000_000;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "back-to-back",
    explanation: [
        "The longest burst, as fast as the generator can, of which nothing is lost:",
        "mean of many searches, and the time that it stands for (RFC 9004).",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let throughput = bench.forwarding_rate(site, bytes)?;
    let (mut bursts, mut times, mut bound) = (Vec::new(), Vec::new(), Bound::None);
    for _ in 0..bench.profile.repeats {
        // Frames a second at which the longest one that passed went out.
        let mut sent_per_second = 0.0;
        let longest = longest(GREATEST, |frames| {
            let plan = bench.plan(site.stream(bytes), Load::Burst { frames });
            let outcome = bench.trial_by(site, Plan { drain_ns: DRAIN_NS, ..plan })?;
            let whole = outcome.lost() == 0;
            if whole {
                sent_per_second = frames as f64 * 1e9 / outcome.length_ns.max(1) as f64;
            }
            Ok(if whole { Went::Whole } else { Went::Lossy })
        })?;
        let Some(frames) = longest else { continue };
        if frames == GREATEST {
            bound = Bound::Generator;
        }
        bursts.push(frames as f64);
        times.push(buffer_seconds(frames as f64, sent_per_second, throughput));
    }
    let mean = |sample: &[f64]| sample.iter().sum::<f64>() / sample.len() as f64;
    if bursts.is_empty() {
        return Err(RigError::new("of a single frame it lost one in every search"));
    }
    let frames = Figure::new("burst", "frames", Better::Higher, mean(&bursts));
    let time = Figure::new("buffer time", "µs", Better::Higher, 1e6 * mean(&times));
    Ok(vec![frames.bounded(bound), time.bounded(bound)].into())
}

/// How a burst went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Went {
    Whole,
    Lossy,
}

/// The longest burst that goes whole, to within 1/64 of its length; `None` if one frame does not.
fn longest(greatest: u64, mut attempt: impl FnMut(u64) -> Result<Went>) -> Result<Option<u64>> {
    if attempt(greatest)? == Went::Whole {
        return Ok(Some(greatest));
    }
    let (mut whole, mut lossy) = (0, greatest);
    while lossy - whole > (whole / 64).max(1) {
        let middle = whole.midpoint(lossy);
        match attempt(middle)? {
            Went::Whole => whole = middle,
            Went::Lossy => lossy = middle,
        }
    }
    Ok((whole > 0).then_some(whole))
}

/// The time that a burst's buffer holds, in seconds: the burst's own less the share of it in which
/// the switch emptied its buffer (RFC 9004, 5.4, with the rates in frames a second).
fn buffer_seconds(frames: f64, sent_per_second: f64, throughput: f64) -> f64 {
    let implied = frames / sent_per_second;
    (implied * (1.0 - throughput / sent_per_second)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_burst_is_found_whatever_it_is() {
        for room in [0, 1, 2, 63, 64, 1000, 1024, 50_000, GREATEST, 1 << 20] {
            let went = |frames| Ok(if frames <= room { Went::Whole } else { Went::Lossy });
            let found = longest(GREATEST, went).unwrap();
            match room {
                0 => assert_eq!(found, None),
                GREATEST.. => assert_eq!(found, Some(GREATEST)),
                _ => {
                    let found = found.unwrap();
                    assert!(found <= room && room - found <= room / 64 + 1, "{found} {room}");
                }
            }
        }
    }

    #[test]
    fn a_buffer_is_what_a_burst_has_left_over() {
        // 1000 frames in 1 ms, of which the switch forwards 600 meanwhile: 400 µs are buffered.
        assert!((buffer_seconds(1000.0, 1e6, 0.6e6) - 400e-6).abs() < 1e-12);
        assert_eq!(buffer_seconds(1000.0, 1e6, 2e6), 0.0);
    }
}
