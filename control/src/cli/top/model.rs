//! What is shown, out of two looks at a switch: nothing here draws or waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use hairpin_proto::v1;

use super::history::History;

/// Events that are remembered.
const EVENTS: usize = 100;

/// A switch at one moment, as its API tells it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was told.
    pub at: Instant,
    /// Everything but counters.
    pub show: v1::ShowResponse,
    /// Counters.
    pub stats: v1::StatsResponse,
    /// What happened since the look before.
    pub events: Vec<v1::Event>,
}

/// A port or link.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Which of the two it is.
    pub kind: Kind,
    /// Whether frames pass.
    pub state: v1::State,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// How fast its counters grow.
    pub rates: Rates,
    /// What was lost here, in the order of reasons.
    pub drops: Vec<Drops>,
}

/// A port or a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A port.
    Port,
    /// A link.
    Link,
}

/// How fast counters grow, a second; all 0 until there are two looks.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Frames into the switch.
    pub rx_frames: f64,
    /// Bits into the switch.
    pub rx_bits: f64,
    /// Frames out of the switch.
    pub tx_frames: f64,
    /// Bits out of the switch.
    pub tx_bits: f64,
    /// Frames dropped, for all reasons.
    pub drops: f64,
    /// Frames that the device lost by itself.
    pub device_drops: f64,
}

/// What was lost for one reason.
#[derive(Clone, PartialEq, Debug)]
pub struct Drops {
    /// The reason's stable name.
    pub reason: String,
    /// Frames so far.
    pub frames: u64,
    /// Frames a second.
    pub rate: f64,
}

/// A worker.
#[derive(Clone, PartialEq, Debug)]
pub struct Worker {
    /// As the API tells it.
    pub told: v1::Worker,
    /// Frames received a second.
    pub frames: f64,
    /// Breaths a second.
    pub breaths: f64,
    /// Sleeps a second.
    pub sleeps: f64,
    /// Frames received for each breath.
    pub frames_per_breath: f64,
}

/// Whether the switch answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Connection {
    /// It did the last time.
    Live,
    /// It does not.
    Waiting {
        /// Since when.
        since: Instant,
        /// What was said last.
        why: String,
    },
}

/// What is known of a switch.
#[derive(Debug)]
pub struct Model {
    /// Whether it answers.
    pub connection: Connection,
    /// Its ports and links, by name.
    pub rows: Vec<Row>,
    /// Its workers, by number.
    pub workers: Vec<Worker>,
    /// What happened, the last at the end.
    pub events: VecDeque<v1::Event>,
    last: Option<Sample>,
    histories: BTreeMap<String, History>,
}

impl Model {
    /// Knows nothing yet, and waits.
    #[must_use]
    pub fn new(now: Instant) -> Model {
        let why = "no answer yet".to_owned();
        Model {
            connection: Connection::Waiting { since: now, why },
            rows: Vec::new(),
            workers: Vec::new(),
            events: VecDeque::new(),
            last: None,
            histories: BTreeMap::new(),
        }
    }

    /// The last look, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&v1::ShowResponse> {
        self.last.as_ref().map(|sample| &sample.show)
    }

    /// The counters of a port or link at the last look.
    #[must_use]
    pub fn counters(&self, name: &str) -> Option<&v1::Counters> {
        self.last.as_ref()?.stats.ports.get(name)
    }

    /// How the rates of a port or link went.
    #[must_use]
    pub fn history(&self, name: &str) -> Option<&History> {
        self.histories.get(name)
    }

    /// Nobody answers: what was known stays, as old as it is.
    pub fn lose(&mut self, now: Instant, why: String) {
        let since = match self.connection {
            Connection::Live => now,
            Connection::Waiting { since, .. } => since,
        };
        self.connection = Connection::Waiting { since, why };
    }

    /// Takes a look, and makes rates of it and the one before. A switch that was
    /// restarted meanwhile begins anew: its counters do.
    pub fn take(&mut self, sample: Sample) {
        self.events.extend(sample.events.iter().cloned());
        let old = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..old);
        self.connection = Connection::Live;
        let is_same = |last: &Sample| last.show.uptime_ms <= sample.show.uptime_ms;
        let last = self.last.take().filter(is_same);
        let span = Span::between(last.as_ref(), &sample);
        self.rows = rows(&span, &sample);
        self.workers = sample.show.workers.iter().map(|worker| span.worker(worker)).collect();
        self.histories.retain(|name, _| self.rows.iter().any(|row| row.name == *name));
        for row in &self.rows {
            let history = self.histories.entry(row.name.clone()).or_default();
            if last.is_some() {
                history.push(row.rates.rx_frames, row.rates.tx_frames);
            }
        }
        self.last = Some(sample);
    }

    /// What was lost over all ports and links, by reason: what is being lost fastest
    /// first, and where most of it.
    #[must_use]
    pub fn drops(&self) -> Vec<(Drops, String)> {
        let mut sums: BTreeMap<&str, (Drops, &Row, f64)> = BTreeMap::new();
        for row in &self.rows {
            for Drops { reason, frames, rate } in &row.drops {
                let none = Drops { reason: reason.clone(), frames: 0, rate: 0.0 };
                let weight = rate + *frames as f64 / 1e15;
                let sum = sums.entry(reason).or_insert((none, row, weight));
                sum.0.frames += frames;
                sum.0.rate += rate;
                if weight > sum.2 {
                    (sum.1, sum.2) = (row, weight);
                }
            }
        }
        let mut drops: Vec<(Drops, String)> =
            sums.into_values().map(|(drops, row, _)| (drops, row.name.clone())).collect();
        drops.sort_by(|(a, _), (b, _)| {
            b.rate.total_cmp(&a.rate).then_with(|| b.frames.cmp(&a.frames))
        });
        drops
    }

    /// The rates of all ports, links not counted, added up.
    #[must_use]
    pub fn sum(&self) -> Rates {
        let ports = self.rows.iter().filter(|row| row.kind == Kind::Port);
        ports.map(|row| row.rates).fold(Rates::default(), |sum, rates| Rates {
            rx_frames: sum.rx_frames + rates.rx_frames,
            rx_bits: sum.rx_bits + rates.rx_bits,
            tx_frames: sum.tx_frames + rates.tx_frames,
            tx_bits: sum.tx_bits + rates.tx_bits,
            drops: sum.drops + rates.drops,
            device_drops: sum.device_drops + rates.device_drops,
        })
    }
}

/// Two looks and the time between them.
struct Span<'s> {
    last: Option<&'s Sample>,
    seconds: f64,
}

impl<'s> Span<'s> {
    fn between(last: Option<&'s Sample>, now: &Sample) -> Span<'s> {
        let seconds = last.map_or(0.0, |it| now.at.saturating_duration_since(it.at).as_secs_f64());
        // Two looks at one moment make no rate.
        Span { last: last.filter(|_| seconds > 0.0), seconds }
    }

    /// What a counter grew by a second; one that began anew grew from 0.
    fn rate(&self, before: Option<u64>, now: u64) -> f64 {
        if self.last.is_none() {
            return 0.0;
        }
        let before = before.filter(|before| *before <= now).unwrap_or(0);
        (now - before) as f64 / self.seconds
    }

    fn rates(&self, name: &str, now: &v1::Counters) -> Rates {
        let last = self.last.and_then(|last| last.stats.ports.get(name));
        let of = |read: fn(&v1::Counters) -> u64| self.rate(last.map(read), read(now));
        Rates {
            rx_frames: of(|counters| counters.rx_frames),
            rx_bits: of(|counters| counters.rx_bytes) * 8.0,
            tx_frames: of(|counters| counters.tx_frames),
            tx_bits: of(|counters| counters.tx_bytes) * 8.0,
            drops: of(|counters| counters.drops.values().sum()),
            device_drops: of(|counters| counters.device_drops),
        }
    }

    fn drops(&self, name: &str, now: &v1::Counters) -> Vec<Drops> {
        let last = self.last.and_then(|last| last.stats.ports.get(name));
        let drops = |(reason, &frames): (&String, &u64)| {
            let before = last.map(|last| last.drops.get(reason).copied().unwrap_or(0));
            Drops { reason: reason.clone(), frames, rate: self.rate(before, frames) }
        };
        let mut drops: Vec<Drops> = now.drops.iter().map(drops).collect();
        drops.sort_by(|a, b| a.reason.cmp(&b.reason));
        drops
    }

    fn worker(&self, now: &v1::Worker) -> Worker {
        let workers = self.last.map(|last| &last.show.workers[..]).unwrap_or_default();
        let last = workers.iter().find(|worker| worker.index == now.index);
        let (breaths, sleeps) = (
            self.rate(last.map(|last| last.breaths), now.breaths),
            self.rate(last.map(|last| last.sleeps), now.sleeps),
        );
        // A queue that came from another worker brings its count along.
        let before = |queue: &v1::Queue| {
            let queues = workers.iter().flat_map(|worker| &worker.queues);
            let mut same = queues.filter(|it| it.port == queue.port && it.index == queue.index);
            same.next().map(|queue| queue.frames)
        };
        let frames = now.queues.iter().map(|queue| self.rate(before(queue), queue.frames)).sum();
        let frames_per_breath = if breaths > 0.0 { frames / breaths } else { 0.0 };
        Worker { told: now.clone(), frames, breaths, sleeps, frames_per_breath }
    }
}

fn rows(span: &Span<'_>, sample: &Sample) -> Vec<Row> {
    let none = v1::Counters::default();
    let row = |name: &String, kind, state, warnings: &[String]| {
        let counters = sample.stats.ports.get(name).unwrap_or(&none);
        Row {
            name: name.clone(),
            kind,
            state,
            warnings: warnings.to_vec(),
            rates: span.rates(name, counters),
            drops: span.drops(name, counters),
        }
    };
    let ports = &sample.show.ports;
    let ports = ports.iter().map(|it| row(&it.name, Kind::Port, it.state(), &it.warnings));
    let links = &sample.show.links;
    let links = links.iter().map(|it| row(&it.name, Kind::Link, it.state(), &it.warnings));
    let mut rows: Vec<Row> = ports.chain(links).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}
