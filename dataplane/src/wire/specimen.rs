//! Frames for tests, written with `etherparse`: whole ones as a sender with
//! offloads makes them, and the segments that they stand for, each made anew.

use etherparse::{
    IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, LinkExtSlice, SlicedPacket, TcpHeader, UdpHeader,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::layout::{Network, Transport};
use super::offload::{Checksum, Ecn, Offload, Segmentation};

const SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
const DESTINATION: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 9, 9, 9, 9, 4, 5, 6, 7];
const SOURCE_4: [u8; 4] = [192, 0, 2, 1];
const DESTINATION_4: [u8; 4] = [198, 51, 100, 77];

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(crate) struct Specimen {
    /// TPID and TCI of each tag, outermost first.
    pub(crate) tags: Vec<[u16; 2]>,
    pub(crate) network: Network,
    /// IPv4: words of options; IPv6: the words of each extension header less one,
    /// by turns hop-by-hop and destination options.
    pub(crate) network_options: Vec<u8>,
    pub(crate) transport: Transport,
    /// Words of TCP options.
    pub(crate) transport_options: u8,
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    /// TCP flags as in the header.
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) size: u16,
}

impl Specimen {
    /// TCP over IPv4, as simple as can be.
    pub(crate) fn tcp(payload: usize, size: u16) -> Specimen {
        Specimen {
            tags: Vec::new(),
            network: Network::Ipv4,
            network_options: Vec::new(),
            transport: Transport::Tcp,
            transport_options: 3,
            identification: 0xfffe,
            sequence: 0xffff_f000,
            flags: 0x18,
            payload: (0..payload).map(|index| (index * 7 + index / 251) as u8).collect(),
            size,
        }
    }

    /// Bytes up to the transport header.
    pub(crate) fn start(&self) -> usize {
        let options = self.network_options.iter().map(|&words| usize::from(words));
        let network = match self.network {
            Network::Ipv4 => 20 + 4 * options.sum::<usize>(),
            Network::Ipv6 => 40 + options.map(|words| 8 * (words + 1)).sum::<usize>(),
        };
        14 + 4 * self.tags.len() + network
    }

    /// The offload that goes with [`Specimen::frame`].
    pub(crate) fn offload(&self) -> Offload {
        let (size, ecn) = (self.size, Ecn::Without);
        let segmentation = match (self.transport, self.network) {
            (Transport::Tcp, Network::Ipv4) => Segmentation::Tcp4 { size, ecn },
            (Transport::Tcp, Network::Ipv6) => Segmentation::Tcp6 { size, ecn },
            (Transport::Udp, _) => Segmentation::Udp { size },
        };
        Offload { segmentation, ..self.checksum_offload() }
    }

    /// The same without segmentation.
    pub(crate) fn checksum_offload(&self) -> Offload {
        let offset = self.transport.checksum_offset() as u16;
        let checksum = Checksum::Partial { start: self.start() as u16, offset };
        Offload { checksum, segmentation: Segmentation::None }
    }

    /// The whole frame, its pseudo-header's sum in the checksum field.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = self.packet(&self.payload, 0, self.flags);
        let (start, length) = (self.start(), frame.len() - self.start());
        let protocol = [0, self.transport.number()];
        let addresses: [&[u8]; 2] = match self.network {
            Network::Ipv4 => [&SOURCE_4, &DESTINATION_4],
            Network::Ipv6 => [&SOURCE, &DESTINATION],
        };
        let pseudo = [addresses[0], addresses[1], &protocol, &(length as u16).to_be_bytes()];
        let mut sum = pseudo
            .concat()
            .chunks(2)
            .fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        let field = start + self.transport.checksum_offset();
        frame[field..field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        frame
    }

    /// The frames it stands for, each made from the specimen.
    pub(crate) fn segments(&self) -> Vec<Vec<u8>> {
        let size = usize::from(self.size);
        if self.payload.len() <= size {
            return vec![self.completed()];
        }
        let chunks: Vec<_> = self.payload.chunks(size).collect();
        let last = chunks.len() - 1;
        let flags = |index| {
            let end = if index == last { 0 } else { 0x09 };
            let begin = if index == 0 { 0 } else { 0x80 };
            self.flags & !(end | begin)
        };
        chunks.iter().enumerate().map(|(n, chunk)| self.packet(chunk, n, flags(n))).collect()
    }

    /// The whole frame with its checksum.
    pub(crate) fn completed(&self) -> Vec<u8> {
        let mut frame = self.packet(&self.payload, 0, self.flags);
        let field = self.start() + self.transport.checksum_offset();
        if frame[field..field + 2] == [0, 0] {
            frame[field..field + 2].fill(0xff);
        }
        frame
    }

    /// A complete frame with this payload, the `index`-th.
    fn packet(&self, payload: &[u8], index: usize, flags: u8) -> Vec<u8> {
        let transport = match self.transport {
            Transport::Tcp => self.tcp_header(payload, index, flags),
            Transport::Udp => self.udp_header(payload),
        };
        let (ethertype, network) = match self.network {
            Network::Ipv4 => (0x0800_u16, self.ipv4_header(transport.len() + payload.len(), index)),
            Network::Ipv6 => (0x86dd, self.ipv6_header(transport.len() + payload.len())),
        };
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];
        for word in self.tags.iter().flatten().chain([&ethertype]) {
            frame.extend_from_slice(&word.to_be_bytes());
        }
        [frame, network, transport, payload.to_vec()].concat()
    }

    fn ipv4_header(&self, payload: usize, index: usize) -> Vec<u8> {
        let protocol = IpNumber(self.transport.number());
        let mut header = Ipv4Header::new(0, 64, protocol, SOURCE_4, DESTINATION_4).unwrap();
        let words = self.network_options.iter().sum::<u8>();
        header.options = Ipv4Options::try_from(&vec![1; usize::from(words) * 4][..]).unwrap();
        header.set_payload_len(payload).unwrap();
        header.identification = self.identification.wrapping_add(index as u16);
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn ipv6_header(&self, payload: usize) -> Vec<u8> {
        let transport = self.transport.number();
        let mut extensions = Vec::new();
        for (index, &words) in self.network_options.iter().enumerate() {
            let next = match self.network_options.get(index + 1) {
                Some(_) => 60,
                None => transport,
            };
            extensions.extend_from_slice(&[next, words]);
            // Padding (RFC 8200 4.2): PadN over all of it.
            let padding = 8 * usize::from(words) + 6;
            extensions.extend_from_slice(&[1, padding as u8 - 2]);
            extensions.resize(extensions.len() + padding - 2, 0);
        }
        let first = if extensions.is_empty() { transport } else { 0 };
        let header = Ipv6Header {
            payload_length: (extensions.len() + payload) as u16,
            next_header: IpNumber(first),
            hop_limit: 64,
            source: SOURCE,
            destination: DESTINATION,
            ..Ipv6Header::default()
        };
        [&header.to_bytes()[..], &extensions].concat()
    }

    fn tcp_header(&self, payload: &[u8], index: usize, flags: u8) -> Vec<u8> {
        let sent = (index * usize::from(self.size)) as u32;
        let mut header = TcpHeader::new(443, 50_000, self.sequence.wrapping_add(sent), 512);
        header.set_options_raw(&vec![1; usize::from(self.transport_options) * 4]).unwrap();
        let bit = |bit: u8| flags >> bit & 1 == 1;
        (header.fin, header.psh, header.ack) = (bit(0), bit(3), bit(4));
        (header.ece, header.cwr) = (bit(6), bit(7));
        header.checksum = match self.network {
            Network::Ipv4 => header.calc_checksum_ipv4_raw(SOURCE_4, DESTINATION_4, payload),
            Network::Ipv6 => header.calc_checksum_ipv6_raw(SOURCE, DESTINATION, payload),
        }
        .unwrap();
        header.to_bytes().to_vec()
    }

    fn udp_header(&self, payload: &[u8]) -> Vec<u8> {
        let mut header = UdpHeader::without_ipv4_checksum(4433, 50_000, payload.len()).unwrap();
        header.checksum = match self.network {
            Network::Ipv4 => header.calc_checksum_ipv4_raw(SOURCE_4, DESTINATION_4, payload),
            Network::Ipv6 => header.calc_checksum_ipv6_raw(SOURCE, DESTINATION, payload),
        }
        .unwrap();
        header.to_bytes().to_vec()
    }
}

/// The payload of a frame and the VIDs of its tags, as `etherparse` reads them.
pub(crate) fn parsed(frame: &[u8]) -> (Vec<u16>, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let vids = packet.link_exts.iter().filter_map(|extension| match extension {
        LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
        LinkExtSlice::Macsec(_) => None,
    });
    let payload = match packet.transport.as_ref().unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => tcp.payload(),
        etherparse::TransportSlice::Udp(udp) => udp.payload(),
        other => panic!("{other:?}"),
    };
    (vids.collect(), payload.to_vec())
}

/// Any frame that can be cut into at most 128 segments and has its headers in the
/// first 128 bytes.
pub(crate) fn any_specimen() -> impl Strategy<Value = Specimen> {
    let tag = prop_oneof![Just(0x8100_u16), Just(0x88a8)];
    let tags = vec((tag, 1..4095_u16).prop_map(|(tpid, vid)| [tpid, vid]), 0..=2);
    let network = prop_oneof![
        vec(1..=10_u8, 0..=1).prop_map(|options| (Network::Ipv4, options)),
        vec(0..=1_u8, 0..=2).prop_map(|options| (Network::Ipv6, options)),
    ];
    let transport = prop_oneof![
        (0..=3_u8).prop_map(|options| (Transport::Tcp, options)),
        Just((Transport::Udp, 0)),
    ];
    let numbers = (any::<u16>(), any::<u32>(), any::<u8>());
    let payload = (1..2000_u16, 0..=12_000_usize, any::<u8>());
    (tags, network, transport, numbers, payload).prop_map(
        |(tags, network, transport, (identification, sequence, flags), (size, length, seed))| {
            let length = length.min(usize::from(size) * 128);
            Specimen {
                tags,
                network: network.0,
                network_options: network.1,
                transport: transport.0,
                transport_options: transport.1,
                identification,
                sequence,
                flags,
                payload: (0..length).map(|n| (n as u8).wrapping_mul(seed | 1) ^ seed).collect(),
                size,
            }
        },
    )
}
