//! How bytes become decisions: they are taken from the front, and zeros follow the last one.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of an input.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// The next bytes, `count` at most.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        first
    }

    /// Little-endian words.
    fn word<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// The next 2 bytes, little-endian.
    pub fn word16(&mut self) -> u16 {
        u16::from_le_bytes(self.word())
    }

    /// The next 4 bytes, likewise.
    pub fn word32(&mut self) -> u32 {
        u32::from_le_bytes(self.word())
    }

    /// The next 8 bytes, likewise.
    pub fn word64(&mut self) -> u64 {
        u64::from_le_bytes(self.word())
    }

    /// A number below `bound`, of one byte; 0 if there is none below it.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()).checked_rem(bound).unwrap_or(0)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of these values or, by a byte of 128 on, any: the next 8 bytes.
    pub fn value(&mut self, likely: &[u64]) -> u64 {
        match self.byte() {
            byte @ ..128 if !likely.is_empty() => likely[usize::from(byte) % likely.len()],
            _ => self.word64(),
        }
    }
}
