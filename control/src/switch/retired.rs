//! Counters of ports and links that went: one that comes again under its name goes on from
//! there, so that what is added up over time stays right. Bounded: the oldest are forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use hairpin_dataplane::ledger::Counters;

/// Names that are remembered.
const NAMES_MAX: usize = 1024;

/// A device's counters, one for each worker.
type Shared = Arc<[Counters]>;

/// Counters by name, the oldest first.
#[derive(Debug, Default)]
pub struct Retired(VecDeque<(String, Shared)>);

impl Retired {
    /// Keeps those of a port or link that went.
    pub fn keep(&mut self, name: String, counters: &Shared) {
        self.0.retain(|(kept, _)| *kept != name);
        if self.0.len() == NAMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((name, Arc::clone(counters)));
    }

    /// Those of a port or link that went, if it is remembered.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Shared> {
        let found = self.0.iter().find(|(kept, _)| kept == name);
        found.map(|(_, counters)| Arc::clone(counters))
    }
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::port::Attached;

    use super::*;

    #[test]
    fn the_last_ones_are_remembered_under_their_names() {
        let mut retired = Retired::default();
        let own = Attached::counters(1);
        retired.keep("vm1".to_owned(), &own);
        assert!(retired.of("vm1").is_some_and(|found| Arc::ptr_eq(&found, &own)));
        assert!(retired.of("vm2").is_none());
        for number in 2..=NAMES_MAX + 1 {
            retired.keep(format!("vm{number}"), &Attached::counters(1));
        }
        assert!(retired.of("vm1").is_none());
        assert!(retired.of("vm2").is_some());
    }
}
