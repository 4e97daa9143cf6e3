//! What is wrong with the frames of devices while they work: looked for where nobody tells
//! of it, and logged once each.

use std::time::{Duration, Instant};

use hairpin_dataplane::port::Condition;

use super::engine::Engine;

/// Between two counts of the receive queues that netdevs use: rtnetlink does not tell when
/// `ethtool -L` changes them, and to ask takes a lock of the kernel's.
const COUNTS: Duration = Duration::from_secs(3);

impl Engine {
    /// Counts the receive queues of netdevs, if it is time.
    pub(super) fn look_at_queues(&mut self, now: Instant) {
        if now.saturating_duration_since(self.counted) < COUNTS {
            return;
        }
        self.counted = now;
        let works = |condition| condition == Condition::Working;
        for device in self.devices.values_mut().filter(|it| works(it.attached.condition())) {
            device.source.count_queues();
        }
    }

    /// Says what is wrong with the frames of devices, each thing once, and when it is over.
    pub(super) fn log_notes(&mut self) {
        for (name, device) in &mut self.devices {
            let notes = device.source.notes();
            if device.noted == notes {
                continue;
            }
            for note in notes.iter().filter(|note| !device.noted.contains(note)) {
                tracing::warn!(port = name, "{note}");
            }
            if notes.is_empty() {
                tracing::info!(port = name, "the frames of its device are right again");
            }
            device.noted = notes;
        }
    }
}
