//! Where frames go: to an interface, or to a VM.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context, Result};
use crate::front_end::{FrontEnd, Layout};

/// Entries of a VM's rings: what DPDK's generators have in the other benchmarks.
const ENTRIES: u16 = 1024;

/// Where frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The far end of a second veth pair.
    Netdev,
    /// A VM with split rings.
    Split,
    /// One with packed rings.
    Packed,
    /// One with packed rings that are used in order.
    PackedInOrder,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 4] =
        [Target::Netdev, Target::Split, Target::Packed, Target::PackedInOrder];

    /// Its name on the command line, in the table and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Target::Netdev => "netdev",
            Target::Split => "split",
            Target::Packed => "packed",
            Target::PackedInOrder => "packed-inorder",
        }
    }

    /// How the VM has its rings; nothing for an interface.
    #[must_use]
    pub fn layout(self) -> Option<Layout> {
        let layout = match self {
            Target::Netdev => return None,
            Target::Split => Layout::SPLIT,
            Target::Packed => Layout::PACKED,
            Target::PackedInOrder => Layout::PACKED_IN_ORDER,
        };
        Some(Layout { entries: ENTRIES, ..layout })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A VM that takes whatever comes and asks for no call. It shares the sender's thread: a
/// VM has a CPU, and the forwarder's is not to be it.
#[derive(Debug)]
pub struct Guest {
    front: FrontEnd,
    received: Arc<AtomicU64>,
}

impl Guest {
    /// One at a socket that the forwarder has made.
    ///
    /// # Errors
    /// If it is refused there.
    pub fn connect(socket: &Path, layout: Layout) -> Result<Guest> {
        let front = FrontEnd::connect(socket, layout).context("the VM")?;
        Ok(Guest { front, received: Arc::default() })
    }

    /// Frames that it has taken so far, for others to read.
    #[must_use]
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Takes what has come.
    pub fn take(&mut self) {
        let frames = self.front.discard();
        self.received.fetch_add(frames as u64, Ordering::Relaxed);
    }
}
