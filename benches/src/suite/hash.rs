//! The hash of a frame: 32 bits, in which every bit and its place count.
//!
//! Pairs of words are multiplied and the product's halves folded, the pairs apart from each other,
//! so that the multiplications overlap. It finds accidents: one altered frame in four thousand
//! million passes for whole. Whoever wants to deceive it can.

/// Bytes in front of number, time and hash: IPv4 and UDP headers.
pub const HEADERS_BYTES: usize = 28;
/// Bits of a number, and of a time.
const FIELD_BITS: u32 = 40;

/// Odd constants without a pattern: the fractions of square roots of primes.
const KEYS: [u64; 9] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
    0xcbbb_9d5d_c105_9ed9,
];

/// What of a frame's hash is the same for all that differ in nothing but number and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unstamped {
    /// Addresses, and the first words of the headers.
    sum: u64,
    /// The last whole word of the headers, and what follows it.
    word: u64,
    rest: u32,
    payload: u64,
}

impl Unstamped {
    /// That of addresses, headers, and what [`payload`] says of what is behind the hash.
    #[must_use]
    #[inline]
    pub fn of(addresses: &[u8; 12], headers: &[u8; HEADERS_BYTES], payload: u64) -> Unstamped {
        let [a, b] = [0, 4].map(|at| word(addresses, at));
        let [c, d, word] = [0, 8, 16].map(|at| word(headers, at));
        let [.., w, x, y, z] = *headers;
        let sum = fold(a ^ KEYS[0], b ^ KEYS[1]) ^ fold(c ^ KEYS[2], d ^ KEYS[3]);
        Unstamped { sum, word, rest: u32::from_le_bytes([w, x, y, z]), payload }
    }

    /// The hash with this number and time, of which the lower 40 bits count.
    #[must_use]
    #[inline]
    pub fn stamped(&self, number: u64, time: u64) -> u32 {
        let number = number & ((1 << FIELD_BITS) - 1);
        let front = u64::from(self.rest) | number << 32;
        let back = number >> 16 | time << (u64::BITS - FIELD_BITS);
        let sum = self.sum
            ^ fold(self.word ^ KEYS[4], front ^ KEYS[5])
            ^ fold(back ^ KEYS[6], self.payload ^ KEYS[7]);
        let end = fold(sum, KEYS[8]);
        (end ^ end >> 32) as u32
    }
}

/// What the rest of a frame comes to; the same for the same bytes.
#[must_use]
pub fn payload(bytes: &[u8]) -> u64 {
    let mut lanes = [KEYS[0], KEYS[1], KEYS[2], KEYS[3]];
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        for (lane, (at, key)) in lanes.iter_mut().zip([0, 16, 32, 48].into_iter().zip(KEYS)) {
            *lane = fold(*lane ^ word(block, at), word(block, at + 8) ^ key);
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    let mut sum = bytes.len() as u64 ^ KEYS[8];
    for bytes in words {
        sum = fold(sum ^ u64::from_le_bytes(*bytes), KEYS[4]);
    }
    let rest = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    sum = fold(sum ^ rest, KEYS[5]);
    if blocks.is_empty() {
        return sum;
    }
    fold(lanes[0] ^ sum, lanes[1]) ^ fold(lanes[2], lanes[3] ^ KEYS[6])
}

/// The eight bytes at a place.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let word: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(word)
}

/// The halves of a product, folded.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front_end::station::Noise;

    #[test]
    fn bytes_that_change_places_change_the_hash() {
        let mut noise = Noise::new(1);
        let bytes: Vec<u8> = (0..1472).map(|_| noise.next_word() as u8).collect();
        for length in [2, 9, 16, 63, 64, 65, 128, 1472] {
            let bytes = &bytes[..length];
            let sum = payload(bytes);
            for distance in [1, 8, 16, 64] {
                for at in 0..length.saturating_sub(distance) {
                    let mut other = bytes.to_vec();
                    other.swap(at, at + distance);
                    let same = other == bytes;
                    assert_eq!(payload(&other) == sum, same, "{length}: {at} and {distance} on");
                }
            }
        }
    }

    #[test]
    fn no_two_of_a_hundred_thousand_payloads_and_heads_have_one_hash_by_pattern() {
        let (mut payloads, mut frames) = (std::collections::BTreeSet::new(), Vec::new());
        let unstamped = Unstamped::of(&[2; 12], &[0; HEADERS_BYTES], 7);
        for number in 0..100_000_u32 {
            frames.push(unstamped.stamped(number.into(), 0));
            payloads.insert(payload(&number.to_le_bytes()));
        }
        assert_eq!(payloads.len(), 100_000);
        frames.sort_unstable();
        frames.dedup();
        // Of so many chance makes one or two pairs among 32 bits.
        assert!(frames.len() > 99_990, "{}", frames.len());
    }
}
