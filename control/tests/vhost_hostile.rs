//! Guests and VMMs that mean harm, at real vhost-user ports: each ends in quarantine by name,
//! and two others exchange frames meanwhile.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hairpin::config::vhost_user::{SocketAccess, VhostUserConfig};
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin::switch::view::{State, Status};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::offload::Offload;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

const MEMORY_BYTES: u64 = 1 << 20;
/// Where the guest's memory is to its VMM.
const USER: u64 = 0x1000_0000;
const SIZE: u16 = 256;
const RING_BYTES: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x1_0000;
const BUFFER_BYTES: u64 = 2048;

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const VERSION_1: u64 = 1 << 32;
const WRITE: u16 = 2;

/// A VMM and its guest, with one split queue pair, whose every byte the test writes.
struct Guest {
    socket: UnixStream,
    memory: File,
    kick: OwnedFd,
    call: OwnedFd,
    /// Buffers made available, by ring.
    available: [u16; 2],
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn ring_at(ring: u32) -> u64 {
    u64::from(ring) * RING_BYTES
}

impl Guest {
    fn start(socket: &Path) -> Guest {
        let eventfd = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(MEMORY_BYTES).unwrap();
        let socket = UnixStream::connect(socket).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let guest = Guest { socket, memory, kick: eventfd(), call: eventfd(), available: [0; 2] };
        guest.say(SET_FEATURES, &longs(&[VERSION_1]), &[]);
        let table = [words(&[1, 0]), longs(&[0, MEMORY_BYTES, USER, 0])].concat();
        guest.say(SET_MEM_TABLE, &table, &[guest.memory.as_fd()]);
        for ring in [RECEIVE, TRANSMIT] {
            let at = USER + ring_at(ring);
            guest.say(SET_VRING_NUM, &words(&[ring, SIZE.into()]), &[]);
            let places = longs(&[at, at + USED, at + AVAILABLE, 0]);
            guest.say(SET_VRING_ADDR, &[words(&[ring, 0]), places].concat(), &[]);
            guest.say(SET_VRING_BASE, &words(&[ring, 0]), &[]);
            guest.say(SET_VRING_CALL, &longs(&[ring.into()]), &[guest.call.as_fd()]);
            guest.say(SET_VRING_KICK, &longs(&[ring.into()]), &[guest.kick.as_fd()]);
        }
        guest.catch_up();
        guest
    }

    fn say(&self, code: u32, body: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let message = [words(&[code, 1, body.len() as u32]), body.to_vec()].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let message = [IoSlice::new(&message)];
        sendmsg(&self.socket, &message, &mut control, SendFlags::empty()).unwrap();
    }

    /// All that was said is done.
    fn catch_up(&self) {
        self.say(GET_FEATURES, &[], &[]);
        (&self.socket).read_exact(&mut [0; 20]).unwrap();
    }

    /// Makes a whole ring of buffers available.
    fn offer(&mut self, ring: u32, first: u64, flags: u16) {
        let at = ring_at(ring);
        for index in 0..u64::from(SIZE) {
            let mut descriptor = (first + index * BUFFER_BYTES).to_le_bytes().to_vec();
            descriptor.extend((BUFFER_BYTES as u32).to_le_bytes());
            descriptor.extend([flags.to_le_bytes(), [0; 2]].concat());
            self.memory.write_all_at(&descriptor, at + 16 * index).unwrap();
            let entry = at + AVAILABLE + 4 + 2 * index;
            self.memory.write_all_at(&(index as u16).to_le_bytes(), entry).unwrap();
        }
        let available = &mut self.available[ring as usize];
        *available = available.wrapping_add(SIZE);
        self.memory.write_all_at(&available.to_le_bytes(), at + AVAILABLE + 2).unwrap();
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Whether the switch has given all buffers back.
    fn has_all(&self, ring: u32) -> bool {
        let mut used = [0; 2];
        self.memory.read_exact_at(&mut used, ring_at(ring) + USED + 2).unwrap();
        u16::from_le_bytes(used) == self.available[ring as usize]
    }
}

/// A port of the guest's, and two others.
struct Site {
    _directory: tempfile::TempDir,
    switch: Switch,
    others: [Endpoint; 2],
    guest: Guest,
}

/// A group frame.
fn frame(from: u8) -> Vec<u8> {
    let mut frame = [[0xff; 6], [0x52, 0x54, 0, 0, 0, from]].concat();
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    frame
}

impl Site {
    fn start() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bad");
        let server = VhostUserConfig::server(socket.clone(), SocketAccess::default());
        let port = |name, device| PortConfig::station(name, "up0", Mode::Veb, device);
        let memory = || DeviceConfig::Memory(memory::Config::default());
        let config = Config {
            links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
            ports: vec![
                port("bad", DeviceConfig::VhostUser(server)),
                port("one", memory()),
                port("two", memory()),
            ],
            ..Config::default()
        };
        let switch = Switch::start(Desired::try_from(config).unwrap()).unwrap();
        let others = ["one", "two"].map(|name| switch.take_endpoint(name).unwrap());
        let guest = Guest::start(&socket);
        let site = Site { _directory: directory, switch, others, guest };
        site.await_state(State::Up);
        site
    }

    #[track_caller]
    fn await_state(&self, state: State) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.switch.view().status["bad"].clone();
            if status.state == state {
                return status;
            }
            assert!(Instant::now() < until, "{status:?}, not {state:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The first of the others sends a frame to all; the second gets it.
    #[track_caller]
    fn exchange(&mut self) {
        let [one, two] = &mut self.others;
        one.send(&frame(1), Offload::default()).unwrap();
        let (mut received, until) = (Vec::new(), Instant::now() + PATIENCE);
        while two.receive(&mut received).is_none() {
            assert!(Instant::now() < until, "it does not arrive");
            two.wait(Duration::from_millis(10));
        }
        assert_eq!(received[..60], frame(1));
    }
}

#[test]
fn a_vmm_that_holds_a_worker_up_in_its_notifier_is_sent_away_and_others_go_on() {
    let mut site = Site::start();
    site.guest.offer(RECEIVE, BUFFERS, WRITE);
    site.exchange();
    // Whoever writes to it now waits.
    fcntl_setfl(&site.guest.call, OFlags::NONBLOCK).unwrap();
    let _ = rustix::io::read(&site.guest.call, &mut [0; 8]);
    fcntl_setfl(&site.guest.call, OFlags::empty()).unwrap();
    rustix::io::write(&site.guest.call, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    for _ in 0..100 {
        site.exchange();
    }
    let status = site.await_state(State::Quarantined);
    assert!(status.last_error.contains("call eventfd of ring "), "{status:?}");
    assert!(status.last_error.contains("was full"), "{status:?}");
    let mut end = [0];
    assert_eq!(site.guest.socket.read(&mut end).unwrap(), 0, "it is sent away");
    assert_eq!(status.vmm.unwrap().faults, 1, "once is enough");
    site.exchange();
}

#[test]
fn a_guest_that_sends_nothing_but_bad_addresses_is_quarantined_past_the_threshold() {
    let mut site = Site::start();
    // A ring full is counted, and no more.
    site.guest.offer(TRANSMIT, MEMORY_BYTES, 0);
    let until = Instant::now() + PATIENCE;
    while !site.guest.has_all(TRANSMIT) {
        assert!(Instant::now() < until, "it is not drained");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    let before = site.await_state(State::Up);
    assert_eq!(before.last_error, "");
    while site.switch.view().status["bad"].state != State::Quarantined {
        assert!(Instant::now() < until, "nobody minds");
        if site.guest.has_all(TRANSMIT) {
            site.guest.offer(TRANSMIT, MEMORY_BYTES, 0);
        }
        site.exchange();
    }
    let status = site.await_state(State::Quarantined);
    assert!(status.last_error.starts_with("bad_address: "), "{status:?}");
    assert!(status.last_error.contains(" frames within a second. "), "{status:?}");
    site.exchange();
    // What it did before it was released is no reason to quarantine it again.
    site.switch.release("bad").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(site.switch.view().status["bad"].state, State::Up);
}

#[test]
fn a_ring_that_its_guest_broke_runs_again_once_released() {
    let mut site = Site::start();
    let index = ring_at(TRANSMIT) + AVAILABLE + 2;
    site.guest.memory.write_all_at(&0x8000_u16.to_le_bytes(), index).unwrap();
    rustix::io::write(&site.guest.kick, &1_u64.to_ne_bytes()).unwrap();
    let status = site.await_state(State::Quarantined);
    assert!(status.last_error.contains("ring 1 is broken"), "{status:?}");
    site.exchange();
    site.guest.memory.write_all_at(&0_u16.to_le_bytes(), index).unwrap();
    site.switch.release("bad").unwrap();
    site.await_state(State::Up);
    site.guest.offer(TRANSMIT, BUFFERS, 0);
    let until = Instant::now() + PATIENCE;
    while !site.guest.has_all(TRANSMIT) {
        assert!(Instant::now() < until, "the ring is not served");
        std::thread::sleep(Duration::from_millis(1));
    }
    site.exchange();
}

#[test]
fn a_ring_that_cannot_run_is_named_with_the_reason() {
    let site = Site::start();
    let nowhere = USER + MEMORY_BYTES;
    let places = longs(&[nowhere, nowhere, nowhere, 0]);
    site.guest.say(SET_VRING_ADDR, &[words(&[TRANSMIT, 0]), places].concat(), &[]);
    site.guest.catch_up();
    let status = site.await_state(State::Down);
    assert_eq!(
        status.last_error,
        "ring 1 cannot run: address 0x10100000: in no memory region of the front end's; see to the \
         VMM, or to the guest's driver"
    );
}
