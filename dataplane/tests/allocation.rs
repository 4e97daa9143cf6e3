//! Once it has begun, a worker allocates nothing and frees nothing, whatever comes.
//!
//! Every test sends frames that take one way through the switch, breath after
//! breath, and asserts at its end that they took it.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

mod network;
mod wiring;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::fault::{self, Chance, Faults};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Attached, Condition, Opened, pcap};
use hairpin_dataplane::snapshot::topology::{
    BridgePlan, BridgePortPlan, ChannelPlan, LinkPlan, MemberPlan, StationPlan, Topology,
    UplinkPlan,
};
use hairpin_dataplane::snapshot::{
    Addresses, Admin, DeviceId, DomainId, Generation, Mode, PortId, ReflectiveRelay, VlanPolicy,
};
use hairpin_dataplane::sys::lane::WorkerToken;
use hairpin_dataplane::sys::packet_socket::{Format, PacketSocket};
use hairpin_dataplane::wire::offload::{Capabilities, Offload, Segmentation, Support};
use hairpin_dataplane::wire::{Mac, SVid};
use hairpin_dataplane::worker::capture::filter::{Fates, Filter, Reasons};
use hairpin_dataplane::worker::capture::{self, CaptureId, CapturedDevice, Collector, Plan};
use hairpin_dataplane::worker::command::{Command as ToWorker, Event};
use network::{in_own_network, ip, tap_at};
use wiring::{SEGMENTED_BYTES_MAX, Wiring, access, frame, mac, plain, registered, segmentable, vm};

/// Breaths of each test.
const BREATHS: usize = 100;
/// From one breath to the next, where time is to pass: more than a tick.
const TICK_NS: u64 = 150_000_000;
const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

#[track_caller]
fn assert_none(counts: AllocationInfo, breath: usize) {
    let (allocated, kept) = (counts.count_total, counts.count_current);
    assert_eq!((allocated, kept), (0, 0), "allocated, and kept, in breath {breath}");
}

/// Has frames sent and breathes, again and again.
#[track_caller]
fn assert_allocates_nothing(wiring: &mut Wiring, send: impl FnMut(&mut Wiring, usize)) {
    assert_allocates_nothing_every(10_000, wiring, send);
}

/// The same with so much time from breath to breath.
#[track_caller]
fn assert_allocates_nothing_every(
    ns: u64,
    wiring: &mut Wiring,
    mut send: impl FnMut(&mut Wiring, usize),
) {
    let mut received = Vec::new();
    // The first breath sets up what lives as long as the thread.
    wiring.breathe();
    for breath in 0..BREATHS {
        send(wiring, breath);
        let counts = measure(|| {
            wiring.breathe_after(ns);
        });
        assert_none(counts, breath);
        for endpoint in &mut wiring.endpoints {
            while endpoint.receive(&mut received).is_some() {}
        }
    }
}

fn send(wiring: &mut Wiring, from: usize, frame: &[u8]) {
    wiring.endpoints[from].send(frame, Offload::NONE).unwrap();
}

/// A frame with tags, outermost first.
fn tagged(tags: &[(u16, u16)], frame: &[u8]) -> Vec<u8> {
    let tag = |&(tpid, tci): &(u16, u16)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
    let tags: Vec<u8> = tags.iter().flat_map(tag).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

#[test]
fn frames_of_all_lengths() {
    let mut wiring = Wiring::new(4);
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        for length in [60, 1514, 9014] {
            send(wiring, 0, &frame(0, mac(1), length));
            send(wiring, 0, &frame(0, Mac::BROADCAST, length));
        }
    });
    assert_eq!(wiring.totals(1).tx_frames, 6 * BREATHS as u64);
}

/// The usual policy, but ports learn.
fn learning(attached: &[Arc<Attached>]) -> Topology {
    let mut topology = wiring::topology(attached);
    for plan in &mut topology.station_ports {
        plan.port.addresses = Addresses::Learned { limit: 8 };
    }
    Topology { ageing_ms: 450, ..topology }
}

/// An address that is not a port's: behind this one.
fn behind(number: usize) -> Mac {
    Mac::new([0x02, 1, 0, 0, (number >> 8) as u8, number as u8])
}

fn from(source: Mac, mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&source.octets());
    frame
}

#[test]
fn addresses_that_are_learned_moved_aged_and_refused() {
    let mut wiring = Wiring::planned(3, |_| plain(memory::Config::default()), learning);
    assert_allocates_nothing_every(TICK_NS, &mut wiring, |wiring, breath| {
        // A new one every time, which ages; one that moves; more than may be learned.
        send(wiring, 0, &from(behind(breath), frame(0, Mac::BROADCAST, 60)));
        send(wiring, 1, &frame(1, behind(breath), 60));
        send(wiring, breath % 2, &from(behind(0x8000), frame(0, Mac::BROADCAST, 60)));
        for extra in 0..16 {
            send(wiring, 2, &from(behind(0x4000 + 16 * breath + extra), frame(2, mac(1), 60)));
        }
    });
    let totals = [0, 1, 2].map(|port| wiring.totals(port));
    assert_eq!(totals[0].dropped(DropReason::LearnLimit), 0, "the sweep frees places");
    assert!(totals[2].dropped(DropReason::LearnLimit) > 0);
    assert!(totals[0].tx_frames >= BREATHS as u64 && totals[2].tx_frames > 0, "{totals:?}");
}

/// Port 1 takes complete frames only, port 2 leaves checksums to be filled in.
fn lacking(number: usize) -> (Opened, Endpoint) {
    let capabilities = match number {
        1 => Capabilities::NONE,
        2 => Capabilities { checksum: Support::Taken, ..Capabilities::NONE },
        _ => Capabilities::ALL,
    };
    plain(memory::Config { capabilities, ..memory::Config::default() })
}

#[test]
fn segmentation_and_checksums_in_software() {
    let mut wiring = Wiring::with(3, lacking);
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        for to in [1, 2] {
            let (bytes, offload) = segmentable(0, mac(to), SEGMENTED_BYTES_MAX);
            let checksum_only = Offload { segmentation: Segmentation::None, ..offload };
            wiring.endpoints[0].send(&bytes, offload).unwrap();
            wiring.endpoints[0].send(&bytes[..1514], checksum_only).unwrap();
        }
    });
    for port in [1, 2] {
        let totals = wiring.totals(port);
        assert_eq!((totals.tx_frames, totals.segments), (2 * BREATHS as u64, 46 * BREATHS as u64));
    }
}

/// A station link with a tagged channel, whose ports are a `vepa` trunk and a
/// `private` one, and another one, whose port is `direct`; and a bridge link, whose
/// stations get their frames back.
const STATION_LINK: usize = 0;
const BRIDGE_LINK: usize = 1;
const VEPA: usize = 2;
const PRIVATE: usize = 3;
const VEB: usize = 4;
const BRIDGED: usize = 5;
const DIRECT: usize = 6;
const DEVICES: usize = 7;
const SVID: u16 = 100;
const DIRECT_SVID: u16 = 200;
const STATIONS: DomainId = DomainId(0);
const TAGGED: DomainId = DomainId(1);
const BRIDGE: DomainId = DomainId(2);
const OWN: DomainId = DomainId(3);

fn uplink(port: u16, svid: Option<SVid>) -> Option<UplinkPlan> {
    let device = DeviceId(STATION_LINK as u16);
    Some(UplinkPlan { port: PortId(port), device, svid, admin: Admin::Up })
}

fn site(attached: &[Arc<Attached>]) -> Topology {
    let (svid, direct_svid) = (SVid::new(SVID), SVid::new(DIRECT_SVID));
    let svids = svid.into_iter().chain(direct_svid).collect();
    let link = |device: usize, svids: Vec<SVid>| {
        let attached = Arc::clone(&attached[device]);
        LinkPlan { device: DeviceId(device as u16), mtu: 1500, attached, svids }
    };
    let learned = || Addresses::Learned { limit: 64 };
    let station = |number, addresses, vlan, domain, mode| StationPlan {
        port: vm(number, addresses, vlan, attached),
        domain,
        mode,
    };
    let member = MemberPlan {
        port: PortId(12),
        device: DeviceId(BRIDGE_LINK as u16),
        svid: None,
        generation: Generation(0),
        admin: Admin::Up,
        reflective_relay: ReflectiveRelay::On { group_rate: 5 },
        learn_limit: 8,
        mtu: 1500,
    };
    let trunk = VlanPolicy::Trunk {
        members: Box::new([10].into_iter().filter_map(vid).collect()),
        native: None,
    };
    let any = VlanPolicy::Transparent;
    Topology {
        ageing_ms: 300_000,
        links: vec![link(STATION_LINK, svids), link(BRIDGE_LINK, vec![])],
        channels: vec![
            ChannelPlan { domain: STATIONS, uplink: uplink(10, None), mtu: 1500 },
            ChannelPlan { domain: TAGGED, uplink: uplink(11, svid), mtu: 1500 },
            ChannelPlan { domain: OWN, uplink: uplink(13, direct_svid), mtu: 1500 },
        ],
        station_ports: vec![
            station(VEPA, registered(VEPA), trunk, TAGGED, Mode::Vepa),
            station(PRIVATE, learned(), any.clone(), TAGGED, Mode::Private),
            station(VEB, learned(), access(), STATIONS, Mode::Veb),
            station(DIRECT, learned(), any.clone(), OWN, Mode::Direct),
        ],
        bridges: vec![BridgePlan { domain: BRIDGE, mtu: 1500, members: vec![member] }],
        bridge_ports: vec![BridgePortPlan {
            port: vm(BRIDGED, learned(), any, attached),
            domain: BRIDGE,
        }],
        ..Topology::default()
    }
}

fn vid(number: u16) -> Option<hairpin_dataplane::wire::VlanId> {
    hairpin_dataplane::wire::VlanId::new(number)
}

#[test]
fn links_with_channels_tags_and_reflective_relay() {
    let mut wiring = Wiring::planned(DEVICES, |_| plain(memory::Config::default()), site);
    let (c, s) = ((C_TAG, 10), (S_TAG, SVID));
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        let outside = |to, length| from(behind(1), frame(0, to, length));
        for to in [Mac::BROADCAST, mac(PRIVATE), behind(9)] {
            send(wiring, VEPA, &tagged(&[c], &frame(VEPA, to, 1514)));
            send(wiring, PRIVATE, &tagged(&[c], &frame(PRIVATE, to, 60)));
            send(wiring, VEB, &frame(VEB, to, 60));
            send(wiring, BRIDGED, &frame(BRIDGED, to, 60));
            send(wiring, DIRECT, &tagged(&[c], &frame(DIRECT, to, 1514)));
        }
        for to in [Mac::BROADCAST, mac(VEPA), mac(PRIVATE), behind(9)] {
            send(wiring, STATION_LINK, &tagged(&[s, c], &outside(to, 1514)));
            // A frame that the adjacent bridge returned.
            send(wiring, STATION_LINK, &tagged(&[s, c], &frame(VEPA, to, 60)));
            send(wiring, STATION_LINK, &tagged(&[(S_TAG, SVID + 1)], &outside(to, 60)));
            send(wiring, STATION_LINK, &tagged(&[(S_TAG, DIRECT_SVID), c], &outside(to, 60)));
            send(wiring, STATION_LINK, &tagged(&[c], &outside(to, 60)));
        }
        for to in [Mac::BROADCAST, behind(1), behind(2), mac(BRIDGED)] {
            send(wiring, BRIDGE_LINK, &from(behind(1), frame(0, to, 60)));
            send(wiring, BRIDGE_LINK, &from(behind(2), tagged(&[c], &frame(0, to, 60))));
        }
    });
    let totals: Vec<_> = (0..DEVICES).map(|device| wiring.totals(device)).collect();
    let passed = totals.iter().all(|one| one.tx_frames >= BREATHS as u64 && one.is_balanced());
    assert!(passed, "{totals:?}");
    assert!(totals[STATION_LINK].dropped(DropReason::UnknownSvid) > 0);
    assert!(totals[STATION_LINK].dropped(DropReason::OwnFrameReturned) > 0);
    let lost = totals[BRIDGE_LINK].dropped(DropReason::ReflectedGroupRate);
    assert!(lost > 0 && totals[BRIDGE_LINK].tx_frames > 2 * BREATHS as u64, "{totals:?}");
}

#[test]
fn a_direct_port() {
    let reserved = |last| Mac::new([0x01, 0x80, 0xc2, 0, 0, last]);
    let (c, s, own) = ((C_TAG, 10), (S_TAG, SVID), (S_TAG, DIRECT_SVID));
    let mut wiring = Wiring::planned(DEVICES, |_| plain(memory::Config::default()), site);
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        let plain = frame(DIRECT, Mac::BROADCAST, 1514);
        for sent in [
            plain.clone(),
            tagged(&[c], &plain),
            tagged(&[s], &plain),
            frame(DIRECT, reserved(0x0b), 60),
            frame(DIRECT, reserved(0x0e), 60),
            plain[..13].to_vec(),
        ] {
            send(wiring, DIRECT, &sent);
        }
        let outside = from(behind(1), frame(0, mac(DIRECT), 60));
        for received in [
            tagged(&[own], &outside),
            tagged(&[own, s], &outside),
            tagged(&[own], &from(behind(1), frame(0, reserved(0x0b), 60))),
        ] {
            send(wiring, STATION_LINK, &received);
        }
    });
    let breaths = BREATHS as u64;
    let totals = [DIRECT, STATION_LINK].map(|device| wiring.totals(device));
    assert_eq!(totals.each_ref().map(|one| one.tx_frames), [3 * breaths, 4 * breaths]);
    let drops = [(DropReason::Runt, breaths), (DropReason::ReservedAddress, breaths)];
    assert_eq!(totals[0].drops().collect::<Vec<_>>(), drops);
    assert!(totals.iter().all(Totals::is_balanced), "{totals:?}");
}

/// Ports 0 and 1 of the usual policy with an MTU of 1500, a slow one, a lost one, a
/// detached one and one whose lane somebody else holds.
const SLOW: usize = 2;
const LOST: usize = 3;
const DETACHED: usize = 4;
const BUSY: usize = 5;

fn narrow(attached: &[Arc<Attached>]) -> Topology {
    let mut topology = wiring::topology(attached);
    topology.channels[0].mtu = 1500;
    topology.station_ports[1].port.addresses = Addresses::Learned { limit: 1 };
    topology
}

fn small(number: usize) -> (Opened, Endpoint) {
    let slots = if number == SLOW { 8 } else { 1024 };
    plain(memory::Config { slots, ..memory::Config::default() })
}

/// One frame for each reason that a port's frames can be dropped for at the ingress.
fn bad_frames() -> Vec<Vec<u8>> {
    let good = frame(0, mac(1), 60);
    vec![
        good[..13].to_vec(),
        frame(0, mac(1), 1515),
        frame(0, Mac::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]), 60),
        from(Mac::BROADCAST, good.clone()),
        tagged(&[(S_TAG, SVID)], &good),
        tagged(&[(C_TAG, 0)], &good)[..16].to_vec(),
        tagged(&[(C_TAG, 4095)], &good),
        tagged(&[(C_TAG, 10)], &good),
        from(behind(1), good),
        frame(0, mac(0), 60),
        frame(0, mac(77), 60),
    ]
}

#[test]
fn drops_at_the_ingress() {
    use DropReason::*;
    let mut wiring = Wiring::planned(2, small, narrow);
    assert_allocates_nothing(&mut wiring, |wiring, breath| {
        bad_frames().iter().for_each(|frame| send(wiring, 0, frame));
        // A kind of segmentation that there is not, and a checksum beyond the frame.
        for header in
            [[1, 77, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]]
        {
            wiring.endpoints[0].send_raw_offload(&frame(0, mac(1), 60), header).unwrap();
        }
        send(wiring, 1, &from(behind(breath), frame(1, mac(0), 60)));
    });
    let totals = wiring.totals(0);
    // The one that learns takes unknown addresses: those are not lost.
    let expected = [
        (Runt, 1),
        (Giant, 1),
        (TruncatedTag, 1),
        (ReservedAddress, 1),
        (SourceInvalid, 1),
        (TagNotAllowed, 1),
        (VlanInvalid, 1),
        (VlanTagged, 1),
        (OffloadInvalid, 2),
        (SourceNotRegistered, 1),
        (OwnAddress, 1),
    ];
    let expected = expected.map(|(reason, count)| (reason, count * BREATHS as u64));
    assert_eq!(totals.drops().collect::<Vec<_>>(), expected);
    assert!(wiring.totals(1).dropped(LearnLimit) > 0);
}

#[test]
fn drops_at_the_egress() {
    let mut wiring = Wiring::planned(6, small, narrow);
    wiring.attached[LOST].set_condition(Condition::Lost);
    let busy = Arc::clone(&wiring.attached[BUSY]);
    let mut other = WorkerToken::new();
    let held = busy.transmitters[0].enter(&mut other);
    assert_allocates_nothing(&mut wiring, |wiring, breath| {
        if breath == BREATHS / 2 {
            // In this breath the worker finds it gone, and tells control.
            drop(std::mem::replace(&mut wiring.endpoints[DETACHED], small(DETACHED).1));
        }
        for to in [SLOW, LOST, DETACHED, BUSY] {
            (0..10).for_each(|_| send(wiring, 0, &frame(0, mac(to), 60)));
        }
    });
    drop(held);
    assert_eq!(wiring.events.try_iter().count(), 1, "one device was lost");
    let reasons = [
        (SLOW, DropReason::RxRingFull),
        (LOST, DropReason::PortDown),
        (DETACHED, DropReason::PortDown),
        (BUSY, DropReason::TransmitBusy),
    ];
    for (port, reason) in reasons {
        let totals = wiring.totals(port);
        assert!(totals.dropped(reason) > 0 && totals.is_balanced(), "{reason}: {totals:?}");
    }
}

#[test]
fn a_storm_beyond_the_flood_budget() {
    let mut wiring = Wiring::new(80);
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        (0..64).for_each(|_| send(wiring, 0, &frame(0, Mac::BROADCAST, 60)));
    });
    assert!(wiring.totals(79).dropped(DropReason::FloodBudget) > 0);
}

#[test]
fn ports_with_faults_and_recorders() {
    let recordings = RefCell::new(Vec::new());
    let chance = Chance::per_million(300_000);
    let (drop, duplicate, corrupt, reorder) = (chance, chance, chance, chance);
    let outward = Faults { drop, duplicate, corrupt, reorder, ..Faults::default() };
    let inward = Faults { reorder_ms: 1, delay_ms: 1, jitter_ms: 2, ..outward };
    let open = |number| {
        let (device, endpoint) = memory::pair(memory::Config::default()).unwrap();
        let opened = if number == 0 {
            let (device, recording) = pcap::wrap(device, pcap::Config::default()).unwrap();
            recordings.borrow_mut().push(recording);
            device.into()
        } else {
            fault::wrap(device, inward, outward).unwrap().into()
        };
        (opened, endpoint)
    };
    let mut wiring = Wiring::with(3, open);
    // A millisecond each, for those that wait.
    assert_allocates_nothing_every(1_000_000, &mut wiring, |wiring, _| {
        for port in 0..3 {
            (0..16).for_each(|_| send(wiring, port, &frame(port, mac((port + 1) % 3), 1514)));
            send(wiring, port, &frame(port, Mac::BROADCAST, 60));
        }
    });
    for port in 0..3 {
        let totals = wiring.totals(port);
        assert!(totals.tx_frames > 8 * BREATHS as u64 && totals.is_balanced(), "{totals:?}");
    }
}

/// Two captures of all ports, which nobody empties: first they take frames, then they miss
/// them.
#[test]
fn frames_that_are_captured() {
    let mut wiring = Wiring::planned(3, small, narrow);
    let devices = wiring.attached.iter().map(|attached| CapturedDevice {
        id: attached.id,
        counters: Arc::clone(&attached.counters),
    });
    let devices: Vec<_> = devices.collect();
    let dropped = Filter { fates: Fates::Dropped(Reasons::ALL), ..Filter::default() };
    let begin = |filter| {
        let plan = Arc::new(Plan {
            id: CaptureId(1),
            devices: devices.clone(),
            filter,
            snapshot_bytes: 2048,
            ring_bytes: 0,
            joined: AtomicUsize::new(0),
        });
        let (taps, collector) = capture::session(&plan, 1).unwrap();
        let begin = |tap| wiring.commands.send(ToWorker::BeginCapture(tap)).unwrap();
        taps.into_iter().for_each(begin);
        collector
    };
    let mut collectors = [begin(Filter::default()), begin(dropped)];
    wiring.worker.take_commands();
    assert_allocates_nothing(&mut wiring, |wiring, _| {
        bad_frames().iter().for_each(|frame| send(wiring, 0, frame));
        for to in [mac(SLOW), Mac::BROADCAST] {
            (0..10).for_each(|_| send(wiring, 0, &frame(0, to, 1514)));
        }
    });
    let count = |collector: &mut Collector| {
        let mut bytes = Vec::new();
        let taken = std::iter::from_fn(|| collector.take(&mut bytes)).count();
        (taken, (0..3).map(|device| collector.missed(device)).sum::<u64>())
    };
    let counts = collectors.each_mut().map(count);
    assert!(counts.iter().all(|(taken, missed)| *taken > 100 && *missed > 0), "{counts:?}");
    // Ended by the worker, freed by control.
    wiring.commands.send(ToWorker::EndCapture(CaptureId(1))).unwrap();
    let ended = measure(|| {
        wiring.worker.take_commands();
    });
    assert_none(ended, BREATHS);
    let events: Vec<_> = wiring.events.try_iter().collect();
    assert!(matches!(events[..], [Event::CaptureEnded(_)]), "{events:?}");
}

#[test]
fn the_first_breath_of_a_new_policy() {
    let mut wiring = Wiring::planned(DEVICES, |_| plain(memory::Config::default()), site);
    wiring.breathe();
    for breath in 0..BREATHS {
        let mut next = site(&wiring.attached);
        // A mode that changes, a port that goes down, one that goes and comes.
        next.station_ports[1].mode = [Mode::Vepa, Mode::Private, Mode::Veb][breath % 3];
        next.station_ports[0].port.admin = [Admin::Up, Admin::Down][breath % 2];
        if breath % 4 < 2 {
            next.bridge_ports.clear();
        }
        wiring.publish(next);
        assert!(!wiring.collect(), "the worker still holds the old one");
        send(&mut wiring, VEB, &frame(VEB, Mac::BROADCAST, 60));
        let counts = measure(|| {
            wiring.breathe();
        });
        assert_none(counts, breath);
        assert!(wiring.collect(), "after a breath the old one is control's to free");
        while wiring.endpoints[STATION_LINK].receive(&mut Vec::new()).is_some() {}
    }
    assert_eq!(wiring.totals(STATION_LINK).tx_frames, BREATHS as u64);
}

#[test]
fn a_whole_run_with_sleeps_in_it() {
    let Wiring { mut worker, endpoints, commands, attached, .. } = Wiring::new(2);
    worker.breathe(1);
    let progress = worker.progress();
    let slept = Arc::clone(&progress);
    let control = worker.command_sender(commands);
    let peer = std::thread::spawn(move || {
        let [mut one, mut two] = <[Endpoint; 2]>::try_from(endpoints).unwrap();
        let mut received = Vec::new();
        for _ in 0..20 {
            // Until the worker sleeps, so that each frame has to wake it.
            let sleeps = slept.sleeps.load(Ordering::Relaxed);
            one.send(&frame(0, mac(1), 60), Offload::NONE).unwrap();
            while two.receive(&mut received).is_none() {
                two.wait(Duration::from_secs(30));
            }
            while slept.sleeps.load(Ordering::Relaxed) == sleeps {
                control.wake();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        control.send(ToWorker::Stop).unwrap();
    });
    let counts = measure(|| worker.run());
    peer.join().unwrap();
    assert_eq!(counts.count_total, 0, "allocated in a whole run");
    assert!(progress.sleeps.load(Ordering::Relaxed) >= 20);
    assert_eq!(attached[1].totals().tx_frames, 20);
}

#[test]
fn a_tap() {
    in_own_network(|| {
        let mut wiring = Wiring::with(3, tap_at(1, 1));
        let netdev = PacketSocket::open("tap1", Format::Ethernet).unwrap();
        assert_allocates_nothing(&mut wiring, |wiring, _| {
            let (large, offload) = segmentable(0, mac(1), SEGMENTED_BYTES_MAX);
            wiring.endpoints[0].send(&large, offload).unwrap();
            send(wiring, 0, &frame(0, mac(1), 1514));
            send(wiring, 0, &frame(0, Mac::BROADCAST, 60));
            netdev.send(&frame(1, mac(0), 1514)).unwrap();
            netdev.send(&frame(1, Mac::BROADCAST, 60)).unwrap();
        });
        let totals = wiring.totals(1);
        let breaths = BREATHS as u64;
        assert_eq!((totals.rx_frames, totals.tx_frames), (2 * breaths, 3 * breaths));
        assert_eq!(wiring.totals(0).tx_frames, 2 * breaths);
        // A netdev that goes is told of, in one breath as well.
        ip("link del tap1");
        let counts = measure(|| {
            wiring.breathe();
        });
        assert_none(counts, BREATHS);
        assert_eq!(wiring.attached[1].condition(), Condition::Lost);
    });
}
