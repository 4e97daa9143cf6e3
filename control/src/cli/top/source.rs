//! Looks at the switch, by a thread of its own: a switch that is slow to answer, or gone,
//! does not hold up keys.

use std::ops::ControlFlow;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hairpin_proto::v1;

use super::model::Sample;
use crate::api::address::ApiAddress;
use crate::cli::client::Client;

/// Between two attempts to reach a switch that is not there, at most.
const RETRY: Duration = Duration::from_secs(1);

/// Looks that may wait to be drawn.
const LOOKS: usize = 4;

/// What came of a look.
#[derive(Debug)]
pub enum Look {
    /// The switch at that moment.
    Seen(Box<Sample>),
    /// Nobody answers, and why.
    Lost(String),
}

/// Looks, until this is dropped.
#[derive(Debug)]
pub struct Source {
    looks: Receiver<Look>,
    /// Dropped to end the thread, which nobody waits for: it may be waiting for an answer.
    _stop: Sender<()>,
    _thread: JoinHandle<()>,
}

impl Source {
    /// Looks at the switch there, again and again.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn start(address: ApiAddress, interval: Duration) -> std::io::Result<Source> {
        let ((sender, looks), (stop, stopped)) = (sync_channel(LOOKS), channel());
        let thread = std::thread::Builder::new().name("looks".to_owned()).spawn(move || {
            look_again_and_again(&address, interval, &sender, &stopped);
        })?;
        Ok(Source { looks, _stop: stop, _thread: thread })
    }

    /// What came since the last time.
    pub fn news(&self) -> impl Iterator<Item = Look> + '_ {
        self.looks.try_iter()
    }
}

fn look_again_and_again(
    address: &ApiAddress,
    interval: Duration,
    looks: &SyncSender<Look>,
    stopped: &Receiver<()>,
) {
    let (mut client, mut seen) = (None, Seen::default());
    loop {
        let began = Instant::now();
        let (look, pause) = match look(&mut client, &mut seen, address) {
            Ok(sample) => (Look::Seen(Box::new(sample)), interval),
            Err(error) => {
                // It may be another daemon by the next time.
                client = None;
                (Look::Lost(format!("{error:#}")), interval.min(RETRY))
            }
        };
        // A screen that stands still, as of a line that does, has seen enough.
        if let Err(TrySendError::Disconnected(_)) = looks.try_send(look) {
            return;
        }
        let rest = pause.saturating_sub(began.elapsed());
        if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The last event that was seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    instance: u64,
    sequence: u64,
}

fn look(
    client: &mut Option<Client>,
    seen: &mut Seen,
    address: &ApiAddress,
) -> anyhow::Result<Sample> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(address)?),
    };
    let show = client.show(v1::ShowRequest {})?;
    let stats = client.stats(v1::StatsRequest::default())?;
    let events = events(client, seen)?;
    Ok(Sample { at: Instant::now(), show, stats, events })
}

/// What happened since the last look.
fn events(client: &mut Client, seen: &mut Seen) -> anyhow::Result<Vec<v1::Event>> {
    let Seen { instance, sequence } = *seen;
    let request = v1::WatchRequest {
        after_sequence: Some(sequence),
        instance,
        ..v1::WatchRequest::default()
    };
    let (mut events, mut eventless) = (Vec::new(), 0);
    client.watch(request, |response| {
        if response.instance != seen.instance {
            *seen = Seen { instance: response.instance, sequence: 0 };
        }
        match response.event {
            Some(event) => {
                seen.sequence = event.sequence;
                events.push(event);
            }
            None => eventless += 1,
        }
        // With the second of these all that there was has come.
        if eventless < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(events)
}
