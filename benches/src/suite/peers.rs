//! The switches that are measured, one small file each.
//!
//! A switch of the kernel's has no process and no CPU of its own: it works in the system call, or
//! the soft interrupt, of whoever sends, which is the generator's thread and its CPU. What CPU
//! time it takes is then time that the generator has not, and shows in its rate; it cannot be
//! stopped, and need not be, since it stands still when nobody sends.

use hairpin_tests::bed::Namespace;

use super::port::Tap;
use super::scenario::{Kind, Place, Scenario};
use super::setting::{Lengths, Setting};
use super::site::Ground;
use crate::error::{Context, Result, RigError};
use crate::hugepages::RunDirectory;
use crate::process::Process;

mod dpdk_wire;
mod hairpin;
mod linux_bridge;
mod macvtap;
mod ovs_dpdk;

pub use self::hairpin::Hairpin;
pub use dpdk_wire::DpdkWire;
pub use linux_bridge::LinuxBridge;
pub use macvtap::Macvtap;
pub use ovs_dpdk::OvsDpdk;

/// A switch that may be on this machine.
pub trait Peer {
    /// Its name, as `ovs-dpdk`.
    fn name(&self) -> &'static str;

    /// What it says of itself.
    ///
    /// # Errors
    /// Why it cannot be measured here.
    fn version(&self) -> Result<String>;

    /// Huge pages of 2 MiB that it takes.
    fn pages(&self) -> u64;

    /// Why it has no such scenario, or not with so many ports; `None` if it has.
    fn refusal(&self, scenario: &Scenario, ports: usize) -> Option<String>;

    /// Why it has none with such frames or addresses, where it has the scenario.
    fn declines(&self, setting: &Setting) -> Option<String> {
        let _ = setting;
        None
    }

    /// Makes a TAP for a port, with the file that its VMM has.
    ///
    /// # Errors
    /// If the kernel has no such device.
    fn tap(&self, ground: &Ground, port: usize, run: &RunDirectory) -> Result<Tap> {
        let _ = run;
        let name = ground.netdev(port);
        let tap = Tap::make(&ground.namespace, &name)?;
        widen(ground, &name)?;
        Ok(tap)
    }

    /// Starts it, on the switch's CPU; it connects to the ground's sockets and takes its
    /// netdevs.
    ///
    /// # Errors
    /// If it does not start.
    fn start(&self, ground: &Ground, run: &RunDirectory) -> Result<Box<dyn Switch>>;
}

/// Has a port that nobody uses come and go, by what an operator would do it with. Errors are
/// those of that.
pub type Change = Box<dyn Fn() -> Result<()> + Send>;

/// A switch that was started. Dropping it ends it.
pub trait Switch {
    /// Waits until it takes connections.
    ///
    /// # Errors
    /// If it ends instead.
    fn await_start(&mut self) -> Result<()>;

    /// Waits until all ports carry frames.
    ///
    /// # Errors
    /// If they do not.
    fn await_up(&mut self) -> Result<()>;

    /// A change that concerns none of the ports there are; nothing where there is nothing to be
    /// changed.
    fn change(&self) -> Option<Change>;

    /// Its process; the kernel has none.
    fn process(&mut self) -> Option<&mut Process>;
}

/// Why a switch that has ports of some kinds, and switches locally between them, does not have a
/// scenario.
fn lacks(scenario: &Scenario, kinds: &[Kind]) -> Option<String> {
    let lacking = scenario.seats.iter().find_map(|seat| match seat.place {
        Place::Cable => Some(seat.place.name()),
        _ if !kinds.contains(&seat.kind) => Some(seat.kind.name()),
        Place::Vlan(_) => None,
        Place::Vepa | Place::Channel => Some(seat.place.name()),
    })?;
    Some(format!("it has no {lacking}"))
}

/// Has a netdev take the ground's frames, if they are longer than what it comes with.
fn widen(ground: &Ground, name: &str) -> Result<()> {
    if ground.lengths == Lengths::Ordinary {
        return Ok(());
    }
    let line = format!("link set {name} mtu {}", ground.lengths.mtu());
    ground.namespace.ip(&line).context("long frames").map(drop)
}

/// Runs words of an operator's, with these variables.
fn run(words: &[&str], environment: &[(String, String)]) -> Result<()> {
    let variables = environment.iter().map(|(name, value)| (name, value));
    let output = std::process::Command::new(words[0]).args(&words[1..]).envs(variables).output();
    let output = output.context(format_args!("running {}", words.join(" ")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(RigError::new(format!("{}: {complaint}", words.join(" "))))
}

/// The first line that a program prints.
fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.context(format_args!("running {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(RigError::new(format!("{program} does not say its version: {}", output.status))),
    }
}

/// The release of a kernel that can do this: words for `ip`, tried in a namespace of their own.
fn kernel_release(lines: &[&str]) -> Result<String> {
    let namespace = Namespace::new().context("a namespace")?;
    for line in lines {
        namespace.ip(line).context("this kernel cannot do it")?;
    }
    let path = "/proc/sys/kernel/osrelease";
    let release = std::fs::read_to_string(path).context(format_args!("reading {path}"))?;
    Ok(format!("Linux {}", release.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_lacks_the_first_thing_that_it_has_not() {
        let lacks = |name, kinds: &[Kind]| lacks(&Scenario::named(name).unwrap(), kinds);
        assert_eq!(lacks("v2v", &[Kind::Vm]), None);
        assert_eq!(lacks("chain", &[Kind::Vm]), None);
        for (name, kind, reason) in [
            ("v2v", Kind::Tap, "it has no VM ports (vhost-user)"),
            ("vepa", Kind::Tap, "it has no VM ports (vhost-user)"),
            ("vepa", Kind::Vm, "it has no VEPA"),
            ("v2p", Kind::Vm, "it has no uplink here"),
            ("p2p", Kind::Vm, "it has no interfaces"),
        ] {
            assert_eq!(lacks(name, &[kind]).as_deref(), Some(reason), "{name}");
        }
    }
}
