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

use crate::switch::Switch;
use crate::switch::events::{Event, Events, Kind};

/// Streams that may be open at a time, over all connections.
pub const STREAMS_MAX: usize = 64;
/// Events taken at a time.
const BATCH: usize = 64;
/// Objects that one may name.
const OBJECTS_MAX: usize = 1024;

/// Responses as they come.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The right to have a stream open.
#[derive(Clone, Debug)]
pub struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Seats {
        Seats(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

impl Seats {
    fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        let taken = Arc::clone(&self.0).try_acquire_owned();
        taken.map_err(|_| {
            let said = format!("{STREAMS_MAX} streams are open, and no more may be; close others");
            Status::resource_exhausted(said)
        })
    }
}

/// Streams events.
///
/// # Errors
/// Too many streams are open, or too many objects are named.
pub fn events(
    switch: &Switch,
    seats: &Seats,
    request: v1::WatchRequest,
) -> Result<Responses<v1::WatchResponse>, Status> {
    if request.objects.len() > OBJECTS_MAX {
        let said = format!("objects: {} of them; name {OBJECTS_MAX}", request.objects.len());
        return Err(Status::invalid_argument(said));
    }
    let seat = seats.take()?;
    let events = switch.events();
    let same = request.instance == 0 || request.instance == events.instance();
    let seen = match request.after_sequence {
        _ if !same => 0,
        None => events.last(),
        // Of a run that never was: what there is.
        Some(after) if after > events.last() => 0,
        Some(after) => after,
    };
    let (sender, receiver) = mpsc::channel(1);
    let objects = request.objects.into_iter().collect();
    tokio::spawn(async move {
        tell(&events, seen, &objects, &sender).await;
        drop(seat);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
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
    loop {
        news.mark_unchanged();
        let unseen = events.behind(seen, BATCH);
        let mut lost = unseen.lost;
        seen += lost;
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

/// Streams what `read` gives, again and again.
///
/// # Errors
/// The interval is out of range, or too many streams are open.
pub fn again<T: Send + 'static>(
    seats: &Seats,
    interval_ms: u32,
    read: impl Fn() -> Result<T, Status> + Send + 'static,
) -> Result<Responses<T>, Status> {
    let interval_ms = match interval_ms {
        0 => 1000,
        100..=3_600_000 => interval_ms,
        _ => {
            let said = format!("interval_ms: {interval_ms} is out of range; take 100 to 3600000");
            return Err(Status::invalid_argument(said));
        }
    };
    let seat = seats.take()?;
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
            room.send(read());
        }
        drop(seat);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}
