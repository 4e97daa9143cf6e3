//! Token buckets: so many frames a second, a second's worth at once. Workers share
//! them, as a member of a bridge may have receive queues on several.

use crate::snapshot::{PORTS_MAX, PortId};
use crate::sys::sync::{AtomicU64, Ordering};

/// A bucket's state. Instead of tokens it holds when it will be full again, in
/// [`MOMENTS_PER_MS`]: a token is the time that it takes to come in. So it is one word,
/// and needs no other when its rate changes: the share that is left stays the same.
#[derive(Debug)]
pub struct TokenBucket(AtomicU64);

/// A bucket had no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Empty;

/// Sixteenths of a nanosecond: fine enough for any rate, and 36 years in a word.
const MOMENTS_PER_MS: u64 = 16_000_000;
const MOMENTS_PER_S: u64 = 1000 * MOMENTS_PER_MS;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full() -> TokenBucket {
        TokenBucket(AtomicU64::new(0))
    }

    /// Takes a token, after what came in since the last call: `rate` a second, up to
    /// one second's worth. Any number of workers together get no more.
    ///
    /// # Errors
    /// [`Empty`] if there is none; the bucket stays as it was.
    pub fn take(&self, rate: u32, now_ms: u64) -> Result<(), Empty> {
        let token = MOMENTS_PER_S.checked_div(u64::from(rate)).ok_or(Empty)?;
        let now = now_ms * MOMENTS_PER_MS;
        let taken = |full_at: u64| {
            let later = full_at.max(now) + token;
            (later - now <= MOMENTS_PER_S).then_some(later)
        };
        let update = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        update.map(drop).map_err(|_| Empty)
    }
}

/// The buckets of all bridge channels for the group frames they get back.
#[derive(Debug)]
pub struct Reflections(Box<[TokenBucket]>);

impl Reflections {
    /// Full buckets; allocates once, here.
    #[must_use]
    pub fn new() -> Reflections {
        Reflections((0..PORTS_MAX).map(|_| TokenBucket::full()).collect())
    }

    /// The bucket of a bridge channel's relay port, if the id is one.
    #[must_use]
    pub fn of(&self, port: PortId) -> Option<&TokenBucket> {
        self.0.get(usize::from(port.0))
    }
}

impl Default for Reflections {
    fn default() -> Reflections {
        Reflections::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn taken(bucket: &TokenBucket, rate: u32, now_ms: u64, tries: u32) -> usize {
        (0..tries).filter(|_| bucket.take(rate, now_ms).is_ok()).count()
    }

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let bucket = TokenBucket::full();
        assert_eq!(taken(&bucket, 10, 0, 100), 10);
        assert_eq!(taken(&bucket, 10, 99, 100), 0);
        assert_eq!(taken(&bucket, 10, 100, 100), 1);
        assert_eq!(taken(&bucket, 10, 1_000_000, 100), 10, "no more than a second's worth");
        assert_eq!(taken(&TokenBucket::full(), 0, 5, 10), 0, "rate 0 is none");
    }

    #[test]
    fn a_rate_that_divides_nothing_is_kept_over_a_day() {
        let bucket = TokenBucket::full();
        let day_ms = 86_400_000;
        let all: usize = (0..=day_ms).step_by(500).map(|ms| taken(&bucket, 7, ms, 20)).sum();
        assert_eq!(all as u64, 7 + 7 * day_ms / 1000);
    }

    #[test]
    fn another_rate_holds_at_once_for_the_share_that_is_left() {
        let bucket = TokenBucket::full();
        assert_eq!(taken(&bucket, 1000, 0, 400), 400);
        assert_eq!(taken(&bucket, 100, 0, 400), 60);
        assert_eq!(taken(&bucket, 1000, 100, 400), 100);
    }

    #[test]
    fn several_threads_have_one_second_s_worth_together() {
        let bucket = TokenBucket::full();
        let both: usize = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| taken(&bucket, 10_000, 0, 9_000)));
            threads.map(|thread| thread.join().expect("it counts")).iter().sum()
        });
        assert_eq!(both, 10_000);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn workers_share_a_second_s_worth() {
        loom::model(|| {
            let bucket = Arc::new(TokenBucket::full());
            let other = Arc::clone(&bucket);
            let take_two =
                |bucket: &TokenBucket| (0..2).filter(|_| bucket.take(3, 0).is_ok()).count();
            let thread = loom::thread::spawn(move || take_two(&other));
            let both = take_two(&bucket) + thread.join().expect("the thread ends");
            assert_eq!(both, 3);
        });
    }
}
