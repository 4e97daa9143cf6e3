//! The table, and the same as JSON.

use serde_json::{Value, json};

use super::contestant::Kind;
use super::generator::Load;
use super::options::Options;
use super::slice::{Rates, Sample, Traffic};
use crate::figures::{PLACEMENTS, interval, ratio_json, spread, turns_json};
use crate::gauge::Placement;
use crate::statistics::{Ratio, Round, median, ratio};

const HEADER: &str = "\
| to | bytes | load | CPUs | forwarder | turns | arrived, 1000 frames/s | lost \
| CPU ns per frame, machine | Hairpin : this, frames/s [95 %] \
| Hairpin : this, CPU per frame [95 %] |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// Turns that are compared with each other.
#[derive(Clone, Copy)]
struct Class {
    traffic: Traffic,
    placement: Placement,
}

/// The Markdown table: medians with quartiles in brackets, and Hairpin's figures by each
/// contestant's with their 95 % intervals.
#[must_use]
pub fn table(options: &Options, samples: &[Sample]) -> String {
    let mut lines = vec![HEADER.to_owned()];
    for class in classes(options) {
        let rows = options.kinds.iter().filter_map(|&kind| row(class, kind, samples));
        lines.extend(rows);
    }
    lines.join("\n")
}

fn classes(options: &Options) -> Vec<Class> {
    let mut classes = Vec::new();
    for &target in &options.targets {
        for &bytes in &options.sizes {
            for &load in &options.loads {
                let traffic = Traffic { target, bytes, load };
                classes.extend(PLACEMENTS.map(|placement| Class { traffic, placement }));
            }
        }
    }
    classes
}

/// Nothing if the contestant had no such turn.
fn row(class: Class, kind: Kind, samples: &[Sample]) -> Option<String> {
    let rates = of(class, kind, samples);
    let column = |value: fn(&Rates) -> f64| rates.iter().map(value).collect::<Vec<f64>>();
    let frames = column(|rates| rates.frames_per_second / 1e3);
    let cpu = column(|rates| rates.cpu_seconds_per_frame * 1e9);
    let lost = median(&column(|rates| rates.lost))?;
    let against = |value| against(class, kind, samples, value);
    Some(format!(
        "| {} | {} | {} | {} | {} | {} | {} | {:.1} % | {} | {} | {} |",
        class.traffic.target,
        class.traffic.bytes,
        load(class.traffic.load),
        class.placement,
        kind.title(),
        rates.len(),
        spread(&frames, 0),
        lost * 100.0,
        spread(&cpu, 0),
        interval(against(|rates| rates.frames_per_second), 2),
        interval(against(|rates| rates.cpu_seconds_per_frame), 2),
    ))
}

fn load(load: Load) -> String {
    match load {
        Load::Full => "full".to_owned(),
        Load::Frames(rate) => format!("{rate}/s"),
    }
}

fn of(class: Class, kind: Kind, samples: &[Sample]) -> Vec<Rates> {
    let is_one = |sample: &&Sample| {
        (sample.kind, sample.traffic, sample.placement) == (kind, class.traffic, class.placement)
    };
    samples.iter().filter(is_one).map(|sample| sample.rates).collect()
}

/// Hairpin's figures by this contestant's. The turns of one round met the same machine:
/// they are drawn together.
fn against(
    class: Class,
    kind: Kind,
    samples: &[Sample],
    value: fn(&Rates) -> f64,
) -> Option<Ratio> {
    if kind == Kind::Hairpin {
        return None;
    }
    let last = samples.iter().map(|sample| sample.round).max()?;
    let rounds: Vec<Round> = (0..=last)
        .map(|round| {
            let turns: Vec<Sample> =
                samples.iter().filter(|sample| sample.round == round).copied().collect();
            let values = |kind| of(class, kind, &turns).iter().map(value).collect();
            (values(Kind::Hairpin), values(kind))
        })
        .collect();
    ratio(&rounds)
}

/// Everything, for programs.
#[must_use]
pub fn json(options: &Options, samples: &[Sample]) -> Value {
    let mut results = Vec::new();
    for class in classes(options) {
        let kinds = options.kinds.iter();
        results.extend(kinds.filter_map(|&kind| result(class, kind, samples)));
    }
    json!({
        "slice_seconds": options.length.as_secs_f64(),
        "rounds": options.rounds,
        "results": results,
    })
}

fn result(class: Class, kind: Kind, samples: &[Sample]) -> Option<Value> {
    let rates = of(class, kind, samples);
    if rates.is_empty() {
        return None;
    }
    let column =
        |value: fn(&Rates) -> f64| turns_json(&rates.iter().map(value).collect::<Vec<f64>>());
    let ratio = |value| ratio_json(against(class, kind, samples, value));
    Some(json!({
        "name": kind.name(),
        "to": class.traffic.target.name(),
        "bytes": class.traffic.bytes,
        "load": load(class.traffic.load),
        "placement": class.placement.to_string(),
        "frames_per_second": column(|rates| rates.frames_per_second),
        "lost": column(|rates| rates.lost),
        "cpu_seconds_per_frame": column(|rates| rates.cpu_seconds_per_frame),
        "hairpin_frames_ratio": ratio(|rates| rates.frames_per_second),
        "hairpin_cpu_ratio": ratio(|rates| rates.cpu_seconds_per_frame),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::target::Target;

    #[test]
    fn rows_are_apart_by_traffic_and_placement_and_ratios_within_them() {
        let traffic = Traffic { target: Target::Netdev, bytes: 64, load: Load::Full };
        let sample = |kind, round, placement, frames_per_second| {
            let rates = Rates { frames_per_second, lost: 0.5, cpu_seconds_per_frame: 2e-6 };
            Sample { kind, traffic, round, placement, rates }
        };
        let mut samples = Vec::new();
        for round in 0..4 {
            samples.push(sample(Kind::Hairpin, round, Placement::Near, 3e6));
            samples.push(sample(Kind::Dpdk, round, Placement::Near, 1e6));
        }
        // Of another placement: in a row of its own, and in no ratio of the first.
        samples.push(sample(Kind::Dpdk, 4, Placement::Far, 9e6));
        let kinds = vec![Kind::Hairpin, Kind::Dpdk, Kind::Bridge];
        let options = Options { kinds, ..Options::default() };
        let table = table(&options, &samples);
        assert_eq!(table.lines().count(), 2 + 3, "{table}");
        assert!(table.contains("| 4 | 1000 (1000–1000) | 50.0 % | 2000 (2000–2000) | **3.00**"));
        assert!(table.contains("| 1 | 9000 (9000–9000) | 50.0 % | 2000 (2000–2000) | – | – |"));
        let json = json(&options, &samples);
        assert_eq!(json["results"][1]["hairpin_frames_ratio"]["value"], 3.0);
        assert_eq!(json["results"][1]["hairpin_cpu_ratio"]["high"], 1.0);
        assert_eq!(json["results"][2]["placement"], "far");
        assert_eq!(json["results"].as_array().map(Vec::len), Some(3));
    }
}
