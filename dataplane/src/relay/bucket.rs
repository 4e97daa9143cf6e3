//! A token bucket: so many a second, a second's worth at once.

/// A bucket's state; a worker has one per limited port. Rates are frames per
/// second, times milliseconds of the breath.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TokenBucket {
    /// The rate it was last asked with; another rate starts with a full bucket.
    rate: u32,
    /// Thousandths of tokens that are missing to a full bucket.
    missing: u64,
    /// When this was so.
    as_of_ms: u64,
}

/// A bucket had no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Empty;

/// Thousandths in a token.
const TOKEN: u64 = 1000;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn full() -> TokenBucket {
        TokenBucket { rate: 0, missing: 0, as_of_ms: 0 }
    }

    /// Takes a token, after what came in since the last call: `rate` a second, up to
    /// one second's worth. A rate other than the last call's fills the bucket.
    ///
    /// # Errors
    /// [`Empty`] if there is none; the bucket stays as it was.
    #[inline]
    pub fn take(&mut self, rate: u32, now_ms: u64) -> Result<(), Empty> {
        if rate != self.rate {
            *self = TokenBucket { rate, missing: 0, as_of_ms: now_ms };
        }
        let size = u64::from(rate) * TOKEN;
        let gained = u64::from(rate).saturating_mul(now_ms.saturating_sub(self.as_of_ms));
        self.missing = self.missing.saturating_sub(gained);
        self.as_of_ms = now_ms;
        if self.missing + TOKEN > size {
            return Err(Empty);
        }
        self.missing += TOKEN;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, rate: u32, now_ms: u64, tries: u32) -> usize {
        (0..tries).filter(|_| bucket.take(rate, now_ms).is_ok()).count()
    }

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let mut bucket = TokenBucket::full();
        assert_eq!(taken(&mut bucket, 10, 0, 100), 10);
        assert_eq!(taken(&mut bucket, 10, 99, 100), 0);
        assert_eq!(taken(&mut bucket, 10, 100, 100), 1);
        assert_eq!(taken(&mut bucket, 10, 1_000_000, 100), 10, "no more than a second's worth");
        assert_eq!(taken(&mut TokenBucket::full(), 0, 5, 10), 0, "rate 0 is none");
    }

    #[test]
    fn another_rate_holds_at_once_and_starts_full() {
        let mut bucket = TokenBucket::full();
        assert_eq!(taken(&mut bucket, 1000, 0, 400), 400);
        assert_eq!(taken(&mut bucket, 100, 0, 400), 100);
    }
}
