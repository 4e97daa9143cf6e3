//! Copies for monitors: of what came from a mirrored device, and of what is sent to one.

use super::groups::Groups;
use crate::snapshot::DeviceId;
use crate::snapshot::mirrors::Mirrors;
use crate::wire::ethernet::{HEADER_BYTES, TagEdit};
use crate::wire::offload::{self, Offload};

/// Whether a monitor may get a frame as it came: what left its sender contradicting itself, or
/// without an Ethernet header, would be a trap for whoever looks on.
#[must_use]
pub(super) fn is_shown(header: &[u8], length: usize, offload: Offload) -> bool {
    let mtu = u16::MAX.into();
    length >= HEADER_BYTES && offload::check(header, length, mtu, offload).is_ok()
}

/// Lays out the copies that monitors get of a batch from `device`: `received` are the frames
/// of it that they may see, `groups` its own copies. `lost` counts those that there is no
/// room for, by monitor.
pub(super) fn lay_out(
    mirrors: &Mirrors,
    device: DeviceId,
    received: impl Iterator<Item = usize> + Clone,
    groups: &Groups,
    mirrored: &mut Groups,
    mut lost: impl FnMut(DeviceId, usize),
) {
    for monitor in mirrors.of_received(device) {
        let (mut frames, room) = (received.clone(), mirrored.room());
        frames.by_ref().take(room).for_each(|frame| mirrored.push(monitor, frame, TagEdit::NONE));
        lost(monitor, frames.count());
    }
    for &device in groups.devices() {
        for monitor in mirrors.of_sent(device) {
            let (mut copies, room) = (groups.of(device), mirrored.room());
            for copy in copies.by_ref().take(room) {
                mirrored.push(monitor, usize::from(copy.frame), copy.edit);
            }
            lost(monitor, copies.count());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BATCH_FRAMES;
    use crate::snapshot::mirrors::Mirrored;
    use crate::wire::ethernet::TagEdit;

    const FROM: DeviceId = DeviceId(1);
    const TO: DeviceId = DeviceId(2);
    const PROBE: DeviceId = DeviceId(9);

    /// Frames of a batch of four from [`FROM`] of which the second goes to [`TO`], as a
    /// monitor of that has them.
    fn seen(of: DeviceId, what: Mirrored) -> Vec<u8> {
        let (mut groups, mut mirrored) = (Groups::new(), Groups::new());
        groups.push(TO, 1, TagEdit::NONE);
        groups.push(DeviceId(3), 2, TagEdit::NONE);
        let mirrors = Mirrors::new(&[(of, what, PROBE)]);
        lay_out(&mirrors, FROM, 0..4, &groups, &mut mirrored, |_, lost| assert_eq!(lost, 0));
        mirrored.of(PROBE).map(|copy| copy.frame).collect()
    }

    #[test]
    fn a_monitor_sees_what_came_whatever_became_of_it_and_what_is_sent() {
        assert_eq!(seen(FROM, Mirrored::Received), [0, 1, 2, 3]);
        assert_eq!(seen(FROM, Mirrored::Both), [0, 1, 2, 3]);
        assert_eq!(seen(TO, Mirrored::Both), [1]);
        assert_eq!(seen(TO, Mirrored::Sent), [1]);
        assert!(seen(FROM, Mirrored::Sent).is_empty() && seen(TO, Mirrored::Received).is_empty());
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_counted() {
        let (mut groups, mut mirrored) = (Groups::new(), Groups::new());
        let all = groups.room();
        (0..all).for_each(|_| groups.push(TO, 0, TagEdit::NONE));
        let mirrors = Mirrors::new(&[(FROM, Mirrored::Received, PROBE), (TO, Mirrored::Sent, TO)]);
        let (mut lost, frames) = (Vec::new(), BATCH_FRAMES);
        let count = |monitor, frames| lost.push((monitor, frames));
        lay_out(&mirrors, FROM, 0..frames, &groups, &mut mirrored, count);
        assert_eq!(lost, [(PROBE, 0), (TO, frames)]);
        assert_eq!((mirrored.of(PROBE).count(), mirrored.room()), (frames, 0));
    }
}
