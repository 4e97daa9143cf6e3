//! A front end of ours whose frames go around by both guests of a testpmd: to the first,
//! from it to the second, and from that one back. Three times through the switch, and each
//! frame is known again by a number and a sum.

use std::path::Path;
use std::time::Duration;

use hairpin_bench::front_end::station::{Heard, Station};
use hairpin_bench::front_end::{COMPLETE, FrontEnd, Layout, Received};
use hairpin_dataplane::wire::Mac;
use hairpin_tests::bed::mac_bytes;

/// Number of the front end's address; the guests' are 1 and 2.
pub const OWN: u8 = 3;
/// How long a frame may take on a busy machine. One that was lost never comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// In this time nothing comes any more.
const SILENCE: Duration = Duration::from_millis(200);
/// Frames of a pair that are underway at once. Even if all wait in one ring of 1024 buffers,
/// three for each frame, as those of all four pairs, there is room.
const WINDOW: u64 = 64;
/// Lengths that frames have, without checksum: all that there are without tags.
const FRAME_BYTES_MIN: usize = 60;
const FRAME_BYTES_MAX: usize = 1514;

/// The front end, and what it has sent and got back.
pub struct Circle {
    front: FrontEnd,
    layout: Layout,
    /// By pair, how many frames it has sent.
    sent: Vec<u64>,
    /// By pair, the number in that pair that has to come next, or a later one.
    next: Vec<u64>,
    /// By pair it was sent by, the pair by which its last frame came.
    came_by: Vec<Option<usize>>,
}

impl Circle {
    pub fn connect(socket: &Path, layout: Layout) -> Circle {
        let front = FrontEnd::connect(socket, layout).unwrap();
        let pairs = layout.pairs;
        Circle {
            front,
            layout,
            sent: vec![0; pairs],
            next: vec![0; pairs],
            came_by: vec![None; pairs],
        }
    }

    /// Connects anew to a daemon that has come again. What the guests had given to the one
    /// before, which had no time to say that it had taken it, may come again.
    pub fn reconnect(&mut self, socket: &Path) {
        self.front = FrontEnd::connect(socket, self.layout).unwrap();
        self.next.fill(0);
    }

    /// Sends so many frames around by each pair, of all lengths in turn. Each comes back
    /// once, unaltered, and in the order in which its pair sent it.
    pub fn assert_all_come_around(&mut self, frames: u64) {
        let pairs = self.sent.len();
        for begin in (0..frames).step_by(WINDOW as usize) {
            let window = WINDOW.min(frames - begin);
            for pair in 0..pairs {
                assert_eq!(self.send(pair, window), window, "room in a transmit ring");
            }
            while self.next != self.sent {
                let came = self.front.receive_within(PATIENCE).unwrap();
                let missing = format!("sent {:?} by each pair, {:?} came", self.sent, self.next);
                assert!(!came.is_empty(), "a frame was lost: {missing}");
                for frame in came {
                    let (pair, number) = self.hear(&frame);
                    assert_eq!(number, self.next[pair], "by pair {pair}: {missing}");
                    self.note(pair, number, frame.pair);
                }
            }
        }
    }

    /// By which of our pairs what we sent by each has come back.
    pub fn came_by(&self) -> Vec<usize> {
        self.came_by.iter().map(|pair| pair.unwrap()).collect()
    }

    /// Sends as much as there is room for, and takes what has come: some may be missing, but
    /// none is altered, comes twice, or late.
    pub fn press(&mut self) {
        for pair in 0..self.sent.len() {
            self.send(pair, WINDOW);
        }
        self.take(Duration::from_millis(1));
    }

    /// Takes whatever is still underway; what is missing after that is lost.
    pub fn settle(&mut self) {
        while self.take(SILENCE) > 0 {}
        self.next.clone_from(&self.sent);
    }

    /// Takes what has come, waiting so long for the first frame; how many came.
    fn take(&mut self, wait: Duration) -> usize {
        let came = self.front.receive_within(wait).unwrap();
        for frame in &came {
            let (pair, number) = self.hear(frame);
            let range = self.next[pair]..self.sent[pair];
            assert!(range.contains(&number), "pair {pair}: {number} is not in {range:?}");
            self.note(pair, number, frame.pair);
        }
        came.len()
    }

    /// Sends the next frames of a pair; how many there was room for.
    fn send(&mut self, pair: usize, frames: u64) -> u64 {
        let (first, station) = (self.sent[pair], station());
        let number = |of_pair| of_pair * self.sent.len() as u64 + pair as u64;
        let frames: Vec<Vec<u8>> = (first..first + frames)
            .map(number)
            .map(|number| station.frame(number, length(number)))
            .collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let sent = self.front.send_by(pair, COMPLETE, &frames) as u64;
        self.sent[pair] += sent;
        sent
    }

    /// Which pair's frame of which number came.
    fn hear(&self, frame: &Received) -> (usize, u64) {
        let mut bytes = frame.bytes.clone();
        let way = [mac_bytes(OWN), mac_bytes(2)].concat();
        assert!(bytes.starts_with(&way), "not from the second guest to us: {bytes:02x?}");
        // As it was sent: the guests have changed its addresses.
        bytes[..12].copy_from_slice(&[mac_bytes(1), mac_bytes(OWN)].concat());
        let Heard::Number(number) = station().turned().hear(&bytes) else {
            panic!("altered underway: {:02x?}", frame.bytes);
        };
        assert_eq!(bytes.len(), length(number), "frame {number}");
        // Nothing is lacking; how many buffers there are follows.
        assert_eq!(frame.net[..10], COMPLETE[..10], "the header of frame {number}");
        let pairs = self.sent.len() as u64;
        ((number % pairs) as usize, number / pairs)
    }

    fn note(&mut self, pair: usize, number: u64, came_by: usize) {
        self.next[pair] = number + 1;
        self.came_by[pair] = Some(came_by);
    }
}

fn station() -> Station {
    Station { own: Mac::new(mac_bytes(OWN)), peer: Mac::new(mac_bytes(1)) }
}

/// How long the frame of this number is: short and long ones by turns, and each length before
/// any comes again (101 and the number of pairs have no factor in common with that of lengths).
fn length(number: u64) -> usize {
    FRAME_BYTES_MIN + (number as usize * 101) % (FRAME_BYTES_MAX - FRAME_BYTES_MIN + 1)
}
