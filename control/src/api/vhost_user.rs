//! vhost-user devices, as messages of the API.

use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_proto::v1;

use crate::config::vhost_user::{Account, SocketRole, VhostUserConfig};
use crate::vhost::backend::{Pair, Ring, RingState};
use crate::vhost::status::Status;

/// The device as configured.
#[must_use]
pub fn device(config: &VhostUserConfig) -> v1::VhostUser {
    let text = |account: &Option<Account>| account.as_ref().map(ToString::to_string);
    let (role, access) = match &config.role {
        SocketRole::Client => (v1::SocketRole::Client, None),
        SocketRole::Server(access) => (v1::SocketRole::Server, Some(access)),
    };
    v1::VhostUser {
        socket: config.socket.display().to_string(),
        role: role as i32,
        queues: config.queues.into(),
        socket_mode: access.map(|access| access.mode),
        owner: access.and_then(|access| text(&access.owner)).unwrap_or_default(),
        group: access.and_then(|access| text(&access.group)).unwrap_or_default(),
    }
}

/// What is known of the VMM.
#[must_use]
pub fn vmm(status: &Status) -> v1::Vmm {
    let session = status.session.clone().unwrap_or_default();
    let ring = match session.ring {
        None => v1::RingLayout::Unspecified,
        Some(RingKind::Split) => v1::RingLayout::Split,
        Some(RingKind::Packed) => v1::RingLayout::Packed,
    };
    v1::Vmm {
        connected: status.session.is_some(),
        connects: status.connects,
        reconnects: status.reconnects(),
        ring: ring as i32,
        queues: session.pairs.iter().map(pair).collect(),
        memory_regions: u32::try_from(session.regions).unwrap_or(u32::MAX),
        memory_bytes: session.memory_bytes,
        refused_requests: session.refused_requests,
        stray_descriptors: session.stray_descriptors,
        last_refusal: session.last_refusal.clone(),
        features: session.features.clone(),
    }
}

fn pair(pair: &Pair) -> v1::QueuePair {
    v1::QueuePair {
        receive: Some(virtqueue(&pair.receive)),
        transmit: Some(virtqueue(&pair.transmit)),
    }
}

fn virtqueue(ring: &Ring) -> v1::Virtqueue {
    let state = match ring.state {
        RingState::Stopped => v1::VirtqueueState::Stopped,
        RingState::Disabled => v1::VirtqueueState::Disabled,
        RingState::Running => v1::VirtqueueState::Running,
        RingState::Broken => v1::VirtqueueState::Broken,
    };
    v1::Virtqueue { size: ring.size, state: state as i32 }
}
