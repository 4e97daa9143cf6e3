//! A veth pair per test: `a0` is the port's, `b0` the guest's.

mod jumbo;
mod queues;

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::*;
use crate::frame::Batch;
use crate::ledger::DropReason;
use crate::port::taking::TakingError;
use crate::port::testing::{depart, ethernet, frames};
use crate::port::{Arena, Received};
use crate::sys::netns::{in_further_network, in_own_network_alone, ip};
use crate::sys::packet_socket::{Direction, Format, PacketSocket};
use crate::wire::offload::Offload;

fn config(mode: Mode) -> Config {
    let (interface, hosts_own) = ("a0".to_owned(), HostsOwn::Refuse);
    Config { interface, mode, hosts_own, leaving: Vec::new() }
}

fn lay() {
    ip("link add a0 type veth peer name b0");
    ip("link set a0 up");
    ip("link set b0 up");
}

fn pair() -> XdpDevice {
    lay();
    open(&config(Mode::Auto)).unwrap()
}

fn guest() -> PacketSocket {
    let socket = PacketSocket::open("b0", Format::Ethernet).unwrap();
    socket.set_patience(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn transmit(device: &mut XdpDevice, sent: &[Vec<u8>]) -> Vec<Result<(), DropReason>> {
    let transmitter = &mut device.transmitters[0];
    let fates = depart(sent, Offload::NONE, |departures| transmitter.transmit(departures));
    transmitter.ring();
    fates
}

/// Whether a frame is of the tests' stations.
fn is_ours(frame: &[u8]) -> bool {
    frame[6..11] == [2, 0, 0, 0, 0]
}

/// Waits for frames of the tests' stations on any queue, then receives from all.
fn receive_from(receivers: &mut [XdpReceiver]) -> Vec<Vec<u8>> {
    let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
    let mut all = Vec::new();
    while all.is_empty() {
        let fds = receivers.iter().map(XdpReceiver::wake_fd);
        let mut fds: Vec<PollFd<'_>> =
            fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert!(rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0, "nothing came");
        for receiver in &mut *receivers {
            receiver.receive(&mut arena, &mut batch);
            all.extend(frames(&batch).into_iter().filter(|frame| is_ours(frame)));
            receiver.release(&mut batch);
        }
    }
    all
}

fn receive(device: &mut XdpDevice) -> Vec<Vec<u8>> {
    receive_from(&mut device.receivers)
}

fn receive_once(device: &mut XdpDevice) -> (Received, usize) {
    let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
    let received = device.receivers[0].receive(&mut arena, &mut batch);
    (received, batch.count())
}

/// The next frame of the tests' stations that comes to the guest.
fn arrive(guest: &PacketSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    loop {
        let received = guest.receive(&mut buffer).unwrap();
        let frame = &buffer[..received.length];
        if received.direction == Direction::Incoming && is_ours(frame) {
            return frame.to_vec();
        }
    }
}

fn assert_crosses(device: &mut XdpDevice, guest: &PacketSocket, lengths: &[usize]) {
    for &length in lengths {
        let frame = ethernet(0xb, 0xa, length);
        assert_eq!(transmit(device, std::slice::from_ref(&frame)), [Ok(())]);
        assert!(arrive(guest) == frame, "{length} bytes to the guest");
        let frame = ethernet(0xa, 0xb, length);
        guest.send(&frame).unwrap();
        assert!(receive(device) == [frame], "{length} bytes from the guest");
    }
    assert_eq!(receive_once(device).1, 0, "nothing of what it sent comes back");
}

/// What `ip` shows of `a0`.
fn shown() -> String {
    let output = Command::new("ip").args(["-d", "link", "show", "a0"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn frames_cross_both_ways_unchanged() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        assert_crosses(&mut device, &guest, &[60, 127, 128, 129, 1000, 1514]);
    });
}

#[test]
fn frames_cross_by_each_path_that_there_is() {
    in_own_network_alone(|| {
        lay();
        let guest = guest();
        for path in [DataPath::Copy, DataPath::Generic] {
            // Opened right after the other was closed: the kernel may be slow to let go.
            let mut device = open(&config(Mode::Only(path))).unwrap();
            let (pieces, reason) = (Pieces::Several, String::new());
            assert_eq!(device.granted(), &Granted { path, pieces, reason });
            assert_crosses(&mut device, &guest, &[60, 1514]);
        }
    });
}

#[test]
fn tags_travel_in_the_frame() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        for tags in [&[0x8100_u16, 0x2005][..], &[0x88a8, 0xa064], &[0x88a8, 100, 0x8100, 7]] {
            let mut frame = ethernet(0xa, 0xb, 100);
            let bytes: Vec<u8> = tags.iter().flat_map(|word| word.to_be_bytes()).collect();
            frame.splice(12..12, bytes);
            guest.send(&frame).unwrap();
            assert_eq!(receive(&mut device), [frame], "{tags:x?}");
        }
    });
}

#[test]
fn zero_copy_is_refused_with_the_reason_and_auto_tells_it() {
    in_own_network_alone(|| {
        let device = pair();
        assert_eq!(device.granted().path, DataPath::Copy);
        let reason = device.granted().reason.clone();
        assert!(reason.starts_with("no zero-copy, as it cannot bind"), "{reason}");
        drop(device);
        let error = open(&config(Mode::Only(DataPath::ZeroCopy))).unwrap_err();
        assert!(matches!(&error, XdpError::NoPath { .. }), "{error}");
        assert!(error.to_string().contains("`a0`: no zero-copy"), "{error}");
    });
}

#[test]
fn bursts_beyond_the_budget_arrive_whole_and_in_order() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        let burst: Vec<Vec<u8>> = (0..64).map(|seed| ethernet(0xb, seed, 300)).collect();
        let transmitter = &mut device.transmitters[0];
        // Not rung in between: what a breath of segmentation comes to.
        for _ in 0..40 {
            assert_eq!(transmitter.room(64, 300), 64);
            let fates =
                depart(&burst, Offload::NONE, |departures| transmitter.transmit(departures));
            assert!(fates.iter().all(Result::is_ok), "{fates:?}");
        }
        transmitter.ring();
        for _ in 0..40 {
            for frame in &burst {
                assert!(arrive(&guest) == *frame);
            }
        }
    });
}

#[test]
fn every_place_comes_back_however_many_frames_come() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        for number in 0..3 * RECEIVE_FRAMES as usize {
            let frame = ethernet(0xa, number as u8, 60 + number % 1000);
            guest.send(&frame).unwrap();
            assert!(receive(&mut device) == [frame], "frame {number}");
        }
        assert_eq!(device.share().lost(), 0);
    });
}

#[test]
fn a_flood_costs_frames_that_are_counted_and_nothing_else() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        let frame = ethernet(0xa, 0xb, 60);
        for _ in 0..2 * RECEIVE_FRAMES {
            guest.send(&frame).unwrap();
        }
        let share = device.share();
        let deadline = Instant::now() + Duration::from_secs(10);
        while share.lost() == 0 {
            assert!(Instant::now() < deadline, "nothing is lost");
            std::thread::yield_now();
        }
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        let mut count = 0;
        while device.receivers[0].receive(&mut arena, &mut batch) == Received::More {
            count += batch.count();
            device.receivers[0].release(&mut batch);
        }
        assert!(count >= RECEIVE_FRAMES as usize - 64, "{count}");
        device.receivers[0].release(&mut batch);
        assert_crosses(&mut device, &guest, &[60]);
    });
}

#[test]
fn what_a_netdev_loses_is_told_the_same_in_every_network_namespace() {
    in_own_network_alone(|| {
        ip("link add a0 index 100 type veth peer name b0 mtu 1000");
        ip("link set a0 up");
        ip("link set b0 up");
        let mut device = open(&config(Mode::Auto)).unwrap();
        // The other end takes none of its length; what is given back says so at last.
        let long = ethernet(0xb, 0xa, 1400);
        transmit(&mut device, &[long.clone(), long]);
        let share = device.share();
        assert_eq!(share.lost(), 2);
        let described = share.describe().unwrap();
        in_further_network(move || {
            assert_eq!(share.lost(), 2, "without a netdev of that index");
            ip("link add c0 index 100 type veth peer name d0");
            assert_eq!(share.lost(), 2, "with another of that index");
            assert_eq!(share.describe().unwrap(), described);
        });
    });
}

#[test]
fn a_netdev_that_goes_is_lost_and_one_that_is_down_is_not() {
    in_own_network_alone(|| {
        let mut device = pair();
        let frame = ethernet(0xb, 0xa, 60);
        ip("link set a0 down");
        transmit(&mut device, std::slice::from_ref(&frame));
        let refused = [Err(DropReason::DeviceError)];
        assert_eq!(transmit(&mut device, std::slice::from_ref(&frame)), refused);
        for _ in 0..100 {
            assert_eq!(receive_once(&mut device), (Received::Drained, 0));
        }
        assert!(device.share().is_there());
        ip("link set a0 up");
        // The kernel discards what `b0` sends until it has looked at the cable again, some
        // time after it was cut; opening it looks at once.
        ip("link set b0 down");
        ip("link set b0 up");
        let guest = guest();
        assert_eq!(transmit(&mut device, std::slice::from_ref(&frame)), [Ok(())]);
        assert_eq!(arrive(&guest), frame);
        assert_crosses(&mut device, &guest, &[60]);
        ip("link del a0");
        let lost = (0..100).any(|_| receive_once(&mut device).0 == Received::Lost);
        assert!(lost && !device.share().is_there());
        transmit(&mut device, std::slice::from_ref(&frame));
        assert_eq!(transmit(&mut device, std::slice::from_ref(&frame)), refused);
        // The next of that name is another one.
        lay();
        let mut next = open(&config(Mode::Auto)).unwrap();
        assert_crosses(&mut next, &self::guest(), &[60]);
        assert_eq!(transmit(&mut device, &[frame]), refused);
    });
}

#[test]
fn several_queues_are_all_bound_and_each_sends() {
    in_own_network_alone(|| {
        let two = "numrxqueues 2 numtxqueues 2";
        ip(&format!("link add a0 {two} type veth peer name b0 {two}"));
        ip("link set a0 up");
        ip("link set b0 up");
        let (mut device, guest) = (open(&config(Mode::Auto)).unwrap(), guest());
        assert_eq!((device.receivers.len(), device.transmitters.len()), (2, 2));
        for source in 32..96 {
            let frame = ethernet(0xa, source, 100);
            guest.send(&frame).unwrap();
            assert_eq!(receive(&mut device), [frame], "once, on one queue");
        }
        for queue in 0..2 {
            let frame = ethernet(0xb, 0xa, 60 + queue);
            let transmitter = &mut device.transmitters[queue];
            let fates = depart(std::slice::from_ref(&frame), Offload::NONE, |departures| {
                transmitter.transmit(departures);
            });
            transmitter.ring();
            assert_eq!(fates, [Ok(())]);
            assert_eq!(arrive(&guest), frame);
        }
    });
}

#[test]
fn a_share_goes_on_where_the_former_owner_was() {
    in_own_network_alone(|| {
        let (mut device, guest) = (pair(), guest());
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        for round in 0..2 * RECEIVE_FRAMES as usize / 64 {
            let sent: Vec<Vec<u8>> =
                (0..64).map(|number| ethernet(0xa, number, 60 + round)).collect();
            sent.iter().for_each(|frame| guest.send(frame).unwrap());
            // The former owner has a batch in hand, and never releases it.
            let Opened { receivers, .. } = device.share().reuse();
            let mut former: Vec<Vec<u8>> = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(10);
            while former.is_empty() {
                assert!(Instant::now() < deadline, "nothing came in round {round}");
                device.receivers[0].receive(&mut arena, &mut batch);
                former.extend(frames(&batch));
            }
            let next = receivers.into_iter().map(|receiver| match receiver {
                Receiver::Xdp(receiver) => receiver,
                other => panic!("{other:?}"),
            });
            device.receivers = next.collect();
            batch.end();
            while former.len() < sent.len() {
                former.extend(receive(&mut device));
            }
            assert!(former == sent, "round {round}");
        }
        assert_eq!(device.share().lost(), 0);
    });
}

#[test]
fn the_netdev_is_promiscuous_and_has_a_program_until_the_port_goes() {
    in_own_network_alone(|| {
        let device = pair();
        let open = shown();
        assert!(open.contains("promiscuity 1") && open.contains("prog/xdp"), "{open}");
        drop(device);
        let closed = shown();
        assert!(closed.contains("promiscuity 0") && !closed.contains("prog/xdp"), "{closed}");
    });
}

#[test]
fn what_may_not_be_taken_is_not_opened() {
    in_own_network_alone(|| {
        let failed = |leaving: &[ProgramId]| {
            let error = open(&Config { leaving: leaving.into(), ..config(Mode::Auto) });
            let error = error.unwrap_err();
            assert!(error.to_string().contains("`a0`"), "{error}");
            error
        };
        assert!(failed(&[]).may_pass());
        lay();
        let device = open(&config(Mode::Auto)).unwrap();
        let taken = failed(&[]);
        assert!(!taken.may_pass() && matches!(taken, XdpError::Taking(_)), "{taken}");
        // One that goes still has its queues while what is to come is opened.
        let leaving = [device.share().program().unwrap()];
        assert!(matches!(failed(&leaving), XdpError::QueueTaken { queue: 0, .. }));
        device.share().untie();
        assert!(matches!(failed(&[]), XdpError::QueueTaken { queue: 0, .. }));
        drop(device);
        open(&config(Mode::Auto)).unwrap();
    });
}

#[test]
fn memory_that_may_not_be_locked_is_named_with_the_limit() {
    in_own_network_alone(|| {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        lay();
        // The limit is the process's, but only counts without this capability.
        let before = getrlimit(Resource::Memlock);
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::IPC_LOCK);
        set_capabilities(None, sets).unwrap();
        setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 20), ..before }).unwrap();
        let error = open(&config(Mode::Auto)).unwrap_err();
        setrlimit(Resource::Memlock, before).unwrap();
        assert!(matches!(&error, XdpError::MemoryNotLocked { mebibytes: 10, .. }), "{error}");
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
    });
}

#[test]
fn without_privilege_opening_is_refused_with_the_remedy() {
    in_own_network_alone(|| {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        lay();
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets).unwrap();
        let error = open(&config(Mode::Auto)).unwrap_err();
        let is_named = matches!(error, XdpError::Taking(TakingError::NotPermitted { .. }));
        assert!(is_named, "{error}");
    });
}
