//! Frames that no kernel sends by itself, to be followed through a switch.

use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{Frame, Host, Recorder, Result, send_frame};

/// All stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The EtherType for local experiments (IEEE 802, 9.2.4).
pub const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// How long after a frame another copy of it may come.
pub const MOMENT: Duration = Duration::from_millis(300);

/// A frame that is told apart from all others by a word.
pub fn frame(destination: [u8; 6], source: [u8; 6], word: &str) -> Vec<u8> {
    let mut payload = [0; 46];
    payload[..word.len()].copy_from_slice(word.as_bytes());
    [&destination[..], &source, &EXPERIMENTAL, &payload].concat()
}

/// Sends a frame from a host and counts which of the listeners receive it how often;
/// the sender's own sending is not counted.
pub fn arrivals(from: &Host, bytes: &[u8], listeners: &[&Host]) -> Result<Vec<usize>> {
    let recorders = listeners
        .iter()
        .map(|host| Recorder::start(host.namespace(), host.interface()))
        .collect::<Result<Vec<_>>>()?;
    send_frame(from.namespace(), from.interface(), bytes)?;
    let arrived = |frame: &Frame| frame.direction == Direction::Incoming && frame.bytes == bytes;
    std::thread::sleep(MOMENT);
    Ok(recorders.iter().map(|it| it.collect(Duration::from_millis(20), arrived).len()).collect())
}
