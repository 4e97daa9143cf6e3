//! What it costs those who have nothing to do with it that ports come and go.

use super::meanwhile::Meanwhile;
use super::{Figure, Method, Needs, Taken, bound_of, missed_share, switch_loss};
use crate::error::{Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::pace::Pace;
use crate::suite::record::Better;
use crate::suite::site::Site;
use crate::suite::trial::Load;

/// Of PDR, what passes meanwhile.
const SHARE: f64 = 0.5;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "reconfiguration",
    explanation: [
        "At 50 % of PDR, while another port comes and goes again and again by the",
        "commands of an operator: what is lost, and how often it came and went.",
    ],
    needs: Needs::SCENARIO,
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let change = site.switch().change();
    let change = change.ok_or_else(|| RigError::new("it has nothing that could be changed"))?;
    let load = Load::Open(Pace { frames_per_second: SHARE * bench.partial(site, bytes)? });
    let quiet = bench.trial(site, bytes, load)?;
    let changing = Meanwhile::start(change);
    let outcome = bench.trial(site, bytes, load);
    let changes = changing.stop()?;
    let outcome = outcome?;
    let seconds = outcome.length_ns as f64 / 1e9;
    let bound = bound_of(missed_share([&quiet, &outcome]));
    let loss = |metric, outcome| {
        Figure::new(metric, "%", Better::Lower, 100.0 * switch_loss(outcome)).bounded(bound)
    };
    let figures = vec![
        loss("loss while nothing changes", &quiet),
        loss("loss while a port comes and goes", &outcome),
        Figure::new("comings and goings", "1/s", Better::Higher, f64::from(changes) / seconds),
    ];
    Ok(figures.into())
}
