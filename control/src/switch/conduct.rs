//! What guests send that no honest driver does: a little is counted and dropped, much of it
//! takes the port out of service. Looked at by control, from the counters that workers keep
//! anyway.

use std::time::Instant;

use hairpin_dataplane::ledger::{DropReason, Totals};
use hairpin_dataplane::port::Condition;

use super::devices::Device;
use super::engine::Engine;
use crate::vhost::spate::Spate;

/// Frames of these kinds within a second for which a guest is quarantined. A driver that
/// works sends none. One that is taken down in the middle of something may leave a ring
/// full of garbage behind, which is 256 descriptors by default and 1,024 at most in QEMU;
/// one that is at it on purpose sends this many in less than a millisecond.
pub const FRAMES_MAX: u64 = 1_000;

/// What only a driver can do, whatever programs in its guest send: descriptors that point
/// nowhere or are too many, and headers that contradict their frames.
const REASONS: [DropReason; 3] =
    [DropReason::BadAddress, DropReason::TooManySegments, DropReason::OffloadInvalid];

/// How many such frames a guest has sent of late, by reason.
#[derive(Clone, Copy, Debug)]
pub struct Conduct([Spate; REASONS.len()]);

impl Conduct {
    /// Of a port whose counters stand there now: what was, is forgotten.
    #[must_use]
    pub fn begin(totals: &Totals, now: Instant) -> Conduct {
        Conduct(REASONS.map(|reason| Spate::begin(totals.dropped(reason), now)))
    }

    /// Looks at the counters; why the port is to be quarantined, if it is, in a sentence
    /// with the remedy.
    fn look(&mut self, totals: &Totals, now: Instant) -> Option<String> {
        let spates = REASONS.into_iter().zip(&mut self.0);
        let sent = spates.map(|(reason, spate)| (spate.look(totals.dropped(reason), now), reason));
        let (sum, (frames, reason)) = sent.fold((0, (0, REASONS[0])), |(sum, most), sent| {
            (sum + sent.0, if sent.0 > most.0 { sent } else { most })
        });
        (sum > FRAMES_MAX).then(|| {
            let (meaning, remedy) = (reason.meaning(), reason.remedy());
            format!("{reason}: {frames} frames within a second. {meaning} {remedy}")
        })
    }
}

impl Engine {
    /// Quarantines the ports of guests that misbehave past the threshold.
    pub(super) fn look_at_conduct(&mut self, now: Instant) {
        self.devices.values_mut().for_each(|device| device.look_at_conduct(now));
    }
}

impl Device {
    fn look_at_conduct(&mut self, now: Instant) {
        let Some(plug) = self.source.plug() else { return };
        let totals = self.attached.totals();
        if self.attached.condition() != Condition::Working {
            self.conduct = Conduct::begin(&totals, now);
            return;
        }
        let Some(reason) = self.conduct.look(&totals, now) else { return };
        self.attached.set_condition(Condition::Quarantined);
        // Released at once, it is not judged by the same frames again.
        self.conduct = Conduct::begin(&totals, now);
        // It says so in the log, and keeps the VMM out.
        plug.quarantine(&reason);
        self.last_error = reason;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hairpin_dataplane::ledger::Counters;

    use super::*;

    #[test]
    fn many_in_a_second_are_too_many_and_as_many_in_two_are_not() {
        let (begin, counters) = (Instant::now(), Counters::default());
        let totals = || {
            let mut totals = Totals::default();
            counters.add_to(&mut totals);
            totals
        };
        let mut conduct = Conduct::begin(&totals(), begin);
        let mut look = |bad_addresses, segments, after| {
            counters.drop_frames(DropReason::BadAddress, bad_addresses);
            counters.drop_frames(DropReason::TooManySegments, segments);
            // What programs in the guest can do counts for nothing.
            counters.drop_frames(DropReason::SourceInvalid, 1_000_000);
            conduct.look(&totals(), begin + Duration::from_millis(after))
        };
        assert_eq!(look(FRAMES_MAX, 0, 100), None);
        assert_eq!(look(0, 0, 1_000), None);
        assert_eq!(look(300, 400, 1_100), None);
        let reason = look(300, 300, 1_900).unwrap();
        assert_eq!(
            reason,
            "too_many_segments: 700 frames within a second. The frame lay in more pieces than its \
             port takes: 256, by AF_XDP 18. Look at the guest's driver; it may be hostile."
        );
    }
}
