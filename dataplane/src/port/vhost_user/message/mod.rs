//! vhost-user messages (QEMU's vhost-user specification), from bytes and to bytes.
//!
//! ```text
//!  u32 request │ u32 flags │ u32 size │ payload of `size` bytes     (the machine's byte order)
//!                    │
//!                    bits 0–1 version, 2 reply, 3 need_reply
//! ```
//!
//! Nothing here looks at a session's state: what is well-formed can still be refused.

mod request;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::os::fd::OwnedFd;

pub use request::{Addresses, Malformed, Parsed, RegionSpec, Request};

/// Bytes of a message's header.
pub const HEADER_BYTES: usize = 12;
/// Bytes of the longest payload. The longest that is understood has 264; the bound is
/// what others' messages may need to be passed over.
pub const PAYLOAD_BYTES_MAX: usize = 4096;
/// Descriptors that a message can carry: one per region of a memory table.
pub const DESCRIPTORS_MAX: usize = 8;
/// Bytes of every reply.
pub const REPLY_BYTES: usize = HEADER_BYTES + 8;

const VERSION_MASK: u32 = 0b11;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Which request a message is, as a number; known or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u32);

/// All requests of the specification, from 1 on: names, and whether the sender waits for
/// a reply that is no mere acknowledgement.
const REQUESTS: [(&str, Awaits); 44] = {
    use Awaits::{Nothing, Reply};
    [
        ("GET_FEATURES", Reply),
        ("SET_FEATURES", Nothing),
        ("SET_OWNER", Nothing),
        ("RESET_OWNER", Nothing),
        ("SET_MEM_TABLE", Nothing),
        ("SET_LOG_BASE", Reply),
        ("SET_LOG_FD", Nothing),
        ("SET_VRING_NUM", Nothing),
        ("SET_VRING_ADDR", Nothing),
        ("SET_VRING_BASE", Nothing),
        ("GET_VRING_BASE", Reply),
        ("SET_VRING_KICK", Nothing),
        ("SET_VRING_CALL", Nothing),
        ("SET_VRING_ERR", Nothing),
        ("GET_PROTOCOL_FEATURES", Reply),
        ("SET_PROTOCOL_FEATURES", Nothing),
        ("GET_QUEUE_NUM", Reply),
        ("SET_VRING_ENABLE", Nothing),
        ("SEND_RARP", Nothing),
        ("NET_SET_MTU", Nothing),
        ("SET_BACKEND_REQ_FD", Nothing),
        ("IOTLB_MSG", Nothing),
        ("SET_VRING_ENDIAN", Nothing),
        ("GET_CONFIG", Reply),
        ("SET_CONFIG", Nothing),
        ("CREATE_CRYPTO_SESSION", Reply),
        ("CLOSE_CRYPTO_SESSION", Nothing),
        ("POSTCOPY_ADVISE", Reply),
        ("POSTCOPY_LISTEN", Nothing),
        ("POSTCOPY_END", Reply),
        ("GET_INFLIGHT_FD", Reply),
        ("SET_INFLIGHT_FD", Nothing),
        ("GPU_SET_SOCKET", Nothing),
        ("RESET_DEVICE", Nothing),
        ("VRING_KICK", Nothing),
        ("GET_MAX_MEM_SLOTS", Reply),
        ("ADD_MEM_REG", Nothing),
        ("REM_MEM_REG", Nothing),
        ("SET_STATUS", Nothing),
        ("GET_STATUS", Reply),
        ("GET_SHARED_OBJECT", Reply),
        ("SET_DEVICE_STATE_FD", Reply),
        ("CHECK_DEVICE_STATE", Reply),
        ("GET_SHMEM_CONFIG", Reply),
    ]
};

/// Whether a request's sender waits for a reply of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaits {
    /// It does.
    Reply,
    /// It waits for an acknowledgement at most.
    Nothing,
}

impl Code {
    fn entry(self) -> Option<(&'static str, Awaits)> {
        REQUESTS.get((self.0 as usize).checked_sub(1)?).copied()
    }

    /// Whether the sender waits for a reply of this request's own.
    #[must_use]
    pub fn awaits(self) -> Awaits {
        self.entry().map_or(Awaits::Nothing, |(_, awaits)| awaits)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "request {}", self.0),
        }
    }
}

/// Whether a request is to be acknowledged (`need_reply`), if that was negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledge {
    /// It is not.
    Unasked,
    /// It is, unless it has a reply of its own.
    Asked,
}

/// A message's header, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which request it is.
    pub code: Code,
    /// Whether it is to be acknowledged.
    pub acknowledge: Acknowledge,
    /// Bytes behind the header, [`PAYLOAD_BYTES_MAX`] at most.
    pub payload_bytes: usize,
}

/// Why a header cannot be believed. What follows it cannot be either: the connection is
/// to be ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Another version, or no message at all.
    #[error("{code}: flags {flags:#x}: protocol version 1 expected in bits 0 and 1")]
    Version {
        /// The request.
        code: Code,
        /// As sent.
        flags: u32,
    },
    /// A reply where only requests can be.
    #[error("{code}: flags {flags:#x}: a reply, where nothing was asked")]
    Reply {
        /// The request.
        code: Code,
        /// As sent.
        flags: u32,
    },
    /// More than any message has.
    #[error("{code}: size {bytes}: a payload has at most {PAYLOAD_BYTES_MAX} bytes")]
    Size {
        /// The request.
        code: Code,
        /// As sent.
        bytes: u32,
    },
}

impl Header {
    /// Understands a header.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        let code = Code(u32::from_ne_bytes([a, b, c, d]));
        let flags = u32::from_ne_bytes([e, f, g, h]);
        let bytes = u32::from_ne_bytes([i, j, k, l]);
        if flags & VERSION_MASK != VERSION {
            return Err(HeaderError::Version { code, flags });
        }
        if flags & REPLY != 0 {
            return Err(HeaderError::Reply { code, flags });
        }
        let acknowledge = match flags & NEED_REPLY {
            0 => Acknowledge::Unasked,
            _ => Acknowledge::Asked,
        };
        match usize::try_from(bytes) {
            Ok(payload_bytes) if payload_bytes <= PAYLOAD_BYTES_MAX => {
                Ok(Header { code, acknowledge, payload_bytes })
            }
            _ => Err(HeaderError::Size { code, bytes }),
        }
    }
}

/// A message as it came: complete, and not yet understood.
#[derive(Debug)]
pub struct Message {
    /// Which request it is.
    pub code: Code,
    /// Whether it is to be acknowledged.
    pub acknowledge: Acknowledge,
    /// What is behind the header.
    pub payload: Vec<u8>,
    /// What came with it: the first [`DESCRIPTORS_MAX`].
    pub descriptors: Vec<OwnedFd>,
    /// Descriptors beyond those; they were closed.
    pub surplus: usize,
}

/// What a reply says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A number: features, queues, slots; 0 or the failure's 1 in an acknowledgement.
    Value(u64),
    /// Where a ring stood.
    Base {
        /// The ring.
        ring: u32,
        /// As [`Request::SetVringBase`] has it.
        base: u32,
    },
}

/// A reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// To which request.
    pub code: Code,
    /// What it says.
    pub body: Body,
}

impl Reply {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let body = match self.body {
            Body::Value(value) => value.to_ne_bytes(),
            Body::Base { ring, base } => {
                let ([a, b, c, d], [e, f, g, h]) = (ring.to_ne_bytes(), base.to_ne_bytes());
                [a, b, c, d, e, f, g, h]
            }
        };
        let mut bytes = [0; REPLY_BYTES];
        let words = [self.code.0, VERSION | REPLY, body.len() as u32];
        let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
        header.chunks_exact_mut(4).zip(words).for_each(|(to, word)| {
            to.copy_from_slice(&word.to_ne_bytes());
        });
        payload.copy_from_slice(&body);
        bytes
    }
}
