//! A front end and a driver that do as they like.

use std::os::unix::fs::FileExt;

use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::vhost_user::connection::{Connection, Received};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::open;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::port::vhost_user::session::{Config, Handled, Session};
use hairpin_dataplane::sys::virtqueue::Layout;

use super::site::{frame, mac};
use crate::fuzz::forger::{Forgery, Grounds};
use crate::fuzz::input::Input;
use crate::fuzz::vmm::{
    AREAS, BUFFERS, FEATURES, GET_VRING_BASE, GUEST, MEMORY_BYTES, RING_BYTES, Shot, Vmm, bring_up,
};

/// Queue pairs.
const PAIRS: usize = 2;
/// Bytes of a buffer.
const SLOT_BYTES: u64 = 2048;
/// Buffers that there is room for.
const SLOTS: u64 = (MEMORY_BYTES - BUFFERS) / SLOT_BYTES;

/// The front end, its driver, and our session with it.
#[derive(Debug)]
pub struct Hostile {
    vmm: Vmm,
    connection: Option<Connection>,
    session: Session,
    /// What was agreed on the last time it brought itself up.
    kind: RingKind,
    size: u16,
    /// How many descriptors it made available, in each ring.
    made: [u16; 2 * PAIRS],
}

impl Hostile {
    /// A port, and who is at its socket.
    ///
    /// # Panics
    /// If there are no descriptors.
    pub fn new() -> (Opened, Hostile) {
        let (opened, host) = open(PAIRS).expect("descriptors");
        let config = Config { pairs: PAIRS, features: Features::OFFERED };
        let session = Session::new(config, Box::new(host));
        let (vmm, socket) = Vmm::connect();
        let connection = Connection::new(socket).ok();
        let (kind, size, made) = (RingKind::Split, 256, [0; 2 * PAIRS]);
        (opened, Hostile { vmm, connection, session, kind, size, made })
    }

    /// Does one of 15 things.
    pub fn step(&mut self, operation: usize, input: &mut Input<'_>) {
        match operation {
            1 | 2 => self.fire(&Shot::draw(input)),
            3 => self.bring_up(input),
            4 | 5 => self.send(input),
            6 => self.offer_buffer(input),
            7 | 8 => {
                let forgery = self.grounds(input.below(2 * PAIRS)).draw(input);
                self.write(forgery);
            }
            9 => {
                let forgery = self.grounds(0).table(input);
                self.write(forgery);
            }
            10 => {
                let (at, count) = (input.word32(), input.below(64));
                let bytes = input.bytes(count).to_vec();
                self.write((GUEST + u64::from(at) % MEMORY_BYTES, bytes));
            }
            11 => self.vmm.truncate(u64::from(input.byte()) * (MEMORY_BYTES / 256)),
            12 => {
                let ring = input.below(2 * PAIRS + 1) as u64;
                self.fire(&Shot::new(GET_VRING_BASE, &[ring], &[]));
            }
            13 => self.reconnect(),
            _ => self.session.attend(),
        }
        self.vmm.hear();
    }

    fn bring_up(&mut self, input: &mut Input<'_>) {
        let (features, rings) = (input.one_of(&FEATURES), input.below(2 * PAIRS + 1) as u64);
        self.size = input.one_of(&[256, 8, 1, 64]);
        self.kind = features.ring_kind();
        self.made = [0; 2 * PAIRS];
        let shots = bring_up(features, rings, self.size.into());
        shots.iter().for_each(|shot| self.fire(shot));
    }

    /// Sends something, and has it handled.
    fn fire(&mut self, shot: &Shot) {
        let Hostile { vmm, connection, session, .. } = self;
        let mut ended = false;
        vmm.fire(shot, || ended = ended || !listen(connection, session));
        if ended {
            self.reconnect();
        }
    }

    fn reconnect(&mut self) {
        self.end();
        let (vmm, socket) = Vmm::connect();
        (self.vmm, self.connection) = (vmm, Connection::new(socket).ok());
    }

    /// The connection is closed, and the session ended.
    pub fn end(&mut self) {
        self.connection = None;
        self.session.end().expect("the worker is between breaths");
    }

    /// Where a ring lies.
    fn layout(&self, ring: usize) -> Layout {
        let [descriptors, driver, device] =
            AREAS.map(|area| GUEST + ring as u64 * RING_BYTES + area);
        Layout { size: self.size, descriptors, driver, device }
    }

    fn grounds(&self, ring: usize) -> Grounds {
        let end = GUEST + MEMORY_BYTES;
        let addresses = vec![
            GUEST + BUFFERS,
            GUEST + BUFFERS + SLOT_BYTES,
            end - 72,
            end - 8,
            end,
            GUEST - 8,
            GUEST,
            GUEST + RING_BYTES,
            u64::MAX - 71,
        ];
        Grounds { addresses, layout: self.layout(ring) }
    }

    fn write(&self, (address, bytes): Forgery) {
        let Some(memory) = self.vmm.memory() else { return };
        // Within the file: it is not to grow.
        let at = address.wrapping_sub(GUEST);
        let length = memory.metadata().map_or(0, |it| it.len());
        if at.checked_add(bytes.len() as u64).is_some_and(|end| end <= length) {
            let _ = memory.write_all_at(&bytes, at);
        }
    }

    /// Sends a frame as a driver does, whatever it is.
    fn send(&mut self, input: &mut Input<'_>) {
        let (ring, slot) = (1 + 2 * input.below(PAIRS), u64::from(input.byte()) % SLOTS);
        let mut bytes = frame(0, input.one_of(&[3, 0, 1, 2]), u32::from(input.byte()));
        match input.byte() {
            0..64 => bytes[..6].fill(0xff),
            64..72 => bytes[6..12].copy_from_slice(&mac(1)),
            72..96 => bytes.truncate(input.below(64)),
            _ => {}
        }
        if input.below(4) == 3 {
            let (at, count) = (input.below(bytes.len().max(1)), input.below(32));
            let patch = input.bytes(count);
            bytes.iter_mut().skip(at).zip(patch).for_each(|(to, byte)| *to = *byte);
        }
        let mut whole = match input.below(4) {
            3 => input.bytes(12).to_vec(),
            _ => Vec::new(),
        };
        whole.resize(12, 0);
        whole.append(&mut bytes);
        let address = GUEST + BUFFERS + slot * SLOT_BYTES;
        let length = whole.len() as u32;
        self.write((address, whole));
        self.make_available(ring, address, length, 0);
    }

    /// Gives a buffer to receive into.
    fn offer_buffer(&mut self, input: &mut Input<'_>) {
        let (ring, slot) = (2 * input.below(PAIRS), u64::from(input.byte()) % SLOTS);
        let length = input.one_of(&[2048, 512, 100, 12, 1, 0xffff]);
        // VIRTQ_DESC_F_WRITE.
        self.make_available(ring, GUEST + BUFFERS + slot * SLOT_BYTES, length, 2);
    }

    /// Makes one descriptor available.
    fn make_available(&mut self, ring: usize, address: u64, length: u32, flags: u16) {
        let Layout { size, descriptors, driver, .. } = self.layout(ring);
        let made = self.made[ring];
        self.made[ring] = made.wrapping_add(1);
        let entry = made % size;
        let (low, high) = match self.kind {
            RingKind::Split => (flags, 0),
            // Odd laps have the one bit, even ones the other.
            RingKind::Packed if (made / size).is_multiple_of(2) => (entry, flags | 1 << 7),
            RingKind::Packed => (entry, flags | 1 << 15),
        };
        let mut bytes = [address.to_le_bytes(), [0; 8]].concat();
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&low.to_le_bytes());
        bytes[14..].copy_from_slice(&high.to_le_bytes());
        self.write((descriptors + 16 * u64::from(entry), bytes));
        if self.kind == RingKind::Split {
            self.write((driver + 4 + 2 * u64::from(entry), entry.to_le_bytes().to_vec()));
            self.write((driver + 2, made.wrapping_add(1).to_le_bytes().to_vec()));
        }
    }
}

/// Handles what the front end said; whether it may go on.
fn listen(connection: &mut Option<Connection>, session: &mut Session) -> bool {
    let Some(connection) = connection else { return false };
    loop {
        match connection.receive() {
            Ok(Received::Message(message)) => match session.handle(message) {
                Ok(Handled::Silently) => {}
                Ok(Handled::Reply(reply)) if connection.send(&reply).is_ok() => {}
                Ok(Handled::Stuck) => panic!("the worker is between breaths"),
                Ok(Handled::Reply(_)) | Err(_) => return false,
            },
            Ok(Received::Nothing) => return true,
            Ok(Received::Again) => {}
            Ok(Received::Closed) | Err(_) => return false,
        }
    }
}
