//! Two honest guests that send each other frames in lockstep: one out, the same one in, the
//! next one out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hairpin_bench::front_end::station::{HEAD_BYTES, Heard, Station};
use hairpin_bench::front_end::{FrontEnd, Layout};

/// How long a frame may take on a machine on which much else runs. One that was lost never
/// comes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest frame without tags.
const FRAME_BYTES_MAX: usize = 1514;

/// The two, at their own thread.
pub struct Lockstep {
    stop: Arc<AtomicBool>,
    /// Frames that were sent and received.
    passed: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Lockstep {
    /// Plugs both in, each with its own layout of rings, and lets them begin once what
    /// they wait for has come to pass.
    pub fn begin(
        sockets: [&Path; 2],
        layouts: [Layout; 2],
        station: Station,
        until_up: impl FnOnce(),
    ) -> Lockstep {
        let ends = [0, 1].map(|at| FrontEnd::connect(sockets[at], layouts[at]).unwrap());
        until_up();
        let (stop, passed) = (Arc::default(), Arc::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&passed));
        let stations = [station, station.turned()];
        let thread = std::thread::spawn(move || converse(ends, stations, &stopped, &counted));
        Lockstep { stop, passed, thread }
    }

    /// Waits until so many more frames have passed.
    #[track_caller]
    pub fn await_more(&self, frames: u64) {
        let (before, until) = (self.passed.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while self.passed.load(Ordering::Relaxed) < before + frames {
            assert!(!self.thread.is_finished(), "the two in lockstep: a frame was lost");
            assert!(Instant::now() < until, "the two in lockstep are held up");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops; how many frames have passed.
    #[track_caller]
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the two in lockstep lose nothing");
        self.passed.load(Ordering::Relaxed)
    }
}

fn converse(
    mut ends: [FrontEnd; 2],
    stations: [Station; 2],
    stop: &AtomicBool,
    passed: &AtomicU64,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for (from, to) in [(0, 1), (1, 0)] {
            let bytes = HEAD_BYTES + (number as usize * 97) % (FRAME_BYTES_MAX - HEAD_BYTES + 1);
            let frame = stations[from].frame(number, bytes);
            assert_eq!(ends[from].send(&[&frame]), 1, "room in a transmit ring");
            await_frame(&mut ends[to], stations[to], number, bytes);
            number += 1;
            passed.store(number, Ordering::Relaxed);
        }
    }
}

/// Waits for the frame of this number, and allows no other one.
fn await_frame(end: &mut FrontEnd, station: Station, number: u64, bytes: usize) {
    let frames = end.receive_within(PATIENCE).unwrap();
    let heard: Vec<(Heard, usize)> =
        frames.iter().map(|frame| (station.hear(&frame.bytes), frame.bytes.len())).collect();
    assert_eq!(heard, [(Heard::Number(number), bytes)], "frame {number} of {bytes} bytes");
}
