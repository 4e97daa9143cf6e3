//! Why a netdev could not be opened.

use std::{fmt, io};

use super::{DataPath, Pieces, mtu_max};
use crate::port::taking::TakingError;

/// Why a netdev could not be opened. Each names the interface and what to do.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// It may not be taken, or could not be.
    #[error(transparent)]
    Taking(#[from] TakingError),
    /// Frames as long as it allows do not fit.
    #[error(
        "interface `{interface}`: its mtu is {mtu}, and xdp takes {most} at most{why}: lower it (`ip link set {interface} mtu {most}`), or use a packet device",
        most = mtu_max(*.pieces),
        why = why(*.pieces)
    )]
    MtuTooLarge {
        /// As configured.
        interface: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// In how many pieces its frames may lie.
        pieces: Pieces,
    },
    /// Another socket has a receive queue.
    #[error(
        "interface `{interface}`: another program, or a port or link of ours as it was before this change, has receive queue {queue} by AF_XDP: stop that program, or make two changes, the first without the device"
    )]
    QueueTaken {
        /// As configured.
        interface: String,
        /// Which.
        queue: u32,
    },
    /// It runs an XDP program by now, though it did not when it was asked for.
    #[error(
        "interface `{interface}` was given an XDP program by somebody else just now: stop who did that, or take it away (`ip link set {interface} xdp off`)"
    )]
    ProgramTaken {
        /// As configured.
        interface: String,
    },
    /// A queue's memory is more than this process may lock.
    #[error(
        "xdp `{interface}`: its frames' memory, {mebibytes} MiB a receive queue, may not be locked: run with CAP_IPC_LOCK, raise the limit (`ulimit -l`, LimitMEMLOCK= of a service), or have fewer queues (`ethtool -L {interface} combined 1`); besides, it takes CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"
    )]
    MemoryNotLocked {
        /// As configured.
        interface: String,
        /// What one queue needs, in MiB.
        mebibytes: u32,
    },
    /// None of the paths that were wanted is to be had.
    #[error(
        "xdp `{interface}`: {reasons}; set mode = \"auto\" to take what there is, or use a packet device"
    )]
    NoPath {
        /// As configured.
        interface: String,
        /// Why, for each.
        reasons: String,
    },
}

impl XdpError {
    /// Whether the netdev's owner may still bring it: the port waits.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, XdpError::Taking(error) if error.may_pass())
    }
}

/// Why no more, in an aside.
fn why(pieces: Pieces) -> &'static str {
    match pieces {
        Pieces::Several => "",
        Pieces::One => {
            " here, where frames lie in one piece (several take Linux 6.6 and a driver that has them)"
        }
    }
}

/// What stands against one path; another may still be open.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) path: DataPath,
    pub(super) against: Against,
    pub(super) step: &'static str,
    pub(super) error: io::Error,
}

/// What an obstacle forbids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Against {
    /// The path.
    Path,
    /// Frames of several pieces on it.
    SeveralPieces,
    /// The path with the MTU that the netdev has, as it takes frames in one piece only.
    Mtu,
    /// The path with as many receive queues as it uses: this one is refused.
    Queue {
        /// Which.
        number: u32,
        /// How many there are.
        used: u32,
    },
    /// The path with as few receive queues as it has.
    FewQueues,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Obstacle { path, against, step, error } = self;
        match against {
            Against::Path => write!(f, "no {path}, as it cannot {step}: {error}"),
            Against::SeveralPieces => {
                write!(f, "{path} with one piece a frame, as it cannot {step} for several: {error}")
            }
            Against::Mtu => write!(
                f,
                "no {path} with its mtu, as it cannot {step} for frames of several pieces: {error}"
            ),
            Against::Queue { number, used } => write!(
                f,
                "no {path}, as it cannot {step} to receive queue {number} of {used}: {error} (some \
                 drivers want a transmit queue for each: see `ethtool -l`, and have as many of \
                 both, or fewer receive queues, with `ethtool -L`)"
            ),
            Against::FewQueues => write!(
                f,
                "no {path}, as it cannot {step}: {error} (a veth needs a receive queue for each \
                 transmit queue of its peer: have fewer of those, at the other end `ethtool -L \
                 PEER tx 1`, or make the pair with more `numrxqueues`)"
            ),
        }
    }
}

/// What stood against the paths that were tried, in a sentence.
pub(super) fn reasons(obstacles: &[Obstacle]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
