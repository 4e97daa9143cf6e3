//! Several loads at once, at ports of one switch, each accounted for by itself.
//!
//! One thread sends and receives by turns, as in a trial of one load ([`super::trial`]). A port
//! that no lane goes to is not looked at: its ring fills up, as that of a VM that hangs.

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
            for ((lane, one), course) in joint.lanes.iter().enumerate().zip(&mut courses) {
                let wanted = course.wanted(elapsed_ns, books.first(lane));
                course.offer(wanted, now_ns, &mut ports[one.from])?;
                did += wanted;
            }
            did += books.receive(clock, ports)?;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS) {
                interrupt::check()?;
            }
        };
        let until_ns = clock.now_ns() + joint.drain_ns;
        while clock.now_ns() < until_ns && !books.are_whole(&courses) {
            books.receive(clock, ports)?;
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
        Books { accounts, ports, empty }
    }

    fn first(&self, lane: usize) -> &Ledger {
        let found = self.accounts.iter().find(|account| account.lane == lane);
        found.map_or(&self.empty, |account| &account.ledger)
    }

    /// Takes what has come at all ports into account. A frame is that of the lane to this port
    /// whose addresses it has. Says how many there were.
    fn receive<P: Receiver>(&mut self, clock: &mut impl Clock, ports: &mut [P]) -> Result<u64> {
        let Books { accounts, ports: places, .. } = self;
        let mut all = 0;
        for &place in places.iter() {
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
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use hairpin_dataplane::wire::Mac;

    use super::*;
    use crate::suite::frame::{Size, Tag};
    use crate::suite::pace::Pace;

    /// A switch that knows who is where, with queues of so many frames.
    struct Hub {
        queues: Vec<VecDeque<Vec<u8>>>,
        room: usize,
    }

    struct HubPort(usize, Rc<RefCell<Hub>>);

    impl Sender for HubPort {
        fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
            let mut hub = self.1.borrow_mut();
            let room = hub.room;
            for frame in frames {
                for (port, queue) in hub.queues.iter_mut().enumerate() {
                    let his = usize::from(frame[5]) == port || frame[0] == 0xff;
                    if his && port != self.0 && queue.len() < room {
                        queue.push_back(frame.to_vec());
                    }
                }
            }
            Ok(frames.len())
        }
    }

    impl Receiver for HubPort {
        fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
            // The queue is another's while it is shown.
            let came = std::mem::take(&mut self.1.borrow_mut().queues[self.0]);
            came.iter().for_each(|frame| visit(frame));
            Ok(())
        }
    }

    struct Steps(u64);

    impl Clock for Steps {
        fn now_ns(&mut self) -> u64 {
            self.0 += 500;
            self.0
        }
    }

    fn hub(ports: usize, room: usize) -> Vec<HubPort> {
        let hub = Hub { queues: vec![VecDeque::new(); ports], room };
        let hub = Rc::new(RefCell::new(hub));
        (0..ports).map(|port| HubPort(port, Rc::clone(&hub))).collect()
    }

    fn mac(port: usize) -> Mac {
        Mac::new([2, 0, 0, 0, 0, port as u8])
    }

    fn lane(from: usize, destination: Mac, to: &[usize], frames_per_second: f64) -> Lane {
        let (source, destination) = (mac(from).into(), destination.into());
        let stream =
            Stream { source, destination, tag: Tag::Untagged, size: Size::Fixed(64), flows: 1 };
        Lane { stream, load: Load::Open(Pace { frames_per_second }), from, to: to.to_vec() }
    }

    fn run(ports: &mut [HubPort], lanes: &[Lane]) -> Vec<Vec<Outcome>> {
        let joint = Joint { lanes, length_ns: 100_000_000, drain_ns: 1_000_000 };
        Generator::default().run_jointly(joint, &mut Steps(0), ports).unwrap()
    }

    #[test]
    fn each_lane_has_an_account_of_its_own_at_each_port() {
        let everybody = Mac::new([0xff; 6]);
        let lanes = [
            lane(0, mac(1), &[1], 10_000.0),
            lane(2, mac(1), &[1], 20_000.0),
            lane(3, everybody, &[0, 1], 1000.0),
        ];
        let outcomes = run(&mut hub(4, 1 << 20), &lanes);
        let counts = |outcomes: &[Outcome]| -> Vec<(u64, u64)> {
            outcomes.iter().map(|outcome| (outcome.offered, outcome.counts.received)).collect()
        };
        assert_eq!(counts(&outcomes[0]), [(1000, 1000)]);
        assert_eq!(counts(&outcomes[1]), [(2000, 2000)]);
        assert_eq!(counts(&outcomes[2]), [(100, 100), (100, 100)]);
        assert!(outcomes.iter().flatten().all(|outcome| outcome.foreign + outcome.late == 0));
    }

    #[test]
    fn a_port_that_no_lane_goes_to_fills_up_and_the_others_do_not() {
        let mut ports = hub(3, 100);
        let outcomes = run(&mut ports, &[lane(0, mac(1), &[1], 1e4), lane(0, mac(2), &[], 1e4)]);
        assert_eq!((outcomes[0][0].lost(), outcomes[1].len()), (0, 0));
        assert_eq!(ports[0].1.borrow().queues[2].len(), 100);
    }
}
