//! The VMs of an in-process lab, driven by one thread.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guests::{Patience, Transfer};
use super::plan::{Expectation, Family, VmPlan};
use super::progress::Interrupt;
use super::stack::Stack;

/// The first TCP port of the lab's transfers.
const PORT: u16 = 7000;
/// How long a round of address resolution may take on a busy machine.
const ACQUAINTANCE_MAX: Duration = Duration::from_secs(1);
/// More than smoltcp's pause between two resolutions.
const RESOLUTION_PAUSE: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(1100);
/// Rounds over the two VMs of a transfer between rounds over all.
const ROUNDS_PER_CENSUS: u32 = 64;

/// All VMs.
pub(super) struct Stacks {
    stacks: Vec<Stack>,
    sequence: u16,
    transfers: u16,
}

impl Stacks {
    pub fn new(stacks: Vec<Stack>) -> Stacks {
        Stacks { stacks, sequence: 0, transfers: 0 }
    }

    /// Lets every VM take and send what is due.
    pub fn poll(&mut self) {
        self.stacks.iter_mut().for_each(Stack::poll);
    }

    /// Lets every VM resolve the addresses of those that it must reach.
    pub fn acquaint(&mut self, vms: &[VmPlan], interrupt: &Interrupt) -> Result<()> {
        for distance in 1..vms.len() {
            for family in Family::ALL {
                interrupt.check()?;
                let ping = |from: usize| {
                    let (vm, peer) = (&vms[from], &vms[(from + distance) % vms.len()]);
                    let reaches = matches!(Expectation::of(vm, peer), Expectation::Reached(_));
                    reaches.then(|| (from, peer.address(family)))
                };
                let pings: Vec<_> = (0..vms.len()).filter_map(ping).collect();
                self.ping_at_once(&pings, ACQUAINTANCE_MAX);
            }
        }
        Ok(())
    }

    /// Pings of several VMs at once, until all are answered or time is up; whether each
    /// was. smoltcp asks for one address a second at most; the VMs' clocks are put forward
    /// afterwards, so that nobody waits for it.
    pub fn ping_at_once(&mut self, pings: &[(usize, IpAddr)], timeout: Duration) -> Vec<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        for &(from, to) in pings {
            self.stacks[from].send_echo(to, self.sequence);
        }
        let started = Instant::now();
        let mut answered = vec![false; pings.len()];
        while answered.contains(&false) && started.elapsed() < timeout {
            self.poll();
            for (&(from, _), answered) in pings.iter().zip(&mut answered) {
                *answered |= self.stacks[from].take_echo() == Some(self.sequence);
            }
            std::thread::yield_now();
        }
        for (&(from, _), &answered) in pings.iter().zip(&answered) {
            if !answered {
                self.stacks[from].give_up_echo();
            }
        }
        self.stacks.iter_mut().for_each(|stack| stack.skip(RESOLUTION_PAUSE));
        answered
    }

    /// Tells a VM another's MAC address.
    pub fn introduce(&mut self, to: usize, peer: &VmPlan, family: Family) {
        self.stacks[to].introduce(peer, family);
    }

    /// The time an echo took, or nothing if it did not come back.
    pub fn ping(&mut self, from: usize, to: IpAddr, patience: &Patience) -> Option<Duration> {
        self.sequence = self.sequence.wrapping_add(1);
        let started = Instant::now();
        self.stacks[from].send_echo(to, self.sequence);
        while started.elapsed() < patience.timeout && !(patience.is_settled)() {
            self.poll();
            while let Some(sequence) = self.stacks[from].take_echo() {
                if sequence == self.sequence {
                    return Some(started.elapsed());
                }
            }
            std::thread::yield_now();
        }
        self.stacks[from].give_up_echo();
        None
    }

    /// Sends over one TCP connection for a while; counts and compares what arrived.
    pub fn transfer(&mut self, from: usize, to: (usize, IpAddr), length: Duration) -> Transfer {
        self.transfers += 1;
        let port = PORT + self.transfers;
        self.stacks[to.0].listen(port);
        self.stacks[from].connect(to.1, port, 40_000 + self.transfers);
        let started = Instant::now();
        let (mut bytes, mut garbled, mut rounds) = (0, 0, 0);
        while started.elapsed() < length {
            self.stacks[from].send_tcp();
            self.stacks[from].poll();
            self.stacks[to.0].poll();
            let (brought, other) = self.stacks[to.0].receive_tcp();
            (bytes, garbled) = (bytes + brought, garbled + other);
            rounds += 1;
            if rounds % ROUNDS_PER_CENSUS == 0 {
                self.poll();
            }
        }
        let elapsed = started.elapsed();
        self.stacks[from].abort_tcp();
        self.stacks[to.0].abort_tcp();
        Transfer { bytes, garbled, elapsed }
    }
}
