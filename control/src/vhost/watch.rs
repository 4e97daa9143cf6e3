//! Notifiers of VMMs, watched: a worker that is held up in one is let go.
//!
//! The eventfds that we write to are the VMM's, who has the same file: it can make them
//! block again, and count up to where a write waits until somebody reads. Nobody can look
//! first and be sure; so a thread of its own looks all the time, which waits for nobody and
//! takes no lock that anybody holds for long. What is full was made so on purpose: no driver
//! counts 2⁶⁴ signals.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use hairpin_dataplane::port::vhost_user::session::Notifier;
use hairpin_dataplane::sys::eventfd::Eventfd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Between two looks: how long a worker can be held up.
pub const LOOK: Duration = Duration::from_millis(100);
/// How often one notifier is emptied in a look. As many others may wait to fill it, and those
/// who wait longest come first.
const DRAINS_MAX: usize = 1024;
/// How long those who wait have to write meanwhile.
const DRAIN_PAUSE: Duration = Duration::from_micros(50);

/// The notifiers of all sockets, by their keys: known to who rings them and to who watches.
#[derive(Clone, Debug, Default)]
pub struct Notifiers(Arc<Mutex<BTreeMap<u64, Vec<Notifier>>>>);

/// A notifier that was full.
#[derive(Debug)]
pub struct Blocked {
    /// Whose it is.
    pub key: u64,
    /// Which one it is, in a sentence.
    pub reason: String,
}

impl Notifiers {
    /// Those of a socket from now on; none if it has none any more.
    pub fn set(&self, key: u64, notifiers: Vec<Notifier>) {
        let mut all = self.lock();
        match notifiers.is_empty() {
            true => drop(all.remove(&key)),
            false => drop(all.insert(key, notifiers)),
        }
    }

    /// Looks for notifiers that are full, and empties them: whoever is held up in one goes on.
    pub fn look(&self) -> Vec<Blocked> {
        // Not under the lock: what is emptied takes a while.
        let all: Vec<(u64, Notifier)> = {
            let all = self.lock();
            let each =
                all.iter().flat_map(|(&key, its)| its.iter().map(move |one| (key, one.clone())));
            each.collect()
        };
        let mut full = are_full(all.iter().map(|(_, notifier)| &*notifier.eventfd)).into_iter();
        let blocked = all.iter().filter(|_| full.next() == Some(true));
        blocked.map(|(key, notifier)| Blocked { key: *key, reason: relieve(notifier) }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Notifier>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of them a write would wait for. Where the kernel does not say, none.
fn are_full<'e>(eventfds: impl Iterator<Item = &'e Eventfd>) -> Vec<bool> {
    let mut asked: Vec<PollFd<'_>> =
        eventfds.map(|eventfd| PollFd::new(eventfd, PollFlags::OUT)).collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut asked, Some(&at_once)) {
        Ok(_) => asked.iter().map(|one| !one.revents().contains(PollFlags::OUT)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Empties a notifier until nobody waits who would fill it again, or for long enough: the
/// next look is soon.
fn relieve(notifier: &Notifier) -> String {
    let Notifier { ring, notice, eventfd } = notifier;
    for _ in 0..DRAINS_MAX {
        eventfd.consume();
        std::thread::sleep(DRAIN_PAUSE);
        if are_full(std::iter::once(&**eventfd)) == [false] {
            break;
        }
    }
    format!(
        "{notice} eventfd of ring {ring} was full, by which its VMM would hold up a worker: \
         look at the VMM; it may be hostile"
    )
}

/// The thread that watches; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch; what is found is told.
    ///
    /// # Errors
    /// Those of making a thread.
    pub fn start(
        notifiers: Notifiers,
        tell: impl Fn(Blocked) + Send + 'static,
    ) -> io::Result<Watch> {
        let (stop, stopped) = bounded::<()>(0);
        let watch = move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                notifiers.look().into_iter().for_each(&tell);
            }
        };
        let thread = std::thread::Builder::new().name("notifiers".to_owned()).spawn(watch)?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, was reported by the hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hairpin_dataplane::port::vhost_user::session::Notice;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::io::write;

    use super::*;

    const FULL: [u8; 8] = (u64::MAX - 1).to_ne_bytes();

    #[test]
    fn whoever_is_held_up_goes_on_although_others_wait_to_fill_it_again() {
        let theirs = Arc::new(eventfd(0, EventfdFlags::empty()).unwrap());
        let ours = Arc::new(Eventfd::adopt(theirs.try_clone().unwrap()).unwrap());
        fcntl_setfl(&*theirs, OFlags::empty()).unwrap();
        let notifiers = Notifiers::default();
        let notifier = Notifier { ring: 3, notice: Notice::Call, eventfd: Arc::clone(&ours) };
        notifiers.set(7, vec![notifier]);
        assert!(notifiers.look().is_empty());
        write(&*theirs, &FULL).unwrap();
        let fill = |_| {
            let theirs = Arc::clone(&theirs);
            std::thread::spawn(move || write(&*theirs, &FULL).unwrap())
        };
        let mut held_up: Vec<JoinHandle<usize>> = (0..16).map(fill).collect();
        std::thread::sleep(Duration::from_millis(20));
        let worker = {
            let ours = Arc::clone(&ours);
            std::thread::spawn(move || ours.signal())
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(!worker.is_finished(), "it is not held up, so this shows nothing");
        let until = Instant::now() + Duration::from_secs(20);
        let mut found = Vec::new();
        while !worker.is_finished() {
            found.extend(notifiers.look());
            assert!(Instant::now() < until, "it is held up still: {found:?}");
        }
        assert_eq!(found[0].key, 7);
        assert!(found[0].reason.starts_with("call eventfd of ring 3 was full"), "{found:?}");
        // The others go on as soon as somebody reads.
        while held_up.iter().any(|one| !one.is_finished()) {
            ours.consume();
            assert!(Instant::now() < until, "somebody is held up still");
        }
        assert!(held_up.drain(..).all(|one| one.join().is_ok()));
        ours.consume();
        notifiers.set(7, Vec::new());
        write(&*theirs, &FULL).unwrap();
        assert!(notifiers.look().is_empty(), "nobody rings it any more");
    }
}
