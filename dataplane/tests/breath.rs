//! Whole breaths over memory ports.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

mod network;
mod wiring;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::fault::{self, Chance, Faults};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Attached, Condition, Opened};
use hairpin_dataplane::snapshot::DeviceId;
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::topology::{MirrorPlan, MonitorPlan};
use hairpin_dataplane::sys::lane::WorkerToken;
use hairpin_dataplane::sys::packet_socket::{Format, PacketSocket};
use hairpin_dataplane::sys::tun::{InterfaceName, Queue};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::{Capabilities, Offload};
use hairpin_dataplane::worker::command::{Command, Event};
use hairpin_dataplane::worker::groups::FLOOD_COPIES_MAX;
use hairpin_dataplane::worker::load::Watched;
use network::{in_own_network, tap_at};
use wiring::{
    SEGMENT_BYTES, SEGMENTED_BYTES_MAX, Wiring, frame, mac, plain, segmentable, topology,
};

/// Memory devices of which one fails.
fn crashing(which: usize, inward: Chance, outward: Chance) -> impl Fn(usize) -> (Opened, Endpoint) {
    move |number| {
        if number != which {
            return plain(memory::Config::default());
        }
        let (device, endpoint) = memory::pair(memory::Config::default()).unwrap();
        let faults = |crash| Faults { crash, ..Faults::default() };
        (fault::wrap(device, faults(inward), faults(outward)).unwrap().into(), endpoint)
    }
}

#[test]
fn a_frame_crosses_and_both_ledgers_balance() {
    let mut wiring = Wiring::new(3);
    for length in [14, 60, 128, 129, 1514, 9014, 65_000] {
        let sent = frame(0, mac(1), length);
        wiring.endpoints[0].send(&sent, Offload::NONE).unwrap();
        assert_eq!(wiring.breathe(), 1);
        let mut received = Vec::new();
        wiring.endpoints[1].receive(&mut received).unwrap();
        assert_eq!(received, sent);
    }
    let broadcast = frame(0, Mac::BROADCAST, 64);
    wiring.endpoints[0].send(&broadcast, Offload::NONE).unwrap();
    wiring.breathe();
    for number in [1, 2] {
        assert!(wiring.endpoints[number].receive(&mut Vec::new()).is_some());
    }
    assert!(wiring.endpoints[0].receive(&mut Vec::new()).is_none());
    let totals: Vec<_> = (0..3).map(|number| wiring.totals(number)).collect();
    assert!(totals.iter().all(Totals::is_balanced), "{totals:?}");
    assert_eq!((totals[0].rx_frames, totals[0].fan_out), (8, 9));
    assert_eq!((totals[1].tx_frames, totals[2].tx_frames), (8, 1));
}

#[test]
fn a_full_receiver_loses_its_own_frames_only() {
    let mut wiring = Wiring::new(3);
    let (slow, quick) = (frame(0, mac(1), 1514), frame(0, mac(2), 1514));
    let mut delivered = 0;
    for _ in 0..4096 {
        wiring.endpoints[0].send(&slow, Offload::NONE).unwrap();
        wiring.endpoints[0].send(&quick, Offload::NONE).unwrap();
        wiring.breathe();
        while wiring.endpoints[2].receive(&mut Vec::new()).is_some() {
            delivered += 1;
        }
    }
    assert_eq!(delivered, 4096);
    let totals = wiring.totals(1);
    assert!(totals.dropped(DropReason::RxRingFull) > 0 && totals.is_balanced());
}

#[test]
fn mirrors_beyond_their_room_are_counted_at_the_monitor_and_cost_nobody_else() {
    const PORTS: usize = 78;
    // Two monitors of all that is sent to anybody: there is room for one of them.
    let monitors = [PORTS, PORTS + 1];
    let plan = |attached: &[Arc<Attached>]| {
        let mut topology = topology(&attached[..PORTS]);
        for to in monitors {
            let (device, attached) = (DeviceId(to as u16), Arc::clone(&attached[to]));
            topology.monitors.push(MonitorPlan { device, attached });
            let mirror = |from: usize| {
                let from = DeviceId(from as u16);
                MirrorPlan { from, frames: Mirrored::Sent, to: device }
            };
            topology.mirrors.extend((0..PORTS).map(mirror));
        }
        topology
    };
    let mut wiring = Wiring::planned(PORTS + 2, |_| plain(memory::Config::default()), plan);
    for _ in 0..60 {
        wiring.endpoints[0].queue(&frame(0, Mac::BROADCAST, 60), Offload::NONE).unwrap();
    }
    wiring.endpoints[0].flush();
    wiring.breathe();
    let totals: Vec<Totals> = (0..PORTS + 2).map(|number| wiring.totals(number)).collect();
    assert!(totals.iter().all(Totals::is_balanced));
    // What was offered to the ports and not kept from them by the flood budget.
    let copied = |totals: &Totals| totals.offered - totals.dropped(DropReason::FloodBudget);
    let copies: u64 = totals[..PORTS].iter().map(copied).sum();
    assert!(copies > FLOOD_COPIES_MAX as u64 / 2 + 100, "{copies}");
    let lost: u64 = monitors.iter().map(|&at| totals[at].dropped(DropReason::MirrorBudget)).sum();
    assert!(lost > 0);
    assert_eq!(monitors.map(|at| totals[at].offered), [copies, copies]);
    let offered: u64 = totals.iter().map(|totals| totals.offered).sum();
    assert_eq!(totals[0].fan_out, offered);
    assert!(totals[..PORTS].iter().all(|totals| totals.dropped(DropReason::MirrorBudget) == 0));
}

#[test]
fn queues_travel_back_when_they_are_dismissed() {
    let mut wiring = Wiring::new(2);
    wiring.commands.send(Command::Dismiss(DeviceId(1))).unwrap();
    wiring.worker.take_commands();
    wiring.breathe();
    let events: Vec<_> = wiring.events.try_iter().collect();
    let is_queue =
        |event: &Event| matches!(event, Event::Dismissed(queue) if queue.device == DeviceId(1));
    assert!(events.iter().any(is_queue));
    assert!(events.iter().any(|event| matches!(event, Event::DismissedAll(DeviceId(1)))));
}

#[test]
fn one_queue_is_dismissed_and_goes_on_elsewhere_with_what_waits_in_it() {
    // Port 0 has two queues.
    let second = RefCell::new(None);
    let mut wiring = Wiring::with(2, |number| {
        let (mut opened, endpoint) = plain(memory::Config::default());
        if number == 0 {
            let (another, end) = plain(memory::Config::default());
            opened.receivers.extend(another.receivers);
            opened.transmitters.extend(another.transmitters);
            second.replace(Some(end));
        }
        (opened, endpoint)
    });
    let mut second = second.into_inner().unwrap();
    let numbered = |queue: u8, number: u8| {
        let mut frame = frame(0, mac(1), 64);
        frame[62..].copy_from_slice(&[queue, number]);
        frame
    };
    let mut send = |wiring: &mut Wiring, number| {
        wiring.endpoints[0].send(&numbered(0, number), Offload::NONE).unwrap();
        second.send(&numbered(1, number), Offload::NONE).unwrap();
    };
    let arrived = |wiring: &mut Wiring| {
        let (mut arrived, mut bytes) = (Vec::new(), Vec::new());
        while wiring.endpoints[1].receive(&mut bytes).is_some() {
            arrived.push((bytes[62], bytes[63]));
        }
        arrived.sort_unstable();
        arrived
    };
    send(&mut wiring, 0);
    assert_eq!(wiring.breathe(), 2);
    assert_eq!(arrived(&mut wiring), [(0, 0), (1, 0)]);

    wiring.commands.send(Command::DismissQueue { device: DeviceId(0), index: 1 }).unwrap();
    // One that is not there is none of its concern.
    wiring.commands.send(Command::DismissQueue { device: DeviceId(0), index: 2 }).unwrap();
    wiring.worker.take_commands();
    let mut events: Vec<_> = wiring.events.try_iter().collect();
    let Some(Event::Dismissed(queue)) = events.pop() else { panic!("{events:?}") };
    assert!(events.is_empty() && queue.device == DeviceId(0) && queue.index == 1, "{queue:?}");
    assert_eq!((queue.load.frames.get(), queue.load.bytes.get()), (1, 64));
    (1..4).for_each(|number| send(&mut wiring, number));
    assert_eq!(wiring.breathe(), 3, "the other one is served");
    assert_eq!(arrived(&mut wiring), [(0, 1), (0, 2), (0, 3)]);

    let load = Arc::clone(&queue.load);
    wiring.commands.send(Command::Adopt(queue)).unwrap();
    wiring.worker.take_commands();
    assert_eq!(wiring.breathe_after(1000), 3);
    assert_eq!(arrived(&mut wiring), [(1, 1), (1, 2), (1, 3)]);
    assert_eq!((load.frames.get(), load.batches.get(), load.watched()), (4, 2, Watched::Hot));
    // What the breath took is known when the next one begins, and is this queue's alone.
    let before = load.busy_ns.get();
    wiring.breathe_after(6400);
    let charged = load.busy_ns.get() - before;
    assert!((6399..=6400).contains(&charged), "{charged} ns");
    assert!(wiring.totals(0).is_balanced() && wiring.totals(1).is_balanced());
    assert!(wiring.events.try_iter().next().is_none());
}

/// Sums over all devices, each balanced.
fn sums(wiring: &Wiring) -> (u64, u64) {
    let totals: Vec<_> = wiring.attached.iter().map(|one| one.totals()).collect();
    assert!(totals.iter().all(Totals::is_balanced), "{totals:?}");
    (totals.iter().map(|one| one.fan_out).sum(), totals.iter().map(|one| one.offered).sum())
}

#[test]
fn a_failure_in_delivering_costs_the_device_it_was_for() {
    let mut wiring = Wiring::with(3, crashing(2, Chance::NEVER, Chance::ALWAYS));
    wiring.endpoints[0].send(&frame(0, Mac::BROADCAST, 64), Offload::NONE).unwrap();
    wiring.endpoints[1].send(&frame(1, mac(0), 64), Offload::NONE).unwrap();
    wiring.breathe();
    let conditions = wiring.attached.iter().map(|one| one.condition()).collect::<Vec<_>>();
    assert_eq!(conditions, [Condition::Working, Condition::Working, Condition::Quarantined]);
    let event = wiring.events.try_iter().next();
    assert!(matches!(event, Some(Event::Quarantined { device: DeviceId(2), .. })), "{event:?}");
    assert_eq!(wiring.totals(2).dropped(DropReason::ReceiverFault), 1);
    assert!(wiring.endpoints[1].receive(&mut Vec::new()).is_some(), "the others' copies arrive");
    assert!(wiring.endpoints[0].receive(&mut Vec::new()).is_some());
    // The others go on; what is sent to the quarantined port has a name too.
    wiring.endpoints[0].send(&frame(0, Mac::BROADCAST, 64), Offload::NONE).unwrap();
    wiring.breathe();
    assert!(wiring.endpoints[1].receive(&mut Vec::new()).is_some());
    assert_eq!(wiring.totals(2).dropped(DropReason::PortDown), 1);
    let (fan_out, offered) = sums(&wiring);
    assert_eq!(fan_out, offered);
}

#[test]
fn a_failure_in_receiving_is_that_port_s_own() {
    let mut wiring = Wiring::with(3, crashing(0, Chance::ALWAYS, Chance::NEVER));
    wiring.endpoints[0].send(&frame(0, mac(1), 64), Offload::NONE).unwrap();
    wiring.endpoints[1].send(&frame(1, mac(2), 64), Offload::NONE).unwrap();
    wiring.breathe();
    wiring.breathe();
    assert_eq!(wiring.attached[0].condition(), Condition::Quarantined);
    assert_eq!(wiring.totals(0).dropped(DropReason::PortFault), 0, "none was counted as received");
    assert!(wiring.endpoints[2].receive(&mut Vec::new()).is_some());
    sums(&wiring);
}

/// A worker on a thread of its own, until port 0, which sends now and then, is
/// quarantined; then port 1's frame crosses.
fn assert_only_port_0_is_quarantined(faults: Faults) {
    let wiring = Wiring::with(3, |number| {
        let (device, endpoint) = memory::pair(memory::Config::default()).unwrap();
        let inward = if number == 0 { faults } else { Faults::default() };
        (fault::wrap(device, inward, Faults::default()).unwrap().into(), endpoint)
    });
    let Wiring { worker, mut endpoints, attached, commands, events, .. } = wiring;
    let control = worker.command_sender(commands);
    let running = std::thread::spawn(move || worker.run());
    let patience = Instant::now() + Duration::from_secs(30);
    let event = loop {
        assert!(Instant::now() < patience, "it never failed");
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) => break event,
            Err(RecvTimeoutError::Timeout) => {
                endpoints[0].send(&frame(0, mac(2), 64), Offload::NONE).unwrap();
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the worker ended"),
        }
    };
    assert!(matches!(event, Event::Quarantined { device: DeviceId(0), .. }), "{event:?}");
    let conditions = attached.iter().map(|one| one.condition()).collect::<Vec<_>>();
    assert_eq!(conditions, [Condition::Quarantined, Condition::Working, Condition::Working]);
    let others = frame(1, mac(2), 77);
    endpoints[1].send(&others, Offload::NONE).unwrap();
    let mut received = Vec::new();
    while received != others {
        assert!(Instant::now() < patience, "the others are not served");
        if endpoints[2].receive(&mut received).is_none() {
            endpoints[2].wait(Duration::from_secs(30));
        }
    }
    control.send(Command::Stop).unwrap();
    running.join().unwrap();
    assert!(attached.iter().all(|one| one.totals().is_balanced()));
}

#[test]
fn a_failure_in_asking_for_a_wake_up_is_that_port_s_own() {
    assert_only_port_0_is_quarantined(Faults { crash_arming: Chance::ALWAYS, ..Faults::default() });
}

#[test]
fn a_failure_in_taking_a_wake_up_is_that_port_s_own() {
    assert_only_port_0_is_quarantined(Faults {
        crash_disarming: Chance::ALWAYS,
        ..Faults::default()
    });
}

/// Has the kernel put so long a header before each frame that it fits nowhere: every
/// read fails, and costs the frame that it was for. The TAP has several queues.
fn refuse_reads(interface: &str) {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let queue = Queue::open().unwrap();
    queue.attach(InterfaceName::new(interface).unwrap(), flags).unwrap();
    queue.set_header_bytes(1 << 20).unwrap();
}

#[test]
fn a_tap_that_gives_nothing_but_errors_is_quarantined() {
    in_own_network(|| {
        let mut wiring = Wiring::with(3, tap_at(0, 2));
        let netdev = PacketSocket::open("tap0", Format::Ethernet).unwrap();
        refuse_reads("tap0");
        (0..200).for_each(|_| netdev.send(&frame(0, mac(1), 60)).unwrap());
        for _ in 0..200 {
            wiring.endpoints[1].send(&frame(1, mac(2), 60), Offload::NONE).unwrap();
            wiring.breathe();
            assert!(wiring.endpoints[2].receive(&mut Vec::new()).is_some());
        }
        let conditions = wiring.attached.iter().map(|one| one.condition()).collect::<Vec<_>>();
        assert_eq!(conditions, [Condition::Quarantined, Condition::Working, Condition::Working]);
        let events: Vec<_> = wiring.events.try_iter().collect();
        let told = matches!(events[..], [Event::Quarantined { device: DeviceId(0), .. }]);
        assert!(told, "{events:?}");
        let totals = wiring.totals(0);
        // Frames of one sender come by one queue.
        assert_eq!((totals.rx_frames, totals.dropped(DropReason::ReadError)), (64, 64));
        sums(&wiring);
    });
}

#[test]
fn floods_have_a_budget_and_its_end_falls_on_all_alike() {
    let ports = 80;
    let mut wiring = Wiring::new(ports);
    for _ in 0..2 * ports {
        for _ in 0..64 {
            wiring.endpoints[0].queue(&frame(0, Mac::BROADCAST, 64), Offload::NONE).unwrap();
        }
        wiring.endpoints[0].flush();
        wiring.breathe();
        for endpoint in &mut wiring.endpoints {
            while endpoint.receive(&mut Vec::new()).is_some() {}
        }
    }
    let lost = |number| wiring.totals(number).dropped(DropReason::FloodBudget);
    let each: Vec<_> = (1..ports).map(lost).collect();
    let wanted = (2 * ports * 64 * (ports - 1)) as u64;
    assert_eq!(each.iter().sum::<u64>(), wanted - (2 * ports * FLOOD_COPIES_MAX) as u64);
    assert!(each.iter().all(|&lost| lost > 0), "{each:?}");
    let (fan_out, offered) = sums(&wiring);
    assert_eq!((fan_out, offered), (wanted, wanted));
}

#[test]
fn a_lane_that_stays_taken_loses_frames_by_name() {
    let mut wiring = Wiring::new(2);
    let taken = Arc::clone(&wiring.attached[1]);
    let mut other = WorkerToken::new();
    let held = taken.transmitters[0].enter(&mut other);
    wiring.endpoints[0].send(&frame(0, mac(1), 64), Offload::NONE).unwrap();
    wiring.breathe();
    drop(held);
    assert_eq!(wiring.totals(1).dropped(DropReason::TransmitBusy), 1);
    sums(&wiring);
}

/// Port 0 has 200 frames for port 1: asserts how many each breath takes, and that
/// another port is served in the same breath.
#[track_caller]
fn assert_64_frames_a_breath(wiring: &mut Wiring) {
    for (breath, taken) in [(1, 64), (2, 128), (3, 192), (4, 200)] {
        wiring.endpoints[2].send(&frame(2, mac(1), 60), Offload::NONE).unwrap();
        wiring.breathe();
        let received = [0, 2].map(|port| wiring.totals(port).rx_frames);
        assert_eq!(received, [taken, breath], "after breath {breath}");
    }
    assert_eq!(wiring.totals(1).tx_frames, 204);
}

#[test]
fn a_breath_takes_64_frames_of_a_port() {
    let mut wiring = Wiring::new(3);
    for _ in 0..200 {
        wiring.endpoints[0].queue(&frame(0, mac(1), 60), Offload::NONE).unwrap();
    }
    wiring.endpoints[0].flush();
    assert_64_frames_a_breath(&mut wiring);
}

#[test]
fn a_breath_takes_64_frames_of_a_tap() {
    in_own_network(|| {
        let mut wiring = Wiring::with(3, tap_at(0, 1));
        let netdev = PacketSocket::open("tap0", Format::Ethernet).unwrap();
        (0..200).for_each(|_| netdev.send(&frame(0, mac(1), 60)).unwrap());
        assert_64_frames_a_breath(&mut wiring);
    });
}

/// Port 0 has 20 frames of 64 KiB for port 1: asserts that a breath ends with the one
/// that reaches 256 KiB, and that another port is served in the same breath.
#[track_caller]
fn assert_256_kib_a_breath(wiring: &mut Wiring, frame_bytes: usize) {
    let (mut before, mut breaths) = (0, 0);
    while wiring.totals(0).rx_frames < 20 {
        wiring.endpoints[2].send(&frame(2, mac(1), 60), Offload::NONE).unwrap();
        wiring.breathe();
        breaths += 1;
        let bytes = wiring.totals(0).rx_bytes as usize;
        let bounds = 256 * 1024..256 * 1024 + frame_bytes;
        assert!(bounds.contains(&(bytes - before)), "{} in breath {breaths}", bytes - before);
        before = bytes;
    }
    assert_eq!((wiring.totals(2).rx_frames, wiring.totals(1).tx_frames), (breaths, 20 + breaths));
}

#[test]
fn a_breath_takes_256_kib_of_a_port() {
    let mut wiring = Wiring::new(3);
    let (large, offload) = segmentable(0, mac(1), SEGMENTED_BYTES_MAX);
    for _ in 0..20 {
        wiring.endpoints[0].queue(&large, offload).unwrap();
    }
    wiring.endpoints[0].flush();
    assert_256_kib_a_breath(&mut wiring, large.len());
}

#[test]
fn a_breath_takes_256_kib_of_a_tap() {
    in_own_network(|| {
        let mut wiring = Wiring::with(3, tap_at(0, 1));
        let netdev = PacketSocket::open("tap0", Format::VirtioNet).unwrap();
        // A frame of 64 KiB and more is cut on its way to the TAP.
        let (large, _) = segmentable(0, mac(1), 65_535 - 54);
        // A checksum to fill in, TCP over IPv4, headers of 54 bytes, segments of 1448.
        let header = [1, 1, 54, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let sent = [&header[..], &large].concat();
        (0..20).for_each(|_| netdev.send(&sent).unwrap());
        assert_256_kib_a_breath(&mut wiring, large.len());
    });
}

#[test]
fn of_a_frame_that_is_cut_all_segments_arrive_or_none() {
    let segments = 45;
    let none = Capabilities::NONE;
    // Room for two frames and some segments, by number and by bytes.
    let few_slots = memory::Config { slots: 100, capabilities: none, ..memory::Config::default() };
    let few_bytes = memory::Config { bytes: 0, capabilities: none, ..memory::Config::default() };
    for config in [few_slots, few_bytes] {
        let ports = |number| plain(if number == 1 { config } else { memory::Config::default() });
        let mut wiring = Wiring::with(2, ports);
        let payload = segments * usize::from(SEGMENT_BYTES);
        let (large, offload) = segmentable(0, mac(1), payload);
        let (mut sent, mut arrived) = (0, 0);
        for _ in 0..3 {
            for _ in 0..10 {
                wiring.endpoints[0].send(&large, offload).unwrap();
                wiring.breathe();
                sent += 1;
            }
            let mut received = Vec::new();
            while wiring.endpoints[1].receive(&mut received).is_some() {
                assert_eq!(received.len(), 54 + usize::from(SEGMENT_BYTES));
                arrived += 1;
            }
            assert_eq!(arrived % segments, 0, "of {sent} frames {arrived} segments arrived");
            let totals = wiring.totals(1);
            let lost = totals.dropped(DropReason::RxRingFull);
            assert_eq!(
                (totals.tx_frames, lost),
                ((arrived / segments) as u64, sent - totals.tx_frames)
            );
            assert!(lost > 0 && totals.tx_frames > 0 && totals.is_balanced(), "{totals:?}");
            assert_eq!(totals.segments as usize, arrived);
        }
        assert!(arrived >= 6 * segments, "it goes on after it was full");
        sums(&wiring);
    }
}
