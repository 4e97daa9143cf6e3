//! Why a request is refused, and why a session ends.

use crate::port::vhost_user::features::{Features, ProtocolFeatures};
use crate::port::vhost_user::message::{Code, Malformed};
use crate::port::vhost_user::regions::RegionError;
use crate::sys::virtqueue::LayoutError;

/// Why a request is refused. The session is as if it had not come, where the variant does
/// not say otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be understood.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is of a kind that was not offered.
    #[error("{0}: not offered here: the front end should not send it")]
    Unknown(Code),
    /// There is no such ring.
    #[error("{code}: ring {ring}: this device has {pairs} queue pairs, rings 0 to {}", 2 * .pairs - 1)]
    NoRing {
        /// The request.
        code: Code,
        /// As sent.
        ring: u32,
        /// As configured.
        pairs: usize,
    },
    /// Features that were never offered.
    #[error("SET_FEATURES: {0}: never offered: have the front end ask first (GET_FEATURES)")]
    Features(Features),
    /// Protocol features that were never offered.
    #[error(
        "SET_PROTOCOL_FEATURES: {0}: never offered: have the front end ask first \
         (GET_PROTOCOL_FEATURES)"
    )]
    Protocol(ProtocolFeatures),
    /// A ring of no such size.
    #[error("SET_VRING_NUM: ring {ring}, size {size}: a ring has 1 to 32768 entries")]
    Size {
        /// The ring.
        ring: u32,
        /// As sent.
        size: u32,
    },
    /// A descriptor that is no eventfd.
    #[error("{code}: ring {ring}: the descriptor cannot be used: {error}")]
    Eventfd {
        /// The request.
        code: Code,
        /// The ring.
        ring: u32,
        /// Why.
        error: std::io::Error,
    },
    /// A region that cannot be. After SET_MEM_TABLE there is no memory then.
    #[error("{code}: {error}")]
    Region {
        /// The request.
        code: Code,
        /// Why.
        error: RegionError,
    },
    /// No MTU.
    #[error("NET_SET_MTU: {0} bytes: an MTU has 68 to 65535")]
    Mtu(u64),
    /// What was set was taken, but the ring cannot run with it.
    #[error("ring {ring} cannot run: {error}")]
    Ring {
        /// The ring.
        ring: usize,
        /// Why.
        error: RingTrouble,
    },
}

/// Why a ring that could run does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingTrouble {
    /// The header of such a device is not understood.
    #[error(
        "neither version_1 nor mrg_rxbuf is negotiated: use a modern virtio driver \
         (disable-legacy=on in QEMU)"
    )]
    ShortHeader,
    /// An address of the front end's that it lends no memory for.
    #[error("address {0:#x}: in no memory region of the front end's")]
    Untranslated(u64),
    /// The memory that it lies in was cut short.
    #[error("the file of the memory that it lies in was cut short: restart the VM")]
    Memory,
    /// It cannot be where it is said to be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why a session cannot go on: the connection is to be closed, the session to be ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The front end waits for a reply that cannot be given.
    #[error("{code} cannot be answered: {refusal}")]
    Unanswerable {
        /// The request.
        code: Code,
        /// Why.
        refusal: Refusal,
    },
    /// A request was handed over before the one before it was done.
    #[error("{0}: handed over while another request was not done")]
    Unfinished(Code),
}
