//! A cable within this process: a thread between the far ends of two memory devices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hairpin_dataplane::port::Armed;
use hairpin_dataplane::port::memory::{Endpoint, EndpointReceiver, EndpointSender, SendError};
use hairpin_dataplane::wire::offload::Offload;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cable::{Cable, Direction, Log, Overflow};

/// How long the cable looks for frames before it waits for a wake-up.
const LOOKS: u32 = 64;
/// The longest wait, after which the end of the lab is looked for.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A frame that found the far end full is tried again this often, then lost.
const RETRIES: u32 = 1000;

/// Joins the far ends of two links.
pub(super) fn plug(station: Endpoint, bridge: Endpoint) -> std::io::Result<Cable> {
    plug_through(station, bridge, |_, _| 1)
}

/// Joins them through something that may change each frame, and says how many of it go on.
pub(super) fn plug_through(
    station: Endpoint,
    bridge: Endpoint,
    mut meddle: impl FnMut(Direction, &mut Vec<u8>) -> usize + Send + 'static,
) -> std::io::Result<Cable> {
    let (to_station, from_station) = station.split();
    let (to_bridge, from_bridge) = bridge.split();
    let mut strands = [
        Strand { from: from_station, to: to_bridge, direction: Direction::Out },
        Strand { from: from_bridge, to: to_station, direction: Direction::Back },
    ];
    // What a memory device has no room for, its switch counts itself.
    let mut cable = Cable::new(Overflow::new);
    cable.carry(move |log: &Log, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            carry_while_busy(&mut strands, &mut meddle, log);
            wait(&mut strands);
        }
    })?;
    Ok(cable)
}

/// One direction.
struct Strand {
    from: EndpointReceiver,
    to: EndpointSender,
    direction: Direction,
}

impl Strand {
    fn deliver(&mut self, frame: &[u8], offload: Offload, log: &Log) {
        for _ in 0..RETRIES {
            match self.to.queue(frame, offload) {
                Ok(()) => return,
                Err(SendError::Full) => {
                    self.to.flush();
                    std::thread::sleep(Duration::from_micros(10));
                }
                Err(SendError::Detached | SendError::TooLong) => break,
            }
        }
        log.lose();
    }
}

fn carry_while_busy(
    strands: &mut [Strand; 2],
    meddle: &mut impl FnMut(Direction, &mut Vec<u8>) -> usize,
    log: &Log,
) {
    let mut frame = Vec::new();
    let mut looks = 0;
    while looks < LOOKS {
        looks += 1;
        for strand in &mut *strands {
            while let Some(offload) = strand.from.receive(&mut frame) {
                looks = 0;
                for _ in 0..meddle(strand.direction, &mut frame) {
                    log.note(strand.direction, &frame);
                    strand.deliver(&frame, offload, log);
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
