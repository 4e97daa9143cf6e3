//! What the sockets of vhost-user ports tell, followed: VMMs come and go, guests start and
//! stop their network devices, and some are at fault.

use std::time::Instant;

use hairpin_dataplane::port::Condition;

use super::devices::{Device, Followed, Source};
use super::engine::Engine;
use super::line::Verdict;
use crate::config::vhost_user::{SocketRole, VhostUserConfig};
use crate::vhost::Status;
use crate::vhost::backend::Session;

/// What is known of a port's faults that its socket tells of.
#[derive(Debug, Default)]
pub struct Faults {
    /// How many there were.
    known: u64,
    /// Whether the quarantine that the port is in is known to its socket, too.
    shared: bool,
}

impl Faults {
    /// The quarantine is over.
    pub fn forget(&mut self) {
        self.shared = false;
    }
}

impl Engine {
    /// Looks at what has become of VMMs and their guests since the last time.
    pub(super) fn follow_vmms(&mut self, now: Instant) {
        let (mut followed, mut back) = (Followed::Same, Vec::new());
        for (name, device) in &mut self.devices {
            let Some(status) = device.source.vmm() else { continue };
            if device.follow_fault(&status) {
                back.push(name.clone());
            }
            if device.follow_vmm(name, &status, now) == Followed::Another {
                followed = Followed::Another;
            }
        }
        for name in back {
            tracing::info!(port = name, "its VMM has connected anew: the quarantine is over");
            self.end_quarantine(&name);
        }
        if followed == Followed::Another {
            self.recompile();
        }
    }
}

impl Device {
    /// Quarantines the port of a VMM or guest that is at fault. Whether a quarantine is
    /// over since its VMM was kept out for long enough.
    fn follow_fault(&mut self, status: &Status) -> bool {
        let quarantined = self.attached.condition() == Condition::Quarantined;
        let is_new = status.faults > self.faults.known;
        self.faults.known = status.faults;
        // Also of a fault that is over since: its VMM may have come back meanwhile.
        self.faults.shared |= quarantined && is_new;
        match &status.fault {
            Some(reason) if is_new && !quarantined => {
                self.attached.set_condition(Condition::Quarantined);
                self.last_error.clone_from(reason);
                self.faults.shared = true;
                false
            }
            Some(_) => false,
            None => quarantined && self.faults.shared,
        }
    }

    /// Follows its line, and says so where frames no longer pass, or pass again.
    fn follow_vmm(&mut self, name: &str, status: &Status, now: Instant) -> Followed {
        let before = self.source.line.state();
        self.source.line.look(status.seen(), None, now);
        let after = self.source.line.state();
        // Not each time that the guest starts and stops a device that flaps: it can do so
        // thousands of times a second.
        let flaps = |verdict| matches!(verdict, Verdict::Flaps { .. });
        if before.verdict != after.verdict && !flaps(before.verdict) && !flaps(after.verdict)
            || before.verdict.admin() != after.verdict.admin()
        {
            match self.source.problem() {
                None => tracing::info!(port = name, "the guest's driver has started the port"),
                Some(problem) => tracing::info!(port = name, problem, "no frames pass"),
            }
        }
        // A VMM that comes and goes without ever starting anything is no change of policy.
        match (before.verdict.admin(), before.falls) == (after.verdict.admin(), after.falls) {
            true => Followed::Same,
            false => Followed::Another,
        }
    }
}

impl Source {
    /// Whether it waits for a VMM.
    #[must_use]
    pub fn awaits_vmm(&self) -> bool {
        self.plug().is_some() && self.line.state().verdict == Verdict::NoCarrier
    }
}

/// Why a port does not count as up, in a sentence with its remedy; nothing if it does.
#[must_use]
pub fn problem(verdict: Verdict, config: &VhostUserConfig, status: &Status) -> Option<String> {
    let socket = &config.socket;
    match (verdict, &config.role) {
        (Verdict::Up, _) => None,
        (Verdict::NoCarrier, _) if !status.last_error.is_empty() => Some(status.last_error.clone()),
        (Verdict::NoCarrier, SocketRole::Server(_)) => {
            Some(format!("no VMM is connected to socket {socket:?}: start it, or see to its log"))
        }
        (Verdict::NoCarrier, SocketRole::Client) => {
            Some(format!("not connected to socket {socket:?} yet"))
        }
        (Verdict::Down, _) => match status.session.as_deref() {
            Some(Session { trouble, .. }) if !trouble.is_empty() => {
                Some(format!("{trouble}; see to the VMM, or to the guest's driver"))
            }
            _ => Some("no driver: the guest has not started its network device".to_owned()),
        },
        (Verdict::Flaps { hold }, _) => Some(format!(
            "the guest's network device flaps: it counts as up once it has run for {} s on end; \
             see to the guest and its VMM",
            hold.as_secs()
        )),
    }
}
