//! The lab's VMs, of either kind, and what they can be told to do.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::namespaces::Namespaces;
use super::plan::{Family, VmPlan};
use super::stacks::Stacks;

/// What a TCP transfer brought.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Those of them that are not what was sent.
    pub garbled: u64,
    /// In this time.
    pub elapsed: Duration,
}

impl Transfer {
    /// The rate in Gbit/s.
    pub fn gbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64() / 1e9
    }
}

/// When a VM stops waiting for the answer to an echo.
pub(super) struct Patience {
    /// After this time at the latest.
    pub timeout: Duration,
    /// As soon as it is known that no answer can come any more.
    pub is_settled: Box<dyn Fn() -> bool + Send>,
}

impl From<Duration> for Patience {
    /// Waits for so long, whatever becomes of the echo.
    fn from(timeout: Duration) -> Patience {
        Patience { timeout, is_settled: Box::new(|| false) }
    }
}

/// The VMs.
pub(super) enum Guests {
    /// TCP/IP stacks within this process.
    Stacks(Stacks),
    /// Network namespaces with the kernel's stack.
    Namespaces(Namespaces),
}

impl Guests {
    /// The time an echo took, or nothing if it did not come back in time.
    pub fn ping(&mut self, from: usize, to: IpAddr, patience: Patience) -> Option<Duration> {
        match self {
            Guests::Stacks(stacks) => stacks.ping(from, to, &patience),
            Guests::Namespaces(namespaces) => namespaces.ping(from, to, patience),
        }
    }

    /// Pings of several VMs at once, at most one of each; whether each was answered in time.
    pub fn ping_at_once(&mut self, pings: &[(usize, IpAddr)], timeout: Duration) -> Vec<bool> {
        match self {
            Guests::Stacks(stacks) => stacks.ping_at_once(pings, timeout),
            Guests::Namespaces(namespaces) => namespaces.ping_at_once(pings, timeout),
        }
    }

    /// Tells a VM another's MAC address, which it need not resolve then.
    pub fn introduce(&mut self, to: usize, peer: &VmPlan, family: Family) -> Result<()> {
        match self {
            Guests::Stacks(stacks) => {
                stacks.introduce(to, peer, family);
                Ok(())
            }
            Guests::Namespaces(namespaces) => namespaces.introduce(to, peer, family),
        }
    }

    /// Sends over TCP for a while, from one VM to another's address.
    pub fn transfer(
        &mut self,
        from: usize,
        to: (usize, IpAddr),
        length: Duration,
    ) -> Result<Transfer> {
        match self {
            Guests::Stacks(stacks) => Ok(stacks.transfer(from, to, length)),
            Guests::Namespaces(namespaces) => namespaces.transfer(from, to, length),
        }
    }

    /// Keeps the VMs alive while nothing is asked of them.
    pub fn idle(&mut self) {
        if let Guests::Stacks(stacks) = self {
            stacks.poll();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
