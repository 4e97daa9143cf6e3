//! From a capture's rings into its stream, on a thread of its own.
//!
//! Workers wake nobody, so it looks every few milliseconds while a capture goes on. A client
//! that does not read fills first the stream, then the rings: its capture misses frames,
//! which is counted, and ends after a while.

use std::time::{Duration, Instant};

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port::pcapng::{Packet, Statistics, Writer};
use hairpin_dataplane::worker::capture::Label;
use hairpin_proto::v1;
use tokio::sync::mpsc::{self, OwnedPermit};
use tonic::Status;

use crate::switch::capture::{Capture, Prospect};

/// Between two looks at rings that were empty.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two parts, if no frame comes.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Bytes at which a part is complete.
const PART_BYTES: usize = 256 * 1024;

type Part = Result<v1::CaptureResponse, Status>;

/// When a capture ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// After so many frames.
    pub frames: Option<u64>,
    /// After so long.
    pub time: Option<Duration>,
}

/// Writes a capture's stream.
#[derive(Debug)]
pub struct Pump {
    capture: Capture,
    /// The next part, in whole blocks.
    writer: Writer<Vec<u8>>,
    frame: Vec<u8>,
    /// Frames in the capture so far, by port.
    captured: Vec<u64>,
    frames_left: Option<u64>,
    /// The time after which frames are not wanted.
    until_ns: Option<u64>,
    parts: mpsc::Sender<Part>,
    /// The last one's place, so that also who is slow can be told why it is over.
    last: OwnedPermit<Part>,
    sent: Instant,
    /// How long the stream may be full.
    patience: Duration,
}

/// Why there is nothing to be taken now.
enum Drained {
    Empty,
    /// The part is complete.
    Full,
    Over(End),
}

/// Why it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Bound(v1::CaptureEnd),
    ClientGone,
    ClientSlow,
}

impl Pump {
    /// Of a capture into a stream that is empty and has room for two parts at least.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the stream has no room.
    pub fn new(
        mut capture: Capture,
        bounds: Bounds,
        parts: mpsc::Sender<Part>,
        patience: Duration,
    ) -> Result<Pump, Status> {
        let full = |_| Status::resource_exhausted("the stream has no room");
        let last = parts.clone().try_reserve_owned().map_err(full)?;
        let names: Vec<&str> = capture.names().iter().map(String::as_str).collect();
        let snapshot_bytes = capture.snapshot_bytes() as u32;
        let writer = Writer::new(Vec::new(), &names, snapshot_bytes).map_err(unwritten)?;
        let captured = vec![0; names.len()];
        let time_ns = bounds.time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let now_ns = capture.now_ns();
        Ok(Pump {
            until_ns: time_ns.map(|time_ns| now_ns.saturating_add(time_ns)),
            capture,
            writer,
            frame: Vec::new(),
            captured,
            frames_left: bounds.frames,
            parts,
            last,
            sent: Instant::now(),
            patience,
        })
    }

    /// Writes until it is over.
    pub fn run(mut self) {
        self.capture.begins();
        let end = self.pump();
        let (captured, missed) = (self.captured.iter().sum::<u64>(), self.missed());
        let ports = self.capture.names().join(" ");
        tracing::info!(ports, captured, missed, ?end, "the capture ended");
        let counts = self.counts();
        let Pump { mut capture, writer, captured, last, patience, .. } = self;
        let part = match end {
            End::ClientGone => return,
            End::ClientSlow => Err(Status::resource_exhausted(format!(
                "the capture was ended: its client has not read for {} s",
                patience.as_secs()
            ))),
            End::Bound(end) => {
                let statistics: Vec<Statistics> = statistics(&capture, &captured).collect();
                let written = writer.finish(capture.now_ns(), &statistics);
                let part = |pcapng| v1::CaptureResponse { pcapng, counts, end: end.into() };
                written.map(part).map_err(unwritten)
            }
        };
        last.send(part);
    }

    fn pump(&mut self) -> End {
        let mut looked: Option<Instant> = None;
        let mut prospect = Prospect::More;
        loop {
            let now = Instant::now();
            if looked.is_none_or(|at| now - at >= HEARTBEAT) {
                (prospect, looked) = (self.capture.prospect(), Some(now));
            }
            let now_ns = self.capture.now_ns();
            let drained = self.drain();
            match (&drained, prospect) {
                (Drained::Over(end), _) => return *end,
                (Drained::Empty, Prospect::PortsGone) => {
                    return End::Bound(v1::CaptureEnd::PortsGone);
                }
                (Drained::Empty, Prospect::SwitchEnded) => {
                    return End::Bound(v1::CaptureEnd::Switch);
                }
                (Drained::Empty, Prospect::More) if self.is_past(now_ns) => {
                    return End::Bound(v1::CaptureEnd::Seconds);
                }
                (Drained::Empty | Drained::Full, _) => {}
            }
            match (self.offer(now), drained) {
                (Err(end), _) => return end,
                (Ok(Offered::Taken), Drained::Full) => {}
                (Ok(_), _) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn is_past(&self, time_ns: u64) -> bool {
        self.until_ns.is_some_and(|until_ns| time_ns > until_ns)
    }

    /// Takes frames until the part is complete.
    fn drain(&mut self) -> Drained {
        let mut frame = std::mem::take(&mut self.frame);
        let drained = loop {
            if self.writer.out().len() >= PART_BYTES {
                break Drained::Full;
            }
            let Some(label) = self.capture.take(&mut frame) else { break Drained::Empty };
            if self.is_past(label.time_ns) {
                break Drained::Over(End::Bound(v1::CaptureEnd::Seconds));
            }
            self.write(label, &frame);
            if self.frames_left == Some(0) {
                break Drained::Over(End::Bound(v1::CaptureEnd::Frames));
            }
        };
        self.frame = frame;
        drained
    }

    fn write(&mut self, label: Label, bytes: &[u8]) {
        let comment = label.dropped.map(comment);
        let packet = Packet {
            interface: label.device.into(),
            time_ns: label.time_ns,
            direction: label.way,
            length: label.length,
            bytes,
            comment: comment.as_deref(),
        };
        // Into memory: nothing stands against that.
        let _ = self.writer.packet(&packet);
        self.captured[usize::from(label.device)] += 1;
        self.frames_left = self.frames_left.map(|left| left.saturating_sub(1));
    }

    /// Hands the part to the stream, if there is something to say and room to say it.
    fn offer(&mut self, now: Instant) -> Result<Offered, End> {
        if self.parts.is_closed() {
            return Err(End::ClientGone);
        }
        let silence = now.saturating_duration_since(self.sent);
        if self.writer.out().is_empty() && silence < HEARTBEAT {
            return Ok(Offered::Nothing);
        }
        if self.parts.capacity() == 0 {
            return if silence < self.patience {
                Ok(Offered::Nothing)
            } else {
                Err(End::ClientSlow)
            };
        }
        let pcapng = std::mem::take(self.writer.out());
        let end = v1::CaptureEnd::Unspecified.into();
        let part = v1::CaptureResponse { pcapng, counts: self.counts(), end };
        self.sent = now;
        self.parts.try_send(Ok(part)).map_err(|_| End::ClientGone)?;
        Ok(Offered::Taken)
    }

    fn counts(&self) -> Vec<v1::CaptureCount> {
        let each = self.capture.names().iter().zip(&self.captured).enumerate();
        let count = |(index, (port, &captured)): (usize, (&String, &u64))| v1::CaptureCount {
            port: port.clone(),
            captured,
            missed: self.capture.missed(index),
        };
        each.map(count).collect()
    }

    fn missed(&self) -> u64 {
        (0..self.captured.len()).map(|index| self.capture.missed(index)).sum()
    }
}

enum Offered {
    Taken,
    Nothing,
}

fn statistics(capture: &Capture, captured: &[u64]) -> impl Iterator<Item = Statistics> {
    captured.iter().enumerate().map(|(index, captured)| {
        let missing = capture.missed(index);
        Statistics { passed: captured + missing, missing }
    })
}

/// What a dropped frame's comment says.
fn comment(reason: DropReason) -> String {
    format!("dropped: {reason}: {} {}", reason.meaning(), reason.remedy())
}

fn unwritten(error: std::io::Error) -> Status {
    Status::internal(format!("the capture could not be written: {error}"))
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::snapshot::Mode;
    use hairpin_dataplane::worker::capture::filter::Filter;
    use tonic::Code;

    use super::*;
    use crate::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
    use crate::switch::Switch;
    use crate::switch::capture::Wish;

    const LONG: Duration = Duration::from_secs(60);

    fn switch() -> Switch {
        let device = DeviceConfig::Memory(Default::default());
        let config = Config {
            links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
            ports: vec![PortConfig::station("vm1", "up0", Mode::Veb, device)],
            ..Config::default()
        };
        Switch::start(Desired::try_from(config).unwrap()).unwrap()
    }

    /// All parts of a capture whose stream holds three and is read at its end only.
    fn unread(switch: &Switch, bounds: Bounds, patience: Duration) -> Vec<Part> {
        let names = vec!["vm1".to_owned()];
        let wish = Wish { names, filter: Filter::default(), snapshot_bytes: 256 };
        let (parts, mut stream) = mpsc::channel(3);
        let pump = Pump::new(switch.capture(wish).unwrap(), bounds, parts, patience).unwrap();
        pump.run();
        std::iter::from_fn(|| stream.blocking_recv()).collect()
    }

    #[test]
    fn a_client_that_does_not_read_is_let_go_and_told_why() {
        let bounds = Bounds { frames: None, time: None };
        let parts = unread(&switch(), bounds, Duration::from_millis(100));
        let [Ok(head), Ok(heartbeat), Err(status)] = &parts[..] else { panic!("{parts:?}") };
        assert!(!head.pcapng.is_empty() && heartbeat.pcapng.is_empty());
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_capture_ends_when_its_time_is_over_or_its_switch_ends() {
        let switch = switch();
        let end = |parts: &[Part]| match parts {
            [Ok(_), .., Ok(last)] => (last.end(), !last.pcapng.is_empty()),
            other => panic!("{other:?}"),
        };
        let time = Some(Duration::from_millis(50));
        let parts = unread(&switch, Bounds { frames: None, time }, LONG);
        assert_eq!(end(&parts), (v1::CaptureEnd::Seconds, true));
        let other = switch.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            other.stop();
        });
        let parts = unread(&switch, Bounds { frames: None, time: None }, LONG);
        assert_eq!(end(&parts), (v1::CaptureEnd::Switch, true));
        stopper.join().unwrap();
    }
}
