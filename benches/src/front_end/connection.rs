//! The socket: requests, their answers, and anything else that can be sent.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use hairpin_dataplane::port::vhost_user::message::{Acknowledge, Code, HEADER_BYTES, REPLY_BYTES};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::error::FrontEndError;
use super::message::{
    GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY, SET_FEATURES, SET_OWNER,
    SET_PROTOCOL_FEATURES, VERSION, encode,
};

/// How long the switch may take to read or to answer: far longer than it does on a busy
/// machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Descriptors that one sendmsg(2) takes (`SCM_MAX_FD`).
pub const DESCRIPTORS_SENT_MAX: usize = 253;

/// What this front end needs of the protocol.
const NEEDED: ProtocolFeatures = ProtocolFeatures::MQ.with(ProtocolFeatures::REPLY_ACK);
/// What some of its requests need, where it is offered; DPDK does not.
const WISHED: ProtocolFeatures =
    ProtocolFeatures::RESET_DEVICE.with(ProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// A socket with the switch at its other end. It blocks, for half a minute at most.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    acknowledge: Acknowledge,
}

impl Connection {
    /// Connects to a socket that the switch has made (role `server`).
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(path: &Path) -> Result<Connection, FrontEndError> {
        let socket = UnixStream::connect(path).map_err(FrontEndError::io("connecting"))?;
        Connection::new(socket)
    }

    /// Takes a connected socket, such as one that was accepted where the switch connects
    /// (role `client`). Nothing is negotiated yet, nothing acknowledged.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn new(socket: UnixStream) -> Result<Connection, FrontEndError> {
        let patience = Some(PATIENCE);
        socket.set_read_timeout(patience).map_err(FrontEndError::io("a time limit"))?;
        socket.set_write_timeout(patience).map_err(FrontEndError::io("a time limit"))?;
        Ok(Connection { socket, acknowledge: Acknowledge::Unasked })
    }

    /// Owns the device and agrees on features, those of the protocol first; from then on
    /// requests are acknowledged.
    ///
    /// # Errors
    /// [`FrontEndError`], among them features and pairs that are not offered.
    pub fn negotiate(&mut self, features: Features, pairs: usize) -> Result<(), FrontEndError> {
        self.set(SET_OWNER, &[], &[])?;
        let offered = Features::from_bits(self.get(GET_FEATURES, &[])?);
        if !offered.has(features) {
            return Err(FrontEndError::Features(features.without(offered)));
        }
        let protocol = ProtocolFeatures::from_bits(self.get(GET_PROTOCOL_FEATURES, &[])?);
        if !protocol.has(NEEDED) {
            return Err(FrontEndError::Protocol(NEEDED.without(protocol)));
        }
        let accepted = NEEDED.with(WISHED.without(WISHED.without(protocol)));
        self.set(SET_PROTOCOL_FEATURES, &[accepted.bits()], &[])?;
        self.acknowledge = Acknowledge::Asked;
        let offered = self.get(GET_QUEUE_NUM, &[])?;
        if offered < pairs as u64 {
            return Err(FrontEndError::Pairs { wanted: pairs, offered });
        }
        self.set(SET_FEATURES, &[features.bits()], &[])
    }

    /// Sends a request that has no reply of its own, and hears whether it was done, once
    /// acknowledgements are negotiated.
    ///
    /// # Errors
    /// [`FrontEndError::Refused`], and those of the socket.
    pub fn set(
        &mut self,
        code: Code,
        words: &[u64],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), FrontEndError> {
        let flags = match self.acknowledge {
            Acknowledge::Unasked => VERSION,
            Acknowledge::Asked => VERSION | NEED_REPLY,
        };
        self.write(&encode(code, flags, words), fds)?;
        match self.acknowledge {
            Acknowledge::Unasked => Ok(()),
            Acknowledge::Asked => match self.hear(code)? {
                0 => Ok(()),
                _ => Err(FrontEndError::Refused(code)),
            },
        }
    }

    /// Sends a request that has a reply of its own; the reply's word.
    ///
    /// # Errors
    /// [`FrontEndError::Closed`] if the switch does not want to answer, and those of the
    /// socket.
    pub fn get(&mut self, code: Code, words: &[u64]) -> Result<u64, FrontEndError> {
        self.tell(code, words, &[])?;
        self.hear(code)
    }

    /// Sends a request and waits for nothing.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn tell(
        &self,
        code: Code,
        words: &[u64],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), FrontEndError> {
        self.write(&encode(code, VERSION, words), fds)
    }

    /// Waits for the reply to a request; its word.
    ///
    /// # Errors
    /// [`FrontEndError::Strange`] if something else comes, and those of the socket.
    pub fn hear(&self, asked: Code) -> Result<u64, FrontEndError> {
        let mut bytes = [0; REPLY_BYTES];
        (&self.socket).read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FrontEndError::Closed,
            _ => FrontEndError::io("a reply")(error),
        })?;
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
        let (found, flags, size) = (Code(word(0)), word(4), word(8));
        if found != asked || flags != VERSION | REPLY || size != 8 {
            return Err(FrontEndError::Strange { asked, found, flags, bytes: size });
        }
        let value = [0, 1, 2, 3, 4, 5, 6, 7].map(|byte| bytes[HEADER_BYTES + byte]);
        Ok(u64::from_ne_bytes(value))
    }

    /// Waits for the reply to a request, past those to earlier ones that nobody waited for.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn hear_past_others(&self, asked: Code) -> Result<u64, FrontEndError> {
        loop {
            match self.hear(asked) {
                Err(FrontEndError::Strange { flags, bytes: 8, .. }) if flags & REPLY != 0 => {}
                heard => return heard,
            }
        }
    }

    /// Sends bytes as they are, the first of them with these descriptors, of which the
    /// kernel takes [`DESCRIPTORS_SENT_MAX`].
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn write(&self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), FrontEndError> {
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        while !bytes.is_empty() {
            let sent =
                sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
            match sent {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(FrontEndError::io("a message")(errno.into())),
            }
            control.clear();
        }
        Ok(())
    }

    /// Whether the switch has closed the connection, or does within this time. What it has
    /// said before is thrown away.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn is_closed_within(&self, wait: Duration) -> Result<bool, FrontEndError> {
        let what = "the connection's end";
        self.socket.set_read_timeout(Some(wait)).map_err(FrontEndError::io(what))?;
        let mut bytes = [0; 4096];
        let closed = loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => break true,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        self.socket.set_read_timeout(Some(PATIENCE)).map_err(FrontEndError::io(what))?;
        Ok(closed)
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
