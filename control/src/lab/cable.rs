//! The cable between the station's switch and the adjacent bridge: a thread that
//! carries frames and writes down what it saw.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hairpin_dataplane::port::Armed;
use hairpin_dataplane::port::memory::{Endpoint, EndpointReceiver, EndpointSender};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::ethernet::{self, Outer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::plan::Tag;

/// How long the cable looks for frames before it waits for a wake-up.
const LOOKS: u32 = 64;
/// The longest wait, after which the end of the lab is looked for.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A frame that found the far end full is tried again this often.
const RETRIES: u32 = 1000;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Direction {
    /// From the station to the bridge.
    Out,
    /// From the bridge to the station.
    Back,
}

/// Which frames are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Seen {
    /// Which way they went.
    pub direction: Direction,
    /// The tag they bore.
    pub tag: Tag,
    /// Who sent them.
    pub source: Mac,
    /// To whom: unicast only is told apart by sender and receiver.
    pub destination: Mac,
}

type Counts = Arc<Mutex<HashMap<Seen, u64>>>;

/// A cable with its thread, which ends when this is dropped.
pub(super) struct Cable {
    counts: Counts,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Joins the far ends of two links.
    pub fn plug(station: Endpoint, bridge: Endpoint) -> std::io::Result<Cable> {
        let counts = Counts::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (to_station, from_station) = station.split();
        let (to_bridge, from_bridge) = bridge.split();
        let mut strands = [
            Strand { from: from_station, to: to_bridge, direction: Direction::Out },
            Strand { from: from_bridge, to: to_station, direction: Direction::Back },
        ];
        let (seen, ended) = (Arc::clone(&counts), Arc::clone(&stop));
        let carry = move || {
            while !ended.load(Ordering::Relaxed) {
                carry_while_busy(&mut strands, &seen);
                wait(&mut strands);
            }
        };
        let thread = std::thread::Builder::new().name("cable".to_owned()).spawn(carry)?;
        Ok(Cable { counts, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    pub fn seen(&self) -> HashMap<Seen, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked only if a frame could not be read, which was said then.
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Strand {
    from: EndpointReceiver,
    to: EndpointSender,
    direction: Direction,
}

fn carry_while_busy(strands: &mut [Strand; 2], counts: &Counts) {
    let mut frame = Vec::new();
    let mut looks = 0;
    while looks < LOOKS {
        looks += 1;
        for strand in &mut *strands {
            while let Some(offload) = strand.from.receive(&mut frame) {
                looks = 0;
                note(strand.direction, &frame, counts);
                for _ in 0..RETRIES {
                    if strand.to.queue(&frame, offload).is_ok() {
                        break;
                    }
                    strand.to.flush();
                    std::thread::sleep(Duration::from_micros(10));
                }
            }
            strand.to.flush();
        }
    }
}

fn wait(strands: &mut [Strand; 2]) {
    let [out, back] = strands;
    if out.from.arm() == Armed::Asleep && back.from.arm() == Armed::Asleep {
        let mut fds = [&out.from, &back.from]
            .map(|from| PollFd::from_borrowed_fd(from.wake_fd(), PollFlags::IN));
        // An interrupted wait is as good as one that timed out.
        let _ = poll(&mut fds, Some(&WAIT));
    }
    out.from.disarm();
    back.from.disarm();
}

fn note(direction: Direction, frame: &[u8], counts: &Counts) {
    if frame.len() < ethernet::HEADER_BYTES {
        return;
    }
    let (destination, source) = ethernet::addresses(frame);
    let tag = match ethernet::outer(frame, ethernet::ADDRESSES_BYTES) {
        Outer::S(tci) => Tag(Some(tci.vid_bits())),
        _ => Tag(None),
    };
    let seen = Seen { direction, tag, source, destination };
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(seen).or_default() += 1;
}
