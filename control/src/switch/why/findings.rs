//! What the steps of an explanation found, in words.

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::relay::owner::Destination;
use hairpin_dataplane::relay::why::{Check, Explanation, Outcome, Standing, Step, Title};
use hairpin_dataplane::snapshot::{Addresses, Mode, RelayPort, Role, Snapshot, VlanPolicy};
use hairpin_dataplane::wire::ethernet::{self, ADDRESSES_BYTES, Outer, TAG_BYTES};
use hairpin_dataplane::wire::offload::{Checksum, Offload, Segmentation};
use hairpin_dataplane::wire::{Mac, Tci, Vid};

use super::Names;

/// What words are made from.
pub(super) struct Scene<'s> {
    pub snapshot: &'s Snapshot,
    pub names: &'s Names,
    /// The port or link that the frame comes in by.
    pub ingress: &'s str,
    pub explanation: &'s Explanation,
    /// What is left to do on the frame.
    pub offload: Offload,
}

impl Scene<'_> {
    /// Each step's check, and what it found.
    pub fn findings(&self) -> Vec<(Check, String)> {
        let steps = &self.explanation.steps;
        let last = steps.len().saturating_sub(1);
        let refused = |index| match self.explanation.outcome {
            Outcome::Dropped(reason) if index == last => Some(reason),
            _ => None,
        };
        let each = steps.iter().enumerate();
        each.map(|(index, step)| (step.check(), self.finding(step, refused(index)))).collect()
    }

    fn finding(&self, step: &Step, refused: Option<DropReason>) -> String {
        match *step {
            Step::Length { bytes, mtu } => length(bytes, mtu, refused, self.offload),
            Step::Channel { svid, port } => {
                let channel = port.map(|port| self.names.port(port));
                self.channel(svid, channel, refused)
            }
            Step::Reserved { destination } => reserved(destination, refused),
            Step::SourceForm { source } => match refused {
                None => format!("the source {source} is a station's"),
                Some(_) if source.is_group() => format!("the source {source} is a group"),
                Some(_) => "the source is all zeros".to_owned(),
            },
            Step::Tag { outer } => self.tag(outer, refused),
            Step::Vlan { vid } => self.vlan(vid, refused),
            Step::Offload { offload } => match refused {
                None => format!("{} is left to do on it", left_to_do(offload)),
                Some(_) => format!("{} is left to do, which contradicts it", left_to_do(offload)),
            },
            Step::Source { source, standing } => self.source(source, standing),
            Step::Destination { destination, owner, title } => {
                self.destination(destination, owner, title)
            }
            Step::Rule(rule) => rule.words().trim_end_matches('.').to_owned(),
        }
    }

    fn port(&self) -> Option<&RelayPort> {
        self.snapshot.port(self.explanation.ingress?)
    }

    /// The port, or the channel, that the frame comes in by.
    fn here(&self) -> &str {
        self.explanation.ingress.map_or(self.ingress, |port| self.names.port(port))
    }

    fn is_direct(&self) -> bool {
        let role = self.port().map(|port| port.role);
        matches!(role, Some(Role::Station(Mode::Direct) | Role::DirectUplink(_)))
    }

    fn channel(
        &self,
        svid: Option<u16>,
        channel: Option<&str>,
        refused: Option<DropReason>,
    ) -> String {
        let named = match svid {
            None => "no S-tag, so the default channel".to_owned(),
            Some(svid @ (0 | 1)) => format!("S-VID {svid}, which means the default channel"),
            Some(svid) => format!("S-VID {svid}"),
        };
        match (refused, channel) {
            (Some(DropReason::TruncatedTag), _) => "the frame ends within its S-tag".to_owned(),
            (Some(DropReason::UnknownSvid), _) => {
                format!("{named}, which is no channel of link {}", self.ingress)
            }
            (Some(_), _) | (_, None) => format!("{named}, which has neither ports nor a bridge"),
            (None, Some(channel)) => format!("{named}: channel {channel}"),
        }
    }

    fn tag(&self, outer: Outer, refused: Option<DropReason>) -> String {
        let found = match outer {
            Outer::Untagged => "untagged".to_owned(),
            Outer::C(tci) => format!("C-tag, {}", control(tci)),
            Outer::S(tci) => format!("S-tag, {}", control(tci)),
            Outer::Extension => "E- or VN-tag".to_owned(),
            Outer::Truncated => "the frame ends within a tag".to_owned(),
        };
        match (refused, outer) {
            (Some(DropReason::TagNotAllowed), _) => {
                format!("{found}: a port may send none outermost")
            }
            (Some(DropReason::VlanInvalid), _) => format!("{found}: no VLAN has that VID"),
            (None, Outer::S(_) | Outer::Extension) if !self.is_direct() => {
                format!("{found}, which counts as untagged here")
            }
            _ => found,
        }
    }

    fn vlan(&self, vid: Option<Vid>, refused: Option<DropReason>) -> String {
        let policy = self.port().map(|port| &port.vlan);
        let sent = self.explanation.steps.iter().find_map(|step| match step {
            Step::Tag { outer: Outer::C(tci) } => Some(tci.vid_bits()),
            _ => None,
        });
        match (refused, policy, vid) {
            (Some(DropReason::VlanTagged), Some(VlanPolicy::Access(access)), _) => {
                format!("an access port of VLAN {access} takes untagged frames only")
            }
            (Some(DropReason::VlanUntagged), ..) => {
                "a trunk without a native VLAN takes tagged frames only".to_owned()
            }
            (Some(_), ..) => format!("the trunk is no member of VLAN {}", sent.unwrap_or(0)),
            (None, Some(VlanPolicy::Access(_)), Some(vid)) => {
                format!("VLAN {}, that of the access port", vid.get())
            }
            (None, Some(VlanPolicy::Trunk { .. }), Some(vid)) => match sent {
                Some(1..) => format!("VLAN {}, of which the trunk is a member", vid.get()),
                _ => format!("VLAN {}, the trunk's native one", vid.get()),
            },
            (None, _, Some(vid)) if vid != Vid::UNTAGGED => {
                format!("VLAN {}; {} is a member of all", vid.get(), self.here())
            }
            (None, ..) => format!("no VLAN; {} is a member of all", self.here()),
        }
    }

    fn source(&self, source: Mac, standing: Standing) -> String {
        let here = self.here();
        let name = |port| self.names.port(port);
        let registered = match self.port().map(|port| &port.addresses) {
            Some(Addresses::Registered(macs)) => macs.len(),
            _ => 0,
        };
        match standing {
            Standing::Own => format!("{source} is registered on {here}"),
            Standing::NotOwn => {
                format!("{source} is not among the {registered} registered on {here}")
            }
            Standing::RegisteredElsewhere(port) => {
                format!("{source} is registered on {}, not on {here}", name(port))
            }
            Standing::Known { idle_ms } => {
                format!("{source} is learned on {here}, used {}", ago(idle_ms))
            }
            Standing::New => format!("{source} is new: it would be learned on {here}"),
            Standing::Moves(from) => {
                format!("{source} is learned on {}: it would move to {here}", name(from))
            }
            Standing::NoRoom { limit } => {
                let goes_on = match self.explanation.steps.last() {
                    Some(Step::Source { .. }) => "",
                    _ => "; its frames pass all the same",
                };
                format!(
                    "{source} cannot be learned: {here} has the {limit} it may have, or the table \
                     is full{goes_on}"
                )
            }
            Standing::Foreign => format!("{source} is nobody's here: foreign"),
            Standing::Local(port, mode, _) => format!(
                "{source} is of {}, a `{}` port: the frame has come back",
                name(port),
                mode_name(mode)
            ),
            Standing::Leaves(port) => {
                let name = name(port);
                format!(
                    "{source} was learned on {name}, which has not used it for a second: {name} \
                     would lose it, and it counts as foreign"
                )
            }
        }
    }

    fn destination(&self, mac: Mac, owner: Destination, title: Option<Title>) -> String {
        match owner {
            Destination::Group if mac == Mac::BROADCAST => "the broadcast address".to_owned(),
            Destination::Group => format!("{mac} is a group"),
            Destination::Unknown => format!("{mac} is nobody's here"),
            Destination::Owned(port, role) => {
                let what = match role {
                    Role::Station(mode) => format!(", a `{}` port", mode_name(mode)),
                    _ => String::new(),
                };
                let name = self.names.port(port);
                match title {
                    Some(Title::Learned { idle_ms }) => {
                        format!("{mac} is learned on {name}{what}, used {}", ago(idle_ms))
                    }
                    _ => format!("{mac} is registered on {name}{what}"),
                }
            }
        }
    }
}

fn length(bytes: usize, mtu: u32, refused: Option<DropReason>, offload: Offload) -> String {
    match refused {
        Some(DropReason::Runt) => format!("{bytes} bytes, less than an Ethernet header's 14"),
        Some(_) => format!("{bytes} bytes, a payload above the MTU of {mtu}"),
        None if offload.segmentation != Segmentation::None => {
            format!("{bytes} bytes, to be cut; the MTU is {mtu}")
        }
        None => format!("{bytes} bytes, a payload within the MTU of {mtu}"),
    }
}

fn reserved(destination: Mac, refused: Option<DropReason>) -> String {
    match (refused, destination.reserved()) {
        (Some(_), _) => format!("the destination {destination} is reserved: bridges consume it"),
        (None, Some(_)) => format!("{destination} is reserved, but passes in a `direct` channel"),
        (None, None) => "the destination is no reserved address".to_owned(),
    }
}

fn left_to_do(offload: Offload) -> String {
    let checksum = match offload.checksum {
        Checksum::Partial { start, offset } => {
            let at = usize::from(start) + usize::from(offset);
            Some(format!("a checksum, of the bytes from {start} on, at {at}"))
        }
        Checksum::Unknown | Checksum::Valid => None,
    };
    let cut = match offload.segmentation {
        Segmentation::None => None,
        Segmentation::Tcp4 { size, .. } | Segmentation::Tcp6 { size, .. } => {
            Some(format!("a cut into TCP segments of {size} bytes"))
        }
        Segmentation::Udp { size } => Some(format!("a cut into datagrams of {size} bytes")),
    };
    let all: Vec<String> = checksum.into_iter().chain(cut).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(" and ") }
}

/// A tag's fields.
fn control(tci: Tci) -> String {
    let (vid, priority) = (tci.vid_bits(), tci.bits() >> 13);
    match vid {
        0 => format!("a priority of {priority} only"),
        _ if priority == 0 => format!("VID {vid}"),
        _ => format!("VID {vid}, priority {priority}"),
    }
}

fn ago(idle_ms: u32) -> String {
    match idle_ms / 1000 {
        0 => "just now".to_owned(),
        seconds => format!("{seconds} s ago"),
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Veb => "veb",
        Mode::Vepa => "vepa",
        Mode::Private => "private",
        Mode::Direct => "direct",
    }
}

/// With which tags each copy leaves; empty for one that does not.
pub(super) fn tags(frame: &[u8], explanation: &Explanation) -> Vec<String> {
    let Outcome::Copies(copies) = &explanation.outcome else { return Vec::new() };
    let phrase = |header: &[u8]| {
        let tags = stack(header);
        let unchanged = frame.starts_with(header);
        match (tags.is_empty(), unchanged) {
            (true, _) => "untagged".to_owned(),
            (false, true) => format!("{}, as it came", tags.join(" and ")),
            (false, false) => format!("with {}", tags.join(" and ")),
        }
    };
    let each = copies.iter().map(|copy| copy.fate.as_ref());
    each.map(|fate| fate.map_or_else(|_| String::new(), |leaving| phrase(&leaving.header)))
        .collect()
}

/// The outer tags of a frame, two at most.
fn stack(header: &[u8]) -> Vec<String> {
    let tag = |index: usize| match ethernet::outer(header, ADDRESSES_BYTES + index * TAG_BYTES) {
        Outer::C(tci) => Some(format!("C-tag {}", tci.vid_bits())),
        Outer::S(tci) => Some(format!("S-tag {}", tci.vid_bits())),
        Outer::Untagged | Outer::Extension | Outer::Truncated => None,
    };
    (0..2).map_while(tag).collect()
}
