//! The table, and the same as JSON.

use serde_json::{Value, json};

use super::contestant::Kind;
use super::options::Options;
use super::slice::{Placement, Sample};
use crate::statistics::{Ratio, Round, Spread, median, ratio};

/// The Markdown table: medians with quartiles in brackets, and Hairpin's rate by each
/// contestant's with its 95 % interval.
#[must_use]
pub fn table(options: &Options, samples: &[Sample]) -> String {
    let mut lines = vec![
        "| switch | turns | Gbit/s | CPU-seconds per GB, machine | of it the switch's process \
         | Hairpin : this, Gbit/s [95 %] |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(options.kinds.iter().map(|&kind| row(kind, samples)));
    lines.join("\n")
}

fn row(kind: Kind, samples: &[Sample]) -> String {
    let rates = column(samples, kind, |sample| Some(sample.gigabits_per_second));
    let machine = column(samples, kind, |sample| Some(sample.machine_seconds_per_gigabyte));
    let switch = column(samples, kind, |sample| sample.switch_seconds_per_gigabyte);
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        kind.title(),
        rates.len(),
        spread(&rates),
        spread(&machine),
        spread(&switch),
        against(kind, samples).map_or("–".into(), |ratio| {
            format!("**{:.2}** [{:.2}, {:.2}]", ratio.value, ratio.low, ratio.high)
        }),
    )
}

/// Hairpin's rate by this contestant's.
fn against(kind: Kind, samples: &[Sample]) -> Option<Ratio> {
    if kind == Kind::Hairpin {
        return None;
    }
    let rates = |kind| column(samples, kind, |sample| Some(sample.gigabits_per_second));
    // The turns of one round met the same machine: they are drawn together.
    let rounds: Vec<Round> = rates(Kind::Hairpin)
        .into_iter()
        .zip(rates(kind))
        .map(|(ours, theirs)| (vec![ours], vec![theirs]))
        .collect();
    ratio(&rounds)
}

fn column(samples: &[Sample], kind: Kind, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    samples.iter().filter(|sample| sample.kind == kind).filter_map(of).collect()
}

fn spread(values: &[f64]) -> String {
    Spread::of(values).map_or("–".into(), |spread| {
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.low, spread.high)
    })
}

/// Everything, for programs.
#[must_use]
pub fn json(options: &Options, samples: &[Sample]) -> Value {
    let plan = &options.plan;
    let placement = match plan.placement {
        Placement::Free => "free",
        Placement::Ends => "ends",
    };
    json!({
        "family": plan.family.to_string(),
        "placement": placement,
        "slice_seconds": plan.length.as_secs_f64(),
        "rounds": options.rounds,
        "contestants": options.kinds.iter().map(|&kind| contestant(kind, samples))
            .collect::<Vec<_>>(),
    })
}

fn contestant(kind: Kind, samples: &[Sample]) -> Value {
    let rates = column(samples, kind, |sample| Some(sample.gigabits_per_second));
    let machine = column(samples, kind, |sample| Some(sample.machine_seconds_per_gigabyte));
    let switch = column(samples, kind, |sample| sample.switch_seconds_per_gigabyte);
    json!({
        "name": kind.name(),
        "gigabits_per_second": { "median": median(&rates), "turns": rates },
        "machine_seconds_per_gigabyte": { "median": median(&machine), "turns": machine },
        "switch_seconds_per_gigabyte": { "median": median(&switch), "turns": switch },
        "hairpin_ratio": against(kind, samples)
            .map(|ratio| json!({ "low": ratio.low, "value": ratio.value, "high": ratio.high })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_contestant_and_hairpins_ratio() {
        let sample = |kind, gigabits_per_second| Sample {
            kind,
            gigabits_per_second,
            machine_seconds_per_gigabyte: 0.5,
            switch_seconds_per_gigabyte: None,
        };
        let samples: Vec<Sample> =
            (0..4).flat_map(|_| [sample(Kind::Hairpin, 30.0), sample(Kind::Ovs, 10.0)]).collect();
        let kinds = vec![Kind::Hairpin, Kind::Ovs];
        let options = Options { kinds, ..Options::default() };
        let table = table(&options, &samples);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("**3.00** [3.00, 3.00]"), "{table}");
        let json = json(&options, &samples);
        assert_eq!(json["contestants"][1]["hairpin_ratio"]["value"], 3.0);
        assert_eq!(json["contestants"][0]["gigabits_per_second"]["median"], 30.0);
    }
}
