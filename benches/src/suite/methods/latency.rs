//! How long frames take at several loads.

use super::{Drawn, Figure, Method, Needs, Taken, quantity};
use crate::error::{Result, RigError};
use crate::suite::bench::{Bench, PARTIAL};
use crate::suite::pace::Pace;
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;
use crate::suite::trial::Load;

/// Loads in percent of PDR; [`IDLE_FRAMES_PER_SECOND`] stands for 0.
const LOADS: [u32; 5] = [0, 10, 50, 90, 100];
/// A load under which a switch has nothing else to do.
const IDLE_FRAMES_PER_SECOND: f64 = 1000.0;
/// Percentiles, and what they are called.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "latency",
    explanation: [
        "From VM to VM, p50 to p99.99, at 1000 frames/s (load 0) and at 10, 50, 90",
        "and 100 % of PDR; a percentile is given where ten frames lie above it.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let limit = bench.limit(site, bytes, PARTIAL)?;
    let highest = limit
        .found
        .passed
        .ok_or_else(|| RigError::new("no load passes at 0.1 % loss: there is no PDR to load by"))?;
    let mut taken = Taken::default();
    for load in LOADS {
        let frames_per_second = match load {
            0 => IDLE_FRAMES_PER_SECOND,
            percent => highest * f64::from(percent) / 100.0,
        };
        let pace = Load::Open(Pace { frames_per_second });
        let latency = bench.trial(site, bytes, pace)?.latency;
        for (name, share) in PERCENTILES {
            // What rests on fewer frames is chance.
            if latency.count() as f64 * (1.0 - share) < 10.0 {
                continue;
            }
            let Some(value) = latency.quantile(share) else { continue };
            taken.figures.push(Figure {
                metric: format!("latency {name}"),
                unit: "µs",
                better: Better::Lower,
                load: Some(load),
                value: value as f64 / 1000.0,
                bound: Bound::None,
            });
        }
        let points = latency.exceeding();
        taken.curves.push(Drawn {
            load: Some(load),
            x: quantity("latency", "µs"),
            y: quantity("share of frames above", ""),
            points: points.iter().map(|&(ns, share)| [ns as f64 / 1000.0, share]).collect(),
        });
    }
    Ok(taken)
}
