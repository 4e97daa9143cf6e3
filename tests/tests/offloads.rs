//! Offload headers that lie: random and hostile virtio-net headers in front of
//! frames, through a whole switch to devices that take offloads and devices that
//! do not. What contradicts its frame is lost as `offload_invalid` at its ingress,
//! and nothing else is; what is delivered is well-formed; the ledgers balance.
//!
//! `HAIRPIN_CASES` sets the number of frames. A failure is shrunk, printed and
//! kept in `proptest-regressions/offloads.txt`, from where it is tried first.

use std::collections::{BTreeMap, BTreeSet};

use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::{
    Capabilities, Checksum, Ecn, Offload, Segmentation, Support,
};
use hairpin_tests::oracle::Frame;
use hairpin_tests::rig::Rig;
use hairpin_tests::site::{
    Cable, Channel, Device, Link, Port, Purpose, Reflection, Role, SLOTS, Seat, Site, Sources, Vlan,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

/// Frames without `HAIRPIN_CASES`.
const CASES: u32 = 20_000;
const MTU: usize = 1500;
const SVID: u16 = 100;
const VID: u16 = 10;
/// The first bytes of a frame that the switch may change in software.
const PRIVATE_BYTES: usize = 128;
/// Segments of one frame at most.
const SEGMENTS_MAX: usize = 256;

const STATION: Device = Device::Link(0);
const BRIDGE: Device = Device::Link(1);
/// Senders; each but the last two reaches the others of the channel.
const SENDERS: [Device; 6] =
    [Device::Port(0), Device::Port(1), Device::Port(2), STATION, BRIDGE, Device::Port(4)];

/// What a device takes: the links and port 1 nothing, port 2 checksums, port 3 all but ECN.
fn capabilities(device: Device) -> Capabilities {
    match device {
        Device::Link(_) | Device::Port(1) => Capabilities::NONE,
        Device::Port(2) => Capabilities { checksum: Support::Taken, ..Capabilities::NONE },
        Device::Port(3) => Capabilities { ecn: Support::Lacking, ..Capabilities::ALL },
        Device::Port(_) => Capabilities::ALL,
    }
}

/// A tagged channel with four `veb` ports, and a bridge with a port and a link that
/// gets its frames back.
fn site() -> Site {
    let link = |role| Link { role, cable: Cable::Present, mtu: MTU, admin: Admin::Up };
    let port = |seat, vlan| {
        let sources = Sources::Learned { limit: 8 };
        Some(Port { seat, mode: Mode::Veb, vlan, sources, admin: Admin::Up })
    };
    let channel = |link, svid, purpose| Channel { link, svid, purpose };
    let trunk = Vlan::Trunk { members: vec![VID], native: None };
    let reflection = Reflection::On { group_rate: 1_000_000 };
    let mut ports = vec![
        port(Seat::Channel(0), Vlan::Access(VID)),
        port(Seat::Channel(0), Vlan::Transparent),
        port(Seat::Channel(0), trunk),
        port(Seat::Channel(0), Vlan::Access(VID)),
        port(Seat::Bridge, Vlan::Transparent),
    ];
    ports.resize(SLOTS, None);
    Site {
        links: vec![link(Role::Station), link(Role::Bridge)],
        channels: vec![
            channel(0, Some(SVID), Purpose::Station),
            channel(1, None, Purpose::Member(reflection)),
        ],
        ports,
        port_generations: vec![0; SLOTS],
        channel_generations: vec![0; 2],
        ageing_ms: 300_000,
    }
}

/// The tags a sender has to use: those of its VLAN and channel.
fn tags(sender: Device) -> Vec<(u16, u16)> {
    let (c, s) = ((0x8100, VID), (0x88a8, SVID));
    match sender {
        Device::Port(1 | 2) => vec![c],
        STATION => vec![s, c],
        _ => vec![],
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Network {
    Ipv4,
    /// With so many extension headers of eight bytes.
    Ipv6 {
        extensions: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
}

/// A packet that is what it says.
#[derive(Clone, Debug)]
struct Packet {
    network: Network,
    transport: Transport,
    payload: usize,
}

/// A virtio-net header, field by field.
#[derive(Clone, Copy, Debug)]
struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    num_buffers: u16,
}

/// One thing that is not true of a header.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Flags(u8),
    GsoType(u8),
    HdrLen(u16),
    GsoSize(u16),
    CsumStart(u16),
    CsumOffset(u16),
    NumBuffers(u16),
}

/// A frame and its header as they are sent.
#[derive(Clone, Debug)]
struct Draft {
    sender: Device,
    packet: Packet,
    asks: Asks,
    gso_size: u16,
    lies: Vec<Lie>,
    /// Bytes behind the EtherType that are overwritten, and how long the frame is.
    smears: Vec<(usize, u8)>,
    cut: Option<usize>,
}

/// What the header asks for before it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    Nothing,
    Checksum,
    Segmentation,
    /// The same, where it is TCP's, with CWR for the first segment only.
    SegmentationWithEcn,
}

impl Network {
    fn bytes(self) -> usize {
        match self {
            Network::Ipv4 => 20,
            Network::Ipv6 { extensions } => 40 + 8 * extensions,
        }
    }
}

impl Transport {
    fn bytes(self) -> usize {
        if self == Transport::Tcp { 20 } else { 8 }
    }

    fn number(self) -> u8 {
        if self == Transport::Tcp { 6 } else { 17 }
    }

    fn checksum_offset(self) -> usize {
        if self == Transport::Tcp { 16 } else { 6 }
    }
}

impl Packet {
    /// Network header, transport header with the pseudo-header's sum, payload.
    fn bytes(&self) -> Vec<u8> {
        let length = self.transport.bytes() + self.payload;
        let mut bytes = match self.network {
            Network::Ipv4 => {
                let mut header = vec![0x45, 0];
                header.extend(((20 + length) as u16).to_be_bytes());
                header.extend([0, 1, 0, 0, 64, self.transport.number(), 0, 0]);
                header.extend([192, 0, 2, 1, 192, 0, 2, 2]);
                let sum = !ones(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            Network::Ipv6 { extensions } => self.ipv6(extensions, length),
        };
        let pseudo = ones(&self.pseudo(length));
        match self.transport {
            Transport::Tcp => {
                bytes.extend([1, 187, 4, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 255, 0]);
                bytes.extend(pseudo.to_be_bytes());
                bytes.extend([0, 0]);
            }
            Transport::Udp => {
                bytes.extend([17, 81, 4, 1]);
                bytes.extend((length as u16).to_be_bytes());
                bytes.extend(pseudo.to_be_bytes());
            }
        }
        bytes.extend((0..self.payload).map(|at| (at * 7 + at / 251) as u8));
        bytes
    }

    fn ipv6(&self, extensions: usize, length: usize) -> Vec<u8> {
        let next = |index: usize| if index < extensions { 60 } else { self.transport.number() };
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(((8 * extensions + length) as u16).to_be_bytes());
        header.extend([next(0), 64]);
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        (0..extensions).for_each(|index| header.extend([next(index + 1), 0, 1, 4, 0, 0, 0, 0]));
        header
    }

    /// The pseudo-header for a transport header and payload of this many bytes.
    fn pseudo(&self, length: usize) -> Vec<u8> {
        let addresses = match self.network {
            Network::Ipv4 => vec![192, 0, 2, 1, 192, 0, 2, 2],
            Network::Ipv6 { .. } => self.ipv6(0, 0)[8..40].to_vec(),
        };
        [&addresses[..], &[0, self.transport.number()], &(length as u16).to_be_bytes()].concat()
    }
}

/// The ones' complement sum of 16-bit words.
fn ones(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into());
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

impl Header {
    fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        (bytes[0], bytes[1]) = (self.flags, self.gso_type);
        let words =
            [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (place, word) in bytes[2..].chunks_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn tell(&mut self, lie: Lie) {
        match lie {
            Lie::Flags(flags) => self.flags = flags,
            Lie::GsoType(gso_type) => self.gso_type = gso_type,
            Lie::HdrLen(length) => self.hdr_len = length,
            Lie::GsoSize(size) => self.gso_size = size,
            Lie::CsumStart(start) => self.csum_start = start,
            Lie::CsumOffset(offset) => self.csum_offset = offset,
            Lie::NumBuffers(buffers) => self.num_buffers = buffers,
        }
    }

    fn needs_checksum(self) -> bool {
        self.flags & 1 != 0
    }
}

impl Draft {
    fn network_start(&self) -> usize {
        14 + 4 * tags(self.sender).len()
    }

    fn transport_start(&self) -> usize {
        self.network_start() + self.packet.network.bytes()
    }

    fn frame(&self, number: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, number]);
        for (tpid, tci) in tags(self.sender) {
            bytes.extend([tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        bytes.extend(match self.packet.network {
            Network::Ipv4 => [0x08, 0x00],
            Network::Ipv6 { .. } => [0x86, 0xdd],
        });
        bytes.extend(self.packet.bytes());
        let start = self.network_start();
        for &(at, value) in &self.smears {
            if let Some(byte) = bytes.get_mut(start + at) {
                *byte = value;
            }
        }
        bytes.truncate(self.cut.map_or(usize::MAX, |behind| start + behind));
        bytes
    }

    fn header(&self) -> Header {
        let mut header = Header {
            flags: u8::from(self.asks != Asks::Nothing),
            gso_type: 0,
            hdr_len: 0,
            gso_size: 0,
            csum_start: self.transport_start() as u16,
            csum_offset: self.packet.transport.checksum_offset() as u16,
            num_buffers: 1,
        };
        if matches!(self.asks, Asks::Segmentation | Asks::SegmentationWithEcn) {
            header.hdr_len = (self.transport_start() + self.packet.transport.bytes()) as u16;
            header.gso_size = self.gso_size;
            let ecn = if self.asks == Asks::SegmentationWithEcn { 0x80 } else { 0 };
            header.gso_type = match (self.packet.transport, self.packet.network) {
                (Transport::Udp, _) => 5,
                (Transport::Tcp, Network::Ipv4) => 1 | ecn,
                (Transport::Tcp, Network::Ipv6 { .. }) => 4 | ecn,
            };
        }
        self.lies.iter().for_each(|&lie| header.tell(lie));
        header
    }
}

/// What a frame and its header come to, by the page (ARCHITECTURE.md; virtio 1.2,
/// 5.1.6.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Judgement {
    Invalid,
    Giant,
    Complete,
    Unsummed,
    /// To be cut.
    Unsegmented,
    /// Its headers were tampered with, or end too early: whatever is made of it.
    Open,
}

fn judge(draft: &Draft, header: Header, length: usize) -> Judgement {
    let (network, transport) = (draft.network_start(), draft.transport_start());
    let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    if ![0, 1, 4, 5, 0x81, 0x84].contains(&header.gso_type) {
        return Judgement::Invalid;
    }
    if header.gso_type == 0 && length > network + MTU {
        return Judgement::Giant;
    }
    if header.gso_type == 0 && !header.needs_checksum() {
        return Judgement::Complete;
    }
    if !draft.smears.is_empty() || draft.cut.is_some() {
        return Judgement::Open;
    }
    if !header.needs_checksum() || start < network || start + offset + 2 > length {
        return Judgement::Invalid;
    }
    let (network_matches, asked) = match (header.gso_type & 0x7f, draft.packet.network) {
        (0, _) => return Judgement::Unsummed,
        (1, found) => (found == Network::Ipv4, Transport::Tcp),
        (4, found) => (found != Network::Ipv4, Transport::Tcp),
        _ => (true, Transport::Udp),
    };
    let size = usize::from(header.gso_size);
    if !network_matches || size == 0 || offset != asked.checksum_offset() {
        return Judgement::Invalid;
    }
    // Headers behind what the switch looks at are believed as far as they lie there.
    if transport + draft.packet.transport.bytes() > PRIVATE_BYTES {
        return Judgement::Open;
    }
    if asked != draft.packet.transport {
        return Judgement::Invalid;
    }
    let headers = transport + draft.packet.transport.bytes();
    let segments = draft.packet.payload.div_ceil(size);
    let longest = headers - network + draft.packet.payload.min(size);
    if start != transport || segments > SEGMENTS_MAX || longest > MTU {
        return Judgement::Invalid;
    }
    Judgement::Unsegmented
}

/// Where a delivered frame's network header is.
fn network_start(bytes: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(bytes[at..], [0x81, 0x00, ..] | [0x88, 0xa8, ..]);
    (12..).step_by(4).find(|&at| !is_tag(at)).unwrap_or(12) + 2
}

/// The checks on what one device got for one frame.
struct Delivered<'d> {
    draft: &'d Draft,
    header: Header,
    sent: &'d [u8],
    capabilities: Capabilities,
    frames: &'d [Frame],
}

impl Delivered<'_> {
    fn check(&self, judgement: Judgement) -> Result<(), TestCaseError> {
        self.check_offloads()?;
        match judgement {
            Judgement::Invalid | Judgement::Giant => prop_assert!(self.frames.is_empty()),
            Judgement::Open => self.check_bounds()?,
            // Lost at most where software cannot reach the checksum's field.
            _ if self.frames.is_empty() => prop_assert!(self.is_deep(), "not delivered"),
            Judgement::Complete => self.check_one(|_| Ok(()))?,
            Judgement::Unsummed => self.check_one(|frame| self.check_sum(frame))?,
            Judgement::Unsegmented => self.check_segments()?,
        }
        Ok(())
    }

    /// No device is told of work that it does not take.
    fn check_offloads(&self) -> Result<(), TestCaseError> {
        for frame in self.frames {
            if self.capabilities.checksum == Support::Lacking {
                prop_assert_eq!(frame.offload, Offload::NONE);
            }
            if self.capabilities.tcp4 == Support::Lacking {
                prop_assert_eq!(frame.offload.segmentation.size(), None);
            }
            if let Segmentation::Tcp4 { ecn, .. } | Segmentation::Tcp6 { ecn, .. } =
                frame.offload.segmentation
            {
                prop_assert!(ecn == Ecn::Without || self.capabilities.ecn == Support::Taken);
            }
        }
        Ok(())
    }

    /// Whether software would have to write behind the private bytes, tags added.
    fn is_deep(&self) -> bool {
        let field = usize::from(self.header.csum_start) + usize::from(self.header.csum_offset);
        let by_software = self.is_cut() || self.capabilities.checksum == Support::Lacking;
        by_software && field + 2 > PRIVATE_BYTES
    }

    fn is_cut(&self) -> bool {
        let lacking = match self.header.gso_type {
            0 => return false,
            0x81 | 0x84 => self.capabilities.ecn,
            _ => self.capabilities.tcp4,
        };
        lacking == Support::Lacking
    }

    /// Whatever a frame says of itself: not more, and not longer, than it asked for.
    fn check_bounds(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.frames.len() <= SEGMENTS_MAX);
        let whole = self.sent.len() + 8;
        let segment = PRIVATE_BYTES + 8 + usize::from(self.header.gso_size);
        let most = if self.is_cut() { whole.min(segment) } else { whole };
        prop_assert!(self.frames.iter().all(|frame| frame.bytes.len() <= most));
        Ok(())
    }

    /// One frame, behind its tags as it was sent but for a checksum.
    fn check_one(
        &self,
        check_rest: impl Fn(&Frame) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.frames.len(), 1);
        let frame = &self.frames[0];
        let behind = &frame.bytes[network_start(&frame.bytes)..];
        let mut sent = self.sent[self.draft.network_start()..].to_vec();
        prop_assert_eq!(behind.len(), sent.len());
        if self.header.needs_checksum() && self.capabilities.checksum == Support::Lacking {
            let field = usize::from(self.header.csum_start + self.header.csum_offset)
                - self.draft.network_start();
            sent[field..field + 2].copy_from_slice(&behind[field..field + 2]);
        }
        prop_assert!(behind == sent, "other bytes than the checksum's differ");
        check_rest(frame)
    }

    /// The field holds what makes the sum from `csum_start` on right; or that is left
    /// to the device, at the place where it now is.
    fn check_sum(&self, frame: &Frame) -> Result<(), TestCaseError> {
        let delta = frame.bytes.len() as i64 - self.sent.len() as i64;
        let sent = usize::from(self.header.csum_start);
        let start = (sent as i64 + delta) as usize;
        if self.capabilities.checksum == Support::Taken {
            let offset = self.header.csum_offset;
            let expected = Checksum::Partial { start: start as u16, offset };
            prop_assert_eq!(frame.offload.checksum, expected);
            return Ok(());
        }
        // What was summed, with the field's former value, and the checksum give zero.
        let at = start + usize::from(self.header.csum_offset);
        let field = [frame.bytes[at], frame.bytes[at + 1]];
        let before = ones(&self.sent[sent..]);
        let sum = ones(&[before.to_be_bytes(), field].concat());
        prop_assert_eq!(sum, 0xffff, "the checksum from `csum_start` on");
        Ok(())
    }

    /// Segments of one packet: whole, in order, none beyond its size, sums right.
    fn check_segments(&self) -> Result<(), TestCaseError> {
        let size = usize::from(self.header.gso_size);
        let packet = &self.draft.packet;
        if !self.is_cut() {
            return self.check_one(|frame| {
                prop_assert_eq!(frame.offload.segmentation.size(), Some(self.header.gso_size));
                self.check_sum(frame)
            });
        }
        prop_assert_eq!(self.frames.len(), packet.payload.div_ceil(size).max(1));
        let mut payload = Vec::new();
        for frame in self.frames {
            let packet_bytes = &frame.bytes[network_start(&frame.bytes)..];
            let headers = packet.network.bytes() + packet.transport.bytes();
            prop_assert!(packet_bytes.len() <= headers + size && packet_bytes.len() <= MTU);
            payload.extend_from_slice(&packet_bytes[headers..]);
            self.check_segment(frame, packet_bytes)?;
        }
        prop_assert!(
            payload == packet.bytes()[packet.network.bytes() + packet.transport.bytes()..]
        );
        Ok(())
    }

    fn check_segment(&self, frame: &Frame, packet_bytes: &[u8]) -> Result<(), TestCaseError> {
        let packet = &self.draft.packet;
        let network = packet.network.bytes();
        let word =
            |at: usize| usize::from(u16::from_be_bytes([packet_bytes[at], packet_bytes[at + 1]]));
        match packet.network {
            Network::Ipv4 => {
                prop_assert_eq!(ones(&packet_bytes[..20]), 0xffff, "IPv4 header checksum");
                prop_assert_eq!(word(2), packet_bytes.len());
            }
            Network::Ipv6 { .. } => prop_assert_eq!(word(4), packet_bytes.len() - 40),
        }
        let mut transport = packet_bytes[network..].to_vec();
        if packet.transport == Transport::Udp {
            prop_assert_eq!(word(network + 4), transport.len());
        }
        if let Checksum::Partial { start, offset } = frame.offload.checksum {
            // The device's part, done here.
            prop_assert_eq!(usize::from(start), network_start(&frame.bytes) + network);
            let sum = !ones(&transport);
            transport[usize::from(offset)..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        let pseudo = packet.pseudo(transport.len());
        prop_assert_eq!(ones(&[pseudo, transport].concat()), 0xffff, "transport checksum");
        Ok(())
    }
}

fn edge_words() -> impl Strategy<Value = u16> {
    let edges = vec![0, 1, 2, 6, 13, 14, 16, 18, 22, 34, 54, 100, 536, 1448, 1460, 1461, 9000];
    prop_oneof![4 => select(edges), 1 => Just(u16::MAX), 2 => any::<u16>(), 2 => 0_u16..200]
}

fn lie() -> impl Strategy<Value = Lie> {
    let kinds = vec![0_u8, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0x85, 0x20, 0x40, 0x61, 0x64, 0xff];
    prop_oneof![
        2 => prop_oneof![0_u8..8, any::<u8>()].prop_map(Lie::Flags),
        2 => prop_oneof![select(kinds), any::<u8>()].prop_map(Lie::GsoType),
        1 => edge_words().prop_map(Lie::HdrLen),
        2 => edge_words().prop_map(Lie::GsoSize),
        2 => edge_words().prop_map(Lie::CsumStart),
        2 => edge_words().prop_map(Lie::CsumOffset),
        1 => edge_words().prop_map(Lie::NumBuffers),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let network = prop_oneof![
        3 => Just(Network::Ipv4),
        2 => (0_usize..3).prop_map(|extensions| Network::Ipv6 { extensions }),
        1 => (3_usize..12).prop_map(|extensions| Network::Ipv6 { extensions }),
    ];
    let transport = select(vec![Transport::Tcp, Transport::Udp]);
    let payload = prop_oneof![
        3 => 0_usize..200,
        2 => 1300_usize..1480,
        4 => 1480_usize..20_000,
        1 => 60_000_usize..65_000,
    ];
    (network, transport, payload).prop_map(|(network, transport, payload)| Packet {
        network,
        transport,
        payload,
    })
}

fn draft() -> impl Strategy<Value = Draft> {
    let asks =
        select(vec![Asks::Nothing, Asks::Checksum, Asks::Segmentation, Asks::SegmentationWithEcn]);
    let size = prop_oneof![4 => 500_u16..1461, 1 => edge_words()];
    let lies = prop_oneof![1 => Just(vec![]), 3 => vec(lie(), 1..4)];
    let smears = prop_oneof![4 => Just(vec![]), 1 => vec((0_usize..100, any::<u8>()), 1..4)];
    let cut = prop_oneof![9 => Just(None), 1 => (0_usize..200).prop_map(Some)];
    (select(&SENDERS[..]), packet(), asks, size, lies, smears, cut).prop_map(
        |(sender, packet, asks, gso_size, lies, smears, cut)| Draft {
            sender,
            packet,
            asks,
            gso_size,
            lies,
            smears,
            cut,
        },
    )
}

fn check_ledgers(totals: &BTreeMap<Device, Totals>) -> Result<(), TestCaseError> {
    for (device, totals) in totals {
        prop_assert!(totals.is_balanced(), "{device:?}: {totals:?}");
    }
    let fan_out: u64 = totals.values().map(|totals| totals.fan_out).sum();
    let offered: u64 = totals.values().map(|totals| totals.offered).sum();
    prop_assert_eq!(fan_out, offered);
    Ok(())
}

/// Devices that a sender's group frames reach.
fn receivers(sender: Device) -> Vec<Device> {
    let devices = match sender {
        BRIDGE | Device::Port(4) => vec![BRIDGE, Device::Port(4)],
        _ => (0..4).map(Device::Port).chain([STATION]).collect(),
    };
    // The bridge link alone gets its own frames back.
    devices.into_iter().filter(|&device| device != sender || device == BRIDGE).collect()
}

fn send_through(rig: &mut Rig, draft: &Draft, number: u8) -> Result<(), TestCaseError> {
    let (sent, header) = (draft.frame(number), draft.header());
    let judgement = judge(draft, header, sent.len());
    let dropped = |rig: &Rig| rig.totals()[&draft.sender].dropped(DropReason::OffloadInvalid);
    let before = dropped(rig);
    rig.send_raw(draft.sender, &sent, header.bytes());
    rig.breathe(1000);
    let counted = dropped(rig) - before;
    match judgement {
        Judgement::Invalid => prop_assert_eq!(counted, 1, "not found to be invalid"),
        Judgement::Open => prop_assert!(counted <= 1),
        _ => prop_assert_eq!(counted, 0, "{:?} was refused", judgement),
    }
    let deliveries = rig.deliveries();
    let receivers = receivers(draft.sender);
    prop_assert!(deliveries.keys().all(|device| receivers.contains(device)));
    for device in receivers {
        let frames = deliveries.get(&device).map_or(&[][..], Vec::as_slice);
        let (sent, capabilities) = (&sent[..], capabilities(device));
        let delivered = Delivered { draft, header, sent, capabilities, frames };
        delivered.check(judgement).map_err(|error| {
            TestCaseError::fail(format!("{judgement:?} at {device:?}, {header:?}: {error}"))
        })?;
    }
    check_ledgers(&rig.totals())
}

fn config() -> ProptestConfig {
    let cases = std::env::var("HAIRPIN_CASES")
        .map_or(CASES, |cases| cases.parse().expect("HAIRPIN_CASES is a number of frames"));
    let kept = FileFailurePersistence::Direct("proptest-regressions/offloads.txt");
    let cases = cases.div_ceil(FRAMES as u32);
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..Default::default() }
}

/// Frames through one switch.
const FRAMES: usize = 16;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_offload_header_harms(drafts in vec(draft(), FRAMES)) {
        let mut rig = Rig::with(&site(), capabilities);
        for (number, draft) in drafts.iter().enumerate() {
            // A source of its own for each device.
            let sender = SENDERS.iter().position(|&sender| sender == draft.sender).unwrap_or(0);
            send_through(&mut rig, draft, sender as u8).map_err(|error| {
                TestCaseError::fail(format!("frame {number}, {draft:?}: {error}"))
            })?;
        }
    }
}

/// What random frames have to reach, or they prove nothing: each judgement from each
/// sender, and each kind of packet that is to be cut.
#[test]
fn frames_reach_every_judgement() {
    let mut runner = TestRunner::deterministic();
    let (mut reached, mut cut) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..4000 {
        let draft = draft().new_tree(&mut runner).expect("nothing is filtered").current();
        let length = draft.frame(0).len();
        let judgement = judge(&draft, draft.header(), length);
        reached.insert((judgement, draft.sender));
        if judgement == Judgement::Unsegmented {
            let six = draft.packet.network != Network::Ipv4;
            cut.insert((six, draft.packet.transport == Transport::Tcp, draft.sender));
        }
    }
    assert_eq!((reached.len(), cut.len()), (6 * SENDERS.len(), 4 * SENDERS.len()), "{reached:?}");
}
