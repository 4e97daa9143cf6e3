//! Requests, from their payloads and descriptors.

use std::os::fd::OwnedFd;

use super::{Code, DESCRIPTORS_MAX, Message};
use crate::port::vhost_user::ring::Service;

/// The bit that says that no descriptor comes, in the messages that otherwise need one.
const NO_DESCRIPTOR: u64 = 1 << 8;
/// The bits of a ring's number in those messages.
const RING_MASK: u64 = 0xff;

/// Where a ring lies, in the front end's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The descriptor table, or the packed ring.
    pub descriptors: u64,
    /// What the device writes: the used ring, or its event suppression.
    pub device: u64,
    /// What the driver writes: the available ring, or its event suppression.
    pub driver: u64,
}

/// A memory region, as a message describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionSpec {
    /// Where it begins, as buffers are addressed.
    pub guest: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it begins, as rings are addressed.
    pub user: u64,
    /// Where it begins in its file, in bytes.
    pub offset: u64,
}

/// A request; rings are numbered as sent, nothing is known to exist yet.
#[derive(Debug)]
pub enum Request {
    /// Which features are offered.
    GetFeatures,
    /// Which of them hold.
    SetFeatures(u64),
    /// The sender is this device's front end.
    SetOwner,
    /// Deprecated: means nothing.
    ResetOwner,
    /// The memory, in the place of what it was.
    SetMemTable(Vec<(RegionSpec, OwnedFd)>),
    /// A ring's size.
    SetVringNum {
        /// The ring.
        ring: u32,
        /// Entries.
        size: u32,
    },
    /// Where a ring lies.
    SetVringAddr {
        /// The ring.
        ring: u32,
        /// Where.
        addresses: Addresses,
    },
    /// Where to start a ring. Split: the next available index. Packed: that and the wrap
    /// counter (bit 15) in the lower half, the same of the used side in the upper one.
    SetVringBase {
        /// The ring.
        ring: u32,
        /// Where.
        base: u32,
    },
    /// Stop a ring; tell where it stood.
    GetVringBase {
        /// The ring.
        ring: u32,
    },
    /// By what the driver tells of buffers; without, the ring is polled.
    SetVringKick {
        /// The ring.
        ring: u32,
        /// An eventfd.
        fd: Option<OwnedFd>,
    },
    /// By what the driver is told of buffers; without, it polls.
    SetVringCall {
        /// The ring.
        ring: u32,
        /// An eventfd.
        fd: Option<OwnedFd>,
    },
    /// By what the front end is told that a ring broke.
    SetVringErr {
        /// The ring.
        ring: u32,
        /// An eventfd.
        fd: Option<OwnedFd>,
    },
    /// Which protocol features are offered.
    GetProtocolFeatures,
    /// Which of them hold.
    SetProtocolFeatures(u64),
    /// How many queue pairs there can be.
    GetQueueNum,
    /// Whether a ring's frames are wanted.
    SetVringEnable {
        /// The ring.
        ring: u32,
        /// Whether.
        service: Service,
    },
    /// Announce the guest at its new place.
    SendRarp,
    /// The MTU that the guest was told, in bytes.
    NetSetMtu(u64),
    /// Be as at the beginning.
    ResetDevice,
    /// How many memory regions there can be.
    GetMaxMemSlots,
    /// One more region.
    AddMemReg(RegionSpec, OwnedFd),
    /// One region less.
    RemMemReg(RegionSpec),
    /// Anything else.
    Unknown,
}

/// A request, and what was left over.
#[derive(Debug)]
pub struct Parsed {
    /// The request.
    pub request: Request,
    /// Descriptors that do not belong to it; they were closed.
    pub stray: usize,
}

/// Why a message is no request. It was read to its end: the next one can be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The payload's size is not that of this request.
    #[error("{code}: size {bytes}: its payload has {expected} bytes")]
    Size {
        /// The request.
        code: Code,
        /// As sent.
        bytes: usize,
        /// What it should be.
        expected: usize,
    },
    /// A field holds what it cannot.
    #[error("{code}: {field} {value:#x}: {bound}")]
    Field {
        /// The request.
        code: Code,
        /// The field.
        field: &'static str,
        /// As sent.
        value: u64,
        /// What it can be.
        bound: &'static str,
    },
    /// The descriptors are not as many as the request needs.
    #[error("{code}: {found} descriptors came with it: it needs {needed}")]
    Descriptors {
        /// The request.
        code: Code,
        /// As came.
        found: usize,
        /// As needed.
        needed: usize,
    },
}

/// A payload that is read from its beginning.
struct Payload<'a> {
    code: Code,
    bytes: &'a [u8],
}

impl Payload<'_> {
    fn exactly(&self, expected: usize) -> Result<(), Malformed> {
        let bytes = self.bytes.len();
        if bytes == expected {
            return Ok(());
        }
        Err(Malformed::Size { code: self.code, bytes, expected })
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (word, rest) = self.bytes.split_first_chunk::<N>().ok_or(Malformed::Size {
            code: self.code,
            bytes: self.bytes.len(),
            expected: N,
        })?;
        self.bytes = rest;
        Ok(*word)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.word().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.word().map(u64::from_ne_bytes)
    }

    fn nothing(self, request: Request) -> Result<Request, Malformed> {
        self.exactly(0).map(|()| request)
    }

    fn value(mut self) -> Result<u64, Malformed> {
        self.exactly(8)?;
        self.u64()
    }

    /// A ring and a number.
    fn state(mut self) -> Result<(u32, u32), Malformed> {
        self.exactly(8)?;
        Ok((self.u32()?, self.u32()?))
    }

    fn addresses(mut self) -> Result<Request, Malformed> {
        self.exactly(40)?;
        let ring = self.u32()?;
        let _flags = self.u32()?;
        let (descriptors, device, driver) = (self.u64()?, self.u64()?, self.u64()?);
        Ok(Request::SetVringAddr { ring, addresses: Addresses { descriptors, device, driver } })
    }

    fn region(&mut self) -> Result<RegionSpec, Malformed> {
        let (guest, bytes, user, offset) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        Ok(RegionSpec { guest, bytes, user, offset })
    }

    fn single_region(mut self) -> Result<RegionSpec, Malformed> {
        self.exactly(40)?;
        let _padding = self.u64()?;
        self.region()
    }

    fn table(mut self) -> Result<Vec<RegionSpec>, Malformed> {
        let code = self.code;
        let (all, count, _padding) = (self.bytes.len(), self.u32()?, self.u32()?);
        let needed = count as usize;
        if needed > DESCRIPTORS_MAX {
            let (field, value) = ("number of regions", u64::from(count));
            return Err(Malformed::Field { code, field, value, bound: "at most 8" });
        }
        let expected = 8 + 32 * needed;
        if all != expected {
            return Err(Malformed::Size { code, bytes: all, expected });
        }
        (0..needed).map(|_| self.region()).collect()
    }

    fn enable(self) -> Result<Request, Malformed> {
        let code = self.code;
        let (ring, value) = self.state()?;
        let service = match value {
            0 => Service::Disabled,
            1 => Service::Enabled,
            _ => {
                let (field, value, bound) = ("enable", u64::from(value), "0 or 1");
                return Err(Malformed::Field { code, field, value, bound });
            }
        };
        Ok(Request::SetVringEnable { ring, service })
    }

    /// A ring and its descriptor, which is taken from those that came.
    fn event(self, came: &mut Vec<OwnedFd>) -> Result<(u32, Option<OwnedFd>), Malformed> {
        let code = self.code;
        let value = self.value()?;
        if value & !(RING_MASK | NO_DESCRIPTOR) != 0 {
            let (field, bound) = ("ring", "a number of 8 bits, and bit 8 if no descriptor comes");
            return Err(Malformed::Field { code, field, value, bound });
        }
        let ring = (value & RING_MASK) as u32;
        if value & NO_DESCRIPTOR != 0 {
            return Ok((ring, None));
        }
        single(code, came).map(|fd| (ring, Some(fd)))
    }
}

/// The first descriptor that came.
fn single(code: Code, came: &mut Vec<OwnedFd>) -> Result<OwnedFd, Malformed> {
    if came.is_empty() {
        return Err(Malformed::Descriptors { code, found: 0, needed: 1 });
    }
    Ok(came.remove(0))
}

impl Request {
    /// Understands a message. Descriptors that do not belong to it are closed.
    ///
    /// # Errors
    /// [`Malformed`]; all its descriptors are closed then.
    pub fn parse(message: Message) -> Result<Parsed, Malformed> {
        let Message { code, payload, descriptors: mut came, surplus, .. } = message;
        let payload = Payload { code, bytes: &payload };
        let request = match code.0 {
            5 => {
                let specs = payload.table()?;
                let (found, needed) = (came.len() + surplus, specs.len());
                if found != needed {
                    return Err(Malformed::Descriptors { code, found, needed });
                }
                Request::SetMemTable(specs.into_iter().zip(came.drain(..)).collect())
            }
            12 => {
                let (ring, fd) = payload.event(&mut came)?;
                Request::SetVringKick { ring, fd }
            }
            13 => {
                let (ring, fd) = payload.event(&mut came)?;
                Request::SetVringCall { ring, fd }
            }
            14 => {
                let (ring, fd) = payload.event(&mut came)?;
                Request::SetVringErr { ring, fd }
            }
            37 => Request::AddMemReg(payload.single_region()?, single(code, &mut came)?),
            38 => {
                let spec = payload.single_region()?;
                // Allowed, and of no use.
                came.truncate(came.len().saturating_sub(1));
                Request::RemMemReg(spec)
            }
            _ => plain(payload)?,
        };
        Ok(Parsed { request, stray: came.len() + surplus })
    }
}

/// The requests without descriptors.
fn plain(payload: Payload<'_>) -> Result<Request, Malformed> {
    match payload.code.0 {
        1 => payload.nothing(Request::GetFeatures),
        2 => payload.value().map(Request::SetFeatures),
        3 => payload.nothing(Request::SetOwner),
        4 => payload.nothing(Request::ResetOwner),
        8 => payload.state().map(|(ring, size)| Request::SetVringNum { ring, size }),
        9 => payload.addresses(),
        10 => payload.state().map(|(ring, base)| Request::SetVringBase { ring, base }),
        11 => payload.state().map(|(ring, _)| Request::GetVringBase { ring }),
        15 => payload.nothing(Request::GetProtocolFeatures),
        16 => payload.value().map(Request::SetProtocolFeatures),
        17 => payload.nothing(Request::GetQueueNum),
        18 => payload.enable(),
        19 => payload.value().map(|_| Request::SendRarp),
        20 => payload.value().map(Request::NetSetMtu),
        34 => payload.nothing(Request::ResetDevice),
        36 => payload.nothing(Request::GetMaxMemSlots),
        _ => Ok(Request::Unknown),
    }
}
