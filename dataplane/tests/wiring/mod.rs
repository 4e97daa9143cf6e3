//! Memory ports on a channel of their own and a worker that serves them: what
//! whole breaths are tested, measured and counted on.

// Each program that includes this uses its part of it.
#![allow(dead_code)]

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use hairpin_dataplane::ledger::Totals;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Attached, Opened};
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::topology::{ChannelPlan, StationPlan, Topology, VmPlan};
use hairpin_dataplane::snapshot::{
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, VlanPolicy, compile,
};
use hairpin_dataplane::sys::lane::{Access, Lane};
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::wire::{Mac, VlanId};
use hairpin_dataplane::worker::command::{Command, Event, ReceiveQueue};
use hairpin_dataplane::worker::{Parts, Poll, Worker};

/// How far the clock goes from one breath to the next.
const BREATH_NS: u64 = 10_000;

/// A host-local channel of `veb` ports with an address each, registered, in one
/// access VLAN; and a worker that serves them.
pub struct Wiring {
    pub worker: Worker,
    /// The ports' other ends.
    pub endpoints: Vec<Endpoint>,
    pub attached: Vec<Arc<Attached>>,
    pub commands: Sender<Command>,
    pub events: Receiver<Event>,
    now_ns: u64,
}

/// The address of a port.
pub fn mac(number: usize) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number as u8])
}

/// A frame of `length` bytes, at least 14, from a port.
pub fn frame(from: usize, to: Mac, length: usize) -> Vec<u8> {
    let mut frame = [to.octets(), mac(from).octets()].concat();
    frame.extend([0x08, 0x00]);
    frame.extend((frame.len()..length).map(|byte| byte as u8));
    frame
}

/// Memory devices without faults.
pub fn plain(config: memory::Config) -> (Opened, Endpoint) {
    let (device, endpoint) = memory::pair(config).expect("memory and descriptors");
    (device.into(), endpoint)
}

fn station(number: usize, attached: &Arc<Attached>) -> StationPlan {
    let port = VmPlan {
        port: PortId(number as u16),
        device: DeviceId(number as u16),
        generation: Generation(0),
        admin: Admin::Up,
        addresses: Addresses::Registered([mac(number)].into()),
        vlan: VlanPolicy::Access(VlanId::new(10).expect("10 is a VLAN")),
        attached: Arc::clone(attached),
    };
    StationPlan { port, domain: DomainId(0), mode: Mode::Veb }
}

fn topology(attached: &[Arc<Attached>]) -> Topology {
    Topology {
        revision: 1,
        ageing_ms: 300_000,
        channels: vec![ChannelPlan { domain: DomainId(0), uplink: None, mtu: 65_535 }],
        station_ports: attached.iter().enumerate().map(|(n, one)| station(n, one)).collect(),
        ..Topology::default()
    }
}

/// A device as workers share it; its receive queues go to `commands`.
fn attach(number: usize, opened: Opened, commands: &Sender<Command>) -> Arc<Attached> {
    let id = DeviceId(number as u16);
    let lanes = opened.transmitters.into_iter().map(|one| Lane::new(Access::Shared, one)).collect();
    let (name, counters) = (format!("vm{number}"), Attached::counters(1));
    let attached = Arc::new(Attached::new(id, &name, counters, opened.capabilities, lanes));
    for receiver in opened.receivers {
        let attached = Arc::clone(&attached);
        let queue = ReceiveQueue { device: id, attached, index: 0, receiver };
        commands.send(Command::Adopt(Box::new(queue))).expect("the receiving end is ours");
    }
    attached
}

impl Wiring {
    /// This many ports on memory devices as they usually are.
    pub fn new(ports: usize) -> Wiring {
        Wiring::with(ports, |_| plain(memory::Config::default()))
    }

    /// This many ports, on devices that `open` gives by their numbers.
    pub fn with(ports: usize, open: impl Fn(usize) -> (Opened, Endpoint)) -> Wiring {
        let (command_sender, commands) = unbounded();
        let (event_sender, events) = bounded(64);
        let (mut endpoints, mut attached) = (Vec::new(), Vec::new());
        for number in 0..ports {
            let (opened, endpoint) = open(number);
            attached.push(attach(number, opened, &command_sender));
            endpoints.push(endpoint);
        }
        let snapshot = compile::compile(&topology(&attached)).expect("the plan is sound");
        let publisher = Publisher::new(Box::new(snapshot), 1);
        let mut worker = Worker::new(Parts {
            index: 0,
            poll: Poll::Adaptive,
            snapshot: publisher.reader().expect("one reader was asked for"),
            fdb: Arc::new(Fdb::new(1024)),
            reflections: Arc::default(),
            events: event_sender,
            commands,
        })
        .expect("memory and descriptors");
        worker.take_commands();
        Wiring { worker, endpoints, attached, commands: command_sender, events, now_ns: 1 }
    }

    /// One breath, a moment after the last one; says how many frames it received.
    pub fn breathe(&mut self) -> usize {
        self.now_ns += BREATH_NS;
        self.worker.breathe(self.now_ns).frames
    }

    /// What a port counted.
    pub fn totals(&self, number: usize) -> Totals {
        self.attached[number].totals()
    }
}
