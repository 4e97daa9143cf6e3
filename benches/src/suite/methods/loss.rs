//! The loss curve (RFC 2544, 26.3).

use super::{Drawn, Method, Needs, Taken, quantity};
use crate::error::Result;
use crate::suite::bench::Bench;
use crate::suite::pace::Pace;
use crate::suite::site::Site;
use crate::suite::trial::Load;

/// Loads in percent of what a closed loop has forwarded, the highest first.
const LOADS: [u32; 12] = [120, 110, 100, 90, 80, 70, 60, 50, 40, 30, 20, 10];
/// Trials without loss after which the rest is taken for granted.
const ENOUGH: u32 = 2;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "loss",
    explanation: [
        "What is lost of 120 % of the closed loop's rate, and of 10 % less each time,",
        "until two loads in a row lose nothing (RFC 2544, 26.3).",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let rate = bench.forwarding_rate(site, bytes)?;
    let (mut points, mut lossless) = (Vec::new(), 0);
    for percent in LOADS {
        let frames_per_second = rate * f64::from(percent) / 100.0;
        let load = Load::Open(Pace { frames_per_second });
        let outcome = bench.trial(site, bytes, load)?;
        points.push([frames_per_second, 100.0 * outcome.loss()]);
        lossless = if outcome.lost() == 0 { lossless + 1 } else { 0 };
        if lossless == ENOUGH {
            break;
        }
    }
    points.reverse();
    let (x, y) = (quantity("offered load", "frames/s"), quantity("loss", "%"));
    let curve = Drawn { load: None, x, y, points };
    Ok(Taken { curves: vec![curve], ..Taken::default() })
}
