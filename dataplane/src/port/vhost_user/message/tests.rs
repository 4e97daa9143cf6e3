//! What bytes mean, and what they cannot mean.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use std::os::fd::OwnedFd;

use super::*;
use crate::port::vhost_user::ring::Service;

fn header(code: u32, flags: u32, size: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes.chunks_exact_mut(4).zip([code, flags, size]).for_each(|(to, word)| {
        to.copy_from_slice(&word.to_ne_bytes());
    });
    bytes
}

fn message(code: u32, words: &[u32], descriptors: Vec<OwnedFd>) -> Message {
    let payload = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let acknowledge = Acknowledge::Unasked;
    Message { code: Code(code), acknowledge, payload, descriptors, surplus: 0 }
}

fn parse(code: u32, words: &[u32], fds: usize) -> Result<Parsed, String> {
    let fds = (0..fds).map(|_| OwnedFd::from(std::io::pipe().unwrap().0)).collect();
    Request::parse(message(code, words, fds)).map_err(|error| error.to_string())
}

fn request(code: u32, words: &[u32], fds: usize) -> Request {
    parse(code, words, fds).unwrap().request
}

fn refused(code: u32, words: &[u32], fds: usize) -> String {
    parse(code, words, fds).unwrap_err()
}

#[test]
fn headers_say_which_request_and_how_long() {
    let plain = Header::parse(&header(8, 1, 4096)).unwrap();
    assert_eq!(plain.code.to_string(), "SET_VRING_NUM");
    assert_eq!((plain.acknowledge, plain.payload_bytes), (Acknowledge::Unasked, 4096));
    let asked = Header::parse(&header(8, 1 | 1 << 3 | 1 << 31, 0)).unwrap();
    assert_eq!(asked.acknowledge, Acknowledge::Asked);
}

#[test]
fn headers_of_something_else_are_refused() {
    let refused = |flags, size| Header::parse(&header(2, flags, size)).unwrap_err().to_string();
    let version = "protocol version 1 expected in bits 0 and 1";
    assert_eq!(refused(2, 0), format!("SET_FEATURES: flags 0x2: {version}"));
    assert_eq!(refused(5, 0), "SET_FEATURES: flags 0x5: a reply, where nothing was asked");
    let size = "a payload has at most 4096 bytes";
    assert_eq!(refused(1, 4097), format!("SET_FEATURES: size 4097: {size}"));
    assert_eq!(refused(1, u32::MAX), format!("SET_FEATURES: size 4294967295: {size}"));
}

#[test]
fn requests_have_names_and_some_have_replies() {
    let named = |code| Code(code).to_string();
    assert_eq!(named(1), "GET_FEATURES");
    assert_eq!(named(18), "SET_VRING_ENABLE");
    assert_eq!(named(20), "NET_SET_MTU");
    assert_eq!(named(34), "RESET_DEVICE");
    assert_eq!(named(38), "REM_MEM_REG");
    assert_eq!(named(44), "GET_SHMEM_CONFIG");
    assert_eq!([0, 45, u32::MAX].map(named), ["request 0", "request 45", "request 4294967295"]);
    let awaited: Vec<u32> = (0..50).filter(|code| Code(*code).awaits() == Awaits::Reply).collect();
    assert_eq!(awaited, [1, 6, 11, 15, 17, 24, 26, 28, 30, 31, 36, 40, 41, 42, 43, 44]);
}

#[test]
fn ring_messages_are_understood() {
    assert!(matches!(request(8, &[3, 256], 0), Request::SetVringNum { ring: 3, size: 256 }));
    assert!(matches!(request(10, &[3, 7], 0), Request::SetVringBase { ring: 3, base: 7 }));
    assert!(matches!(request(11, &[3, 7], 0), Request::GetVringBase { ring: 3 }));
    let enable = request(18, &[3, 1], 0);
    assert!(matches!(enable, Request::SetVringEnable { ring: 3, service: Service::Enabled }));
    let words = [3, 0, 0x10, 0, 0x20, 0, 0x30, 1, 0, 0];
    let Request::SetVringAddr { ring: 3, addresses } = request(9, &words, 0) else { panic!() };
    let (descriptors, device, driver) = (0x10, 0x20, 0x1_0000_0030);
    assert_eq!(addresses, Addresses { descriptors, device, driver });
}

#[test]
fn what_comes_with_an_eventfd_may_come_without() {
    for code in [12, 13, 14] {
        let with = parse(code, &[5, 0], 1).unwrap();
        assert_eq!(with.stray, 0);
        let (Request::SetVringKick { ring, fd }
        | Request::SetVringCall { ring, fd }
        | Request::SetVringErr { ring, fd }) = with.request
        else {
            panic!()
        };
        assert_eq!((ring, fd.is_some()), (5, true));
        // The bit says that none comes; the one that does is none of this request's.
        assert_eq!(parse(code, &[0x105, 0], 1).unwrap().stray, 1);
        assert_eq!(parse(code, &[5, 0], 8).unwrap().stray, 7);
    }
    assert_eq!(refused(12, &[5, 0], 0), "SET_VRING_KICK: 0 descriptors came with it: it needs 1");
    let bound = "a number of 8 bits, and bit 8 if no descriptor comes";
    assert_eq!(refused(12, &[0x200, 0], 1), format!("SET_VRING_KICK: ring 0x200: {bound}"));
    assert!(refused(13, &[0, 1], 1).contains("ring 0x100000000"));
}

#[test]
fn a_memory_table_has_as_many_descriptors_as_regions() {
    let mut words = vec![2, 0];
    words.extend((0..16).map(|n| n * 0x1000));
    let Request::SetMemTable(table) = request(5, &words, 2) else { panic!() };
    let wide = |low: u64, high: u64| low | high << 32;
    let second = table.last().unwrap().0;
    assert_eq!((second.guest, second.bytes), (wide(0x8000, 0x9000), wide(0xa000, 0xb000)));
    assert_eq!((second.user, second.offset), (wide(0xc000, 0xd000), wide(0xe000, 0xf000)));
    for fds in [0, 1, 3, 8] {
        let error = format!("SET_MEM_TABLE: {fds} descriptors came with it: it needs 2");
        assert_eq!(refused(5, &words, fds), error);
    }
    words[0] = 3;
    assert_eq!(refused(5, &words, 3), "SET_MEM_TABLE: size 72: its payload has 104 bytes");
    words[0] = 9;
    assert_eq!(refused(5, &words, 8), "SET_MEM_TABLE: number of regions 0x9: at most 8");
    words[0] = u32::MAX;
    assert!(refused(5, &words, 8).contains("number of regions 0xffffffff"));
    assert!(matches!(request(5, &[0, 0], 0), Request::SetMemTable(table) if table.is_empty()));
}

#[test]
fn single_regions_are_understood() {
    let words = [0, 0, 1, 0, 2, 0, 3, 0, 4, 0];
    let expected = RegionSpec { guest: 1, bytes: 2, user: 3, offset: 4 };
    assert!(matches!(request(37, &words, 1), Request::AddMemReg(spec, _) if spec == expected));
    assert!(refused(37, &words, 0).contains("it needs 1"));
    for (fds, stray) in [(0, 0), (1, 0), (2, 1)] {
        let parsed = parse(38, &words, fds).unwrap();
        assert_eq!(parsed.stray, stray);
        assert!(matches!(parsed.request, Request::RemMemReg(spec) if spec == expected));
    }
}

#[test]
fn payloads_of_another_size_are_refused_for_every_request() {
    for code in 1..=44 {
        let sizes: Vec<usize> =
            (0..80).filter(|words| parse(code, &vec![0; *words], 1).is_ok()).collect();
        let expected: &[usize] = match code {
            1 | 3 | 4 | 15 | 17 | 34 | 36 => &[0],
            2 | 8 | 10 | 11 | 12 | 13 | 14 | 16 | 18 | 19 | 20 => &[2],
            9 | 37 | 38 => &[10],
            5 => &[],
            _ => continue,
        };
        assert_eq!(sizes, expected, "{}", Code(code));
    }
}

#[test]
fn what_a_request_cannot_carry_is_stray() {
    assert_eq!(parse(1, &[], 8).unwrap().stray, 8);
    assert_eq!(parse(99, &[1, 2, 3], 2).unwrap().stray, 2);
    let full = Message { surplus: 245, ..message(1, &[], Vec::new()) };
    assert_eq!(Request::parse(full).unwrap().stray, 245);
}

#[test]
fn replies_are_as_others_expect_them() {
    let code = Code(11);
    let encoded = Reply { code, body: Body::Base { ring: 1, base: 0x8002_8003 } }.encode();
    let (head, payload) = encoded.split_at(HEADER_BYTES);
    assert_eq!(head, header(11, 0b101, 8));
    assert_eq!(payload, 0x8002_8003_0000_0001_u64.to_le_bytes());
    let encoded = Reply { code, body: Body::Value(7) }.encode();
    assert_eq!(encoded[HEADER_BYTES..], 7_u64.to_ne_bytes());
}
