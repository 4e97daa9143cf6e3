//! What the driver sends, and what becomes of it.

use std::collections::{HashMap, VecDeque};

use hairpin_dataplane::frame::{BATCH_FRAMES, Batch};
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::port;
use hairpin_dataplane::port::vhost_user::queue::{NetHeaders, RingKind};
use hairpin_dataplane::sys::virtqueue::driver::{Access, Buffer, Negotiated};
use hairpin_dataplane::sys::virtqueue::{Doorbell, Indirect, Moment, PREFIX_BYTES};
use hairpin_dataplane::wire::virtio_net;

use super::bed::{Bed, Conduct, SENT_AT, SENT_SLOTS, SLOT_BYTES, TABLES_AT, write};
use super::hostile::look_at;
use crate::fuzz::input::Input;

/// Virtio-net headers: nothing, a checksum to fill in, UFO, which nobody negotiated.
const HEADERS: [[u8; PREFIX_BYTES]; 4] = [
    [0; PREFIX_BYTES],
    [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
    [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

/// Where a chain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whereabouts {
    Sent,
    Taken,
    Released,
}

#[derive(Clone, Debug)]
struct Chain {
    slot: usize,
    whereabouts: Whereabouts,
}

/// A chain on its way: its id, and all its bytes.
#[derive(Clone, Debug)]
struct Waiting {
    id: u16,
    bytes: Vec<u8>,
    indirect: Indirect,
}

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    chains: HashMap<u16, Chain>,
    /// In order; not taken yet.
    waiting: VecDeque<Waiting>,
    /// Ids of those taken by the last receiving.
    taken: Vec<u16>,
    /// Slots in use.
    slots: Vec<bool>,
    count: u8,
    /// Whether the device was promised a kick.
    pub device_sleeps: bool,
    /// Whether the driver was promised a call.
    driver_sleeps: bool,
}

impl Sent {
    /// Whether all was taken.
    pub fn is_taken(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether all came back.
    pub fn is_back(&self) -> bool {
        self.chains.is_empty()
    }

    fn slot(&mut self) -> Option<usize> {
        self.slots.resize(SENT_SLOTS, false);
        self.slots.iter().position(|used| !used)
    }

    /// What a chain is to be received as.
    fn expected(
        waiting: &Waiting,
        headers: NetHeaders,
        allowed: Indirect,
    ) -> Result<Vec<u8>, DropReason> {
        if waiting.indirect == Indirect::Allowed && allowed == Indirect::Refused {
            return Err(DropReason::BadAddress);
        }
        let Some((header, frame)) = waiting.bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(DropReason::Runt);
        };
        match headers {
            NetHeaders::Read if virtio_net::decode_from_driver(header).is_err() => {
                Err(DropReason::OffloadInvalid)
            }
            NetHeaders::Read | NetHeaders::Ignored => Ok(frame.to_vec()),
        }
    }
}

impl<D: Negotiated> Bed<D> {
    /// The driver sends a chain, in 1 to 4 pieces, or in a table.
    pub(super) fn send(&mut self, input: &mut Input<'_>) {
        let (length, cuts, shape) = (input.byte(), input.word16(), input.byte());
        if self.conduct == Conduct::Hostile {
            return;
        }
        let Some(slot) = self.sent.slot() else { return };
        let at = SENT_AT + slot as u64 * SLOT_BYTES;
        self.sent.count = self.sent.count.wrapping_add(1);
        let mut bytes = vec![self.sent.count; length.into()];
        let header = HEADERS[usize::from(shape >> 4 & 3)];
        bytes.iter_mut().zip(header).for_each(|(to, byte)| *to = byte);
        write(&self.memory, at, &bytes);
        let pieces = pieces(at, length.into(), cuts, shape & 3);
        let in_table = shape & 4 != 0;
        let table = TABLES_AT + slot as u64 * SLOT_BYTES;
        let id = match in_table {
            true => self.drivers[0].add_indirect(&pieces, table),
            false => self.drivers[0].add(&pieces),
        };
        let Some(id) = id else { return };
        self.sent.slots[slot] = true;
        let indirect = if in_table { Indirect::Allowed } else { Indirect::Refused };
        self.sent.waiting.push_back(Waiting { id, bytes, indirect });
        let chain = Chain { slot, whereabouts: Whereabouts::Sent };
        assert!(self.sent.chains.insert(id, chain).is_none(), "an id that is in use");
        if shape & 8 == 0 {
            self.publish();
        }
    }

    fn publish(&mut self) {
        if self.conduct == Conduct::Hostile {
            return;
        }
        self.drivers[0].publish();
        let kicks = self.drivers[0].kick_due();
        if self.sent.device_sleeps && !self.sent.is_taken() {
            assert!(kicks, "the device sleeps, and is not kicked");
            self.receiver.refuse_kicks();
            self.sent.device_sleeps = false;
        }
    }

    /// The device receives, looks at the frames and releases them.
    pub(super) fn receive(&mut self) {
        self.receive_and(|_, _| {});
    }

    /// The device receives; `then` does something with the frames before they are
    /// released.
    pub(super) fn receive_and(&mut self, then: impl FnOnce(&mut Bed<D>, &Batch)) {
        self.publish();
        let mut batch = std::mem::take(&mut self.batch);
        let received = self.receiver.receive(&mut batch);
        let found = batch.count() + batch.rejected().len();
        assert!(found <= BATCH_FRAMES);
        self.visited = self.visited.wrapping_add(found as u16);
        match self.conduct {
            Conduct::Honest => self.check_received(received, &batch),
            Conduct::Hostile => look_at(&batch),
        }
        then(self, &batch);
        self.receiver.release();
        batch.end();
        self.batch = batch;
        for id in std::mem::take(&mut self.sent.taken) {
            let chain = self.sent.chains.get_mut(&id).expect("it was sent");
            chain.whereabouts = Whereabouts::Released;
        }
        if self.conduct == Conduct::Hostile {
            self.check_position();
        }
    }

    fn check_received(&mut self, received: port::Received, batch: &Batch) {
        let allowed = self.terms[0].indirect;
        let (mut frames, mut rejected) = (Vec::new(), Vec::new());
        for _ in 0..batch.count() + batch.rejected().len() {
            let waiting = self.sent.waiting.pop_front().expect("the device invented a chain");
            let chain = self.sent.chains.get_mut(&waiting.id).expect("it was sent");
            assert_eq!(chain.whereabouts, Whereabouts::Sent, "taken twice");
            chain.whereabouts = Whereabouts::Taken;
            self.sent.taken.push(waiting.id);
            match Sent::expected(&waiting, self.headers, allowed) {
                Ok(frame) => frames.push(frame),
                Err(reason) => rejected.push(reason),
            }
        }
        let found: Vec<_> = (0..batch.count()).map(|index| bytes_of(batch, index)).collect();
        assert_eq!(found, frames);
        // Headers are read after chains were found: not in order of the chains.
        let mut reasons = batch.rejected().to_vec();
        reasons.sort();
        rejected.sort();
        assert_eq!(reasons, rejected);
        match received {
            port::Received::Drained => assert!(self.sent.is_taken(), "frames wait still"),
            port::Received::More => assert!(batch.count() + reasons.len() > 0),
            port::Received::Lost | port::Received::Failing => panic!("{received:?}"),
        }
    }

    /// A split ring is given back as many chains as were taken from it.
    fn check_position(&mut self) {
        if self.kind == RingKind::Split {
            let position = self.receiver.position();
            let given = position.used.wrapping_sub(self.terms[0].position.used);
            assert_eq!(given, self.visited, "given back as often as taken");
        }
    }

    /// The driver takes back what came back, of both rings.
    pub(super) fn collect(&mut self) {
        if self.conduct == Conduct::Hostile {
            return;
        }
        let Bed { drivers, sent, .. } = self;
        drivers[0].collect(|returned| {
            let chain = sent.chains.remove(&returned.id).expect("given back twice");
            assert_eq!(chain.whereabouts, Whereabouts::Released);
            sent.slots[chain.slot] = false;
        });
        sent.driver_sleeps = false;
        self.collect_received();
    }

    /// The device goes to sleep, or does not.
    pub(super) fn sleep_device(&mut self, input: &mut Input<'_>) {
        if input.below(4) == 3 {
            self.receiver.refuse_kicks();
            self.sent.device_sleeps = false;
            return;
        }
        self.publish();
        let waiting = self.receiver.want_kicks();
        if self.conduct == Conduct::Honest {
            assert_eq!(waiting, !self.sent.is_taken(), "what waits is seen");
            assert_eq!(self.receiver.has_frames(), waiting);
            self.sent.device_sleeps = !waiting;
        }
        if waiting {
            self.receiver.refuse_kicks();
        }
    }

    /// The driver goes to sleep, or does not.
    pub(super) fn sleep_driver(&mut self, input: &mut Input<'_>) {
        let wants = input.below(4) != 3;
        if self.conduct == Conduct::Hostile {
            return;
        }
        self.sent.driver_sleeps = false;
        if !wants {
            self.drivers[0].refuse_calls();
            return;
        }
        // What it has not been told of yet counts: it goes to sleep with nothing come back.
        self.receiver.flush();
        self.receiver.doorbell(Moment::Idle);
        self.collect();
        self.drivers[0].want_calls();
        self.sent.driver_sleeps = !self.drivers[0].has_returned();
    }

    /// The device rings, if the driver wants it to.
    pub(super) fn ring(&mut self, moment: Moment) {
        let rung = self.receiver.doorbell(moment);
        self.transmitter.doorbell(moment);
        if self.conduct == Conduct::Hostile || !self.sent.driver_sleeps {
            return;
        }
        let shown = self.drivers[0].has_returned();
        match (rung, moment) {
            (Doorbell::Wanted, _) => {
                // Rung for nothing, as after a change of devices: it goes to sleep again.
                self.drivers[0].want_calls();
                self.sent.driver_sleeps = !shown;
            }
            (Doorbell::Silent, Moment::Idle) => assert!(!shown, "the driver sleeps for ever"),
            (Doorbell::Silent, Moment::Busy) => {}
        }
    }
}

/// Cuts a chain's bytes.
fn pieces(at: u64, length: u64, cuts: u16, more: u8) -> Vec<Buffer> {
    let mut ends: Vec<u64> =
        (0..more).map(|cut| u64::from(cuts >> (5 * cut) & 31) * length / 31).collect();
    ends.push(length);
    ends.sort_unstable();
    let mut from = 0;
    ends.into_iter()
        .map(|end| {
            let (address, length) = (at + from, (end - from) as u32);
            from = end;
            Buffer { address, length, access: Access::Read }
        })
        .collect()
}

/// All of a frame.
pub(super) fn bytes_of(batch: &Batch, index: usize) -> Vec<u8> {
    let view = batch.view(index);
    let mut bytes = view.header.to_vec();
    let mut body = vec![0; view.body.length()];
    let read = view.body.read(&mut body);
    assert_eq!(read, body.len());
    bytes.append(&mut body);
    bytes
}
