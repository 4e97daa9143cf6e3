//! Frames that are accounted for: Ethernet, perhaps with a tag, IPv4, UDP, and a stamp.
//!
//! ```text
//! addresses 12 | tag 0 or 4 | EtherType 2 | IPv4 20 | UDP 8 | stamp 14 | payload
//! stamp: number 5 | flow 3 | time 4 | hash 2
//! ```
//!
//! The stamp is what a tagged frame of 64 bytes has room for. The time is in nanoseconds and
//! wraps after four seconds. The hash is over all bytes but itself and a tag, which a switch may
//! add or take away: one altered frame in 65,536 passes for whole. Lengths count the checksum
//! (FCS), as RFC 2544's do; a frame in memory has four bytes less.

use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::checksum::Sum;

/// Bytes of the frame checksum, which no frame in memory has.
const FCS_BYTES: usize = 4;
/// Of a tag.
const TAG_BYTES: usize = 4;
/// Of the addresses.
const ADDRESS_BYTES: usize = 12;
const ETHER_TYPE: [u8; 2] = [0x08, 0x00];
/// From the IPv4 header to the stamp.
const HEADERS_BYTES: usize = 20 + 8;
const HASH_AT: usize = HEADERS_BYTES + 12;
/// Of IPv4 header, UDP header and stamp.
const STAMPED_BYTES: usize = HASH_AT + 2;
/// Numbers are below this.
pub const NUMBERS: u64 = 1 << 40;
/// Flows at most.
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
    /// All of them, in bytes, 64 to 9,000.
    Fixed(usize),
    /// Seven of 64 bytes, four of 570, one of 1,518 in a dozen.
    Imix,
}

/// A dozen of IMIX, evenly mixed.
const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

impl Size {
    /// Bytes of the frame of this number, its checksum included.
    #[must_use]
    pub fn of(self, number: u64) -> usize {
        match self {
            Size::Fixed(bytes) => bytes,
            Size::Imix => IMIX[(number % IMIX.len() as u64) as usize],
        }
    }
}

/// What a stream's frames are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// The sender.
    pub source: Mac,
    /// The receiver.
    pub destination: Mac,
    /// The tag.
    pub tag: Tag,
    /// How long they are.
    pub size: Size,
    /// How many flows they belong to by turns, 1 to [`FLOWS_MAX`]: each has an IPv4 source
    /// address of its own.
    pub flows: u32,
}

/// What a frame says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Its number.
    pub number: u64,
    /// Its flow.
    pub flow: u32,
    /// When it was sent, in nanoseconds, the lower 32 bits.
    pub sent_ns: u32,
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
    /// The flow of the frame of this number.
    #[must_use]
    pub fn flow_of(&self, number: u64) -> u32 {
        (number % u64::from(self.flows.max(1))) as u32
    }

    /// Writes the frame of this number, which leaves at this time, in place of what `frame`
    /// held. It has room for its stamp, however short the stream's frames are to be.
    pub fn write(&self, number: u64, now_ns: u64, frame: &mut Vec<u8>) {
        let flow = self.flow_of(number);
        frame.clear();
        frame.extend(self.destination.octets());
        frame.extend(self.source.octets());
        frame.extend(self.tag.bytes().into_iter().flatten());
        frame.extend(ETHER_TYPE);
        let inner = frame.len();
        let bytes = (self.size.of(number) - FCS_BYTES).max(inner + STAMPED_BYTES);
        let packet = bytes - inner;
        frame.extend(headers(flow, packet));
        frame.extend(&number.to_le_bytes()[..5]);
        frame.extend(&flow.to_le_bytes()[..3]);
        frame.extend((now_ns as u32).to_le_bytes());
        frame.extend([0; 2]);
        frame.resize(bytes, 0xa5);
        let sum = hash(&frame[..ADDRESS_BYTES], &frame[inner..]);
        frame[inner + HASH_AT..inner + STAMPED_BYTES].copy_from_slice(&sum.to_le_bytes());
    }

    /// What a received frame is.
    #[must_use]
    pub fn read(&self, frame: &[u8]) -> Seen {
        let right = (
            frame.get(..6) == Some(&self.destination.octets()[..]),
            frame.get(6..12) == Some(&self.source.octets()[..]),
        );
        match whole(frame) {
            Some(stamp) if right == (true, true) => Seen::Whole(stamp),
            _ if right == (false, false) => Seen::Foreign,
            _ => Seen::Altered,
        }
    }
}

/// The headers of a packet of so many bytes.
fn headers(flow: u32, packet: usize) -> [u8; HEADERS_BYTES] {
    let mut bytes = [0; HEADERS_BYTES];
    let [_, high, middle, low] = flow.to_be_bytes();
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(packet as u16).to_be_bytes());
    bytes[8..10].copy_from_slice(&[64, 17]);
    bytes[12..16].copy_from_slice(&[10, high, middle, low]);
    bytes[16..20].copy_from_slice(&[10, 255, 255, 254]);
    let checksum = Sum::of(&bytes[..20]).checksum();
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes[20..22].copy_from_slice(&(1024 + (flow % 50_000) as u16).to_be_bytes());
    bytes[22..24].copy_from_slice(&4789_u16.to_be_bytes());
    bytes[24..26].copy_from_slice(&((packet - 20) as u16).to_be_bytes());
    bytes
}

/// The stamp of a frame whose hash is right.
fn whole(frame: &[u8]) -> Option<Stamp> {
    let tagged = matches!(frame.get(12..14)?, [0x81, 0x00] | [0x88, 0xa8]);
    let at = if tagged { ADDRESS_BYTES + TAG_BYTES } else { ADDRESS_BYTES };
    let packet = frame.get(at + 2..)?;
    if frame.get(at..at + 2)? != ETHER_TYPE || packet.len() < STAMPED_BYTES {
        return None;
    }
    let found = u16::from_le_bytes(packet[HASH_AT..STAMPED_BYTES].try_into().ok()?);
    if found != hash(&frame[..ADDRESS_BYTES], packet) {
        return None;
    }
    let word = u64::from_le_bytes(packet[HEADERS_BYTES..HEADERS_BYTES + 8].try_into().ok()?);
    let sent = packet[HEADERS_BYTES + 8..HASH_AT].try_into().ok()?;
    let sent_ns = u32::from_le_bytes(sent);
    Some(Stamp { number: word % NUMBERS, flow: (word / NUMBERS) as u32, sent_ns })
}

/// A hash of the addresses, and of the packet but for the place of the hash.
fn hash(addresses: &[u8], packet: &[u8]) -> u16 {
    let sum = mix(0x9e37_79b9_7f4a_7c15, addresses);
    let sum = mix(sum, &packet[..HASH_AT]);
    let sum = mix(sum, &packet[STAMPED_BYTES..]);
    let folded = sum ^ sum >> 32;
    (folded ^ folded >> 16) as u16
}

/// Takes more bytes into a hash: four lanes, so that the multiplications overlap.
fn mix(sum: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
    let step = |lane: u64, word: u64| (lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let mut lanes = [sum, sum ^ 1, sum ^ 2, sum ^ 3];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = step(*lane, word(bytes));
        }
    }
    for (lane, bytes) in lanes.iter_mut().zip(rest.chunks(8)) {
        *lane = step(*lane, word(bytes));
    }
    let end = lanes.into_iter().fold(bytes.len() as u64, step);
    end ^ end >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(tag: Tag, size: Size) -> Stream {
        let (source, destination) = (Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2]));
        Stream { source, destination, tag, size, flows: 1000 }
    }

    #[test]
    fn a_frame_says_what_it_is_at_every_length_and_tag() {
        let mut frame = Vec::new();
        for tag in [Tag::Untagged, Tag::Customer(10), Tag::Service(4094)] {
            for bytes in [64, 65, 128, 512, 1518, 9000] {
                let stream = stream(tag, Size::Fixed(bytes));
                let number = NUMBERS - 1;
                stream.write(number, 0x1_2345_6789, &mut frame);
                assert_eq!(frame.len(), bytes - 4, "{tag:?}");
                let flow = (number % 1000) as u32;
                let stamp = Stamp { number, flow, sent_ns: 0x2345_6789 };
                assert_eq!(stream.read(&frame), Seen::Whole(stamp), "{tag:?} {bytes}");
            }
        }
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
        let stream = stream(Tag::Untagged, Size::Fixed(128));
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
