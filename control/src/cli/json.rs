//! Messages as JSON. Shapes are stable: keys are added, never renamed.

use hairpin_dataplane::ledger::{DropReason, Side};
use hairpin_proto::v1;
use serde_json::{Value, json};

use super::{vmm, words};
use crate::config::ConfigErrors;

/// A value as text, with a newline.
#[must_use]
pub fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The whole switch.
#[must_use]
pub fn show(show: &v1::ShowResponse) -> Value {
    json!({
        "name": show.name,
        "version": show.version,
        "revision": show.revision,
        "uptime_ms": show.uptime_ms,
        "links": each(&show.links, link),
        "channels": each(&show.channels, channel),
        "bridges": each(&show.bridges, bridge),
        "ports": each(&show.ports, port),
        "workers": each(&show.workers, worker),
    })
}

/// A list of values.
pub fn each<T>(all: &[T], one: impl Fn(&T) -> Value) -> Value {
    all.iter().map(one).collect()
}

/// A link.
#[must_use]
pub fn link(link: &v1::Link) -> Value {
    json!({
        "name": link.name,
        "role": words::role(link.role()),
        "device": device(link.device.as_ref()),
        "mtu": link.mtu,
        "admin": words::admin(link.admin()),
        "state": words::state(link.state()),
        "channels": link.channels,
        "last_error": unless_empty(&link.last_error),
        "warnings": link.warnings,
    })
}

/// A channel.
#[must_use]
pub fn channel(channel: &v1::Channel) -> Value {
    json!({
        "name": channel.name,
        "link": channel.link,
        "svid": channel.svid,
        "ports": channel.ports,
        "bridge": unless_empty(&channel.bridge),
    })
}

/// A bridge.
#[must_use]
pub fn bridge(bridge: &v1::Bridge) -> Value {
    let member = |member: &v1::Member| {
        json!({
            "channel": member.channel,
            "reflective_relay": if member.reflective_relay { "on" } else { "off" },
            "reflected_group_rate": member.reflected_group_rate,
        })
    };
    json!({
        "name": bridge.name,
        "members": each(&bridge.members, member),
        "ports": bridge.ports,
    })
}

/// A port.
#[must_use]
pub fn port(port: &v1::Port) -> Value {
    let mut object = json!({
        "name": port.name,
        "mode": words::mode(port.mode()),
        "channel": null,
        "bridge": null,
        "mirror": null,
        "state": words::state(port.state()),
        "admin": words::admin(port.admin()),
        "device": device(port.device.as_ref()),
        "vlan": vlan(port.vlan.as_ref()),
        "mac": port.macs,
        "learn_limit": port.learn_limit,
        "mtu": port.mtu,
        "workers": port.workers,
        "reopened": port.reopened,
        "last_error": unless_empty(&port.last_error),
        "warnings": port.warnings,
        "template": unless_empty(&port.template),
    });
    object[words::home_kind(port)] = unless_empty(words::home_name(port));
    if let (Some(object), Some(of_vmm)) = (object.as_object_mut(), &port.vmm) {
        object.extend(vmm::keys(of_vmm));
    }
    object
}

/// A mirror, and the ports that are on it.
#[must_use]
pub fn mirror((mirror, ports): &(v1::MirrorConfig, Vec<String>)) -> Value {
    json!({
        "name": mirror.name,
        "from": mirror.from,
        "frames": words::mirrored(mirror.frames()),
        "ports": ports,
    })
}

/// A port template.
#[must_use]
pub fn template(template: &v1::PortConfig) -> Value {
    use v1::port_config::Home;
    let (channel, bridge) = match &template.home {
        Some(Home::Channel(name)) => (Some(name), None),
        Some(Home::Bridge(name)) => (None, Some(name)),
        Some(Home::Mirror(_)) | None => (None, None),
    };
    json!({
        "name": template.name,
        "devices": words::wanted_device(template.device.as_ref()),
        "mode": words::mode(template.mode()),
        "channel": channel,
        "bridge": bridge,
        "vlan": vlan(template.vlan.as_ref()),
        "learn_limit": template.learn_limit,
        "admin": words::admin(template.admin()),
    })
}

fn device(device: Option<&v1::Device>) -> Value {
    match device.and_then(|device| device.kind.as_ref()) {
        None => Value::Null,
        Some(v1::device::Kind::Tap(tap)) => json!({ "tap": { "interface": tap.interface } }),
        Some(v1::device::Kind::Packet(packet)) => json!({
            "packet": { "interface": packet.interface, "take_over": packet.take_over },
        }),
        Some(v1::device::Kind::Xdp(xdp)) => json!({
            "xdp": {
                "interface": xdp.interface,
                "mode": words::xdp_mode(xdp.mode()),
                "granted": words::xdp_mode(xdp.granted()),
                "reason": unless_empty(&xdp.reason),
                "take_over": xdp.take_over,
                "unfilled_checksums": xdp.unfilled_checksums,
            },
        }),
        Some(v1::device::Kind::VhostUser(vhost_user)) => json!({
            "vhost_user": {
                "socket": vhost_user.socket,
                "role": words::socket_role(vhost_user.role()),
                "queues": vhost_user.queues,
                "socket_mode": vhost_user.socket_mode.map(|mode| format!("{mode:04o}")),
                "owner": unless_empty(&vhost_user.owner),
                "group": unless_empty(&vhost_user.group),
            },
        }),
        Some(v1::device::Kind::Memory(_)) => json!({ "memory": {} }),
    }
}

fn vlan(vlan: Option<&v1::Vlan>) -> Value {
    match vlan.and_then(|vlan| vlan.policy.as_ref()) {
        None | Some(v1::vlan::Policy::Transparent(_)) => Value::Null,
        Some(v1::vlan::Policy::Access(id)) => json!({ "access": id }),
        Some(v1::vlan::Policy::Trunk(trunk)) => {
            json!({ "trunk": trunk.vids, "native": trunk.native })
        }
    }
}

/// A text, or null where there is none.
pub fn unless_empty(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// A worker.
#[must_use]
pub fn worker(worker: &v1::Worker) -> Value {
    json!({
        "index": worker.index,
        "cpu": worker.cpu,
        "breaths": worker.breaths,
        "health": words::health(worker.health()),
        "ports": worker.ports,
        "poll": words::poll(worker.poll()),
        "sleeps": worker.sleeps,
        "load": worker.load,
        "queues": each(&worker.queues, queue),
    })
}

fn queue(queue: &v1::Queue) -> Value {
    json!({
        "port": queue.port,
        "queue": queue.index,
        "state": words::queue_state(queue.state()),
        "frames": queue.frames,
        "bytes": queue.bytes,
        "batches": queue.batches,
        "busy_ns": queue.busy_ns,
        "frames_per_second": queue.frames_per_second,
        "bytes_per_second": queue.bytes_per_second,
        "load": queue.load,
    })
}

/// Counters by name of port or link.
#[must_use]
pub fn stats(stats: &v1::StatsResponse) -> Value {
    let counters = |counters: &v1::Counters| {
        json!({
            "rx_frames": counters.rx_frames,
            "rx_bytes": counters.rx_bytes,
            "tx_frames": counters.tx_frames,
            "tx_bytes": counters.tx_bytes,
            "drops": counters.drops,
            "decided": counters.decided,
            "fan_out": counters.fan_out,
            "offered": counters.offered,
            "segments": counters.segments,
            "device_drops": counters.device_drops,
        })
    };
    let ports = stats.ports.iter().map(|(name, of_port)| (name.clone(), counters(of_port)));
    json!({ "ports": ports.collect::<serde_json::Map<_, _>>() })
}

/// The catalogue of drop reasons.
#[must_use]
pub fn catalogue() -> Value {
    let reason = |reason: &DropReason| {
        json!({
            "name": reason.name(),
            "meaning": reason.meaning(),
            "remedy": reason.remedy(),
            "side": match reason.side() {
                Side::Ingress => "ingress",
                Side::Egress => "egress",
            },
        })
    };
    json!({ "reasons": each(DropReason::ALL, reason) })
}

/// An address.
#[must_use]
pub fn address(address: &v1::Address) -> Value {
    let (origin, idle_ms) = match &address.origin {
        Some(v1::address::Origin::Learned(learned)) => ("learned", Some(learned.idle_ms)),
        Some(v1::address::Origin::Registered(_)) | None => ("registered", None),
    };
    json!({
        "mac": address.mac,
        "vid": address.vid,
        "port": address.port,
        "domain": address.domain,
        "origin": origin,
        "idle_ms": idle_ms,
    })
}

/// A configuration without errors.
#[must_use]
pub fn valid() -> Value {
    json!({ "valid": true, "errors": [] })
}

/// A configuration with errors.
#[must_use]
pub fn errors(errors: &ConfigErrors) -> Value {
    let error = |error: &crate::config::ConfigError| {
        json!({
            "file": error.file,
            "line": error.line,
            "object": error.object,
            "field": error.field,
            "problem": error.problem,
            "remedy": error.remedy,
        })
    };
    json!({ "valid": false, "errors": each(errors.errors(), error) })
}
