//! All that the lab found out, and the verdict.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use hairpin_dataplane::ledger::Totals;
use hairpin_dataplane::port::xdp::DataPath;

use super::checks::{Reached, Transferred};
use super::strangers::Strangers;
use crate::switch::Switch;

/// How often a ledger is read until it balances.
const LEDGER_TRIES: usize = 100;

/// What a switch counted, by the names of its ports and links.
pub(super) type Ledger = BTreeMap<String, Totals>;

/// What came of everything that was tried.
pub(super) struct Findings {
    pub strangers: Strangers,
    pub reached: Vec<Reached>,
    pub transferred: Vec<Transferred>,
    /// The cable's ends that are AF_XDP's: the switch, and by which path.
    pub xdp_ends: Vec<(&'static str, DataPath)>,
    /// Of each switch, by its name.
    pub ledgers: Vec<(&'static str, Ledger)>,
    /// Frames that the kernel dropped before a switch or the cable saw them, by its name and
    /// by port or link. The echoes that are missed for that fail, and TCP sends again.
    pub overflow: Vec<(&'static str, BTreeMap<String, u64>)>,
    /// Frames that the cable could not deliver.
    pub lost_at_cable: u64,
}

impl Findings {
    /// Whether every expectation holds.
    pub fn hold(&self) -> bool {
        self.strangers.hold()
            && self.reached.iter().all(Reached::holds)
            && self.transferred.iter().all(Transferred::holds)
            && self.lost_at_cable == 0
            && self.ledgers.iter().all(|(_, ledger)| is_balanced(ledger))
    }

    /// Success only if every expectation holds.
    pub fn exit_code(&self) -> ExitCode {
        if self.hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Whether both equations of every device hold, and all copies were brought somewhere.
pub(super) fn is_balanced(ledger: &Ledger) -> bool {
    let fan_out: u64 = ledger.values().map(|totals| totals.fan_out).sum();
    let offered: u64 = ledger.values().map(|totals| totals.offered).sum();
    fan_out == offered && ledger.values().all(Totals::is_balanced)
}

/// A switch's ledger, read again while frames are on their way.
pub(super) fn settled(switch: &Switch) -> Ledger {
    let mut ledger = switch.totals();
    for _ in 0..LEDGER_TRIES {
        if is_balanced(&ledger) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        ledger = switch.totals();
    }
    ledger
}
