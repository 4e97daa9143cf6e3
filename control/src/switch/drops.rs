//! What devices lost by themselves: counted by the kernel, beside the ledgers.

use std::collections::BTreeMap;
use std::sync::Arc;

use hairpin_dataplane::port::{Attached, tap};

use super::devices::{Device, Share};
use super::engine::Engine;

/// What the kernel has dropped of a port's or link's frames, beside the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceDrops {
    /// Frames, since the port or link was made.
    count: u64,
    /// Where the kernel's counter, which begins with the netdev, stood at the last look.
    seen: u64,
}

impl DeviceDrops {
    /// Goes on from `count` with a device whose counter stands at `seen`.
    #[must_use]
    pub fn new(count: u64, seen: u64) -> DeviceDrops {
        DeviceDrops { count, seen }
    }

    /// Takes note of where the counter stands. One netdev's only rises: less is an
    /// earlier look that was late.
    fn note(&mut self, now: u64) {
        self.count += now.saturating_sub(self.seen);
        self.seen = now.max(self.seen);
    }
}

impl Device {
    /// Frames lost up to now, at a last look.
    #[must_use]
    pub fn final_drops(mut self) -> u64 {
        let look = match &self.source.share {
            Some(Share::Tap(tap)) => tap::device_drops(&[tap]).into_iter().flatten().next(),
            Some(Share::Packet(packet)) => Some(packet.lost()),
            Some(Share::Xdp(xdp)) => Some(xdp.lost()),
            Some(Share::VhostUser(_)) | None => None,
        };
        look.into_iter().for_each(|now| self.drops.note(now));
        self.drops.count
    }
}

/// A device at whose counter somebody looks, without the engine's lock.
#[derive(Debug)]
pub struct Probe {
    name: String,
    attached: Arc<Attached>,
    share: Share,
}

/// Looks at the kernel's counters; by device, where it stands.
#[must_use]
pub fn look(probes: Vec<Probe>) -> Vec<(String, Arc<Attached>, u64)> {
    let taps: Vec<&tap::Share> = probes.iter().filter_map(|probe| probe.share.tap()).collect();
    // One look for all TAPs: they may be in many namespaces.
    let mut of_taps = tap::device_drops(&taps).into_iter();
    let looks: Vec<Option<u64>> = probes
        .iter()
        .map(|probe| match &probe.share {
            Share::Tap(_) => of_taps.next().flatten(),
            Share::Packet(packet) => Some(packet.lost()),
            Share::Xdp(xdp) => Some(xdp.lost()),
            Share::VhostUser(_) => None,
        })
        .collect();
    let told = probes.into_iter().zip(looks);
    told.filter_map(|(probe, now)| Some((probe.name, probe.attached, now?))).collect()
}

impl Engine {
    /// All devices whose losses the kernel counts.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let probe = |(name, device): (&String, &Device)| {
            let share = device.source.share.as_ref();
            // One that is looked at would outlive its port: nothing is lost before a guest's rings.
            let share = share.filter(|share| !matches!(share, Share::VhostUser(_)))?.clone();
            let attached = Arc::clone(&device.attached);
            Some(Probe { name: name.clone(), attached, share })
        };
        self.devices.iter().filter_map(probe).collect()
    }

    /// Takes note of looks; says what each port and link has lost. A device that was
    /// replaced meanwhile is passed over.
    pub(super) fn note_drops(
        &mut self,
        looks: Vec<(String, Arc<Attached>, u64)>,
    ) -> BTreeMap<String, u64> {
        for (name, attached, now) in looks {
            let device = self.devices.get_mut(&name);
            if let Some(device) = device.filter(|it| Arc::ptr_eq(&it.attached, &attached)) {
                device.drops.note(now);
            }
        }
        let each = self.devices.iter();
        each.map(|(name, device)| (name.clone(), device.drops.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_after_the_beginning_counts_and_none_twice() {
        let mut drops = DeviceDrops::new(7, 100);
        for (now, count) in [(100, 7), (103, 10), (101, 10), (104, 11)] {
            drops.note(now);
            assert_eq!(drops.count, count, "at {now}");
        }
    }
}
