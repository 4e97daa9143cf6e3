//! The Internet checksum: the ones' complement sum of 16-bit words (RFC 1071).
//!
//! A [`Sum`] grows piece by piece, pieces of odd length included, so that bytes
//! can be summed as they are copied, wherever a frame's pieces happen to end.

/// Bytes added in one turn of the inner loop: four sums of eight, so that their
/// carries do not wait for each other.
const LANES_BYTES: usize = 32;

/// The ones' complement sum of some bytes, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Congruent modulo 2^16 - 1 to the sum of the words as this machine reads
    /// them; zero only if all of them were (RFC 1071, 2(B): the byte order can
    /// be mended once, at the end).
    total: u64,
    /// How many bytes there were; the next one is a word's second if it is odd.
    bytes: usize,
}

impl Sum {
    /// The sum of no bytes.
    pub const ZERO: Sum = Sum { total: 0, bytes: 0 };

    /// The sum of these bytes.
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Sum {
        Sum { total: total(bytes), bytes: bytes.len() }
    }

    /// Adds the bytes that follow.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        self.append(Sum::of(bytes));
    }

    /// Adds the sum of the bytes that follow.
    #[inline]
    pub fn append(&mut self, next: Sum) {
        // A word that starts at an odd place has its bytes exchanged in the sum.
        let aligned =
            if self.bytes & 1 == 0 { next.total } else { u64::from(fold(next.total).swap_bytes()) };
        self.total = add(self.total, aligned);
        self.bytes += next.bytes;
    }

    /// Adds a 16-bit field that follows; the bytes so far must be whole words.
    #[inline]
    pub fn add_word(&mut self, word: u16) {
        self.add(&word.to_be_bytes());
    }

    /// The number of bytes summed.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// The sum as a 16-bit word, 0 only if all bytes were 0.
    #[inline]
    #[must_use]
    pub fn word(self) -> u16 {
        u16::from_be(fold(self.total))
    }

    /// What goes into a checksum field: the complement of [`Sum::word`].
    #[inline]
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.word()
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sum({:#06x} of {} bytes)", self.word(), self.bytes)
    }
}

/// The sum of the pseudo-header in front of TCP and UDP over IPv4 (RFC 9293 3.1);
/// `length` is that of the transport header and what follows, in bytes.
#[must_use]
pub fn pseudo_ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> Sum {
    let mut sum = Sum::of(&source);
    sum.add(&destination);
    sum.add_word(u16::from(protocol));
    sum.add_word(length);
    sum
}

/// The sum of the pseudo-header over IPv6 (RFC 8200 8.1); `length` as for IPv4.
#[must_use]
pub fn pseudo_ipv6(source: [u8; 16], destination: [u8; 16], protocol: u8, length: u32) -> Sum {
    let mut sum = Sum::of(&source);
    sum.add(&destination);
    sum.add(&length.to_be_bytes());
    sum.add_word(u16::from(protocol));
    sum
}

/// The sum word after a 16-bit part of what it sums changed (RFC 1624): `word`
/// less `old` plus `new`, in ones' complement.
#[inline]
#[must_use]
pub fn replaced(word: u16, old: u16, new: u16) -> u16 {
    fold(u64::from(word) + u64::from(!old) + u64::from(new))
}

/// How a checksum of zero is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// As it is.
    Plain,
    /// As 0xffff, its other form: in UDP, zero says that there is no checksum.
    Mangled,
}

/// Completes the checksum of a frame of which `header` are the first bytes and
/// `rest` is the sum of all others: the sum from `start` on, in which the field
/// at `start + offset` counts with the pseudo-header's sum that lies there, goes
/// into that field. Nothing is written, and nothing returned, if the field is
/// not in the header.
#[must_use]
pub fn complete(
    header: &mut [u8],
    start: usize,
    offset: usize,
    rest: Sum,
    zero: Zero,
) -> Option<()> {
    let summed = header.get_mut(start..)?;
    let mut sum = Sum::of(summed);
    sum.append(rest);
    let checksum = match (sum.checksum(), zero) {
        (0, Zero::Mangled) => 0xffff,
        (checksum, _) => checksum,
    };
    *summed.get_mut(offset..)?.first_chunk_mut()? = checksum.to_be_bytes();
    Some(())
}

/// The sum of the words of `bytes` as this machine reads them, an odd last byte
/// with a zero behind it.
#[inline]
fn total(bytes: &[u8]) -> u64 {
    let (turns, rest) = bytes.as_chunks::<LANES_BYTES>();
    let mut lanes = [0_u64; 4];
    for turn in turns {
        let (words, _) = turn.as_chunks::<8>();
        for (lane, &word) in lanes.iter_mut().zip(words) {
            *lane = add(*lane, u64::from_ne_bytes(word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    let sum = words.iter().fold(0, |sum, &word| add(sum, u64::from_ne_bytes(word)));
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    lanes.into_iter().fold(add(sum, u64::from_ne_bytes(last)), add)
}

/// Addition with the carry brought round to the low end; zero only of zeros.
#[inline]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// Sixteen bits of the same remainder modulo 2^16 - 1; zero only of zero.
#[inline]
fn fold(total: u64) -> u16 {
    let once = (total >> 32) + (total & 0xffff_ffff);
    let twice = (once >> 16) + (once & 0xffff);
    let thrice = (twice >> 16) + (twice & 0xffff);
    ((thrice >> 16) + (thrice & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
    use proptest::prelude::*;

    /// RFC 1071 as it reads: word by word, carries at the end.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.word(), sum.checksum()), (0xddf2, 0x220d));
        assert_eq!(Sum::ZERO.checksum(), 0xffff);
    }

    #[test]
    fn sums_of_all_ones_do_not_overflow() {
        for length in [1, 2, 31, 32, 33, 65_535, 65_536] {
            let bytes = vec![0xff; length];
            assert_eq!(Sum::of(&bytes).word(), naive(&bytes), "{length}");
        }
    }

    #[test]
    fn a_zero_is_written_in_the_form_asked_for() {
        let mut header = [0xff, 0xff, 0, 0];
        complete(&mut header, 0, 2, Sum::ZERO, Zero::Plain).unwrap();
        assert_eq!(header, [0xff, 0xff, 0, 0]);
        complete(&mut header, 0, 2, Sum::ZERO, Zero::Mangled).unwrap();
        assert_eq!(header, [0xff, 0xff, 0xff, 0xff]);
        assert_eq!(complete(&mut header, 0, 3, Sum::ZERO, Zero::Plain), None);
        assert_eq!(complete(&mut header, 5, 0, Sum::ZERO, Zero::Plain), None);
        assert_eq!(header, [0xff, 0xff, 0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn any_bytes_sum_as_rfc_1071_reads(
            bytes in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            prop_assert_eq!(Sum::of(&bytes).word(), naive(&bytes));
        }

        #[test]
        fn pieces_sum_as_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..9)
        ) {
            let mut sum = Sum::ZERO;
            pieces.iter().for_each(|piece| sum.add(piece));
            let whole = pieces.concat();
            prop_assert_eq!(sum.word(), naive(&whole));
            prop_assert_eq!(sum.bytes(), whole.len());
        }

        #[test]
        fn a_replaced_word_is_as_if_summed_anew(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..40), new: u16
        ) {
            // Another word that is not zero keeps the sum from being both zeros.
            bytes[2] |= 1;
            let old = u16::from_be_bytes([bytes[0], bytes[1]]);
            let before = naive(&bytes);
            bytes[..2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(replaced(before, old, new) % 0xffff, naive(&bytes) % 0xffff);
        }

        #[test]
        fn ipv4_checksums_agree_with_etherparse(
            source: [u8; 4], destination: [u8; 4], ports: (u16, u16), sequence: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let protocol = etherparse::IpNumber::TCP;
            let ip = Ipv4Header::new(0, 64, protocol, source, destination).unwrap();
            let tcp = TcpHeader::new(ports.0, ports.1, sequence, 1024);
            let theirs = tcp.calc_checksum_ipv4(&ip, &payload).unwrap();
            let length = 20 + payload.len() as u16;
            let mut sum = pseudo_ipv4(source, destination, 6, length);
            sum.add(&tcp.to_bytes());
            sum.add(&payload);
            prop_assert_eq!(sum.checksum(), theirs);
        }

        #[test]
        fn ipv6_checksums_agree_with_etherparse(
            source: [u8; 16], destination: [u8; 16], ports: (u16, u16),
            payload in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let ip = Ipv6Header { source, destination, ..Ipv6Header::default() };
            let udp = UdpHeader::without_ipv4_checksum(ports.0, ports.1, payload.len()).unwrap();
            let theirs = udp.calc_checksum_ipv6(&ip, &payload).unwrap();
            let mut frame = udp.to_bytes().to_vec();
            let pseudo = pseudo_ipv6(source, destination, 17, 8 + payload.len() as u32).word();
            frame[6..8].copy_from_slice(&pseudo.to_be_bytes());
            complete(&mut frame, 0, 6, Sum::of(&payload), Zero::Mangled).unwrap();
            prop_assert_eq!(&frame[6..8], &theirs.to_be_bytes());
        }
    }
}
