//! Who reaches whom.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{self, Family, Frame, Host, Recorder, send_frame, transfer};

/// All stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The EtherType for local experiments (IEEE 802, 9.2.4).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// How long after a frame another copy of it may come.
pub const MOMENT: Duration = Duration::from_millis(300);
/// Of what two hosts exchange by TCP.
const BYTES: u64 = 4 << 20;

/// Asserts that two hosts reach each other, each request answered once, and that what one sends
/// by TCP arrives as it was.
#[track_caller]
pub fn assert_reach(from: &Host, to: &Host) {
    bed::assert_reach(from, to);
    for family in Family::ALL {
        transfer(from, to, family, BYTES).unwrap();
    }
}

/// A frame that is told apart from all others by a word.
pub fn frame(destination: [u8; 6], source: [u8; 6], word: &str) -> Vec<u8> {
    let mut payload = [0; 46];
    payload[..word.len()].copy_from_slice(word.as_bytes());
    [&destination[..], &source, &EXPERIMENTAL, &payload].concat()
}

/// The same frame with a VLAN's tag.
pub fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vid.to_be_bytes(), &frame[12..]].concat()
}

/// How often each of the hosts receives a frame that one of them sends to all.
pub fn arrivals<const N: usize>(from: &Host, word: &str, hosts: [&Host; N]) -> [usize; N] {
    let recorders = hosts.map(|host| Recorder::start(host.namespace(), host.interface()).unwrap());
    let bytes = frame(BROADCAST, from.mac_bytes(), word);
    send_frame(from.namespace(), from.interface(), &bytes).unwrap();
    let arrived = |frame: &Frame| frame.direction == Direction::Incoming && frame.bytes == bytes;
    std::thread::sleep(MOMENT);
    recorders.map(|recorder| recorder.collect(Duration::from_millis(20), arrived).len())
}
