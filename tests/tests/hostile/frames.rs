//! Frames that are crafted to be misread: their bytes lie, or there are too many headers.

use hairpin_bench::front_end::layout::OFFLOADS;
use hairpin_bench::front_end::station::Station;
use hairpin_bench::front_end::{COMPLETE, Chains, FrontEnd, Layout, NetHeader};
use hairpin_dataplane::ledger::DropReason::{
    Giant, OffloadHeaderTooDeep, OffloadInvalid, Runt, TagNotAllowed, TruncatedTag,
};

use super::packets::{Network, Packet, Transport, addresses, ipv4};
use super::stage::{Expected, PATIENCE, Stage, drops};

const TCP4: Packet =
    Packet { network: Network::Ipv4, transport: Transport::Tcp, payload_bytes: 100 };
const TCP6: Packet = Packet { network: Network::Ipv6, ..TCP4 };
/// TCP over IPv4 or IPv6 to be cut into segments of 100 bytes.
const CUT: [NetHeader; 2] =
    [[1, 1, 0, 0, 100, 0, 34, 0, 16, 0, 0, 0], [1, 4, 0, 0, 100, 0, 54, 0, 16, 0, 0, 0]];

const LAYOUTS: [Layout; 2] = [roomy(Layout::SPLIT), roomy(Layout::PACKED)];

const fn roomy(layout: Layout) -> Layout {
    Layout { buffer_bytes: 8192, ..layout.with(OFFLOADS, Chains::Whole) }
}

fn with_type(station: Station, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&addresses(station), &ether_type.to_be_bytes()[..], payload].concat()
}

/// What a port sends, by its name, and what becomes of it.
type Crafted = (&'static str, NetHeader, fn(Station) -> Vec<u8>, Expected);

/// Sends each frame at a port of its own; those that pass arrive unaltered.
#[track_caller]
fn run(cases: &[Crafted]) {
    let mut stage = Stage::start(LAYOUTS.len() * cases.len(), 1);
    let mut number = 0;
    for layout in LAYOUTS {
        for (what, net, frame, expected) in cases {
            let what = format!("{what}, {}", layout.name);
            let mut front = stage.guest(number, layout);
            let frame = frame(stage.station(number));
            assert_eq!(front.send_by(0, *net, &[&frame]), 1, "{what}");
            stage.expect(number, &what, expected);
            if matches!(expected, Expected::Drops(drops) if drops.is_empty()) {
                let came = stage.helper().receive_within(PATIENCE).unwrap();
                let [came] = &came[..] else { panic!("{what}: {came:?}") };
                assert_eq!(came.bytes, frame, "{what}");
            }
            number += 1;
        }
    }
    stage.end();
}

fn passes() -> Expected {
    Expected::Drops(Vec::new())
}

#[test]
fn frames_shorter_than_their_headers_are_runts() {
    run(&[
        ("1 byte", COMPLETE, |_| vec![0xff], drops(Runt, 1)),
        ("an address", COMPLETE, |station| station.peer.octets().to_vec(), drops(Runt, 1)),
        (
            "13 bytes",
            COMPLETE,
            |station| with_type(station, 0x0800, &[])[..13].to_vec(),
            drops(Runt, 1),
        ),
        ("14 bytes", COMPLETE, |station| with_type(station, 0x0800, &[]), passes()),
        (
            "half a tag",
            COMPLETE,
            |station| with_type(station, 0x8100, &[0]),
            drops(TruncatedTag, 1),
        ),
        (
            "a tag and nothing",
            COMPLETE,
            |station| with_type(station, 0x8100, &[0, 5]),
            drops(TruncatedTag, 1),
        ),
        (
            "an S-tag",
            COMPLETE,
            |station| with_type(station, 0x88a8, &[0, 5, 8, 0]),
            drops(TagNotAllowed, 1),
        ),
    ]);
}

#[test]
fn cve_2020_35498_padding_and_lengths_that_lie_change_nothing() {
    run(&[
        (
            "1000 bytes of padding",
            COMPLETE,
            |station| [TCP4.frame(station), vec![0xee; 1000]].concat(),
            passes(),
        ),
        (
            "an IPv4 length beyond the frame",
            COMPLETE,
            |station| with_type(station, 0x0800, &ipv4(0xffff, 6)),
            passes(),
        ),
        (
            "an IPv4 length of 0",
            COMPLETE,
            |station| with_type(station, 0x0800, &[&ipv4(0, 6)[..], &[0; 40]].concat()),
            passes(),
        ),
        (
            "half an IPv4 header",
            COMPLETE,
            |station| with_type(station, 0x0800, &ipv4(20, 6)[..10]),
            passes(),
        ),
        (
            "a length of 802.3 beyond the frame",
            COMPLETE,
            |station| with_type(station, 1500, &[0xaa; 20]),
            passes(),
        ),
    ]);
}

/// An ordinary frame with another byte there.
fn altered(station: Station, at: usize, byte: u8) -> Vec<u8> {
    let mut frame = TCP4.frame(station);
    frame[at] = byte;
    frame
}

#[test]
fn cve_2023_1668_protocol_0_and_headers_of_impossible_length() {
    run(&[
        (
            "protocol 0",
            COMPLETE,
            |station| with_type(station, 0x0800, &[&ipv4(60, 0)[..], &[0; 40]].concat()),
            passes(),
        ),
        (
            "protocol 0, to be cut as TCP",
            CUT[0],
            |station| altered(station, 14 + 9, 0),
            drops(OffloadInvalid, 1),
        ),
        (
            "an IPv4 header of 0 words, to be cut",
            CUT[0],
            |station| altered(station, 14, 0x40),
            drops(OffloadInvalid, 1),
        ),
        (
            "an IPv4 header of 15 words, to be cut",
            CUT[0],
            |station| altered(station, 14, 0x4f),
            drops(OffloadInvalid, 1),
        ),
        (
            "a fragment, to be cut",
            CUT[0],
            |station| altered(station, 14 + 6, 0x20),
            drops(OffloadInvalid, 1),
        ),
        (
            "a TCP header of 0 words, to be cut",
            CUT[0],
            |station| altered(station, 34 + 12, 0),
            drops(OffloadInvalid, 1),
        ),
        (
            "a TCP header of 15 words beyond the end, to be cut",
            CUT[0],
            |station| {
                let mut frame = TCP4.frame(station);
                frame[34 + 12] = 0xf0;
                frame.truncate(34 + 20);
                frame
            },
            drops(OffloadInvalid, 1),
        ),
    ]);
}

/// So many C-tags of VID 5.
fn tags(count: usize) -> Vec<u8> {
    [0x81, 0, 0, 5].repeat(count)
}

#[test]
fn cve_2016_2074_headers_without_end_are_not_followed() {
    run(&[
        (
            "370 tags",
            COMPLETE,
            |station| [addresses(station), tags(370), vec![8, 0, 0, 0]].concat(),
            passes(),
        ),
        (
            "1000 tags",
            COMPLETE,
            |station| [addresses(station), tags(1000), vec![8, 0, 0, 0]].concat(),
            drops(Giant, 1),
        ),
        (
            "1000 tags, to be cut",
            [1, 1, 0, 0, 100, 0, 0xc2, 0x0f, 16, 0, 0, 0],
            |station| TCP4.frame_behind(station, &tags(1000)),
            drops(OffloadInvalid, 1),
        ),
        (
            "370 MPLS labels",
            COMPLETE,
            |station| with_type(station, 0x8847, &[0, 1, 0, 64].repeat(370)),
            passes(),
        ),
        (
            "1000 MPLS labels",
            COMPLETE,
            |station| with_type(station, 0x8847, &[0, 1, 0, 64].repeat(1000)),
            drops(Giant, 1),
        ),
        (
            "1000 MPLS labels, to be cut",
            [1, 1, 0, 0, 100, 0, 0xc2, 0x0f, 16, 0, 0, 0],
            |station| {
                let labels = [0, 1, 0, 64].repeat(1000);
                with_type(station, 0x8847, &[labels, TCP4.bytes(&[], 6)].concat())
            },
            drops(OffloadInvalid, 1),
        ),
        (
            "150 extension headers",
            COMPLETE,
            |station| {
                let headers = extension_headers(150);
                with_type(station, 0x86dd, &TCP6.bytes(&headers, 60))
            },
            passes(),
        ),
        (
            "an extension header of 2 KiB, to be cut",
            CUT[1],
            |station| {
                let header = [&[6, 255][..], &[0; 2046]].concat();
                with_type(station, 0x86dd, &TCP6.bytes(&header, 60))
            },
            drops(OffloadInvalid, 1),
        ),
        (
            "extension headers that follow themselves, to be cut",
            CUT[1],
            |station| {
                let circle = [60, 0, 1, 4, 0, 0, 0, 0].repeat(10);
                with_type(station, 0x86dd, &TCP6.bytes(&circle, 60))
            },
            drops(OffloadInvalid, 1),
        ),
    ]);
}

/// Extension headers (destination options of 8 bytes) in front of TCP.
fn extension_headers(count: usize) -> Vec<u8> {
    let next = |index: usize| if index + 1 < count { 60 } else { 6 };
    (0..count).flat_map(|index| [next(index), 0, 1, 4, 0, 0, 0, 0]).collect()
}

/// What has to be cut in software, but has its headers beyond the first 128 bytes, is
/// counted where it was to go.
#[test]
fn cve_2016_2074_headers_too_deep_to_be_cut_are_counted_at_the_receiver() {
    let stage = Stage::start(2 * LAYOUTS.len(), 1);
    for (at, layout) in LAYOUTS.into_iter().enumerate() {
        let (from, to) = (2 * at, 2 * at + 1);
        let mut sender = stage.guest(from, layout);
        // It takes complete frames only.
        let _receiver: FrontEnd = stage.guest(to, Layout::SPLIT);
        let station = Station { own: super::stage::mac(from), peer: super::stage::mac(to) };
        let headers = extension_headers(100);
        let [low, high] = (54 + headers.len() as u16).to_le_bytes();
        let packet = Packet { payload_bytes: 1000, ..TCP6 };
        let frame = with_type(station, 0x86dd, &packet.bytes(&headers, 60));
        let net = [1, 4, 0, 0, 100, 0, low, high, 16, 0, 0, 0];
        assert_eq!(sender.send_by(0, net, &[&frame]), 1);
        stage.expect(from, layout.name, &passes());
        stage.expect(to, layout.name, &drops(OffloadHeaderTooDeep, 1));
    }
    stage.end();
}
