//! Frames that are accounted for: Ethernet, perhaps with a tag, IPv4, UDP, and a stamp.
//!
//! ```text
//! addresses 12 | tag 0 or 4 | EtherType 2 | IPv4 20 | UDP 8 or TCP 20 | stamp 14 | payload
//! stamp: number 5 | time 5 | hash 4
//! ```
//!
//! TCP is for frames that are to be cut ([`Size::Segments`]): of its header the hash has the first
//! eight bytes, since whoever passes the frame on may complete its checksum.
//!
//! The stamp is what a tagged frame of 64 bytes has room for. The flow is in the IPv4 source
//! address. The time is in nanoseconds and wraps after 18 minutes. The hash ([`super::hash`]) is
//! over all bytes but itself and a tag, which a switch may add or take away. Lengths count the
//! checksum (FCS), as RFC 2544's do; a frame in memory has four bytes less.

use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::checksum::Sum;
use hairpin_dataplane::wire::offload::{Checksum, Ecn, Offload, Segmentation};

use super::hash::{self, HEADERS_BYTES, Unstamped};

/// Bytes of the frame checksum, which no frame in memory has.
const FCS_BYTES: usize = 4;
/// Of a tag.
const TAG_BYTES: usize = 4;
/// Of the addresses.
const ADDRESS_BYTES: usize = 12;
const ETHER_TYPE: [u8; 2] = [0x08, 0x00];
/// Of a number, and of a time.
const FIELD_BYTES: usize = 5;
/// In a stamp, the hash is behind number and time.
const HASH_AT: usize = 2 * FIELD_BYTES;
/// Of a stamp.
const STAMP_BYTES: usize = HASH_AT + 4;
/// Of an IPv4 header, and of it and the longest transport header behind it.
const IP_BYTES: usize = 20;
const HEADERS_MAX: usize = IP_BYTES + 20;
/// IPv4's numbers of the transports.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// In a TCP header, where the checksum is.
const TCP_CHECKSUM_AT: usize = 16;
/// Payload bytes of each segment that a frame is to be cut into: what an MTU of 1500 has room for
/// behind headers of 40 bytes.
const SEGMENT_BYTES: u16 = 1460;
/// What payload is made of.
const FILLING: u8 = 0xa5;
/// Numbers are below this, and so are times.
pub const NUMBERS: u64 = 1 << (8 * FIELD_BYTES);
/// Flows at most, and addresses.
pub const FLOWS_MAX: u32 = 1 << 20;

/// A tag that the sender writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// None.
    Untagged,
    /// A C-VLAN's (EtherType 0x8100), its number.
    Customer(u16),
    /// An S-VLAN's (EtherType 0x88a8), its number.
    Service(u16),
}

impl Tag {
    fn bytes(self) -> Option<[u8; TAG_BYTES]> {
        let (kind, number) = match self {
            Tag::Untagged => return None,
            Tag::Customer(number) => (0x8100_u16, number),
            Tag::Service(number) => (0x88a8, number),
        };
        let ([a, b], [c, d]) = (kind.to_be_bytes(), (number & 0xfff).to_be_bytes());
        Some([a, b, c, d])
    }
}

/// How long frames are, their checksum included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// All of them, in bytes, 64 to 9,018.
    Fixed(usize),
    /// Seven of 64 bytes, four of 570, one of 1,518 in a dozen.
    Imix,
    /// TCP of so many bytes in one piece, 1,519 to 65,553, for whoever needs it shorter to cut
    /// (TSO).
    Segments(usize),
}

/// A dozen of IMIX, evenly mixed.
const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

impl Size {
    /// Bytes of the frame of this number, its checksum included.
    #[must_use]
    pub fn of(self, number: u64) -> usize {
        match self {
            Size::Fixed(bytes) | Size::Segments(bytes) => bytes,
            Size::Imix => IMIX[(number % IMIX.len() as u64) as usize],
        }
    }

    fn transport(self) -> Transport {
        match self {
            Size::Fixed(_) | Size::Imix => Transport::Udp,
            Size::Segments(_) => Transport::Tcp,
        }
    }
}

/// What is behind the IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    fn of(protocol: u8) -> Option<Transport> {
        match protocol {
            UDP => Some(Transport::Udp),
            TCP => Some(Transport::Tcp),
            _ => None,
        }
    }

    /// Bytes of IPv4 header and its own.
    fn headers_bytes(self) -> usize {
        match self {
            Transport::Udp => HEADERS_BYTES,
            Transport::Tcp => HEADERS_MAX,
        }
    }
}

/// What is left to whoever passes a frame of ours on: of TCP, checksum and cutting.
#[must_use]
pub fn offload(frame: &[u8]) -> Offload {
    let start = ADDRESS_BYTES + ETHER_TYPE.len() + IP_BYTES;
    let tcp = frame.get(12..14) == Some(&ETHER_TYPE[..]) && frame.get(23) == Some(&TCP);
    if !tcp {
        return Offload::NONE;
    }
    Offload {
        checksum: Checksum::Partial { start: start as u16, offset: TCP_CHECKSUM_AT as u16 },
        segmentation: Segmentation::Tcp4 { size: SEGMENT_BYTES, ecn: Ecn::Without },
    }
}

/// Addresses in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stations {
    /// The first.
    pub first: Mac,
    /// How many, 1 to [`FLOWS_MAX`].
    pub count: u32,
}

impl From<Mac> for Stations {
    fn from(first: Mac) -> Stations {
        Stations { first, count: 1 }
    }
}

impl Stations {
    /// That of a flow: flows share them out by turns.
    #[must_use]
    pub fn of(self, flow: u32) -> Mac {
        let number = number(self.first) + u64::from(flow % self.count.max(1));
        let [_, _, octets @ ..] = number.to_be_bytes();
        Mac::new(octets)
    }

    /// Whether an address is one of them.
    fn has(self, address: &[u8]) -> bool {
        let Ok(octets) = address.try_into() else { return false };
        let place = number(Mac::new(octets)).checked_sub(number(self.first));
        place.is_some_and(|place| place < u64::from(self.count.max(1)))
    }
}

fn number(address: Mac) -> u64 {
    let [a, b, c, d, e, f] = address.octets();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// What a stream's frames are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// The senders.
    pub source: Stations,
    /// The receivers.
    pub destination: Stations,
    /// The tag.
    pub tag: Tag,
    /// How long they are.
    pub size: Size,
    /// How many flows they belong to by turns, 1 to [`FLOWS_MAX`]: each has an IPv4 source
    /// address of its own, and 50,000 in a row a UDP source port each.
    pub flows: u32,
}

/// What a frame says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Its number.
    pub number: u64,
    /// Its flow.
    pub flow: u32,
    /// When it was sent, in nanoseconds, less whole multiples of [`NUMBERS`].
    pub sent_ns: u64,
}

/// What a frame that was received is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The stream's, as it was sent.
    Whole(Stamp),
    /// The stream's, altered.
    Altered,
    /// Somebody else's: neither address is right.
    Foreign,
}

impl Stream {
    /// One of which there are no frames.
    pub const NOBODYS: Stream = Stream {
        source: Stations { first: Mac::new([2, 0, 0, 0, 0, 0]), count: 1 },
        destination: Stations { first: Mac::new([2, 0, 0, 0, 0, 0]), count: 1 },
        tag: Tag::Untagged,
        size: Size::Fixed(64),
        flows: 1,
    };

    /// Whether a frame has addresses of its.
    #[must_use]
    pub fn claims(&self, frame: &[u8]) -> bool {
        frame.get(..6).is_some_and(|address| self.destination.has(address))
            && frame.get(6..12).is_some_and(|address| self.source.has(address))
    }

    /// The flow of the frame of this number.
    #[must_use]
    pub fn flow_of(&self, number: u64) -> u32 {
        (number % u64::from(self.flows.max(1))) as u32
    }

    /// The same from the other end.
    #[must_use]
    pub fn turned(self) -> Stream {
        Stream { source: self.destination, destination: self.source, ..self }
    }

    /// Writes the frame of this number, which leaves at this time, in place of what `frame`
    /// held. It has room for its stamp, however short the stream's frames are to be.
    pub fn write(&self, number: u64, now_ns: u64, frame: &mut Vec<u8>) {
        let mut draft = Draft { bytes: std::mem::take(frame), made: None };
        draft.write(self, number, now_ns);
        *frame = draft.bytes;
    }

    /// What a received frame is.
    #[must_use]
    pub fn read(&self, frame: &[u8]) -> Seen {
        let right = (
            frame.get(..6).is_some_and(|address| self.destination.has(address)),
            frame.get(6..12).is_some_and(|address| self.source.has(address)),
        );
        match whole(frame) {
            Some(stamp) if right == (true, true) => Seen::Whole(stamp),
            _ if right == (false, false) => Seen::Foreign,
            _ => Seen::Altered,
        }
    }
}

/// A frame that is written over and over: of a stream's next one only that is written in which it
/// differs from the last.
#[derive(Default, Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    made: Option<Made>,
}

/// What a draft was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Made {
    stream: Stream,
    flow: u32,
    payload: u64,
    unstamped: Unstamped,
}

impl Draft {
    /// Writes the frame of this number, which leaves at this time.
    pub fn write(&mut self, stream: &Stream, number: u64, now_ns: u64) {
        let flow = stream.flow_of(number);
        let inner = ADDRESS_BYTES + stream.tag.bytes().map_or(0, |tag| tag.len()) + 2;
        let stamp_at = inner + stream.size.transport().headers_bytes();
        let bytes = (stream.size.of(number) - FCS_BYTES).max(stamp_at + STAMP_BYTES);
        let unstamped = match self.made {
            Some(made) if made.stream == *stream && self.bytes.len() == bytes => {
                if made.flow == flow {
                    made.unstamped
                } else {
                    self.address(stream, flow, inner, made.payload)
                }
            }
            _ => self.make(stream, flow, inner, bytes),
        };
        let stamp = &mut self.bytes[stamp_at..][..STAMP_BYTES];
        // Eight bytes each, of which the next field takes the last three.
        stamp[..8].copy_from_slice(&number.to_le_bytes());
        stamp[FIELD_BYTES..][..8].copy_from_slice(&now_ns.to_le_bytes());
        stamp[HASH_AT..].copy_from_slice(&unstamped.stamped(number, now_ns).to_le_bytes());
    }

    /// The frame that was written last.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins anew; its hash but for number and time.
    fn make(&mut self, stream: &Stream, flow: u32, inner: usize, bytes: usize) -> Unstamped {
        self.bytes.clear();
        self.bytes.resize(bytes, FILLING);
        let types = stream.tag.bytes().into_iter().flatten().chain(ETHER_TYPE);
        for (place, byte) in self.bytes[ADDRESS_BYTES..inner].iter_mut().zip(types) {
            *place = byte;
        }
        let stamp_at = inner + stream.size.transport().headers_bytes();
        let payload = hash::payload(&self.bytes[stamp_at + STAMP_BYTES..]);
        self.address(stream, flow, inner, payload)
    }

    /// Writes all that differs from flow to flow; its hash but for number and time.
    fn address(&mut self, stream: &Stream, flow: u32, inner: usize, payload: u64) -> Unstamped {
        let packet = self.bytes.len() - inner;
        self.bytes[..6].copy_from_slice(&stream.destination.of(flow).octets());
        self.bytes[6..ADDRESS_BYTES].copy_from_slice(&stream.source.of(flow).octets());
        let transport = stream.size.transport();
        let headers = headers(flow, packet, transport);
        let bytes = transport.headers_bytes();
        self.bytes[inner..inner + bytes].copy_from_slice(&headers[..bytes]);
        let unstamped = Unstamped::of(first(&self.bytes), first(&headers), payload);
        self.made = Some(Made { stream: *stream, flow, payload, unstamped });
        unstamped
    }
}

/// The first bytes of more.
fn first<const BYTES: usize>(bytes: &[u8]) -> &[u8; BYTES] {
    bytes.first_chunk().expect("a frame has room for its stamp")
}

/// The headers of a packet of so many bytes, and zeros.
fn headers(flow: u32, packet: usize, transport: Transport) -> [u8; HEADERS_MAX] {
    let mut bytes = [0; HEADERS_MAX];
    let [_, high, middle, low] = flow.to_be_bytes();
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(packet as u16).to_be_bytes());
    bytes[8] = 64;
    bytes[9] = match transport {
        Transport::Udp => UDP,
        Transport::Tcp => TCP,
    };
    bytes[12..16].copy_from_slice(&[10, high, middle, low]);
    bytes[16..20].copy_from_slice(&[10, 255, 255, 254]);
    let checksum = Sum::of(&bytes[..20]).checksum();
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes[20..22].copy_from_slice(&(1024 + (flow % 50_000) as u16).to_be_bytes());
    bytes[22..24].copy_from_slice(&4789_u16.to_be_bytes());
    let length = ((packet - IP_BYTES) as u16).to_be_bytes();
    match transport {
        Transport::Udp => bytes[24..26].copy_from_slice(&length),
        Transport::Tcp => {
            // Five words of header, ACK, the widest window.
            bytes[32..36].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
            // That of the pseudo-header: the rest is for whoever completes it.
            let mut sum = Sum::of(&bytes[12..20]);
            sum.add(&[0, TCP, length[0], length[1]]);
            bytes[36..38].copy_from_slice(&sum.word().to_be_bytes());
        }
    }
    bytes
}

/// The stamp of a frame whose hash is right.
fn whole(frame: &[u8]) -> Option<Stamp> {
    let addresses: &[u8; ADDRESS_BYTES] = frame.first_chunk()?;
    let tagged = matches!(frame.get(12..14)?, [0x81, 0x00] | [0x88, 0xa8]);
    let at = if tagged { ADDRESS_BYTES + TAG_BYTES } else { ADDRESS_BYTES };
    let packet = frame.get(at + 2..)?;
    if frame.get(at..at + 2)? != ETHER_TYPE {
        return None;
    }
    let headers: &[u8; HEADERS_BYTES] = packet.first_chunk()?;
    let stamped = packet.get(Transport::of(headers[9])?.headers_bytes()..)?;
    let (stamp, payload) = stamped.split_first_chunk::<STAMP_BYTES>()?;
    let found = u32::from_le_bytes(*stamp.last_chunk()?);
    let word = |at: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|place| stamp[at + place]);
        u64::from_le_bytes(bytes) % NUMBERS
    };
    let (number, sent_ns) = (word(0), word(FIELD_BYTES));
    let unstamped = Unstamped::of(addresses, headers, hash::payload(payload));
    if found != unstamped.stamped(number, sent_ns) {
        return None;
    }
    let flow = u32::from_be_bytes([0, headers[13], headers[14], headers[15]]);
    Some(Stamp { number, flow, sent_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(tag: Tag, size: Size) -> Stream {
        let (source, destination) = (Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2]));
        Stream { source: source.into(), destination: destination.into(), tag, size, flows: 1000 }
    }

    #[test]
    fn a_frame_says_what_it_is_at_every_length_and_tag() {
        let mut frame = Vec::new();
        for tag in [Tag::Untagged, Tag::Customer(10), Tag::Service(4094)] {
            for bytes in [64, 65, 71, 72, 73, 128, 512, 1518, 9018] {
                let stream = stream(tag, Size::Fixed(bytes));
                let number = NUMBERS - 1;
                stream.write(number, NUMBERS + 0x1_2345_6789, &mut frame);
                assert_eq!(frame.len(), bytes - 4, "{tag:?}");
                let flow = (number % 1000) as u32;
                let stamp = Stamp { number, flow, sent_ns: 0x1_2345_6789 };
                assert_eq!(stream.read(&frame), Seen::Whole(stamp), "{tag:?} {bytes}");
            }
        }
    }

    #[test]
    fn a_frame_to_be_cut_is_whole_once_somebody_completed_its_checksum() {
        let (stream, mut frame) = (stream(Tag::Untagged, Size::Segments(65_230)), Vec::new());
        stream.write(7, 5, &mut frame);
        assert_eq!(frame.len(), 65_226);
        let Checksum::Partial { start, offset } = offload(&frame).checksum else { panic!() };
        let (start, field) = (usize::from(start), usize::from(start + offset));
        let checksum = Sum::of(&frame[start..]).checksum();
        frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        // What a receiver sums up: pseudo-header and segment are all ones.
        let mut sum = Sum::of(&frame[26..34]);
        let length = ((frame.len() - start) as u16).to_be_bytes();
        sum.add(&[0, TCP, length[0], length[1]]);
        sum.add(&frame[start..]);
        assert_eq!(sum.word(), 0xffff);
        assert_eq!(stream.read(&frame), Seen::Whole(Stamp { number: 7, flow: 7, sent_ns: 5 }));
        assert_eq!(offload(&frame[..23]), Offload::NONE);
        frame.truncate(1514);
        assert_eq!(stream.read(&frame), Seen::Altered);
    }

    #[test]
    fn a_draft_that_is_used_again_says_the_same_as_a_new_one() {
        let many = |last| Stations { first: Mac::new([2, 0, 0, 0, 0, last]), count: 300 };
        let mut streams =
            vec![stream(Tag::Untagged, Size::Imix), stream(Tag::Customer(3), Size::Imix)];
        streams.push(Stream { source: many(1), destination: many(7), ..streams[0] });
        streams.push(Stream { flows: 1, size: Size::Segments(3000), ..streams[0] });
        let (mut draft, mut fresh) = (Draft::default(), Vec::new());
        for number in 0..2000 {
            let stream = streams[(number / 7 % 4) as usize];
            draft.write(&stream, number, 5 * number);
            stream.write(number, 5 * number, &mut fresh);
            assert_eq!(draft.bytes(), fresh, "{number}");
            assert!(matches!(stream.read(&fresh), Seen::Whole(_)), "{number}");
        }
    }

    #[test]
    fn flows_differ_in_address_and_port_and_share_out_the_stations() {
        let first = Mac::new([2, 0, 0, 0, 0xff, 0xfe]);
        let stream = Stream {
            source: Stations { first, count: 1000 },
            flows: FLOWS_MAX,
            ..stream(Tag::Untagged, Size::Fixed(64))
        };
        let mut frame = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut stations = std::collections::BTreeSet::new();
        for number in 0..5000 {
            stream.write(number, 0, &mut frame);
            seen.insert([&frame[26..30], &frame[34..36]].concat());
            stations.insert(frame[6..12].to_vec());
        }
        assert_eq!((seen.len(), stations.len()), (5000, 1000));
        assert!(stations.contains(&vec![2, 0, 0, 1, 0, 0]), "the carry goes on");
        stream.write(u64::from(FLOWS_MAX) - 1, 0, &mut frame);
        let Seen::Whole(stamp) = stream.read(&frame) else { panic!("altered") };
        assert_eq!(stamp.flow, FLOWS_MAX - 1);
    }

    #[test]
    fn a_tag_may_come_and_go() {
        let (tagged, plain) = (stream(Tag::Customer(7), Size::Fixed(64)), Tag::Untagged);
        let (mut frame, mut bare) = (Vec::new(), Vec::new());
        tagged.write(5, 6, &mut frame);
        bare.extend(&frame[..12]);
        bare.extend(&frame[16..]);
        let untagged = Stream { tag: plain, ..tagged };
        assert_eq!(untagged.read(&bare), tagged.read(&frame));
        assert!(matches!(untagged.read(&bare), Seen::Whole(_)));
    }

    #[test]
    fn no_single_bit_is_turned_unseen() {
        let stream = stream(Tag::Untagged, Size::Fixed(333));
        let mut frame = Vec::new();
        stream.write(77, 88, &mut frame);
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(stream.read(&frame), Seen::Altered, "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(matches!(stream.read(&frame), Seen::Whole(_)));
        for length in 0..frame.len() {
            assert!(!matches!(stream.read(&frame[..length]), Seen::Whole(_)), "{length} bytes");
        }
    }

    #[test]
    fn headers_are_what_a_receiver_checks() {
        let stream = stream(Tag::Untagged, Size::Imix);
        let mut frame = Vec::new();
        for number in 0..24 {
            stream.write(number, 0, &mut frame);
            assert_eq!(Sum::of(&frame[14..34]).checksum(), 0, "{number}");
            let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            assert_eq!(length, frame.len() - 14);
        }
        let dozen: Vec<usize> = (0..12).map(|number| Size::Imix.of(number)).collect();
        let count = |bytes| dozen.iter().filter(|&&one| one == bytes).count();
        assert_eq!([count(64), count(570), count(1518)], [7, 4, 1]);
    }

    #[test]
    fn what_others_send_is_foreign() {
        let stream = stream(Tag::Untagged, Size::Fixed(64));
        assert_eq!(stream.read(&[0xff; 60]), Seen::Foreign);
        assert_eq!(stream.read(&[]), Seen::Foreign);
    }
}
