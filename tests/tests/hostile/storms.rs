//! Much at once: connections that come and go, rings that are toggled, descriptors that
//! block.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hairpin_bench::front_end::message::*;
use hairpin_bench::front_end::station::Noise;
use hairpin_bench::front_end::{Connection, FrontEnd, Layout};
use hairpin_dataplane::ledger::DropReason::UnknownUnicast;
use rustix::event::{EventfdFlags, eventfd};

use super::orders::seed;
use super::stage::{Cases, Expected, PATIENCE, Stage, drops};

/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(2);

/// Does it again and again for as long as a storm lasts; how often.
fn storm(mut work: impl FnMut()) -> u64 {
    let (until, mut rounds) = (Instant::now() + STORM, 0);
    while Instant::now() < until {
        work();
        rounds += 1;
    }
    rounds
}

/// Whether a thread goes on that is to be stopped: not for ever, if the test has failed.
fn goes_on(stop: &AtomicBool, until: Instant) -> bool {
    !stop.load(Ordering::Relaxed) && Instant::now() < until
}

#[test]
fn dpdk_pr_80_three_threads_that_connect_and_disconnect() {
    let stage = Stage::start(2, 1);
    let before = stage.descriptors();
    let [socket, other] = [0, 1].map(|number| stage.socket(number));
    let (seed, rounds) = (seed(), AtomicU64::new(0));
    thread::scope(|scope| {
        for racer in 0..3 {
            let (socket, rounds) = (&socket, &rounds);
            scope.spawn(move || {
                let mut noise = Noise::new(seed + racer);
                rounds.fetch_add(storm(|| come_and_go(socket, &mut noise)), Ordering::Relaxed);
            });
        }
        // Beside them a guest that reboots, at another port.
        scope.spawn(|| storm(|| drop(FrontEnd::connect(&other, Layout::PACKED).unwrap())));
    });
    assert!(rounds.load(Ordering::Relaxed) > 10);
    stage.await_lockstep(50);
    stage.expect_descriptors(before);
    drop(stage.guest(0, Layout::SPLIT));
    stage.end();
}

#[test]
fn dpdk_pr_80_ports_that_are_deleted_under_connections() {
    let stage = Stage::start(2, 1);
    let before = stage.descriptors();
    let (socket, stop, seed) = (stage.socket(0), AtomicBool::new(false), seed());
    let until = Instant::now() + 2 * PATIENCE;
    thread::scope(|scope| {
        for racer in 0..2 {
            let (socket, stop) = (&socket, &stop);
            scope.spawn(move || {
                let mut noise = Noise::new(seed + racer);
                while goes_on(stop, until) {
                    come_and_go(socket, &mut noise);
                }
            });
        }
        for _ in 0..10 {
            let guest = FrontEnd::connect(&stage.socket(1), Layout::PACKED).unwrap();
            stage.configure(Cases::Gone);
            stage.configure(Cases::There);
            drop(guest);
        }
        stop.store(true, Ordering::Relaxed);
    });
    stage.await_lockstep(50);
    stage.expect_descriptors(before);
    drop(stage.guest(0, Layout::SPLIT));
    stage.end();
}

/// Connects, gets so far with what a VMM says, and is gone.
fn come_and_go(socket: &std::path::Path, noise: &mut Noise) {
    // Its queue may be full of others who wait.
    let Ok(socket) = std::os::unix::net::UnixStream::connect(socket) else { return };
    socket.set_nonblocking(true).unwrap();
    let connection = Connection::new(socket).unwrap();
    let mut bytes = Vec::new();
    let words = [Layout::SPLIT.accepted().bits()];
    bytes.extend(encode(SET_OWNER, VERSION, &[]));
    bytes.extend(encode(GET_FEATURES, VERSION, &[]));
    bytes.extend(encode(SET_FEATURES, VERSION, &words));
    bytes.extend(encode(SET_VRING_NUM, VERSION, &[state(1, 256)]));
    bytes.truncate(noise.below(bytes.len() as u64 + 1) as usize);
    // Nobody may be there to read it.
    let _ = connection.write(&bytes, &[]);
    thread::sleep(Duration::from_micros(noise.below(3000)));
}

#[test]
fn rings_that_are_enabled_and_disabled_as_fast_as_it_goes() {
    let layouts = [Layout::SPLIT, Layout::PACKED];
    let mut stage = Stage::start(layouts.len(), 1);
    for (number, layout) in layouts.into_iter().enumerate() {
        let mut front = stage.guest(number, layout);
        let station = stage.station(number);
        let (mut sent, mut enabled) = (0, 0);
        let rounds = storm(|| {
            enabled ^= 1;
            for ring in 0..2 {
                front.connection().set(SET_VRING_ENABLE, &[state(ring, enabled)], &[]).unwrap();
            }
            let frame = station.frame(sent, 60);
            sent += front.send(&[&frame]) as u64;
        });
        for ring in 0..2 {
            front.connection().set(SET_VRING_ENABLE, &[state(ring, 1)], &[]).unwrap();
        }
        assert!(rounds > 10 && sent > 10, "{rounds} rounds, {sent} frames");
        stage.await_up(number);
        stage.expect_received(number, sent);
        stage.expect_balance(number);
        // Frames on a ring that is not enabled have their reason, and no others are lost.
        let lost = stage.lost(number);
        assert!(lost.keys().all(|reason| reason == "queue_disabled"), "{lost:?}");
        stage.send_to(number, 1);
        assert_eq!(front.receive_within(PATIENCE).unwrap().len(), 1);
        // What came to the helper meanwhile.
        stage.helper().receive();
    }
    stage.end();
}

/// An eventfd that blocks, and is as full as it can be.
fn full_and_blocking() -> OwnedFd {
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    event
}

/// Makes it block again, whatever the switch has made of it.
fn make_blocking(event: &OwnedFd) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(event).unwrap();
    fcntl_setfl(event, flags - OFlags::NONBLOCK).unwrap();
}

#[test]
fn calls_that_are_full_and_block_hold_up_nobody() {
    let layouts = [Layout::SPLIT, Layout::PACKED];
    let mut stage = Stage::start(2 * layouts.len(), 1);
    for (at, layout) in layouts.into_iter().enumerate() {
        for ring in 0..2 {
            let number = 2 * at + ring;
            let mut front = stage.guest(number, layout);
            let call = full_and_blocking();
            front.connection().set(SET_VRING_CALL, &[ring as u64], &[call.as_fd()]).unwrap();
            make_blocking(&call);
            // It wants to be called for each frame.
            front.hostile().want_calls(ring);
            match ring {
                0 => stage.send_to(number, 1),
                _ => assert_eq!(front.send(&[&stage.station(number).frame(0, 60)]), 1),
            }
            let reason = format!("eventfd of ring {ring} was full");
            stage.expect(number, layout.name, &Expected::Quarantined(reason));
        }
    }
    stage.end();
}

#[test]
fn kicks_that_never_end_and_kicks_that_block_hold_up_nobody() {
    let layouts = [Layout::SPLIT, Layout::PACKED];
    let stage = Stage::start(layouts.len(), 1);
    for (number, layout) in layouts.into_iter().enumerate() {
        let mut front = stage.guest(number, layout);
        // In semaphore mode one read takes one of some 2^64.
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
        let kick = eventfd(0, flags).unwrap();
        rustix::io::write(&kick, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        front.connection().set(SET_VRING_KICK, &[1], &[kick.as_fd()]).unwrap();
        stage.await_lockstep(200);
        let station = stage.station(number);
        let nobody =
            hairpin_bench::front_end::station::Station { peer: super::stage::NOBODY, ..station };
        assert_eq!(front.send(&[&nobody.frame(0, 60)]), 1);
        stage.expect(number, layout.name, &drops(UnknownUnicast, 1));
        // An empty one that blocks whoever reads it.
        let kick = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        front.connection().set(SET_VRING_KICK, &[1], &[kick.as_fd()]).unwrap();
        let (stop, until) = (AtomicBool::new(false), Instant::now() + 2 * PATIENCE);
        thread::scope(|scope| {
            scope.spawn(|| {
                while goes_on(&stop, until) {
                    make_blocking(&kick);
                    rustix::io::write(&kick, &1_u64.to_ne_bytes()).unwrap();
                    thread::sleep(Duration::from_micros(100));
                }
            });
            stage.await_lockstep(200);
            stop.store(true, Ordering::Relaxed);
        });
        stage.expect(number, layout.name, &drops(UnknownUnicast, 1));
    }
    stage.end();
}
