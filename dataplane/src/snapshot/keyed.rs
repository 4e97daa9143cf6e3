//! The keyed hash of addresses: guests choose MACs, so they must not be able to
//! choose where these fall in a table.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Two random words that nobody outside knows.
#[derive(Clone, Copy)]
pub struct Secret([u64; 2]);

impl Secret {
    /// The secret of these words, for what has to be repeated exactly.
    #[must_use]
    pub const fn new(words: [u64; 2]) -> Secret {
        Secret(words)
    }

    /// A secret from the operating system's randomness.
    #[must_use]
    pub fn random() -> Secret {
        Secret(std::array::from_fn(|_| RandomState::new().build_hasher().finish()))
    }

    /// The hash of two words.
    ///
    /// The first round folds a 128-bit product with secret factors. Where a factor
    /// happens to be near a small fraction of 2^64, consecutive words, as MACs of one
    /// site are, would still come out side by side; the second round, by a factor
    /// that has no such neighbours, parts them.
    #[inline]
    #[must_use]
    pub const fn hash(&self, first: u64, second: u64) -> u64 {
        fold(fold(first ^ self.0[0], second ^ self.0[1]) ^ self.0[0], GOLDEN)
    }
}

/// 2^64 divided by the golden ratio: of all numbers the furthest from fractions.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Both halves of a product, folded into one.
#[inline]
const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    product as u64 ^ (product >> 64) as u64
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Consecutive addresses in a table a quarter full, by secrets of which many have
    /// a factor close to a fraction of 2^64: no line may get a crowd.
    #[test]
    fn consecutive_addresses_part_under_any_factor() {
        const LINES: usize = 256;
        let fractions = (1..=16_u64).flat_map(|below| (0..below).map(move |above| (above, below)));
        for (above, below) in fractions {
            let factor = (u64::MAX / below).wrapping_mul(above).wrapping_add(12_345);
            let secret = Secret::new([0x2545_f491_4f6c_dd1d, factor]);
            let (mut high, mut low) = ([0_u32; LINES], [0_u32; LINES]);
            for address in 0..64_u64 {
                let hash = secret.hash(0x5254_0000_0000 + address, 0);
                high[(hash >> 56) as usize] += 1;
                low[hash as usize % LINES] += 1;
            }
            let crowd = high.iter().chain(&low).max();
            assert!(crowd <= Some(&5), "{crowd:?} in a line by {above}/{below}");
        }
    }
}
