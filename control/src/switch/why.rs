//! What would become of a frame: asked of the running policy and addresses, under the
//! engine's lock, by the code that workers decide with; numbers into names.

mod findings;

use std::collections::BTreeMap;
use std::time::Duration;

use hairpin_dataplane::frame::FRAME_BYTES_MAX;
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::relay::Relay;
use hairpin_dataplane::relay::why::{Check, Copy, Explanation, Outcome};
use hairpin_dataplane::snapshot::mirrors::{Mirrored, Mirrors};
use hairpin_dataplane::snapshot::{DeviceId, DomainId, PortId};
use hairpin_dataplane::wire::ethernet::{self, ADDRESSES_BYTES, HEADER_BYTES, Outer, TAG_BYTES};
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::foresee::{Foreseen, foresee, is_mirrored_as_it_comes};
use hairpin_dataplane::worker::monotonic_ns;

use super::Switch;
use super::engine::Engine;
use super::view::State;
use crate::config::DeviceConfig;
use crate::config::nearest::hint;
use findings::{Scene, tags};

/// A frame, and where it comes in.
#[derive(Clone, Debug)]
pub struct Question {
    /// The port or link.
    pub ingress: String,
    /// From the destination address on, without FCS: 1 to [`FRAME_BYTES_MAX`] bytes.
    pub frame: Vec<u8>,
    /// What is left to do on it.
    pub offload: Offload,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The revision of the policy that was asked.
    pub revision: u64,
    /// What it comes to.
    pub fate: Fate,
    /// What numbers are called.
    pub names: Names,
}

/// Whether a frame is taken.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is not: it waits where it is.
    Waits {
        /// What the port or link is.
        state: State,
        /// Why, as far as is known.
        problem: String,
    },
    /// It is.
    Taken {
        /// What then happens.
        explanation: Explanation,
        /// What each step found, in words.
        findings: Vec<(Check, String)>,
        /// With which tags each copy leaves, in words; empty for one that does not.
        tags: Vec<String>,
        /// Who gets copies beside.
        mirrored: Vec<Reflex>,
    },
}

/// A copy for a port on a mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reflex {
    /// That port.
    pub port: String,
    /// The port or link whose frame it is a copy of.
    pub of: String,
    /// Whether as it comes from there or as it leaves for there.
    pub frames: Mirrored,
}

/// What numbers are called.
#[derive(Clone, Default, Debug)]
pub struct Names {
    ports: BTreeMap<PortId, String>,
    devices: BTreeMap<DeviceId, String>,
    domains: BTreeMap<DomainId, String>,
}

impl Names {
    /// A port, or the channel whose end it is.
    #[must_use]
    pub fn port(&self, id: PortId) -> &str {
        self.ports.get(&id).map_or("", String::as_str)
    }

    /// The port or link that has a device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> &str {
        self.devices.get(&id).map_or("", String::as_str)
    }

    /// A channel or bridge.
    #[must_use]
    pub fn domain(&self, id: DomainId) -> &str {
        self.domains.get(&id).map_or("", String::as_str)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// There is no such object.
    #[error("there is no port or link {name:?}{hint}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// No frame comes in there.
    #[error("ingress: {0}")]
    NoEntrance(String),
    /// No frame has this length.
    #[error("frame: {bytes} bytes are out of range; send 1 to {FRAME_BYTES_MAX}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The switch has stopped.
    #[error("the switch is ending")]
    Ending,
}

/// Who gets copies of a frame that came from a device (whether they may see it as it came is
/// known), and of its copies.
fn mirrored(
    mirrors: &Mirrors,
    names: &Names,
    (device, is_shown): (DeviceId, bool),
    explanation: &Explanation,
) -> Vec<Reflex> {
    let reflex = |to, of, frames| {
        let (port, of) = (names.device(to).to_owned(), names.device(of).to_owned());
        Reflex { port, of, frames }
    };
    let came = mirrors.of_received(device).filter(|_| is_shown);
    let mut all: Vec<Reflex> = came.map(|to| reflex(to, device, Mirrored::Received)).collect();
    if let Outcome::Copies(copies) = &explanation.outcome {
        // One that is not even on its way is no copy.
        let leave = |copy: &&Copy| !matches!(copy.fate, Err(DropReason::MtuExceeded));
        for copy in copies.iter().filter(leave) {
            let sent = mirrors.of_sent(copy.device);
            all.extend(sent.map(|to| reflex(to, copy.device, Mirrored::Sent)));
        }
    }
    all
}

impl Switch {
    /// What would become of a frame that came in now. Nothing is sent, learned or counted.
    ///
    /// # Errors
    /// See [`WhyError`].
    pub fn why(&self, question: &Question) -> Result<Answer, WhyError> {
        self.engine().why(question, monotonic_ns() / 1_000_000)
    }
}

impl Engine {
    fn why(&self, question: &Question, now_ms: u64) -> Result<Answer, WhyError> {
        let Question { ingress, frame, offload } = question;
        if !(1..=FRAME_BYTES_MAX).contains(&frame.len()) {
            return Err(WhyError::Length { bytes: frame.len() });
        }
        let device = self.devices.get(ingress).ok_or_else(|| self.no_entrance(ingress))?;
        let snapshot = self.publisher.current();
        let relay = Relay { snapshot, fdb: &*self.fdb, now_ms };
        let foreseen = foresee(relay, device.attached.id, frame, *offload);
        let names = self.names();
        let fate = match foreseen.ok_or(WhyError::Ending)? {
            Foreseen::NotTaken(_) => self.waits(ingress),
            Foreseen::Taken(mut explanation) => {
                if let Outcome::Copies(copies) = &mut explanation.outcome {
                    copies.iter_mut().for_each(|copy| self.look_at_length(&names, copy));
                }
                let findings = {
                    let (names, explanation, offload) = (&names, &explanation, *offload);
                    Scene { snapshot, names, ingress, explanation, offload }.findings()
                };
                let tags = tags(frame, &explanation);
                let is_shown = is_mirrored_as_it_comes(frame, *offload);
                let came = (device.attached.id, is_shown);
                let mirrored = mirrored(&snapshot.mirrors, &names, came, &explanation);
                Fate::Taken { explanation, findings, tags, mirrored }
            }
        };
        Ok(Answer { revision: self.history.number(), fate, names })
    }

    /// Adds that a copy may be too long: with its tags for the netdev that it leaves by, of
    /// which only the device itself knows all.
    fn look_at_length(&self, names: &Names, copy: &mut Copy) {
        let (Some(device), Ok(leaving)) = (self.devices.get(names.device(copy.device)), &copy.fate)
        else {
            return;
        };
        // The kernel has room for one tag beside the MTU, from a packet socket a C-tag only.
        let outer = ethernet::outer(&leaving.header, ADDRESSES_BYTES);
        let beside = match (&device.source.config, outer) {
            (DeviceConfig::Packet { .. }, Outer::S(_)) => HEADER_BYTES,
            (DeviceConfig::Packet { .. } | DeviceConfig::Xdp { .. }, _) => HEADER_BYTES + TAG_BYTES,
            _ => return,
        };
        let most = device.plugged().mtu.map_or(usize::MAX, |mtu| mtu as usize + beside);
        if leaving.length > most && leaving.offload.is_complete() {
            copy.may.push(DropReason::MtuExceeded);
        }
    }

    fn waits(&self, name: &str) -> Fate {
        let status = self.view(Duration::ZERO).status.remove(name);
        let (state, problem) =
            status.map_or((State::Waiting, String::new()), |it| (it.state, it.last_error));
        Fate::Waits { state, problem }
    }

    fn names(&self) -> Names {
        let ports = self.ids.tenants().into_iter().map(|(id, (name, _))| (id, name));
        let devices = self.devices.iter().map(|(name, it)| (it.attached.id, name.clone()));
        Names {
            ports: ports.collect(),
            devices: devices.collect(),
            domains: self.ids.domain_names(),
        }
    }

    /// Why no frame comes in by this name.
    fn no_entrance(&self, name: &str) -> WhyError {
        let desired = &self.desired;
        if desired.links().iter().any(|link| link.name == name) {
            let remedy = "name a port of it";
            return WhyError::NoEntrance(format!(
                "link {name} is host-local, no frame comes in by it; {remedy}"
            ));
        }
        if let Some(channel) = desired.channels().iter().find(|channel| channel.name == name) {
            let link = &desired.link_of(channel).name;
            let svid = channel.svid.map_or(0, |svid| svid.get());
            return WhyError::NoEntrance(format!(
                "{name} is a channel; name its link, {link}, and send a frame with S-VID {svid}"
            ));
        }
        if desired.bridges().iter().any(|bridge| bridge.name == name) {
            return WhyError::NoEntrance(format!(
                "{name} is a bridge; name a port of it, or the link of a member"
            ));
        }
        let hint = hint(name, self.devices.keys().map(String::as_str));
        WhyError::NoSuchPort { name: name.to_owned(), hint }
    }
}
