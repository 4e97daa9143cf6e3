//! Whether a netdev's line counts as up. As soon as it falls it does not; when it is back it
//! does at once, unless it falls often: then only after it has stayed, and each time longer.

use std::time::{Duration, Instant};

use hairpin_dataplane::snapshot::Admin;
use hairpin_dataplane::sys::netdev::{Description, Line, Told};

/// Falls within [`WINDOW`] that have no consequences.
const FALLS_FREE: u32 = 3;
const WINDOW: Duration = Duration::from_secs(1);
/// How long a line that fell more often has to stay up before it counts: at first, and at
/// most.
const HOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// A line that has counted as up for so long is forgiven its falls.
const FORGIVEN: Duration = Duration::from_secs(10);

/// What a line counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Up.
    Up,
    /// Down: it has no carrier.
    NoCarrier,
    /// Down: its owner has it down.
    Down,
    /// Down: it is up, but has not been for as long as one that falls so often has to.
    Flaps {
        /// How long that is.
        hold: Duration,
    },
}

impl Verdict {
    /// What stands against its being up, in a sentence with its remedy.
    #[must_use]
    pub fn problem(self, interface: &str) -> Option<String> {
        match self {
            Verdict::Up => None,
            Verdict::NoCarrier => Some(format!(
                "interface {interface} has no carrier (cable unplugged, or its peer is down)"
            )),
            Verdict::Down => Some(format!(
                "interface {interface} is down (`ip link set {interface} up` brings it up)"
            )),
            Verdict::Flaps { hold } => Some(format!(
                "interface {interface} flaps: it counts as up once it has been up for {} s on \
                 end; see to its cable and its peer",
                hold.as_secs()
            )),
        }
    }

    /// The same as a port's or link's owner would say it.
    #[must_use]
    pub fn admin(self) -> Admin {
        match self {
            Verdict::Up => Admin::Up,
            Verdict::NoCarrier | Verdict::Down | Verdict::Flaps { .. } => Admin::Down,
        }
    }
}

/// What a policy is compiled from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// What it counts as.
    pub verdict: Verdict,
    /// How often it fell while it counted as up. What was learned before a fall does not
    /// count, although it may have been over before anybody looked.
    pub falls: u64,
}

impl State {
    /// Of what has no line, or one that nobody tells of.
    pub const UP: State = State { verdict: Verdict::Up, falls: 0 };
}

/// A netdev's line at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// How it is.
    pub line: Line,
    /// How often it has lost its carrier.
    pub carrier_losses: u32,
}

impl Seen {
    /// Of what has no line, or one that nobody tells of.
    pub const UP: Seen = Seen { line: Line::Up, carrier_losses: 0 };
}

impl From<Description> for Seen {
    fn from(found: Description) -> Seen {
        Seen { line: found.line, carrier_losses: found.carrier_losses }
    }
}

/// A netdev's line, followed. Times are arguments, and never go back.
#[derive(Clone, Debug)]
pub struct Followed {
    state: State,
    /// As it was seen last, and how often it had lost its carrier.
    seen: Seen,
    /// Since when it is known.
    known: Instant,
    /// When it was last seen, or known, to be anything but up.
    fallen: Instant,
    /// Since when it counts as up.
    counts: Instant,
    /// Falls since the beginning of a window.
    recent: (u32, Instant),
    /// How long it has to stay up before it counts; zero if it does not flap.
    hold: Duration,
}

impl Followed {
    /// Of a netdev that was just opened.
    #[must_use]
    pub fn new(seen: Seen, now: Instant) -> Followed {
        let state = State { verdict: verdict(seen.line), falls: 0 };
        let (fallen, counts, recent) = (now, now, (0, now));
        Followed { state, seen, known: now, fallen, counts, recent, hold: Duration::ZERO }
    }

    /// Of a netdev that was opened in the place of one that was lost: its past is not
    /// forgotten.
    #[must_use]
    pub fn succeed(&self, next: &Followed) -> Followed {
        let state = State { verdict: next.state.verdict, falls: self.state.falls };
        let (seen, known, counts) = (next.seen, next.known, next.counts);
        Followed { state, seen, known, counts, ..*self }
    }

    /// What it counts as.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when it is known: what was told before does not concern it.
    #[must_use]
    pub fn known(&self) -> Instant {
        self.known
    }

    /// Takes note of how it is now, and of what was told of it meanwhile.
    pub fn look(&mut self, seen: Seen, told: Option<Told>, now: Instant) {
        let falls = self.falls(seen, told);
        self.seen = seen;
        if falls > 0 {
            self.fall(falls, now);
        }
        if falls > 0 || seen.line != Line::Up {
            self.fallen = now;
        }
        let before = self.state.verdict;
        self.state.verdict = match verdict(seen.line) {
            Verdict::Up if now < self.stays() => Verdict::Flaps { hold: self.hold },
            verdict => verdict,
        };
        if before != Verdict::Up && self.state.verdict == Verdict::Up {
            self.counts = now;
        }
    }

    /// The netdev is gone. When to look for it again: not at once where it comes and goes.
    pub fn lose(&mut self, now: Instant) -> Instant {
        self.fall(1, now);
        (self.fallen, self.state.verdict) = (now, Verdict::Up);
        self.stays()
    }

    /// When a netdev that is gone, or a line that is up, has been left in peace for long
    /// enough.
    #[must_use]
    pub fn stays(&self) -> Instant {
        self.fallen + self.hold
    }

    /// Whether it may count as up without anything being told of it.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state.verdict, Verdict::Flaps { .. }) && self.stays() <= now
    }

    /// How long one that comes and goes is left alone; nothing if it does not.
    #[must_use]
    pub fn hold(&self) -> Option<Duration> {
        (!self.hold.is_zero()).then_some(self.hold)
    }

    /// How often it fell since it was last seen: as told, or as counted. What lost its
    /// carrier in between without having been up again fell once.
    fn falls(&self, now: Seen, told: Option<Told>) -> u32 {
        let fell = |from, to| u32::from(from == Line::Up && to != Line::Up);
        let (before, line) = (self.seen.line, now.line);
        let told = match told {
            None => fell(before, line),
            Some(told) => fell(before, told.first) + told.falls + fell(told.last, line),
        };
        let losses = now.carrier_losses.saturating_sub(self.seen.carrier_losses);
        told.max(losses)
    }

    /// Notes falls of a line that counted as up; with others nothing changes for anybody.
    fn fall(&mut self, falls: u32, now: Instant) {
        if self.state.verdict != Verdict::Up {
            return;
        }
        self.state.falls += u64::from(falls);
        let (before, begin) = self.recent;
        self.recent = match now.saturating_duration_since(begin) < WINDOW {
            true => (before.saturating_add(falls), begin),
            false => (falls, now),
        };
        if now.saturating_duration_since(self.counts) >= FORGIVEN {
            self.hold = Duration::ZERO;
        }
        if !self.hold.is_zero() || self.recent.0 > FALLS_FREE {
            self.hold = (2 * self.hold).clamp(HOLD.0, HOLD.1);
        }
    }
}

/// What a line that does not flap counts as.
fn verdict(line: Line) -> Verdict {
    match line {
        Line::Up => Verdict::Up,
        Line::NoCarrier => Verdict::NoCarrier,
        Line::Down => Verdict::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A line, and a clock that goes on by a tick with each look.
    struct Watched {
        line: Followed,
        now: Instant,
    }

    impl Watched {
        fn new() -> Watched {
            let now = Instant::now();
            Watched { line: Followed::new(Seen::UP, now), now }
        }

        fn told(&mut self, line: Line, told: Option<Told>) -> Verdict {
            self.now += TICK;
            self.line.look(Seen { line, ..Seen::UP }, told, self.now);
            self.line.state().verdict
        }

        fn look(&mut self, line: Line) -> Verdict {
            self.told(line, None)
        }

        /// Falls and comes back; says whether it counts as up then.
        fn flap(&mut self) -> Verdict {
            assert_eq!(self.look(Line::NoCarrier), Verdict::NoCarrier, "at once");
            self.look(Line::Up)
        }

        /// Stays up until it counts; how many ticks that took.
        fn wait(&mut self) -> u32 {
            (1..).find(|_| self.look(Line::Up) == Verdict::Up).unwrap()
        }
    }

    #[test]
    fn a_line_that_falls_now_and_then_is_up_as_soon_as_it_is_back() {
        let mut watched = Watched::new();
        for falls in 1..=50 {
            assert_eq!(watched.flap(), Verdict::Up);
            assert_eq!(watched.line.state().falls, falls);
            watched.now += WINDOW / 2;
        }
        assert_eq!(watched.look(Line::Down), Verdict::Down);
        assert_eq!(watched.look(Line::Up), Verdict::Up);
    }

    #[test]
    fn one_that_flaps_is_held_down_longer_each_time_and_forgiven_in_the_end() {
        let mut watched = Watched::new();
        for _ in 0..FALLS_FREE {
            assert_eq!(watched.flap(), Verdict::Up);
        }
        for seconds in [1, 2, 4, 8, 8] {
            let hold = Duration::from_secs(seconds);
            assert_eq!(watched.flap(), Verdict::Flaps { hold });
            // However often it falls meanwhile: what counts is since when it stays.
            assert_eq!(watched.flap(), Verdict::Flaps { hold });
            let falls = watched.line.state().falls;
            assert_eq!(watched.wait(), seconds as u32 * 10 - 1);
            assert_eq!(watched.line.state().falls, falls, "it counted as down");
        }
        watched.now += FORGIVEN;
        assert_eq!(watched.flap(), Verdict::Up);
    }

    #[test]
    fn endless_flapping_changes_little() {
        let mut watched = Watched::new();
        let mut changes = 0;
        for tick in 0..6000 {
            let before = watched.line.state().verdict.admin();
            watched.look(if tick % 3 == 0 { Line::NoCarrier } else { Line::Up });
            changes += u32::from(before != watched.line.state().verdict.admin());
        }
        // In ten minutes: down and up for those that are free, in two windows at most, and
        // down for the one that was not.
        assert!(changes <= 2 * 2 * FALLS_FREE + 1, "{changes}");
    }

    #[test]
    fn falls_between_two_looks_count() {
        let mut watched = Watched::new();
        let told = |first, falls, last| Some(Told { first, falls, last });
        assert_eq!(watched.told(Line::Up, told(Line::Down, 0, Line::Up)), Verdict::Up);
        assert_eq!(watched.line.state().falls, 1);
        // What is told late was seen before.
        watched.look(Line::NoCarrier);
        watched.told(Line::Up, told(Line::NoCarrier, 0, Line::Up));
        assert_eq!(watched.line.state().falls, 2);
        let verdict = watched.told(Line::Up, told(Line::Up, 40, Line::Up));
        assert_eq!(verdict, Verdict::Flaps { hold: HOLD.0 });
        assert!(!watched.line.is_due(watched.now) && watched.line.is_due(watched.now + HOLD.0));
    }

    #[test]
    fn losses_that_nobody_was_told_of_count() {
        let mut watched = Watched::new();
        let once = Seen { carrier_losses: 1, ..Seen::UP };
        watched.line.look(once, None, watched.now);
        assert_eq!(watched.line.state(), State { verdict: Verdict::Up, falls: 1 });
        watched.line.look(once, None, watched.now);
        assert_eq!(watched.line.state().falls, 1, "that one was counted");
        let often = Seen { carrier_losses: 201, ..Seen::UP };
        watched.line.look(often, None, watched.now);
        assert_eq!(watched.line.state().verdict, Verdict::Flaps { hold: HOLD.0 });
    }

    #[test]
    fn a_netdev_that_comes_and_goes_is_left_alone_for_a_while() {
        let mut watched = Watched::new();
        for falls in 1..=8_u64 {
            let again = watched.line.lose(watched.now);
            let waits = again - watched.now;
            let wanted = match falls {
                ..=3 => 0,
                4 => 1,
                5 => 2,
                6 => 4,
                _ => 8,
            };
            assert_eq!(waits, Duration::from_secs(wanted));
            watched.now = again + TICK;
            let next = Followed::new(Seen::UP, watched.now);
            watched.line = watched.line.succeed(&next);
            assert_eq!(watched.line.state(), State { verdict: Verdict::Up, falls });
            assert_eq!(watched.look(Line::Up), Verdict::Up, "it waited already");
        }
    }
}
