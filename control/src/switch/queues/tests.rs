//! What becomes of a queue that travels while something else happens. Nobody supervises
//! the engine here: a worker's answer waits until the test has it heard.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use std::io;

use crossbeam_channel::TryRecvError;
use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::memory::{self, Endpoint, SendError};
use hairpin_dataplane::port::xdp::Caretaker;
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::command::Event;

use super::super::Order;
use super::super::devices::{Embedder, Endpoints, Outcome};
use super::super::history::History;
use super::*;
use crate::config::{
    Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig, SwitchConfig,
};

/// Far longer than anything here takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(20);

fn port(number: u8, slots: usize) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config { slots, ..memory::Config::default() });
    let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, device);
    port.macs.push(mac(number).into());
    port
}

fn desired(ports: Vec<PortConfig>) -> Desired {
    let switch = SwitchConfig { workers: vec![0, 1], ..SwitchConfig::default() };
    let links = vec![LinkConfig::new("up0", LinkRole::Station, None)];
    Desired::try_from(Config { switch, links, ports, ..Config::default() }).unwrap()
}

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

/// An engine with two workers and the ports vm1, at worker 0, and vm2, at worker 1.
struct Site {
    engine: Engine,
    endpoints: Endpoints,
    one: Endpoint,
    two: Endpoint,
}

impl Site {
    fn start() -> Site {
        let endpoints = Endpoints::default();
        let wanted = desired(vec![port(1, 64), port(2, 64)]);
        let mut engine = Engine::new(
            wanted.switch(),
            Box::new(endpoints.clone()),
            Caretaker::default(),
            History::in_memory(),
        )
        .unwrap();
        engine.apply(wanted, &Order::default()).unwrap();
        let [one, two] = ["vm1", "vm2"].map(|name| endpoints.take(name).unwrap());
        let site = Site { engine, endpoints, one, two };
        assert_eq!(site.places(), [(0, false), (1, false)]);
        site
    }

    /// By port: its queue's worker, and whether it is still to come.
    fn places(&self) -> Vec<(usize, bool)> {
        let queues = self.engine.queues().into_iter();
        queues.map(|queue| (queue.worker, queue.state == QueueState::Moving)).collect()
    }

    /// Orders that vm1's queue move.
    fn move_to(&mut self, worker: usize) -> Receiver<()> {
        self.engine.move_queue("vm1", None, worker).unwrap().arrival.expect("it travels")
    }

    /// What a worker gave back, which control has not heard of yet.
    fn given_back(&self) -> Box<ReceiveQueue> {
        let events = self.engine.crew.events();
        loop {
            if let Event::Dismissed(queue) = events.recv_timeout(LONG).unwrap() {
                return queue;
            }
        }
    }

    /// Has control hear of what a worker gives back.
    fn hear(&mut self) {
        let queue = self.given_back();
        self.engine.handle(Event::Dismissed(queue));
    }

    /// Has control hear that a worker has what was handed to it.
    fn hear_arrival(&mut self) {
        let events = self.engine.crew.events();
        loop {
            if let event @ Event::Reported(_) = events.recv_timeout(LONG).unwrap() {
                return self.engine.handle(event);
            }
        }
    }

    /// A frame of vm1's, with its number.
    fn send(&mut self, number: u8) -> Result<(), SendError> {
        let mut frame = [&mac(2).octets()[..], &mac(1).octets(), &[0x88, 0xb5, number]].concat();
        frame.resize(60, 0);
        self.one.send(&frame, Offload::NONE)
    }

    /// The number of the next frame at vm2.
    fn receive(&mut self) -> u8 {
        let (end, mut frame) = (Instant::now() + LONG, Vec::new());
        while self.two.receive(&mut frame).is_none() {
            assert!(Instant::now() < end, "no frame comes");
            self.two.wait(Duration::from_millis(10));
        }
        frame[14]
    }

    fn assert_detached(&mut self) {
        let end = Instant::now() + LONG;
        while self.send(0) != Err(SendError::Detached) {
            assert!(Instant::now() < end, "the queue is not closed");
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_comes_while_a_queue_travels_waits_in_it() {
    let mut site = Site::start();
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
    let arrival = site.move_to(1);
    let queue = site.given_back();
    assert_eq!(site.places(), [(1, true), (1, false)]);
    (2..10).for_each(|number| site.send(number).unwrap());
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Empty));
    site.engine.handle(Event::Dismissed(queue));
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Empty), "its worker has not said so");
    assert_eq!(site.places(), [(1, true), (1, false)]);
    site.hear_arrival();
    assert_eq!(arrival.try_recv(), Ok(()));
    assert_eq!((2..10).map(|_| site.receive()).collect::<Vec<_>>(), (2..10).collect::<Vec<_>>());
    assert_eq!(site.places(), [(1, false), (1, false)]);
    let totals = site.engine.totals();
    assert!(totals.values().all(|totals| totals.is_balanced()), "{totals:?}");
    assert_eq!(site.engine.queues()[0].total.frames, 9, "it counts on at the other worker");
}

#[test]
fn of_two_moves_the_later_one_holds() {
    let mut site = Site::start();
    let first = site.move_to(1);
    let queue = site.given_back();
    let second = site.move_to(0);
    let also = site.move_to(0);
    assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
    site.engine.handle(Event::Dismissed(queue));
    // Handed over already, and waited for once more.
    let last = site.move_to(0);
    site.hear_arrival();
    let heard = [second, also, last].map(|arrival| arrival.try_recv());
    assert_eq!(heard, [Ok(()), Ok(()), Ok(())]);
    assert_eq!(site.places()[0], (0, false));
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
    // There is nothing to wait for where it is.
    assert!(site.engine.move_queue("vm1", Some(0), 0).unwrap().arrival.is_none());
}

#[test]
fn a_queue_that_is_moved_on_before_its_worker_said_a_word_arrives_at_the_last_one() {
    let mut site = Site::start();
    let first = site.move_to(1);
    site.hear();
    let second = site.move_to(0);
    assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
    // The word of the worker that had it in between is nobody's any more.
    site.hear_arrival();
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    site.hear();
    assert_eq!((second.try_recv(), site.places()[0]), (Err(TryRecvError::Empty), (0, true)));
    site.hear_arrival();
    assert_eq!((second.try_recv(), site.places()[0]), (Ok(()), (0, false)));
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
}

#[test]
fn a_release_while_a_queue_is_handed_over_has_it_arrive_all_the_same() {
    let mut site = Site::start();
    let arrival = site.move_to(1);
    site.hear();
    let attached = Arc::clone(&site.engine.devices["vm1"].attached);
    attached.set_condition(Condition::Quarantined);
    assert_eq!(site.engine.release("vm1").unwrap(), Release::Released);
    site.hear_arrival();
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Empty));
    site.hear();
    site.hear_arrival();
    assert_eq!((arrival.try_recv(), site.places()[0]), (Ok(()), (1, false)));
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
}

#[test]
fn a_port_that_goes_takes_its_travelling_queue_along() {
    let mut site = Site::start();
    let arrival = site.move_to(1);
    site.engine.apply(desired(vec![port(2, 64)]), &Order::default()).unwrap();
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Disconnected));
    site.hear();
    site.assert_detached();
    assert_eq!(site.places(), [(1, false)]);
}

#[test]
fn a_device_opened_again_is_where_its_travelling_queue_was_to_go() {
    let mut site = Site::start();
    let arrival = site.move_to(1);
    // Another device for the same port, while the queue of the one before travels.
    site.engine.apply(desired(vec![port(1, 128), port(2, 64)]), &Order::default()).unwrap();
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Disconnected));
    site.hear();
    site.assert_detached();
    site.one = site.endpoints.take("vm1").unwrap();
    assert_eq!(site.places(), [(1, false), (1, false)]);
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
}

#[test]
fn a_release_leaves_a_travelling_queue_on_its_way() {
    let mut site = Site::start();
    let arrival = site.move_to(1);
    let queue = site.given_back();
    queue.attached.set_condition(Condition::Quarantined);
    assert!(matches!(
        site.engine.move_queue("vm1", None, 0),
        Err(MoveError::Quarantined { port }) if port == "vm1"
    ));
    assert_eq!(site.engine.release("vm1").unwrap(), Release::Released);
    assert_eq!(site.places()[0], (1, true));
    site.engine.handle(Event::Dismissed(queue));
    site.hear_arrival();
    assert_eq!(arrival.try_recv(), Ok(()));
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
}

#[test]
fn a_released_queue_can_be_moved_on_its_way_back() {
    let mut site = Site::start();
    let attached = Arc::clone(&site.engine.devices["vm1"].attached);
    attached.set_condition(Condition::Quarantined);
    assert_eq!(site.engine.release("vm1").unwrap(), Release::Released);
    let arrival = site.move_to(1);
    site.hear();
    site.hear_arrival();
    assert_eq!(arrival.try_recv(), Ok(()));
    assert_eq!(site.places()[0], (1, false));
    site.send(1).unwrap();
    assert_eq!(site.receive(), 1);
}

#[test]
fn a_queue_that_its_worker_cannot_take_is_kept_until_the_port_is_released() {
    let mut site = Site::start();
    let arrival = site.move_to(1);
    let queue = site.given_back();
    site.send(1).unwrap();
    site.engine.handle(Event::Refused { queue, cause: "a test says so" });
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Disconnected));
    let device = &site.engine.devices["vm1"];
    assert_eq!(device.attached.condition(), Condition::Quarantined);
    assert_eq!(device.last_error, "worker 1 could not take its queue 0: a test says so");
    assert_eq!(site.engine.queues()[0].state, QueueState::Dormant);
    assert_eq!(site.engine.release("vm1").unwrap(), Release::Released);
    assert_eq!(site.receive(), 1, "what had waited in it");
    assert_eq!(site.places()[0], (1, false));
}

#[test]
fn a_worker_that_is_not_well_neither_gives_nor_takes() {
    let mut site = Site::start();
    site.engine.crew.end_one(1);
    let refused = |site: &mut Site, port, to| {
        let ordered = site.engine.move_queue(port, None, to);
        ordered.map(|ordered| ordered.moved).unwrap_err().to_string()
    };
    // Nobody has looked yet: the queue comes to nobody, and is kept.
    let arrival = site.move_to(1);
    let back = site.given_back();
    let queue = if &*back.attached.name == "vm1" { back } else { site.given_back() };
    site.engine.handle(Event::Dismissed(queue));
    assert_eq!(arrival.try_recv(), Err(TryRecvError::Disconnected));
    let kept = "worker 1 could not take its queue 0: its thread has ended";
    assert_eq!(site.engine.devices["vm1"].last_error, kept);
    let ended = "worker 1: its thread has ended; restart the daemon, or choose another";
    assert_eq!(refused(&mut site, "vm2", 0), ended);
    site.engine.crew.watch(Instant::now());
    assert_eq!(refused(&mut site, "vm2", 1), ended);
}

/// Two queues for each port.
struct TwoQueues;

impl Embedder for TwoQueues {
    fn open(&mut self, _: &str, config: memory::Config) -> io::Result<Opened> {
        let [(first, one), (second, other)] = [memory::pair(config)?, memory::pair(config)?];
        let (mut opened, second): (Opened, Opened) = (first.into(), second.into());
        opened.receivers.extend(second.receivers);
        opened.transmitters.extend(second.transmitters);
        // For as long as the process lives: nobody sends.
        std::mem::forget([one, other]);
        Ok(opened)
    }

    fn settle(&mut self, _: Outcome) {}
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_remedy() {
    let wanted = desired(vec![port(1, 64)]);
    let mut engine = Engine::new(
        wanted.switch(),
        Box::new(TwoQueues),
        Caretaker::default(),
        History::in_memory(),
    )
    .unwrap();
    engine.apply(wanted, &Order::default()).unwrap();
    let mut refused = |port, queue, to| {
        let ordered = engine.move_queue(port, queue, to);
        ordered.map(|ordered| ordered.moved).unwrap_err().to_string()
    };
    for (asked, said) in [
        (("vn1", None, 0), "there is no port or link with a device \"vn1\" (did you mean vm1?)"),
        (("vm1", Some(2), 0), "vm1: queue 2: there is none; its queues are 0 to 1"),
        (
            ("vm1", None, 0),
            "vm1: queue: none is named, and it has several; name one of vm1:0 to vm1:1",
        ),
        (("vm1", Some(0), 2), "worker 2: there is none; workers are 0 to 1, see `hairpin workers`"),
    ] {
        let (port, queue, to) = asked;
        assert_eq!(refused(port, queue, to), said);
    }
    let attached = Arc::clone(&engine.devices["vm1"].attached);
    for (condition, said) in [
        (Condition::Lost, "vm1: its device is not there"),
        (Condition::Quarantined, "end that first, with `hairpin port release vm1`"),
    ] {
        attached.set_condition(condition);
        let error = engine.move_queue("vm1", Some(0), 1).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    // Of two, one moves and the other one stays.
    attached.set_condition(Condition::Working);
    engine.move_queue("vm1", Some(0), 1).unwrap();
    let Event::Dismissed(queue) = engine.crew.events().recv_timeout(LONG).unwrap() else {
        panic!("one queue")
    };
    assert_eq!(queue.index, 0);
    engine.handle(Event::Dismissed(queue));
    assert_eq!(engine.devices["vm1"].placement(), [1, 1]);
    let event = engine.crew.events().recv_timeout(LONG).unwrap();
    assert!(matches!(event, Event::Reported(_)), "the other one stays: {event:?}");
    assert!(engine.crew.events().is_empty(), "the other one stays");
}
