//! TCP in pieces of 64 KiB from VM to VM, as guests with TSO send it and guests with it take it.

use super::{Figure, Method, Needs, Sizes, Taken, bound_of_loop};
use crate::error::{Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::frame::{Size, Stream};
use crate::suite::record::Better;
use crate::suite::setting::Lengths;
use crate::suite::site::Site;
use crate::suite::trial::{Load, Outcome};

/// Bytes of a frame, its checksum included: 44 segments of 1460 bytes, and headers; with one more
/// it were longer than IPv4 can say.
const BYTES: usize = 44 * 1460 + 54 + 4;
/// Frames under way.
const WINDOW: u64 = 32;

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "tso",
    explanation: [
        "TCP in pieces of 64 KiB between VMs with TSO, 32 under way at all times.",
        "Who does not pass them on whole has no figure.",
    ],
    needs: Needs {
        sizes: Sizes::Own { bytes: BYTES, lengths: Lengths::Segments },
        ..Needs::vms(2)
    },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let stream = Stream { size: Size::Segments(bytes), ..site.stream(bytes) };
    figures(&bench.trial_of(site, stream, Load::Closed { window: WINDOW })?, bytes)
}

fn figures(outcome: &Outcome, bytes: usize) -> Result<Taken> {
    let (came, altered) = (outcome.counts.received, outcome.corrupted);
    let rate = outcome.forwarded_per_second().filter(|_| altered == 0);
    let rate = rate.ok_or_else(|| {
        RigError::new(format!(
            "of {} pieces of {bytes} bytes {came} came whole, and {altered} frames that were \
             altered or cut",
            outcome.offered
        ))
    })?;
    let figure = Figure::new("carried", "Gbit/s", Better::Higher, rate * 8.0 * bytes as f64 / 1e9);
    Ok(vec![figure.bounded(bound_of_loop(outcome))].into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::ledger::Arrivals;
    use crate::suite::methods::tests::outcome;
    use crate::suite::record::Bound;

    #[test]
    fn only_what_came_whole_is_a_figure() {
        let arrivals = Some(Arrivals { first_ns: 0, last_ns: 1_000_000_000, longest_gap_ns: 1 });
        let whole = Outcome { arrivals, idle_ns: 500_000_000, ..outcome(1001, 1001) };
        let taken = figures(&whole, 125_000).unwrap();
        assert_eq!((taken.figures[0].value, taken.figures[0].bound), (1.0, Bound::None));
        let busy = Outcome { idle_ns: 0, ..whole.clone() };
        assert_eq!(figures(&busy, 125_000).unwrap().figures[0].bound, Bound::Generator);
        let cut = Outcome { corrupted: 1, ..whole };
        let error = figures(&cut, BYTES).unwrap_err().to_string();
        assert!(error.contains("1 frames that were altered or cut"), "{error}");
    }
}
