//! A session, a host that records what it starts and halts, and messages for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use hairpin_dataplane::port::vhost_user::message::{Acknowledge, Body, Code, Message, Reply};
use hairpin_dataplane::port::vhost_user::queue::{QueueReceiver, QueueTransmitter};
use hairpin_dataplane::port::vhost_user::ring::{Direction, RingHost, RingIndex, Start, Stuck};
use hairpin_dataplane::port::vhost_user::session::{Config, Fault, Handled, Session};
use hairpin_dataplane::sys::virtqueue::{LayoutError, Position, RingFault};
use rustix::fs::{MemfdFlags, memfd_create};

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const SET_VRING_ERR: u32 = 14;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const SET_VRING_ENABLE: u32 = 18;
pub const NET_SET_MTU: u32 = 20;
pub const RESET_DEVICE: u32 = 34;
pub const ADD_MEM_REG: u32 = 37;
pub const REM_MEM_REG: u32 = 38;

/// Where the guest's memory is, as buffers are addressed.
pub const GUEST: u64 = 0x10_0000;
/// The same, as rings are.
pub const USER: u64 = 0x7f00_0000_0000;
/// Its size.
pub const MEMORY_BYTES: u64 = 0x4_0000;
/// From one ring to the next, and within a ring.
const RING_BYTES: u64 = 0x1_0000;
const DRIVER: u64 = 0x4000;
const DEVICE: u64 = 0x8000;

static ALONE: Mutex<()> = Mutex::new(());

/// Descriptors are counted by process: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the host was asked for.
#[derive(Debug, Default)]
pub struct Log {
    pub running: BTreeMap<usize, Start>,
    pub starts: usize,
    pub halts: usize,
    /// How often it will say that it is stuck.
    pub stuck: usize,
    /// How many buffers a ring uses from start to halt.
    pub progress: u16,
    pub broken: Vec<(RingIndex, RingFault)>,
}

/// The workers' side.
#[derive(Clone, Default, Debug)]
pub struct Host(Arc<Mutex<Log>>);

impl Host {
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    pub fn running(&self) -> Vec<usize> {
        self.log().running.keys().copied().collect()
    }

    /// Starts and halts so far.
    pub fn counts(&self) -> (usize, usize) {
        let log = self.log();
        (log.starts, log.halts)
    }

    #[track_caller]
    pub fn start_of(&self, ring: usize) -> Start {
        self.log().running.get(&ring).expect("the ring runs").clone()
    }

    fn stuck(log: &mut Log) -> Result<(), Stuck> {
        match log.stuck.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                log.stuck = left;
                Err(Stuck)
            }
        }
    }
}

impl RingHost for Host {
    fn start(&mut self, ring: RingIndex, start: Start) -> Result<(), LayoutError> {
        let mut log = self.log();
        match ring.direction() {
            Direction::ToDriver => QueueTransmitter::open(start.kind, &start.terms).map(drop),
            Direction::FromDriver => QueueReceiver::open(start.kind, &start.terms).map(drop),
        }?;
        log.starts += 1;
        assert!(log.running.insert(ring.number(), start).is_none(), "a ring is halted first");
        Ok(())
    }

    fn halt(&mut self, ring: RingIndex) -> Result<Option<Position>, Stuck> {
        let mut log = self.log();
        Host::stuck(&mut log)?;
        let Some(start) = log.running.remove(&ring.number()) else { return Ok(None) };
        log.halts += 1;
        let Position { available, used } = start.terms.position;
        let on = |index: u16| index.wrapping_add(log.progress);
        Ok(Some(Position { available: on(available), used: on(used) }))
    }

    fn broken(&mut self) -> Vec<(RingIndex, RingFault)> {
        std::mem::take(&mut self.log().broken)
    }
}

/// A session whose front end is the test.
pub struct Vmm {
    pub session: Session,
    pub host: Host,
}

/// What most front ends agree on.
pub const MODERN: Features =
    Features::VERSION_1.with(Features::MRG_RXBUF).with(Features::PROTOCOL_FEATURES);

impl Vmm {
    /// Nothing was said yet; two queue pairs.
    pub fn silent() -> Vmm {
        let host = Host::default();
        let config = Config { pairs: 2, features: Features::OFFERED };
        Vmm { session: Session::new(config, Box::new(host.clone())), host }
    }

    /// Requests are acknowledged.
    pub fn new() -> Vmm {
        let mut vmm = Vmm::silent();
        let protocol = ProtocolFeatures::OFFERED.bits();
        assert_eq!(vmm.set(SET_PROTOCOL_FEATURES, &[protocol], None), Ok(()));
        vmm
    }

    /// Features and memory are there, but no ring.
    pub fn with_memory(features: Features) -> Vmm {
        let mut vmm = Vmm::new();
        assert_eq!(vmm.set(SET_FEATURES, &[features.bits()], None), Ok(()));
        assert_eq!(vmm.lend(memfd(MEMORY_BYTES)), Ok(()));
        vmm
    }

    /// The first rings run.
    pub fn running(features: Features, rings: u32) -> Vmm {
        let mut vmm = Vmm::with_memory(features);
        for ring in 0..rings {
            vmm.set_up(ring);
            vmm.state(SET_VRING_ENABLE, ring, 1).unwrap();
        }
        assert_eq!(vmm.host.running(), (0..rings as usize).collect::<Vec<_>>());
        vmm
    }

    /// A ring's size, addresses and kick.
    pub fn set_up(&mut self, ring: u32) {
        self.state(SET_VRING_NUM, ring, 256).unwrap();
        self.set(SET_VRING_ADDR, &addresses(ring), None).unwrap();
        self.set(SET_VRING_KICK, &[u64::from(ring)], Some(eventfd())).unwrap();
    }

    pub fn lend(&mut self, file: OwnedFd) -> Result<(), u64> {
        self.set(SET_MEM_TABLE, &[1, GUEST, MEMORY_BYTES, USER, 0], Some(file))
    }

    pub fn send(
        &mut self,
        code: u32,
        words: &[u64],
        fd: Option<OwnedFd>,
    ) -> Result<Handled, Fault> {
        self.session.handle(message(code, words, fd))
    }

    /// Sends what is to be acknowledged, with what.
    #[track_caller]
    pub fn set(&mut self, code: u32, words: &[u64], fd: Option<OwnedFd>) -> Result<(), u64> {
        match self.send(code, words, fd).unwrap() {
            Handled::Reply(Reply { code: to, body: Body::Value(value) }) if to.0 == code => {
                if value == 0 { Ok(()) } else { Err(value) }
            }
            other => panic!("{}: {other:?}", Code(code)),
        }
    }

    #[track_caller]
    pub fn state(&mut self, code: u32, ring: u32, value: u32) -> Result<(), u64> {
        self.set(code, &[u64::from(ring) | u64::from(value) << 32], None)
    }

    /// Sends what has a reply of its own.
    #[track_caller]
    pub fn get(&mut self, code: u32, words: &[u64]) -> Body {
        match self.send(code, words, None).unwrap() {
            Handled::Reply(Reply { code: to, body }) if to.0 == code => body,
            other => panic!("{}: {other:?}", Code(code)),
        }
    }

    /// Stops a ring; where it stood.
    #[track_caller]
    pub fn stop(&mut self, number: u32) -> u32 {
        match self.get(GET_VRING_BASE, &[u64::from(number)]) {
            Body::Base { ring, base } if ring == number => base,
            other => panic!("{other:?}"),
        }
    }

    /// The last thing that went wrong.
    pub fn error(&self) -> String {
        self.session.status().last_error.unwrap_or_default()
    }
}

/// A message that asks to be acknowledged.
pub fn message(code: u32, words: &[u64], fd: Option<OwnedFd>) -> Message {
    Message {
        code: Code(code),
        acknowledge: Acknowledge::Asked,
        payload: words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        descriptors: fd.into_iter().collect(),
        surplus: 0,
    }
}

/// SET_VRING_ADDR's payload.
pub fn addresses(ring: u32) -> [u64; 5] {
    let at = USER + u64::from(ring) * RING_BYTES;
    [u64::from(ring), at, at + DEVICE, at + DRIVER, 0]
}

/// Writes a split ring's used index.
pub fn set_used_index(file: &OwnedFd, ring: u32, index: u16) {
    let at = u64::from(ring) * RING_BYTES + DEVICE + 2;
    let file = File::from(file.try_clone().unwrap());
    file.write_all_at(&index.to_le_bytes(), at).unwrap();
}

/// Writes the flags of a packed ring's descriptor.
pub fn set_packed_flags(file: &OwnedFd, ring: u32, entry: u64, flags: u16) {
    let at = u64::from(ring) * RING_BYTES + 16 * entry + 14;
    let file = File::from(file.try_clone().unwrap());
    file.write_all_at(&flags.to_le_bytes(), at).unwrap();
}

pub fn memfd(bytes: u64) -> OwnedFd {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(bytes).unwrap();
    file.into()
}

pub fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
}

/// Descriptors that this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
