//! A memory device whose frames are recorded as they pass.
//!
//! The worker copies each frame into a ring that was allocated beforehand, one per
//! direction; another thread takes them from there and writes a pcapng file
//! ([`Recording::run`]). The worker never waits: what the ring cannot take is
//! counted as missing, and the capture says so at its end.
//!
//! A worker may not look at the clock for each frame, so frames are stamped when
//! they are taken from the ring. They keep their order within a direction; between
//! the two directions, from one burst to the next.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::frame_ring::{self, FrameReceiver, FrameSender};
use super::memory::{MemoryDevice, MemoryReceiver, MemoryTransmitter};
use super::pcapng::{Direction, Packet, Statistics, Writer};
use super::{Arena, Armed, Departure, Opened, Received, Receiver, Rung, Steering, Transmitter};
use crate::frame::{Batch, FRAME_BYTES_MAX};
use crate::ledger::Count;
use crate::sys::memory::{Body, RegionHint};
use crate::sys::spsc::{Peer, Rest};
use crate::wire::offload::Capabilities;

/// How much is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// First bytes of each frame that are kept.
    pub snapshot_bytes: usize,
    /// Frames that may wait to be written, in each direction.
    pub slots: usize,
    /// Bytes that may wait to be written, in each direction.
    pub bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { snapshot_bytes: FRAME_BYTES_MAX, slots: 4096, bytes: 4 << 20 }
    }
}

/// What travels with a recorded frame.
#[derive(Clone, Copy, Default, Debug)]
struct Label {
    /// Counts frames of both directions.
    number: u64,
    length: u32,
}

/// What became of the frames of one direction.
#[derive(Default, Debug)]
struct Tally {
    passed: Count,
    missing: Count,
}

/// The worker's side of one direction.
#[derive(Debug)]
struct Tape {
    frames: FrameSender<Label>,
    numbers: Arc<AtomicU64>,
    tally: Arc<Tally>,
    snapshot_bytes: usize,
}

impl Tape {
    #[inline]
    fn record(&mut self, header: &[u8], body: Body<'_>) {
        let length = header.len() + body.length();
        let kept = length.min(self.snapshot_bytes);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let result = self.frames.push(kept, Label { number, length: length as u32 }, |place| {
            let (head, rest) = place.split(header.len());
            head.write(header);
            body.copy_to(rest);
        });
        self.tally.passed.add(1);
        if result.is_err() {
            self.tally.missing.add(1);
        }
    }

    #[inline]
    fn hand_over(&mut self) {
        self.frames.publish();
        self.frames.wake();
    }
}

/// A recorded memory device.
#[derive(Debug)]
pub struct PcapDevice {
    /// Its one receive queue.
    pub receiver: PcapReceiver,
    /// Its one transmitter.
    pub transmitter: PcapTransmitter,
    /// What the endpoint takes.
    pub capabilities: Capabilities,
}

impl From<PcapDevice> for Opened {
    fn from(device: PcapDevice) -> Opened {
        Opened {
            receivers: vec![Receiver::Pcap(Box::new(device.receiver))],
            transmitters: vec![Transmitter::Pcap(Box::new(device.transmitter))],
            capabilities: device.capabilities,
            steering: Steering::ByWorker,
        }
    }
}

/// Records what passes a memory device; the [`Recording`] is for another thread.
///
/// # Errors
/// Those of mmap(2) and eventfd(2).
pub fn wrap(device: MemoryDevice, config: Config) -> io::Result<(PcapDevice, Recording)> {
    let numbers = Arc::new(AtomicU64::new(0));
    let tape = |direction| -> io::Result<(Tape, Track)> {
        let (sender, receiver) = frame_ring::ring(config.slots, config.bytes)?;
        let tally = Arc::new(Tally::default());
        let tape = Tape {
            frames: sender,
            numbers: Arc::clone(&numbers),
            tally: Arc::clone(&tally),
            snapshot_bytes: config.snapshot_bytes,
        };
        let (hint, pieces, next) = (RegionHint::default(), Vec::new(), None);
        Ok((tape, Track { direction, frames: receiver, tally, hint, pieces, next }))
    };
    let (inbound, inbound_track) = tape(Direction::Inbound)?;
    let (outbound, outbound_track) = tape(Direction::Outbound)?;
    let tracks = [inbound_track, outbound_track];
    let snapshot_bytes = config.snapshot_bytes;
    let device = PcapDevice {
        receiver: PcapReceiver { inner: device.receiver, tape: inbound },
        transmitter: PcapTransmitter { inner: device.transmitter, tape: outbound },
        capabilities: device.capabilities,
    };
    Ok((device, Recording { tracks, snapshot_bytes, frame: Vec::new() }))
}

/// What the switch receives from the endpoint, recorded.
#[derive(Debug)]
pub struct PcapReceiver {
    inner: MemoryReceiver,
    tape: Tape,
}

impl PcapReceiver {
    /// See [`Receiver::receive`].
    pub fn receive(&mut self, arena: &mut Arena, batch: &mut Batch) -> Received {
        let received = self.inner.receive(arena, batch);
        for index in 0..batch.count() {
            let view = batch.view(index);
            self.tape.record(view.header, view.body);
        }
        self.tape.hand_over();
        received
    }

    /// See [`Receiver::release`].
    pub fn release(&mut self, batch: &mut Batch) {
        self.inner.release(batch);
    }

    /// See [`Receiver::arm`].
    pub fn arm(&mut self) -> Armed {
        self.inner.arm()
    }

    /// See [`Receiver::disarm`].
    pub fn disarm(&mut self) {
        self.inner.disarm();
    }

    /// See [`Receiver::wake_fd`].
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.inner.wake_fd()
    }
}

/// What the switch transmits to the endpoint, recorded if the endpoint took it.
#[derive(Debug)]
pub struct PcapTransmitter {
    inner: MemoryTransmitter,
    tape: Tape,
}

impl PcapTransmitter {
    /// See [`Transmitter::transmit`].
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        self.inner.transmit(departures);
        for departure in departures.iter().filter(|departure| departure.fate.is_ok()) {
            self.tape.record(departure.header, departure.body);
        }
        self.tape.hand_over();
    }

    /// See [`Transmitter::room`].
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        self.inner.room(wanted, length)
    }

    /// See [`Transmitter::ring`].
    pub fn ring(&mut self) -> Rung {
        self.inner.ring()
    }
}

/// The writing side of one direction.
#[derive(Debug)]
struct Track {
    direction: Direction,
    frames: FrameReceiver<Label>,
    tally: Arc<Tally>,
    hint: RegionHint,
    pieces: Vec<(u64, u32)>,
    /// The frame at the head of the ring, whose piece is in `pieces`.
    next: Option<Label>,
}

impl Track {
    /// Looks at the first frame without giving its place back.
    fn peek(&mut self) -> Option<u64> {
        if self.next.is_none() {
            self.next = self.frames.take(&mut self.pieces);
        }
        self.next.map(|label| label.number)
    }

    /// Writes the frame that was looked at.
    fn write(&mut self, out: &mut Writer<impl Write>, frame: &mut Vec<u8>) -> io::Result<()> {
        let Some(label) = self.next.take() else { return Ok(()) };
        frame.clear();
        for &(address, length) in &self.pieces {
            let start = frame.len();
            frame.resize(start + length as usize, 0);
            if let Some(place) = self.frames.memory().place(&mut self.hint, address, length) {
                place.read(&mut frame[start..]);
            }
        }
        self.frames.release();
        let (direction, length) = (self.direction, label.length);
        let (interface, time_ns, comment) = (0, now_ns(), None);
        out.packet(&Packet { interface, time_ns, direction, length, bytes: frame, comment })
    }
}

/// What was recorded and not written yet: for another thread than the workers'.
#[derive(Debug)]
pub struct Recording {
    tracks: [Track; 2],
    snapshot_bytes: usize,
    frame: Vec<u8>,
}

/// What a finished recording holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Frames that passed.
    pub passed: u64,
    /// Frames that were not recorded, as the ring was full.
    pub missing: u64,
}

impl Recording {
    /// Writes a capture until the device is dropped. Blocks; what it writes is
    /// complete up to the last moment at which nothing waited.
    ///
    /// # Errors
    /// Those of writing.
    pub fn run(mut self, interface: &str, out: impl Write) -> io::Result<Summary> {
        let snapshot_bytes = u32::try_from(self.snapshot_bytes).unwrap_or(u32::MAX);
        let mut writer = Writer::new(out, &[interface], snapshot_bytes)?;
        loop {
            let over = self.is_over();
            let written = self.drain(&mut writer)?;
            if over {
                break;
            }
            if written == 0 {
                writer.flush()?;
                self.wait(Duration::from_secs(1));
            }
        }
        let summary = self.summary();
        let Summary { passed, missing } = summary;
        writer.finish(now_ns(), &[Statistics { passed, missing }])?;
        Ok(summary)
    }

    /// Writes what waits; says how many frames.
    ///
    /// # Errors
    /// Those of writing.
    pub fn drain(&mut self, out: &mut Writer<impl Write>) -> io::Result<usize> {
        let mut written = 0;
        loop {
            let [inbound, outbound] = &mut self.tracks;
            let first = match (inbound.peek(), outbound.peek()) {
                (None, None) => return Ok(written),
                (Some(a), Some(b)) if b < a => outbound,
                (None, Some(_)) => outbound,
                (Some(_), _) => inbound,
            };
            first.write(out, &mut self.frame)?;
            written += 1;
        }
    }

    /// Sleeps until something was recorded, the device is dropped, or the time is
    /// over.
    pub fn wait(&mut self, timeout: Duration) {
        let [inbound, outbound] = &mut self.tracks;
        let rests = [inbound.frames.arm(), outbound.frames.arm()];
        if rests == [Rest::Granted; 2] {
            let fds = [inbound.frames.wake_fd(), outbound.frames.wake_fd()];
            let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            // A signal, or a time too long to name, only means to look again sooner.
            let _ = rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref());
        }
        inbound.frames.disarm();
        outbound.frames.disarm();
    }

    /// Whether the device was dropped; what it left may still be drained.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.tracks.iter().all(|track| track.frames.peer() == Peer::Gone)
    }

    /// What passed and what is missing so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let sum = |count: fn(&Tally) -> &Count| {
            self.tracks.iter().map(|track| count(&track.tally).get()).sum()
        };
        Summary { passed: sum(|tally| &tally.passed), missing: sum(|tally| &tally.missing) }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{self, Endpoint};
    use super::super::testing::{depart, ethernet};
    use super::*;
    use crate::wire::offload::Offload;
    use std::process::Command;

    struct Bed {
        device: PcapDevice,
        endpoint: Endpoint,
        recording: Recording,
    }

    fn bed(config: Config) -> Bed {
        let (device, endpoint) = memory::pair(memory::Config::default()).unwrap();
        let (device, recording) = wrap(device, config).unwrap();
        Bed { device, endpoint, recording }
    }

    fn receive(device: &mut PcapDevice) -> usize {
        let (mut arena, mut batch) = (Arena::new().unwrap(), Batch::new());
        device.receiver.receive(&mut arena, &mut batch);
        let count = batch.count();
        device.receiver.release(&mut batch);
        count
    }

    fn transmit(device: &mut PcapDevice, frame: &[u8]) {
        let transmitter = &mut device.transmitter;
        let fates = depart(&[frame.to_vec()], Offload::NONE, |departures| {
            transmitter.transmit(departures);
        });
        assert_eq!(fates, [Ok(())]);
    }

    /// What tshark reads: number of bytes, bytes captured, source, direction.
    fn tshark(file: &std::path::Path) -> Option<Vec<String>> {
        let fields = ["frame.len", "frame.cap_len", "eth.src", "frame.packet_flags_direction"];
        let mut command = Command::new("tshark");
        command.arg("-r").arg(file).args(["-T", "fields"]);
        fields.iter().for_each(|field| {
            command.args(["-e", field]);
        });
        let Ok(output) = command.output() else {
            let demanded = std::env::var_os("HAIRPIN_TESTS").is_some_and(|value| value == "all");
            assert!(!demanded, "HAIRPIN_TESTS=all, but there is no tshark");
            let current = std::thread::current();
            let test = current.name().unwrap_or("a test");
            // What the printing macros write is shown for tests that fail only.
            let _ = writeln!(io::stderr(), "skipped {test}: there is no tshark");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    #[test]
    fn both_directions_are_recorded_and_tshark_reads_them() {
        let Bed { mut device, mut endpoint, recording } =
            bed(Config { snapshot_bytes: 200, ..Config::default() });
        let file = tempfile::NamedTempFile::new().unwrap();
        let out = file.reopen().unwrap();
        let writer = std::thread::spawn(move || recording.run("vm1", out).unwrap());
        let mut expected = Vec::new();
        for length in [60, 129, 200, 201, 1514] {
            endpoint.send(&ethernet(1, 2, length), Offload::NONE).unwrap();
            assert_eq!(receive(&mut device), 1);
            expected.push(format!("{length}\t{}\t02:00:00:00:00:02\t0x1", length.min(200)));
            transmit(&mut device, &ethernet(2, 1, length));
            expected.push(format!("{length}\t{}\t02:00:00:00:00:01\t0x2", length.min(200)));
        }
        drop(device);
        assert_eq!(writer.join().unwrap(), Summary { passed: 10, missing: 0 });
        let Some(mut read) = tshark(file.path()) else { return };
        // tshark 4 writes the direction in hexadecimal, some versions with padding.
        for line in &mut read {
            *line = line.replace("0x00000001", "0x1").replace("0x00000002", "0x2");
        }
        assert_eq!(read, expected);
    }

    #[test]
    fn what_the_ring_cannot_take_is_counted_and_passes() {
        let Bed { mut device, mut endpoint, recording } =
            bed(Config { slots: 4, ..Config::default() });
        for n in 0..10 {
            endpoint.send(&ethernet(1, 100 + n, 60), Offload::NONE).unwrap();
        }
        assert_eq!(receive(&mut device), 10, "recording never holds frames up");
        transmit(&mut device, &ethernet(1, 99, 60));
        assert_eq!(recording.summary(), Summary { passed: 11, missing: 6 });
        drop(device);
        let mut out = Vec::new();
        assert_eq!(recording.run("x", &mut out).unwrap(), Summary { passed: 11, missing: 6 });
        let packets = out.windows(6).filter(|bytes| *bytes == [2, 0, 0, 0, 0, 1]).count();
        assert_eq!(packets, 5, "four one way, one the other");
    }

    #[test]
    fn a_frame_that_was_refused_is_not_recorded() {
        let Bed { mut device, endpoint, recording } = bed(Config::default());
        drop(endpoint);
        let transmitter = &mut device.transmitter;
        let fates = depart(&[ethernet(1, 2, 60)], Offload::NONE, |departures| {
            transmitter.transmit(departures);
        });
        assert!(fates[0].is_err());
        assert_eq!(recording.summary(), Summary { passed: 0, missing: 0 });
    }
}
