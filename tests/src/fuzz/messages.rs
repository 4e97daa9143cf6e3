//! A front end's messages, to a connection and its session.
//!
//! An input is a byte for the device's queue pairs and features, then operations: a byte
//! for which, and what that takes. After each one:
//!
//! * an answer was due, and is the one to that message, well-formed;
//! * rings run exactly where the session says so, on the memory that there is now; a ring
//!   that was stopped and memory that was taken back are nobody's any more;
//! * after the end no descriptor is open and no memory mapped that was not before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hairpin_dataplane::frame::Batch;
use hairpin_dataplane::port::vhost_user::connection::{Connection, Received};
use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use hairpin_dataplane::port::vhost_user::message::{
    Acknowledge, Awaits, Body, Code, Message, REPLY_BYTES, Reply,
};
use hairpin_dataplane::port::vhost_user::queue::{QueueReceiver, QueueTransmitter};
use hairpin_dataplane::port::vhost_user::regions::REGIONS_MAX;
use hairpin_dataplane::port::vhost_user::ring::{
    Direction, RingHost, RingIndex, Service, Start, Stuck,
};
use hairpin_dataplane::port::vhost_user::session::{Config, Handled, RingState, Session};
use hairpin_dataplane::sys::memory::Memory;
use hairpin_dataplane::sys::virtqueue::{LayoutError, Moment, Position, RingFault};

use super::input::Input;
use super::vmm::{
    ADD_MEM_REG, FEATURES, GET_VRING_BASE, MEMORY_BYTES, REM_MEM_REG, SET_MEM_TABLE, Shot, Vmm,
    bring_up, mappings, open_descriptors,
};

/// Operations in an input.
const OPERATIONS_MAX: usize = 64;
/// How often in a row a worker says that it is stuck.
const STUCK_MAX: u8 = 7;

/// Does what an input says.
///
/// # Panics
/// If what is promised does not hold.
pub fn run(bytes: &[u8]) {
    let before = open_descriptors();
    let mut input = Input::new(bytes);
    let first = input.byte();
    let features = match first >> 4 {
        0..12 => Features::OFFERED,
        choice => FEATURES[usize::from(choice) % FEATURES.len()],
    };
    let config = Config { pairs: 1 + usize::from(first & 3), features };
    let mut bed = Bed::new(config);
    for _ in 0..OPERATIONS_MAX {
        if input.is_over() {
            break;
        }
        bed.step(&mut input);
    }
    bed.device.end();
    drop(bed);
    assert_eq!(open_descriptors(), before, "descriptors were left open");
    assert_eq!(mappings(), 0, "memory was left mapped");
}

/// What a worker has in hand.
#[derive(Debug)]
enum Queue {
    FromDriver(QueueReceiver),
    ToDriver(QueueTransmitter),
}

#[derive(Debug)]
struct Running {
    queue: Queue,
    memory: Weak<Memory>,
    service: Service,
}

/// The workers' side.
#[derive(Default, Debug)]
struct Workers {
    running: BTreeMap<usize, Running>,
    /// How often they will say that they are stuck.
    stuck: u8,
    broken: Vec<(RingIndex, RingFault)>,
    /// The memory of all rings there have been.
    seen: Vec<Weak<Memory>>,
}

#[derive(Clone, Default, Debug)]
struct Host(Arc<Mutex<Workers>>);

impl Host {
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    fn are_stuck(&mut self) -> Result<(), Stuck> {
        match self.stuck.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.stuck = left;
                Err(Stuck)
            }
        }
    }
}

impl RingHost for Host {
    fn start(&mut self, ring: RingIndex, start: Start) -> Result<(), LayoutError> {
        let mut workers = self.workers();
        assert!(!workers.running.contains_key(&ring.number()), "a ring is halted first");
        let queue = match ring.direction() {
            Direction::FromDriver => {
                QueueReceiver::open(start.kind, &start.terms).map(|mut queue| {
                    queue.set_headers(start.headers);
                    Queue::FromDriver(queue)
                })
            }
            Direction::ToDriver => {
                QueueTransmitter::open(start.kind, &start.terms).map(Queue::ToDriver)
            }
        };
        let queue = queue?;
        let memory = Arc::downgrade(&start.terms.memory);
        workers.seen.push(Weak::clone(&memory));
        let service = start.service;
        workers.running.insert(ring.number(), Running { queue, memory, service });
        Ok(())
    }

    fn halt(&mut self, ring: RingIndex) -> Result<Option<Position>, Stuck> {
        let mut workers = self.workers();
        workers.are_stuck()?;
        Ok(workers.running.remove(&ring.number()).map(|running| match running.queue {
            Queue::FromDriver(mut queue) => queue.position(),
            Queue::ToDriver(queue) => queue.position(),
        }))
    }

    fn broken(&mut self) -> Vec<(RingIndex, RingFault)> {
        std::mem::take(&mut self.workers().broken)
    }
}

/// A message as it was handed over, and what there was before.
#[derive(Clone, Debug)]
struct Asked {
    code: Code,
    acknowledge: Acknowledge,
    ring: usize,
    memory: Vec<Weak<Memory>>,
    refused: u64,
}

/// A front end and a device.
struct Bed {
    vmm: Vmm,
    device: Device,
}

/// A session, its connection and its workers.
struct Device {
    config: Config,
    host: Host,
    session: Session,
    connection: Option<Connection>,
    /// Bytes of replies that were sent and not heard.
    sent: Vec<u8>,
}

impl Bed {
    fn new(config: Config) -> Bed {
        let host = Host::default();
        let session = Session::new(config, Box::new(host.clone()));
        let (vmm, socket) = Vmm::connect();
        let connection = Some(Connection::new(socket).expect("a socket can be made not to block"));
        Bed { vmm, device: Device { config, host, session, connection, sent: Vec::new() } }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=7 => self.fire(&Shot::draw(input)),
            8 => {
                let features = input.one_of(&FEATURES);
                let size = input.one_of(&[8, 256, 1, 32]);
                let rings = input.below(2 * self.device.config.pairs + 1) as u64;
                bring_up(features, rings, size).iter().for_each(|shot| self.fire(shot));
            }
            9 => self.device.host.workers().stuck = input.byte() % (STUCK_MAX + 1),
            10 => self.device.break_ring(input),
            11 => self.hear(),
            12 => {
                self.device.end();
                let (vmm, socket) = Vmm::connect();
                self.vmm = vmm;
                self.device.sent.clear();
                self.device.connection = Connection::new(socket).ok();
            }
            13 => {
                let bytes = input.below(64);
                let (bytes, piece) = (input.bytes(bytes).to_vec(), input.below(16));
                let shot = Shot { bytes, piece, descriptors: Vec::new() };
                self.fire(&shot);
            }
            14 => self.vmm.truncate(u64::from(input.byte()) * (MEMORY_BYTES / 256)),
            _ => self.device.serve(input),
        }
        self.device.check();
    }

    /// Sends something, and handles what comes of it.
    fn fire(&mut self, shot: &Shot) {
        let Bed { vmm, device } = self;
        vmm.fire(shot, || device.listen());
    }

    /// The front end reads what there is: replies, whole ones, one after the other.
    fn hear(&mut self) {
        let (heard, sent) = (self.vmm.hear(), &mut self.device.sent);
        let later = sent.split_off(heard.len().min(sent.len()));
        assert_eq!(heard, std::mem::replace(sent, later));
        for reply in heard.chunks(REPLY_BYTES) {
            let word = |at: usize| reply.get(at..at + 4).map(|word| word.to_vec());
            assert_eq!(word(4), Some(5_u32.to_ne_bytes().to_vec()), "version 1, a reply");
            assert_eq!(word(8), Some(8_u32.to_ne_bytes().to_vec()), "its payload's size");
            assert_eq!(reply.len(), REPLY_BYTES);
        }
    }
}

impl Device {
    /// Handles what the front end said.
    fn listen(&mut self) {
        loop {
            let Some(connection) = &mut self.connection else { return };
            match connection.receive() {
                Ok(Received::Message(message)) => self.handle(message),
                Ok(Received::Nothing) => return,
                Ok(Received::Again) => {}
                Ok(Received::Closed) | Err(_) => return self.end(),
            }
        }
    }

    fn handle(&mut self, message: Message) {
        let asked = Asked {
            code: message.code,
            acknowledge: message.acknowledge,
            ring: message.payload.first().copied().unwrap_or(0).into(),
            memory: std::mem::take(&mut self.host.workers().seen),
            refused: self.session.status().counts.refused,
        };
        let mut handled = self.session.handle(message);
        let mut resumed = 0;
        while let Ok(Handled::Stuck) = handled {
            assert!(resumed <= STUCK_MAX, "nobody holds anything any more");
            resumed += 1;
            handled = self.session.resume();
        }
        match handled {
            Err(_) => self.end(),
            Ok(Handled::Reply(reply)) => {
                self.check_reply(&asked, reply);
                self.check_rest(&asked);
                self.reply(reply);
            }
            Ok(_) => {
                assert_eq!(asked.code.awaits(), Awaits::Nothing, "{}: no reply", asked.code);
                let protocol = self.session.status().protocol;
                let promised = protocol.has(ProtocolFeatures::REPLY_ACK);
                let asks = asked.acknowledge == Acknowledge::Asked;
                assert!(!(asks && promised), "{}: not acknowledged", asked.code);
                self.check_rest(&asked);
            }
        }
        self.host.workers().seen.extend(asked.memory);
    }

    fn reply(&mut self, reply: Reply) {
        let Some(connection) = &mut self.connection else { return };
        match connection.send(&reply) {
            Ok(()) => self.sent.extend(reply.encode()),
            Err(_) => self.end(),
        }
    }

    /// A reply is to the message that was handled, and one was due.
    fn check_reply(&self, asked: &Asked, reply: Reply) {
        assert_eq!(reply.code, asked.code);
        match (asked.code.awaits(), reply.body) {
            (Awaits::Reply, Body::Base { ring, .. }) => assert_eq!(ring as usize, asked.ring),
            (Awaits::Reply, Body::Value(_)) => {}
            (Awaits::Nothing, body) => {
                assert!(matches!(body, Body::Value(0 | 1)), "{}: {body:?}", asked.code);
                assert_eq!(asked.acknowledge, Acknowledge::Asked);
                let refused = self.session.status().counts.refused > asked.refused;
                assert_eq!(body, Body::Value(refused.into()));
            }
        }
    }

    /// What was taken back is not touched any more.
    fn check_rest(&self, asked: &Asked) {
        let workers = self.host.workers();
        let refused = self.session.status().counts.refused > asked.refused;
        // All of the number: what only ends in that of a request is another, and refused.
        match u8::try_from(asked.code.0).unwrap_or(0) {
            GET_VRING_BASE => assert!(!workers.running.contains_key(&asked.ring)),
            SET_MEM_TABLE | ADD_MEM_REG | REM_MEM_REG if !refused => {
                assert!(asked.memory.iter().all(|memory| memory.strong_count() == 0));
            }
            _ => {}
        }
    }

    /// The session says what is.
    fn check(&self) {
        let status = self.session.status();
        assert_eq!(status.rings.len(), 2 * self.config.pairs);
        assert!(status.memory.regions <= REGIONS_MAX);
        let mut workers = self.host.workers();
        for ring in &status.rings {
            let running = workers.running.get(&ring.number);
            match (&ring.state, running) {
                (RingState::Started, Some(running)) => assert_eq!(running.service, ring.service),
                (RingState::Started, None) => panic!("ring {} does not run", ring.number),
                (RingState::Stopped | RingState::Failed(_), None) | (RingState::Broken(_), _) => {}
                (_, Some(_)) => panic!("ring {} runs", ring.number),
            }
        }
        workers.seen.retain(|memory| memory.strong_count() > 0);
        let mut memory = workers.running.values().map(|running| running.memory.as_ptr());
        let first = memory.next();
        assert!(memory.all(|memory| Some(memory) == first), "rings on memory of two kinds");
    }

    /// A worker finds that a driver broke its ring.
    fn break_ring(&mut self, input: &mut Input<'_>) {
        let number = input.byte().into();
        if let Some(ring) = RingIndex::new(number, self.config.pairs) {
            let fault = input.one_of(&[RingFault::Overrun, RingFault::Index, RingFault::Endless]);
            self.host.workers().broken.push((ring, fault));
        }
        self.session.attend();
    }

    /// The workers breathe.
    fn serve(&mut self, input: &mut Input<'_>) {
        let moment = input.one_of(&[Moment::Busy, Moment::Idle]);
        let mut batch = Batch::new();
        for running in self.host.workers().running.values_mut() {
            match &mut running.queue {
                Queue::FromDriver(queue) => {
                    queue.receive(&mut batch);
                    queue.release();
                    queue.doorbell(moment);
                    batch.end();
                }
                Queue::ToDriver(queue) => {
                    queue.transmit(&mut []);
                    queue.doorbell(moment);
                }
            }
        }
    }

    /// The front end is gone, or sent away.
    fn end(&mut self) {
        self.connection = None;
        let ended = (0..=STUCK_MAX).any(|_| self.session.end().is_ok());
        assert!(ended, "nobody holds anything any more");
        let workers = self.host.workers();
        assert!(workers.running.is_empty());
        assert!(workers.seen.iter().all(|memory| memory.strong_count() == 0));
        assert_eq!(self.session.status().memory.regions, 0);
    }
}
