//! The table of `vhost`.

use super::options::Kind;
use crate::figures::{self, PLACEMENTS};
use crate::gauge::Placement;
use crate::layout::Layout;
use crate::measure::{Outcome, Window};
use crate::report::{busy, rates, rounds};
use crate::statistics::{median, ratio};

/// Columns of the table.
pub const HEADER: &str = "\
| rings, bytes | label (ns) | contestant | windows | Mpps | Hairpin : this [95 %] | generator busy |
| --- | --- | --- | --- | --- | --- | --- |";

/// The table's rows for one layout and length: one for each label seen and contestant.
#[must_use]
pub fn rows(layout: &Layout, bytes: u32, outcome: &Outcome) -> Vec<String> {
    let rows = PLACEMENTS.into_iter().flat_map(|label| {
        let windows: Vec<&Window> =
            outcome.windows.iter().filter(|window| window.placement() == label).collect();
        let what = format!("{} {bytes} | {label} ({})", layout.name, gauge(&windows));
        let row = |kind| row(&what, label, kind, &windows);
        Kind::ALL.into_iter().filter_map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

/// What the gauge showed, in nanoseconds.
fn gauge(windows: &[&Window]) -> String {
    let readings: Vec<f64> =
        windows.iter().map(|window| (window.gauge_before + window.gauge_after) / 2.0).collect();
    format!("{:.0}", median(&readings).unwrap_or_default())
}

fn row(what: &str, label: Placement, kind: Kind, windows: &[&Window]) -> Option<String> {
    let of = |kind: Kind| -> Vec<&Window> {
        windows.iter().copied().filter(|window| window.side == kind.name()).collect()
    };
    let (hairpin, this) = (of(Kind::Hairpin), of(kind));
    // A mixed window's rate is the average of two worlds: no ratio of such means anything.
    let compared = match label {
        Placement::Mixed => None,
        _ if kind == Kind::Hairpin => None,
        _ => ratio(&rounds(&hairpin, &this)),
    };
    (!this.is_empty()).then(|| {
        format!(
            "| {what} | {} | {} | {} | {} | {} |",
            kind.name(),
            this.len(),
            figures::spread(&rates(&this), 2),
            figures::interval(compared, 3),
            busy(&this),
        )
    })
}
