//! The kernel's bridge, as it comes but for spanning tree and multicast snooping, and past
//! netfilter. It learns.

use hairpin_tests::bed::Namespace;

use super::{Change, Peer, Switch, kernel_release, lacks, run};
use crate::error::{Context, Result};
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Scenario};
use crate::suite::site::Ground;

/// The bridge's netdev.
const BRIDGE: &str = "br";

/// The kernel's bridge.
#[derive(Clone, Copy, Debug)]
pub struct LinuxBridge;

impl Peer for LinuxBridge {
    fn name(&self) -> &'static str {
        "linux-bridge"
    }

    fn version(&self) -> Result<String> {
        kernel_release(&[&format!("link add name {BRIDGE} type bridge")])
    }

    fn pages(&self) -> u64 {
        0
    }

    fn refusal(&self, scenario: &Scenario, _: usize) -> Option<String> {
        lacks(scenario, &[Kind::Tap, Kind::Interface, Kind::Host])
    }

    fn start(&self, ground: &Ground, _: &RunDirectory) -> Result<Box<dyn Switch>> {
        let quiet = "stp_state 0 forward_delay 0 mcast_snooping 0";
        let mut lines = vec![format!("link add name {BRIDGE} type bridge {quiet}")];
        lines.push(format!("link set dev {BRIDGE} up"));
        let ports = 0..ground.seats.len();
        lines.extend(
            ports.map(|port| format!("link set dev {} master {BRIDGE}", ground.netdev(port))),
        );
        for line in lines {
            ground.namespace.ip(&line).context("a kernel bridge")?;
        }
        for table in ["iptables", "ip6tables", "arptables"] {
            // Kernels without this hook have nothing to turn off.
            let _ = ground.namespace.set_sysctl(&format!("net/bridge/bridge-nf-call-{table}"), "0");
        }
        let joins = "link set spare master br up";
        let change = ["tuntap add name spare mode tap", joins, "link del spare"];
        Ok(Box::new(InKernel::new(&ground.namespace, change)))
    }
}

/// A switch that is there for as long as its netdevs are.
#[derive(Clone, Debug)]
pub(super) struct InKernel {
    namespace: String,
    change: [&'static str; 3],
}

impl InKernel {
    /// In a namespace; these words for `ip` have a port come and go there.
    pub(super) fn new(namespace: &Namespace, change: [&'static str; 3]) -> InKernel {
        InKernel { namespace: namespace.name().to_owned(), change }
    }
}

impl Switch for InKernel {
    fn await_start(&mut self) -> Result<()> {
        Ok(())
    }

    fn await_up(&mut self) -> Result<()> {
        Ok(())
    }

    fn change(&self) -> Option<Change> {
        let InKernel { namespace, change } = self.clone();
        let line = move |line: &str| {
            let words = ["ip", "-n", &namespace].into_iter().chain(line.split(' '));
            run(&words.collect::<Vec<_>>(), &[])
        };
        Some(Box::new(move || change.iter().try_for_each(|words| line(words))))
    }

    fn process(&mut self) -> Option<&mut Process> {
        None
    }
}
