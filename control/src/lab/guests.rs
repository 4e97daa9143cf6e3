//! The lab's VMs, of either kind, and what they can be told to do.

use std::net::IpAddr;
use std::time::Duration;

use super::namespaces::Namespaces;
use super::stacks::Stacks;

/// What a TCP transfer brought.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// In this time.
    pub elapsed: Duration,
}

impl Transfer {
    /// The rate in Gbit/s.
    pub fn gbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64() / 1e9
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
    pub fn ping(&mut self, from: usize, to: IpAddr, timeout: Duration) -> Option<Duration> {
        match self {
            Guests::Stacks(stacks) => stacks.ping(from, to, timeout),
            Guests::Namespaces(namespaces) => namespaces.ping(from, to, timeout),
        }
    }

    /// Sends over TCP for a while, from one VM to another's address.
    pub fn transfer(
        &mut self,
        from: usize,
        to: (usize, IpAddr),
        length: Duration,
    ) -> anyhow::Result<Transfer> {
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
