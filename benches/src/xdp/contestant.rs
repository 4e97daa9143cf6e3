//! What forwards between the near ends of two pairs.

use std::fmt;
use std::path::Path;

use hairpin_tests::bed::{
    Daemon, Flooding, KernelBridge, Namespace, Result as BedResult, Workers, program, run,
};
use tempfile::TempDir;

use super::generator::Generator;
use super::sink::Sink;
use super::wiring::{FAR, NEAR, STATIONS, lay};
use crate::error::{Context, Result};
use crate::testpmd::{Testpmd, WIRE_CPU, check_installed};

/// The CPU that forwards: Hairpin's worker, testpmd's core, and where the bridge is told to
/// work by [`Kind::SteeredBridge`].
pub const CPU: usize = WIRE_CPU;

/// Which forwarder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Hairpin, two VEB ports by AF_XDP.
    Hairpin,
    /// DPDK's AF_XDP driver as a bare wire: testpmd `io`.
    Dpdk,
    /// The kernel's bridge as it comes: it works in the sender's soft interrupts.
    Bridge,
    /// The same with receive packet steering to [`CPU`].
    SteeredBridge,
}

impl Kind {
    /// All of them; the first is what the others are compared with.
    pub const ALL: [Kind; 4] = [Kind::Hairpin, Kind::Dpdk, Kind::Bridge, Kind::SteeredBridge];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hairpin => "hairpin",
            Kind::Dpdk => "dpdk",
            Kind::Bridge => "bridge",
            Kind::SteeredBridge => "bridge-rps",
        }
    }

    /// Its name in the table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Kind::Hairpin => "Hairpin, AF_XDP",
            Kind::Dpdk => "DPDK testpmd `io`, AF_XDP",
            Kind::Bridge => "kernel bridge, on the sender's CPU",
            Kind::SteeredBridge => "kernel bridge, steered to CPU 1",
        }
    }

    /// Why it cannot be measured on this machine; `None` if it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Kind::Dpdk => check_installed().err().map(|error| error.to_string()),
            Kind::Hairpin | Kind::Bridge | Kind::SteeredBridge => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A forwarder that is up, with its sender and its counter.
#[derive(Debug)]
pub struct Contestant {
    /// Which.
    pub kind: Kind,
    /// Its sender.
    pub generator: Generator,
    /// Its counter.
    pub sink: Sink,
    switch: Switch,
}

#[derive(Debug)]
enum Switch {
    // Held for their drops: processes end before the namespace that they are in.
    Hairpin { _daemon: Daemon },
    Dpdk { testpmd: Testpmd, _namespace: Namespace, _directory: TempDir },
    Bridge { _bridge: KernelBridge },
}

impl Contestant {
    /// Starts a forwarder; it is at rest. `hairpin` is Hairpin's program; absent: the one
    /// built beside this program.
    ///
    /// # Errors
    /// If a program is missing or does not start.
    pub fn start(kind: Kind, hairpin: Option<&Path>) -> Result<Contestant> {
        match kind {
            Kind::Hairpin => Contestant::hairpin(hairpin),
            Kind::Dpdk => Contestant::dpdk(),
            Kind::Bridge | Kind::SteeredBridge => Contestant::bridge(kind),
        }
    }

    /// Has it work.
    ///
    /// # Errors
    /// If it is gone, or worked while it was at rest.
    pub fn resume(&mut self) -> Result<()> {
        match &mut self.switch {
            Switch::Dpdk { testpmd, .. } => testpmd.process().resume(),
            Switch::Hairpin { .. } | Switch::Bridge { .. } => Ok(()),
        }
    }

    /// Has it rest. Those that sleep when nothing comes need no telling.
    ///
    /// # Errors
    /// If it is gone.
    pub fn rest(&mut self) -> Result<()> {
        match &mut self.switch {
            Switch::Dpdk { testpmd, .. } => testpmd.process().pause(),
            Switch::Hairpin { .. } | Switch::Bridge { .. } => Ok(()),
        }
    }

    fn hairpin(given: Option<&Path>) -> Result<Contestant> {
        let program = given.map_or_else(program, |path| Ok(path.into())).context("Hairpin")?;
        let namespace = laid()?;
        let (generator, sink) = ends(&namespace)?;
        let daemon = Daemon::start_in(namespace, &program, Workers::On(CPU), &configuration());
        let switch = Switch::Hairpin { _daemon: daemon.context("starting Hairpin")? };
        Ok(Contestant { kind: Kind::Hairpin, generator, sink, switch })
    }

    fn dpdk() -> Result<Contestant> {
        let namespace = laid()?;
        let (generator, sink) = ends(&namespace)?;
        let directory = TempDir::new().context("a directory for testpmd")?;
        let mut testpmd =
            Testpmd::netdev_wire("testpmd", namespace.name(), NEAR, directory.path())?;
        testpmd.await_start()?;
        testpmd.process().pause()?;
        let switch = Switch::Dpdk { testpmd, _namespace: namespace, _directory: directory };
        Ok(Contestant { kind: Kind::Dpdk, generator, sink, switch })
    }

    fn bridge(kind: Kind) -> Result<Contestant> {
        let bridge = KernelBridge::new(Flooding::Unknown).context("a kernel bridge")?;
        lay(bridge.namespace()).context("two veth pairs")?;
        enslave(&bridge).context("a kernel bridge's ports")?;
        if kind == Kind::SteeredBridge {
            steer(bridge.namespace(), NEAR[0]).context("receive packet steering")?;
        }
        let (generator, sink) = ends(bridge.namespace())?;
        Ok(Contestant { kind, generator, sink, switch: Switch::Bridge { _bridge: bridge } })
    }
}

fn laid() -> Result<Namespace> {
    let namespace = Namespace::new().context("a namespace")?;
    lay(&namespace).context("two veth pairs")?;
    Ok(namespace)
}

fn ends(namespace: &Namespace) -> Result<(Generator, Sink)> {
    let [sender, counter] = FAR;
    Ok((Generator::open(namespace, sender)?, Sink::open(namespace, counter)?))
}

/// Both stations registered, source checks on, each port in an access VLAN.
fn configuration() -> String {
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    for (near, station) in NEAR.into_iter().zip(STATIONS) {
        text += &format!(
            "[[port]]\nname = \"{near}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"{}\"\nvlan = {{ access = 10 }}\n\
             device = {{ xdp = {{ interface = \"{near}\" }} }}\n",
            mac(station)
        );
    }
    text
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Makes the near ends ports of a bridge that knows both stations beforehand.
fn enslave(bridge: &KernelBridge) -> BedResult<()> {
    let namespace = bridge.namespace();
    for (near, station) in NEAR.into_iter().zip(STATIONS) {
        namespace.ip(&format!("link set {near} master br"))?;
        let station = mac(station);
        namespace.run(&format!("bridge fdb add {station} dev {near} master static"))?;
    }
    Ok(())
}

/// Has the kernel work on what an interface receives on [`CPU`].
fn steer(namespace: &Namespace, interface: &str) -> BedResult<()> {
    let mask = 1_u32 << CPU;
    let command = format!("echo {mask:x} > /sys/class/net/{interface}/queues/rx-0/rps_cpus");
    // `ip netns exec` mounts the namespace's /sys.
    run(&["ip", "netns", "exec", namespace.name(), "sh", "-c", &command]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hairpin_takes_the_configuration() {
        let text = format!("[switch]\nname = \"bench\"\n{}", configuration());
        assert!(text.contains("mac = \"52:54:00:00:00:02\""), "{text}");
        hairpin::config::parse(&text).expect("a configuration without errors");
    }
}
