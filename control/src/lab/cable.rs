//! The cable between the station's switch and the adjacent bridge, as far as it is the
//! same whatever it is made of: what is written down of each frame.
//!
//! Whatever carries frames writes each down before it hands it on: who has seen the
//! effect of a frame finds the frame written down.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::ethernet::{self, Outer};

use super::plan::{Family, Tag};

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
pub(super) struct Log {
    crossed: Mutex<Crossed>,
    /// Frames that could not be delivered.
    lost: AtomicU64,
}

impl Log {
    /// Writes a frame down, which is to be handed on next.
    pub fn note(&self, direction: Direction, frame: &[u8]) {
        if let Some(seen) = seen(direction, frame) {
            let mut crossed = self.crossed();
            let amount = crossed.entry(seen).or_default();
            amount.frames += 1;
            amount.bytes += frame.len() as u64;
        }
    }

    /// Writes down that a frame could not be delivered.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn crossed(&self) -> MutexGuard<'_, Crossed> {
        self.crossed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames that were dropped before they were carried, by the link that they came from.
pub(super) type Overflow = BTreeMap<String, u64>;

/// A cable with its threads, which end when this is dropped.
pub(super) struct Cable {
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    overflow: Box<dyn Fn() -> Overflow>,
}

impl Cable {
    /// A cable that nothing carries for yet, and how to ask what was dropped before it
    /// could be carried.
    pub fn new(overflow: impl Fn() -> Overflow + 'static) -> Cable {
        Cable {
            log: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
            overflow: Box::new(overflow),
        }
    }

    /// Starts a thread that carries frames, and writes them down, until it is to stop:
    /// which it looks for every 50 ms at least.
    pub fn carry(
        &mut self,
        carry: impl FnOnce(&Log, &AtomicBool) + Send + 'static,
    ) -> std::io::Result<()> {
        let (log, stop) = (Arc::clone(&self.log), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().name("cable".to_owned());
        self.threads.push(thread.spawn(move || carry(&log, &stop))?);
        Ok(())
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

    /// Frames that the kernel dropped before they could be carried, and which were not
    /// seen.
    pub fn overflow(&self) -> Overflow {
        (self.overflow)()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It panicked only if a frame could not be read, which was said then.
            let _ = thread.join();
        }
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
        log.note(Direction::Out, frame);
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
