//! The real session at a socket: what a VMM sends as bytes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hairpin_dataplane::port::vhost_user::ring::{RingIndex, Start};
use hairpin_dataplane::sys::virtqueue::{LayoutError, Position, RingFault};

use super::*;

/// Rings that no worker has.
#[derive(Debug)]
struct NoWorker;

impl RingHost for NoWorker {
    fn start(&mut self, _: RingIndex, _: Start) -> Result<(), LayoutError> {
        Ok(())
    }

    fn halt(&mut self, _: RingIndex) -> Result<Option<Position>, Stuck> {
        Ok(None)
    }

    fn broken(&mut self) -> Vec<(RingIndex, RingFault)> {
        Vec::new()
    }
}

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const VERSION_1: u64 = 1 << 32;

/// A request (code, flags with version 1, size, body).
fn request(code: u32, body: &[u8]) -> Vec<u8> {
    let words = [code, 1, body.len() as u32].map(u32::to_ne_bytes);
    [&words.concat()[..], body].concat()
}

fn served() -> (Served, UnixStream) {
    let (ours, vmm) = UnixStream::pair().unwrap();
    let mut served = Served::new(2, Box::new(NoWorker));
    served.begin(ours.into()).unwrap();
    (served, vmm)
}

#[test]
fn a_vmm_is_answered_and_what_it_accepts_is_reported() {
    let (mut served, mut vmm) = served();
    let ask = request(GET_FEATURES, &[]);
    // In two halves.
    vmm.write_all(&ask[..7]).unwrap();
    assert_eq!(served.turn(8), Turn::Idle(Interest::Read));
    vmm.write_all(&ask[7..]).unwrap();
    assert_eq!(served.turn(8), Turn::Idle(Interest::Read));
    let mut answer = [0; 20];
    vmm.read_exact(&mut answer).unwrap();
    let offered = u64::from_ne_bytes(answer[12..].try_into().unwrap());
    assert_ne!(offered & VERSION_1, 0);
    vmm.write_all(&request(SET_FEATURES, &VERSION_1.to_ne_bytes())).unwrap();
    assert_eq!(served.turn(8), Turn::Idle(Interest::Read));
    let report = served.report();
    assert_eq!(report.features, ["version_1"]);
    assert_eq!(report.pairs.len(), 2);
    assert!(!report.runs());
    drop(vmm);
    assert_eq!(served.turn(8), Turn::Closed);
    assert_eq!(served.end(), Ok(()));
    assert!(served.report().features.is_empty());
}

#[test]
fn what_is_no_message_is_a_fault_and_a_flood_fills_one_turn() {
    let (mut served, mut vmm) = served();
    let one = request(SET_FEATURES, &VERSION_1.to_ne_bytes());
    vmm.write_all(&one.repeat(12)).unwrap();
    assert_eq!(served.turn(8), Turn::More);
    assert_eq!(served.turn(8), Turn::Idle(Interest::Read));
    vmm.write_all(&[0xff; 64]).unwrap();
    assert!(matches!(served.turn(8), Turn::Fault(_)));
}

#[test]
fn a_vmm_that_is_killed_before_it_reads_its_reply_is_gone_and_at_no_fault() {
    let (mut served, mut vmm) = served();
    vmm.write_all(&request(GET_FEATURES, &[]).repeat(2)).unwrap();
    drop(vmm);
    assert_eq!(served.turn(8), Turn::Closed);
}

#[test]
fn a_flood_of_messages_that_are_refused_is_a_fault() {
    let (mut served, mut vmm) = served();
    // A feature that nobody offered.
    let wrong = request(SET_FEATURES, &(1_u64 << 63).to_ne_bytes());
    let began = Instant::now();
    let mut sent = 0;
    let reason = loop {
        vmm.write_all(&wrong.repeat(32)).unwrap();
        sent += 32;
        match served.turn(64) {
            Turn::Fault(reason) => break reason,
            turn => assert_eq!(turn, Turn::Idle(Interest::Read)),
        }
        assert!(sent < 100 * REFUSED_MAX, "{:?}", began.elapsed());
    };
    assert!(sent >= REFUSED_MAX, "{sent}");
    assert!(reason.contains("messages within a second were refused"), "{reason}");
    assert!(reason.contains("SET_FEATURES"), "{reason}");
}
