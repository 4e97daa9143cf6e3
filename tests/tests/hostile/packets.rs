//! Ordinary packets, of which crafted ones are made.

use hairpin_bench::front_end::station::Station;
use hairpin_dataplane::wire::checksum::Sum;

/// The protocol around a packet's transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    Ipv4,
    Ipv6,
}

/// The protocol in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// Its header, without addresses or sums.
    fn header(self, payload_bytes: usize) -> Vec<u8> {
        let length = (8 + payload_bytes) as u16;
        match self {
            Transport::Tcp => [&[0; 12][..], &[5 << 4], &[0; 7]].concat(),
            Transport::Udp => [&[0; 4][..], &length.to_be_bytes(), &[0; 2]].concat(),
        }
    }
}

/// An ordinary packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub network: Network,
    pub transport: Transport,
    pub payload_bytes: usize,
}

impl Packet {
    /// The frame around it.
    pub fn frame(&self, station: Station) -> Vec<u8> {
        self.frame_behind(station, &[])
    }

    /// The same with these bytes between the addresses and the EtherType: tags.
    pub fn frame_behind(&self, station: Station, tags: &[u8]) -> Vec<u8> {
        let ether_type = match self.network {
            Network::Ipv4 => [0x08, 0x00],
            Network::Ipv6 => [0x86, 0xdd],
        };
        [&addresses(station), tags, &ether_type, &self.bytes(&[], self.transport.number())].concat()
    }

    /// From the network header on: `extensions` behind it, whose first is of this number.
    pub fn bytes(&self, extensions: &[u8], next: u8) -> Vec<u8> {
        let transport = self.transport.header(self.payload_bytes);
        let rest = extensions.len() + transport.len() + self.payload_bytes;
        let network = match self.network {
            Network::Ipv4 => ipv4(20 + rest, next).to_vec(),
            Network::Ipv6 => {
                let [high, low] = (rest as u16).to_be_bytes();
                [&[0x60, 0, 0, 0, high, low, next, 64][..], &[1; 32]].concat()
            }
        };
        [&network, extensions, &transport, &vec![0x5a; self.payload_bytes]].concat()
    }
}

/// Destination and source.
pub fn addresses(station: Station) -> Vec<u8> {
    [station.peer.octets(), station.own.octets()].concat()
}

/// An IPv4 header with its sum.
pub fn ipv4(length: usize, protocol: u8) -> [u8; 20] {
    let [high, low] = (length as u16).to_be_bytes();
    let mut header = [0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sum = Sum::of(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}
