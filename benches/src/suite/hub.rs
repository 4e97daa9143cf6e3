//! A switch of the tests' own, whose faults are known: what the suite says of it has to be them.
//!
//! Port `p` has the station `mac(p)`. Time is the test's: it goes on by looking at it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hairpin_dataplane::wire::Mac;

use super::clock::Looked;
use super::endpoint::{Receiver, Sender};
use super::frame::{Size, Stream, Tag};
use super::joint::{Joint, Lane};
use super::pace::Pace;
use super::trial::{Generator, Outcome};
use crate::error::Result;

/// What a look at the clock takes, in nanoseconds.
const LOOK_NS: u64 = 500;
/// How long a load is offered, in nanoseconds.
pub const LENGTH_NS: u64 = 100_000_000;
/// Everybody's address.
pub const EVERYBODY: Mac = Mac::new([0xff; 6]);

/// What a hub does with frames.
#[derive(Clone, PartialEq, Debug)]
pub enum Law {
    /// It carries each at once; one whose receiver's queue is full is lost.
    AtOnce,
    /// The same, but every so many-th copy to this port is lost.
    Loses {
        /// The port.
        port: usize,
        /// One in so many.
        one_in: u64,
    },
    /// A frame whose receiver's queue is full waits, and behind it all others of its sender.
    InOrder,
    /// It carries so many frames a second, of those that wait at its senders by turns: of each so
    /// many in a row.
    ByTurns {
        /// Of all senders together.
        frames_per_second: f64,
        /// Of each port in its turn.
        turns: Vec<usize>,
    },
}

/// Its queues have so many frames at most.
#[derive(Debug)]
struct Hub {
    law: Law,
    room: usize,
    /// By senders: what was not carried yet.
    waiting: Vec<VecDeque<Vec<u8>>>,
    /// By receivers: what they have not taken yet.
    queues: Vec<VecDeque<Vec<u8>>>,
    /// Copies to a port that loses some.
    copies: u64,
    /// Frames that it has carried, or could have.
    carried: u64,
    /// Whose turn it is, and how many more frames are carried in it.
    turn: (usize, usize),
}

impl Hub {
    /// The ports to which a frame goes.
    fn receivers(&self, from: usize, frame: &[u8]) -> Vec<usize> {
        let is_his = |&port: &usize| {
            port != from && (frame[..6] == EVERYBODY.octets() || frame[..6] == mac(port).octets())
        };
        (0..self.queues.len()).filter(is_his).collect()
    }

    /// Takes a frame from a port; whether there was room.
    fn accept(&mut self, from: usize, frame: &[u8]) -> bool {
        if self.waiting[from].len() == self.room {
            return false;
        }
        self.waiting[from].push_back(frame.to_vec());
        true
    }

    /// Carries what is due.
    fn carry(&mut self, now_ns: u64) {
        match self.law.clone() {
            Law::AtOnce | Law::Loses { .. } | Law::InOrder => {
                for from in 0..self.waiting.len() {
                    while self.carry_one(from) {}
                }
            }
            Law::ByTurns { frames_per_second, turns } => {
                let due = Pace { frames_per_second }.due(now_ns);
                while self.carried < due && self.carry_in_turn(&turns) {
                    self.carried += 1;
                }
                // Time in which nobody had anything is gone.
                self.carried = due;
            }
        }
    }

    /// Carries the next frame by turns; whether anybody had one.
    fn carry_in_turn(&mut self, turns: &[usize]) -> bool {
        for _ in 0..=turns.len() {
            let (port, left) = self.turn;
            if left > 0 && self.carry_one(port) {
                self.turn = (port, left - 1);
                return true;
            }
            let next = (port + 1) % turns.len();
            self.turn = (next, turns[next]);
        }
        false
    }

    /// Carries the first frame that waits at a port; whether there was one that could be.
    fn carry_one(&mut self, from: usize) -> bool {
        let Some(frame) = self.waiting[from].front().cloned() else { return false };
        let receivers = self.receivers(from, &frame);
        let is_full = |&port: &usize| self.queues[port].len() == self.room;
        if self.law == Law::InOrder && receivers.iter().any(is_full) {
            return false;
        }
        self.waiting[from].pop_front();
        for port in receivers {
            if self.queues[port].len() < self.room && !self.loses(port) {
                self.queues[port].push_back(frame.clone());
            }
        }
        true
    }

    /// Whether the next copy to a port is one of those that are lost.
    fn loses(&mut self, to: usize) -> bool {
        let Law::Loses { port, one_in } = self.law else { return false };
        self.copies += u64::from(port == to);
        port == to && self.copies.is_multiple_of(one_in)
    }
}

/// The generator's end of one of a hub's ports.
struct HubPort {
    number: usize,
    hub: Rc<RefCell<Hub>>,
    time: Looked,
}

impl Sender for HubPort {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        let mut hub = self.hub.borrow_mut();
        let mut sent = 0;
        for frame in frames {
            hub.carry(self.time.peek_ns());
            sent += usize::from(hub.accept(self.number, frame));
        }
        hub.carry(self.time.peek_ns());
        Ok(sent)
    }
}

impl Receiver for HubPort {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let came = {
            let mut hub = self.hub.borrow_mut();
            hub.carry(self.time.peek_ns());
            std::mem::take(&mut hub.queues[self.number])
        };
        came.iter().for_each(|frame| visit(frame));
        Ok(())
    }
}

/// The address of the station at a port.
pub fn mac(port: usize) -> Mac {
    Mac::new([2, 0, 0, 0, 0, port as u8])
}

/// Frames of 64 bytes from one port to another.
pub fn stream(from: usize, to: usize) -> Stream {
    let (source, destination) = (mac(from).into(), mac(to).into());
    Stream { source, destination, tag: Tag::Untagged, size: Size::Fixed(64), flows: 1 }
}

/// What comes of these lanes at a hub of four ports with queues of so many frames; and what is in
/// the ports' queues at the end.
pub fn offer(law: Law, room: usize, joint: Joint<'_>) -> (Vec<Vec<Outcome>>, Vec<usize>) {
    const PORTS: usize = 4;
    let queues = || vec![VecDeque::new(); PORTS];
    let (waiting, queues) = (queues(), queues());
    let hub = Hub { law, room, waiting, queues, copies: 0, carried: 0, turn: (0, 0) };
    let (hub, mut time) = (Rc::new(RefCell::new(hub)), Looked::by(LOOK_NS));
    let port = |number| HubPort { number, hub: Rc::clone(&hub), time: time.clone() };
    let mut ports: Vec<HubPort> = (0..PORTS).map(port).collect();
    let outcomes = Generator::default().run_jointly(joint, &mut time, &mut ports).unwrap();
    let left = hub.borrow().queues.iter().map(VecDeque::len).collect();
    (outcomes, left)
}

/// These lanes for a tenth of a second.
pub fn joint(lanes: &[Lane]) -> Joint<'_> {
    Joint { lanes, length_ns: LENGTH_NS, drain_ns: LENGTH_NS / 10, dozer: None }
}
