//! What a session tells people.

use super::rings::{Footing, Ring, Run};
use crate::port::vhost_user::features::{Features, ProtocolFeatures};
use crate::port::vhost_user::queue::RingKind;
use crate::port::vhost_user::regions::Extent;
use crate::port::vhost_user::ring::Service;

/// A session as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What was accepted, if it was said.
    pub features: Option<Features>,
    /// What was accepted of the protocol.
    pub protocol: ProtocolFeatures,
    /// How rings are laid out, once features were accepted.
    pub ring_kind: Option<RingKind>,
    /// All rings of the device, in order.
    pub rings: Vec<RingStatus>,
    /// The memory lent.
    pub memory: Extent,
    /// The MTU that the guest was told, in bytes.
    pub mtu: Option<u16>,
    /// What was handled since the session was made.
    pub counts: Counts,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// A ring as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingStatus {
    /// Its number.
    pub number: usize,
    /// Entries, if they were said.
    pub size: Option<u16>,
    /// Whether it runs.
    pub state: RingState,
    /// Whether its frames are wanted.
    pub service: Service,
    /// Whether it runs from where it stands.
    pub footing: Footing,
}

/// Whether a ring runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingState {
    /// It was not set up, or was stopped.
    Stopped,
    /// A worker serves it.
    Started,
    /// It was set up, but cannot run; why.
    Failed(String),
    /// Its driver broke it, or its memory was cut short; how.
    Broken(String),
}

/// What was handled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Requests, refused ones included.
    pub requests: u64,
    /// Those that were refused, unknown ones included.
    pub refused: u64,
    /// Those of kinds that are not offered.
    pub unknown: u64,
    /// Descriptors that came where they do not belong, and were closed.
    pub stray_descriptors: u64,
    /// Rings that their drivers broke, or whose memory was cut short.
    pub broken_rings: u64,
}

impl RingStatus {
    pub(super) fn of(ring: &Ring, features: Option<Features>) -> RingStatus {
        let state = match ring.run {
            Run::Halted | Run::Leaving => RingState::Stopped,
            Run::Running => RingState::Started,
            Run::Failed(trouble) => RingState::Failed(trouble.to_string()),
            Run::Broken(fault) | Run::BrokenHalted(fault) => RingState::Broken(fault.to_string()),
        };
        RingStatus {
            number: ring.index.number(),
            size: ring.size,
            state,
            footing: ring.footing,
            service: ring.service.unwrap_or(match features {
                Some(features) => ring.service(features),
                None => Service::Disabled,
            }),
        }
    }
}
