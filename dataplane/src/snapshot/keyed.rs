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

    /// The hash of two words: both halves of one 128-bit product, folded.
    #[inline]
    #[must_use]
    pub const fn hash(&self, first: u64, second: u64) -> u64 {
        let product = (first ^ self.0[0]) as u128 * (second ^ self.0[1]) as u128;
        product as u64 ^ (product >> 64) as u64
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
