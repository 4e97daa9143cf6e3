//! Which frames a netdev takes whole, as that is now.
//!
//! A packet socket without a queueing discipline loses a frame that has to be cut for its
//! netdev: the kernel drops it and says `ENOBUFS`, as of a full queue (`__dev_direct_xmit`).
//! Checksums it does fill in, in its own copy. So the frames that a netdev does not cut are
//! cut before they are sent. Whether it does changes while it is a port's: its owner says so
//! (`ethtool -K`), or the driver of the guest behind it (`TUNSETOFFLOAD`).

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys::features::Tie;
use crate::wire::offload::{Capabilities, Support};

/// The features that count, as ethtool(8) calls them, in the order of their bits.
const FEATURES: [&str; 4] = [
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-udp-segmentation",
];

/// What is known of a netdev: a bit for each of [`FEATURES`] that is on.
#[derive(Debug)]
pub(super) struct Cutting(AtomicU8);

impl Cutting {
    /// Of the netdev of that index, in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of [`Cutting::look`].
    pub(super) fn of(index: u32) -> io::Result<Cutting> {
        let cutting = Cutting(AtomicU8::new(0));
        cutting.look(index)?;
        Ok(cutting)
    }

    /// Asks anew. What cannot be asked stays as it was.
    ///
    /// # Errors
    /// `ENODEV`: it is gone; those of socket(2).
    pub(super) fn look(&self, index: u32) -> io::Result<()> {
        let active = Tie::to(index)?.active(FEATURES)?;
        let bits = active.iter().enumerate().map(|(bit, &active)| u8::from(active) << bit);
        self.0.store(bits.sum(), Ordering::Relaxed);
        Ok(())
    }

    /// What it takes.
    #[inline]
    pub(super) fn capabilities(&self) -> Capabilities {
        let bits = self.0.load(Ordering::Relaxed);
        let of = |bit: u8| if bits >> bit & 1 == 1 { Support::Taken } else { Support::Lacking };
        Capabilities { checksum: Support::Taken, tcp4: of(0), tcp6: of(1), ecn: of(2), udp: of(3) }
    }
}
