//! Which devices are mirrored, and whose monitors get the copies.

use super::DeviceId;

/// What a mirror copies of a device's frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mirrored {
    /// What it receives from the device and what it sends to it.
    Both,
    /// What comes from the device, as it comes, whatever becomes of it.
    Received,
    /// What is sent to the device, as it leaves, whether or not there is room for it.
    Sent,
}

/// A device and one monitor of it.
type Pair = (DeviceId, DeviceId);

/// All mirrors.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// Both are sorted, and each pair is there once.
    received: Box<[Pair]>,
    sent: Box<[Pair]>,
}

impl Mirrors {
    /// Of these devices, each with what is mirrored of it and for which monitor.
    #[must_use]
    pub fn new(all: &[(DeviceId, Mirrored, DeviceId)]) -> Mirrors {
        let pairs = |of: Mirrored| {
            let mine = all.iter().filter(|(_, what, _)| [of, Mirrored::Both].contains(what));
            let mut pairs: Vec<Pair> = mine.map(|&(from, _, to)| (from, to)).collect();
            pairs.sort_unstable();
            pairs.dedup();
            pairs.into_boxed_slice()
        };
        Mirrors { received: pairs(Mirrored::Received), sent: pairs(Mirrored::Sent) }
    }

    /// Whether there are none: all that a worker asks where nothing is mirrored.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty() && self.sent.is_empty()
    }

    /// The monitors of what comes from a device.
    pub fn of_received(&self, device: DeviceId) -> impl Iterator<Item = DeviceId> {
        monitors(&self.received, device)
    }

    /// The monitors of what is sent to a device.
    pub fn of_sent(&self, device: DeviceId) -> impl Iterator<Item = DeviceId> {
        monitors(&self.sent, device)
    }
}

fn monitors(pairs: &[Pair], device: DeviceId) -> impl Iterator<Item = DeviceId> {
    let first = pairs.partition_point(|&(from, _)| from < device);
    let mine = pairs[first..].iter().take_while(move |&&(from, _)| from == device);
    mine.map(|&(_, monitor)| monitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_monitor_of_a_device_is_found_once() {
        let [a, b, c, probe, other] = [1, 2, 3, 8, 9].map(DeviceId);
        let mirrors = Mirrors::new(&[
            (b, Mirrored::Both, probe),
            (b, Mirrored::Received, other),
            (a, Mirrored::Sent, probe),
            (b, Mirrored::Sent, probe),
        ]);
        let received = |device| mirrors.of_received(device).collect::<Vec<_>>();
        let sent = |device| mirrors.of_sent(device).collect::<Vec<_>>();
        assert_eq!([a, b, c].map(received), [vec![], vec![probe, other], vec![]]);
        assert_eq!([a, b, c].map(sent), [vec![probe], vec![probe], vec![]]);
        assert!(!mirrors.is_empty() && Mirrors::default().is_empty());
    }
}
