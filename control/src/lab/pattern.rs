//! What the lab sends over TCP: a pattern by which the receiver knows every byte.

use std::sync::LazyLock;

/// Bytes until it begins anew: a prime, so that no two segments or pages look alike.
const PERIOD: usize = 65_521;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // Marsaglia, xorshift RNGs, 2003: the next of 32 bits.
    let mut state = 0x4850_4850_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..PERIOD).map(|_| next()).collect()
});

/// The pattern, from where it was left.
#[derive(Clone, Default, Debug)]
pub(super) struct Pattern {
    at: usize,
}

impl Pattern {
    /// Writes what comes next.
    pub fn fill(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let piece = self.take(buffer.len());
            let (now, later) = buffer.split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buffer = later;
        }
    }

    /// How many of these bytes are not what comes next.
    pub fn differences(&mut self, mut bytes: &[u8]) -> u64 {
        let mut differences = 0;
        while !bytes.is_empty() {
            let piece = self.take(bytes.len());
            let (now, later) = bytes.split_at(piece.len());
            if now != piece {
                differences += now.iter().zip(piece).filter(|(is, ought)| is != ought).count();
            }
            bytes = later;
        }
        differences as u64
    }

    /// What comes next, `most` bytes of it or fewer.
    fn take(&mut self, most: usize) -> &'static [u8] {
        let bytes = &BYTES[self.at..];
        let piece = &bytes[..most.min(bytes.len())];
        self.at = (self.at + piece.len()) % PERIOD;
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some bytes of the pattern, past its end.
    fn sent() -> Vec<u8> {
        let mut bytes = vec![0; PERIOD + 9000];
        Pattern::default().fill(&mut bytes);
        bytes
    }

    fn differences(bytes: &[u8]) -> u64 {
        let mut pattern = Pattern::default();
        // In pieces other than those it was written in.
        bytes.chunks(1460).map(|piece| pattern.differences(piece)).sum()
    }

    #[test]
    fn what_was_sent_is_recognised() {
        assert_eq!(differences(&sent()), 0);
    }

    #[test]
    fn what_was_changed_moved_or_left_out_is_not() {
        let mut changed = sent();
        changed[PERIOD + 7] ^= 1;
        assert_eq!(differences(&changed), 1);
        let mut exchanged = sent();
        let (one, two) = exchanged.split_at_mut(1460);
        one.swap_with_slice(&mut two[..1460]);
        assert!(differences(&exchanged) > 1000);
        let mut without = sent();
        without.drain(4096..8192);
        assert!(differences(&without) > 1000);
    }
}
