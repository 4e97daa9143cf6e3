//! The site that the relay is measured on: two `veb` ports with registered
//! addresses in an access VLAN, source and VLAN checked, and a link.

#![allow(dead_code)]

use std::hint::black_box;
use std::sync::Arc;

use hairpin_dataplane::port::Attached;
use hairpin_dataplane::relay::arrival::{Arrival, Arrivals};
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::relay::{Burst, Entrance, Frame, Relay, Verdict, egress};
use hairpin_dataplane::snapshot::compile::compile;
use hairpin_dataplane::snapshot::keyed::Secret;
use hairpin_dataplane::snapshot::topology::{
    ChannelPlan, LinkPlan, StationPlan, Topology, UplinkPlan, VmPlan,
};
use hairpin_dataplane::snapshot::{
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, Snapshot, VlanPolicy,
};
use hairpin_dataplane::wire::offload::{Capabilities, Offload};
use hairpin_dataplane::wire::{Mac, VlanId};

pub const BURST: usize = 64;
/// Batches are received into 128 bytes per frame.
const HEADER_BYTES: usize = 128;
const FRAME_BYTES: usize = 64;
const LINK: u16 = 100;
/// The same in every run: it decides which addresses find no room.
const SECRET: Secret = Secret::new([0x2545_f491_4f6c_dd1d, 0x9e37_79b9_7f4a_7c15]);

pub fn mac(number: u64) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | number)
}

fn attached(device: u16) -> Arc<Attached> {
    let device = DeviceId(device);
    let counters = Attached::counters(1);
    Arc::new(Attached::new(device, "measured", counters, Capabilities::ALL, Vec::new()))
}

fn vm(port: u16, addresses: Addresses) -> StationPlan {
    let vlan = VlanId::new(10).expect("10 is a VLAN");
    let port = VmPlan {
        port: PortId(port),
        device: DeviceId(port),
        generation: Generation(0),
        admin: Admin::Up,
        addresses,
        vlan: VlanPolicy::Access(vlan),
        attached: attached(port),
    };
    StationPlan { port, domain: DomainId(0), mode: Mode::Veb }
}

fn topology(station_ports: Vec<StationPlan>) -> Topology {
    let link =
        LinkPlan { device: DeviceId(LINK), mtu: 1500, attached: attached(LINK), svids: Vec::new() };
    let uplink =
        UplinkPlan { port: PortId(LINK), device: DeviceId(LINK), svid: None, admin: Admin::Up };
    let channel = ChannelPlan { domain: DomainId(0), uplink: Some(uplink), mtu: 1500 };
    Topology {
        revision: 1,
        ageing_ms: 300_000,
        links: vec![link],
        channels: vec![channel],
        station_ports,
        ..Topology::default()
    }
}

/// What is measured on.
pub struct Site {
    snapshot: Snapshot,
    pub fdb: Fdb,
}

impl Site {
    /// Ports 1 and 2 with an address each.
    pub fn registered() -> Site {
        let own = |number| Addresses::Registered([mac(number)].into());
        let snapshot = compile(&topology(vec![vm(1, own(1)), vm(2, own(2))]));
        Site { snapshot: snapshot.expect("the plan is sound"), fdb: Fdb::keyed(65_536, SECRET) }
    }

    /// Port 1 with an address; port 2 learns so many that the table is full.
    pub fn learned(addresses: u32) -> Site {
        let own = Addresses::Registered([mac(1)].into());
        let many = Addresses::Learned { limit: addresses };
        let snapshot = compile(&topology(vec![vm(1, own), vm(2, many)]));
        let site = Site {
            snapshot: snapshot.expect("the plan is sound"),
            fdb: Fdb::keyed(addresses, SECRET),
        };
        for number in 0..u64::from(addresses) {
            site.learn(1000 + number);
        }
        // Some 15 in a million find no room; their frames are flooded instead.
        let refused = u64::from(addresses) - site.fdb.count();
        assert!(refused <= u64::from(addresses) / 20_000, "{refused} of {addresses}");
        site
    }

    fn learn(&self, number: u64) {
        let relay = self.relay();
        let entrance = relay.entrance(DeviceId(2)).expect("port 2 is planned");
        let frames = [frame(mac(1), mac(number))];
        let mut arrivals = Arrivals::with_capacity(1);
        relay.admit(entrance, &Headers(&frames), &mut arrivals, |_| {});
        relay.decide(entrance, &mut arrivals);
    }

    fn relay(&self) -> Relay<'_> {
        Relay { snapshot: &self.snapshot, fdb: &self.fdb, now_ms: 1_000_000 }
    }

    /// A burst from port 1 to port 2's address, no frame alike to the one before it.
    pub fn work(&self) -> Work<'_> {
        self.work_to(std::iter::repeat(2))
    }

    /// The same of frames that are alike.
    pub fn alike(&self) -> Work<'_> {
        let frames = (0..BURST).map(|_| frame(mac(2), mac(1))).collect();
        Work { relay: self.relay(), frames, arrivals: Arrivals::with_capacity(BURST) }
    }

    /// A burst from port 1 to these addresses, no frame alike to the one before it.
    pub fn work_to(&self, numbers: impl Iterator<Item = u64>) -> Work<'_> {
        let mut work = self.alike();
        work.aim(numbers);
        (0..).zip(&mut work.frames).for_each(|(number, frame)| frame.0[14] = number);
        work
    }
}

#[repr(align(64))]
struct Header([u8; HEADER_BYTES]);

fn frame(destination: Mac, source: Mac) -> Header {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..6].copy_from_slice(&destination.octets());
    bytes[6..12].copy_from_slice(&source.octets());
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    Header(bytes)
}

fn view(index: usize, header: &Header) -> Frame<'_> {
    Frame {
        index: index as u16,
        header: &header.0[..FRAME_BYTES],
        length: FRAME_BYTES,
        offload: Offload::NONE,
    }
}

/// A burst of frames of one length.
struct Headers<'f>(&'f [Header]);

impl<'f> Burst<'f> for Headers<'f> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn frame(&self, index: usize) -> Frame<'f> {
        view(index, black_box(&self.0[index]))
    }

    #[inline(always)]
    fn alike(&self) -> u64 {
        let head = |header: &Header| header.0.first_chunk().map(|&head| u128::from_ne_bytes(head));
        self.0
            .windows(2)
            .rev()
            .fold(0, |alike, pair| (alike | u64::from(head(&pair[0]) == head(&pair[1]))) << 1)
    }
}

/// A burst, and room for its decisions.
pub struct Work<'s> {
    relay: Relay<'s>,
    frames: Vec<Header>,
    arrivals: Arrivals,
}

impl Work<'_> {
    /// Writes other destinations.
    pub fn aim(&mut self, numbers: impl Iterator<Item = u64>) {
        for (frame, number) in self.frames.iter_mut().zip(numbers) {
            frame.0[..6].copy_from_slice(&mac(number).octets());
        }
    }

    /// Admits, decides and plans the burst; says how many frames go to port 2.
    pub fn switch(&mut self) -> usize {
        let relay = self.relay;
        let entrance = relay.entrance(DeviceId(1)).expect("port 1 is planned");
        self.admit(entrance);
        relay.decide(entrance, &mut self.arrivals);
        let there = |arrival: &&Arrival| self.plan(arrival) == Some(PortId(2));
        self.arrivals.all().iter().filter(there).map(|arrival| arrival.run().len()).sum()
    }

    fn admit(&mut self, entrance: Entrance<'_>) {
        self.arrivals.clear();
        self.relay.admit(entrance, &Headers(&self.frames), &mut self.arrivals, |reason| {
            black_box(reason);
        });
    }

    fn plan(&self, arrival: &Arrival) -> Option<PortId> {
        let Verdict::To(id) = arrival.verdict else { return None };
        let port = self.relay.snapshot.port(id)?;
        let header = &self.frames[usize::from(arrival.index)];
        let edit = egress::plan(&arrival.admitted, port, &view(0, header)).ok()?;
        black_box(edit);
        Some(id)
    }
}
