//! A netdev by AF_XDP: a NIC's receive queues, or a veth's, in memory shared with the
//! kernel.
//!
//! One socket per receive queue, each with a UMEM of its own of [`RECEIVE_FRAMES`] +
//! [`TRANSMIT_FRAMES`] frames of 4 KiB: 10 MiB a queue, which the kernel keeps in memory,
//! and some 80 KiB of rings. An XDP program hands each frame to its queue's socket, so
//! that the host's own stack gets nothing of what the netdev receives; it is tied to a
//! descriptor and goes with the process, however that ends, and so does promiscuous mode.
//! What the netdev does to frames by itself is turned off meanwhile ([`Caretaker`]).
//!
//! Received frames are viewed where they lie and given back to the fill ring behind the
//! breath. What is sent is copied, once, into a frame of the transmit budget, and is the
//! kernel's until it comes back on the completion ring.
//!
//! There are no offloads: software segments and fills in checksums before
//! ([`super::software`]). A frame longer than a place lies in several pieces, where kernel
//! and driver have that ([`Pieces::Several`]), else in one, which bounds the MTU more
//! ([`MTU_BYTES_MAX`], [`MTU_ONE_PIECE_BYTES_MAX`]). A frame to be sent that is longer than
//! the netdev's MTU allows is named here, since the kernel loses it without a word.

mod budget;
mod custody;
mod error;
mod opening;
mod queue;
mod receiver;
mod receiving;
#[cfg(test)]
mod tests;
mod transmitter;
mod unfilled;

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{HostsOwn, Opened, Receiver, Steering, Transmitter};
use crate::sys::netdev::Description;
use crate::sys::programs::ProgramId;
use crate::sys::xdp::FRAME_BYTES;
pub use crate::sys::xdp::Pieces;
use crate::wire::offload::Capabilities;

pub use custody::{Caretaker, Former, Record, Restored, UNWANTED};
pub use error::XdpError;
pub use opening::{open, open_with};
use queue::Netdev;
pub use receiver::XdpReceiver;
pub use transmitter::XdpTransmitter;
pub use unfilled::{Checksums, Lately};

/// Frames of a queue that the kernel may fill: 8 MiB, two milliseconds at a million frames
/// a second.
pub const RECEIVE_FRAMES: u32 = 2048;
/// Frames of a queue that may be on their way out: 2 MiB.
pub const TRANSMIT_FRAMES: u32 = 512;
/// Bytes of a queue's memory.
pub const QUEUE_BYTES: u32 = (RECEIVE_FRAMES + TRANSMIT_FRAMES) * FRAME_BYTES;
/// What the kernel keeps free before a received frame (`XDP_PACKET_HEADROOM`).
const HEADROOM_BYTES: u32 = 256;
/// The largest MTU in bytes of a netdev: the largest that is in use. A frame of it takes
/// three places, and drivers have no bound as low as that.
pub const MTU_BYTES_MAX: u32 = 9216;
/// The largest where frames lie in one piece: a frame of it, with an Ethernet header, two
/// tags and four bytes to spare, fits behind the headroom.
pub const MTU_ONE_PIECE_BYTES_MAX: u32 = FRAME_BYTES - HEADROOM_BYTES - 18 - 8;
/// Pieces that a received frame may lie in: as many as the kernel has of any frame, a head
/// and 17 more (`MAX_SKB_FRAGS`).
const PIECES_MAX: usize = 18;

/// The largest MTU in bytes of a netdev whose frames may lie in so many pieces.
const fn mtu_max(pieces: Pieces) -> u32 {
    match pieces {
        Pieces::One => MTU_ONE_PIECE_BYTES_MAX,
        Pieces::Several => MTU_BYTES_MAX,
    }
}

/// What is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The interface's name, 1 to 15 bytes.
    pub interface: String,
    /// By which path frames are to come.
    pub mode: Mode,
    /// What to do with an interface that the host itself uses.
    pub hosts_own: HostsOwn,
    /// Programs of devices in whose place it comes
    /// ([`leaving`](super::taking::Wanted::leaving)).
    pub leaving: Vec<ProgramId>,
}

/// Which path is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The best that the driver has.
    #[default]
    Auto,
    /// This one, or none.
    Only(DataPath),
}

impl Mode {
    /// The paths to be tried, in order.
    fn paths(self) -> &'static [DataPath] {
        match self {
            Mode::Auto => &[DataPath::ZeroCopy, DataPath::Copy, DataPath::Generic],
            Mode::Only(DataPath::ZeroCopy) => &[DataPath::ZeroCopy],
            Mode::Only(DataPath::Copy) => &[DataPath::Copy],
            Mode::Only(DataPath::Generic) => &[DataPath::Generic],
        }
    }
}

/// How frames come from the netdev, and go there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataPath {
    /// The device reads and writes our memory itself.
    ZeroCopy,
    /// The driver runs the program, the kernel copies.
    Copy,
    /// The stack runs the program once it has a socket buffer, and copies: any netdev.
    Generic,
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataPath::ZeroCopy => "zero-copy",
            DataPath::Copy => "copy",
            DataPath::Generic => "generic",
        })
    }
}

/// The path that a netdev was opened by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// It.
    pub path: DataPath,
    /// In how many pieces frames may lie.
    pub pieces: Pieces,
    /// Why none of the better ones that were to be tried, or why not several pieces, in a
    /// sentence; empty if nothing was better.
    pub reason: String,
}

/// A netdev's MTU, as far as use is made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsableMtu {
    /// In bytes; no more than can be used.
    pub bytes: u32,
    /// Why the netdev has more, and what to do, in a sentence; nothing if it has not.
    pub problem: Option<String>,
}

/// An opened netdev.
#[derive(Debug)]
pub struct XdpDevice {
    /// One per receive queue of the netdev.
    pub receivers: Vec<XdpReceiver>,
    /// One per receive queue, in the same order, on the same socket.
    pub transmitters: Vec<XdpTransmitter>,
    /// The interface's MTU in bytes when it was opened.
    pub mtu: u32,
    netdev: Arc<Netdev>,
}

/// A receiver and a transmitter for each queue.
fn ends(netdev: &Arc<Netdev>) -> (Vec<XdpReceiver>, Vec<XdpTransmitter>) {
    let end = |queue| {
        let receiver = XdpReceiver::new(Arc::clone(netdev), queue);
        (receiver, XdpTransmitter::new(Arc::clone(netdev), queue))
    };
    (0..netdev.queues.len()).map(end).unzip()
}

impl XdpDevice {
    fn new(netdev: Netdev, mtu: u32) -> XdpDevice {
        let netdev = Arc::new(netdev);
        let (receivers, transmitters) = ends(&netdev);
        XdpDevice { receivers, transmitters, mtu, netdev }
    }

    /// By which path it was opened.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.netdev.granted
    }

    /// A share of it.
    #[must_use]
    pub fn share(&self) -> Share {
        Share(Arc::clone(&self.netdev))
    }
}

impl From<XdpDevice> for Opened {
    fn from(device: XdpDevice) -> Opened {
        Opened {
            receivers: device.receivers.into_iter().map(Receiver::Xdp).collect(),
            transmitters: device.transmitters.into_iter().map(Transmitter::Xdp).collect(),
            capabilities: Capabilities::NONE,
            steering: Steering::ByWorker,
        }
    }
}

/// A share of an opened netdev: its sockets, and the program before them, stay as long as
/// a share or a queue of it is left.
#[derive(Clone, Debug)]
pub struct Share(Arc<Netdev>);

impl Share {
    /// The device once more, on the same sockets, for another owner: nothing is closed or
    /// lost on the way. Each frame is received by one of the owners only, so the former
    /// one must no longer be served.
    #[must_use]
    pub fn reuse(&self) -> Opened {
        let (receivers, transmitters) = ends(&self.0);
        Opened {
            receivers: receivers.into_iter().map(Receiver::Xdp).collect(),
            transmitters: transmitters.into_iter().map(Transmitter::Xdp).collect(),
            capabilities: Capabilities::NONE,
            steering: Steering::ByWorker,
        }
    }

    /// By which path it was opened.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.0.granted
    }

    /// Whether the netdev is still there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.queues.iter().all(|queue| queue.is_bound())
    }

    /// Takes the program away from a netdev that is gone: it may only have been moved to
    /// another network namespace, and cannot be opened anew while it has the program.
    pub fn untie(&self) {
        self.0.untie();
    }

    /// The program that gives frames to the sockets; nothing once it is untied.
    #[must_use]
    pub fn program(&self) -> Option<ProgramId> {
        self.0.program()
    }

    /// The netdev's index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.0.index
    }

    /// The netdev as it is now, whatever its name is, and whatever network namespace the
    /// calling thread is in.
    ///
    /// # Errors
    /// `ENODEV`: it is gone from the namespace in which it was opened.
    pub fn describe(&self) -> io::Result<Description> {
        self.0.describe()
    }

    /// What is made of its MTU in bytes; its transmitters hold to it from now on.
    #[must_use]
    pub fn usable_mtu(&self, mtu: u32) -> UsableMtu {
        let bytes = self.0.follow(mtu);
        let too_large = || XdpError::MtuTooLarge {
            interface: self.0.interface.clone(),
            mtu,
            pieces: self.0.granted.pieces,
        };
        UsableMtu { bytes, problem: (bytes < mtu).then(|| too_large().to_string()) }
    }

    /// Which of [`UNWANTED`] it does all the same.
    #[must_use]
    pub fn still_on(&self) -> &[String] {
        &self.0.custody.still_on
    }

    /// What there is against the receive queues that it uses by now, in a sentence with the
    /// remedy; nothing if all are ours, or its driver does not say. Takes a few system
    /// calls.
    #[must_use]
    pub fn queue_problem(&self) -> Option<String> {
        let used = self.0.custody.tie.channels().ok()?;
        let bound = self.0.queues.len() as u32;
        (used.receive_queues() > bound).then(|| {
            format!(
                "interface `{interface}`: it uses {} receive queues by now, of which {bound} are \
                 ours: the frames of the others go to the host's own stack: set it back \
                 (`ethtool -L {interface} {}`), or open it anew by two changes of the \
                 configuration, the first without the device",
                used.receive_queues(),
                used.words(bound),
                interface = self.0.interface,
            )
        })
    }

    /// Whether it sends us frames whose checksums are not filled in, as far as samples
    /// show.
    #[must_use]
    pub fn checksums(&self) -> Checksums {
        self.0.sightings.checksums()
    }

    /// Frames that the kernel has dropped since it was opened: before our rings, and behind
    /// them, as when the other end of a veth has a smaller MTU. The same from every network
    /// namespace.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let received: u64 = self.0.queues.iter().map(|queue| queue.lost()).sum();
        let sent = self.describe().map_or(0, |found| found.transmit_dropped);
        received + sent.saturating_sub(self.0.transmit_dropped)
    }
}
