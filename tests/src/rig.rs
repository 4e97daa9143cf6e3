//! What the switch does: the real dataplane on memory ports, breath by breath.
//!
//! All contact with the dataplane's machinery is here: a [`Site`] becomes a
//! topology, the topology a published snapshot; frames go in and come out at
//! the far ends of memory devices; the worker breathes when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::memory::{Config, Endpoint, pair};
use hairpin_dataplane::port::pcapng::Direction;
use hairpin_dataplane::port::{Attached, Condition, Opened};
use hairpin_dataplane::relay::Relay;
use hairpin_dataplane::relay::bucket::Reflections;
use hairpin_dataplane::relay::fdb::{Fdb, Row};
use hairpin_dataplane::snapshot::compile::compile;
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, MirrorPlan, MonitorPlan,
    StationPlan, Topology, UplinkPlan, VmPlan,
};
use hairpin_dataplane::snapshot::{
    Addresses, DeviceId, DomainId, Generation, PortId, ReflectiveRelay, Snapshot, VlanPolicy,
};
use hairpin_dataplane::sys::lane::{Access, Lane};
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::wire::offload::Capabilities;
use hairpin_dataplane::wire::virtio_net;
use hairpin_dataplane::wire::vlan::VidSet;
use hairpin_dataplane::wire::{Mac, SVid, VlanId};
use hairpin_dataplane::worker::capture::filter::Filter;
use hairpin_dataplane::worker::capture::{
    self, CaptureId, CapturedDevice, Collector, Label, Plan, SNAPSHOT_BYTES_MAX,
};
use hairpin_dataplane::worker::command::{Command, Event, ReceiveQueue};
use hairpin_dataplane::worker::foresee::{Foreseen, foresee};
use hairpin_dataplane::worker::{Flow, Parts, Poll, Worker};

use crate::oracle::Frame;
use crate::site::{
    Cable, Channel, Device, Port, Purpose, Reflection, Role, SLOTS, Seat, Site, Sources, Vlan,
};

/// Addresses the table has room for: far more than a scenario can name, and so
/// few that one breath after a wait sweeps it all.
const TABLE: u32 = 512;
/// Breaths after which a burst must have been taken.
const BREATHS_MAX: usize = 64;

/// A switch and the far ends of its devices.
#[derive(Debug)]
pub struct Rig {
    ends: BTreeMap<Device, End>,
    publisher: Publisher<Snapshot>,
    fdb: Arc<Fdb>,
    worker: Worker,
    revision: u64,
    /// Held so that the worker can send events.
    events: crossbeam_channel::Receiver<Event>,
    commands: crossbeam_channel::Sender<Command>,
    capture: Option<Collector>,
    probe: Option<Probe>,
}

/// A monitor, and what is mirrored for it.
#[derive(Debug)]
struct Probe {
    end: End,
    mirrors: Vec<(Device, Mirrored)>,
}

/// A frame as a capture has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// Which way it went.
    pub way: Direction,
    /// Why it was dropped, if it was.
    pub dropped: Option<DropReason>,
    /// Its length in bytes.
    pub length: usize,
    /// Its first bytes, [`SNAPSHOT_BYTES_MAX`] at most.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct End {
    endpoint: Endpoint,
    attached: Arc<Attached>,
}

impl Rig {
    /// A switch with this site in force, whose devices take every offload.
    ///
    /// # Panics
    /// If a device cannot be made or the dataplane refuses the site.
    #[must_use]
    pub fn new(site: &Site) -> Rig {
        Rig::with(site, |_| Capabilities::ALL)
    }

    /// The same with devices that take what `capabilities` says.
    ///
    /// # Panics
    /// As for [`Rig::new`].
    #[must_use]
    pub fn with(site: &Site, capabilities: impl Fn(Device) -> Capabilities) -> Rig {
        let (to_worker, commands) = crossbeam_channel::unbounded();
        let (to_control, events) = crossbeam_channel::bounded(64);
        let open = |device| (device, open(capabilities(device)));
        let made: Vec<_> = site.devices().into_iter().map(open).collect();
        let mut ends = BTreeMap::new();
        let mut queues = Vec::new();
        for (device, (mut opened, endpoint)) in made {
            let id = device_id(device);
            let receivers: Vec<_> = opened.receivers.drain(..).collect();
            let attached = attach(id, &format!("{device:?}"), opened);
            for receiver in receivers {
                let attached = Arc::clone(&attached);
                queues.push(Box::new(ReceiveQueue {
                    device: id,
                    attached,
                    index: 0,
                    receiver,
                    load: Arc::default(),
                }));
            }
            ends.insert(device, End { endpoint, attached });
        }
        let publisher = Publisher::new(Box::new(snapshot(site, &ends, 1)), 1);
        let fdb = Arc::new(Fdb::new(TABLE));
        let worker = Worker::new(Parts {
            index: 0,
            poll: Poll::Busy,
            snapshot: publisher.reader().expect("the publisher has a slot"),
            fdb: Arc::clone(&fdb),
            reflections: Arc::new(Reflections::new()),
            events: to_control,
            commands,
        });
        let mut worker = worker.expect("a worker needs memory and a few descriptors");
        for queue in queues {
            to_worker.send(Command::Adopt(queue)).expect("the worker holds the other end");
        }
        assert_eq!(worker.take_commands(), Flow::Continue);
        let (commands, capture, probe) = (to_worker, None, None);
        Rig { ends, publisher, fdb, worker, revision: 1, events, commands, capture, probe }
    }

    /// Puts a changed site in force.
    ///
    /// # Panics
    /// If the dataplane refuses it.
    pub fn change(&mut self, site: &Site) {
        self.revision += 1;
        let mut topology = topology(site, &self.ends, self.revision);
        if let Some(Probe { end, mirrors }) = &self.probe {
            let attached = Arc::clone(&end.attached);
            topology.monitors.push(MonitorPlan { device: PROBE, attached });
            let is_there = |device: &Device| match *device {
                Device::Link(_) => self.ends.contains_key(device),
                Device::Port(slot) => site.port(slot).is_some(),
            };
            let mirrored = mirrors.iter().filter(|(device, _)| is_there(device));
            topology.mirrors.extend(mirrored.map(|&(device, frames)| MirrorPlan {
                from: device_id(device),
                frames,
                to: PROBE,
            }));
        }
        let compiled = compile(&topology).expect("a site is valid by construction");
        self.publisher.publish(Box::new(compiled));
    }

    /// Mirrors these frames of devices for a probe from now on.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn mirror(&mut self, site: &Site, mirrors: Vec<(Device, Mirrored)>) {
        let (opened, endpoint) = open(Capabilities::ALL);
        let attached = attach(PROBE, "probe", opened);
        self.probe = Some(Probe { end: End { endpoint, attached }, mirrors });
        self.change(site);
    }

    /// What the probe got since this was last called, and its counters.
    ///
    /// # Panics
    /// If nothing is mirrored.
    pub fn probed(&mut self) -> (Vec<Frame>, Totals) {
        let end = &mut self.probe.as_mut().expect("something is mirrored").end;
        let (mut frames, mut bytes) = (Vec::new(), Vec::new());
        while let Some(offload) = end.endpoint.receive(&mut bytes) {
            frames.push(Frame { bytes: std::mem::take(&mut bytes), offload });
        }
        (frames, end.attached.totals())
    }

    /// Whether a device can send at all: a link without a device cannot.
    #[must_use]
    pub fn has(&self, device: Device) -> bool {
        self.ends.contains_key(&device)
    }

    /// Sends frames from the far end of a device, some of them in pieces.
    ///
    /// # Panics
    /// If the device's ring is full.
    pub fn send(&mut self, device: Device, frames: &[Frame]) {
        let end = self.ends.get_mut(&device).expect("the device is there");
        for frame in frames {
            let cut = frame.bytes.len() / 3;
            let sent = match frame.bytes.len() % 3 {
                0 => {
                    let pieces = [&frame.bytes[..cut], &frame.bytes[cut..]];
                    end.endpoint.send_split(&pieces, frame.offload)
                }
                _ => end.endpoint.send(&frame.bytes, frame.offload),
            };
            sent.expect("the ring has room for what a scenario leaves in it");
        }
    }

    /// Sends a frame with a virtio-net header as it stands, which need not make sense.
    ///
    /// # Panics
    /// If the device's ring is full.
    pub fn send_raw(
        &mut self,
        device: Device,
        bytes: &[u8],
        header: [u8; virtio_net::HEADER_BYTES],
    ) {
        let end = self.ends.get_mut(&device).expect("the device is there");
        end.endpoint.send_raw_offload(bytes, header).expect("the ring has room for a frame");
    }

    /// Has a device be found like this.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn set_condition(&self, device: Device, condition: Condition) {
        self.ends[&device].attached.set_condition(condition);
    }

    /// What would become of a frame that a device sent now.
    ///
    /// # Panics
    /// If there is no such device.
    #[must_use]
    pub fn foresee(&self, device: Device, frame: &Frame, now_ms: u64) -> Foreseen {
        let relay = Relay { snapshot: self.publisher.current(), fdb: &*self.fdb, now_ms };
        let foreseen = foresee(relay, device_id(device), &frame.bytes, frame.offload);
        foreseen.expect("the device is there, and the frame not too long")
    }

    /// All learned addresses, aged ones that were not swept yet included; and how often any
    /// moved.
    #[must_use]
    pub fn learned(&self, now_ms: u64) -> (Vec<Row>, u64) {
        let mut rows = Vec::new();
        self.fdb.page(0, usize::MAX, now_ms, &mut rows);
        (rows, self.fdb.moves())
    }

    /// Breathes until nothing is left to receive.
    ///
    /// # Panics
    /// If the worker does not come to rest, or reports a device as broken.
    pub fn breathe(&mut self, now_ms: u64) {
        for _ in 0..BREATHS_MAX {
            if self.worker.breathe(now_ms * 1_000_000).frames == 0 {
                self.publisher.collect();
                if let Ok(event) = self.events.try_recv() {
                    panic!("the worker reports {event:?}");
                }
                return;
            }
        }
        panic!("{BREATHS_MAX} breaths did not take what was sent");
    }

    /// What came out of each device since this was last called.
    pub fn deliveries(&mut self) -> BTreeMap<Device, Vec<Frame>> {
        let mut deliveries: BTreeMap<Device, Vec<Frame>> = BTreeMap::new();
        for (&device, end) in &mut self.ends {
            let mut bytes = Vec::new();
            while let Some(offload) = end.endpoint.receive(&mut bytes) {
                let frame = Frame { bytes: std::mem::take(&mut bytes), offload };
                deliveries.entry(device).or_default().push(frame);
            }
        }
        deliveries
    }

    /// Captures the frames of all devices from now on.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn capture(&mut self) {
        let attached = self.ends.values().map(|end| &end.attached);
        let devices = attached.map(|attached| CapturedDevice {
            id: attached.id,
            counters: Arc::clone(&attached.counters),
        });
        let plan = Arc::new(Plan {
            id: CaptureId(0),
            devices: devices.collect(),
            filter: Filter::default(),
            snapshot_bytes: SNAPSHOT_BYTES_MAX,
            ring_bytes: 4 << 20,
            joined: AtomicUsize::new(0),
        });
        let (taps, collector) = capture::session(&plan, 1).expect("a capture needs memory");
        for tap in taps {
            self.commands.send(Command::BeginCapture(tap)).expect("the worker has the other end");
        }
        assert_eq!(self.worker.take_commands(), Flow::Continue);
        self.capture = Some(collector);
    }

    /// What was captured at each device since this was last called.
    ///
    /// # Panics
    /// If frames were missed.
    pub fn captured(&mut self) -> BTreeMap<Device, Vec<Captured>> {
        let mut captured: BTreeMap<Device, Vec<Captured>> = BTreeMap::new();
        let Some(capture) = &mut self.capture else { return captured };
        let devices: Vec<Device> = self.ends.keys().copied().collect();
        let mut bytes = Vec::new();
        while let Some(label) = capture.take(&mut bytes) {
            let Label { way, dropped, length, device, .. } = label;
            let (length, bytes) = (length as usize, bytes.clone());
            let frames = captured.entry(devices[usize::from(device)]).or_default();
            frames.push(Captured { way, dropped, length, bytes });
        }
        let missed: u64 = (0..devices.len()).map(|device| capture.missed(device)).sum();
        assert_eq!(missed, 0, "a scenario fits into a capture");
        captured
    }

    /// The counters of every device.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Device, Totals> {
        self.ends.iter().map(|(&device, end)| (device, end.attached.totals())).collect()
    }
}

fn open(capabilities: Capabilities) -> (Opened, Endpoint) {
    let config = Config { capabilities, ..Config::default() };
    let (device, endpoint) = pair(config).expect("a memory device needs memory");
    (device.into(), endpoint)
}

fn attach(id: DeviceId, name: &str, opened: Opened) -> Arc<Attached> {
    let lane = |transmitter| Lane::new(Access::Shared, transmitter);
    let transmitters = opened.transmitters.into_iter().map(lane).collect();
    Arc::new(Attached::new(id, name, Attached::counters(1), opened.capabilities, transmitters))
}

// Ids: links come before ports, channels before VM ports.

const PROBE: DeviceId = DeviceId(32);

fn device_id(device: Device) -> DeviceId {
    DeviceId(match device {
        Device::Link(link) => link as u16,
        Device::Port(slot) => 16 + slot as u16,
    })
}

/// The device of an id.
#[must_use]
pub fn device_of(id: DeviceId) -> Device {
    match usize::from(id.0) {
        slot @ 16.. => Device::Port(slot - 16),
        link => Device::Link(link),
    }
}

fn channel_port(channel: usize) -> PortId {
    PortId(channel as u16)
}

fn vm_port(slot: usize) -> PortId {
    PortId(32 + slot as u16)
}

fn domain_id(seat: Seat) -> DomainId {
    DomainId(match seat {
        Seat::Channel(channel) => channel as u16,
        Seat::Bridge => 31,
    })
}

fn snapshot(site: &Site, ends: &BTreeMap<Device, End>, revision: u64) -> Snapshot {
    compile(&topology(site, ends, revision)).expect("a site is valid by construction")
}

fn topology(site: &Site, ends: &BTreeMap<Device, End>, revision: u64) -> Topology {
    let wired = |link: &usize| site.links[*link].cable == Cable::Present;
    let ports = || (0..SLOTS).filter_map(|slot| Some((slot, site.port(slot)?)));
    Topology {
        revision,
        ageing_ms: site.ageing_ms,
        links: (0..site.links.len())
            .filter(wired)
            .map(|link| link_plan(site, ends, link))
            .collect(),
        channels: (0..site.channels.len())
            .filter(|&channel| site.channels[channel].purpose == Purpose::Station)
            .map(|channel| channel_plan(site, channel))
            .collect(),
        station_ports: ports()
            .filter(|(_, port)| port.seat != Seat::Bridge)
            .map(|(slot, port)| StationPlan {
                port: vm_plan(site, ends, slot, port),
                domain: domain_id(port.seat),
                mode: port.mode,
            })
            .collect(),
        bridges: vec![bridge_plan(site)],
        bridge_ports: ports()
            .filter(|(_, port)| port.seat == Seat::Bridge)
            .map(|(slot, port)| BridgePortPlan {
                port: vm_plan(site, ends, slot, port),
                domain: domain_id(port.seat),
            })
            .collect(),
        ..Topology::default()
    }
}

fn link_plan(site: &Site, ends: &BTreeMap<Device, End>, link: usize) -> LinkPlan {
    let tagged = site.channels.iter().filter(|channel| channel.link == link);
    LinkPlan {
        device: device_id(Device::Link(link)),
        mtu: site.links[link].mtu as u32,
        attached: Arc::clone(&ends[&Device::Link(link)].attached),
        svids: tagged.filter_map(svid).collect(),
    }
}

fn svid(channel: &Channel) -> Option<SVid> {
    channel.svid.map(|svid| SVid::new(svid).expect("S-VIDs are drawn from the valid ones"))
}

fn channel_plan(site: &Site, channel: usize) -> ChannelPlan {
    let link = site.channels[channel].link;
    debug_assert_eq!(site.links[link].role, Role::Station);
    let uplink = (site.links[link].cable == Cable::Present).then(|| UplinkPlan {
        port: channel_port(channel),
        device: device_id(Device::Link(link)),
        svid: svid(&site.channels[channel]),
        admin: site.links[link].admin,
    });
    let seat = Seat::Channel(channel);
    ChannelPlan { domain: domain_id(seat), uplink, mtu: site.mtu_at(seat) as u32 }
}

fn bridge_plan(site: &Site) -> BridgePlan {
    let member = |channel: usize| {
        let link = site.channels[channel].link;
        let reflective_relay = match site.channels[channel].purpose {
            Purpose::Member(Reflection::On { group_rate }) => {
                ReflectiveRelay::On { group_rate: group_rate as u32 }
            }
            _ => ReflectiveRelay::Off,
        };
        MemberPlan {
            port: channel_port(channel),
            device: device_id(Device::Link(link)),
            svid: svid(&site.channels[channel]),
            generation: Generation(site.channel_generations[channel]),
            admin: site.links[link].admin,
            reflective_relay,
            learn_limit: TABLE,
            mtu: site.links[link].mtu as u32,
        }
    };
    BridgePlan {
        domain: domain_id(Seat::Bridge),
        mtu: site.mtu_at(Seat::Bridge) as u32,
        members: site.members().into_iter().map(member).collect(),
    }
}

fn vm_plan(site: &Site, ends: &BTreeMap<Device, End>, slot: usize, port: &Port) -> VmPlan {
    VmPlan {
        port: vm_port(slot),
        device: device_id(Device::Port(slot)),
        generation: Generation(site.port_generations[slot]),
        admin: port.admin,
        addresses: match &port.sources {
            Sources::Registered(macs) => {
                Addresses::Registered(macs.iter().map(|&mac| Mac::new(mac)).collect())
            }
            Sources::Learned { limit } => Addresses::Learned { limit: *limit as u32 },
        },
        vlan: vlan_policy(&port.vlan),
        attached: Arc::clone(&ends[&Device::Port(slot)].attached),
    }
}

fn vlan_policy(vlan: &Vlan) -> VlanPolicy {
    let id = |vid: &u16| VlanId::new(*vid).expect("VIDs are drawn from the valid ones");
    match vlan {
        Vlan::Transparent => VlanPolicy::Transparent,
        Vlan::Access(vid) => VlanPolicy::Access(id(vid)),
        Vlan::Trunk { members, native } => VlanPolicy::Trunk {
            members: Box::new(members.iter().map(id).collect::<VidSet>()),
            native: native.as_ref().map(id),
        },
    }
}
