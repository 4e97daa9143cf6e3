//! What a worker would do with a frame, without doing it: the relay's explanation, and what
//! hangs on whether devices work.

use super::deliver::reachable;
use super::mirror;
use crate::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use crate::port::{Condition, SenderQueue};
use crate::relay::why::Explanation;
use crate::relay::{Frame, Relay};
use crate::snapshot::{Device, DeviceId, Snapshot};
use crate::wire::offload::Offload;

/// Whether a device's frames are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull {
    /// They are.
    Taken,
    /// Its port, or all of its link's channels, are down.
    Down,
    /// The device is gone.
    Lost,
    /// Serving it failed.
    Quarantined,
}

impl Pull {
    /// Of a device as it is now.
    #[inline]
    #[must_use]
    pub fn of(snapshot: &Snapshot, device: &Device) -> Pull {
        match device.attached.condition() {
            Condition::Lost => Pull::Lost,
            Condition::Quarantined => Pull::Quarantined,
            Condition::Working if snapshot.pulls(device) => Pull::Taken,
            Condition::Working => Pull::Down,
        }
    }
}

/// What would become of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Foreseen {
    /// It stays with its device, which is not served: so it is.
    NotTaken(Pull),
    /// It would be taken.
    Taken(Explanation),
}

/// Whether monitors of a device may see a frame of these bytes, with this left to do, as it
/// comes from there.
#[must_use]
pub fn is_mirrored_as_it_comes(bytes: &[u8], offload: Offload) -> bool {
    mirror::is_shown(first_bytes(bytes), bytes.len(), offload)
}

/// What a worker looks at of a frame.
fn first_bytes(bytes: &[u8]) -> &[u8] {
    bytes.get(..HEADER_BYTES).unwrap_or(bytes)
}

/// What would become of a frame of these bytes, with this left to do, that came from a
/// device now. Nothing is learned, counted, taken or sent. Nothing if the device's id is not
/// in use, or the frame is longer than [`FRAME_BYTES_MAX`].
#[must_use]
pub fn foresee(relay: Relay<'_>, id: DeviceId, bytes: &[u8], offload: Offload) -> Option<Foreseen> {
    let device = relay.snapshot.device(id)?;
    if bytes.len() > FRAME_BYTES_MAX {
        return None;
    }
    match Pull::of(relay.snapshot, device) {
        Pull::Taken => {}
        other => return Some(Foreseen::NotTaken(other)),
    }
    let frame = Frame { index: 0, header: first_bytes(bytes), length: bytes.len(), offload };
    // Which queue it comes from tells transmitters apart, never whether there is one.
    let reaches = |device: &Device| {
        let lane = device.attached.lane(0, SenderQueue(0));
        reachable(&device.attached, lane).map(drop)
    };
    relay.why(id, &frame, reaches).map(Foreseen::Taken)
}
