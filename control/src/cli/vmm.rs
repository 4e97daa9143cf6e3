//! What is known of a vhost-user port's VMM, for people and for programs.

use hairpin_proto::v1;
use serde_json::{Map, Value, json};

use super::{json, words};

/// The rows that a port has more.
#[must_use]
pub fn rows(vmm: &v1::Vmm) -> Vec<(&'static str, String)> {
    let memory = match vmm.memory_regions {
        0 => "-".to_owned(),
        1 => format!("{} in 1 region", mebibytes(vmm.memory_bytes)),
        regions => format!("{} in {regions} regions", mebibytes(vmm.memory_bytes)),
    };
    let queues: Vec<String> = vmm.queues.iter().zip(0..).map(queue_pair).collect();
    vec![
        ("vmm", if vmm.connected { "connected" } else { "not connected" }.to_owned()),
        ("features", words::joined(&vmm.features)),
        ("ring", layout(vmm.ring()).unwrap_or("-").to_owned()),
        ("queues", words::sentences(&queues)),
        ("memory", memory),
        ("reconnects", vmm.reconnects.to_string()),
        ("refused", refused(vmm)),
    ]
}

/// `3 requests, the last one: …`.
fn refused(vmm: &v1::Vmm) -> String {
    match vmm.refused_requests {
        0 => "-".to_owned(),
        count => format!("{count} requests, the last one: {}", vmm.last_refusal),
    }
}

/// The keys that a port has more.
#[must_use]
pub fn keys(vmm: &v1::Vmm) -> Map<String, Value> {
    let of = |queue: &Option<v1::Virtqueue>| {
        let queue = queue.unwrap_or_default();
        json!({ "size": queue.size, "state": state(queue.state()) })
    };
    let pair = |pair: &v1::QueuePair| json!({ "receive": of(&pair.receive), "transmit": of(&pair.transmit) });
    let keys = [
        ("connected", vmm.connected.into()),
        ("features", vmm.features.clone().into()),
        ("ring", layout(vmm.ring()).into()),
        ("queues", json::each(&vmm.queues, pair)),
        ("memory", json!({ "regions": vmm.memory_regions, "bytes": vmm.memory_bytes })),
        ("connects", vmm.connects.into()),
        ("reconnects", vmm.reconnects.into()),
        ("refused_requests", vmm.refused_requests.into()),
        ("stray_descriptors", vmm.stray_descriptors.into()),
        ("last_refusal", json::unless_empty(&vmm.last_refusal)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn layout(ring: v1::RingLayout) -> Option<&'static str> {
    match ring {
        v1::RingLayout::Unspecified => None,
        v1::RingLayout::Split => Some("split"),
        v1::RingLayout::Packed => Some("packed"),
    }
}

fn state(state: v1::VirtqueueState) -> &'static str {
    match state {
        v1::VirtqueueState::Unspecified => "unknown",
        v1::VirtqueueState::Stopped => "stopped",
        v1::VirtqueueState::Disabled => "disabled",
        v1::VirtqueueState::Running => "running",
        v1::VirtqueueState::Broken => "broken",
    }
}

/// `0: receive 256 running, transmit 256 running`.
fn queue_pair((pair, index): (&v1::QueuePair, u32)) -> String {
    let of = |queue: &Option<v1::Virtqueue>| {
        let queue = queue.unwrap_or_default();
        format!("{} {}", queue.size, state(queue.state()))
    };
    format!("{index}: receive {}, transmit {}", of(&pair.receive), of(&pair.transmit))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmm() -> v1::Vmm {
        let queue = v1::Virtqueue { size: 256, state: v1::VirtqueueState::Running as i32 };
        v1::Vmm {
            connected: true,
            connects: 3,
            reconnects: 2,
            features: vec!["mrg_rxbuf".to_owned(), "ring_packed".to_owned()],
            ring: v1::RingLayout::Packed as i32,
            queues: vec![v1::QueuePair { receive: Some(queue), transmit: Some(queue) }],
            memory_regions: 2,
            memory_bytes: 1 << 30,
            refused_requests: 2,
            stray_descriptors: 1,
            last_refusal: "SET_OWNER: no".to_owned(),
        }
    }

    #[test]
    fn people_read_what_was_agreed() {
        let row =
            |wanted: &str| rows(&vmm()).into_iter().find(|(key, _)| *key == wanted).unwrap().1;
        assert_eq!(row("features"), "mrg_rxbuf ring_packed");
        assert_eq!(row("ring"), "packed");
        assert_eq!(row("queues"), "0: receive 256 running, transmit 256 running");
        assert_eq!(row("memory"), "1024 MiB in 2 regions");
        assert_eq!(row("reconnects"), "2");
        assert_eq!(row("refused"), "2 requests, the last one: SET_OWNER: no");
        let nobody = rows(&v1::Vmm::default());
        assert!(nobody.contains(&("vmm", "not connected".to_owned())), "{nobody:?}");
        assert!(nobody.contains(&("ring", "-".to_owned())), "{nobody:?}");
    }

    #[test]
    fn programs_find_the_names_of_the_contract() {
        let keys = keys(&vmm());
        assert_eq!(keys["features"], json!(["mrg_rxbuf", "ring_packed"]));
        assert_eq!(keys["ring"], "packed");
        assert_eq!(keys["reconnects"], 2);
        assert_eq!([&keys["refused_requests"], &keys["stray_descriptors"]], [2, 1]);
        assert_eq!(keys["last_refusal"], "SET_OWNER: no");
        assert_eq!(keys["queues"][0]["receive"], json!({ "size": 256, "state": "running" }));
        assert_eq!(keys["memory"], json!({ "regions": 2, "bytes": 1_u64 << 30 }));
        let nobody = super::keys(&v1::Vmm::default());
        assert_eq!([&nobody["ring"], &nobody["last_refusal"]], [&Value::Null; 2]);
    }
}
