//! A guest whose frames are in hand when the worker fails.

use std::cell::RefCell;
use std::sync::Arc;

use super::mishap::{self, Place};
use super::wiring::{Wiring, frame, mac, plain};
use crate::port::memory;
use crate::port::vhost_user::queue::{NetHeaders, RingKind};
use crate::port::vhost_user::ring::{RingHost, RingIndex, Service, Start};
use crate::port::vhost_user::{Host, open};
use crate::sys::memory::{Memory, RegionHint};
use crate::sys::virtqueue::driver::{Access, Buffer, Driver, SplitDriver};
use crate::sys::virtqueue::{
    Indirect, Layout, Merge, Order, PREFIX_BYTES, Position, Terms, Wishes,
};
use crate::wire::offload::Capabilities;

const LAYOUT: Layout = Layout { size: 8, descriptors: 0, driver: 0x400, device: 0x800 };
const BUFFERS: u64 = 0x1000;
const BUFFER_BYTES: u64 = 256;

fn start(memory: &Arc<Memory>) -> Start {
    let terms = Terms {
        memory: Arc::clone(memory),
        layout: LAYOUT,
        position: Position { available: 0, used: 0 },
        order: Order::Any,
        merge: Merge::Mergeable,
        indirect: Indirect::Refused,
        wishes: Wishes::Flags,
    };
    let (headers, accepts) = (NetHeaders::Read, Capabilities::NONE);
    let (kind, service) = (RingKind::Split, Service::Enabled);
    Start { kind, terms, service, headers, accepts, kick: None, call: None }
}

/// Has the guest send these frames.
fn send(memory: &Memory, driver: &mut SplitDriver, frames: &[Vec<u8>]) {
    for (frame, address) in frames.iter().zip((BUFFERS..).step_by(BUFFER_BYTES as usize)) {
        let bytes = [&[0; PREFIX_BYTES], &frame[..]].concat();
        let length = bytes.len() as u32;
        memory.place(&mut RegionHint::default(), address, length).unwrap().write(&bytes);
        driver.add(&[Buffer { address, length, access: Access::Read }]).unwrap();
    }
    driver.publish();
}

#[test]
fn a_failure_leaves_a_guest_its_buffers_and_control_the_ring() {
    let host: RefCell<Option<Host>> = RefCell::default();
    let mut wiring = Wiring::with(2, |number| {
        let (opened, endpoint) = plain(memory::Config::default());
        if number > 0 {
            return (opened, endpoint);
        }
        let (opened, ours) = open(1).unwrap();
        host.replace(Some(ours));
        (opened, endpoint)
    });
    let mut host = host.take().unwrap();
    let memory = Arc::new(Memory::arena(0x1_0000).unwrap());
    let mut driver = SplitDriver::new(&memory, LAYOUT, Order::Any).unwrap();
    let (shares, ring) = (Arc::strong_count(&memory), RingIndex::new(1, 1).unwrap());
    host.start(ring, start(&memory)).unwrap();
    let frames: Vec<_> = (0..3).map(|_| frame(0, mac(1), 60)).collect();
    send(&memory, &mut driver, &frames);
    mishap::plan(Place::Deciding, 1);
    wiring.breathe();
    assert!(!mishap::is_due());
    let position = host.halt(ring).expect("nobody sits there").unwrap();
    assert_eq!((position.available, position.used), (3, 3));
    let mut returned = 0;
    driver.collect(|_| returned += 1);
    assert_eq!((returned, Arc::strong_count(&memory)), (3, shares));
}
