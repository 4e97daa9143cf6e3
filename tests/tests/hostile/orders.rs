//! Requests in every order, and at random.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hairpin_bench::front_end::message::*;
use hairpin_bench::front_end::station::Noise;
use hairpin_bench::front_end::{Connection, GuestMemory, Layout};
use hairpin_dataplane::port::vhost_user::message::{Awaits, Code};

use super::messages::{event, is_unanswerable, payload};
use super::stage::Stage;

#[test]
fn cloud_hypervisor_2930_every_message_behind_every_other_before_and_after_the_owner() {
    let stage = Stage::start(1, 1);
    let codes: Vec<Code> = (1..=LAST.0).map(Code).filter(|code| !is_unanswerable(*code)).collect();
    let event = event();
    let memory = GuestMemory::new(4096).unwrap();
    let send = |connection: &Connection, code: Code| {
        let fd = match code {
            SET_VRING_KICK | SET_VRING_CALL | SET_VRING_ERR => Some(event.as_fd()),
            SET_MEM_TABLE | ADD_MEM_REG => Some(memory.as_fd()),
            _ => None,
        };
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        connection.tell(code, &payload(code), &fds).unwrap();
        if code.awaits() == Awaits::Reply {
            connection.hear(code).unwrap();
        }
    };
    let before = stage.descriptors();
    for round in 0..2 {
        let connection = stage.connection(0);
        for _ in 0..=round {
            for first in &codes {
                for second in &codes {
                    send(&connection, *first);
                    send(&connection, *second);
                }
            }
            send(&connection, SET_OWNER);
        }
        stage.await_lockstep(20);
        drop(connection);
    }
    stage.expect_descriptors(before);
    drop(stage.guest(0, Layout::SPLIT));
    stage.end();
}

/// A seed, said where the test fails.
pub fn seed() -> u64 {
    let given = std::env::var("HAIRPIN_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(now);
    println!("HAIRPIN_SEED={seed} repeats what is sent");
    seed
}

/// A descriptor of some kind.
fn descriptor(noise: &mut Noise, memory: &GuestMemory) -> OwnedFd {
    match noise.below(6) {
        0 | 1 => memory.as_fd().try_clone_to_owned().unwrap(),
        2 => event(),
        3 => std::io::pipe().unwrap().1.into(),
        4 => UnixStream::pair().unwrap().0.into(),
        _ => File::open("/").unwrap().into(),
    }
}

/// A word that is right somewhere, or nowhere.
fn word(noise: &mut Noise, memory: &GuestMemory) -> u64 {
    let whole = memory.whole();
    match noise.below(8) {
        0 => noise.below(5),
        1 => state(noise.below(3) as u32, 1 << noise.below(10)),
        2 => whole.user + noise.below(16) * 0x1000,
        3 => whole.guest,
        4 => whole.bytes,
        5 => Layout::SPLIT.accepted().bits() ^ (noise.below(2) << 34),
        6 => 1,
        _ => noise.next_word(),
    }
}

/// Sends one message, more or less; whether the connection is still there.
fn shoot(connection: &Connection, noise: &mut Noise, memory: &GuestMemory) -> bool {
    let code = Code(noise.below(u64::from(LAST.0) + 3) as u32);
    let whole = memory.whole();
    let words: Vec<u64> = match noise.below(4) {
        0 => payload(code),
        1 => table(&[whole]),
        _ => (0..noise.below(9)).map(|_| word(noise, memory)).collect(),
    };
    let flags = match noise.below(200) {
        0 => noise.next_word() as u32,
        _ => VERSION | (NEED_REPLY * noise.below(2) as u32),
    };
    let number = if noise.below(50) == 0 { 100 } else { noise.below(3) };
    let fds: Vec<OwnedFd> = (0..number).map(|_| descriptor(noise, memory)).collect();
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let bytes = encode(code, flags, &words);
    // In pieces, now and then.
    let piece = if noise.below(4) == 0 { 1 + noise.below(16) as usize } else { bytes.len() };
    let (first, rest) = bytes.split_at(piece.min(bytes.len()));
    let sent = connection.write(first, &fds).is_ok()
        && rest.chunks(piece).all(|piece| connection.write(piece, &[]).is_ok());
    sent && !connection.is_closed_within(Duration::from_micros(200)).unwrap_or(true)
}

/// Ends the port's quarantine, if it is in one.
fn release(stage: &Stage) {
    // Control hears of a fault a tick later, and ends no quarantine that it does not know of.
    std::thread::sleep(Duration::from_millis(300));
    stage.daemon().hairpin("port release case0").unwrap();
}

#[test]
fn cve_2021_36980_messages_drawn_at_random_harm_nobody() {
    const SHOTS: usize = 300;
    let stage = Stage::start(1, 1);
    let mut noise = Noise::new(seed());
    let memory = GuestMemory::new(0x10_0000).unwrap();
    let before = stage.descriptors();
    let mut connection = stage.connection(0);
    for _ in 0..SHOTS {
        if !shoot(&connection, &mut noise, &memory) {
            release(&stage);
            connection = stage.connection(0);
        }
    }
    drop(connection);
    stage.await_lockstep(20);
    stage.expect_descriptors(before);
    release(&stage);
    drop(stage.guest(0, Layout::PACKED));
    stage.end();
}
