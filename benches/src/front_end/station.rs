//! Frames that bear a number, and a sum by which one that was altered is known.

use hairpin_dataplane::wire::Mac;

/// Bytes in front of the payload: addresses, EtherType, number, sum.
pub const HEAD_BYTES: usize = 14 + 8 + 8;
/// The EtherType for experiments (IEEE 802), here too.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// One end of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its own address.
    pub own: Mac,
    /// That of the other end.
    pub peer: Mac,
}

/// What a frame that was received is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The peer's frame of this number, unaltered.
    Number(u64),
    /// The peer's frame, but not as it was sent.
    Altered,
    /// Somebody else's.
    Foreign,
}

impl Station {
    /// The same from the other end.
    #[must_use]
    pub fn turned(self) -> Station {
        Station { own: self.peer, peer: self.own }
    }

    /// The frame of this number for the peer, `bytes` bytes long ([`HEAD_BYTES`] at least).
    #[must_use]
    pub fn frame(&self, number: u64, bytes: usize) -> Vec<u8> {
        let mut frame = Vec::with_capacity(bytes.max(HEAD_BYTES));
        frame.extend(self.peer.octets());
        frame.extend(self.own.octets());
        frame.extend(ETHER_TYPE);
        frame.extend(number.to_le_bytes());
        frame.extend([0; 8]);
        let mut noise = Noise::new(number);
        while frame.len() < bytes {
            let word = noise.next_word().to_le_bytes();
            frame.extend(&word[..word.len().min(bytes - frame.len())]);
        }
        let sum = sum(&frame);
        frame[22..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        frame
    }

    /// What a received frame is.
    #[must_use]
    pub fn hear(&self, frame: &[u8]) -> Heard {
        let addresses = [self.own.octets(), self.peer.octets()].concat();
        if !frame.starts_with(&addresses) {
            return Heard::Foreign;
        }
        let word = |at: usize| {
            frame.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes)
        };
        match (word(14), word(22)) {
            (Some(number), Some(found)) if found == sum(frame) => Heard::Number(number),
            _ => Heard::Altered,
        }
    }
}

/// A sum of all bytes of a frame but its own, in which place and order count (FNV-1a).
fn sum(frame: &[u8]) -> u64 {
    let summed = frame.iter().enumerate().filter(|(at, _)| !(22..HEAD_BYTES).contains(at));
    summed.fold(0xcbf2_9ce4_8422_2325, |sum: u64, (_, byte)| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Those of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// The next one.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next one below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_word() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_number_and_no_altered_one_is() {
        let here = Station { own: Mac::new([2; 6]), peer: Mac::new([4; 6]) };
        for bytes in [0, HEAD_BYTES, 60, 61, 1514] {
            let frame = here.frame(7, bytes);
            assert_eq!(frame.len(), bytes.max(HEAD_BYTES));
            assert_eq!(here.turned().hear(&frame), Heard::Number(7));
            assert_eq!(here.hear(&frame), Heard::Foreign);
            for at in 12..frame.len() {
                let mut altered = frame.clone();
                altered[at] ^= 1;
                assert_eq!(here.turned().hear(&altered), Heard::Altered, "byte {at}");
            }
            assert_eq!(here.turned().hear(&frame[..29]), Heard::Altered);
        }
    }
}
