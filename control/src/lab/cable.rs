//! The cable between the station's switch and the adjacent bridge: a thread that
//! carries frames and writes down what it saw.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hairpin_dataplane::port::Armed;
use hairpin_dataplane::port::memory::{Endpoint, EndpointReceiver, EndpointSender, SendError};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::ethernet::{self, Outer};
use hairpin_dataplane::wire::offload::Offload;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::plan::{Family, Tag};

/// How long the cable looks for frames before it waits for a wake-up.
const LOOKS: u32 = 64;
/// The longest wait, after which the end of the lab is looked for.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A frame that found the far end full is tried again this often, then lost.
const RETRIES: u32 = 1000;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Direction {
    /// From the station to the bridge.
    Out,
    /// From the bridge to the station.
    Back,
}

/// What a frame is for, as far as the lab tells frames apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Traffic {
    /// An echo request.
    Echo(Family),
    /// A TCP segment, or several.
    Tcp(Family),
    /// Anything else: echo replies, address resolution, …
    Other,
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
    /// What for.
    pub traffic: Traffic,
}

/// How much of it was seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Amount {
    pub frames: u64,
    /// With all headers, unsegmented.
    pub bytes: u64,
}

/// What crossed the cable.
pub(super) type Crossed = HashMap<Seen, Amount>;

/// What the cable writes down.
#[derive(Default)]
struct Log {
    crossed: Mutex<Crossed>,
    /// Frames that could not be delivered.
    lost: AtomicU64,
}

impl Log {
    fn crossed(&self) -> MutexGuard<'_, Crossed> {
        self.crossed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cable with its thread, which ends when this is dropped.
pub(super) struct Cable {
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Joins the far ends of two links.
    pub fn plug(station: Endpoint, bridge: Endpoint) -> std::io::Result<Cable> {
        Cable::plug_through(station, bridge, |_, _| 1)
    }

    /// Joins them through something that may change each frame, and says how many of it
    /// go on.
    pub fn plug_through(
        station: Endpoint,
        bridge: Endpoint,
        mut meddle: impl FnMut(Direction, &mut Vec<u8>) -> usize + Send + 'static,
    ) -> std::io::Result<Cable> {
        let log = Arc::new(Log::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (to_station, from_station) = station.split();
        let (to_bridge, from_bridge) = bridge.split();
        let mut strands = [
            Strand { from: from_station, to: to_bridge, direction: Direction::Out },
            Strand { from: from_bridge, to: to_station, direction: Direction::Back },
        ];
        let (seen, ended) = (Arc::clone(&log), Arc::clone(&stop));
        let carry = move || {
            while !ended.load(Ordering::Relaxed) {
                carry_while_busy(&mut strands, &mut meddle, &seen);
                wait(&mut strands);
            }
        };
        let thread = std::thread::Builder::new().name("cable".to_owned()).spawn(carry)?;
        Ok(Cable { log, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    pub fn seen(&self) -> Crossed {
        self.log.crossed().clone()
    }

    /// Forgets what was seen.
    pub fn forget(&self) {
        self.log.crossed().clear();
    }

    /// Frames that were lost on the cable since it was plugged: their far end had no room
    /// for them, or is gone.
    pub fn lost(&self) -> u64 {
        self.log.lost.load(Ordering::Relaxed)
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
        log.lost.fetch_add(1, Ordering::Relaxed);
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
                    note(strand.direction, &frame, log);
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

fn note(direction: Direction, frame: &[u8], log: &Log) {
    if let Some(seen) = seen(direction, frame) {
        let mut crossed = log.crossed();
        let amount = crossed.entry(seen).or_default();
        amount.frames += 1;
        amount.bytes += frame.len() as u64;
    }
}

/// What a frame is counted as, if it is one.
pub(super) fn seen(direction: Direction, frame: &[u8]) -> Option<Seen> {
    if frame.len() < ethernet::HEADER_BYTES {
        return None;
    }
    let (destination, source) = ethernet::addresses(frame);
    let (tag, offset) = match ethernet::outer(frame, ethernet::ADDRESSES_BYTES) {
        Outer::S(tci) => {
            (Tag(Some(tci.vid_bits())), ethernet::ADDRESSES_BYTES + ethernet::TAG_BYTES)
        }
        _ => (Tag(None), ethernet::ADDRESSES_BYTES),
    };
    let traffic = traffic(frame, offset).unwrap_or(Traffic::Other);
    Some(Seen { direction, tag, source, destination, traffic })
}

/// What a frame is for, by its EtherType at `offset`, its IP protocol (IANA, protocol
/// numbers; no VM of the lab sends IPv6 extension headers with an echo or TCP) and its
/// ICMP type (RFC 792, RFC 4443).
fn traffic(frame: &[u8], offset: usize) -> Option<Traffic> {
    let ip = frame.get(offset + 2..)?;
    let (family, protocol, header_bytes) = match ethernet::word(frame, offset)? {
        ethernet::ETHERTYPE_IPV4 => (Family::Ipv4, *ip.get(9)?, usize::from(ip.first()? & 0xf) * 4),
        ethernet::ETHERTYPE_IPV6 => (Family::Ipv6, *ip.get(6)?, 40),
        _ => return None,
    };
    match (family, protocol, *ip.get(header_bytes)?) {
        (Family::Ipv4, 1, 8) | (Family::Ipv6, 58, 128) => Some(Traffic::Echo(family)),
        (_, 6, _) => Some(Traffic::Tcp(family)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
    const FROM: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

    /// A frame with a protocol's number in an IP header without options, and the first
    /// byte behind it.
    fn frame(tag: &[u8], family: Family, protocol: u8, first: u8) -> Vec<u8> {
        let (ethertype, mut ip, at) = match family {
            Family::Ipv4 => ([8, 0], vec![0; 20], 9),
            Family::Ipv6 => ([0x86, 0xdd], vec![0; 40], 6),
        };
        ip[0] = if family == Family::Ipv4 { 0x45 } else { 0x60 };
        ip[at] = protocol;
        [&TO.octets()[..], &FROM.octets(), tag, &ethertype, &ip, &[first, 0, 0, 0]].concat()
    }

    fn noted(frame: &[u8]) -> (Tag, Traffic, Amount) {
        let log = Log::default();
        note(Direction::Out, frame, &log);
        let crossed = log.crossed();
        let (seen, amount) = crossed.iter().next().unwrap();
        assert_eq!((seen.source, seen.destination), (FROM, TO));
        (seen.tag, seen.traffic, *amount)
    }

    #[test]
    fn frames_are_told_apart_by_tag_family_and_purpose() {
        let (v4, v6) = (Family::Ipv4, Family::Ipv6);
        let s_100 = [0x88, 0xa8, 0xe0, 100];
        let cases: [(&[u8], _, _, _, _); 8] = [
            (&[], v4, 1, 8, Traffic::Echo(v4)),
            (&[], v6, 58, 128, Traffic::Echo(v6)),
            (&s_100, v6, 58, 128, Traffic::Echo(v6)),
            (&s_100, v4, 6, 0, Traffic::Tcp(v4)),
            (&[], v6, 6, 128, Traffic::Tcp(v6)),
            // An echo reply, a neighbour solicitation, and ICMP of the other family.
            (&[], v4, 1, 0, Traffic::Other),
            (&[], v6, 58, 135, Traffic::Other),
            (&[], v6, 1, 8, Traffic::Other),
        ];
        for (tag, family, protocol, first, traffic) in cases {
            let frame = frame(tag, family, protocol, first);
            let svid = (!tag.is_empty()).then_some(100);
            let amount = Amount { frames: 1, bytes: frame.len() as u64 };
            assert_eq!(noted(&frame), (Tag(svid), traffic, amount));
            assert_eq!(noted(&frame[..frame.len() - 4]).1, Traffic::Other, "cut short");
        }
    }
}
