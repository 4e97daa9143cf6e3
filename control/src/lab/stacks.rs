//! The VMs of an in-process lab, driven by one thread.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guests::Transfer;
use super::plan::{Family, VmPlan};
use super::progress::Interrupt;
use super::stack::Stack;

/// The first TCP port of the lab's transfers.
const PORT: u16 = 7000;
/// How long a round of address resolution may take on a busy machine.
const ACQUAINTANCE_MAX: Duration = Duration::from_secs(1);
/// More than smoltcp's pause between two resolutions.
const RESOLUTION_PAUSE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(2);
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

    /// Lets every VM resolve every other's addresses. smoltcp asks for one address a
    /// second at most; the VMs' clocks are put forward, so that nobody waits for it.
    pub fn acquaint(&mut self, vms: &[VmPlan], interrupt: &Interrupt) -> Result<()> {
        for distance in 1..vms.len() {
            for family in Family::ALL {
                interrupt.check()?;
                let peer = |from: usize| vms[(from + distance) % vms.len()].address(family);
                let peers = (0..vms.len()).map(peer);
                self.acquaint_each(&peers.collect::<Vec<_>>());
                self.stacks.iter_mut().for_each(|stack| stack.skip(RESOLUTION_PAUSE));
            }
        }
        Ok(())
    }

    /// One echo from every VM to its peer, until all are answered or time is up.
    fn acquaint_each(&mut self, peers: &[IpAddr]) {
        self.sequence = self.sequence.wrapping_add(1);
        for (stack, &peer) in self.stacks.iter_mut().zip(peers) {
            stack.send_echo(peer, self.sequence);
        }
        let started = Instant::now();
        let mut waiting: Vec<usize> = (0..peers.len()).collect();
        while !waiting.is_empty() && started.elapsed() < ACQUAINTANCE_MAX {
            self.poll();
            waiting.retain(|&index| self.stacks[index].take_echo() != Some(self.sequence));
            std::thread::yield_now();
        }
    }

    /// The time an echo took, or nothing if it did not come back.
    pub fn ping(&mut self, from: usize, to: IpAddr, timeout: Duration) -> Option<Duration> {
        self.sequence = self.sequence.wrapping_add(1);
        let started = Instant::now();
        self.stacks[from].send_echo(to, self.sequence);
        while started.elapsed() < timeout {
            self.poll();
            while let Some(sequence) = self.stacks[from].take_echo() {
                if sequence == self.sequence {
                    return Some(started.elapsed());
                }
            }
            std::thread::yield_now();
        }
        None
    }

    /// Sends over one TCP connection for a while; counts what arrived.
    pub fn transfer(&mut self, from: usize, to: (usize, IpAddr), length: Duration) -> Transfer {
        self.transfers += 1;
        let port = PORT + self.transfers;
        self.stacks[to.0].listen(port);
        self.stacks[from].connect(to.1, port, 40_000 + self.transfers);
        let started = Instant::now();
        let (mut bytes, mut rounds) = (0, 0);
        while started.elapsed() < length {
            self.stacks[from].send_tcp();
            self.stacks[from].poll();
            self.stacks[to.0].poll();
            bytes += self.stacks[to.0].receive_tcp() as u64;
            rounds += 1;
            if rounds % ROUNDS_PER_CENSUS == 0 {
                self.poll();
            }
        }
        let elapsed = started.elapsed();
        self.stacks[from].abort_tcp();
        self.stacks[to.0].abort_tcp();
        Transfer { bytes, elapsed }
    }
}
