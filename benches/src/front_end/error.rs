//! Why a front end is of no use.

use std::io;

use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use hairpin_dataplane::port::vhost_user::message::Code;
use hairpin_dataplane::sys::virtqueue::LayoutError;

/// Why a front end is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FrontEndError {
    /// The socket's, or the kernel's when memory or an eventfd was asked for.
    #[error("front end: {what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
    /// The switch has closed the connection.
    #[error("front end: the switch has closed the connection")]
    Closed,
    /// The switch has refused a request.
    #[error("front end: {0}: refused")]
    Refused(Code),
    /// What came is no reply to what was asked.
    #[error("front end: {asked}: answered by {found} with flags {flags:#x} and {bytes} bytes")]
    Strange {
        /// What was asked.
        asked: Code,
        /// What came.
        found: Code,
        /// Its flags.
        flags: u32,
        /// Its payload's size.
        bytes: u32,
    },
    /// The switch does not offer what the layout needs.
    #[error("front end: the switch does not offer {0}: ask for another layout")]
    Features(Features),
    /// Likewise, of the protocol.
    #[error("front end: the switch does not offer {0}, which this front end needs")]
    Protocol(ProtocolFeatures),
    /// The device has fewer queue pairs than the layout.
    #[error("front end: {wanted} queue pairs wanted, the device has {offered}: configure more")]
    Pairs {
        /// By the layout.
        wanted: usize,
        /// By the switch.
        offered: u64,
    },
    /// Rings cannot be as the layout says.
    #[error("front end: {0}")]
    Layout(#[from] LayoutError),
}

impl FrontEndError {
    /// Says what was tried.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> FrontEndError {
        move |error| match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => FrontEndError::Closed,
            _ => FrontEndError::Io { what, error },
        }
    }
}
