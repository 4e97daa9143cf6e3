//! What the switch ought to do: a naive model of the forwarding rules.
//!
//! Written from the page (ARCHITECTURE.md, "Forwarding, made exact"), sentence
//! by sentence, with nothing of the relay's own: whole frames as byte vectors,
//! one hash map of learned addresses, every question asked of the plain
//! [`Site`]. Slow and short on purpose.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::{Checksum, Offload, Segmentation};

use crate::site::{
    Address, Cable, Change, Device, Port, Purpose, Reflection, Seat, Site, Sources, Vlan,
};

const C: u16 = 0x8100;
const S: u16 = 0x88a8;
const EXTENSIONS: [u16; 2] = [0x893f, 0x8926];

/// Ends the check with this reason where the condition holds.
macro_rules! refuse {
    ($condition:expr, $reason:expr) => {
        if $condition {
            return Err($reason);
        }
    };
}

/// A frame as it is sent and delivered.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the destination address to the last byte of the payload.
    pub bytes: Vec<u8>,
    /// What is left to do on it.
    pub offload: Offload,
}

impl fmt::Debug for Frame {
    /// The bytes that decisions are taken on, and what else tells frames apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes.iter().take(38).enumerate() {
            let gap = if matches!(index, 6 | 12 | 14 | 16 | 18 | 20 | 22) { " " } else { "" };
            write!(f, "{gap}{byte:02x}")?;
        }
        write!(f, ".. {} bytes", self.bytes.len())?;
        if self.offload == Offload::NONE { Ok(()) } else { write!(f, ", {:?}", self.offload) }
    }
}

/// Where a frame enters or leaves a relay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum End {
    /// A port, by its slot.
    Port(usize),
    /// A station channel's uplink, by the channel.
    Uplink(usize),
    /// A channel that is a member of the bridge.
    Member(usize),
}

/// A learned address: where, as which tenant, and when it was last used.
#[derive(Clone, Copy, Debug)]
struct Learned {
    end: End,
    generation: u16,
    used_ms: u64,
}

/// A frame that passed its checks.
struct Admitted {
    ingress: End,
    seat: Seat,
    destination: Address,
    source: Address,
    vid: u16,
    /// Its outer C-tag's control information.
    tag: Option<u16>,
    /// Its bytes without the S-tag that named its channel.
    inner: Vec<u8>,
    /// What an MTU limits: payload, or headers and payload of a segment.
    payload: usize,
}

/// What a switch did since it was last asked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// Per egress device, in order, the copies that one frame led to there.
    pub deliveries: BTreeMap<Device, Vec<Vec<Frame>>>,
    /// Frames taken from a device.
    pub received: BTreeMap<Device, u64>,
    /// Lost frames and copies.
    pub drops: BTreeMap<(Device, DropReason), u64>,
}

/// What comes back to a member in a millisecond, of the `1000 * SHARES_PER_MS` that are
/// a second's worth: divisible by every rate that is tried.
const SHARES_PER_MS: u64 = 12;

/// The model.
#[derive(Debug)]
pub struct Oracle {
    site: Site,
    now_ms: u64,
    learned: HashMap<(Seat, u16, Address), Learned>,
    /// How much of its second's worth of reflected group frames a member has spent, in
    /// shares of [`SHARES_PER_MS`].
    spent: HashMap<usize, u64>,
    waiting: BTreeMap<Device, Vec<Frame>>,
    outcome: Outcome,
}

impl std::hash::Hash for Seat {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Seat::Channel(channel) => channel.hash(state),
            Seat::Bridge => usize::MAX.hash(state),
        }
    }
}

impl Oracle {
    /// A switch that has just started.
    #[must_use]
    pub fn new(site: &Site) -> Oracle {
        Oracle {
            site: site.clone(),
            now_ms: 0,
            learned: HashMap::new(),
            spent: HashMap::new(),
            waiting: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Time passes.
    pub fn wait(&mut self, now_ms: u64) {
        let passed_ms = now_ms - self.now_ms;
        self.now_ms = now_ms;
        for spent in self.spent.values_mut() {
            *spent = spent.saturating_sub(passed_ms * SHARES_PER_MS);
        }
    }

    /// The site changes; what waits at a device that is now up is switched.
    pub fn change(&mut self, change: &Change) {
        self.site.apply(change);
        let waiting = std::mem::take(&mut self.waiting);
        for (device, frames) in waiting {
            frames.into_iter().for_each(|frame| self.step(device, frame));
        }
    }

    /// A device sends a frame; it waits there while the device is down.
    pub fn step(&mut self, at: Device, frame: Frame) {
        if !self.is_pulled(at) {
            return self.waiting.entry(at).or_default().push(frame);
        }
        *self.outcome.received.entry(at).or_default() += 1;
        let admitted = match at {
            Device::Port(slot) => self.admit_from_port(slot, &frame),
            Device::Link(link) => self.admit_from_link(link, &frame),
        };
        let decided = admitted.and_then(|admitted| {
            let ends = self.decide(&admitted)?;
            Ok((admitted, ends))
        });
        match decided {
            Ok((admitted, ends)) => self.deliver(&frame, &admitted, &ends),
            Err(reason) => self.count(at, reason),
        }
    }

    /// What happened since this was last called.
    pub fn outcome(&mut self) -> Outcome {
        std::mem::take(&mut self.outcome)
    }

    /// A device that is down is not; but a link of which no channel is used is
    /// emptied, so that what arrives there is counted.
    fn is_pulled(&self, device: Device) -> bool {
        let used = |link: usize| {
            (0..self.site.channels.len())
                .any(|channel| self.site.channels[channel].link == link && self.is_used(channel))
        };
        match device {
            Device::Link(link) => self.site.admin_of(device) == Admin::Up || !used(link),
            Device::Port(_) => self.site.admin_of(device) == Admin::Up,
        }
    }

    fn is_used(&self, channel: usize) -> bool {
        let ports = self.site.ports_at(Seat::Channel(channel)).next().is_some();
        ports || matches!(self.site.channels[channel].purpose, Purpose::Member(_))
    }

    fn count(&mut self, device: Device, reason: DropReason) {
        *self.outcome.drops.entry((device, reason)).or_default() += 1;
    }

    // The checks.

    fn admit_from_port(&self, slot: usize, frame: &Frame) -> Result<Admitted, DropReason> {
        let port = self.site.port(slot).expect("only ports that are there send");
        let bytes = &frame.bytes;
        let payload = check_lengths(frame, self.site.mtu_at(port.seat))?;
        let direct = is_direct(port);
        let reserved = match direct {
            true => is_consumed_everywhere(bytes),
            false => is_reserved(bytes),
        };
        refuse!(reserved, DropReason::ReservedAddress);
        refuse!(!direct && is_invalid_source(bytes), DropReason::SourceInvalid);
        let tagged_channel = match port.seat {
            // Without a cable there is no S-tag on it.
            Seat::Channel(channel) => {
                self.uplink(channel).is_some() && self.site.channels[channel].svid.is_some()
            }
            Seat::Bridge => false,
        };
        let foreign = word(bytes, 12) == S || EXTENSIONS.contains(&word(bytes, 12));
        refuse!(foreign && !(direct && tagged_channel), DropReason::TagNotAllowed);
        let (tag, vid) = match direct {
            true => (None, 0),
            false => {
                let tag = c_tag(bytes)?;
                (tag, classify(&port.vlan, tag)?)
            }
        };
        check_offload(frame, self.site.mtu_at(port.seat))?;
        let ingress = End::Port(slot);
        Ok(admitted(ingress, port.seat, bytes.clone(), (tag, vid), payload))
    }

    fn admit_from_link(&self, link: usize, frame: &Frame) -> Result<Admitted, DropReason> {
        let mtu = self.site.links[link].mtu;
        let payload = check_lengths(frame, mtu)?;
        let (svid, inner) = match word(&frame.bytes, 12) == S {
            true => {
                refuse!(frame.bytes.len() < 18, DropReason::TruncatedTag);
                (word(&frame.bytes, 14) & 0xfff, without_tag(&frame.bytes))
            }
            false => (0, frame.bytes.clone()),
        };
        let channel = self.channel(link, svid).ok_or(DropReason::UnknownSvid)?;
        refuse!(!self.is_used(channel), DropReason::ChannelUnused);
        let (ingress, seat) = match self.site.channels[channel].purpose {
            Purpose::Member(_) => (End::Member(channel), Seat::Bridge),
            _ => (End::Uplink(channel), Seat::Channel(channel)),
        };
        let unused = matches!(ingress, End::Uplink(_)) && self.site.ports_at(seat).next().is_none();
        refuse!(unused, DropReason::ChannelUnused);
        refuse!(is_consumed_everywhere(&inner), DropReason::ReservedAddress);
        let direct = self.site.direct_port(channel).is_some();
        let tag = match direct {
            true => None,
            false => {
                refuse!(is_reserved(&inner), DropReason::ReservedAddress);
                refuse!(is_invalid_source(&inner), DropReason::SourceInvalid);
                c_tag(&inner)?
            }
        };
        check_offload(frame, mtu)?;
        let vid = tag.map_or(0, |tag| tag & 0xfff);
        Ok(admitted(ingress, seat, inner, (tag, vid), payload))
    }

    fn channel(&self, link: usize, svid: u16) -> Option<usize> {
        let wanted = (svid > 1).then_some(svid);
        self.site.channels.iter().position(|channel| channel.link == link && channel.svid == wanted)
    }

    // Addresses.

    fn registered(&self, seat: Seat, vid: u16, mac: Address) -> Option<End> {
        let owns = |port: &Port| match &port.sources {
            Sources::Registered(macs) => {
                port.admin == Admin::Up
                    && port.vlan.contains(vid)
                    && !is_direct(port)
                    && macs.contains(&mac)
            }
            Sources::Learned { .. } => false,
        };
        self.site.ports_at(seat).find(|(_, port)| owns(port)).map(|(slot, _)| End::Port(slot))
    }

    fn learned(&self, seat: Seat, vid: u16, mac: Address) -> Option<End> {
        let learned = self.learned.get(&(seat, vid, mac))?;
        self.is_alive(learned).then_some(learned.end)
    }

    fn is_alive(&self, learned: &Learned) -> bool {
        let up = match learned.end {
            End::Port(slot) => {
                let up = |port: &Port| port.admin == Admin::Up && !is_direct(port);
                self.site.port(slot).is_some_and(up)
            }
            End::Uplink(channel) | End::Member(channel) => {
                self.site.links[self.site.channels[channel].link].admin == Admin::Up
            }
        };
        up && learned.generation == self.generation(learned.end)
            && self.now_ms - learned.used_ms < self.site.ageing_ms
    }

    fn owner(&self, seat: Seat, vid: u16, mac: Address) -> Option<End> {
        self.registered(seat, vid, mac).or_else(|| self.learned(seat, vid, mac))
    }

    fn generation(&self, end: End) -> u16 {
        match end {
            End::Port(slot) => self.site.port_generations[slot],
            End::Uplink(channel) | End::Member(channel) => self.site.channel_generations[channel],
        }
    }

    fn check_source(&mut self, frame: &Admitted) -> Result<(), DropReason> {
        let (seat, vid, source, end) = (frame.seat, frame.vid, frame.source, frame.ingress);
        let limit = match end {
            End::Port(slot) => match &self.site.port(slot).expect("it sent").sources {
                Sources::Registered(macs) => {
                    refuse!(!macs.contains(&source), DropReason::SourceNotRegistered);
                    return Ok(());
                }
                Sources::Learned { limit } => *limit,
            },
            End::Uplink(_) | End::Member(_) => usize::MAX,
        };
        let elsewhere = self.registered(seat, vid, source).is_some();
        refuse!(elsewhere, DropReason::SourceRegisteredElsewhere);
        let new = self.learned(seat, vid, source) != Some(end);
        let mine = |learned: &&Learned| learned.end == end && self.is_alive(learned);
        let full = self.learned.values().filter(mine).count() >= limit;
        refuse!(new && full, DropReason::LearnLimit);
        let (generation, used_ms) = (self.generation(end), self.now_ms);
        self.learned.insert((seat, vid, source), Learned { end, generation, used_ms });
        Ok(())
    }

    /// A learned source that its port has not used for a second has moved away.
    fn release_moved(&mut self, frame: &Admitted) {
        let key = (frame.seat, frame.vid, frame.source);
        let registered = self.registered(frame.seat, frame.vid, frame.source).is_some();
        let idle = |learned: &Learned| self.now_ms - learned.used_ms >= 1000;
        if !registered && self.learned.get(&key).is_some_and(idle) {
            self.learned.remove(&key);
        }
    }

    // The decisions.

    fn decide(&mut self, frame: &Admitted) -> Result<Vec<End>, DropReason> {
        let Seat::Channel(channel) = frame.seat else {
            self.check_source(frame)?;
            return self.decide_bridge(frame);
        };
        if let Some(direct) = self.site.direct_port(channel) {
            return match frame.ingress {
                End::Port(_) => self.to_uplink(channel),
                End::Uplink(_) | End::Member(_) => Ok(vec![End::Port(direct)]),
            };
        }
        let End::Port(slot) = frame.ingress else {
            self.release_moved(frame);
            return self.decide_from_uplink(frame);
        };
        self.check_source(frame)?;
        let owner = self.owner(frame.seat, frame.vid, frame.destination);
        refuse!(owner == Some(frame.ingress), DropReason::OwnAddress);
        match self.mode(slot) {
            Mode::Veb => self.decide_from_veb(frame, channel, owner),
            Mode::Vepa | Mode::Private | Mode::Direct => self.to_uplink(channel),
        }
    }

    fn to_uplink(&self, channel: usize) -> Result<Vec<End>, DropReason> {
        self.uplink(channel).map(|uplink| vec![uplink]).ok_or(DropReason::NoUplink)
    }

    fn uplink(&self, channel: usize) -> Option<End> {
        let cable = self.site.links[self.site.channels[channel].link].cable;
        (cable == Cable::Present).then_some(End::Uplink(channel))
    }

    fn mode(&self, slot: usize) -> Mode {
        self.site.port(slot).expect("ends are there").mode
    }

    fn owner_mode(&self, owner: Option<End>) -> Option<Mode> {
        match owner {
            Some(End::Port(slot)) => Some(self.mode(slot)),
            _ => None,
        }
    }

    /// The ports that are up and members of the frame's VID, but for the one it
    /// came from; of these, for unknown unicast, those without registered addresses.
    fn audience(&self, frame: &Admitted, wanted: impl Fn(usize, Mode) -> bool) -> Vec<End> {
        let group = is_group(frame.destination);
        self.site
            .ports_at(frame.seat)
            .filter(|(slot, port)| {
                End::Port(*slot) != frame.ingress
                    && port.admin == Admin::Up
                    && port.vlan.contains(frame.vid)
                    && (group || matches!(port.sources, Sources::Learned { .. }))
                    && wanted(*slot, port.mode)
            })
            .map(|(slot, _)| End::Port(slot))
            .collect()
    }

    fn decide_from_veb(
        &self,
        frame: &Admitted,
        channel: usize,
        owner: Option<End>,
    ) -> Result<Vec<End>, DropReason> {
        if let Some(owner) = owner.filter(|_| !is_group(frame.destination)) {
            return match self.owner_mode(Some(owner)) {
                Some(Mode::Veb) => Ok(vec![owner]),
                _ => self.to_uplink(channel),
            };
        }
        let mut ends = self.audience(frame, |_, mode| mode == Mode::Veb);
        ends.extend(self.uplink(channel));
        some_of(ends, lonely(frame))
    }

    fn decide_from_uplink(&self, frame: &Admitted) -> Result<Vec<End>, DropReason> {
        let source = self.owner(frame.seat, frame.vid, frame.source);
        let destination = self.owner(frame.seat, frame.vid, frame.destination);
        let modes = (self.owner_mode(source), self.owner_mode(destination));
        if let Some(end) = destination.filter(|_| !is_group(frame.destination)) {
            refuse!(source == destination, DropReason::OwnFrameReturned);
            let private = modes.0 == Some(Mode::Private) || modes.1 == Some(Mode::Private);
            refuse!(source.is_some() && private, DropReason::Private);
            refuse!(modes == (Some(Mode::Veb), Some(Mode::Veb)), DropReason::LocalFrameReturned);
            return Ok(vec![end]);
        }
        let ends = self.audience(frame, |slot, mode| match modes.0 {
            None => true,
            Some(Mode::Veb) => mode == Mode::Vepa,
            Some(Mode::Vepa) => {
                matches!(mode, Mode::Veb | Mode::Vepa) && source != Some(End::Port(slot))
            }
            Some(Mode::Private | Mode::Direct) => false,
        });
        let nobody = match (is_group(frame.destination), modes.0) {
            (_, Some(Mode::Private)) => DropReason::OwnFrameReturned,
            (true, Some(Mode::Vepa)) => DropReason::OwnFrameReturned,
            (true, Some(Mode::Veb)) => DropReason::LocalFrameReturned,
            _ => lonely(frame),
        };
        some_of(ends, nobody)
    }

    fn decide_bridge(&self, frame: &Admitted) -> Result<Vec<End>, DropReason> {
        let owner = self.owner(frame.seat, frame.vid, frame.destination);
        let returned = self.reflects(frame.ingress);
        match owner.filter(|_| !is_group(frame.destination)) {
            Some(end) if end != frame.ingress => return Ok(vec![end]),
            Some(end) if returned => return Ok(vec![end]),
            Some(End::Port(_)) => return Err(DropReason::OwnAddress),
            Some(_) => return Err(DropReason::ReflectionOff),
            None => {}
        }
        let mut ends = self.audience(frame, |_, _| true);
        ends.extend(self.site.members().into_iter().map(End::Member).filter(|&member| {
            let End::Member(channel) = member else { return false };
            let up = self.site.links[self.site.channels[channel].link].admin == Admin::Up;
            up && (member != frame.ingress || returned)
        }));
        some_of(ends, lonely(frame))
    }

    fn reflects(&self, end: End) -> bool {
        let End::Member(channel) = end else { return false };
        self.site.channels[channel].purpose != Purpose::Member(Reflection::Off)
    }

    // The way out.

    fn deliver(&mut self, frame: &Frame, admitted: &Admitted, ends: &[End]) {
        let mut bundles: BTreeMap<Device, Vec<Frame>> = BTreeMap::new();
        for &end in ends {
            let (device, mtu) = self.way_out(end);
            match self.check_egress(admitted, end, (device, mtu)) {
                Ok(()) => {
                    let copy = self.copy(frame, admitted, end);
                    bundles.entry(device).or_default().push(copy);
                }
                Err(reason) => self.count(device, reason),
            }
        }
        for (device, bundle) in bundles {
            self.outcome.deliveries.entry(device).or_default().push(bundle);
        }
    }

    fn way_out(&self, end: End) -> (Device, usize) {
        match end {
            End::Port(slot) => {
                let seat = self.site.port(slot).expect("ends are there").seat;
                (Device::Port(slot), self.site.mtu_at(seat))
            }
            End::Uplink(channel) | End::Member(channel) => {
                let link = self.site.channels[channel].link;
                (Device::Link(link), self.site.links[link].mtu)
            }
        }
    }

    fn check_egress(
        &mut self,
        frame: &Admitted,
        end: End,
        (device, mtu): (Device, usize),
    ) -> Result<(), DropReason> {
        refuse!(self.site.admin_of(device) == Admin::Down, DropReason::PortDown);
        refuse!(frame.payload > mtu, DropReason::MtuExceeded);
        let End::Member(channel) = end else { return Ok(()) };
        let Purpose::Member(Reflection::On { group_rate }) = self.site.channels[channel].purpose
        else {
            return Ok(());
        };
        if end != frame.ingress || !is_group(frame.destination) {
            return Ok(());
        }
        let spent = self.spent.entry(channel).or_insert(0);
        let more = *spent + 1000 * SHARES_PER_MS / group_rate;
        refuse!(more > 1000 * SHARES_PER_MS, DropReason::ReflectedGroupRate);
        *spent = more;
        Ok(())
    }

    fn copy(&self, frame: &Frame, admitted: &Admitted, end: End) -> Frame {
        let (vlan, svid) = match end {
            End::Port(slot) => (self.site.port(slot).expect("ends are there").vlan.clone(), None),
            End::Uplink(channel) | End::Member(channel) => {
                (Vlan::Transparent, self.site.channels[channel].svid)
            }
        };
        let direct = match admitted.seat {
            Seat::Channel(channel) => self.site.direct_port(channel).is_some(),
            Seat::Bridge => false,
        };
        let (inner, priority) = match direct {
            true => (admitted.inner.clone(), direct_priority(&admitted.inner)),
            false => {
                let tag = tag_out(&vlan, admitted.vid, admitted.tag);
                (retagged(admitted, tag), tag.unwrap_or(0) & 0xf000)
            }
        };
        let bytes = match svid {
            Some(svid) => with_tag(&inner, S, priority | svid),
            None => inner,
        };
        let offload = shifted(frame.offload, bytes.len() as i64 - frame.bytes.len() as i64);
        Frame { bytes, offload }
    }
}

// Bytes.

fn word(bytes: &[u8], offset: usize) -> u16 {
    match bytes.get(offset..offset + 2) {
        Some(word) => u16::from_be_bytes([word[0], word[1]]),
        None => 0,
    }
}

fn address(bytes: &[u8], offset: usize) -> Address {
    std::array::from_fn(|index| bytes[offset + index])
}

fn is_group(mac: Address) -> bool {
    mac[0] & 1 == 1
}

fn is_reserved(bytes: &[u8]) -> bool {
    bytes[..5] == [0x01, 0x80, 0xc2, 0, 0] && bytes[5] < 16
}

/// 01 to 0A and 0E are the S-component's own.
fn is_consumed_everywhere(bytes: &[u8]) -> bool {
    is_reserved(bytes) && matches!(bytes[5], 1..=10 | 14)
}

fn is_invalid_source(bytes: &[u8]) -> bool {
    is_group(address(bytes, 6)) || address(bytes, 6) == [0; 6]
}

fn without_tag(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..12], &bytes[16..]].concat()
}

fn with_tag(bytes: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [&bytes[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &bytes[12..]].concat()
}

/// The outer C-tag's control information.
fn c_tag(bytes: &[u8]) -> Result<Option<u16>, DropReason> {
    if word(bytes, 12) != C {
        return Ok(None);
    }
    refuse!(bytes.len() < 18, DropReason::TruncatedTag);
    let tag = word(bytes, 14);
    refuse!(tag & 0xfff == 4095, DropReason::VlanInvalid);
    Ok(Some(tag))
}

fn classify(vlan: &Vlan, tag: Option<u16>) -> Result<u16, DropReason> {
    let vid = tag.map_or(0, |tag| tag & 0xfff);
    match vlan {
        Vlan::Transparent => Ok(vid),
        Vlan::Access(access) => {
            refuse!(vid != 0, DropReason::VlanTagged);
            Ok(*access)
        }
        Vlan::Trunk { native, .. } if vid == 0 => native.ok_or(DropReason::VlanUntagged),
        Vlan::Trunk { members, .. } => {
            refuse!(!members.contains(&vid), DropReason::VlanNotMember);
            Ok(vid)
        }
    }
}

/// The C-tag a copy bears.
fn tag_out(vlan: &Vlan, vid: u16, tag: Option<u16>) -> Option<u16> {
    match vlan {
        Vlan::Access(_) => None,
        Vlan::Trunk { native, .. } if *native == Some(vid) => None,
        Vlan::Trunk { .. } | Vlan::Transparent if vid == 0 => tag,
        Vlan::Trunk { .. } | Vlan::Transparent => Some(tag.unwrap_or(0) & 0xf000 | vid),
    }
}

fn retagged(admitted: &Admitted, tag: Option<u16>) -> Vec<u8> {
    let bare = match admitted.tag {
        Some(_) => without_tag(&admitted.inner),
        None => admitted.inner.clone(),
    };
    match tag {
        Some(tag) => with_tag(&bare, C, tag),
        None => bare,
    }
}

/// PCP and DEI of a whole C- or S-tag outermost.
fn direct_priority(bytes: &[u8]) -> u16 {
    let tagged = matches!(word(bytes, 12), C | S) && bytes.len() >= 18;
    if tagged { word(bytes, 14) & 0xf000 } else { 0 }
}

fn admitted(
    ingress: End,
    seat: Seat,
    inner: Vec<u8>,
    (tag, vid): (Option<u16>, u16),
    payload: usize,
) -> Admitted {
    let (destination, source) = (address(&inner, 0), address(&inner, 6));
    Admitted { ingress, seat, destination, source, vid, tag, inner, payload }
}

// Lengths and offloads.

/// Where the payload starts: behind the addresses, two C- or S-tags at most, and
/// the EtherType.
fn payload_start(bytes: &[u8]) -> usize {
    let first = matches!(word(bytes, 12), C | S);
    let second = first && matches!(word(bytes, 16), C | S);
    14 + 4 * usize::from(first) + 4 * usize::from(second)
}

/// Refuses runts and giants; says what an MTU is compared with at the egress.
fn check_lengths(frame: &Frame, mtu: usize) -> Result<usize, DropReason> {
    refuse!(frame.bytes.len() < 14, DropReason::Runt);
    if let Some(segment) = segment_payload(frame) {
        return Ok(segment);
    }
    let payload = frame.bytes.len().saturating_sub(payload_start(&frame.bytes));
    refuse!(payload > mtu, DropReason::Giant);
    Ok(payload)
}

fn segment_payload(frame: &Frame) -> Option<usize> {
    let (Segmentation::Tcp4 { size, .. }
    | Segmentation::Tcp6 { size, .. }
    | Segmentation::Udp { size }) = frame.offload.segmentation
    else {
        return None;
    };
    Some(transport_end(frame).unwrap_or(0) + usize::from(size))
}

/// Bytes from the network header to the end of the transport header.
fn transport_end(frame: &Frame) -> Option<usize> {
    let start = payload_start(&frame.bytes);
    let network = 4 * usize::from(frame.bytes.get(start)? & 0xf);
    let transport = frame.bytes.get(start + network + 12)? >> 4;
    Some(network + 4 * usize::from(transport))
}

/// Of offloads, only those are judged that contradict their frame plainly: a
/// checksum outside it, and a segmentation without one, into nothing, too large,
/// or of what is no packet (behind a third tag nothing is).
fn check_offload(frame: &Frame, mtu: usize) -> Result<(), DropReason> {
    let checksum_ends = match frame.offload.checksum {
        Checksum::Partial { start, offset } => Some(usize::from(start) + usize::from(offset) + 2),
        Checksum::Unknown | Checksum::Valid => None,
    };
    let outside = checksum_ends.is_some_and(|end| end > frame.bytes.len());
    refuse!(outside, DropReason::OffloadInvalid);
    let size = match frame.offload.segmentation {
        Segmentation::None => return Ok(()),
        Segmentation::Tcp4 { size, .. }
        | Segmentation::Tcp6 { size, .. }
        | Segmentation::Udp { size } => size,
    };
    refuse!(checksum_ends.is_none() || size == 0, DropReason::OffloadInvalid);
    let packet = word(&frame.bytes, payload_start(&frame.bytes) - 2) == 0x0800;
    refuse!(!packet, DropReason::OffloadInvalid);
    refuse!(segment_payload(frame).is_some_and(|end| end > mtu), DropReason::OffloadInvalid);
    Ok(())
}

fn shifted(offload: Offload, delta: i64) -> Offload {
    match offload.checksum {
        Checksum::Partial { start, offset } => {
            let start = u16::try_from(i64::from(start) + delta).expect("tags are small");
            Offload { checksum: Checksum::Partial { start, offset }, ..offload }
        }
        Checksum::Unknown | Checksum::Valid => offload,
    }
}

// Words.

fn is_direct(port: &Port) -> bool {
    port.mode == Mode::Direct && port.seat != Seat::Bridge
}

fn lonely(frame: &Admitted) -> DropReason {
    match is_group(frame.destination) {
        true => DropReason::NoReceiver,
        false => DropReason::UnknownUnicast,
    }
}

fn some_of(ends: Vec<End>, nobody: DropReason) -> Result<Vec<End>, DropReason> {
    if ends.is_empty() { Err(nobody) } else { Ok(ends) }
}
