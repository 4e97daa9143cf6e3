//! Sends 64-byte frames from one memory port to another in bursts of 64, so that
//! an instruction counter tells what a whole breath costs per frame. What is to
//! be counted is `breathe_once`, not the guests:
//!
//! `valgrind --tool=callgrind --toggle-collect='*breathe_once*' \
//! target/release/examples/breath_count alike N`, and (count(2N) - count(N)) / N; `mixed`
//! for frames none of which is alike to the one before it, `polled` for `alike` while
//! another thread reads all counters over and over.

#[path = "../tests/wiring/mod.rs"]
mod wiring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hairpin_dataplane::wire::offload::Offload;
use wiring::{Wiring, frame, mac};

const BURST: usize = 64;

/// A function of its own, for the counter to find.
#[inline(never)]
fn breathe_once(wiring: &mut Wiring) -> usize {
    wiring.breathe()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kinds, frames) = match words[..] {
        ["alike" | "polled", frames] => (1, frames.parse()),
        ["mixed", frames] => (2, frames.parse()),
        _ => (0, "".parse::<usize>()),
    };
    let Ok(frames) = frames else {
        eprintln!("usage: breath_count alike|mixed|polled FRAMES");
        std::process::exit(2);
    };
    let mut wiring = Wiring::new(2);
    let (done, readings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = (words[0] == "polled")
        .then(|| read_over_and_over(&wiring, Arc::clone(&done), Arc::clone(&readings)));
    // An instruction counter runs one thread at a time: each burst waits for a reading.
    let await_reading = || {
        let before = readings.load(Ordering::Relaxed);
        while reader.is_some() && readings.load(Ordering::Relaxed) == before {
            std::thread::yield_now();
        }
    };
    let mut sent = frame(0, mac(1), 64);
    let mut received = Vec::with_capacity(sent.len());
    for _ in 0..frames.div_ceil(BURST) {
        await_reading();
        for number in 0..BURST {
            sent[14] = (number % kinds) as u8;
            let queued = wiring.endpoints[0].queue(&sent, Offload::NONE);
            queued.expect("a burst fits into the ring");
        }
        wiring.endpoints[0].flush();
        assert_eq!(breathe_once(&mut wiring), BURST, "a breath takes the burst");
        while wiring.endpoints[1].receive(&mut received).is_some() {}
    }
    let delivered = wiring.totals(1).tx_frames;
    assert_eq!(delivered as usize, frames.div_ceil(BURST) * BURST, "every frame is delivered");
    println!("{delivered} frames");
    done.store(true, Ordering::Relaxed);
    if let Some(reader) = reader {
        reader.join().expect("it only reads");
    }
}

/// Adds up all counters until it is told to end, as control does for a client that polls.
fn read_over_and_over(
    wiring: &Wiring,
    done: Arc<AtomicBool>,
    readings: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let attached = wiring.attached.clone();
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            for attached in &attached {
                std::hint::black_box(attached.totals());
            }
            readings.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
    })
}
