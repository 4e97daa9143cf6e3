//! Streams: events, and counters again and again. Their number is bounded, and each goes at
//! the pace of its reader: one that does not read costs itself.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hairpin_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::peer::{Caller, Right};
use super::turns::Turns;
use crate::switch::Switch;
use crate::switch::events::{Event, Events, Kind};

/// Streams that may be open at a time, over all connections.
pub const STREAMS_MAX: usize = 64;
/// Of these, kept free of users who may only read: they cannot lock out the others.
const RESERVED: usize = 16;
/// Events taken at a time.
const BATCH: usize = 64;
/// Objects that one may name.
const OBJECTS_MAX: usize = 1024;

/// Responses as they come.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Seats of streams.
#[derive(Clone, Debug)]
pub struct Seats {
    all: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

/// The right to have a stream open, until dropped.
#[derive(Debug)]
pub struct Seat {
    _of_all: OwnedSemaphorePermit,
    _of_readers: Option<OwnedSemaphorePermit>,
}

impl Default for Seats {
    fn default() -> Seats {
        Seats {
            all: Arc::new(Semaphore::new(STREAMS_MAX)),
            readers: Arc::new(Semaphore::new(STREAMS_MAX - RESERVED)),
        }
    }
}

impl Seats {
    /// A seat for whoever may do this.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if there is none.
    pub fn take(&self, right: Right) -> Result<Seat, Status> {
        let free = |seats: &Arc<Semaphore>| {
            Arc::clone(seats).try_acquire_owned().map_err(|_| {
                let said = "as many streams are open as may be: close others".to_owned();
                Status::resource_exhausted(said)
            })
        };
        let of_readers = match right {
            Right::Write => None,
            Right::Read | Right::Nothing => Some(free(&self.readers)?),
        };
        Ok(Seat { _of_all: free(&self.all)?, _of_readers: of_readers })
    }
}

/// Streams events.
///
/// # Errors
/// Too many objects are named.
pub fn events(
    switch: &Switch,
    seat: Seat,
    request: v1::WatchRequest,
) -> Result<Responses<v1::WatchResponse>, Status> {
    if request.objects.len() > OBJECTS_MAX {
        let said = format!("objects: {} of them; name {OBJECTS_MAX}", request.objects.len());
        return Err(Status::invalid_argument(said));
    }
    let events = switch.events();
    let same = request.instance == 0 || request.instance == events.instance();
    let seen = match request.after_sequence {
        _ if !same => 0,
        None => events.last(),
        // Of a run that never was: what there is.
        Some(after) if after > events.last() => 0,
        Some(after) => after,
    };
    // What waits here leaves together. One by one, the many that somebody missed would come as
    // more small frames than HTTP/2 clients put up with (`too_many_data_frames`).
    let (sender, receiver) = mpsc::channel(BATCH);
    let objects = request.objects.into_iter().collect();
    tokio::spawn(async move {
        tell(&events, seen, &objects, &sender).await;
        drop(seat);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Whether what there was at first has been sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Behind,
    CaughtUp,
}

/// Sends events until nobody wants them.
async fn tell(
    events: &Events,
    mut seen: u64,
    objects: &BTreeSet<String>,
    sender: &mpsc::Sender<Result<v1::WatchResponse, Status>>,
) {
    let mut news = events.subscribe();
    let empty = v1::WatchResponse {
        instance: events.instance(),
        event: None,
        lost: 0,
        last_sequence: events.last(),
    };
    if sender.send(Ok(empty.clone())).await.is_err() {
        return;
    }
    let wanted = |event: &Event| objects.is_empty() || objects.contains(&event.object);
    let (mut lost, mut progress) = (0, Progress::Behind);
    loop {
        news.mark_unchanged();
        let unseen = events.behind(seen, BATCH);
        lost += unseen.lost;
        seen += unseen.lost;
        for event in unseen.events {
            seen = event.sequence;
            if !wanted(&event) {
                continue;
            }
            let lost = std::mem::take(&mut lost);
            let last_sequence = events.last();
            let event = Some(message(event));
            let response = v1::WatchResponse { event, lost, last_sequence, ..empty };
            if sender.send(Ok(response)).await.is_err() {
                return;
            }
        }
        if seen < events.last() {
            continue;
        }
        if progress == Progress::Behind {
            progress = Progress::CaughtUp;
            let lost = std::mem::take(&mut lost);
            let response = v1::WatchResponse { lost, last_sequence: seen, ..empty.clone() };
            if sender.send(Ok(response)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

fn message(event: Event) -> v1::Event {
    let Event { sequence, at, kind, object, cause, remedy } = event;
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let kind = match kind {
        Kind::Applied => v1::EventKind::Applied,
        Kind::Up => v1::EventKind::Up,
        Kind::Down => v1::EventKind::Down,
        Kind::Waiting => v1::EventKind::Waiting,
        Kind::Quarantined => v1::EventKind::Quarantined,
        Kind::AddressMoved => v1::EventKind::AddressMoved,
        Kind::LimitHit => v1::EventKind::LimitHit,
        Kind::WorkerOverloaded => v1::EventKind::WorkerOverloaded,
        Kind::WorkerRecovered => v1::EventKind::WorkerRecovered,
        Kind::WorkerStalled => v1::EventKind::WorkerStalled,
    };
    let at_ms = u64::try_from(at).unwrap_or(u64::MAX);
    v1::Event { sequence, at_ms, kind: kind as i32, object, cause, remedy }
}

/// Whose turns a stream takes.
#[derive(Debug)]
pub struct Pace {
    /// The turns.
    pub turns: Turns,
    /// Whose.
    pub caller: Caller,
}

/// Streams what `read` gives, again and again.
///
/// # Errors
/// The interval is out of range.
pub fn again<T: Send + 'static>(
    seat: Seat,
    pace: Pace,
    interval_ms: u32,
    read: impl Fn() -> Result<T, Status> + Clone + Send + 'static,
) -> Result<Responses<T>, Status> {
    let interval_ms = match interval_ms {
        0 => 1000,
        100..=3_600_000 => interval_ms,
        _ => {
            let said = format!("interval_ms: {interval_ms} is out of range; take 100 to 3600000");
            return Err(Status::invalid_argument(said));
        }
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(interval_ms.into()));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = sender.closed() => break,
            }
            // Only when the last one was taken: a reader that does not read asks for nothing.
            let Ok(room) = sender.reserve().await else { break };
            room.send(pace.turns.work(pace.caller, read.clone()).await);
        }
        drop(seat);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_leave_streams_to_those_who_may_write() {
        let seats = Seats::default();
        let all = |right| std::iter::from_fn(|| seats.take(right).ok()).collect::<Vec<Seat>>();
        let readers = all(Right::Read);
        assert_eq!(readers.len(), STREAMS_MAX - RESERVED);
        let writers = all(Right::Write);
        assert_eq!(writers.len(), RESERVED);
        drop(readers);
        assert_eq!(all(Right::Write).len(), STREAMS_MAX - RESERVED);
        drop(writers);
    }
}
