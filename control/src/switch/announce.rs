//! From what is to what happened: states, addresses, limits and workers are compared with
//! what was told of them last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::relay::fdb;

use hairpin_dataplane::snapshot::Admin;

use super::engine::Engine;
use super::events::{Kind, News};
use super::view::State;
use super::workers::{Alarm, Health};

/// Between two looks at counters and loads.
const LOOKS: Duration = Duration::from_secs(1);
/// A worker that frames take this share of its time from has next to none left.
const LOAD_HIGH: f64 = 0.95;
/// One that had next to none left has some again below this share.
const LOAD_LOW: f64 = 0.85;
/// Seconds in a row for which a worker has next to no time before it is told of.
const OVERLOADED_SECONDS: u32 = 3;

/// Limits that somebody set, or that guard the others: reaching one is worth telling.
const LIMITS: [DropReason; 4] = [
    DropReason::LearnLimit,
    DropReason::SourceNotRegistered,
    DropReason::SourceRegisteredElsewhere,
    DropReason::ReflectedGroupRate,
];

/// What was told last.
#[derive(Debug, Default)]
pub struct Told {
    /// The states of ports and links, by name.
    states: BTreeMap<String, State>,
    /// What each lost to limits, by name, as of [`LIMITS`].
    limits: BTreeMap<String, [u64; LIMITS.len()]>,
    moves: u64,
    /// What could not be told of yet, the latest of each kind.
    waiting: Vec<News>,
    /// By worker.
    loads: Vec<Load>,
    /// When counters and loads were looked at.
    looked: Option<Instant>,
}

/// How a worker's load was.
#[derive(Clone, Copy, Debug, Default)]
enum Load {
    #[default]
    Low,
    /// For so many seconds on end.
    High(u32),
    /// It was told of.
    Overloaded,
}

impl Engine {
    /// Tells of whatever is another than was told last.
    pub(super) fn announce(&mut self, now: Instant) {
        for news in std::mem::take(&mut self.told.waiting) {
            self.tell_sometime(news, now);
        }
        self.announce_states(now);
        let is_due = |looked| now.saturating_duration_since(looked) >= LOOKS;
        if self.told.looked.is_none_or(is_due) {
            self.told.looked = Some(now);
            self.announce_limits(now);
            self.announce_moves(now);
            self.announce_loads(now);
            self.events.tidy(now);
        }
    }

    pub(super) fn announce_states(&mut self, now: Instant) {
        let mut told = std::mem::take(&mut self.told.states);
        let links = self.desired.links().iter().map(|link| ("link", &link.name, link.admin));
        let ports = self.desired.ports().iter().map(|port| ("port", &port.name, port.admin));
        let all = links.chain(ports);
        let mut known = 0;
        for (kind, name, admin) in all.clone() {
            let (before, state) = (told.get(name).copied(), self.state(name, admin));
            let is_same = before == Some(state);
            // What there is no room for now is told later.
            if !is_same && self.events.tell(self.news_of(kind, name, admin, state), now) {
                told.insert(name.clone(), state);
                known += 1;
            } else {
                known += usize::from(before.is_some());
            }
        }
        // Nothing is told of those that are gone.
        if told.len() > known {
            let names: BTreeSet<&String> = all.map(|(_, name, _)| name).collect();
            told.retain(|name, _| names.contains(name));
        }
        self.told.states = told;
    }

    /// Tells of something now, or when there is room; of several of a kind and object that
    /// wait, the last is told.
    pub(super) fn tell_sometime(&mut self, news: News, now: Instant) {
        let waiting = &mut self.told.waiting;
        waiting.retain(|it| (it.class(), &it.object) != (news.class(), &news.object));
        if !self.events.tell(news.clone(), now) {
            waiting.push(news);
        }
    }

    fn news_of(&self, kind: &str, name: &str, admin: Admin, state: State) -> News {
        let object = format!("{kind} {name}");
        let problem = self.last_error(name);
        let set = format!("`hairpin {kind} set {name} admin=up` sets it up");
        let (kind, cause, remedy) = match state {
            State::Up => (Kind::Up, String::new(), String::new()),
            State::Down if admin == Admin::Down => (Kind::Down, "it was set down".to_owned(), set),
            State::Down => (Kind::Down, problem, "it comes up when that is over".to_owned()),
            State::Waiting => (Kind::Waiting, problem, "it comes up when that is there".to_owned()),
            State::Quarantined => {
                let remedy = format!("see to its guest, then `hairpin port release {name}`");
                (Kind::Quarantined, problem, remedy)
            }
        };
        News { kind, object, cause, remedy }
    }

    fn announce_limits(&mut self, now: Instant) {
        let mut told = std::mem::take(&mut self.told.limits);
        for (name, device) in &self.devices {
            let totals = device.attached.totals();
            let counts = LIMITS.map(|reason| totals.dropped(reason));
            // What a port had lost before it was looked at first is told by its counters.
            let before = told.entry(name.clone()).or_insert(counts);
            for ((reason, count), before) in LIMITS.into_iter().zip(counts).zip(before) {
                let frames = count.saturating_sub(*before);
                if frames == 0 {
                    continue;
                }
                let cause = format!("{reason}: {frames} frames. {}", reason.meaning());
                let remedy = reason.remedy().to_owned();
                let object = self.object(name);
                // What finds no room now is told of with what comes later.
                if self.events.tell(News { kind: Kind::LimitHit, object, cause, remedy }, now) {
                    *before = count;
                }
            }
        }
        told.retain(|name, _| self.devices.contains_key(name));
        self.told.limits = told;
    }

    fn announce_moves(&mut self, now: Instant) {
        let fdb::moves::Told { moves, forgotten, next } = self.fdb.moves_since(self.told.moves);
        self.told.moves = next;
        if forgotten > 0 {
            let cause = format!("{forgotten} addresses more than are told of one by one");
            let remedy = "look for a loop, or for two stations with one address".to_owned();
            let object = "switch".to_owned();
            self.events.tell(News { kind: Kind::AddressMoved, object, cause, remedy }, now);
        }
        if moves.is_empty() {
            return;
        }
        let tenants = self.ids.tenants();
        let name = |id| tenants.get(&id).map_or("a port that is gone", |(name, _)| name.as_str());
        for moved in moves {
            let (from, mac, vid) = (name(moved.from), moved.address.mac, moved.address.vid.get());
            let to = moved.to.map_or("the uplink", name);
            let cause = format!("{mac} in VLAN {vid} was behind {from} and is behind {to}");
            let remedy = "a VM that moved, or a loop, or two stations with one address: register \
                          addresses by `mac` where they are known"
                .to_owned();
            // Who has it now brought it about; who had it may have nothing to do with it.
            let object = self.object(if moved.to.is_some() { to } else { from });
            self.events.tell(News { kind: Kind::AddressMoved, object, cause, remedy }, now);
        }
    }

    fn announce_loads(&mut self, now: Instant) {
        let status = self.crew.status();
        self.told.loads.resize(status.len(), Load::Low);
        let mut news = Vec::new();
        for (worker, status) in status.iter().enumerate() {
            let load = &mut self.told.loads[worker];
            let percent = (100.0 * status.load) as u32;
            let object = format!("worker {worker}");
            let (kind, cause, remedy) = match *load {
                Load::Low | Load::High(_) if status.load < LOAD_HIGH => {
                    *load = Load::Low;
                    continue;
                }
                Load::Low => {
                    *load = Load::High(1);
                    continue;
                }
                Load::High(seconds) if seconds + 1 < OVERLOADED_SECONDS => {
                    *load = Load::High(seconds + 1);
                    continue;
                }
                Load::High(_) => {
                    *load = Load::Overloaded;
                    let remedy = "move a queue to another worker (`hairpin workers move`), or give \
                                  the switch more CPUs (`workers`)";
                    (Kind::WorkerOverloaded, format!("frames take {percent} % of its time"), remedy)
                }
                Load::Overloaded if status.load > LOAD_LOW => continue,
                Load::Overloaded => {
                    *load = Load::Low;
                    (Kind::WorkerRecovered, format!("frames take {percent} % of its time"), "")
                }
            };
            let remedy = remedy.to_owned();
            news.push(News { kind, object, cause, remedy });
        }
        news.into_iter().for_each(|news| self.tell_sometime(news, now));
    }

    /// Tells of a worker that stopped breathing, or breathes again.
    pub(super) fn announce_alarm(&mut self, alarm: &Alarm, port: &str, now: Instant) {
        let object = format!("worker {}", alarm.worker);
        let (kind, cause, remedy) = match alarm.health {
            Health::Breathing => (Kind::WorkerRecovered, "it breathes again".to_owned(), ""),
            Health::Stalled => (
                Kind::WorkerStalled,
                format!("it has been in one breath for over a second; it serves {port}"),
                "report this with the log; others wait as long as it takes",
            ),
            Health::Ended => (
                Kind::WorkerStalled,
                format!("its thread ended; it served {port}"),
                "restart the daemon, and report this with the log",
            ),
        };
        self.tell_sometime(News { kind, object, cause, remedy: remedy.to_owned() }, now);
    }

    /// Kind and name of what has this name.
    fn object(&self, name: &str) -> String {
        let is_link = self.desired.links().iter().any(|link| link.name == name);
        let is_channel = self.desired.channels().iter().any(|channel| channel.name == name);
        let kind = match (is_link, is_channel) {
            (true, _) => "link",
            (false, true) => "channel",
            (false, false) => "port",
        };
        format!("{kind} {name}")
    }
}
