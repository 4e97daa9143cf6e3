//! One vhost-user socket that never blocks: whole messages in, replies out.
//!
//! What a peer can make us hold is bounded: one message and [`DESCRIPTORS_MAX`]
//! descriptors of it, and [`OUTPUT_BYTES_MAX`] bytes of replies that it does not read.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};

use crate::port::vhost_user::message::{
    DESCRIPTORS_MAX, HEADER_BYTES, Header, HeaderError, Message, Reply,
};

/// Bytes of replies that wait for a peer that does not read; one more ends it.
pub const OUTPUT_BYTES_MAX: usize = 4096;
/// System calls in one [`Connection::receive`]. A message as others send it takes two.
const READS_MAX: usize = 16;
/// What one sendmsg(2) can carry (`SCM_MAX_FD`): all are taken, so that none is left to
/// the kernel, and those too many are closed.
const SENT_MAX: usize = 253;

/// What a peer's socket had.
#[derive(Debug)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// No whole message yet; the socket becomes readable when there is more.
    Nothing,
    /// No whole message yet, and there may be more already: ask again, after others had
    /// their turn.
    Again,
    /// The peer is gone; half a message may have been left.
    Closed,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Something that is no message.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Descriptors were lost on their way.
    #[error(
        "descriptors were lost: this process has too many open (ulimit -n), or the peer sent \
         control data that is not understood"
    )]
    Truncated,
    /// The peer does not read its replies.
    #[error("the peer leaves {OUTPUT_BYTES_MAX} bytes of replies unread")]
    Unread,
    /// Another error of the socket's.
    #[error("vhost-user socket: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for ConnectionError {
    fn from(errno: rustix::io::Errno) -> ConnectionError {
        ConnectionError::Io(errno.into())
    }
}

/// A socket. After an error it gives nothing but errors.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    head: [u8; HEADER_BYTES],
    head_bytes: usize,
    /// Once the head is complete.
    body: Option<(Header, Vec<u8>)>,
    /// Bytes of the body that came.
    body_bytes: usize,
    descriptors: Vec<OwnedFd>,
    surplus: usize,
    output: Vec<u8>,
}

/// What one system call brought.
enum Read {
    Bytes(usize),
    Nothing,
    End,
}

impl Connection {
    /// Takes a connected socket, and makes it not to block.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            head: [0; HEADER_BYTES],
            head_bytes: 0,
            body: None,
            body_bytes: 0,
            descriptors: Vec::new(),
            surplus: 0,
            output: Vec::new(),
        })
    }

    /// Takes one whole message from the socket, if there is one; what there is of the
    /// next one is kept. Does not block, and makes at most 16 system calls.
    ///
    /// # Errors
    /// [`ConnectionError`]: the connection is to be dropped.
    pub fn receive(&mut self) -> Result<Received, ConnectionError> {
        for _ in 0..READS_MAX {
            match self.read()? {
                Read::Nothing => return Ok(Received::Nothing),
                Read::End => return Ok(Received::Closed),
                Read::Bytes(count) if self.body.is_none() => self.head_bytes += count,
                Read::Bytes(count) => self.body_bytes += count,
            }
            if self.head_bytes == HEADER_BYTES && self.body.is_none() {
                let header = Header::parse(&self.head)?;
                self.body = Some((header, vec![0; header.payload_bytes]));
            }
            if let Some(message) = self.complete() {
                return Ok(Received::Message(message));
            }
        }
        Ok(Received::Again)
    }

    /// Reads what is missing of the head or the body, but nothing of the next message:
    /// its descriptors would be taken for this one's.
    fn read(&mut self) -> Result<Read, ConnectionError> {
        let missing = match &mut self.body {
            None => &mut self.head[self.head_bytes..],
            Some((_, payload)) => &mut payload[self.body_bytes..],
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SENT_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = recvmsg(&self.socket, &mut [IoSliceMut::new(missing)], &mut control, flags);
        let got = match got {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Read::Nothing),
            // With what we sent still unread.
            Err(rustix::io::Errno::CONNRESET) => return Ok(Read::End),
            got => got?,
        };
        for message in control.drain() {
            let RecvAncillaryMessage::ScmRights(came) = message else { continue };
            for fd in came {
                if self.descriptors.len() < DESCRIPTORS_MAX {
                    self.descriptors.push(fd);
                } else {
                    self.surplus += 1;
                }
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ConnectionError::Truncated);
        }
        Ok(if got.bytes == 0 { Read::End } else { Read::Bytes(got.bytes) })
    }

    /// The message, if it is whole.
    fn complete(&mut self) -> Option<Message> {
        let (header, payload) =
            self.body.take_if(|(header, _)| header.payload_bytes == self.body_bytes)?;
        (self.head_bytes, self.body_bytes) = (0, 0);
        Some(Message {
            code: header.code,
            acknowledge: header.acknowledge,
            payload,
            descriptors: std::mem::take(&mut self.descriptors),
            surplus: std::mem::take(&mut self.surplus),
        })
    }

    /// Sends a reply, or keeps what the socket does not take yet. Does not block.
    ///
    /// # Errors
    /// [`ConnectionError`]: the connection is to be dropped; [`ConnectionError::Unread`]
    /// if too much is kept.
    pub fn send(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        let bytes = reply.encode();
        if self.output.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(ConnectionError::Unread);
        }
        self.output.extend_from_slice(&bytes);
        self.flush()
    }

    /// Sends what was kept, as far as the socket takes it: to be called when it is
    /// writable and [`Connection::holds_output`].
    ///
    /// # Errors
    /// [`ConnectionError`]: the connection is to be dropped.
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        while !self.output.is_empty() {
            match send(&self.socket, &self.output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Whether replies wait for the socket to become writable.
    #[must_use]
    pub fn holds_output(&self) -> bool {
        !self.output.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
