//! What happened: the last events, numbered, for whoever watches.
//!
//! An event has what happened, to what, why, and what to do about it. Each is logged, too.
//! Guests bring events about, so each object has a budget of them: what goes beyond it waits.
//! A state that changes faster than that is told as it stands when there is room again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::lock;
use crate::budget::{Budget, Rate};

/// Events that are kept.
pub const KEPT: usize = 4096;
/// Events of one object.
const RATE: Rate = Rate { burst: 10, refill: Duration::from_secs(5) };

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// When it was noticed.
    pub at: SystemTime,
    /// What happened.
    pub kind: Kind,
    /// Kind and name of what it happened to, as `port vm1`.
    pub object: String,
    /// Why, or what exactly; may be empty.
    pub cause: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A change was applied.
    Applied,
    /// Frames pass.
    Up,
    /// Frames do not pass.
    Down,
    /// A device, or the VMM at a socket, is waited for.
    Waiting,
    /// A port was taken out of service for a fault.
    Quarantined,
    /// An address is behind another port than before.
    AddressMoved,
    /// Frames are lost to a limit.
    LimitHit,
    /// A worker has next to no time left.
    WorkerOverloaded,
    /// A worker has time again, or breathes again.
    WorkerRecovered,
    /// A worker does not breathe, or ended.
    WorkerStalled,
}

impl Kind {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Applied => "applied",
            Kind::Up => "up",
            Kind::Down => "down",
            Kind::Waiting => "waiting",
            Kind::Quarantined => "quarantined",
            Kind::AddressMoved => "address_moved",
            Kind::LimitHit => "limit_hit",
            Kind::WorkerOverloaded => "worker_overloaded",
            Kind::WorkerRecovered => "worker_recovered",
            Kind::WorkerStalled => "worker_stalled",
        }
    }

    /// What it has its budget with.
    fn class(self) -> Class {
        match self {
            Kind::Up | Kind::Down | Kind::Waiting | Kind::Quarantined => Class::State,
            Kind::AddressMoved | Kind::LimitHit => Class::Traffic,
            Kind::Applied
            | Kind::WorkerOverloaded
            | Kind::WorkerRecovered
            | Kind::WorkerStalled => Class::Switch,
        }
    }

    /// Whether somebody should look at it.
    fn is_trouble(self) -> bool {
        match self {
            Kind::Applied | Kind::Up | Kind::Waiting | Kind::WorkerRecovered => false,
            Kind::Down
            | Kind::Quarantined
            | Kind::AddressMoved
            | Kind::LimitHit
            | Kind::WorkerOverloaded
            | Kind::WorkerStalled => true,
        }
    }
}

/// What brings events about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// A guest, its VMM, or a netdev.
    State,
    /// Frames of guests.
    Traffic,
    /// The switch and who runs it.
    Switch,
}

/// What is told of something that happens now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// What happened.
    pub kind: Kind,
    /// Kind and name of what it happened to.
    pub object: String,
    /// Why, or what exactly.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl News {
    /// What it has its budget with.
    pub(super) fn class(&self) -> Class {
        self.kind.class()
    }
}

/// The last events of a switch.
#[derive(Debug)]
pub struct Events {
    /// Tells this run of the switch from others.
    instance: u64,
    kept: Mutex<Kept>,
    /// The last number.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    /// By object, and apart for its state, which others cannot bring about.
    budgets: BTreeMap<(String, Class), Budget>,
}

/// Events that somebody has not seen yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unseen {
    /// By number.
    pub events: Vec<Event>,
    /// How many came before them and are not kept any more.
    pub lost: u64,
}

impl Events {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Events> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Arc::new(Events {
            instance: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            kept: Mutex::default(),
            last: watch::channel(0).0,
        })
    }

    /// Tells this run of the switch from others: numbers begin anew with each.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The number of the last event; 0 if there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Tells of something, unless its object has told too much of late.
    pub fn tell(&self, news: News, now: Instant) -> bool {
        let mut kept = lock(&self.kept);
        let full = Budget::full(RATE, now);
        let whose = (news.object.clone(), news.kind.class());
        if !kept.budgets.entry(whose).or_insert(full).take(now) {
            return false;
        }
        log(&news);
        let News { kind, object, cause, remedy } = news;
        let sequence = self.last() + 1;
        kept.events.push_back(Event {
            sequence,
            at: SystemTime::now(),
            kind,
            object,
            cause,
            remedy,
        });
        if kept.events.len() > KEPT {
            kept.events.pop_front();
        }
        self.last.send_replace(sequence);
        true
    }

    /// Forgets the budgets of objects that have told nothing of late.
    pub fn tidy(&self, now: Instant) {
        lock(&self.kept).budgets.retain(|_, budget| !budget.is_full(now));
    }

    /// Events behind the one of this number, `most` of them.
    #[must_use]
    pub fn behind(&self, seen: u64, most: usize) -> Unseen {
        let kept = lock(&self.kept);
        let first = kept.events.front().map_or(0, |event| event.sequence);
        let lost = first.saturating_sub(seen + 1);
        let skip = usize::try_from((seen + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let events = kept.events.iter().skip(skip).take(most).cloned().collect();
        Unseen { events, lost }
    }

    /// Tells when there are more.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

fn log(news: &News) {
    let News { kind, object, cause, remedy } = news;
    let (kind, is_trouble) = (kind.name(), kind.is_trouble());
    match is_trouble {
        true => tracing::warn!(object, kind, cause, remedy, "event"),
        false => tracing::info!(object, kind, cause, "event"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(object: &str) -> News {
        let (cause, remedy) = (String::new(), String::new());
        News { kind: Kind::Up, object: object.to_owned(), cause, remedy }
    }

    #[test]
    fn events_are_numbered_and_the_oldest_go() {
        let (events, now) = (Events::new(), Instant::now());
        assert_eq!(events.behind(0, 10), Unseen::default());
        for number in 0..KEPT + 5 {
            assert!(events.tell(news(&format!("port {number}")), now));
        }
        let unseen = events.behind(0, 3);
        let numbers: Vec<u64> = unseen.events.iter().map(|event| event.sequence).collect();
        assert_eq!((numbers, unseen.lost), (vec![6, 7, 8], 5));
        let last = events.last();
        assert_eq!(events.behind(last - 1, 10).events.len(), 1);
        assert_eq!(events.behind(last, 10), Unseen::default());
    }

    #[test]
    fn one_object_does_not_drown_the_others() {
        let (events, now) = (Events::new(), Instant::now());
        let told = (0..100).filter(|_| events.tell(news("port vm1"), now)).count();
        assert_eq!(told, 10);
        assert!(events.tell(news("port vm2"), now));
        assert!(!events.tell(news("port vm1"), now + RATE.refill / 2));
        assert!(events.tell(news("port vm1"), now + 2 * RATE.refill));
        events.tidy(now + 3 * RATE.refill);
        assert_eq!(lock(&events.kept).budgets.len(), 1, "vm2's is full again");
    }

    #[test]
    fn a_watcher_hears_of_each() {
        let events = Events::new();
        let mut watcher = events.subscribe();
        assert!(!watcher.has_changed().unwrap());
        events.tell(news("port vm1"), Instant::now());
        assert!(watcher.has_changed().unwrap());
        assert_eq!(*watcher.borrow_and_update(), 1);
    }
}
