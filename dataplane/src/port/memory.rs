//! The in-process device: a port whose other end is a value in this program.
//!
//! For tests, the lab and embedding. [`pair`] makes the two ends: a
//! [`MemoryDevice`] for the switch and an [`Endpoint`] for whoever plays the
//! guest, in the same thread or another. Frames the endpoint sends are viewed in
//! its ring without a copy, as a guest's are; frames for it are copied into the
//! other ring once.
//!
//! The cable between the two is as long as either exists: when the endpoint (or
//! its sending half) is dropped, the device reports [`Received::Lost`] after the
//! last frame, as a netdev that was deleted; when the device is dropped, sending
//! fails with [`SendError::Detached`].

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::frame_ring::{self, FrameReceiver, FrameSender};
use super::{Arena, Armed, Departure, Opened, Received, Receiver, Rung, Steering, Transmitter};
use crate::frame::{Batch, FRAME_BYTES_MAX, FRAME_SEGMENTS, Room};
use crate::ledger::DropReason;
use crate::sys::memory::{Place, RegionHint};
use crate::sys::spsc::{Peer, Rest};
use crate::wire::offload::{Capabilities, Offload};
use crate::wire::virtio_net;

/// What a pair is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Frames (pieces, where a frame is split) that may wait in each direction.
    pub slots: usize,
    /// Bytes that may wait in each direction, raised to a power of two in which the
    /// longest frame always finds room.
    pub bytes: usize,
    /// What the endpoint takes from the switch.
    pub capabilities: Capabilities,
}

impl Default for Config {
    fn default() -> Config {
        Config { slots: 1024, bytes: 2 << 20, capabilities: Capabilities::ALL }
    }
}

/// The switch's end.
#[derive(Debug)]
pub struct MemoryDevice {
    /// Its one receive queue.
    pub receiver: MemoryReceiver,
    /// Its one transmitter: shared, where several workers transmit.
    pub transmitter: MemoryTransmitter,
    /// What the endpoint takes.
    pub capabilities: Capabilities,
}

impl From<MemoryDevice> for Opened {
    fn from(device: MemoryDevice) -> Opened {
        Opened {
            receivers: vec![Receiver::Memory(device.receiver)],
            transmitters: vec![Transmitter::Memory(device.transmitter)],
            capabilities: device.capabilities,
            steering: Steering::ByWorker,
        }
    }
}

/// Two ends of a cable within this process.
///
/// # Errors
/// Those of mmap(2) and eventfd(2).
pub fn pair(config: Config) -> io::Result<(MemoryDevice, Endpoint)> {
    let (to_switch, from_endpoint) = frame_ring::ring(config.slots, config.bytes)?;
    let (to_endpoint, from_switch) = frame_ring::ring(config.slots, config.bytes)?;
    let device = MemoryDevice {
        receiver: MemoryReceiver {
            frames: from_endpoint,
            hint: RegionHint::default(),
            pieces: Vec::with_capacity(FRAME_SEGMENTS + 1),
        },
        transmitter: MemoryTransmitter { frames: to_endpoint },
        capabilities: config.capabilities,
    };
    let endpoint = Endpoint {
        sender: EndpointSender { frames: to_switch },
        receiver: EndpointReceiver {
            frames: from_switch,
            hint: RegionHint::default(),
            pieces: Vec::with_capacity(FRAME_SEGMENTS + 1),
        },
    };
    Ok((device, endpoint))
}

/// An offload as the endpoint sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carried {
    /// As a value.
    Plain(Offload),
    /// As a guest would: a virtio-net header, which need not make sense.
    Header([u8; virtio_net::HEADER_BYTES]),
}

impl Default for Carried {
    fn default() -> Carried {
        Carried::Plain(Offload::NONE)
    }
}

impl Carried {
    #[inline]
    fn decode(self) -> Result<Offload, DropReason> {
        match self {
            Carried::Plain(offload) => Ok(offload),
            Carried::Header(bytes) => {
                virtio_net::decode(&bytes).map_err(|_| DropReason::OffloadInvalid)
            }
        }
    }
}

/// What the switch receives from the endpoint.
#[derive(Debug)]
pub struct MemoryReceiver {
    frames: FrameReceiver<Carried>,
    hint: RegionHint,
    pieces: Vec<(u64, u32)>,
}

impl MemoryReceiver {
    /// See [`Receiver::receive`].
    #[inline]
    pub fn receive(&mut self, _: &mut Arena, batch: &mut Batch) -> Received {
        if self.frames.is_empty() {
            // Nothing to view: the batch need not share the memory.
            batch.end();
            return self.out_of_frames(batch);
        }
        batch.begin(self.frames.memory());
        while batch.room() == Room::More {
            let Some(carried) = self.frames.take(&mut self.pieces) else {
                return self.out_of_frames(batch);
            };
            match carried.decode() {
                Ok(offload) => batch.push(&mut self.hint, &self.pieces, offload),
                Err(reason) => batch.reject(reason),
            }
        }
        Received::More
    }

    /// Gone is only who has left nothing: not in the batch, and not in the ring
    /// behind our last look.
    fn out_of_frames(&mut self, batch: &Batch) -> Received {
        let gone = self.frames.peer() == Peer::Gone && self.frames.is_empty();
        if gone && batch.count() + batch.rejected().len() == 0 {
            Received::Lost
        } else {
            Received::Drained
        }
    }

    /// See [`Receiver::release`].
    #[inline]
    pub fn release(&mut self, batch: &mut Batch) {
        batch.end();
        self.frames.release();
    }

    /// See [`Receiver::arm`].
    pub fn arm(&mut self) -> Armed {
        match self.frames.arm() {
            Rest::Granted => Armed::Asleep,
            Rest::Refused => Armed::FramesWaiting,
        }
    }

    /// See [`Receiver::disarm`].
    pub fn disarm(&mut self) {
        self.frames.disarm();
    }

    /// See [`Receiver::wake_fd`].
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.frames.wake_fd()
    }
}

/// What the switch transmits to the endpoint.
#[derive(Debug)]
pub struct MemoryTransmitter {
    frames: FrameSender<Offload>,
}

impl MemoryTransmitter {
    /// See [`Transmitter::transmit`].
    #[inline]
    pub fn transmit(&mut self, departures: &mut [Departure<'_>]) {
        let there = self.frames.peer() == Peer::There;
        self.frames.refresh();
        for departure in departures.iter_mut().filter(|departure| departure.fate.is_ok()) {
            departure.fate =
                if there { self.push(departure) } else { Err(DropReason::DeviceError) };
        }
        self.frames.publish();
    }

    #[inline]
    fn push(&mut self, departure: &Departure<'_>) -> Result<(), DropReason> {
        self.frames
            .push(departure.length(), departure.offload, |place| {
                let (head, rest) = place.split(departure.header.len());
                head.write(departure.header);
                departure.body.copy_to(rest);
            })
            .map_err(|_| DropReason::RxRingFull)
    }

    /// See [`Transmitter::room`].
    #[inline]
    pub fn room(&mut self, wanted: usize, length: usize) -> usize {
        self.frames.room(wanted, length)
    }

    /// See [`Transmitter::ring`].
    #[inline]
    pub fn ring(&mut self) -> Rung {
        self.frames.wake();
        Rung::Heard
    }
}

/// Why a frame could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The switch has not pulled enough yet: wait and try again.
    #[error("the ring to the switch is full")]
    Full,
    /// The switch dropped the device.
    #[error("the device was detached from the switch")]
    Detached,
    /// No switch takes such a frame.
    #[error("the frame is longer than {FRAME_BYTES_MAX} bytes")]
    TooLong,
}

/// The guest's end: both directions; [`Endpoint::split`] it for two threads.
#[derive(Debug)]
pub struct Endpoint {
    sender: EndpointSender,
    receiver: EndpointReceiver,
}

/// The sending half of a guest's end.
#[derive(Debug)]
pub struct EndpointSender {
    frames: FrameSender<Carried>,
}

/// The receiving half of a guest's end.
#[derive(Debug)]
pub struct EndpointReceiver {
    frames: FrameReceiver<Offload>,
    hint: RegionHint,
    pieces: Vec<(u64, u32)>,
}

impl Endpoint {
    /// Both halves, for two threads.
    #[must_use]
    pub fn split(self) -> (EndpointSender, EndpointReceiver) {
        (self.sender, self.receiver)
    }

    /// See [`EndpointSender::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        self.sender.send(frame, offload)
    }

    /// See [`EndpointSender::send_split`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_split(&mut self, pieces: &[&[u8]], offload: Offload) -> Result<(), SendError> {
        self.sender.send_split(pieces, offload)
    }

    /// See [`EndpointSender::send_raw_offload`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_raw_offload(
        &mut self,
        frame: &[u8],
        header: [u8; virtio_net::HEADER_BYTES],
    ) -> Result<(), SendError> {
        self.sender.send_raw_offload(frame, header)
    }

    /// See [`EndpointSender::queue`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn queue(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        self.sender.queue(frame, offload)
    }

    /// See [`EndpointSender::flush`].
    pub fn flush(&mut self) {
        self.sender.flush();
    }

    /// See [`EndpointReceiver::receive`].
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> Option<Offload> {
        self.receiver.receive(frame)
    }

    /// See [`EndpointReceiver::wait`].
    pub fn wait(&mut self, timeout: Duration) {
        self.receiver.wait(timeout);
    }

    /// See [`EndpointReceiver::arm`].
    pub fn arm(&mut self) -> Armed {
        self.receiver.arm()
    }

    /// See [`EndpointReceiver::disarm`].
    pub fn disarm(&mut self) {
        self.receiver.disarm();
    }

    /// See [`EndpointReceiver::wake_fd`].
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.receiver.wake_fd()
    }

    /// Whether the switch still holds the device.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.sender.peer()
    }
}

impl EndpointSender {
    /// Sends a frame and wakes the switch if it sleeps.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        self.queue(frame, offload)?;
        self.flush();
        Ok(())
    }

    /// Sends a frame that lies in several pieces with gaps between them, as a guest
    /// does with a chain of descriptors.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send_split(&mut self, pieces: &[&[u8]], offload: Offload) -> Result<(), SendError> {
        self.check(pieces.iter().map(|piece| piece.len()).sum())?;
        self.frames.push_split(pieces, Carried::Plain(offload)).map_err(|_| SendError::Full)?;
        self.flush();
        Ok(())
    }

    /// Sends a frame with a virtio-net header as it stands, which the switch decodes
    /// as it does a guest's: for headers that make no sense.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send_raw_offload(
        &mut self,
        frame: &[u8],
        header: [u8; virtio_net::HEADER_BYTES],
    ) -> Result<(), SendError> {
        self.push(frame, Carried::Header(header))?;
        self.flush();
        Ok(())
    }

    /// Puts a frame into the ring; the switch sees it after [`EndpointSender::flush`].
    ///
    /// # Errors
    /// [`SendError`]; nothing is queued then.
    #[inline]
    pub fn queue(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        self.push(frame, Carried::Plain(offload))
    }

    #[inline]
    fn push(&mut self, frame: &[u8], carried: Carried) -> Result<(), SendError> {
        self.check(frame.len())?;
        let write = |place: Place<'_>| {
            place.write(frame);
        };
        self.frames.push(frame.len(), carried, write).map_err(|_| SendError::Full)
    }

    /// Shows the switch what was queued and wakes it if it sleeps: once per burst.
    #[inline]
    pub fn flush(&mut self) {
        self.frames.publish();
        self.frames.wake();
    }

    #[inline]
    fn check(&self, length: usize) -> Result<(), SendError> {
        match self.frames.peer() {
            Peer::Gone => Err(SendError::Detached),
            Peer::There if length > FRAME_BYTES_MAX => Err(SendError::TooLong),
            Peer::There => Ok(()),
        }
    }

    /// Whether the switch still holds the device.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.frames.peer()
    }
}

impl EndpointReceiver {
    /// The next frame from the switch, in place of what `frame` held.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> Option<Offload> {
        let offload = self.frames.take(&mut self.pieces)?;
        frame.clear();
        for &(address, length) in &self.pieces {
            let start = frame.len();
            frame.resize(start + length as usize, 0);
            let place = self.frames.memory().place(&mut self.hint, address, length);
            place.expect("what the switch sent lies within the ring").read(&mut frame[start..]);
        }
        self.frames.release();
        Some(offload)
    }

    /// Sleeps until there is a frame, the device is gone, or the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        self.frames.wait(timeout);
    }

    /// Asks for a wake-up on [`EndpointReceiver::wake_fd`], then looks again.
    pub fn arm(&mut self) -> Armed {
        match self.frames.arm() {
            Rest::Granted => Armed::Asleep,
            Rest::Refused => Armed::FramesWaiting,
        }
    }

    /// Takes the wake-up back and consumes it.
    pub fn disarm(&mut self) {
        self.frames.disarm();
    }

    /// What becomes readable when a wake-up was asked for and is due: for waiting
    /// on several endpoints with poll(2).
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.frames.wake_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{depart, frames, pattern, whole};
    use super::*;
    use crate::wire::offload::{Checksum, Ecn, Segmentation};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    struct Wire {
        device: MemoryDevice,
        endpoint: Endpoint,
        arena: Arena,
        batch: Batch,
    }

    fn wire(slots: usize) -> Wire {
        let config = Config { slots, bytes: 0, capabilities: Capabilities::ALL };
        let (device, endpoint) = pair(config).unwrap();
        Wire { device, endpoint, arena: Arena::new().unwrap(), batch: Batch::new() }
    }

    impl Wire {
        fn receive(&mut self) -> (Received, Vec<Vec<u8>>) {
            let received = self.device.receiver.receive(&mut self.arena, &mut self.batch);
            (received, frames(&self.batch))
        }

        fn release(&mut self) {
            self.device.receiver.release(&mut self.batch);
        }

        fn transmit(&mut self, frame: &[u8]) -> Result<(), DropReason> {
            let transmitter = &mut self.device.transmitter;
            depart(&[frame.to_vec()], Offload::NONE, |departures| transmitter.transmit(departures))
                [0]
        }
    }

    #[test]
    fn a_frame_in_pieces_is_one_view() {
        let mut wire = wire(8);
        let frame = pattern(1, 3000);
        let pieces = [&frame[..5], &frame[5..5], &frame[5..700], &frame[700..]];
        wire.endpoint.send_split(&pieces, Offload::NONE).unwrap();
        let (received, frames) = wire.receive();
        assert_eq!((received, frames), (Received::Drained, vec![frame]));
        assert_eq!(wire.batch.header(0).len(), 128);
        assert!(wire.batch.view(0).body.places().count() >= 2, "the body stays in pieces");
    }

    #[test]
    fn a_frame_of_too_many_pieces_is_rejected_alone() {
        let mut wire = wire(1024);
        let pieces = vec![&[7_u8; 4][..]; FRAME_SEGMENTS + 40];
        wire.endpoint.send_split(&pieces, Offload::NONE).unwrap();
        wire.endpoint.send_split(&pieces[..FRAME_SEGMENTS], Offload::NONE).unwrap();
        let (_, frames) = wire.receive();
        assert_eq!(wire.batch.rejected(), [DropReason::TooManySegments]);
        assert_eq!(frames, [vec![7; 4 * FRAME_SEGMENTS]]);
    }

    #[test]
    fn a_raw_offload_header_is_decoded_or_rejected() {
        let mut wire = wire(8);
        let good = [1, 1, 0, 0, 0xa8, 0x05, 34, 0, 16, 0, 0, 0];
        let bad = [1, 0x55, 0, 0, 0xa8, 0x05, 34, 0, 16, 0, 0, 0];
        for header in [good, bad, good] {
            wire.endpoint.send_raw_offload(&pattern(3, 4000), header).unwrap();
        }
        let (_, frames) = wire.receive();
        assert_eq!(frames, [pattern(3, 4000), pattern(3, 4000)]);
        assert_eq!(wire.batch.rejected(), [DropReason::OffloadInvalid]);
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Segmentation::Tcp4 { size: 1448, ecn: Ecn::Without },
        };
        assert_eq!(wire.batch.offload(1), offload);
    }

    #[test]
    fn what_is_not_released_blocks_the_ring() {
        let mut wire = wire(2);
        wire.endpoint.send(&[1; 60], Offload::NONE).unwrap();
        wire.endpoint.send(&[2; 60], Offload::NONE).unwrap();
        let (_, frames) = wire.receive();
        assert_eq!(frames.len(), 2);
        assert_eq!(wire.endpoint.send(&[3; 60], Offload::NONE), Err(SendError::Full));
        assert_eq!(whole(&wire.batch, 0), [1; 60], "the view is still the frame");
        wire.release();
        assert_eq!(wire.endpoint.send(&[3; 60], Offload::NONE), Ok(()));
    }

    #[test]
    fn the_longest_frame_always_finds_an_empty_ring_big_enough() {
        let mut wire = wire(4);
        for round in 0..40 {
            let short = pattern(round, 1 + round * 997 % 5000);
            let long = pattern(round + 1, FRAME_BYTES_MAX);
            wire.endpoint.send(&short, Offload::NONE).unwrap();
            wire.endpoint.send(&long, Offload::NONE).unwrap();
            let (_, frames) = wire.receive();
            assert!(frames == [short, long], "round {round}");
            wire.release();
        }
        let longer = vec![0; FRAME_BYTES_MAX + 1];
        assert_eq!(wire.endpoint.send(&longer, Offload::NONE), Err(SendError::TooLong));
    }

    #[test]
    fn a_full_receiver_loses_what_does_not_fit_and_no_more() {
        let mut wire = wire(2);
        assert_eq!(wire.device.transmitter.room(9, 60), 2);
        assert_eq!(wire.transmit(&[1; 60]), Ok(()));
        assert_eq!(wire.transmit(&pattern(2, 2000)), Ok(()));
        assert_eq!(wire.device.transmitter.room(9, 60), 0);
        assert_eq!(wire.transmit(&[3; 60]), Err(DropReason::RxRingFull));
        let mut frame = Vec::new();
        assert!(wire.endpoint.receive(&mut frame).is_some() && frame == [1; 60]);
        assert!(wire.endpoint.receive(&mut frame).is_some() && frame == pattern(2, 2000));
        assert_eq!(wire.endpoint.receive(&mut frame), None);
        assert_eq!(wire.transmit(&[4; 60]), Ok(()));
    }

    #[test]
    fn a_dropped_end_is_noticed_after_the_last_frame() {
        let mut wire = wire(4);
        wire.endpoint.send(&[1; 60], Offload::NONE).unwrap();
        let (mut sender, receiver) = wire.endpoint.split();
        drop(receiver);
        sender.send(&[2; 60], Offload::NONE).unwrap();
        drop(sender);
        assert_eq!(
            wire.device.receiver.receive(&mut wire.arena, &mut wire.batch),
            Received::Drained
        );
        assert_eq!(wire.batch.count(), 2);
        wire.device.receiver.release(&mut wire.batch);
        let again = wire.device.receiver.receive(&mut wire.arena, &mut wire.batch);
        assert_eq!(again, Received::Lost);
    }

    #[test]
    fn a_detached_device_refuses_frames() {
        let mut wire = wire(4);
        drop(wire.device);
        assert_eq!(wire.endpoint.send(&[1; 60], Offload::NONE), Err(SendError::Detached));
        let start = std::time::Instant::now();
        wire.endpoint.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(50), "the wait ended by itself");
    }

    #[test]
    fn both_sides_are_woken_once_they_sleep() {
        let mut wire = wire(64);
        let Wire { device, endpoint, arena, batch } = &mut wire;
        let (mut sender, mut receiver) = {
            let (_, spare) = pair(Config::default()).unwrap();
            std::mem::replace(endpoint, spare).split()
        };
        let thread = std::thread::spawn(move || {
            let mut frame = Vec::new();
            for round in 0..200_u32 {
                sender.send(&round.to_be_bytes(), Offload::NONE).unwrap();
                while receiver.receive(&mut frame).is_none() {
                    receiver.wait(Duration::from_secs(30));
                }
                assert_eq!(frame, round.to_be_bytes());
            }
        });
        let mut echoed = 0;
        while echoed < 200 {
            if device.receiver.arm() == Armed::Asleep {
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                    device.receiver.wake_fd(),
                    rustix::event::PollFlags::IN,
                )];
                rustix::event::poll(&mut fds, None).unwrap();
            }
            device.receiver.disarm();
            device.receiver.receive(arena, batch);
            for index in 0..batch.count() {
                let mut out = [Departure::from(batch.view(index))];
                device.transmitter.transmit(&mut out);
                assert_eq!(out[0].fate, Ok(()));
                echoed += 1;
            }
            device.receiver.release(batch);
            device.transmitter.ring();
        }
        thread.join().unwrap();
    }

    #[derive(Clone, Debug)]
    enum Op {
        Send { lengths: Vec<usize> },
        Receive,
        Release,
        Transmit { length: usize },
        Collect,
    }

    fn any_length() -> impl Strategy<Value = usize> {
        prop_oneof![0..200_usize, 1000..2000_usize, 30_000..FRAME_BYTES_MAX]
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => any_length().prop_map(|length| Op::Send { lengths: vec![length] }),
            1 => proptest::collection::vec(0..9000_usize, 2..6)
                .prop_map(|lengths| Op::Send { lengths }),
            2 => Just(Op::Receive),
            2 => Just(Op::Release),
            3 => any_length().prop_map(|length| Op::Transmit { length }),
            2 => Just(Op::Collect),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_pass_both_ways_unchanged(ops in proptest::collection::vec(any_op(), 1..120)) {
            let mut wire = wire(8);
            let (mut inbound, mut outbound) = (VecDeque::new(), VecDeque::new());
            let mut viewed = 0;
            for (seed, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Send { lengths } => {
                        let frame = pattern(seed, lengths.iter().sum());
                        let mut rest = &frame[..];
                        let pieces: Vec<&[u8]> = lengths
                            .iter()
                            .map(|&length| rest.split_off(..length).unwrap())
                            .collect();
                        match wire.endpoint.send_split(&pieces, Offload::NONE) {
                            Ok(()) => inbound.push_back(frame),
                            Err(error) => {
                                prop_assert_eq!(error, SendError::Full);
                                prop_assert!(inbound.len() + viewed > 0, "refused when empty");
                            }
                        }
                    }
                    Op::Receive if viewed == 0 => {
                        let (_, frames) = wire.receive();
                        viewed = frames.len();
                        for frame in frames {
                            prop_assert_eq!(Some(frame), inbound.pop_front());
                        }
                    }
                    Op::Receive | Op::Release => {
                        wire.release();
                        viewed = 0;
                    }
                    Op::Transmit { length } => {
                        let frame = pattern(seed, length);
                        let room = wire.device.transmitter.room(1, length);
                        let fate = wire.transmit(&frame);
                        prop_assert_eq!(fate.is_ok(), room == 1);
                        if fate.is_ok() {
                            outbound.push_back(frame);
                        }
                    }
                    Op::Collect => {
                        let mut frame = Vec::new();
                        while wire.endpoint.receive(&mut frame).is_some() {
                            prop_assert_eq!(Some(frame.clone()), outbound.pop_front());
                        }
                        prop_assert!(outbound.is_empty());
                    }
                }
            }
        }
    }
}
