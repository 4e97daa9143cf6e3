//! A trial: a load is offered for some time, and every frame of it is accounted for.
//!
//! One thread sends and receives by turns. An open loop offers each frame when it is due, whatever
//! became of those before it; a frame for which there was no room is not tried again, and one
//! that the generator came too late for is not made up for after the end: both count as offered,
//! and so as lost. A closed loop keeps so many frames under
//! way. A burst ends with its last frame.

use super::clock::Clock;
use super::endpoint::{Receiver, Sender};
use super::frame::{Draft, Stream};
use super::histogram::Histogram;
use super::ledger::{Arrivals, Counts, Ledger};
use super::pace::Pace;
use crate::error::{Result, RigError};
use crate::interrupt;

/// Frames sent at a time, and received between two looks at the clock.
pub(super) const BURST: usize = 32;
/// After so long without a frame those under way in a closed loop count as lost.
const SILENCE_NS: u64 = 100_000_000;
/// Room for the frames of a closed loop, whose number is not known before: so many a second.
const CLOSED_FRAMES_PER_SECOND: f64 = 40e6;
/// Looks at the clock between two at whether the run was interrupted.
pub(super) const LOOKS: u32 = 4096;

/// How much is offered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// So many frames a second, whatever comes back.
    Open(Pace),
    /// So many frames as fast as the generator can, and no more.
    Burst {
        /// Frames.
        frames: u64,
    },
    /// So many frames under way at a time.
    Closed {
        /// Frames under way.
        window: u64,
    },
}

/// What a trial is to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// The frames.
    pub stream: Stream,
    /// How much is offered.
    pub load: Load,
    /// For how long, in nanoseconds.
    pub length_ns: u64,
    /// How long frames may take to come after the last one was offered, in nanoseconds.
    pub drain_ns: u64,
}

/// What came of a trial.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// Frames that were due.
    pub offered: u64,
    /// Of these, frames for which there was no room.
    pub refused: u64,
    /// Of these, frames that the generator did not get to in time: its own fault.
    pub missed: u64,
    /// What came.
    pub counts: Counts,
    /// Each flow's share of what came, in frames.
    pub received_by_flow: Vec<u64>,
    /// Frames that came altered.
    pub corrupted: u64,
    /// Frames of an earlier trial.
    pub late: u64,
    /// Frames of others.
    pub foreign: u64,
    /// How long received frames took, in nanoseconds.
    pub latency: Histogram,
    /// When frames came.
    pub arrivals: Option<Arrivals>,
    /// For how long frames were offered, in nanoseconds.
    pub length_ns: u64,
    /// Of this, for how long the generator had nothing to send and nothing came.
    pub idle_ns: u64,
}

impl Outcome {
    /// Frames that were offered and did not come whole.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.offered.saturating_sub(self.counts.received)
    }

    /// The share of offered frames that was lost, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / self.offered.max(1) as f64
    }

    /// The share of the time in which the generator had nothing to do, 0 to 1.
    #[must_use]
    pub fn waited(&self) -> f64 {
        self.idle_ns as f64 / self.length_ns.max(1) as f64
    }

    /// Frames a second from the first that came to the last; `None` for fewer than two.
    #[must_use]
    pub fn forwarded_per_second(&self) -> Option<f64> {
        let Arrivals { first_ns, last_ns, .. } = self.arrivals?;
        let seconds = last_ns.checked_sub(first_ns).filter(|&ns| ns > 0)? as f64 / 1e9;
        Some((self.counts.received - 1) as f64 / seconds)
    }
}

/// A generator: it numbers its frames from trial to trial, so that none is taken for another's.
#[derive(Debug)]
pub struct Generator {
    next: u64,
}

impl Default for Generator {
    fn default() -> Generator {
        // Number 0 is for frames of no trial: they are late in each.
        Generator { next: 1 }
    }
}

impl Generator {
    /// Does a trial.
    ///
    /// # Errors
    /// If what is measured is gone, or the run is interrupted.
    pub fn run(
        &mut self,
        plan: &Plan,
        clock: &mut impl Clock,
        sender: &mut impl Sender,
        receiver: &mut impl Receiver,
    ) -> Result<Outcome> {
        let mut course = self.course(plan.stream, plan.load, plan.length_ns)?;
        let mut ledger = course.ledger();
        let start_ns = clock.now_ns();
        let (mut looks, mut before_ns, mut idle_ns, mut did) = (0_u32, start_ns, 0, Did::Something);
        let length_ns = loop {
            let now_ns = clock.now_ns();
            if did == Did::Nothing {
                idle_ns += now_ns - before_ns;
            }
            before_ns = now_ns;
            let elapsed_ns = now_ns - start_ns;
            if elapsed_ns >= plan.length_ns || course.is_offered() {
                break elapsed_ns;
            }
            let wanted = course.wanted(elapsed_ns, &ledger);
            course.offer(wanted, now_ns, sender)?;
            let came = receive(clock, receiver, &mut ledger)?;
            did = if wanted + came == 0 { Did::Nothing } else { Did::Something };
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS) {
                interrupt::check()?;
            }
        };
        drain(plan, clock, receiver, &mut ledger, &course)?;
        Ok(Outcome { idle_ns, ..course.outcome(&ledger, length_ns.min(plan.length_ns)) })
    }

    /// A load to be offered for so long, with numbers of its own.
    ///
    /// # Errors
    /// If it has more frames than there are numbers.
    pub(super) fn course(&mut self, stream: Stream, load: Load, length_ns: u64) -> Result<Course> {
        let total = match load {
            Load::Open(pace) => pace.total(length_ns),
            Load::Burst { frames } => frames,
            Load::Closed { .. } => {
                (length_ns as f64 * CLOSED_FRAMES_PER_SECOND / 1e9) as u64 + BURST as u64
            }
        };
        let first = self.next;
        if total >= super::frame::NUMBERS - first {
            return Err(RigError::new(format!("a trial of {total} frames has too many")));
        }
        self.next = first + total;
        let (drafts, quiet) = (std::array::from_fn(|_| Draft::default()), Quiet::default());
        Ok(Course { stream, load, first, total, offered: 0, refused: 0, drafts, quiet })
    }
}

/// A load on its way: what is still to be offered of it.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) stream: Stream,
    load: Load,
    first: u64,
    total: u64,
    offered: u64,
    refused: u64,
    drafts: [Draft; BURST],
    quiet: Quiet,
}

impl Course {
    /// An account of its frames.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger::new(self.stream, self.first, self.total)
    }

    /// Frames that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.offered - self.refused
    }

    /// Whether a burst was offered as a whole.
    fn is_offered(&self) -> bool {
        matches!(self.load, Load::Burst { .. }) && self.offered == self.total
    }

    /// Frames to send now, so long after the beginning; `ledger` knows what has come of them.
    pub(super) fn wanted(&mut self, elapsed_ns: u64, ledger: &Ledger) -> u64 {
        let left = self.total - self.offered;
        match self.load {
            Load::Open(pace) => pace.due(elapsed_ns).min(self.total) - self.offered,
            Load::Burst { .. } => left,
            Load::Closed { window } => {
                self.quiet.window(window, elapsed_ns, ledger, self.offered).min(left)
            }
        }
    }

    /// Sends so many frames, a burst at most.
    pub(super) fn offer(
        &mut self,
        wanted: u64,
        now_ns: u64,
        sender: &mut impl Sender,
    ) -> Result<()> {
        let count = wanted.min(BURST as u64) as usize;
        if count == 0 {
            return Ok(());
        }
        sender.make_ready(count, self.stream.size.of(self.first + self.offered));
        for (draft, number) in self.drafts.iter_mut().take(count).zip(self.first + self.offered..) {
            draft.write(&self.stream, number, now_ns);
        }
        let burst = self.drafts.each_ref().map(Draft::bytes);
        let sent = sender.send(&burst[..count])?;
        match self.load {
            Load::Open(_) | Load::Burst { .. } => {
                self.offered += count as u64;
                self.refused += (count - sent) as u64;
            }
            // A closed loop has not offered what it could not send.
            Load::Closed { .. } => self.offered += sent as u64,
        }
        Ok(())
    }

    /// What came of it, offered for so long, by this account.
    pub(super) fn outcome(&self, ledger: &Ledger, length_ns: u64) -> Outcome {
        let missed = match self.load {
            Load::Open(_) | Load::Burst { .. } => self.total - self.offered,
            Load::Closed { .. } => 0,
        };
        Outcome {
            offered: self.offered + missed,
            refused: self.refused,
            missed,
            counts: ledger.total(),
            received_by_flow: ledger.flows().map(|counts| counts.received).collect(),
            corrupted: ledger.corrupted(),
            late: ledger.late(),
            foreign: ledger.foreign(),
            latency: ledger.latency().clone(),
            arrivals: ledger.arrivals(),
            length_ns,
            idle_ns: 0,
        }
    }
}

/// What a generator did between two looks at the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Did {
    Something,
    Nothing,
}

/// Since when nothing came, and what is no longer waited for.
#[derive(Clone, Copy, Default, Debug)]
struct Quiet {
    since_ns: u64,
    received: u64,
    given_up: u64,
}

impl Quiet {
    /// Frames that a closed loop may send now.
    fn window(&mut self, window: u64, elapsed_ns: u64, ledger: &Ledger, offered: u64) -> u64 {
        let received = ledger.latency().count() + ledger.corrupted();
        if received != self.received {
            (self.since_ns, self.received) = (elapsed_ns, received);
        } else if elapsed_ns - self.since_ns > SILENCE_NS {
            self.since_ns = elapsed_ns;
            self.given_up = offered.saturating_sub(received);
        }
        let under_way = offered.saturating_sub(received + self.given_up);
        window.saturating_sub(under_way)
    }
}

/// Takes what has come into account; how many frames that was. The clock is looked at once for a
/// burst of them: they were there before the first of them was looked at.
fn receive(
    clock: &mut impl Clock,
    receiver: &mut impl Receiver,
    ledger: &mut Ledger,
) -> Result<u64> {
    let (mut came, mut now_ns) = (0, 0);
    receiver.receive(&mut |frame| {
        if came % BURST as u64 == 0 {
            now_ns = clock.now_ns();
        }
        came += 1;
        ledger.enter(frame, now_ns);
    })?;
    Ok(came)
}

/// Waits for what is still under way.
fn drain(
    plan: &Plan,
    clock: &mut impl Clock,
    receiver: &mut impl Receiver,
    ledger: &mut Ledger,
    course: &Course,
) -> Result<()> {
    let until_ns = clock.now_ns() + plan.drain_ns;
    let sent = course.sent();
    // Where frames come twice all of the time is waited for: the last ones may, too. Where none has
    // come twice so far, it ends with the last frame.
    let is_whole = |ledger: &Ledger| {
        let counts = ledger.total();
        counts.received == sent && counts.duplicated == 0
    };
    let mut looks = 0_u32;
    while clock.now_ns() < until_ns {
        receive(clock, receiver, ledger)?;
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS) {
            interrupt::check()?;
        }
        if is_whole(ledger) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use hairpin_dataplane::wire::Mac;

    use super::super::clock::Looked;
    use super::super::endpoint::Straight;
    use super::super::frame::{Size, Tag};
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Straight>>);

    impl Sender for Shared {
        fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
            Ok(self.0.borrow_mut().put(frames))
        }
    }

    impl Receiver for Shared {
        fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
            self.0.borrow_mut().take(visit);
            Ok(())
        }
    }

    /// Takes nothing, gives nothing.
    struct Full;

    impl Sender for Full {
        fn send(&mut self, _: &[&[u8]]) -> Result<usize> {
            Ok(0)
        }
    }

    impl Receiver for Full {
        fn receive(&mut self, _: &mut dyn FnMut(&[u8])) -> Result<()> {
            Ok(())
        }
    }

    fn plan(load: Load) -> Plan {
        let (source, destination) = (Mac::new([2, 0, 0, 0, 0, 1]), Mac::new([2, 0, 0, 0, 0, 2]));
        let stream = {
            let (source, destination) = (source.into(), destination.into());
            Stream { source, destination, tag: Tag::Untagged, size: Size::Imix, flows: 7 }
        };
        Plan { stream, load, length_ns: 100_000_000, drain_ns: 1_000_000 }
    }

    fn open(frames_per_second: f64) -> Load {
        Load::Open(Pace { frames_per_second })
    }

    #[test]
    fn straight_from_generator_to_receiver_nothing_is_lost() {
        let wire = Shared::default();
        let mut generator = Generator::default();
        for _ in 0..2 {
            let mut clock = Looked::by(200);
            let (mut sender, mut receiver) = (wire.clone(), wire.clone());
            let outcome =
                generator.run(&plan(open(100_000.0)), &mut clock, &mut sender, &mut receiver);
            let outcome = outcome.unwrap();
            assert_eq!((outcome.offered, outcome.lost()), (10_000, 0));
            assert_eq!(outcome.counts, Counts { received: 10_000, ..Counts::default() });
            assert_eq!(outcome.received_by_flow.iter().sum::<u64>(), 10_000);
            let rate = outcome.forwarded_per_second().unwrap();
            assert!((99_000.0..101_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn what_finds_no_room_is_lost_and_so_is_what_the_generator_was_too_slow_for() {
        let mut clock = Looked::by(1000);
        let outcome =
            Generator::default().run(&plan(open(50_000.0)), &mut clock, &mut Full, &mut Full);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.offered, outcome.refused, outcome.lost()), (5000, 5000, 5000));
        assert_eq!((outcome.loss(), outcome.missed), (1.0, 0));
        // A look each millisecond, at most 32 frames each.
        let wire = Shared::default();
        let mut clock = Looked::by(1_000_000);
        let (mut sender, mut receiver) = (wire.clone(), wire);
        let outcome = Generator::default()
            .run(&plan(open(1e6)), &mut clock, &mut sender, &mut receiver)
            .unwrap();
        assert_eq!((outcome.offered, outcome.refused), (100_000, 0));
        assert!(outcome.missed > 90_000, "{}", outcome.missed);
        assert_eq!(outcome.lost(), outcome.missed);
    }

    #[test]
    fn a_burst_ends_with_its_last_frame() {
        let wire = Shared::default();
        let mut clock = Looked::by(100);
        let (mut sender, mut receiver) = (wire.clone(), wire);
        let outcome = Generator::default()
            .run(&plan(Load::Burst { frames: 1000 }), &mut clock, &mut sender, &mut receiver)
            .unwrap();
        assert_eq!((outcome.offered, outcome.lost(), outcome.missed), (1000, 0, 0));
        assert!(outcome.length_ns < 20_000, "{}", outcome.length_ns);
    }

    #[test]
    fn a_closed_loop_has_no_more_under_way_than_its_window() {
        let wire = Shared::default();
        let mut clock = Looked::by(100);
        let (mut sender, mut receiver) = (wire.clone(), wire);
        let outcome = Generator::default()
            .run(&plan(Load::Closed { window: 5 }), &mut clock, &mut sender, &mut receiver)
            .unwrap();
        assert!(outcome.offered > 1000 && outcome.lost() == 0, "{}", outcome.offered);
        assert_eq!(outcome.idle_ns, 0, "it never had to wait for its wire");
        // Nothing comes back: one window, and no more within 100 ms.
        let mut clock = Looked::by(1000);
        let mut hole = Shared::default();
        let outcome = Generator::default()
            .run(&plan(Load::Closed { window: 5 }), &mut clock, &mut hole, &mut Full)
            .unwrap();
        assert_eq!((outcome.offered, outcome.lost()), (5, 5));
        assert!(outcome.idle_ns > outcome.length_ns / 2, "{}", outcome.idle_ns);
    }
}
