//! Captures: begun and ended, bounded in number and memory.
//!
//! A capture lives as long as its [`Capture`]: dropped, it has the workers give their taps
//! back, by way of the control thread. Its memory counts until the last of these is freed,
//! so a worker that does not breathe cannot be made to hold more and more of them.

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hairpin_dataplane::worker::capture::filter::Filter;
use hairpin_dataplane::worker::capture::{
    self, CAPTURED_DEVICES_MAX, CAPTURES_MAX, CaptureId, Captured, CapturedDevice, Collector,
    Label, Plan,
};
use hairpin_dataplane::worker::command::{Command, CommandSender};
use hairpin_dataplane::worker::monotonic_ns;

use super::Switch;
use super::engine::Engine;
use super::gate::Gate;
use crate::config::nearest::hint;

/// Bytes of captured frames that may wait to be taken, over all workers.
const RING_BYTES: usize = 8 << 20;
/// By how much the clock on the wall may stray from the one that times are read from before
/// it is followed: further, and it was set.
const STRAY_NS: u64 = 1_000_000;

/// How long workers may take to hear of a capture.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is to be captured.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Of which ports and links, each once.
    pub names: Vec<String>,
    /// Which of their frames.
    pub filter: Filter,
    /// First bytes of each frame that are kept; what is more than
    /// [`SNAPSHOT_BYTES_MAX`](capture::SNAPSHOT_BYTES_MAX) counts as that.
    pub snapshot_bytes: usize,
}

/// Why a capture did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No name, or too many.
    #[error("capture: ports: {0} are named; name 1 to {most}", most = CAPTURED_DEVICES_MAX)]
    Number(usize),
    /// A name twice.
    #[error("capture: ports: {0:?} is there twice; name it once")]
    Twice(String),
    /// There is no such port.
    #[error("there is no port or link with a device {name:?}{hint}")]
    NoSuchPort {
        /// The name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// There are as many as there may be.
    #[error("there are {most} captures already; end one of them", most = CAPTURES_MAX)]
    Full,
    /// The kernel refused memory.
    #[error("capture: its memory could not be had: {0}; free some, or end another capture")]
    Make(#[from] io::Error),
}

/// The captures of a switch.
#[derive(Debug, Default)]
pub struct Captures {
    begun: u64,
    /// What is captured; gone when nobody has memory for it any more.
    plans: Vec<Weak<Plan>>,
}

impl Captures {
    /// Takes a seat for another one.
    fn reserve(
        &mut self,
        devices: Vec<CapturedDevice>,
        wish: &Wish,
    ) -> Result<Arc<Plan>, CaptureError> {
        self.plans.retain(|plan| plan.strong_count() > 0);
        if self.plans.len() >= CAPTURES_MAX {
            return Err(CaptureError::Full);
        }
        self.begun += 1;
        let plan = Arc::new(Plan {
            id: CaptureId(self.begun),
            devices,
            filter: wish.filter.clone(),
            snapshot_bytes: wish.snapshot_bytes.min(capture::SNAPSHOT_BYTES_MAX),
            ring_bytes: RING_BYTES,
            joined: AtomicUsize::new(0),
        });
        self.plans.push(Arc::downgrade(&plan));
        Ok(plan)
    }
}

/// A capture that goes on until this is dropped.
#[derive(Debug)]
pub struct Capture {
    names: Vec<String>,
    collector: Collector,
    workers: Vec<CommandSender>,
    engine: Weak<Gate<Engine>>,
    clock: Clock,
}

/// Whether there can be more frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// There can.
    More,
    /// None of its ports exists any more.
    PortsGone,
    /// The switch has ended.
    SwitchEnded,
}

impl Switch {
    /// Captures frames of ports and links as they pass, which slows none of them: those that
    /// come when its workers know of it ([`Capture::begins`]).
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn capture(&self, wish: Wish) -> Result<Capture, CaptureError> {
        let (plan, workers) = self.engine().plan_capture(&wish)?;
        // Not under the lock: it takes a while to have so much memory written.
        let (taps, collector) = capture::session(&plan, workers.len())?;
        let engine = Arc::downgrade(&self.running.engine);
        let (names, clock) = (wish.names, Clock::new());
        let capture = Capture { names, collector, workers, engine, clock };
        for (worker, tap) in capture.workers.iter().zip(taps) {
            // One whose thread has ended captures nothing.
            let _ = worker.send(Command::BeginCapture(tap));
        }
        Ok(capture)
    }
}

impl Engine {
    /// What is to be captured, by which workers.
    fn plan_capture(
        &mut self,
        wish: &Wish,
    ) -> Result<(Arc<Plan>, Vec<CommandSender>), CaptureError> {
        let names = &wish.names;
        if names.is_empty() || names.len() > CAPTURED_DEVICES_MAX {
            return Err(CaptureError::Number(names.len()));
        }
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if let Some([twice, _]) = sorted.array_windows().find(|[one, next]| one == next) {
            return Err(CaptureError::Twice((*twice).clone()));
        }
        let device = |name: &String| match self.devices.get(name) {
            Some(device) => {
                let counters = Arc::clone(&device.attached.counters);
                Ok(CapturedDevice { id: device.attached.id, counters })
            }
            None => {
                let hint = hint(name, self.devices.keys().map(String::as_str));
                Err(CaptureError::NoSuchPort { name: name.clone(), hint })
            }
        };
        let devices = names.iter().map(device).collect::<Result<_, _>>()?;
        Ok((self.captures.reserve(devices, wish)?, self.crew.commands()))
    }
}

impl Capture {
    /// Its ports and links, as they were named; [`Label::device`] is a place among them.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Waits until all workers know of it, a second at most: one may not breathe.
    pub fn begins(&self) {
        let patience = Instant::now() + PATIENCE;
        while !self.collector.has_begun() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// First bytes of each frame that are kept.
    #[must_use]
    pub fn snapshot_bytes(&self) -> usize {
        self.collector.plan().snapshot_bytes
    }

    /// The next frame that waits, its first bytes in `bytes`, its time in nanoseconds since
    /// 1970-01-01 UTC.
    pub fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Label> {
        let label = self.collector.take(bytes)?;
        Some(Label { time_ns: self.clock.wall_ns(label.time_ns), ..label })
    }

    /// The time of frames that pass now.
    pub fn now_ns(&mut self) -> u64 {
        self.clock.follow();
        self.clock.wall_ns(monotonic_ns())
    }

    /// Frames of a port, by its place among the names, that found the memory full.
    #[must_use]
    pub fn missed(&self, device: usize) -> u64 {
        self.collector.missed(device)
    }

    /// Whether there can be more frames. Ask this first, then take what is left. Takes the
    /// engine's lock for a moment.
    #[must_use]
    pub fn prospect(&self) -> Prospect {
        let Some(engine) = self.engine.upgrade() else { return Prospect::SwitchEnded };
        if self.collector.state() == Captured::Over {
            return Prospect::SwitchEnded;
        }
        let engine = engine.call();
        let mut named = self.names.iter().zip(&self.collector.plan().devices);
        let is_there = |(name, device): (&String, &CapturedDevice)| {
            engine.devices.get(name).is_some_and(|found| device.is(&found.attached))
        };
        if named.any(is_there) { Prospect::More } else { Prospect::PortsGone }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        for worker in &self.workers {
            let _ = worker.send(Command::EndCapture(self.collector.plan().id));
        }
    }
}

/// The clock on the wall, by the steady one.
#[derive(Debug)]
struct Clock {
    /// When the steady one began, in nanoseconds since 1970-01-01 UTC.
    began_ns: u64,
}

/// When the steady clock began, by both clocks.
struct Look {
    began_ns: u64,
    /// By how much it may be wrong: what passed between the looks at the two.
    doubt_ns: u64,
}

impl Look {
    /// The best of a few: one that was interrupted tells little.
    fn at_both() -> Look {
        let looks = [(); 4].map(|()| Look::once());
        let [first, others @ ..] = looks;
        others.into_iter().fold(first, |best, look| match look.doubt_ns < best.doubt_ns {
            true => look,
            false => best,
        })
    }

    fn once() -> Look {
        let before_ns = monotonic_ns();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let doubt_ns = monotonic_ns().saturating_sub(before_ns);
        let wall_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Look { began_ns: wall_ns.saturating_sub(before_ns + doubt_ns / 2), doubt_ns }
    }
}

impl Clock {
    fn new() -> Clock {
        Clock { began_ns: Look::at_both().began_ns }
    }

    /// Follows the wall's where that was set: small steps would put frames out of order.
    fn follow(&mut self) {
        let Look { began_ns, doubt_ns } = Look::at_both();
        if began_ns.abs_diff(self.began_ns) > STRAY_NS + doubt_ns {
            self.began_ns = began_ns;
        }
    }

    fn wall_ns(&self, steady_ns: u64) -> u64 {
        self.began_ns.saturating_add(steady_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_followed_and_one_that_strays_is_not() {
        let mut clock = Clock::new();
        let began_ns = clock.began_ns;
        clock.began_ns += STRAY_NS / 2;
        clock.follow();
        assert_eq!(clock.began_ns, began_ns + STRAY_NS / 2);
        clock.began_ns = began_ns + 3_600_000_000_000;
        clock.follow();
        assert!(clock.began_ns.abs_diff(began_ns) < 1_000_000_000);
    }
}
