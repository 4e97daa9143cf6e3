//! The table on standard output, and the raw windows as lines of JSON.

use crate::error::{Context, Result};
use crate::figures::{self, NONE, PLACEMENTS};
use crate::gauge::Placement;
use crate::layout::Layout;
use crate::measure::{Outcome, Plan, Window};
use crate::options::{BASE, NULL, OURS};
use crate::pair::{Pair, WireKind};
use crate::statistics::{Round, median, ratio};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Columns of the table.
pub const HEADER: &str = "\
| layout | bytes | label (ns) | windows | DPDK Mpps | ours Mpps | ours : DPDK [95 %] | generator cycles/frame, busy, limit: DPDK | ours | ceiling Mpps |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// The table's rows for one layout and length: one per label seen.
pub fn rows(layout: &Layout, bytes: u32, outcome: &Outcome) -> Vec<String> {
    let rows = PLACEMENTS.into_iter().filter_map(|label| {
        let windows: Vec<&Window> =
            outcome.windows.iter().filter(|window| window.placement() == label).collect();
        (!windows.is_empty()).then(|| row(layout, bytes, label, &windows))
    });
    rows.collect()
}

fn row(layout: &Layout, bytes: u32, label: Placement, windows: &[&Window]) -> String {
    let of = |side: &str| -> Vec<&Window> {
        windows.iter().copied().filter(|window| window.side == side).collect()
    };
    let (base, ours, null) = (of(BASE), of(OURS), of(NULL));
    let gauges: Vec<f64> =
        windows.iter().map(|window| (window.gauge_before + window.gauge_after) / 2.0).collect();
    // A mixed window's rate is the average of two worlds: no ratio of such means anything.
    let compared = match label {
        Placement::Mixed => None,
        _ => ratio(&rounds(&ours, &base)),
    };
    format!(
        "| {} | {} | {label} ({:.0}) | {} + {} | {} | {} | {} | {} | {} | {} |",
        layout.name,
        bytes,
        median(&gauges).unwrap_or_default(),
        base.len(),
        ours.len(),
        figures::spread(&rates(&base), 2),
        figures::spread(&rates(&ours), 2),
        figures::interval(compared, 3),
        effort(&base),
        effort(&ours),
        figures::spread(&rates(&null), 2),
    )
}

/// Both sides' rates, round by round.
pub(crate) fn rounds(above: &[&Window], below: &[&Window]) -> Vec<Round> {
    let last = above.iter().map(|window| window.round).max().unwrap_or_default();
    let of = |windows: &[&Window], round| -> Vec<f64> {
        windows.iter().filter(|window| window.round == round).map(|window| window.mpps).collect()
    };
    (0..=last).map(|round| (of(above, round), of(below, round))).collect()
}

/// Millions of frames a second, in each window.
pub(crate) fn rates(windows: &[&Window]) -> Vec<f64> {
    windows.iter().map(|window| window.mpps).collect()
}

/// How busy the generator was, in the median.
pub(crate) fn busy(windows: &[&Window]) -> String {
    let busy: Vec<f64> = windows.iter().filter_map(|window| window.busy()).collect();
    median(&busy).map_or_else(|| NONE.into(), |busy| format!("{:.0} %", busy * 100.0))
}

/// The generator's cycles per frame, how busy it was, and the Mpps at which it would be
/// busy always.
fn effort(windows: &[&Window]) -> String {
    let cycles: Vec<f64> =
        windows.iter().filter_map(|w| w.effort.map(|effort| effort.cycles_per_frame)).collect();
    let limits: Vec<f64> = windows
        .iter()
        .filter_map(|w| w.effort.map(|effort| effort.hertz / effort.cycles_per_frame / 1e6))
        .collect();
    let busy: Vec<f64> = windows.iter().filter_map(|window| window.busy()).collect();
    match (median(&cycles), median(&busy), median(&limits)) {
        (Some(cycles), Some(busy), Some(limit)) => {
            format!("{cycles:.0}, {:.0} %, ≤ {limit:.1}", busy * 100.0)
        }
        _ => NONE.into(),
    }
}

/// Sentences about what the table alone would hide: frames lost, a loop that ran dry.
pub fn remarks(layout: &Layout, plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut remarks = Vec::new();
    let primed = plan.traffic.frames();
    for &(side, left) in &outcome.in_flight {
        let again = outcome.windows.iter().filter(|w| w.side == side && w.primed_anew).count();
        if left != primed || again > 0 {
            remarks.push(format!(
                "{} {} {side}: {left} of {primed} frames were in flight at the end; the loop had \
                 run dry {again} times",
                layout.name, plan.bytes
            ));
        }
    }
    remarks
}

/// Collects raw windows in a file, or nowhere.
#[derive(Debug)]
pub struct Raw(Option<File>);

impl Raw {
    /// Appends to `path`, if one is given.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.context(format_args!("opening {}", path.display()))
        };
        Ok(Self(path.map(open).transpose()?))
    }

    /// Writes what the ends of each pair agreed on.
    pub fn pairs(&mut self, layout: &Layout, pairs: &[Pair]) -> Result<()> {
        for pair in pairs {
            let wire = match &pair.side().wire {
                WireKind::Dpdk => "dpdk".to_owned(),
                WireKind::Command(words) => words.join(" "),
                WireKind::Hairpin { program, .. } => program.display().to_string(),
                WireKind::OpenVSwitch => "ovs".to_owned(),
            };
            self.write(&json!({
                "layout": layout.name,
                "side": pair.side().name,
                "wire": wire,
                "features": pair.generator.features().map(|features| format!("{features:#x}")),
                "receive_path": pair.generator.receive_path(),
            }))?;
        }
        Ok(())
    }

    /// Writes all windows of an outcome, and how many frames were left.
    pub fn windows(&mut self, layout: &Layout, plan: &Plan, outcome: &Outcome) -> Result<()> {
        for window in &outcome.windows {
            self.write(&json!({
                "layout": layout.name,
                "bytes": plan.bytes,
                "engine": plan.traffic.engine,
                "frames": plan.traffic.frames(),
                "side": window.side,
                "round": window.round,
                "index": window.index,
                "label": window.placement().to_string(),
                "gauge_before_ns": window.gauge_before,
                "gauge_after_ns": window.gauge_after,
                "seconds": window.seconds,
                "mpps": window.mpps,
                "generator_cycles_per_frame": window.effort.map(|e| e.cycles_per_frame),
                "generator_busy": window.busy(),
                "generator_dropped": window.effort.map(|e| e.dropped),
                "foreign_cpu": window.foreign,
                "primed_anew": window.primed_anew,
            }))?;
        }
        for (side, frames) in &outcome.in_flight {
            self.write(&json!({
                "layout": layout.name,
                "bytes": plan.bytes,
                "round": plan.round,
                "side": side,
                "frames_in_flight_at_end": frames,
            }))?;
        }
        Ok(())
    }

    fn write(&mut self, value: &Value) -> Result<()> {
        match &mut self.0 {
            Some(file) => writeln!(file, "{value}").context("writing raw windows"),
            None => Ok(()),
        }
    }
}
