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
| rings, bytes | label (ns) | windows | Hairpin Mpps | DPDK's wire Mpps | OVS-DPDK Mpps | Hairpin : wire [95 %] | Hairpin : OVS [95 %] | generator busy |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// The table's rows for one layout and length: one per label seen.
#[must_use]
pub fn rows(layout: &Layout, bytes: u32, outcome: &Outcome) -> Vec<String> {
    let rows = PLACEMENTS.into_iter().filter_map(|label| {
        let windows: Vec<&Window> =
            outcome.windows.iter().filter(|window| window.placement() == label).collect();
        (!windows.is_empty()).then(|| row(layout, bytes, label, &windows))
    });
    rows.collect()
}

fn row(layout: &Layout, bytes: u32, label: Placement, windows: &[&Window]) -> String {
    let each = Kind::ALL.map(|kind| -> Vec<&Window> {
        windows.iter().copied().filter(|window| window.side == kind.name()).collect()
    });
    let [hairpin, wire, ovs] = &each;
    let gauges: Vec<f64> =
        windows.iter().map(|window| (window.gauge_before + window.gauge_after) / 2.0).collect();
    // A mixed window's rate is the average of two worlds: no ratio of such means anything.
    let compared = |base: &[&Window]| match label {
        Placement::Mixed => None,
        _ => ratio(&rounds(hairpin, base)),
    };
    format!(
        "| {} {bytes} | {label} ({:.0}) | {} | {} | {} | {} | {} | {} | {} |",
        layout.name,
        median(&gauges).unwrap_or_default(),
        each.each_ref().map(|windows| windows.len().to_string()).join(" + "),
        figures::spread(&rates(hairpin), 2),
        figures::spread(&rates(wire), 2),
        figures::spread(&rates(ovs), 2),
        figures::interval(compared(wire), 3),
        figures::interval(compared(ovs), 3),
        each.each_ref().map(|windows| busy(windows)).join(", "),
    )
}
