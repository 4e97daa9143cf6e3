//! What the kernel tells of netdevs, followed: they go, come, lose their carrier and get
//! another MTU. However much is told, it is one change of policy a tick.

use std::sync::Arc;
use std::time::Instant;

use hairpin_dataplane::port::Condition;

use super::devices::{Care, Device, Followed, Heard};
use super::engine::Engine;
use super::line::Verdict;
use crate::config::DeviceConfig;

impl Engine {
    /// Looks at what was told since the last time, and at lines that may count as up by now.
    pub(super) fn follow_netdevs(&mut self, now: Instant) {
        let Some(netdevs) = &self.netdevs else { return };
        let heard = Heard { news: netdevs.take(), since: std::mem::replace(&mut self.heard, now) };
        self.note_gone(&heard);
        let mut followed = Followed::Same;
        for (name, device) in &mut self.devices {
            if device.attached.condition() == Condition::Lost {
                if !heard.news.is_empty() {
                    device.hope(now);
                }
            } else if device.follow(name, &heard, now) == Followed::Another {
                followed = Followed::Another;
            }
        }
        if followed == Followed::Another {
            self.recompile();
        }
    }

    /// Notes the loss of netdevs that are gone, which their queues may not tell.
    fn note_gone(&mut self, heard: &Heard) {
        let gone = |device: &&Device| {
            device.attached.condition() == Condition::Working && device.source.is_gone(&heard.news)
        };
        let gone: Vec<_> =
            self.devices.values().filter(gone).map(|it| Arc::clone(&it.attached)).collect();
        for attached in gone {
            attached.set_condition(Condition::Lost);
            self.note_lost(attached.id);
        }
    }
}

impl Device {
    /// A netdev that is waited for may be there: it is tried at once, unless it comes and
    /// goes.
    fn hope(&mut self, now: Instant) {
        let awaited = match self.source.config {
            DeviceConfig::Packet { .. } | DeviceConfig::Xdp { .. } => true,
            DeviceConfig::Tap { .. } | DeviceConfig::Memory(_) => false,
        };
        if awaited && matches!(self.care, Care::Retry { .. }) {
            self.care = Care::at_once(now.max(self.source.line.stays()));
        }
    }

    /// Follows its netdev, and says so where frames no longer pass, or pass again, and
    /// where its MTU has become larger than can be used.
    fn follow(&mut self, name: &str, heard: &Heard, now: Instant) -> Followed {
        let before = self.source.line.state().verdict;
        let mtu_problem = self.source.mtu_problem.clone();
        let followed = self.source.follow(heard, now);
        let verdict = self.source.line.state().verdict;
        if let Some(problem) = &self.source.mtu_problem
            && mtu_problem.as_ref() != Some(problem)
        {
            tracing::warn!(port = name, problem, "longer frames are dropped");
            self.last_error.clone_from(problem);
        }
        if verdict == before {
            return followed;
        }
        match self.source.problem() {
            None => tracing::info!(port = name, "its interface is up"),
            Some(problem) => {
                if before == Verdict::Up {
                    tracing::warn!(port = name, problem, "the port is down");
                }
                if self.attached.condition() == Condition::Working {
                    self.last_error = problem;
                }
            }
        }
        followed
    }
}
