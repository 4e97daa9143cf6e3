//! What happens to a switch under test, drawn at random: a site, and a sequence
//! of frames, changes and waits.
//!
//! Addresses, VIDs and S-VIDs come from small pools so that frames meet. The
//! skeleton of a site is fixed, which keeps every index valid while a failure
//! shrinks: two station links with three and two channels, two bridge links with
//! two channels each, one bridge, and eight slots for ports.

use std::fmt;

use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::{Checksum, Ecn, Offload, Segmentation};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::oracle::Frame;
use crate::site::{
    Address, Cable, Change, Channel, Device, Link, Port, Purpose, Reflection, Role, SLOTS, Seat,
    Site, Sources, Vlan,
};

/// S-VIDs of the skeleton's tagged channels.
const SVIDS: [u16; 2] = [100, 200];
/// VIDs that ports are members of.
const VIDS: [u16; 3] = [10, 20, 30];
/// Links of the skeleton.
const LINKS: usize = 4;
/// Channels of the skeleton that take ports: those of the station links.
const STATION_CHANNELS: usize = 5;
/// Channels of the skeleton.
const CHANNELS: usize = 9;

/// One step of a scenario.
#[derive(Clone, Debug)]
pub enum Step {
    /// A device sends frames in one burst; a slot without a port sends nothing.
    Burst(Device, Vec<Draft>),
    /// The far end of a link sends back what it got last.
    Return(usize),
    /// The site changes, if it allows the change.
    Change(Change),
    /// So many seconds pass.
    Wait(u64),
}

/// A site, the changes that furnish it, and what then happens.
#[derive(Clone)]
pub struct Scenario {
    /// The skeleton, with ports plugged in.
    pub site: Site,
    /// What happens.
    pub steps: Vec<Step>,
}

impl fmt::Debug for Scenario {
    /// One line for each thing that is there, and for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, link) in self.site.links.iter().enumerate() {
            writeln!(f, "\n  link {index}: {}", plain(link))?;
            let channels = self.site.channels.iter().enumerate();
            for (index, channel) in channels.filter(|(_, channel)| channel.link == index) {
                let plain = plain(&(channel.svid, channel.purpose));
                writeln!(f, "    channel {index}: {plain}")?;
            }
        }
        for slot in 0..SLOTS {
            if let Some(port) = self.site.port(slot) {
                writeln!(f, "  port {slot}: {}", plain(port))?;
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  step {index}: {}", plain(step))?;
        }
        Ok(())
    }
}

/// On one line, even in a report that is laid out over many.
fn plain(value: &impl fmt::Debug) -> String {
    format!("{value:?}")
}

/// A frame as it is drawn.
#[derive(Clone, Debug)]
pub struct Draft {
    destination: Address,
    source: Address,
    tags: Vec<(u16, u16)>,
    packet: Packet,
    length: Length,
}

/// What lies behind the tags.
#[derive(Clone, Copy, Debug)]
enum Packet {
    /// An EtherType of no importance and some bytes.
    Plain { ethertype: u16, bytes: usize },
    /// IPv4 with TCP or UDP, complete.
    Internet { protocol: u8, bytes: usize },
    /// IPv4 with TCP or UDP, its checksum still to be filled in.
    Unsummed { protocol: u8, bytes: usize },
    /// IPv4 with TCP that is to be cut.
    Unsegmented { size: u16, bytes: usize },
    /// A frame whose offload header is nonsense.
    Garbage { offload: Offload, bytes: usize },
}

impl Packet {
    /// The same with so many bytes of payload; as it is where that is not its own matter.
    fn with_bytes(self, bytes: usize) -> Packet {
        match self {
            Packet::Plain { ethertype, .. } => Packet::Plain { ethertype, bytes },
            Packet::Internet { protocol, .. } => Packet::Internet { protocol, bytes },
            other => other,
        }
    }
}

/// Whether a frame ends where it should.
#[derive(Clone, Copy, Debug)]
enum Length {
    Whole,
    Cut(usize),
}

impl Draft {
    /// The frame's bytes; `number` goes into its payload to tell it from others.
    #[must_use]
    pub fn frame(&self, number: u32) -> Frame {
        let mut bytes = [self.destination, self.source].concat();
        for (tpid, tci) in &self.tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        let (offload, packet) = self.packet.bytes(bytes.len() + 2, number);
        bytes.extend(packet);
        if let Length::Cut(length) = self.length {
            bytes.truncate(length);
        }
        Frame { bytes, offload }
    }
}

impl Packet {
    /// EtherType and payload, and the offload for a packet that starts at `start`.
    fn bytes(self, start: usize, number: u32) -> (Offload, Vec<u8>) {
        let transport = start as u16 + 20;
        let partial = |offset| Checksum::Partial { start: transport, offset };
        let checksum_offset = |protocol| if protocol == 6 { 16 } else { 6 };
        match self {
            Packet::Plain { ethertype, bytes } => {
                (Offload::NONE, [ethertype.to_be_bytes().to_vec(), filler(bytes, number)].concat())
            }
            Packet::Garbage { offload, bytes } => (offload, internet(17, bytes, number)),
            Packet::Internet { protocol, bytes } => {
                (Offload::NONE, internet(protocol, bytes, number))
            }
            Packet::Unsummed { protocol, bytes } => {
                let checksum = partial(checksum_offset(protocol));
                (Offload { checksum, ..Offload::NONE }, internet(protocol, bytes, number))
            }
            Packet::Unsegmented { size, bytes } => {
                let segmentation = Segmentation::Tcp4 { size, ecn: Ecn::Without };
                (Offload { checksum: partial(16), segmentation }, internet(6, bytes, number))
            }
        }
    }
}

/// EtherType, IPv4 header and a TCP or UDP header before so many bytes.
fn internet(protocol: u8, bytes: usize, number: u32) -> Vec<u8> {
    let transport = if protocol == 6 { 20 } else { 8 };
    let mut packet = vec![0x08, 0x00, 0x45, 0];
    packet.extend(((20 + transport + bytes) as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    match protocol {
        6 => packet.extend([4, 0, 4, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 255, 0, 0, 0, 0, 0]),
        _ => {
            packet.extend([4, 0, 4, 1]);
            packet.extend(((8 + bytes) as u16).to_be_bytes());
            packet.extend([0, 0]);
        }
    }
    packet.extend(filler(bytes, number));
    packet
}

/// Bytes that are nowhere alike, the frame's number first.
fn filler(bytes: usize, number: u32) -> Vec<u8> {
    let count = |at: usize| (at as u32).wrapping_mul(0x9e37_79b1).wrapping_add(number) >> 24;
    let mut filler: Vec<u8> = number.to_be_bytes().to_vec();
    filler.extend((4..bytes.max(4)).map(|at| count(at) as u8));
    filler.truncate(bytes);
    filler
}

fn station(number: u8) -> Address {
    [0x02, 0, 0, 0, 0, number]
}

fn stations() -> impl Strategy<Value = Address> {
    (1_u8..=6).prop_map(station)
}

fn destinations() -> impl Strategy<Value = Address> {
    prop_oneof![
        10 => stations(),
        3 => Just([0xff; 6]),
        2 => select(vec![[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]]),
        2 => (0_u8..=16).prop_map(|last| [0x01, 0x80, 0xc2, 0, 0, last]),
        1 => select(vec![[0; 6], station(0x77)]),
    ]
}

fn sources() -> impl Strategy<Value = Address> {
    prop_oneof![
        30 => stations(),
        1 => select(vec![[0; 6], [0xff; 6], [0x03, 0, 0, 0, 0, 1]]),
    ]
}

fn tci(vids: impl Strategy<Value = u16>) -> impl Strategy<Value = u16> {
    (prop_oneof![3 => Just(0_u16), 1 => 0_u16..16], vids).prop_map(|(bits, vid)| bits << 12 | vid)
}

fn c_tag() -> impl Strategy<Value = (u16, u16)> {
    let vids = prop_oneof![
        4 => Just(0_u16), 12 => select(&VIDS[..]), 1 => Just(4095), 1 => select(vec![1, 40, 4094]),
    ];
    tci(vids).prop_map(|tci| (0x8100, tci))
}

fn s_tag() -> impl Strategy<Value = (u16, u16)> {
    let svids = prop_oneof![
        12 => select(&SVIDS[..]), 2 => select(vec![0_u16, 1]), 1 => select(vec![2, 300, 4095]),
    ];
    tci(svids).prop_map(|tci| (0x88a8, tci))
}

fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let extension = select(vec![(0x893f_u16, 0_u16), (0x8926, 7)]);
    let any = prop_oneof![6 => c_tag(), 3 => s_tag(), 1 => extension.clone()];
    prop_oneof![
        16 => Just(Vec::new()),
        12 => c_tag().prop_map(|tag| vec![tag]),
        8 => s_tag().prop_map(|tag| vec![tag]),
        8 => (s_tag(), c_tag()).prop_map(|(outer, inner)| vec![outer, inner]),
        2 => extension.prop_map(|tag| vec![tag]),
        3 => vec(any, 2..5),
        1 => (c_tag(), 2_usize..=1000).prop_map(|(tag, depth)| vec![tag; depth]),
    ]
}

/// Lengths around the private header, usual MTUs and jumbo frames.
fn payload_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0_usize..64,
        6 => 80_usize..140,
        2 => 1440_usize..1510,
        1 => 8940_usize..9010,
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let ethertype = select(vec![0x88b5_u16, 0x86dd, 0x0806, 0x0040]);
    prop_oneof![
        6 => (ethertype, payload_bytes())
            .prop_map(|(ethertype, bytes)| Packet::Plain { ethertype, bytes }),
        3 => (select(vec![6_u8, 17]), payload_bytes())
            .prop_map(|(protocol, bytes)| Packet::Internet { protocol, bytes }),
    ]
}

/// Packets with work left to do; their tags are those every device understands.
fn unfinished() -> impl Strategy<Value = (Vec<(u16, u16)>, Packet)> {
    let tags = prop_oneof![
        4 => Just(Vec::new()),
        3 => c_tag().prop_map(|tag| vec![tag]),
        1 => s_tag().prop_map(|tag| vec![tag]),
        2 => (s_tag(), c_tag()).prop_map(|(outer, inner)| vec![outer, inner]),
    ];
    let outside = Checksum::Partial { start: 20_000, offset: 6 };
    let uncut = Segmentation::Tcp4 { size: 1000, ecn: Ecn::Without };
    let garbage = select(vec![
        Offload { checksum: outside, segmentation: Segmentation::None },
        Offload { checksum: Checksum::Unknown, segmentation: uncut },
    ]);
    let packet = prop_oneof![
        4 => (select(vec![6_u8, 17]), payload_bytes())
            .prop_map(|(protocol, bytes)| Packet::Unsummed { protocol, bytes }),
        4 => (select(vec![536_u16, 1400, 1460, 1461, 8960]), 9000_usize..20_000)
            .prop_map(|(size, bytes)| Packet::Unsegmented { size, bytes }),
        1 => (garbage, 0_usize..200)
            .prop_map(|(offload, bytes)| Packet::Garbage { offload, bytes }),
    ];
    (tags, packet)
}

fn draft() -> impl Strategy<Value = Draft> {
    let length = prop_oneof![
        14 => Just(Length::Whole),
        1 => (1_usize..24).prop_map(Length::Cut),
        1 => (12_usize..19).prop_map(Length::Cut),
    ];
    let whole = (tags(), packet(), length);
    let unfinished = unfinished().prop_map(|(tags, packet)| (tags, packet, Length::Whole));
    let shape = prop_oneof![6 => whole, 1 => unfinished];
    (destinations(), sources(), shape).prop_map(|(destination, source, (tags, packet, length))| {
        Draft { destination, source, tags, packet, length }
    })
}

/// A frame, and often more of its kind directly behind it, as long or of another length.
fn flow() -> impl Strategy<Value = Vec<Draft>> {
    let lengths = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(prop_oneof![Just(None), payload_bytes().prop_map(Some)], 1..5),
    ];
    (draft(), lengths).prop_map(|(first, lengths)| {
        let more = lengths.into_iter().map(|length| match length {
            None => first.clone(),
            Some(bytes) => Draft { packet: first.packet.with_bytes(bytes), ..first.clone() },
        });
        std::iter::once(first.clone()).chain(more).collect()
    })
}

fn seat() -> impl Strategy<Value = Seat> {
    prop_oneof![
        4 => Just(Seat::Channel(0)),
        2 => (1_usize..STATION_CHANNELS).prop_map(Seat::Channel),
        3 => Just(Seat::Bridge),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        5 => Just(Mode::Veb), 4 => Just(Mode::Vepa), 2 => Just(Mode::Private),
        1 => Just(Mode::Direct),
    ]
}

fn vlan() -> impl Strategy<Value = Vlan> {
    let trunk = (subsequence(VIDS.to_vec(), 1..=3), any::<Option<prop::sample::Index>>());
    prop_oneof![
        6 => Just(Vlan::Transparent),
        3 => select(&VIDS[..]).prop_map(Vlan::Access),
        3 => trunk.prop_map(|(members, native)| {
            let native = native.map(|index| *index.get(&members));
            Vlan::Trunk { members, native }
        }),
    ]
}

fn port_sources() -> impl Strategy<Value = Sources> {
    let all: Vec<Address> = (1..=6).map(station).collect();
    prop_oneof![
        3 => (1_usize..4).prop_map(|limit| Sources::Learned { limit }),
        2 => subsequence(all, 1..=2).prop_map(Sources::Registered),
    ]
}

fn admin() -> impl Strategy<Value = Admin> {
    prop_oneof![3 => Just(Admin::Up), 2 => Just(Admin::Down)]
}

fn port() -> impl Strategy<Value = Port> {
    (seat(), mode(), vlan(), port_sources()).prop_map(|(seat, mode, vlan, sources)| Port {
        seat,
        mode,
        vlan,
        sources,
        admin: Admin::Up,
    })
}

fn reflection() -> impl Strategy<Value = Reflection> {
    prop_oneof![
        1 => Just(Reflection::Off),
        2 => (1_u64..4).prop_map(|group_rate| Reflection::On { group_rate }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (0..SLOTS, port()).prop_map(|(slot, port)| Change::Plug(slot, port)),
        1 => (0..SLOTS).prop_map(Change::Unplug),
        1 => (0..SLOTS, seat()).prop_map(|(slot, seat)| Change::Seat(slot, seat)),
        3 => (0..SLOTS, mode()).prop_map(|(slot, mode)| Change::Mode(slot, mode)),
        2 => (0..SLOTS, vlan()).prop_map(|(slot, vlan)| Change::Vlan(slot, vlan)),
        2 => (0..SLOTS, port_sources()).prop_map(|(slot, sources)| Change::Sources(slot, sources)),
        3 => (0..SLOTS, admin()).prop_map(|(slot, admin)| Change::Admin(slot, admin)),
        2 => (0..LINKS, admin()).prop_map(|(link, admin)| Change::LinkAdmin(link, admin)),
        2 => (STATION_CHANNELS..CHANNELS, reflection())
            .prop_map(|(channel, reflection)| Change::Reflection(channel, reflection)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let device = prop_oneof![
        5 => (0..SLOTS).prop_map(Device::Port),
        3 => (0..LINKS).prop_map(Device::Link),
    ];
    prop_oneof![
        12 => (device, vec(flow(), 1..6))
            .prop_map(|(device, flows)| Step::Burst(device, flows.concat())),
        3 => prop_oneof![3 => Just(0_usize), 1 => 0..LINKS].prop_map(Step::Return),
        4 => change().prop_map(Step::Change),
        1 => prop_oneof![4 => 1_u64..4, 1 => 4_u64..12].prop_map(Step::Wait),
    ]
}

fn skeleton() -> impl Strategy<Value = Site> {
    let cable = prop_oneof![2 => Just(Cable::Absent), 1 => Just(Cable::Present)];
    let mtu = || select(vec![1500_usize, 1500, 9000]);
    let purpose =
        || prop_oneof![1 => Just(Purpose::Idle), 3 => reflection().prop_map(Purpose::Member)];
    let purposes = [purpose(), purpose(), purpose(), purpose()];
    (cable, [mtu(), mtu(), mtu(), mtu()], purposes).prop_map(|(cable, mtus, purposes)| {
        let link = |role, cable, mtu| Link { role, cable, mtu, admin: Admin::Up };
        let links = vec![
            link(Role::Station, Cable::Present, mtus[0]),
            link(Role::Station, cable, mtus[1]),
            link(Role::Bridge, Cable::Present, mtus[2]),
            link(Role::Bridge, Cable::Present, mtus[3]),
        ];
        let channel = |link, svid, purpose| Channel { link, svid, purpose };
        let channels = vec![
            channel(0, None, Purpose::Station),
            channel(0, Some(SVIDS[0]), Purpose::Station),
            channel(0, Some(SVIDS[1]), Purpose::Station),
            channel(1, None, Purpose::Station),
            channel(1, Some(SVIDS[0]), Purpose::Station),
            channel(2, None, purposes[0]),
            channel(2, Some(SVIDS[0]), purposes[1]),
            channel(3, None, purposes[2]),
            channel(3, Some(SVIDS[1]), purposes[3]),
        ];
        Site {
            links,
            channels,
            ports: vec![None; SLOTS],
            port_generations: vec![0; SLOTS],
            channel_generations: vec![0; CHANNELS],
            ageing_ms: 5000,
        }
    })
}

/// Scenarios of up to 30 steps on sites of two to eight ports.
pub fn scenario() -> impl Strategy<Value = Scenario> {
    (skeleton(), vec(port(), 2..=SLOTS), vec(step(), 1..30)).prop_map(|(mut site, ports, steps)| {
        for (slot, port) in ports.into_iter().enumerate() {
            site.apply(&Change::Plug(slot, port));
        }
        Scenario { site, steps }
    })
}
