//! Ports of a switch and the worker that serves them.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use hairpin_dataplane::port::{Attached, Opened};
use hairpin_dataplane::relay::bucket::Reflections;
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::compile::compile;
use hairpin_dataplane::snapshot::topology::{ChannelPlan, StationPlan, Topology, VmPlan};
use hairpin_dataplane::snapshot::{
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, Snapshot, VlanPolicy,
};
use hairpin_dataplane::sys::lane::{Access, Lane};
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::wire::{Mac, VlanId};
use hairpin_dataplane::worker::command::{Command, Event, ReceiveQueue};
use hairpin_dataplane::worker::{Flow, Parts, Poll, Worker};

/// How far the clock goes from one breath to the next.
const BREATH_NS: u64 = 10_000;
/// The VLAN of each port.
const VLANS: [u16; 4] = [20, 10, 10, 20];

/// The switch.
#[derive(Debug)]
pub struct Site {
    worker: Worker,
    attached: Vec<Arc<Attached>>,
    events: Receiver<Event>,
    /// Held, or there would be no policy.
    _publisher: Publisher<Snapshot>,
    now_ns: u64,
}

/// The address of a port.
pub fn mac(port: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, port]
}

/// A frame from one port to another, told from others by a number.
pub fn frame(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut frame = [mac(to), mac(from)].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_le_bytes());
    // Some have a body behind the private header.
    frame.resize(60 + 97 * (number % 3) as usize, number as u8);
    frame
}

impl Site {
    /// A switch of these ports.
    ///
    /// # Panics
    /// If there is no memory, or the policy is refused.
    pub fn new(ports: Vec<Opened>) -> Site {
        let (to_worker, commands) = crossbeam_channel::unbounded();
        let (to_control, events) = crossbeam_channel::bounded(64);
        let mut attached = Vec::new();
        for (opened, id) in ports.into_iter().zip(0..) {
            let device = DeviceId(id);
            let lane = |transmitter| Lane::new(Access::Shared, transmitter);
            let lanes = opened.transmitters.into_iter().map(lane).collect();
            let (name, counters) = (format!("port{id}"), Attached::counters(1));
            let port = Attached::new(device, &name, counters, opened.capabilities, lanes);
            let port = Arc::new(port.steered(opened.steering));
            for (receiver, index) in opened.receivers.into_iter().zip(0..) {
                let (attached, load) = (Arc::clone(&port), Arc::default());
                let queue = ReceiveQueue { device, attached, index, receiver, load };
                to_worker.send(Command::Adopt(Box::new(queue))).expect("we hold the other end");
            }
            attached.push(port);
        }
        let snapshot = compile(&topology(&attached)).expect("the policy is sound");
        let publisher = Publisher::new(Box::new(snapshot), 1);
        let worker = Worker::new(Parts {
            index: 0,
            poll: Poll::Busy,
            snapshot: publisher.reader().expect("the publisher has a slot"),
            fdb: Arc::new(Fdb::new(512)),
            reflections: Arc::new(Reflections::new()),
            events: to_control,
            commands,
        });
        let mut worker = worker.expect("memory and descriptors");
        assert_eq!(worker.take_commands(), Flow::Continue);
        Site { worker, attached, events, _publisher: publisher, now_ns: 1 }
    }

    /// One breath.
    pub fn breathe(&mut self) {
        self.now_ns += BREATH_NS;
        self.worker.breathe(self.now_ns);
    }

    /// All ledgers are balanced, and nothing went wrong.
    pub fn check(&self) {
        if let Ok(event) = self.events.try_recv() {
            panic!("the worker reports {event:?}");
        }
        let totals: Vec<_> = self.attached.iter().map(|port| port.totals()).collect();
        assert!(totals.iter().all(|port| port.is_balanced()), "{totals:?}");
        let (fan_out, offered) = totals
            .iter()
            .fold((0, 0), |(fan, offered), port| (fan + port.fan_out, offered + port.offered));
        assert_eq!(fan_out, offered);
    }
}

fn topology(attached: &[Arc<Attached>]) -> Topology {
    let station = |(port, number): (&Arc<Attached>, u16)| StationPlan {
        port: VmPlan {
            port: PortId(number),
            device: DeviceId(number),
            generation: Generation(0),
            admin: Admin::Up,
            addresses: Addresses::Registered([Mac::new(mac(number as u8))].into()),
            vlan: VlanPolicy::Access(
                VlanId::new(VLANS[usize::from(number)]).expect("a VLAN's number"),
            ),
            attached: Arc::clone(port),
        },
        domain: DomainId(0),
        mode: Mode::Veb,
    };
    Topology {
        revision: 1,
        ageing_ms: 300_000,
        channels: vec![ChannelPlan { domain: DomainId(0), uplink: None, mtu: 9000 }],
        station_ports: attached.iter().zip(0..).map(station).collect(),
        ..Topology::default()
    }
}
