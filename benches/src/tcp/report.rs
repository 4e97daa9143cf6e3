//! The table, and the same as JSON.

use serde_json::{Value, json};

use super::connection::Placement;
use super::contestant::Kind;
use super::options::Options;
use super::slice::Sample;
use crate::figures::{interval, ratio_json, spread, turns_json};
use crate::statistics::{Ratio, Round, ratio};

/// The Markdown table: medians with quartiles in brackets, and the rates of Hairpin's TAPs
/// and of its packet ports by each contestant's with their 95 % intervals.
#[must_use]
pub fn table(options: &Options, samples: &[Sample]) -> String {
    let mut lines = vec![
        "| switch | turns | Gbit/s | CPU-seconds per GB, machine | of it the switch's process \
         | TAP : this, Gbit/s [95 %] | packet ports : this, Gbit/s [95 %] |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(options.kinds.iter().map(|&kind| row(kind, samples)));
    lines.join("\n")
}

fn row(kind: Kind, samples: &[Sample]) -> String {
    let rates = column(samples, kind, |sample| Some(sample.carried.gigabits_per_second));
    let machine = column(samples, kind, |sample| Some(sample.carried.machine_seconds_per_gigabyte));
    let switch = column(samples, kind, |sample| sample.carried.switch_seconds_per_gigabyte);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        kind.title(),
        rates.len(),
        spread(&rates, 2),
        spread(&machine, 2),
        spread(&switch, 2),
        interval(against(Kind::Hairpin, kind, samples), 2),
        interval(against(Kind::HairpinPacket, kind, samples), 2),
    )
}

/// The rate of one of Hairpin's by this contestant's.
fn against(ours: Kind, kind: Kind, samples: &[Sample]) -> Option<Ratio> {
    if kind == ours {
        return None;
    }
    let rates = |kind| column(samples, kind, |sample| Some(sample.carried.gigabits_per_second));
    // The turns of one round met the same machine: they are drawn together.
    let rounds: Vec<Round> = rates(ours)
        .into_iter()
        .zip(rates(kind))
        .map(|(ours, theirs)| (vec![ours], vec![theirs]))
        .collect();
    ratio(&rounds)
}

fn column(samples: &[Sample], kind: Kind, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    samples.iter().filter(|sample| sample.kind == kind).filter_map(of).collect()
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
    let rates = column(samples, kind, |sample| Some(sample.carried.gigabits_per_second));
    let machine = column(samples, kind, |sample| Some(sample.carried.machine_seconds_per_gigabyte));
    let switch = column(samples, kind, |sample| sample.carried.switch_seconds_per_gigabyte);
    json!({
        "name": kind.name(),
        "gigabits_per_second": turns_json(&rates),
        "machine_seconds_per_gigabyte": turns_json(&machine),
        "switch_seconds_per_gigabyte": turns_json(&switch),
        "hairpin_ratio": ratio_json(against(Kind::Hairpin, kind, samples)),
        "hairpin_packet_ratio": ratio_json(against(Kind::HairpinPacket, kind, samples)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::connection::Carried;

    #[test]
    fn the_table_has_a_row_for_each_contestant_and_hairpins_ratio() {
        let sample = |kind, gigabits_per_second| {
            let machine_seconds_per_gigabyte = 0.5;
            let switch_seconds_per_gigabyte = None;
            let carried = Carried {
                gigabits_per_second,
                machine_seconds_per_gigabyte,
                switch_seconds_per_gigabyte,
            };
            Sample { kind, carried }
        };
        let kinds = vec![Kind::Hairpin, Kind::HairpinPacket, Kind::Ovs];
        let rates = [30.0, 20.0, 10.0];
        let turns = || kinds.iter().zip(rates).map(|(&kind, rate)| sample(kind, rate));
        let samples: Vec<Sample> = (0..4).flat_map(|_| turns()).collect();
        let options = Options { kinds, ..Options::default() };
        let table = table(&options, &samples);
        assert_eq!(table.lines().count(), 5);
        assert!(table.contains("| **3.00** [3.00, 3.00] | **2.00** [2.00, 2.00] |"), "{table}");
        let json = json(&options, &samples);
        assert_eq!(json["contestants"][2]["hairpin_ratio"]["value"], 3.0);
        assert_eq!(json["contestants"][2]["hairpin_packet_ratio"]["value"], 2.0);
        assert_eq!(json["contestants"][0]["gigabits_per_second"]["median"], 30.0);
    }
}
