//! Guests by vhost-user: the test is their VMM and their driver.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hairpin_bench::front_end::{Connection, FrontEnd, Layout};
use hairpin_tests::bed::eventually;

use crate::reach::MOMENT;

/// Far longer than a frame takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest with one address.
pub struct Guest {
    front: FrontEnd,
    pub mac: [u8; 6],
}

impl Guest {
    /// Starts one at a socket that the switch has made.
    pub fn connect(socket: &Path, layout: Layout, mac: [u8; 6]) -> Guest {
        Guest { front: FrontEnd::connect(socket, layout).unwrap(), mac }
    }

    /// Starts one at a socket of its own, to which the switch connects.
    pub fn accept(socket: &UnixListener, layout: Layout, mac: [u8; 6]) -> Guest {
        socket.set_nonblocking(true).unwrap();
        let mut accepted = None;
        let is_there = || {
            accepted = socket.accept().ok();
            accepted.is_some()
        };
        eventually("a connection of the switch", is_there).unwrap();
        let (connected, _) = accepted.unwrap();
        connected.set_nonblocking(false).unwrap();
        let connection = Connection::new(connected).unwrap();
        Guest { front: FrontEnd::over(connection, layout).unwrap(), mac }
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        assert_eq!(self.front.send(&[frame]), 1);
    }

    /// Waits for the first frame that is wanted; others are forgotten.
    #[track_caller]
    pub fn await_frame(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} does not come");
            let frames = self.front.receive_within(left).unwrap();
            if let Some(frame) = frames.into_iter().find(|frame| wanted(&frame.bytes)) {
                return frame.bytes;
            }
        }
    }

    /// How often this frame comes within a moment.
    pub fn arrivals(&mut self, frame: &[u8]) -> usize {
        let until = Instant::now() + MOMENT;
        let mut arrived = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let frames = self.front.receive_within(left).unwrap();
            arrived += frames.iter().filter(|it| it.bytes == frame).count();
            if left.is_zero() {
                return arrived;
            }
        }
    }

    /// Asks for the host of a number by ARP, as 10.9.0.254; its answer's sender.
    pub fn resolve(&mut self, number: u8) -> [u8; 6] {
        let mut request = [&[0xff; 6][..], &self.mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        request.extend(self.mac);
        request.extend([10, 9, 0, 254, 0, 0, 0, 0, 0, 0, 10, 9, 0, number]);
        request.resize(60, 0);
        self.send(&request);
        let answer = self.await_frame(&format!("an answer of host {number}"), |frame| {
            frame[12..14] == [8, 6]
                && frame[20..22] == [0, 2]
                && frame[28..32] == [10, 9, 0, number]
        });
        answer[22..28].try_into().unwrap()
    }
}
