//! A double of what serves a VMM's messages, and a VMM that talks to it: eight bytes are a
//! message, and most come back as they are.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hairpin::vhost::backend::{Backend, Interest, Pair, Ring, RingState, Session, Turn};
use hairpin_dataplane::port::vhost_user::ring::Stuck;

/// Far longer than anything here takes.
pub const SOON: Duration = Duration::from_secs(5);
pub const MESSAGE_BYTES: usize = 8;

/// Starts its one ring pair, breaks it, or makes the double find fault with the VMM, or
/// fail itself.
pub const RUN: [u8; MESSAGE_BYTES] = *b"run.....";
pub const HALT: [u8; MESSAGE_BYTES] = *b"halt....";
pub const BREAK: [u8; MESSAGE_BYTES] = *b"break...";
pub const WRONG: [u8; MESSAGE_BYTES] = *b"wrong...";
pub const PANIC: [u8; MESSAGE_BYTES] = *b"panic...";

/// Serves one VMM.
#[derive(Debug, Default)]
pub struct Double {
    socket: Option<UnixStream>,
    read: Vec<u8>,
    unsent: Vec<u8>,
    ring: Ring,
}

impl Double {
    fn message(&mut self, message: [u8; MESSAGE_BYTES]) -> Result<(), String> {
        match message {
            RUN => self.ring = Ring { size: 256, state: RingState::Running },
            HALT => self.ring.state = RingState::Stopped,
            BREAK => self.ring.state = RingState::Broken,
            PANIC => panic!("a double was asked to"),
            WRONG => return Err("it sent something wrong".to_owned()),
            _ => {}
        }
        self.unsent.extend(message);
        Ok(())
    }

    /// Whether everything was sent.
    fn send(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return true };
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl Backend for Double {
    fn begin(&mut self, socket: OwnedFd) -> std::io::Result<()> {
        *self = Double { socket: Some(socket.into()), ..Double::default() };
        Ok(())
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn turn(&mut self, most: usize) -> Turn {
        for _ in 0..most {
            if !self.send() {
                return Turn::Idle(Interest::Write);
            }
            let mut bytes = [0; MESSAGE_BYTES];
            let wanted = MESSAGE_BYTES - self.read.len();
            match self.socket.as_mut().unwrap().read(&mut bytes[..wanted]) {
                Ok(0) => return Turn::Closed,
                Ok(read) => self.read.extend(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Turn::Idle(Interest::Read);
                }
                Err(_) => return Turn::Closed,
            }
            if let Ok(message) = <[u8; MESSAGE_BYTES]>::try_from(&self.read[..]) {
                self.read.clear();
                if let Err(reason) = self.message(message) {
                    return Turn::Fault(reason);
                }
            }
        }
        if self.send() { Turn::More } else { Turn::Idle(Interest::Write) }
    }

    fn look(&mut self) -> Option<String> {
        let broken = self.ring.state == RingState::Broken;
        self.ring.state = if broken { RingState::Stopped } else { self.ring.state };
        broken.then(|| "its driver broke a ring".to_owned())
    }

    fn release(&mut self) -> Result<(), Stuck> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stuck> {
        self.socket = None;
        Ok(())
    }

    fn report(&self) -> Session {
        let pair = Pair { receive: self.ring.clone(), transmit: self.ring.clone() };
        Session { pairs: vec![pair], ..Session::default() }
    }
}

/// The other end.
pub struct Vmm(pub UnixStream);

impl Vmm {
    pub fn connect(path: &Path) -> Vmm {
        Vmm::from(UnixStream::connect(path).unwrap())
    }

    pub fn say(&mut self, message: [u8; MESSAGE_BYTES]) {
        self.0.write_all(&message).unwrap();
    }

    pub fn hear(&mut self) -> [u8; MESSAGE_BYTES] {
        let mut answer = [0; MESSAGE_BYTES];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    pub fn ask(&mut self, message: [u8; MESSAGE_BYTES]) {
        self.say(message);
        assert_eq!(self.hear(), message);
    }
}

impl From<UnixStream> for Vmm {
    fn from(socket: UnixStream) -> Vmm {
        socket.set_read_timeout(Some(SOON)).unwrap();
        Vmm(socket)
    }
}
