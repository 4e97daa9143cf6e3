//! The hash of a frame: 32 bits, in which every bit and its place count.
//!
//! Pairs of words are multiplied and the product's halves folded, the pairs apart from each other,
//! so that the multiplications overlap. It finds accidents: one altered frame in four thousand
//! million passes for whole. Whoever wants to deceive it can.

/// Bytes in front of the hash: IPv4 and UDP headers, number, time.
pub const HEAD_BYTES: usize = 38;

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

/// The hash of addresses, head, and what [`payload`] says of the rest.
#[must_use]
pub fn frame(addresses: &[u8; 12], head: &[u8; HEAD_BYTES], payload: u64) -> u32 {
    let [a, b] = [0, 4].map(|at| word(addresses, at));
    let [c, d, e, f, g] = [0, 8, 16, 24, 30].map(|at| word(head, at));
    let sum = fold(a ^ KEYS[0], b ^ KEYS[1])
        ^ fold(c ^ KEYS[2], d ^ KEYS[3])
        ^ fold(e ^ KEYS[4], f ^ KEYS[5])
        ^ fold(g ^ KEYS[6], payload ^ KEYS[7]);
    let end = fold(sum, KEYS[8]);
    (end ^ end >> 32) as u32
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
        let mut head = [0; HEAD_BYTES];
        for number in 0..100_000_u32 {
            head[28..32].copy_from_slice(&number.to_le_bytes());
            frames.push(frame(&[2; 12], &head, 7));
            payloads.insert(payload(&number.to_le_bytes()));
        }
        assert_eq!(payloads.len(), 100_000);
        frames.sort_unstable();
        frames.dedup();
        // Of so many chance makes one or two pairs among 32 bits.
        assert!(frames.len() > 99_990, "{}", frames.len());
    }
}
