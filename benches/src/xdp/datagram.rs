//! What is sent: a UDP datagram over IPv4, from the first station to the second.

use super::wiring::STATIONS;

const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// The shortest frame that has all headers.
pub const BYTES_MIN: usize = ETHERNET_BYTES + IP_BYTES + UDP_BYTES;
/// The longest one of a netdev with an MTU of 1500.
pub const BYTES_MAX: usize = ETHERNET_BYTES + 1500;

/// A frame of `bytes` bytes without checksum sequence, from [`BYTES_MIN`] to [`BYTES_MAX`].
/// The datagram has no checksum, as UDP over IPv4 may.
#[must_use]
pub fn frame(bytes: usize) -> Vec<u8> {
    let [from, to] = STATIONS;
    let packet = (bytes - ETHERNET_BYTES) as u16;
    let datagram = packet - IP_BYTES as u16;
    let mut frame = [&to[..], &from, &[0x08, 0x00]].concat();
    frame.extend(ip_header(packet));
    // From and to the discard port (RFC 863).
    frame.extend([0, 9, 0, 9]);
    frame.extend(datagram.to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(bytes, 0x5a);
    frame
}

/// From 192.0.2.1 to 192.0.2.2, with its checksum.
fn ip_header(length: u16) -> [u8; IP_BYTES] {
    let [high, low] = length.to_be_bytes();
    let mut header = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let total: u32 = words.sum();
    let folded = (total & 0xffff) + (total >> 16);
    (folded & 0xffff) as u16 + (folded >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_and_their_sums_come_out() {
        for bytes in [BYTES_MIN, 64, 1500, BYTES_MAX] {
            let frame = frame(bytes);
            assert_eq!(frame.len(), bytes);
            assert_eq!(sum(&frame[14..34]), 0xffff, "{bytes}");
            let field = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            assert_eq!((field(16), field(38)), (bytes - 14, bytes - 34));
            assert_eq!((&frame[..6], &frame[6..12]), (&STATIONS[1][..], &STATIONS[0][..]));
        }
    }
}
