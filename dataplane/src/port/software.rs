//! What an egress device lacks, done in software: checksums, segmentation.
//!
//! A frame passes here untouched where its device takes it as it is. Else its
//! checksum is filled in, or it is cut ([`crate::wire::segment`]) and its
//! segments are handed to the device, all of them or none.
//!
//! *The exception to the one copy.* A checksum covers bytes that their sender can
//! change between our summing and our copying them, and the receiver would find
//! a frame that nobody sent. So a body that is summed is first copied into
//! private memory, and the copy is summed stretch by stretch as it is made; the
//! device then takes the segments from there. That is one copy more, and only
//! where software fills in checksums: a device that takes checksums but no
//! segmentation gets segments whose bodies still lie with the sender.

use std::io;

use super::{Departure, Transmitter};
use crate::frame::{BATCH_FRAMES, FRAME_BYTES_MAX, HEADER_BYTES};
use crate::ledger::{Counters, DropReason};
use crate::sys::memory::{Body, Scratch};
use crate::wire::checksum::{self, Sum, Zero};
use crate::wire::ethernet::TAG_BYTES;
use crate::wire::offload::{Capabilities, Checksum, Lack, Offload, Segmentation, Support};
use crate::wire::segment::Plan;

/// Bytes of an edited private header: two tags more than it came with, rounded up
/// to whole cache lines.
const HEADER_ROOM: usize = (HEADER_BYTES + 2 * TAG_BYTES).next_multiple_of(64);

/// What became of the frames made here, in the order they were handed over.
type Fates = [Result<(), DropReason>; BATCH_FRAMES];

/// A worker's means to do what devices lack. It keeps nothing between calls.
pub struct Software {
    made: Box<[Made; BATCH_FRAMES]>,
    scratch: Scratch,
}

/// A frame made here, but for its body.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Made {
    bytes: [u8; HEADER_ROOM],
    length: usize,
    /// Bytes behind them.
    body: usize,
    offload: Offload,
    fate: Result<(), DropReason>,
}

/// What takes the frames: a [`Transmitter`], as far as it is needed here.
trait Egress {
    fn transmit(&mut self, departures: &mut [Departure<'_>]);
    fn room(&mut self, wanted: usize, length: usize) -> usize;
    fn fits(&self, length: usize) -> Result<(), DropReason>;
}

impl Egress for Transmitter {
    #[inline]
    fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        Transmitter::transmit(self, departures);
    }

    #[inline]
    fn room(&mut self, wanted: usize, length: usize) -> usize {
        Transmitter::room(self, wanted, length)
    }

    #[inline]
    fn fits(&self, length: usize) -> Result<(), DropReason> {
        Transmitter::fits(self, length)
    }
}

impl Software {
    /// Allocates once, here: 16 KiB of headers and 64 KiB of scratch.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<Software> {
        Ok(Software {
            made: Box::new([Made::EMPTY; BATCH_FRAMES]),
            scratch: Scratch::new(FRAME_BYTES_MAX, BATCH_FRAMES)?,
        })
    }

    /// Transmits these frames, in order, after doing what the device lacks, and
    /// says in each one's `fate` what became of it. Frames whose `fate` is an error
    /// already are passed over. A frame that is cut counts as one, the segments the
    /// device took in [`Counters::segments`].
    ///
    /// Fates besides the device's own: [`DropReason::MtuExceeded`] if a segment is longer
    /// than it takes; [`DropReason::RxRingFull`] if it has not room for all segments;
    /// [`DropReason::OffloadHeaderTooDeep`] if headers to be changed are not all in the
    /// private first bytes. An offload that contradicts its frame does not come this far
    /// ([`crate::wire::offload::check`] at the ingress); should one, it is lost for the
    /// latter reason, too. If a device refuses a segment although it had room, the frame's
    /// fate is that refusal.
    #[inline]
    pub fn transmit(
        &mut self,
        transmitter: &mut Transmitter,
        capabilities: &Capabilities,
        departures: &mut [Departure<'_>],
        counters: &Counters,
    ) {
        let mut offloads = departures.iter().map(|departure| departure.offload);
        if *capabilities == Capabilities::ALL || offloads.all(|offload| offload.is_none()) {
            transmitter.transmit(departures);
        } else {
            self.transmit_runs(transmitter, capabilities, departures, counters);
        }
    }

    /// Splits the frames into runs that lack the same, to keep their order.
    fn transmit_runs<E: Egress>(
        &mut self,
        egress: &mut E,
        capabilities: &Capabilities,
        departures: &mut [Departure<'_>],
        counters: &Counters,
    ) {
        let lack = |frame: &Departure<'_>| match frame.fate {
            Ok(()) => capabilities.lack(&frame.offload),
            Err(_) => Lack::Nothing,
        };
        for run in departures.chunk_by_mut(|one, next| lack(one) == lack(next)) {
            match run.first().map_or(Lack::Nothing, lack) {
                Lack::Nothing => pass(egress, capabilities, run),
                Lack::Checksum => self.complete(egress, run),
                Lack::Segmentation => self.cut_each(egress, Support::Taken, run, counters),
                Lack::SegmentationAndChecksum => {
                    self.cut_each(egress, Support::Lacking, run, counters);
                }
            }
        }
    }

    /// Transmits frames whose checksums are to be filled in.
    fn complete<E: Egress>(&mut self, egress: &mut E, frames: &mut [Departure<'_>]) {
        let mut rest = frames;
        while !rest.is_empty() {
            let count = self.gather(rest);
            let (now, later) = rest.split_at_mut(count.max(1));
            let fates = match count {
                0 => [Err(DropReason::OffloadHeaderTooDeep); BATCH_FRAMES],
                _ => send(egress, &self.made[..count], |index, _| self.scratch.body(index)),
            };
            now.iter_mut().zip(fates).for_each(|(frame, fate)| frame.fate = fate);
            rest = later;
        }
    }

    /// Copies frames, as many as fit, and fills in their checksums; says how many.
    fn gather(&mut self, frames: &[Departure<'_>]) -> usize {
        self.scratch.clear();
        let copied = self.made.iter_mut().zip(frames).map_while(|(made, frame)| {
            let mut rest = Sum::ZERO;
            self.scratch.fill(frame.body, |stretch| rest.add(stretch))?;
            made.fate = made.complete(frame, rest).ok_or(DropReason::OffloadHeaderTooDeep);
            Some(())
        });
        copied.count()
    }

    fn cut_each<E: Egress>(
        &mut self,
        egress: &mut E,
        checksum: Support,
        frames: &mut [Departure<'_>],
        counters: &Counters,
    ) {
        for frame in frames {
            frame.fate = self.cut(egress, checksum, frame, counters);
        }
    }

    /// Transmits the segments of a frame, all or none. What the device does with
    /// checksums decides where they leave from: the sender's memory, or a copy.
    fn cut<E: Egress>(
        &mut self,
        egress: &mut E,
        checksum: Support,
        frame: &Departure<'_>,
        counters: &Counters,
    ) -> Result<(), DropReason> {
        let plan = plan(frame).ok_or(DropReason::OffloadHeaderTooDeep)?;
        egress.fits(plan.length_max())?;
        if egress.room(plan.count(), plan.length_max()) < plan.count() {
            return Err(DropReason::RxRingFull);
        }
        let (mut fate, mut body) = (Ok(()), frame.body);
        for first in (0..plan.count()).step_by(BATCH_FRAMES) {
            let count = BATCH_FRAMES.min(plan.count() - first);
            self.write(&plan, frame, first, count);
            let fates = match checksum {
                Support::Taken => {
                    send(egress, &self.made[..count], |_, made| advance(&mut body, made.body))
                }
                Support::Lacking => {
                    self.sum(&plan, &mut body, count)?;
                    send(egress, &self.made[..count], |index, _| self.scratch.body(index))
                }
            };
            counters.segments.add(fates[..count].iter().filter(|fate| fate.is_ok()).count() as u64);
            fate = fates[..count].iter().fold(fate, |fate, next| fate.and(*next));
        }
        fate
    }

    /// Writes the first bytes of the segments from `first` on.
    fn write(&mut self, plan: &Plan, frame: &Departure<'_>, first: usize, count: usize) {
        for (index, made) in self.made[..count].iter_mut().enumerate() {
            let segment = plan.write(frame.header, first + index, &mut made.bytes);
            (made.length, made.body) = (segment.header, segment.body.len());
            made.offload = Offload { segmentation: Segmentation::None, ..frame.offload };
            made.fate = Ok(());
        }
    }

    /// Copies the bodies of the segments written, the next ones of `body`, and
    /// fills in their checksums.
    fn sum(&mut self, plan: &Plan, body: &mut Body<'_>, count: usize) -> Result<(), DropReason> {
        self.scratch.clear();
        for made in &mut self.made[..count] {
            let mut rest = Sum::ZERO;
            let piece = advance(body, made.body);
            let copied = self.scratch.fill(piece, |stretch| rest.add(stretch));
            copied.ok_or(DropReason::OffloadHeaderTooDeep)?;
            plan.complete(&mut made.bytes[..made.length], rest);
            made.offload = Offload::NONE;
        }
        Ok(())
    }
}

impl Made {
    const EMPTY: Made =
        Made { bytes: [0; HEADER_ROOM], length: 0, body: 0, offload: Offload::NONE, fate: Ok(()) };

    /// Becomes `frame` with its checksum filled in; `rest` is its body's sum.
    fn complete(&mut self, frame: &Departure<'_>, rest: Sum) -> Option<()> {
        (self.length, self.body, self.offload) = (0, frame.body.length(), Offload::NONE);
        let Checksum::Partial { start, offset } = frame.offload.checksum else { return None };
        let bytes = self.bytes.get_mut(..frame.header.len())?;
        bytes.copy_from_slice(frame.header);
        self.length = bytes.len();
        checksum::complete(bytes, start.into(), offset.into(), rest, Zero::Mangled)
    }
}

/// Transmits frames that the device takes as they are.
fn pass<E: Egress>(egress: &mut E, capabilities: &Capabilities, frames: &mut [Departure<'_>]) {
    if capabilities.checksum == Support::Lacking {
        // Who does not negotiate checksums must not be told of them (virtio 1.2,
        // 5.1.6.4.1), not even that one has been verified.
        frames.iter_mut().for_each(|frame| match frame.offload.checksum {
            Checksum::Valid => frame.offload.checksum = Checksum::Unknown,
            Checksum::Unknown | Checksum::Partial { .. } => {}
        });
    }
    egress.transmit(frames);
}

/// How a frame is cut, if that can be done in the private bytes there are.
fn plan(frame: &Departure<'_>) -> Option<Plan> {
    if frame.header.len() > HEADER_ROOM {
        return None;
    }
    Plan::new(frame.header, frame.length(), &frame.offload).ok()
}

/// Takes the first `count` bytes off a body.
fn advance<'b>(body: &mut Body<'b>, count: usize) -> Body<'b> {
    let first = body.slice(0, count);
    *body = body.slice(count, body.length());
    first
}

/// Hands frames made here to the device: `body` gives each one's.
fn send<'m, E: Egress>(
    egress: &mut E,
    made: &'m [Made],
    mut body: impl FnMut(usize, &Made) -> Body<'m>,
) -> Fates {
    let empty = Departure { header: &[], body: Body::EMPTY, offload: Offload::NONE, fate: Ok(()) };
    let mut departures = [empty; BATCH_FRAMES];
    for (index, (departure, made)) in departures.iter_mut().zip(made).enumerate() {
        let header = &made.bytes[..made.length];
        let body = body(index, made);
        *departure = Departure { header, body, offload: made.offload, fate: made.fate };
    }
    egress.transmit(&mut departures[..made.len()]);
    departures.map(|departure| departure.fate)
}

impl std::fmt::Debug for Software {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Software").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::{Memory, RegionHint, Spans};
    use crate::wire::layout::Network;
    use crate::wire::segment;
    use crate::wire::specimen::{Specimen, any_specimen};
    use proptest::prelude::*;
    use std::sync::Arc;

    const CHECKSUMS_ONLY: Capabilities =
        Capabilities { checksum: Support::Taken, ..Capabilities::NONE };

    /// A sender's memory with one frame behind its private header.
    struct Sender {
        memory: Arc<Memory>,
        spans: Spans,
        header: Vec<u8>,
    }

    impl Sender {
        const ROOM: u32 = 1 << 17;

        /// The body lies in pieces of at most `piece` bytes, with gaps.
        fn of(frame: &[u8], piece: usize) -> Sender {
            let memory = Arc::new(Memory::arena(Sender::ROOM as usize).unwrap());
            let mut spans = Spans::with_capacity(256);
            spans.begin(&memory);
            let (header, body) = frame.split_at(frame.len().min(HEADER_BYTES));
            let (mut hint, mut address) = (RegionHint::default(), 5);
            for bytes in body.chunks(piece) {
                let length = bytes.len() as u32;
                memory.place(&mut hint, address, length).unwrap().write(bytes);
                spans.push(&mut hint, (address, length), 0).unwrap();
                address += u64::from(length) + 3;
            }
            Sender { memory, spans, header: header.to_vec() }
        }

        fn departure(&self, offload: Offload) -> Departure<'_> {
            let body = self.spans.body(0, self.spans.count());
            Departure { header: &self.header, body, offload, fate: Ok(()) }
        }
    }

    /// A device that keeps what it is given, as many frames as it has room for.
    struct Recorder {
        room: usize,
        /// Bytes of the longest frame it takes.
        longest: usize,
        frames: Vec<(Vec<u8>, Offload)>,
        /// Memory whose owner overwrites it just before the device copies.
        hostile: Option<Arc<Memory>>,
    }

    impl Recorder {
        fn with_room(room: usize) -> Recorder {
            Recorder { room, longest: usize::MAX, frames: Vec::new(), hostile: None }
        }

        fn bytes(&self) -> Vec<Vec<u8>> {
            self.frames.iter().map(|(bytes, _)| bytes.clone()).collect()
        }
    }

    impl Egress for Recorder {
        fn transmit(&mut self, departures: &mut [Departure<'_>]) {
            assert!(departures.len() <= BATCH_FRAMES);
            if let Some(memory) = &self.hostile {
                let place = memory.place(&mut RegionHint::default(), 0, Sender::ROOM).unwrap();
                place.write(&vec![0x66; Sender::ROOM as usize]);
            }
            for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
                if self.frames.len() == self.room {
                    departure.fate = Err(DropReason::RxRingFull);
                    continue;
                }
                let mut body = vec![0; departure.body.length()];
                departure.body.read(&mut body);
                self.frames.push(([departure.header, &body].concat(), departure.offload));
            }
        }

        fn room(&mut self, wanted: usize, _: usize) -> usize {
            wanted.min(self.room - self.frames.len())
        }

        fn fits(&self, length: usize) -> Result<(), DropReason> {
            if length > self.longest { Err(DropReason::MtuExceeded) } else { Ok(()) }
        }
    }

    /// Transmits, and says each frame's fate and the segments counted.
    fn run(
        recorder: &mut Recorder,
        capabilities: &Capabilities,
        departures: &mut [Departure<'_>],
    ) -> (Vec<Result<(), DropReason>>, u64) {
        let counters = Counters::default();
        let mut software = Software::new().unwrap();
        software.transmit_runs(recorder, capabilities, departures, &counters);
        let fates = departures.iter().map(|departure| departure.fate).collect();
        (fates, counters.segments.get())
    }

    #[test]
    fn frames_keep_their_order_whatever_they_lack() {
        let (cut, sum) = (Specimen::tcp(3000, 1000), Specimen::tcp(700, 0));
        let complete = Specimen::tcp(5, 0).completed();
        let senders =
            [Sender::of(&cut.frame(), 999), Sender::of(&sum.frame(), 99), Sender::of(&complete, 9)];
        let valid = Offload { checksum: Checksum::Valid, ..Offload::NONE };
        let [cut_one, sum_one, complete_one] = [
            senders[0].departure(cut.offload()),
            senders[1].departure(sum.checksum_offload()),
            senders[2].departure(valid),
        ];
        let lost = Departure { fate: Err(DropReason::PortDown), ..sum_one };
        let mut departures =
            [complete_one, sum_one, sum_one, cut_one, lost, complete_one, sum_one, cut_one];
        let mut recorder = Recorder::with_room(100);
        let (fates, segments) = run(&mut recorder, &Capabilities::NONE, &mut departures);
        let segment = cut.segments();
        let whole = sum.completed();
        let expected = [
            &[complete.clone(), whole.clone(), whole.clone()],
            &segment[..],
            &[complete, whole],
            &segment[..],
        ];
        assert_eq!(recorder.bytes(), expected.concat());
        assert!(recorder.frames.iter().all(|(_, offload)| *offload == Offload::NONE));
        assert_eq!(segments, 6);
        assert_eq!(fates.iter().filter(|fate| fate.is_ok()).count(), 7);
        assert_eq!(fates[4], Err(DropReason::PortDown));
    }

    #[test]
    fn a_burst_of_large_checksums_is_more_than_the_scratch_holds() {
        let specimen = Specimen::tcp(9000, 0);
        let sender = Sender::of(&specimen.frame(), 4000);
        let mut departures = [sender.departure(specimen.checksum_offload()); BATCH_FRAMES];
        let mut recorder = Recorder::with_room(100);
        let (fates, _) = run(&mut recorder, &Capabilities::NONE, &mut departures);
        assert!(fates.iter().all(Result::is_ok));
        assert_eq!(recorder.bytes(), vec![specimen.completed(); BATCH_FRAMES]);
    }

    #[test]
    fn all_segments_leave_or_none() {
        let specimen = Specimen::tcp(65_000, 1000);
        let sender = Sender::of(&specimen.frame(), 4096);
        let expected = specimen.segments();
        assert_eq!(expected.len(), 65, "more than a batch");
        for (room, fate) in [(64, Err(DropReason::RxRingFull)), (65, Ok(()))] {
            for capabilities in [Capabilities::NONE, CHECKSUMS_ONLY] {
                let mut departures = [sender.departure(specimen.offload())];
                let mut recorder = Recorder::with_room(room);
                let (fates, segments) = run(&mut recorder, &capabilities, &mut departures);
                assert_eq!(fates, [fate]);
                let made = if fate.is_ok() { 65 } else { 0 };
                assert_eq!((segments, recorder.frames.len()), (made as u64, made));
                if capabilities == Capabilities::NONE {
                    assert_eq!(recorder.bytes(), expected[..made]);
                }
            }
        }
    }

    #[test]
    fn what_was_summed_is_what_leaves() {
        let specimen = Specimen::tcp(5000, 1000);
        for (offload, expected) in [
            (specimen.offload(), specimen.segments()),
            (specimen.checksum_offload(), vec![specimen.completed()]),
        ] {
            let sender = Sender::of(&specimen.frame(), 700);
            let hostile = Some(Arc::clone(&sender.memory));
            let mut recorder = Recorder { hostile, ..Recorder::with_room(9) };
            run(&mut recorder, &Capabilities::NONE, &mut [sender.departure(offload)]);
            assert_eq!(recorder.bytes(), expected);
        }
    }

    #[test]
    fn headers_out_of_sight_are_named() {
        let specimen = Specimen {
            network: Network::Ipv6,
            network_options: vec![11],
            ..Specimen::tcp(3000, 1000)
        };
        let sender = Sender::of(&specimen.frame(), 700);
        let near = Specimen::tcp(100, 0);
        let other = Sender::of(&near.frame(), 700);
        let mut departures = [
            sender.departure(specimen.offload()),
            sender.departure(specimen.checksum_offload()),
            other.departure(near.checksum_offload()),
        ];
        let mut recorder = Recorder::with_room(9);
        let (fates, segments) = run(&mut recorder, &Capabilities::NONE, &mut departures);
        let deep = Err(DropReason::OffloadHeaderTooDeep);
        assert_eq!((fates, segments), (vec![deep, deep, Ok(())], 0));
        assert_eq!(recorder.bytes(), [near.completed()]);
    }

    #[test]
    fn what_contradicts_its_frame_harms_nobody() {
        let specimen = Specimen::tcp(3000, 1000);
        let (udp, sender) = (Segmentation::Udp { size: 1 }, Sender::of(&specimen.frame(), 700));
        let naked = Offload { checksum: Checksum::Unknown, ..specimen.offload() };
        let wrong = Offload { segmentation: udp, ..specimen.offload() };
        let outside = Checksum::Partial { start: u16::MAX, offset: u16::MAX };
        let outside = Offload { checksum: outside, ..Offload::NONE };
        let mut departures = [naked, wrong, outside].map(|offload| sender.departure(offload));
        let mut recorder = Recorder::with_room(9);
        let (fates, _) = run(&mut recorder, &Capabilities::NONE, &mut departures);
        assert_eq!(fates, [Err(DropReason::OffloadHeaderTooDeep); 3]);
        assert!(recorder.frames.is_empty());
    }

    /// Not even the last one goes, which may be short.
    #[test]
    fn segments_that_are_too_long_for_the_device_are_named() {
        let specimen = Specimen::tcp(3000, 1400);
        let sender = Sender::of(&specimen.frame(), 700);
        let longest = specimen.segments().iter().map(Vec::len).max().unwrap();
        for (longest, fate, frames) in
            [(longest, Ok(()), 3), (longest - 1, Err(DropReason::MtuExceeded), 0)]
        {
            let mut recorder = Recorder { longest, ..Recorder::with_room(9) };
            let mut departures = [sender.departure(specimen.offload())];
            let (fates, _) = run(&mut recorder, &Capabilities::NONE, &mut departures);
            assert_eq!((fates, recorder.frames.len()), (vec![fate], frames));
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_cut_and_completed(specimen in any_specimen(), piece in 60..5000_usize) {
            let sender = Sender::of(&specimen.frame(), piece);
            let mut recorder = Recorder::with_room(300);
            let mut departures = [
                sender.departure(specimen.offload()), sender.departure(specimen.checksum_offload())
            ];
            let (fates, segments) = run(&mut recorder, &Capabilities::NONE, &mut departures);
            prop_assert_eq!(fates, [Ok(()), Ok(())]);
            let expected = [specimen.segments(), vec![specimen.completed()]].concat();
            prop_assert_eq!(segments as usize, expected.len() - 1);
            prop_assert_eq!(recorder.bytes(), expected);
        }

        #[test]
        fn a_device_that_takes_checksums_gets_segments_to_complete(
            specimen in any_specimen(), piece in 60..5000_usize
        ) {
            let sender = Sender::of(&specimen.frame(), piece);
            let mut recorder = Recorder::with_room(300);
            let mut departures = [sender.departure(specimen.offload())];
            run(&mut recorder, &CHECKSUMS_ONLY, &mut departures);
            let device = |(frame, offload): &(Vec<u8>, Offload)| {
                let frames = segment::to_frames(frame, offload);
                assert_eq!(*offload, specimen.checksum_offload());
                frames.unwrap().remove(0)
            };
            let made: Vec<_> = recorder.frames.iter().map(device).collect();
            // Left to the device, a checksum of zero is written as 0xffff in TCP, too.
            let mangled = |mut frame: Vec<u8>| {
                let field = specimen.start() + specimen.transport.checksum_offset();
                if frame[field..field + 2] == [0, 0] {
                    frame[field..field + 2].fill(0xff);
                }
                frame
            };
            prop_assert_eq!(made, specimen.segments().into_iter().map(mangled).collect::<Vec<_>>());
        }
    }
}
