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
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, Snapshot, VlanPolicy, compile,
};
use hairpin_dataplane::sys::lane::{Access, Lane};
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::wire::offload::{Checksum, Ecn, Offload, Segmentation};
use hairpin_dataplane::wire::{Mac, VlanId};
use hairpin_dataplane::worker::command::{Command, Event, ReceiveQueue};
use hairpin_dataplane::worker::{Parts, Poll, Worker};

/// How far the clock goes from one breath to the next.
const BREATH_NS: u64 = 10_000;

/// Memory ports, as a rule on a host-local channel of `veb` ports with an address
/// each, registered, in one access VLAN; and a worker that serves them.
pub struct Wiring {
    pub worker: Worker,
    /// The ports' other ends.
    pub endpoints: Vec<Endpoint>,
    pub attached: Vec<Arc<Attached>>,
    pub commands: Sender<Command>,
    pub events: Receiver<Event>,
    publisher: Publisher<Snapshot>,
    revision: u64,
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

/// What a segment carries behind IPv4's and TCP's headers, in bytes.
pub const SEGMENT_BYTES: u16 = 1448;
/// What a frame to be cut carries at most: an IPv4 packet of 64 KiB.
pub const SEGMENTED_BYTES_MAX: usize = 65_535 - 40;

/// A frame that carries so many bytes of TCP over IPv4, to be cut into segments, and
/// what is left to do on it.
pub fn segmentable(from: usize, to: Mac, payload: usize) -> (Vec<u8>, Offload) {
    let packet = 40 + payload;
    let mut bytes = frame(from, to, 14 + packet);
    let [high, low] = (packet as u16).to_be_bytes();
    bytes[14..34].copy_from_slice(&[
        0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
    ]);
    bytes[46] = 0x50;
    let segmentation = Segmentation::Tcp4 { size: SEGMENT_BYTES, ecn: Ecn::Without };
    (bytes, Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, segmentation })
}

/// Memory devices without faults.
pub fn plain(config: memory::Config) -> (Opened, Endpoint) {
    let (device, endpoint) = memory::pair(config).expect("memory and descriptors");
    (device.into(), endpoint)
}

/// A port on its own device, up, as part of many plans.
pub fn vm(
    number: usize,
    addresses: Addresses,
    vlan: VlanPolicy,
    attached: &[Arc<Attached>],
) -> VmPlan {
    VmPlan {
        port: PortId(number as u16),
        device: DeviceId(number as u16),
        generation: Generation(0),
        admin: Admin::Up,
        addresses,
        vlan,
        attached: Arc::clone(&attached[number]),
    }
}

/// A port's one address, registered.
pub fn registered(number: usize) -> Addresses {
    Addresses::Registered([mac(number)].into())
}

/// The VLAN of the usual wiring.
pub fn access() -> VlanPolicy {
    VlanPolicy::Access(VlanId::new(10).expect("10 is a VLAN"))
}

fn station(number: usize, attached: &[Arc<Attached>]) -> StationPlan {
    let port = vm(number, registered(number), access(), attached);
    StationPlan { port, domain: DomainId(0), mode: Mode::Veb }
}

/// The usual policy.
pub fn topology(attached: &[Arc<Attached>]) -> Topology {
    Topology {
        ageing_ms: 300_000,
        channels: vec![ChannelPlan { domain: DomainId(0), uplink: None, mtu: 65_535 }],
        station_ports: (0..attached.len()).map(|number| station(number, attached)).collect(),
        ..Topology::default()
    }
}

fn compiled(topology: Topology, revision: u64) -> Box<Snapshot> {
    let topology = Topology { revision, ..topology };
    Box::new(compile::compile(&topology).expect("the plan is sound"))
}

/// A device as workers share it; its receive queues go to `commands`.
fn attach(number: usize, opened: Opened, commands: &Sender<Command>) -> Arc<Attached> {
    let id = DeviceId(number as u16);
    let lanes = opened.transmitters.into_iter().map(|one| Lane::new(Access::Shared, one)).collect();
    let (name, counters) = (format!("vm{number}"), Attached::counters(1));
    let attached = Attached::new(id, &name, counters, opened.capabilities, lanes);
    let attached = Arc::new(attached.steered(opened.steering));
    for (receiver, index) in opened.receivers.into_iter().zip(0..) {
        let (attached, load) = (Arc::clone(&attached), Arc::default());
        let queue = ReceiveQueue { device: id, attached, index, receiver, load };
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
        Wiring::planned(ports, open, topology)
    }

    /// The same with the policy that `plan` makes of the devices.
    pub fn planned(
        devices: usize,
        open: impl Fn(usize) -> (Opened, Endpoint),
        plan: impl Fn(&[Arc<Attached>]) -> Topology,
    ) -> Wiring {
        let (opened, endpoints) = (0..devices).map(open).unzip();
        Wiring { endpoints, ..Wiring::over(opened, plan) }
    }

    /// Ports on these devices, whose other ends are somebody else's.
    pub fn over(devices: Vec<Opened>, plan: impl Fn(&[Arc<Attached>]) -> Topology) -> Wiring {
        let (command_sender, commands) = unbounded();
        let (event_sender, events) = bounded(64);
        let attached = devices.into_iter().enumerate();
        let attached: Vec<_> =
            attached.map(|(number, opened)| attach(number, opened, &command_sender)).collect();
        let endpoints = Vec::new();
        let publisher = Publisher::new(compiled(plan(&attached), 1), 1);
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
        let commands = command_sender;
        let (revision, now_ns) = (1, 1);
        Wiring { worker, endpoints, attached, commands, events, publisher, revision, now_ns }
    }

    /// Publishes another policy; the worker sees it in its next breath.
    pub fn publish(&mut self, topology: Topology) {
        self.revision += 1;
        self.publisher.publish(compiled(topology, self.revision));
    }

    /// Frees, as control does, what was replaced; says whether nothing is left.
    pub fn collect(&mut self) -> bool {
        self.publisher.collect()
    }

    /// One breath, a moment after the last one; says how many frames it received.
    pub fn breathe(&mut self) -> usize {
        self.breathe_after(BREATH_NS)
    }

    /// One breath, so many nanoseconds after the last one.
    pub fn breathe_after(&mut self, ns: u64) -> usize {
        self.now_ns += ns;
        self.worker.breathe(self.now_ns).frames
    }

    /// What a port counted.
    pub fn totals(&self, number: usize) -> Totals {
        self.attached[number].totals()
    }
}
