//! Throughput: the highest load that is forwarded.

use super::{Figure, Method, Needs, Taken};
use crate::error::{Result, RigError};
use crate::suite::bench::{Bench, PARTIAL};
use crate::suite::record::{Better, Bound};
use crate::suite::site::Site;

/// Of what was lost, more than this share by the generator's slowness makes the limit its own.
const MISSED_SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "throughput",
    explanation: [
        "The highest load of which at most 0.1 % is lost (PDR), and none (NDR).",
        "Searched by halving; a trial that loses too much is done once more.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let mut figures = Vec::new();
    for (metric, loss) in [("PDR", PARTIAL), ("NDR", 0.0)] {
        let limit = bench.limit(site, bytes, loss)?;
        let Some(value) = limit.found.passed else { continue };
        let own = limit.missed > MISSED_SHARE || limit.found.failed.is_none();
        figures.push(Figure {
            metric: metric.to_owned(),
            unit: "frames/s",
            better: Better::Higher,
            load: None,
            value,
            bound: if own { Bound::Generator } else { Bound::None },
        });
    }
    if figures.is_empty() {
        return Err(RigError::new("even the lowest load of the search lost more than 0.1 %"));
    }
    Ok(Taken { figures, ..Taken::default() })
}
