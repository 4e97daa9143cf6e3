//! What the switch does: the real dataplane on memory ports, breath by breath.
//!
//! All contact with the dataplane's machinery is here: a [`Site`] becomes a
//! topology, the topology a published snapshot; frames go in and come out at
//! the far ends of memory devices; the worker breathes when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use hairpin_dataplane::ledger::Totals;
use hairpin_dataplane::port::memory::{Config, Endpoint, pair};
use hairpin_dataplane::port::{Attached, Opened};
use hairpin_dataplane::relay::bucket::Reflections;
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::compile::compile;
use hairpin_dataplane::snapshot::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, StationPlan, Topology,
    UplinkPlan, VmPlan,
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
use hairpin_dataplane::worker::command::{Command, Event, ReceiveQueue};
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
    worker: Worker,
    revision: u64,
    /// Held so that the worker can send events.
    events: crossbeam_channel::Receiver<Event>,
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
            let attached = attach(device, opened);
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
        let worker = Worker::new(Parts {
            index: 0,
            poll: Poll::Busy,
            snapshot: publisher.reader().expect("the publisher has a slot"),
            fdb: Arc::new(Fdb::new(TABLE)),
            reflections: Arc::new(Reflections::new()),
            events: to_control,
            commands,
        });
        let mut worker = worker.expect("a worker needs memory and a few descriptors");
        for queue in queues {
            to_worker.send(Command::Adopt(queue)).expect("the worker holds the other end");
        }
        assert_eq!(worker.take_commands(), Flow::Continue);
        Rig { ends, publisher, worker, revision: 1, events }
    }

    /// Puts a changed site in force.
    ///
    /// # Panics
    /// If the dataplane refuses it.
    pub fn change(&mut self, site: &Site) {
        self.revision += 1;
        let snapshot = snapshot(site, &self.ends, self.revision);
        self.publisher.publish(Box::new(snapshot));
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

fn attach(device: Device, opened: Opened) -> Arc<Attached> {
    let lane = |transmitter| Lane::new(Access::Shared, transmitter);
    let transmitters = opened.transmitters.into_iter().map(lane).collect();
    Arc::new(Attached::new(
        device_id(device),
        &format!("{device:?}"),
        Attached::counters(1),
        opened.capabilities,
        transmitters,
    ))
}

// Ids: links come before ports, channels before VM ports.

fn device_id(device: Device) -> DeviceId {
    DeviceId(match device {
        Device::Link(link) => link as u16,
        Device::Port(slot) => 16 + slot as u16,
    })
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
