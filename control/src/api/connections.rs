//! The API's connections: taken in while there is room, counted until they close.
//!
//! Anybody on the machine may connect, so their number is bounded: a descriptor
//! spent here is one that no device can have.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::server::Connected;

use super::peer::{Access, Caller, Right};

/// Connections that may be open at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Of these, kept free of users who may only read: they cannot lock out the others.
const RESERVED: usize = 32;
/// Of these, those that one user may have who may only read: they cannot lock out each other.
const OF_A_READER: usize = 16;
/// How long a connection may say nothing at first.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long no connection is taken in after one could not be: what lacks does not
/// come back at once.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two lines of the log about the same.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection that has a seat.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    caller: Caller,
    _seat: Seat,
}

/// The right to be connected, until dropped.
#[derive(Debug)]
struct Seat {
    _of_all: OwnedSemaphorePermit,
    _of_readers: Option<(OwnedSemaphorePermit, OwnShare)>,
}

/// One of a user's own connections, until dropped.
#[derive(Debug)]
struct OwnShare {
    user: Option<u32>,
    counts: Counts,
}

/// How many connections each user has who may only read.
type Counts = Arc<Mutex<BTreeMap<Option<u32>, usize>>>;

impl OwnShare {
    fn take(counts: &Counts, user: Option<u32>) -> Option<OwnShare> {
        let mut locked = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = locked.entry(user).or_default();
        if *count >= OF_A_READER {
            return None;
        }
        *count += 1;
        Some(OwnShare { user, counts: Arc::clone(counts) })
    }
}

impl Drop for OwnShare {
    fn drop(&mut self) {
        let mut locked = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = locked.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                locked.remove(&self.user);
            }
        }
    }
}

/// What is free.
#[derive(Debug)]
struct Seats {
    all: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    counts: Counts,
}

impl Seats {
    fn new() -> Seats {
        Seats {
            all: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            readers: Arc::new(Semaphore::new(CONNECTIONS_MAX - RESERVED)),
            counts: Counts::default(),
        }
    }

    /// A seat for a caller, if one is free.
    fn take(&self, caller: Caller) -> Option<Seat> {
        let free = |seats: &Arc<Semaphore>| Arc::clone(seats).try_acquire_owned().ok();
        let of_readers = match caller.right {
            Right::Write => None,
            Right::Read | Right::Nothing => {
                Some((free(&self.readers)?, OwnShare::take(&self.counts, caller.user)?))
            }
        };
        Some(Seat { _of_all: free(&self.all)?, _of_readers: of_readers })
    }
}

/// Says at most one thing in [`SILENCE`], and how often it was not said.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// How often it happened since it was said last, if it is to be said now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let silent = self.last.is_some_and(|last| now.saturating_duration_since(last) < SILENCE);
        (!silent).then(|| {
            self.last = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }
}

/// Takes connections in and hands them on, until nobody wants them any more. One that
/// finds no seat is closed at once.
pub async fn accept(
    listener: UnixListener,
    access: Access,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let seats = Seats::new();
    let (mut crowded, mut failing) = (Complaints::default(), Complaints::default());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(times) = failing.due(Instant::now()) {
                    tracing::warn!(
                        %error,
                        times,
                        "API: a connection could not be taken in; see ulimit -n and fs.file-max"
                    );
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let caller = access.caller(&stream);
        let Some(seat) = seats.take(caller) else {
            if let Some(times) = crowded.due(Instant::now()) {
                tracing::warn!(
                    user = caller.user,
                    times,
                    "API: a connection was closed at once: too many are open; find who holds \
                     them with `ss -xp`"
                );
            }
            continue;
        };
        let connection = Connection { stream, caller, _seat: seat };
        // Clients speak first. One that does not has its seat for a while only.
        let accepted = accepted.clone();
        tokio::spawn(async move {
            let word = tokio::time::timeout(FIRST_WORD, first_word(&connection.stream)).await;
            if matches!(word, Ok(Ok(()))) {
                // Nobody takes it where the API ends.
                let _ = accepted.send(Ok(connection)).await;
            }
        });
    }
}

/// Waits until a client has said something, or has hung up, and takes nothing of it. That a
/// stream is called readable is not enough: one that was just made may be, with nothing in it.
async fn first_word(stream: &UnixStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let peek = || Ok(rustix::net::recv(stream, &mut [0; 1], RecvFlags::PEEK)?);
        match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            heard => return heard.map(drop),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_leave_seats_to_those_who_may_write() {
        let seats = Seats::new();
        let reader = |user| Caller { user: Some(user), right: Right::Read };
        let all = |user| std::iter::from_fn(|| seats.take(reader(user))).collect::<Vec<Seat>>();
        let users = (CONNECTIONS_MAX - RESERVED) / OF_A_READER;
        let mut readers: Vec<Vec<Seat>> = (1..=users as u32 + 1).map(all).collect();
        let counts: Vec<usize> = readers.iter().map(Vec::len).collect();
        assert_eq!(counts[..users], vec![OF_A_READER; users]);
        assert_eq!(counts[users], 0, "no more are free");
        let writer = Caller { user: Some(0), right: Right::Write };
        let writers: Vec<Seat> = std::iter::from_fn(|| seats.take(writer)).collect();
        assert_eq!(writers.len(), RESERVED);
        drop((readers.remove(0), writers));
        assert!(seats.take(reader(2)).is_none(), "that one has its share");
        assert!(seats.take(reader(1000)).is_some());
    }

    #[test]
    fn the_same_is_said_once_in_a_while() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.due(start), Some(1));
        assert_eq!(complaints.due(start + SILENCE / 2), None);
        assert_eq!(complaints.due(start + SILENCE), Some(2));
        assert_eq!(complaints.due(start + SILENCE), None);
    }
}
