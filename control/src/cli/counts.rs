//! `hairpin stats` and `hairpin drops`.

use std::collections::BTreeMap;

use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_proto::v1;
use serde_json::json;

use super::client::Client;
use super::table::table;
use super::{Format, json};

/// `hairpin stats`.
pub fn stats(client: &mut Client, names: Vec<String>, format: Format) -> anyhow::Result<String> {
    let stats = client.stats(v1::StatsRequest { names })?;
    if format == Format::Json {
        return Ok(json::text(&json::stats(&stats)));
    }
    let by_name: BTreeMap<&String, &v1::Counters> = stats.ports.iter().collect();
    let row = |(name, counters): (&&String, &&v1::Counters)| {
        vec![
            (*name).clone(),
            counters.rx_frames.to_string(),
            counters.rx_bytes.to_string(),
            counters.tx_frames.to_string(),
            counters.tx_bytes.to_string(),
            counters.drops.values().sum::<u64>().to_string(),
            counters.device_drops.to_string(),
        ]
    };
    let titles =
        ["NAME", "#RX FRAMES", "#RX BYTES", "#TX FRAMES", "#TX BYTES", "#DROPS", "#DEVICE DROPS"];
    Ok(table(&titles, by_name.iter().map(row)))
}

/// `hairpin drops`: what was lost, by port and reason.
pub fn drops(client: &mut Client, format: Format) -> anyhow::Result<String> {
    let stats = client.stats(v1::StatsRequest::default())?;
    let mut lost: BTreeMap<&String, BTreeMap<&String, u64>> = BTreeMap::new();
    let mut sums: BTreeMap<&String, u64> = BTreeMap::new();
    for (port, counters) in &stats.ports {
        for (reason, &count) in &counters.drops {
            lost.entry(port).or_default().insert(reason, count);
            *sums.entry(reason).or_default() += count;
        }
    }
    if format == Format::Json {
        return Ok(json::text(&json!({ "drops": sums, "ports": lost })));
    }
    if lost.is_empty() {
        return Ok("no frame was lost\n".to_owned());
    }
    let rows = lost.iter().flat_map(|(port, reasons)| {
        let row = |(reason, count): (&&String, &u64)| {
            let meaning = DropReason::from_name(reason).map_or("", DropReason::meaning);
            vec![(*port).clone(), (*reason).clone(), count.to_string(), meaning.to_owned()]
        };
        reasons.iter().map(row).collect::<Vec<_>>()
    });
    Ok(table(&["PORT", "REASON", "#FRAMES", "MEANING"], rows))
}

/// `hairpin drops --list`: every reason this program knows.
#[must_use]
pub fn catalogue(format: Format) -> String {
    if format == Format::Json {
        return json::text(&json::catalogue());
    }
    let reason = |reason: &DropReason| {
        let side = match reason.side() {
            Side::Ingress => "where the frame came from",
            Side::Egress => "where the copy was to go",
        };
        let (name, meaning, remedy) = (reason.name(), reason.meaning(), reason.remedy());
        format!("{name}\n    {meaning}\n    Counted {side}. {remedy}\n")
    };
    DropReason::ALL.iter().map(reason).collect()
}
