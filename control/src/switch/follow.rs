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
        self.follow(&heard, now);
    }

    fn follow(&mut self, heard: &Heard, now: Instant) {
        self.note_gone(heard);
        let mut followed = Followed::Same;
        for (name, device) in &mut self.devices {
            if device.attached.condition() == Condition::Lost {
                device.hope(heard, now);
            } else if device.follow(name, heard, now) == Followed::Another {
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
    /// A netdev that is waited for may be there, if something was told of its name: it is
    /// tried at once, unless it comes and goes. Others wait on: each try takes time under
    /// the engine's lock.
    fn hope(&mut self, heard: &Heard, now: Instant) {
        let awaited = match &self.source.config {
            DeviceConfig::Packet { interface, .. } | DeviceConfig::Xdp { interface, .. } => {
                heard.news.concerns_name(interface)
            }
            DeviceConfig::Tap { .. } | DeviceConfig::VhostUser(_) | DeviceConfig::Memory(_) => {
                false
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hairpin_dataplane::port::{HostsOwn, xdp};
    use hairpin_dataplane::snapshot::Mode;
    use hairpin_dataplane::sys::netdev::News;

    use super::super::Order;
    use super::super::history::History;
    use super::*;
    use crate::config::{Config, Desired, LinkConfig, LinkRole, PortConfig, SwitchConfig};
    use crate::switch::devices::Endpoints;

    /// A switch whose ports wait for interfaces that nobody will make.
    fn waiting(interfaces: &[&str]) -> Engine {
        let port = |interface: &&str| {
            let (name, hosts_own) = ((*interface).to_owned(), HostsOwn::Refuse);
            let device = DeviceConfig::Packet { interface: name, hosts_own };
            PortConfig::station(&format!("vm-{interface}"), "up0", Mode::Veb, device)
        };
        let config = Config {
            switch: SwitchConfig { workers: vec![0], ..SwitchConfig::default() },
            links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
            ports: interfaces.iter().map(port).collect(),
            ..Config::default()
        };
        let desired = Desired::try_from(config).unwrap();
        let embedder = Box::new(Endpoints::default());
        let caretaker = xdp::Caretaker::default();
        let mut engine =
            Engine::new(desired.switch(), embedder, caretaker, History::in_memory()).unwrap();
        engine.apply(desired, &Order::default()).unwrap();
        engine
    }

    /// `RTM_NEWLINK` of that name.
    fn news(interface: &str) -> News {
        let mut message = vec![0; 32];
        message[20..24].copy_from_slice(&7_u32.to_ne_bytes());
        let length = 4 + interface.len() + 1;
        message.extend((length as u16).to_ne_bytes());
        message.extend(3_u16.to_ne_bytes());
        message.extend(interface.as_bytes());
        message.push(0);
        let mut news = News::default();
        news.add(&message);
        news
    }

    #[test]
    fn only_the_device_that_was_told_of_is_tried_at_once() {
        let mut engine = waiting(&["nobody-1", "nobody-2"]);
        let now = Instant::now() + Duration::from_secs(1);
        for device in engine.devices.values_mut() {
            device.care = Care::None.later(now).later(now);
            assert!(!device.care.is_due(now));
        }
        engine.follow(&Heard { news: news("nobody-2"), since: now }, now);
        let due = engine.devices.iter().filter(|(_, device)| device.care.is_due(now));
        let due: Vec<&str> = due.map(|(name, _)| name.as_str()).collect();
        assert_eq!(due, ["vm-nobody-2"]);
        engine.stop();
    }
}
