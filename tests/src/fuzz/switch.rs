//! A hostile front end with a hostile driver at one port of a switch, relay and worker
//! included, while two others exchange frames in lockstep.
//!
//! An input is operations: a byte for which, and what that takes. After each one a frame
//! goes from a guest to an endpoint in memory and one back, and both arrive in the breath
//! in which they were sent; a bystander in the hostile port's VLAN sends to it and takes
//! what comes. All ledgers are balanced, and the worker has nothing to complain of.
//!
//! Ports: 0 hostile and 3 bystander in one VLAN, 1 guest and 2 endpoint in another.

mod guest;
mod hostile;
mod site;

use hairpin_dataplane::port::memory::{Config, Endpoint, pair};
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::virtqueue::driver::{PackedDriver, SplitDriver};
use hairpin_dataplane::wire::offload::{Capabilities, Offload};

use super::input::Input;
use super::vmm::{mappings, open_descriptors};
use guest::Guest;
use hostile::Hostile;
use site::{Site, frame};

/// Operations in an input.
const OPERATIONS_MAX: usize = 64;

/// Does what an input says.
///
/// # Panics
/// If what is promised does not hold.
pub fn run(bytes: &[u8]) {
    let before = open_descriptors();
    let mut input = Input::new(bytes);
    let mut bed = Bed::new();
    bed.exchange();
    for _ in 0..OPERATIONS_MAX {
        if input.is_over() {
            break;
        }
        match input.below(16) {
            0 => bed.site.breathe(),
            operation => bed.hostile.step(operation, &mut input),
        }
        bed.exchange();
    }
    bed.hostile.end();
    bed.exchange();
    drop(bed);
    assert_eq!(open_descriptors(), before, "descriptors were left open");
    assert_eq!(mappings(), 0, "memory was left mapped");
}

struct Bed {
    site: Site,
    hostile: Hostile,
    guest: Guest<SplitDriver>,
    endpoint: Endpoint,
    bystander: Guest<PackedDriver>,
    round: u32,
}

impl Bed {
    fn new() -> Bed {
        let (hostile_port, hostile) = Hostile::new();
        let (guest_port, guest) = Guest::new(RingKind::Split, Capabilities::ALL, |terms| {
            SplitDriver::new(&terms.memory, terms.layout, terms.order).expect("its ring")
        });
        // It takes nothing but complete frames: software makes them.
        let (bystander_port, bystander) =
            Guest::new(RingKind::Packed, Capabilities::NONE, |terms| {
                PackedDriver::new(&terms.memory, terms.layout, terms.order).expect("its ring")
            });
        let (device, endpoint) = pair(Config::default()).expect("memory and descriptors");
        let site = Site::new(vec![hostile_port, guest_port, device.into(), bystander_port]);
        Bed { site, hostile, guest, endpoint, bystander, round: 0 }
    }

    /// One frame from the guest to the endpoint, one back, and one to the hostile port.
    fn exchange(&mut self) {
        self.round += 1;
        let there = frame(1, 2, self.round);
        let back = frame(2, 1, !self.round);
        self.guest.send(&there);
        self.endpoint.send(&back, Offload::NONE).expect("its ring has room");
        self.bystander.send(&frame(3, 0, self.round));
        self.site.breathe();
        let mut bytes = Vec::new();
        assert_eq!(self.endpoint.receive(&mut bytes), Some(Offload::NONE), "a frame is lost");
        assert_eq!(bytes, there);
        assert_eq!(self.endpoint.receive(&mut bytes), None, "nobody else reaches this VLAN");
        assert_eq!(self.guest.receive(), [back]);
        self.bystander.receive();
        self.site.check();
    }
}
