//! virtio-net headers that lie.

use hairpin_bench::front_end::layout::OFFLOADS;
use hairpin_bench::front_end::{Chains, Layout, NetHeader};
use hairpin_dataplane::ledger::DropReason::OffloadInvalid;
use hairpin_dataplane::wire::checksum::Sum;

use super::packets::{Network, Packet, Transport};
use super::stage::{Expected, PATIENCE, Stage, drops};

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
const TCPV4: u8 = 1;
const TCPV6: u8 = 4;
const UDP_L4: u8 = 5;
const ECN: u8 = 0x80;

/// The fields of a virtio-net header.
#[derive(Clone, Copy)]
struct Net {
    flags: u8,
    kind: u8,
    headers: u16,
    size: u16,
    start: u16,
    offset: u16,
}

impl Net {
    /// A checksum to be filled in.
    const fn checksum(start: u16, offset: u16) -> Net {
        Net { flags: NEEDS_CSUM, kind: 0, headers: 0, size: 0, start, offset }
    }

    /// TCP over IPv4 to be cut, sound for [`TCP4`].
    const fn cut(kind: u8, size: u16) -> Net {
        Net { flags: NEEDS_CSUM, kind, headers: 54, size, start: 34, offset: 16 }
    }

    fn bytes(self) -> NetHeader {
        let [a, b] = self.headers.to_le_bytes();
        let [c, d] = self.size.to_le_bytes();
        let [e, f] = self.start.to_le_bytes();
        let [g, h] = self.offset.to_le_bytes();
        [self.flags, self.kind, a, b, c, d, e, f, g, h, 0, 0]
    }
}

/// A guest that may leave everything to the switch, and sends frames of several segments.
const LAYOUTS: [Layout; 2] = [offloading(Layout::SPLIT), offloading(Layout::PACKED)];

const fn offloading(layout: Layout) -> Layout {
    Layout { buffer_bytes: 4096, ..layout.with(OFFLOADS, Chains::Apart) }
}

const TCP4: Packet =
    Packet { network: Network::Ipv4, transport: Transport::Tcp, payload_bytes: 3000 };
const TCP6: Packet = Packet { network: Network::Ipv6, ..TCP4 };
const UDP4: Packet = Packet { transport: Transport::Udp, ..TCP4 };
/// One that needs no cutting.
const SHORT: Packet = Packet { payload_bytes: 100, ..TCP4 };
/// Bytes of its frame.
const SHORT_BYTES: u16 = 14 + 20 + 20 + 100;

/// Headers that contradict their frames.
fn contradictions() -> Vec<(&'static str, Packet, Net)> {
    let cut = Net::cut(TCPV4, 1448);
    vec![
        ("a sum from the frame's end on", SHORT, Net::checksum(SHORT_BYTES, 0)),
        ("a sum from far behind it on", SHORT, Net::checksum(0xffff, 0xffff)),
        ("a sum half behind the end", SHORT, Net::checksum(SHORT_BYTES - 1, 0)),
        ("a sum far behind the end", SHORT, Net::checksum(34, 0xffff)),
        ("a sum just behind the end", SHORT, Net::checksum(34, SHORT_BYTES - 34 - 1)),
        ("a sum over the addresses", SHORT, Net::checksum(0, 16)),
        ("a sum over half an EtherType", SHORT, Net::checksum(13, 16)),
        ("segments of 0 bytes", TCP4, Net::cut(TCPV4, 0)),
        ("segments of 1 byte", TCP4, Net::cut(TCPV4, 1)),
        ("segments of 65535 bytes", TCP4, Net::cut(TCPV4, 0xffff)),
        ("segments, and no checksum", TCP4, Net { flags: 0, ..cut }),
        ("an odd start of TCP", TCP4, Net { start: 35, ..cut }),
        ("a start in the IP header", TCP4, Net { start: 14, ..cut }),
        ("a start at the end", TCP4, Net { start: 3054, ..cut }),
        ("TCP's checksum elsewhere", TCP4, Net { offset: 6, ..cut }),
        ("TCP's checksum at an odd place", TCP4, Net { offset: 15, ..cut }),
        ("TCP over IPv4 in IPv6", TCP6, cut),
        ("TCP over IPv6 in IPv4", TCP4, Net::cut(TCPV6, 1428)),
        ("UDP in TCP", TCP4, Net { offset: 6, ..Net::cut(UDP_L4, 1472) }),
        ("TCP in UDP", UDP4, cut),
        ("ECN without segments", TCP4, Net { kind: ECN, ..cut }),
        ("ECN of UDP", UDP4, Net { kind: UDP_L4 | ECN, offset: 6, ..cut }),
        ("fragments of UDP, which nobody offered", UDP4, Net { kind: 3, offset: 6, ..cut }),
        ("a kind that is none", TCP4, Net { kind: 2, ..cut }),
        ("another one", TCP4, Net { kind: 0x7f, ..cut }),
    ]
}

#[test]
fn cve_2024_11614_headers_that_contradict_their_frames_are_refused() {
    let cases = contradictions();
    let stage = Stage::start(LAYOUTS.len() * cases.len(), 1);
    let mut number = 0;
    for layout in LAYOUTS {
        for (what, packet, net) in &cases {
            let mut front = stage.guest(number, layout);
            let frame = packet.frame(stage.station(number));
            assert_eq!(front.send_by(0, net.bytes(), &[&frame]), 1);
            stage.expect(number, &format!("{what}, {}", layout.name), &drops(OffloadInvalid, 1));
            number += 1;
        }
    }
    stage.end();
}

/// The helper takes everything: what the guest says of its headers is not passed on.
#[test]
fn cve_2024_11614_what_a_guest_says_of_its_headers_length_is_found_anew() {
    let mut stage = Stage::start(LAYOUTS.len(), 1);
    stage.replace_helper(offloading(Layout::PACKED));
    for (number, layout) in LAYOUTS.into_iter().enumerate() {
        let mut front = stage.guest(number, layout);
        let frame = TCP4.frame(stage.station(number));
        let true_one = Net::cut(TCPV4, 1448);
        for headers in [54, 0, 1, 53, 55, 0xffff] {
            let said = Net { headers, ..true_one };
            assert_eq!(front.send_by(0, said.bytes(), &[&frame]), 1);
            let came = stage.helper().receive_within(PATIENCE).unwrap();
            let [came] = &came[..] else { panic!("one frame: {came:?}") };
            assert_eq!(came.net[..10], true_one.bytes()[..10], "hdr_len {headers}");
            assert_eq!(came.bytes, frame);
        }
        stage.expect(number, layout.name, &Expected::Drops(Vec::new()));
    }
    stage.end();
}

/// The helper takes nothing that is not complete: software fills the sums in, wherever they
/// are said to be.
#[test]
fn cve_2024_11614_sums_at_odd_places_are_filled_in() {
    let mut stage = Stage::start(LAYOUTS.len(), 1);
    for (number, layout) in LAYOUTS.into_iter().enumerate() {
        let mut front = stage.guest(number, layout);
        let frame = SHORT.frame(stage.station(number));
        for (start, offset) in [(35, 0), (34, 16), (35, 16), (14, 1), (20, 100)] {
            let net = Net::checksum(start, offset).bytes();
            assert_eq!(front.send_by(0, net, &[&frame]), 1);
            let came = stage.helper().receive_within(PATIENCE).unwrap();
            let [came] = &came[..] else { panic!("one frame: {came:?}") };
            let at = usize::from(start + offset);
            let mut expected = frame.clone();
            let sum = Sum::of(&frame[usize::from(start)..]).checksum();
            expected[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(came.bytes, expected, "csum_start {start}, csum_offset {offset}");
        }
        stage.expect(number, layout.name, &Expected::Drops(Vec::new()));
    }
    stage.end();
}
