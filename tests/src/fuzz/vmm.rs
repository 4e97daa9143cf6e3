//! Messages as a front end sends them: with any payload, in any pieces, with any
//! descriptors.
//!
//! A message is 1 byte each for its request, flags, descriptors, payload and pieces, then
//! the descriptors' kinds and the payload's words.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::input::Input;

/// Where the guest's memory is, as buffers are addressed.
pub const GUEST: u64 = 0x10_0000;
/// The same, as rings are.
pub const USER: u64 = 0x7f00_0000_0000;
/// Its size.
pub const MEMORY_BYTES: u64 = 0x4_0000;
/// From one ring to the next; a ring's areas lie a quarter of it apart.
pub const RING_BYTES: u64 = 0x4000;
/// What a ring's descriptors, driver area and device area begin after.
pub const AREAS: [u64; 3] = [0, 0x1000, 0x2000];
/// Where buffers begin, behind four rings.
pub const BUFFERS: u64 = 4 * RING_BYTES;

/// GET_FEATURES.
pub const GET_FEATURES: u8 = 1;
/// SET_FEATURES.
pub const SET_FEATURES: u8 = 2;
/// SET_MEM_TABLE.
pub const SET_MEM_TABLE: u8 = 5;
/// SET_VRING_NUM.
pub const SET_VRING_NUM: u8 = 8;
/// SET_VRING_ADDR.
pub const SET_VRING_ADDR: u8 = 9;
/// SET_VRING_BASE.
pub const SET_VRING_BASE: u8 = 10;
/// GET_VRING_BASE.
pub const GET_VRING_BASE: u8 = 11;
/// SET_VRING_KICK.
pub const SET_VRING_KICK: u8 = 12;
/// SET_VRING_CALL.
pub const SET_VRING_CALL: u8 = 13;
/// SET_VRING_ERR.
pub const SET_VRING_ERR: u8 = 14;
/// SET_PROTOCOL_FEATURES.
pub const SET_PROTOCOL_FEATURES: u8 = 16;
/// SET_VRING_ENABLE.
pub const SET_VRING_ENABLE: u8 = 18;
/// RESET_DEVICE.
pub const RESET_DEVICE: u8 = 34;
/// ADD_MEM_REG.
pub const ADD_MEM_REG: u8 = 37;
/// REM_MEM_REG.
pub const REM_MEM_REG: u8 = 38;

/// What most front ends agree on.
pub const MODERN: Features =
    Features::VERSION_1.with(Features::MRG_RXBUF).with(Features::PROTOCOL_FEATURES);

/// Feature sets that make a difference.
pub const FEATURES: [Features; 6] = [
    MODERN,
    MODERN.with(Features::RING_PACKED),
    MODERN.with(Features::INDIRECT_DESC).with(Features::EVENT_IDX),
    Features::OFFERED,
    Features::OFFERED.without(Features::RING_PACKED),
    Features::VERSION_1,
];

/// A message's header: version 1, nothing asked.
const PLAIN: u32 = 1;
/// The same, to be acknowledged.
const ASKED: u32 = 1 | 1 << 3;
/// Descriptors that one sendmsg(2) can carry.
const SENT_MAX: usize = 253;

/// What is sent at once.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The header and the payload.
    pub bytes: Vec<u8>,
    /// Bytes sent at a time.
    pub piece: usize,
    /// What comes with the first piece.
    pub descriptors: Vec<Kind>,
}

/// What a descriptor is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A memfd of the guest's memory.
    Memory,
    /// The same one as last time.
    SameMemory,
    /// A memfd that is too short.
    Short,
    /// An eventfd.
    Eventfd,
    /// The end of a pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A directory.
    Directory,
    /// A memfd that can only be read.
    ReadOnly,
}

const KINDS: [Kind; 8] = [
    Kind::Memory,
    Kind::Eventfd,
    Kind::SameMemory,
    Kind::Short,
    Kind::Pipe,
    Kind::Socket,
    Kind::Directory,
    Kind::ReadOnly,
];

impl Shot {
    /// A message that asks to be acknowledged, in one piece.
    #[must_use]
    pub fn new(code: u8, words: &[u64], descriptors: &[Kind]) -> Shot {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = header(code, ASKED, payload.len() as u32);
        bytes.extend(payload);
        Shot { bytes, piece: usize::MAX, descriptors: descriptors.to_vec() }
    }

    /// Any message.
    pub fn draw(input: &mut Input<'_>) -> Shot {
        let code = input.byte() & 0x3f;
        let flags = match input.byte() {
            ..112 => ASKED,
            112..224 => PLAIN,
            _ => input.word32(),
        };
        let descriptors = descriptors(input);
        let shape = input.byte();
        let piece = match input.byte() {
            0 => usize::MAX,
            bytes => bytes.into(),
        };
        let words = match shape >> 4 {
            ..12 => words_of(code, descriptors.len()),
            _ => usize::from(shape & 15),
        };
        let mut payload: Vec<u8> = (0..words).flat_map(|_| word(input).to_ne_bytes()).collect();
        if code == SET_MEM_TABLE && shape >> 4 < 12 {
            payload[..8].copy_from_slice(&(descriptors.len() as u64).to_ne_bytes());
        }
        let size = match shape {
            0xb0..=0xbf => input.word32(),
            _ => payload.len() as u32,
        };
        let mut bytes = header(code, flags, size);
        bytes.append(&mut payload);
        Shot { bytes, piece, descriptors }
    }
}

fn header(code: u8, flags: u32, size: u32) -> Vec<u8> {
    [u32::from(code), flags, size].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// How many words a request's payload has.
fn words_of(code: u8, descriptors: usize) -> usize {
    match code {
        1 | 3 | 4 | 15 | 17 | 34 | 36 => 0,
        SET_MEM_TABLE => 1 + 4 * descriptors.min(8),
        SET_VRING_ADDR | ADD_MEM_REG | REM_MEM_REG => 5,
        _ => 1,
    }
}

fn descriptors(input: &mut Input<'_>) -> Vec<Kind> {
    let kind = |input: &mut Input<'_>| input.one_of(&KINDS);
    match input.byte() {
        0xff => vec![kind(input); SENT_MAX],
        0xfe => (0..9).map(|_| kind(input)).collect(),
        number => (0..number % 8 % 5).map(|_| kind(input)).collect(),
    }
}

/// A word of a payload.
fn word(input: &mut Input<'_>) -> u64 {
    let byte = input.byte();
    let low = u64::from(byte & 7);
    match byte {
        ..64 => u64::from(byte),
        // A ring and a number.
        64..96 => low | u64::from(input.byte()) << 32,
        96..112 => low | input.one_of(&[256, 8, 1, 2, 32768, 32769, 0xffff_ffff, 7]) << 32,
        // An address of a ring's, or near it.
        112..160 => USER + low * 0x1000 + u64::from(byte >> 3 & 3) * RING_BYTES,
        160..176 => GUEST + low * MEMORY_BYTES / 8,
        176..192 => USER + low * MEMORY_BYTES / 8,
        192..208 => MEMORY_BYTES >> (byte & 7),
        208..224 => FEATURES[usize::from(byte) % FEATURES.len()].bits(),
        _ => input.word64(),
    }
}

/// SET_VRING_ADDR's payload for a ring where it usually lies.
#[must_use]
pub fn addresses(ring: u64) -> [u64; 5] {
    let [descriptors, driver, device] = AREAS.map(|area| USER + ring * RING_BYTES + area);
    [ring, descriptors, device, driver, 0]
}

/// The messages that bring a device up: features, memory, and the first rings of `size`
/// entries.
#[must_use]
pub fn bring_up(features: Features, rings: u64, size: u64) -> Vec<Shot> {
    let protocol = ProtocolFeatures::OFFERED.bits();
    let table = [1, GUEST, MEMORY_BYTES, USER, 0];
    let mut shots = vec![
        Shot::new(SET_PROTOCOL_FEATURES, &[protocol], &[]),
        Shot::new(SET_FEATURES, &[features.bits()], &[]),
        Shot::new(SET_MEM_TABLE, &table, &[Kind::Memory]),
    ];
    for ring in 0..rings {
        shots.extend([
            Shot::new(SET_VRING_NUM, &[ring | size << 32], &[]),
            Shot::new(SET_VRING_ADDR, &addresses(ring), &[]),
            Shot::new(SET_VRING_CALL, &[ring], &[Kind::Eventfd]),
            Shot::new(SET_VRING_KICK, &[ring], &[Kind::Eventfd]),
            Shot::new(SET_VRING_ENABLE, &[ring | 1 << 32], &[]),
        ]);
    }
    shots
}

/// A front end's end of the socket, and the memory it lent.
#[derive(Debug)]
pub struct Vmm {
    peer: UnixStream,
    /// The last memory that was sent.
    memory: Option<File>,
}

impl Vmm {
    /// A front end, and the back end's end of its socket.
    ///
    /// # Panics
    /// If there are no sockets to be had.
    #[must_use]
    pub fn connect() -> (Vmm, UnixStream) {
        let (peer, ours) = UnixStream::pair().expect("a pair of sockets");
        peer.set_nonblocking(true).expect("a socket can be made not to block");
        (Vmm { peer, memory: None }, ours)
    }

    /// Sends a shot piece by piece, with `between` called after each. Ends early if the
    /// back end does not take it.
    pub fn fire(&mut self, shot: &Shot, mut between: impl FnMut()) {
        let whole = shot.bytes.len();
        let mut pieces = shot.bytes.chunks(shot.piece.min(whole).max(1));
        let first = pieces.next().unwrap_or_default();
        if self.send(first, &shot.descriptors).is_err() {
            return;
        }
        between();
        for piece in pieces {
            if (&self.peer).write_all(piece).is_err() {
                return;
            }
            between();
        }
    }

    /// Sends bytes with descriptors.
    fn send(&mut self, bytes: &[u8], kinds: &[Kind]) -> io::Result<()> {
        let made: Vec<OwnedFd> = match kinds {
            // Many of one kind are copies.
            [kind, ..] if kinds.len() == SENT_MAX => {
                let one = self.make(*kind)?;
                (1..SENT_MAX).map(|_| one.try_clone()).collect::<io::Result<_>>()?
            }
            _ => kinds.iter().map(|kind| self.make(*kind)).collect::<io::Result<_>>()?,
        };
        let fds: Vec<_> = made.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SENT_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        sendmsg(&self.peer, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn make(&mut self, kind: Kind) -> io::Result<OwnedFd> {
        Ok(match kind {
            Kind::Memory => self.lend(MEMORY_BYTES)?,
            Kind::Short => self.lend(MEMORY_BYTES / 2 - 1)?,
            Kind::SameMemory => match &self.memory {
                Some(memory) => memory.try_clone()?.into(),
                None => self.lend(MEMORY_BYTES)?,
            },
            Kind::Eventfd => rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?,
            Kind::Pipe => io::pipe()?.1.into(),
            Kind::Socket => UnixStream::pair()?.0.into(),
            Kind::Directory => File::open("/")?.into(),
            Kind::ReadOnly => {
                use std::os::fd::AsRawFd;
                let memory = self.lend(MEMORY_BYTES)?;
                File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?.into()
            }
        })
    }

    fn lend(&mut self, bytes: u64) -> io::Result<OwnedFd> {
        let memory = File::from(memfd_create(MEMORY_NAME, MemfdFlags::CLOEXEC)?);
        memory.set_len(bytes)?;
        let copy = memory.try_clone()?;
        self.memory = Some(memory);
        Ok(copy.into())
    }

    /// The last memory that was sent.
    #[must_use]
    pub fn memory(&self) -> Option<&File> {
        self.memory.as_ref()
    }

    /// Cuts it short, to so many bytes.
    pub fn truncate(&self, bytes: u64) {
        if let Some(memory) = &self.memory {
            // Never longer: memory that came back would be none of this guest's.
            let now = memory.metadata().map_or(0, |it| it.len());
            let _ = memory.set_len(bytes.min(now));
        }
    }

    /// What the back end said since the last time.
    pub fn hear(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        // Would block, or is closed: what came before that counts.
        let _ = self.peer.read_to_end(&mut heard);
        heard
    }
}

/// By what the memory's mappings are known.
const MEMORY_NAME: &str = "fuzzed-guest";

/// Descriptors that this process has open.
///
/// # Panics
/// Without /proc.
#[must_use]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

/// Mappings of memory that was lent.
///
/// # Panics
/// Without /proc.
#[must_use]
pub fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines().filter(|line| line.contains(MEMORY_NAME)).count()
}
