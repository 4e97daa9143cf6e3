//! Whose turn it is: calls are worked on by threads of their own, so that one that opens devices
//! or writes a revision holds up no connection and no stream; and users who may only read have a
//! share of the host's time each, so that however often they ask, the others are served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tonic::Status;

use super::peer::{Caller, Right};

/// Calls of those who may write that are worked on at a time.
const WRITERS: usize = 4;
/// Calls of all others, likewise.
const READERS: usize = 2;
/// What a call counts for at least: taking it in and answering it costs, too.
const CALL: Duration = Duration::from_millis(1);
/// What a user who may only read has to let pass for what a call counted: they get one part in
/// so many of one CPU's time, and 200 calls a second.
const PARTS: u32 = 5;
/// What somebody may have who asked for nothing for a while, before they wait.
const CREDIT: Duration = Duration::from_millis(250);
/// How long a call waits at most: what would have to wait longer is refused.
const WAIT: Duration = Duration::from_secs(1);

/// The threads of calls, and who may have one when.
#[derive(Clone, Debug)]
pub struct Turns {
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    paces: Arc<Mutex<Paces>>,
}

/// From when on users who may only read are served again.
#[derive(Debug, Default)]
struct Paces(BTreeMap<Option<u32>, Instant>);

impl Paces {
    /// How long a user's next call has to wait; nothing if it is too long.
    fn next(&mut self, user: Option<u32>, now: Instant) -> Option<Duration> {
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.0.retain(|_, from| *from > earliest);
        let from = self.0.entry(user).or_insert(earliest);
        let wait = from.saturating_duration_since(now);
        if wait > WAIT {
            return None;
        }
        *from += CALL * PARTS;
        Some(wait)
    }

    /// Counts what a call took.
    fn charge(&mut self, user: Option<u32>, took: Duration) {
        if let Some(from) = self.0.get_mut(&user) {
            *from += took.saturating_sub(CALL) * PARTS;
        }
    }
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            writers: Arc::new(Semaphore::new(WRITERS)),
            readers: Arc::new(Semaphore::new(READERS)),
            paces: Arc::default(),
        }
    }
}

impl Turns {
    /// What some work gives, once it is the caller's turn. It goes on when nobody waits for it
    /// any more.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the caller asks too often, UNAVAILABLE while the switch ends,
    /// INTERNAL if the work panicked; and the work's own.
    pub async fn work<T: Send + 'static>(
        &self,
        caller: Caller,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let seats = match caller.right {
            Right::Write => &self.writers,
            Right::Read | Right::Nothing => {
                self.rest(caller.user).await?;
                &self.readers
            }
        };
        let ending = || Status::unavailable("the switch is ending");
        let seat = Arc::clone(seats).acquire_owned().await.map_err(|_| ending())?;
        let paces = Arc::clone(&self.paces);
        let answer = tokio::task::spawn_blocking(move || {
            let since = Instant::now();
            let answer = work();
            let mut paces = paces.lock().unwrap_or_else(PoisonError::into_inner);
            paces.charge(caller.user, since.elapsed());
            drop(seat);
            answer
        });
        answer.await.map_err(|error| {
            let said = "answering failed: report this with the daemon's log";
            if error.is_panic() { Status::internal(said) } else { ending() }
        })?
    }

    /// Waits until a user who may only read is to be served.
    async fn rest(&self, user: Option<u32>) -> Result<(), Status> {
        let next = {
            let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
            paces.next(user, Instant::now())
        };
        let wait = next.ok_or_else(|| {
            let said = "this user asks more often than the switch answers users who may only \
                        read: ask less often, or let Watch or WatchStats tell";
            Status::resource_exhausted(said)
        })?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of a user within a second that takes each as soon as it may, of so long each.
    fn calls(took: Duration) -> u32 {
        let (mut paces, start) = (Paces::default(), Instant::now());
        let (mut now, mut calls) = (start, 0);
        while now.saturating_duration_since(start) < Duration::from_secs(1) {
            now += paces.next(Some(1000), now).expect("it waits in its turn") + took;
            paces.charge(Some(1000), took);
            calls += 1;
        }
        calls
    }

    #[test]
    fn users_have_a_part_of_the_time_whatever_they_ask_for() {
        // 200 a second, or a fifth of the time, and the credit of a quarter of a second.
        let short = calls(Duration::from_micros(10));
        assert!((240..=260).contains(&short), "{short}");
        let long = calls(Duration::from_millis(20));
        assert!((12..=14).contains(&long), "{long}");
    }

    #[test]
    fn who_asks_for_far_too_much_at_once_is_refused_and_others_are_not() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        let taken = std::iter::from_fn(|| paces.next(Some(1000), now)).count();
        assert!((250..=252).contains(&taken), "{taken}");
        assert_eq!(paces.next(Some(1001), now), Some(Duration::ZERO));
        let later = now + WAIT + CREDIT + CALL * PARTS;
        assert_eq!(paces.next(Some(1000), later), Some(Duration::ZERO));
        assert_eq!(paces.0.len(), 1, "what is over is forgotten");
    }
}
