//! Several loads at once, at ports of one switch, each accounted for by itself.
//!
//! One thread sends and receives by turns, as in a trial of one load ([`super::trial`]). A port
//! that no lane goes to is not looked at: its ring fills up, as that of a VM that hangs. With each
//! turn another lane is the first, so that no sender has what a receiver has just made room for.

use super::clock::Clock;
use super::endpoint::{Receiver, Sender};
use super::frame::Stream;
use super::ledger::Ledger;
use super::trial::{BURST, Course, Generator, LOOKS, Load, Outcome};
use crate::error::Result;
use crate::interrupt;

/// A load, and between which ports.
#[derive(Clone, PartialEq, Debug)]
pub struct Lane {
    /// The frames.
    pub stream: Stream,
    /// How much is offered.
    pub load: Load,
    /// The port that sends, by its place.
    pub from: usize,
    /// The ports that are to receive each frame; a closed loop is closed by the first.
    pub to: Vec<usize>,
}

/// Lanes, and how long they are offered.
#[derive(Clone, Copy, Debug)]
pub struct Joint<'l> {
    /// The loads.
    pub lanes: &'l [Lane],
    /// For how long, in nanoseconds.
    pub length_ns: u64,
    /// How long frames may take to come after the last one was offered, in nanoseconds.
    pub drain_ns: u64,
    /// A port that cannot take whatever comes.
    pub dozer: Option<Dozer>,
}

/// A port that takes what its ring holds only now and then, as a VM that has other things to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dozer {
    /// The port, by its place.
    pub port: usize,
    /// From one look at its ring to the next, in nanoseconds.
    pub every_ns: u64,
}

impl Dozer {
    /// The one that takes so many frames a second, with a ring that holds so many.
    #[must_use]
    pub fn taking(port: usize, frames_per_second: f64, ring_frames: u16) -> Dozer {
        Dozer { port, every_ns: (f64::from(ring_frames) * 1e9 / frames_per_second) as u64 }
    }
}

/// The account of a lane's frames at one port.
#[derive(Debug)]
struct Account {
    lane: usize,
    port: usize,
    ledger: Ledger,
}

impl Generator {
    /// Offers all of them; what came of each lane, at each of the ports that it goes to.
    ///
    /// # Errors
    /// If what is measured is gone, or the run is interrupted.
    pub fn run_jointly<P: Sender + Receiver>(
        &mut self,
        joint: Joint<'_>,
        clock: &mut impl Clock,
        ports: &mut [P],
    ) -> Result<Vec<Vec<Outcome>>> {
        let course = |lane: &Lane| self.course(lane.stream, lane.load, joint.length_ns);
        let mut courses = joint.lanes.iter().map(course).collect::<Result<Vec<_>>>()?;
        let mut books = Books::of(joint.lanes, &courses);
        let (start_ns, mut looks) = (clock.now_ns(), 0_u32);
        books.dozer = joint.dozer.map(|dozer| (dozer, start_ns + dozer.every_ns));
        let (mut before_ns, mut idle_ns, mut did) = (start_ns, 0, 1);
        let length_ns = loop {
            let now_ns = clock.now_ns();
            if did == 0 {
                idle_ns += now_ns - before_ns;
            }
            before_ns = now_ns;
            let elapsed_ns = now_ns - start_ns;
            if elapsed_ns >= joint.length_ns {
                break elapsed_ns;
            }
            did = 0;
            for place in 0..courses.len() {
                let lane = (place + looks as usize) % courses.len();
                let (one, course) = (&joint.lanes[lane], &mut courses[lane]);
                let wanted = course.wanted(elapsed_ns, books.first(lane));
                course.offer(wanted, now_ns, &mut ports[one.from])?;
                did += wanted;
            }
            did += books.receive(now_ns, clock, ports)?;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS) {
                interrupt::check()?;
            }
        };
        let until_ns = clock.now_ns() + joint.drain_ns;
        loop {
            let now_ns = clock.now_ns();
            if now_ns >= until_ns || books.are_whole(&courses) {
                break;
            }
            books.receive(now_ns, clock, ports)?;
        }
        let length_ns = length_ns.min(joint.length_ns);
        let outcomes = |(lane, course): (usize, &Course)| -> Vec<Outcome> {
            let outcomes = books.outcomes(lane, course, length_ns).into_iter();
            outcomes.map(|outcome| Outcome { idle_ns, ..outcome }).collect()
        };
        Ok(courses.iter().enumerate().map(outcomes).collect())
    }
}

/// All accounts.
#[derive(Debug)]
struct Books {
    accounts: Vec<Account>,
    /// Ports that are looked at.
    ports: Vec<usize>,
    /// For lanes that nobody receives.
    empty: Ledger,
    /// Who dozes, and when he looks next.
    dozer: Option<(Dozer, u64)>,
}

impl Books {
    fn of(lanes: &[Lane], courses: &[Course]) -> Books {
        let lane = |(lane, (one, course)): (usize, (&Lane, &Course))| -> Vec<Account> {
            let account = |&port: &usize| Account { lane, port, ledger: course.ledger() };
            one.to.iter().map(account).collect()
        };
        let accounts: Vec<Account> = lanes.iter().zip(courses).enumerate().flat_map(lane).collect();
        let mut ports: Vec<usize> = accounts.iter().map(|account| account.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let nobody = lanes.first().map(|lane| Ledger::new(lane.stream, 0, 0));
        let empty = nobody.unwrap_or_else(|| Ledger::new(Stream::NOBODYS, 0, 0));
        Books { accounts, ports, empty, dozer: None }
    }

    fn first(&self, lane: usize) -> &Ledger {
        let found = self.accounts.iter().find(|account| account.lane == lane);
        found.map_or(&self.empty, |account| &account.ledger)
    }

    /// Takes what has come at all ports into account. A frame is that of the lane to this port
    /// whose addresses it has. Says how many there were.
    fn receive<P: Receiver>(
        &mut self,
        now_ns: u64,
        clock: &mut impl Clock,
        ports: &mut [P],
    ) -> Result<u64> {
        let asleep = self.asleep(now_ns);
        let Books { accounts, ports: places, .. } = self;
        let mut all = 0;
        for &place in places.iter().filter(|&&place| Some(place) != asleep) {
            let (mut came, mut now_ns) = (0, 0);
            ports[place].receive(&mut |frame| {
                if came % BURST == 0 {
                    now_ns = clock.now_ns();
                }
                came += 1;
                let mut here = accounts.iter_mut().filter(|account| account.port == place);
                if let Some(account) = here.find(|account| account.ledger.stream().claims(frame)) {
                    account.ledger.enter(frame, now_ns);
                }
            })?;
            all += came as u64;
        }
        Ok(all)
    }

    /// The port that does not look now; wakes it when it is time.
    fn asleep(&mut self, now_ns: u64) -> Option<usize> {
        let (dozer, wakes_ns) = self.dozer.as_mut()?;
        if now_ns < *wakes_ns {
            return Some(dozer.port);
        }
        *wakes_ns += dozer.every_ns;
        None
    }

    /// Whether all that was sent has come everywhere, nothing of it twice.
    fn are_whole(&self, courses: &[Course]) -> bool {
        self.accounts.iter().all(|Account { lane, ledger, .. }| {
            let counts = ledger.total();
            counts.received == courses[*lane].sent() && counts.duplicated == 0
        })
    }

    fn outcomes(&self, lane: usize, course: &Course, length_ns: u64) -> Vec<Outcome> {
        let accounts = self.accounts.iter().filter(|account| account.lane == lane);
        accounts.map(|account| course.outcome(&account.ledger, length_ns)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::hub::{self, EVERYBODY, Law};
    use crate::suite::pace::Pace;

    fn lane(from: usize, stream: Stream, to: &[usize], frames_per_second: f64) -> Lane {
        Lane { stream, load: Load::Open(Pace { frames_per_second }), from, to: to.to_vec() }
    }

    fn counts(outcomes: &[Outcome]) -> Vec<(u64, u64)> {
        outcomes.iter().map(|outcome| (outcome.offered, outcome.counts.received)).collect()
    }

    #[test]
    fn each_lane_has_an_account_of_its_own_at_each_port() {
        let everybody = Stream { destination: EVERYBODY.into(), ..hub::stream(3, 0) };
        let lanes = [
            lane(0, hub::stream(0, 1), &[1], 10_000.0),
            lane(2, hub::stream(2, 1), &[1], 20_000.0),
            lane(3, everybody, &[0, 1], 1000.0),
        ];
        let (outcomes, _) = hub::offer(Law::AtOnce, 1 << 20, hub::joint(&lanes));
        assert_eq!(counts(&outcomes[0]), [(1000, 1000)]);
        assert_eq!(counts(&outcomes[1]), [(2000, 2000)]);
        assert_eq!(counts(&outcomes[2]), [(100, 100), (100, 100)]);
        assert!(outcomes.iter().flatten().all(|outcome| outcome.foreign + outcome.late == 0));
    }

    #[test]
    fn a_port_that_no_lane_goes_to_fills_up_and_the_others_do_not() {
        let lanes = [lane(0, hub::stream(0, 1), &[1], 1e4), lane(0, hub::stream(0, 2), &[], 1e4)];
        let (outcomes, left) = hub::offer(Law::AtOnce, 100, hub::joint(&lanes));
        assert_eq!((outcomes[0][0].lost(), outcomes[1].len()), (0, 0));
        assert_eq!(left[2], 100);
    }

    #[test]
    fn a_port_that_dozes_takes_a_ring_each_time_it_wakes_and_the_others_all() {
        let lanes = [lane(0, hub::stream(0, 1), &[1], 1e5), lane(2, hub::stream(2, 3), &[3], 1e5)];
        // Fifty frames each millisecond, of a hundred that come.
        let dozer = Some(Dozer::taking(1, 5e4, 50));
        let (outcomes, _) = hub::offer(Law::AtOnce, 50, Joint { dozer, ..hub::joint(&lanes) });
        let [(10_000, taken)] = counts(&outcomes[0])[..] else { panic!("{outcomes:?}") };
        assert!((4950..=5050).contains(&taken), "{taken}");
        assert_eq!(counts(&outcomes[1]), [(10_000, 10_000)]);
    }

    #[test]
    fn no_lane_is_always_the_first() {
        // Room for one frame each time that the receiver looks: whoever comes first has it.
        let lanes = [0, 2, 3].map(|from| lane(from, hub::stream(from, 1), &[1], 1e6));
        let (outcomes, _) = hub::offer(Law::AtOnce, 1, hub::joint(&lanes));
        let came: Vec<u64> = outcomes.iter().map(|one| one[0].counts.received).collect();
        let (least, most) = (came.iter().min().unwrap(), came.iter().max().unwrap());
        assert!(*least > 1000 && most - least <= most / 20, "{came:?}");
    }
}
