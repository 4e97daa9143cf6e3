//! Rings that come and go under a worker's hands.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::queue::{NetHeaders, RingKind};
use super::ring::{RingHost, RingIndex, Service, Start, Stuck};
use super::{Host, open};
use crate::frame::Batch;
use crate::ledger::DropReason;
use crate::port::{
    Arena, Armed, Attached, Departure, Received, Receiver, Rung, SenderQueue, Steering, Transmitter,
};
use crate::snapshot::DeviceId;
use crate::sys::eventfd::Eventfd;
use crate::sys::lane::{Access as Entry, Lane, WorkerToken};
use crate::sys::memory::{Body, Memory, RegionHint};
use crate::sys::virtqueue::driver::{Access, Buffer, Driver, SplitDriver};
use crate::sys::virtqueue::{
    Indirect, Layout, Merge, Order, PREFIX_BYTES, Position, RingFault, Terms, Wishes,
};
use crate::wire::offload::{Capabilities, Checksum, Offload};

const SIZE: u16 = 8;
const RING_BYTES: u64 = 0x1000;
const BUFFERS: u64 = 2 * RING_BYTES;
const BUFFER_BYTES: u32 = 256;

/// A guest with one queue pair, its device, and a worker's half of that.
struct Bed {
    memory: Arc<Memory>,
    drivers: [SplitDriver; 2],
    eventfds: [Arc<Eventfd>; 2],
    host: Host,
    receiver: Receiver,
    transmitter: Transmitter,
    arena: Arena,
    batch: Batch,
}

fn ring(number: u32) -> RingIndex {
    RingIndex::new(number, 1).unwrap()
}

const TO_DRIVER: u32 = 0;
const FROM_DRIVER: u32 = 1;

fn layout(number: u32) -> Layout {
    let base = u64::from(number) * RING_BYTES;
    Layout { size: SIZE, descriptors: base, driver: base + 0x400, device: base + 0x800 }
}

fn frame(number: u8) -> Vec<u8> {
    vec![number; 60]
}

impl Bed {
    fn new() -> Bed {
        let memory = Arc::new(Memory::arena(0x1_0000).unwrap());
        let driver = |number| SplitDriver::new(&memory, layout(number), Order::Any).unwrap();
        let (mut opened, host) = open(1).unwrap();
        let eventfd = || Arc::new(Eventfd::new().unwrap());
        Bed {
            drivers: [driver(TO_DRIVER), driver(FROM_DRIVER)],
            memory,
            eventfds: [eventfd(), eventfd()],
            host,
            receiver: opened.receivers.pop().unwrap(),
            transmitter: opened.transmitters.pop().unwrap(),
            arena: Arena::new().unwrap(),
            batch: Batch::new(),
        }
    }

    fn start(&mut self, number: u32, service: Service, available: u16) {
        self.start_taking(Capabilities::NONE, number, service, available);
    }

    fn start_taking(
        &mut self,
        accepts: Capabilities,
        number: u32,
        service: Service,
        available: u16,
    ) {
        let terms = Terms {
            memory: Arc::clone(&self.memory),
            layout: layout(number),
            position: Position { available, used: available },
            order: Order::Any,
            merge: Merge::Mergeable,
            indirect: Indirect::Refused,
            wishes: Wishes::Flags,
        };
        let [kick, call] = self.eventfds.each_ref().map(|it| Some(Arc::clone(it)));
        let (kind, headers) = (RingKind::Split, NetHeaders::Read);
        let start = Start { kind, terms, service, headers, accepts, kick, call };
        self.host.start(ring(number), start).unwrap();
    }

    /// The guest sends a frame, and says so.
    fn send(&mut self, number: u8) {
        let address = BUFFERS + u64::from(number % 8) * u64::from(BUFFER_BYTES);
        let bytes = [vec![0; PREFIX_BYTES], frame(number)].concat();
        let place = self.memory.place(&mut RegionHint::default(), address, bytes.len() as u32);
        place.unwrap().write(&bytes);
        let buffer = Buffer { address, length: bytes.len() as u32, access: Access::Read };
        self.drivers[1].add(&[buffer]).unwrap();
        self.drivers[1].publish();
        self.eventfds[0].signal();
    }

    /// The first bytes of the frames that a worker finds, and what it finds instead.
    fn receive(&mut self) -> (Vec<u8>, Vec<DropReason>) {
        assert_eq!(self.receiver.receive(&mut self.arena, &mut self.batch), Received::Drained);
        let frames = (0..self.batch.count()).map(|index| self.batch.header(index)[0]).collect();
        (frames, self.batch.rejected().to_vec())
    }

    fn serve(&mut self) -> (Vec<u8>, Vec<DropReason>) {
        let found = self.receive();
        if !self.batch.is_empty() {
            self.receiver.release(&mut self.batch);
        }
        found
    }

    fn halt(&mut self, number: u32) -> Result<Option<u16>, Stuck> {
        Ok(self.host.halt(ring(number))?.map(|position| position.available))
    }

    fn transmit(&mut self, bytes: &[u8], offload: Offload) -> Result<(), DropReason> {
        let mut departures =
            [Departure { header: bytes, body: Body::EMPTY, offload, fate: Ok(()) }];
        self.transmitter.transmit(&mut departures);
        departures[0].fate
    }

    /// The guest makes receive buffers available.
    fn post(&mut self, buffers: std::ops::Range<u64>) {
        for number in buffers {
            let address = BUFFERS + number * u64::from(BUFFER_BYTES);
            let buffer = Buffer { address, length: BUFFER_BYTES, access: Access::Write };
            self.drivers[0].add(&[buffer]).unwrap();
        }
        self.drivers[0].publish();
    }

    /// The virtio-net header in a receive buffer.
    fn header(&self, buffer: u64) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0xff; PREFIX_BYTES];
        let address = BUFFERS + buffer * u64::from(BUFFER_BYTES);
        let place = self.memory.place(&mut RegionHint::default(), address, PREFIX_BYTES as u32);
        place.unwrap().read(&mut bytes);
        bytes
    }

    /// Whether the guest was called since the last time.
    fn is_called(&self) -> bool {
        let call = &*self.eventfds[1];
        let called = is_readable(call.as_fd());
        call.consume();
        called
    }

    fn is_woken(&self) -> bool {
        is_readable(self.receiver.wake_fd())
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() == 1
}

#[test]
fn a_ring_goes_on_where_it_was_halted_and_nothing_of_the_guest_stays_in_hand() {
    let mut bed = Bed::new();
    let shares = Arc::strong_count(&bed.memory);
    assert_eq!(bed.serve(), (vec![], vec![]), "nothing is there yet");
    bed.start(FROM_DRIVER, Service::Enabled, 0);
    (1..4).for_each(|number| bed.send(number));
    assert_eq!(bed.receive().0, [1, 2, 3]);
    // The worker has the frames in hand: neither ring nor memory can be taken away.
    assert_eq!(bed.halt(FROM_DRIVER), Err(Stuck));
    bed.receiver.release(&mut bed.batch);
    assert_eq!(bed.halt(FROM_DRIVER), Ok(Some(3)));
    assert_eq!(Arc::strong_count(&bed.memory), shares, "the memory is the guest's alone");
    assert_eq!(bed.halt(FROM_DRIVER), Ok(None));
    bed.send(4);
    assert_eq!(bed.serve(), (vec![], vec![]));
    bed.start(FROM_DRIVER, Service::Enabled, 3);
    assert_eq!(bed.serve().0, [4]);
    let mut returned = 0;
    assert_eq!(bed.halt(FROM_DRIVER), Ok(Some(4)));
    bed.drivers[1].collect(|_| returned += 1);
    assert_eq!(returned, 4);
}

#[test]
fn what_is_sent_on_a_queue_that_is_not_enabled_is_drained_as_queue_disabled() {
    let mut bed = Bed::new();
    bed.start(FROM_DRIVER, Service::Disabled, 0);
    bed.send(1);
    bed.send(2);
    assert_eq!(bed.serve(), (vec![], vec![DropReason::QueueDisabled; 2]));
    assert_eq!(DropReason::QueueDisabled.name(), "queue_disabled");
    let at = bed.halt(FROM_DRIVER).unwrap().unwrap();
    bed.start(FROM_DRIVER, Service::Enabled, at);
    bed.send(3);
    assert_eq!(bed.serve(), (vec![3], vec![]));
}

#[test]
fn a_sleeping_worker_is_woken_by_kicks_and_by_a_ring_that_comes() {
    let mut bed = Bed::new();
    assert_eq!(bed.receiver.arm(), Armed::Asleep);
    assert!(!bed.is_woken());
    bed.start(FROM_DRIVER, Service::Enabled, 0);
    assert!(bed.is_woken(), "a ring came");
    bed.receiver.disarm();
    assert_eq!(bed.receiver.arm(), Armed::Asleep);
    assert!(!bed.is_woken());
    bed.send(1);
    assert!(bed.is_woken(), "it was kicked");
    bed.receiver.disarm();
    assert_eq!(bed.serve().0, [1]);
    bed.send(2);
    assert_eq!(bed.receiver.arm(), Armed::FramesWaiting);
    // Of a ring that was taken away the kick wakes nobody.
    assert_eq!(bed.halt(FROM_DRIVER), Ok(Some(1)));
    bed.receiver.disarm();
    assert_eq!(bed.receiver.arm(), Armed::Asleep);
    bed.eventfds[0].signal();
    assert!(!bed.is_woken());
}

#[test]
fn a_ring_that_its_driver_broke_is_told_to_control_once_and_left_alone() {
    let mut bed = Bed::new();
    bed.start(FROM_DRIVER, Service::Enabled, 0);
    bed.send(1);
    assert_eq!(bed.serve().0, [1]);
    assert_eq!(bed.host.broken(), []);
    // The available index runs far ahead.
    let index = layout(FROM_DRIVER).driver + 2;
    let place = bed.memory.place(&mut RegionHint::default(), index, 2).unwrap();
    place.write(&0x8001_u16.to_le_bytes());
    assert_eq!(bed.serve(), (vec![], vec![]));
    assert_eq!(bed.host.broken(), [(ring(FROM_DRIVER), RingFault::Overrun)]);
    assert_eq!(bed.serve(), (vec![], vec![]));
    assert_eq!(bed.host.broken(), []);
    assert_eq!(bed.receiver.arm(), Armed::Asleep, "it is not polled for nothing");
}

/// Found by the fuzzer of the switch: the empty batch of a ring that was found broken kept
/// the guest's memory until the worker received from another guest.
#[test]
fn a_ring_that_its_driver_broke_leaves_nothing_of_the_guest_in_hand() {
    let mut bed = Bed::new();
    let shares = Arc::strong_count(&bed.memory);
    bed.start(FROM_DRIVER, Service::Enabled, 0);
    let index = layout(FROM_DRIVER).driver + 2;
    let place = bed.memory.place(&mut RegionHint::default(), index, 2).unwrap();
    place.write(&0x8001_u16.to_le_bytes());
    assert_eq!(bed.serve(), (vec![], vec![]));
    assert_eq!(bed.halt(FROM_DRIVER), Ok(Some(0)));
    assert_eq!(Arc::strong_count(&bed.memory), shares);
}

#[test]
fn a_driver_gets_frames_while_its_ring_is_there_and_only_what_it_takes() {
    let mut bed = Bed::new();
    let shares = Arc::strong_count(&bed.memory);
    assert_eq!(bed.transmit(&frame(1), Offload::NONE), Err(DropReason::PortDown));
    bed.start(TO_DRIVER, Service::Enabled, 0);
    assert_eq!(bed.transmit(&frame(1), Offload::NONE), Err(DropReason::RxRingFull));
    bed.post(0..3);
    assert_eq!((bed.transmitter.room(9, 100), bed.transmitter.room(9, 300)), (3, 1));
    assert_eq!(bed.transmit(&frame(2), Offload::NONE), Ok(()));
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    let unfinished = Offload { checksum, ..Offload::NONE };
    assert_eq!(bed.transmit(&frame(3), unfinished), Err(DropReason::PortDown));
    // It may have begun to sleep meanwhile: asked for once more when nothing comes.
    while bed.transmitter.ring() == Rung::Again {}
    bed.eventfds[1].consume();
    let mut lengths = Vec::new();
    bed.drivers[0].collect(|returned| lengths.push(returned.length));
    assert_eq!(lengths, [(PREFIX_BYTES + 60) as u32]);
    assert_eq!(bed.halt(TO_DRIVER), Ok(Some(1)));
    assert_eq!(bed.transmit(&frame(4), Offload::NONE), Err(DropReason::PortDown));
    assert_eq!(Arc::strong_count(&bed.memory), shares);
}

#[test]
fn frames_that_were_made_for_another_driver_are_held_against_what_this_one_takes() {
    let mut bed = Bed::new();
    let offload = |checksum| Offload { checksum, ..Offload::NONE };
    let (partial, valid) = (Checksum::Partial { start: 34, offset: 16 }, Checksum::Valid);
    bed.post(0..4);
    bed.start_taking(Capabilities::ALL, TO_DRIVER, Service::Enabled, 0);
    assert_eq!(bed.transmitter.accepts(), Some(Capabilities::ALL));
    assert_eq!(bed.transmit(&frame(1), offload(partial)), Ok(()));
    assert_eq!(bed.transmit(&frame(1), offload(valid)), Ok(()));
    assert_eq!(bed.halt(TO_DRIVER), Ok(Some(2)));
    bed.start(TO_DRIVER, Service::Enabled, 2);
    assert_eq!(bed.transmit(&frame(1), offload(partial)), Err(DropReason::PortDown));
    assert_eq!(bed.transmit(&frame(1), offload(valid)), Ok(()));
    let flags = [0, 1, 2].map(|buffer| bed.header(buffer)[0]);
    assert_eq!(flags, [1, 2, 0], "NEEDS_CSUM, DATA_VALID, nothing");
    // From now on it is known, and software does what the driver does not take.
    assert_eq!(bed.transmitter.accepts(), Some(Capabilities::NONE));
    assert_eq!(bed.transmit(&frame(1), Offload::NONE), Ok(()));
}

#[test]
fn a_driver_gets_nothing_on_a_ring_that_is_not_enabled() {
    let mut bed = Bed::new();
    bed.post(0..3);
    bed.start(TO_DRIVER, Service::Disabled, 0);
    assert_eq!(bed.transmitter.room(9, 100), 9, "it is not for want of room");
    assert_eq!(bed.transmit(&frame(1), Offload::NONE), Err(DropReason::PortDown));
    assert_eq!(bed.halt(TO_DRIVER), Ok(Some(0)));
    bed.start(TO_DRIVER, Service::Enabled, 0);
    assert_eq!(bed.transmit(&frame(1), Offload::NONE), Ok(()));
}

#[test]
fn a_ring_that_starts_calls_its_driver_once() {
    let mut bed = Bed::new();
    for number in [TO_DRIVER, FROM_DRIVER] {
        for _ in 0..2 {
            bed.start(number, Service::Enabled, 0);
            assert!(bed.is_called() && !bed.is_called(), "ring {number}");
            assert_eq!(bed.halt(number), Ok(Some(0)));
        }
    }
}

#[test]
fn a_ring_whose_kick_cannot_wake_is_polled() {
    let mut bed = Bed::new();
    // The same descriptor is not watched twice.
    bed.host.pairs[0].waker.add(&bed.eventfds[0]).unwrap();
    bed.start(FROM_DRIVER, Service::Enabled, 0);
    assert_eq!(bed.receiver.arm(), Armed::FramesWaiting);
    bed.send(1);
    assert_eq!(bed.serve().0, [1]);
    assert_eq!(bed.halt(FROM_DRIVER), Ok(Some(1)));
    assert_eq!(bed.receiver.arm(), Armed::Asleep);
}

#[test]
fn a_broken_ring_is_told_of_also_when_it_is_only_asked_for_room() {
    let mut bed = Bed::new();
    bed.start(TO_DRIVER, Service::Enabled, 0);
    let index = layout(TO_DRIVER).driver + 2;
    let place = bed.memory.place(&mut RegionHint::default(), index, 2).unwrap();
    place.write(&0x8001_u16.to_le_bytes());
    assert_eq!(bed.transmitter.room(9, 100), 0);
    assert_eq!(bed.host.broken(), [(ring(TO_DRIVER), RingFault::Overrun)]);
}

#[test]
fn senders_are_spread_over_the_rings_that_are_open() {
    let open = Arc::new(AtomicU16::new(0));
    let (opened, _host) = super::open(4).unwrap();
    let token = WorkerToken::new();
    let lane = |transmitter| Lane::new(Entry::Owned(token.id()), transmitter);
    let lanes = opened.transmitters.into_iter().map(lane).collect();
    let counters = Attached::counters(1);
    let attached = Attached::new(DeviceId(1), "vm1", counters, Capabilities::ALL, lanes)
        .steered(Steering::BySender { open: Arc::clone(&open) });
    let lanes = |count: u32| -> Vec<Option<usize>> {
        (0..count).map(|sender| attached.lane(0, SenderQueue(sender))).collect()
    };
    assert_eq!(lanes(2), [None, None]);
    open.store(0b0001, Ordering::Relaxed);
    assert_eq!(lanes(2), [Some(0), Some(0)]);
    open.store(0b1010, Ordering::Relaxed);
    assert_eq!(lanes(4), [Some(1), Some(3), Some(1), Some(3)]);
    assert_eq!([1, 3].map(|lane| attached.doorbell(lane)), [0b0010, 0b1000]);
    // A bit beyond those that there are: nobody's.
    open.store(1 << 9, Ordering::Relaxed);
    assert_eq!(lanes(1), [None]);
}

#[test]
fn what_wakes_is_an_eventfd_and_nothing_else() {
    let eventfd = Eventfd::new().unwrap();
    assert!(Eventfd::adopt(eventfd.as_fd().try_clone_to_owned().unwrap()).is_ok());
    let (pipe, _writer) = std::io::pipe().unwrap();
    assert!(Eventfd::adopt(pipe.into()).is_err());
}
