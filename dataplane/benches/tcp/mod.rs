//! TCP frames as a guest with offloads sends them: the pseudo-header's sum where
//! the checksum goes, 64 KiB in one frame.

#![allow(dead_code)]

use etherparse::PacketBuilder;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::checksum::{Sum, pseudo_ipv4, pseudo_ipv6};
use hairpin_dataplane::wire::layout::Network;
use hairpin_dataplane::wire::offload::{Checksum, Ecn, Offload, Segmentation};

/// Payload of a segment: 1500 bytes less IPv4's 20, TCP's 20 and its timestamps.
pub const SEGMENT_BYTES: u16 = 1448;
/// Segments that fit into 64 KiB.
pub const SEGMENTS: usize = 45;

const SOURCE_4: [u8; 4] = [192, 0, 2, 1];
const DESTINATION_4: [u8; 4] = [192, 0, 2, 2];
const SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DESTINATION: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Two NOPs and a timestamp, as Linux sends them (RFC 7323, appendix A).
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1];
const HEADER_BYTES: usize = 20 + OPTIONS.len();
const CHECKSUM_OFFSET: u16 = 16;
const PROTOCOL: u8 = 6;

/// A frame and what is left to do on it.
pub struct Tcp {
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

impl Tcp {
    /// A frame to be cut into [`SEGMENTS`]; addresses are destination, source.
    pub fn to_cut(network: Network, addresses: [Mac; 2]) -> Tcp {
        let whole = Tcp::to_sum(network, addresses, SEGMENTS * usize::from(SEGMENT_BYTES));
        let (size, ecn) = (SEGMENT_BYTES, Ecn::Without);
        let segmentation = match network {
            Network::Ipv4 => Segmentation::Tcp4 { size, ecn },
            Network::Ipv6 => Segmentation::Tcp6 { size, ecn },
        };
        Tcp { offload: Offload { segmentation, ..whole.offload }, ..whole }
    }

    /// A frame whose checksum is to be filled in, with this much payload.
    pub fn to_sum(network: Network, [destination, source]: [Mac; 2], payload: usize) -> Tcp {
        let ethernet = PacketBuilder::ethernet2(source.octets(), destination.octets());
        let ip = match network {
            Network::Ipv4 => ethernet.ipv4(SOURCE_4, DESTINATION_4, 64),
            Network::Ipv6 => ethernet.ipv6(SOURCE, DESTINATION, 64),
        };
        let tcp = ip.tcp(443, 50_000, 1, 512).ack(1).options_raw(&OPTIONS).expect("whole words");
        let payload: Vec<u8> = (0..payload).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut bytes = Vec::with_capacity(payload.len() + 128);
        tcp.write(&mut bytes, &payload).expect("the lengths fit their fields");
        let start = bytes.len() - payload.len() - HEADER_BYTES;
        let field = start + usize::from(CHECKSUM_OFFSET);
        let sum = pseudo(network, HEADER_BYTES + payload.len());
        bytes[field..field + 2].copy_from_slice(&sum.word().to_be_bytes());
        let checksum = Checksum::Partial { start: start as u16, offset: CHECKSUM_OFFSET };
        Tcp { bytes, offload: Offload { checksum, segmentation: Segmentation::None } }
    }
}

fn pseudo(network: Network, length: usize) -> Sum {
    match network {
        Network::Ipv4 => pseudo_ipv4(SOURCE_4, DESTINATION_4, PROTOCOL, length as u16),
        Network::Ipv6 => pseudo_ipv6(SOURCE, DESTINATION, PROTOCOL, length as u32),
    }
}
