//! Those whom a change does not concern.

use std::time::Duration;

use hairpin_tests::bed::{Family, Flow, Host, Result};

/// Between datagrams: a steady two thousand a second, each way.
const INTERVAL: Duration = Duration::from_micros(500);

/// Datagrams both ways between two hosts whose ports are not concerned.
pub struct Bystanders([Flow; 2]);

impl Bystanders {
    /// Starts the flows; they know their way when this returns.
    pub fn start(one: &Host, two: &Host) -> Result<Bystanders> {
        Ok(Bystanders([
            Flow::start(one, two, Family::Ipv4, INTERVAL)?,
            Flow::start(two, one, Family::Ipv6, INTERVAL)?,
        ]))
    }

    /// Asserts that they have lost nothing.
    #[track_caller]
    pub fn assert_unhurt(self) {
        for flow in self.0 {
            let report = flow.stop().unwrap();
            assert!(report.is_clean(), "{report:?}");
        }
    }
}
