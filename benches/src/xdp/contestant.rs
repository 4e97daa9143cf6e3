//! What forwards from the near end of the first pair to the target.

use std::fmt;
use std::path::{Path, PathBuf};

use hairpin_tests::bed::{
    Daemon, Flooding, KernelBridge, Namespace, Result as BedResult, Workers, program, run,
};
use tempfile::TempDir;

use super::generator::Generator;
use super::sink::{NetdevSink, Sink};
use super::target::{Guest, Target};
use super::wiring::{FAR, NEAR, STATIONS, lay};
use crate::error::{Context, Result};
use crate::front_end::Layout;
use crate::testpmd::{Testpmd, WIRE_CPU, WireEnd, check_installed};

/// The CPU that forwards: Hairpin's worker, testpmd's core, and where the bridge is told to
/// work by [`Kind::SteeredBridge`].
pub const CPU: usize = WIRE_CPU;

/// Which forwarder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Hairpin, two VEB ports, the first by AF_XDP.
    Hairpin,
    /// DPDK's AF_XDP driver as the first end of a bare wire: testpmd `io`.
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

    /// Whether it can forward to that.
    #[must_use]
    pub fn reaches(self, target: Target) -> bool {
        match self {
            Kind::Hairpin | Kind::Dpdk => true,
            Kind::Bridge | Kind::SteeredBridge => target == Target::Netdev,
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
    Hairpin { _daemon: Daemon, _directory: TempDir },
    Dpdk { testpmd: Testpmd, _namespace: Namespace, _directory: TempDir },
    Bridge { _bridge: KernelBridge },
}

impl Contestant {
    /// Starts a forwarder; it is at rest. `hairpin` is Hairpin's program; absent: the one
    /// built beside this program.
    ///
    /// # Errors
    /// If a program is missing or does not start.
    pub fn start(kind: Kind, target: Target, hairpin: Option<&Path>) -> Result<Contestant> {
        match kind {
            Kind::Hairpin => Contestant::hairpin(target, hairpin),
            Kind::Dpdk => Contestant::dpdk(target),
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

    fn hairpin(target: Target, given: Option<&Path>) -> Result<Contestant> {
        let program = given.map_or_else(program, |path| Ok(path.into())).context("Hairpin")?;
        let (namespace, directory) = laid()?;
        let socket = socket(&directory);
        let text = configuration(target, &socket);
        let daemon = Daemon::start_in(namespace, &program, Workers::On(CPU), &text);
        let daemon = daemon.context("starting Hairpin")?;
        let (generator, sink) =
            ends(daemon.namespace(), target.layout().map(|layout| (&*socket, layout)))?;
        let switch = Switch::Hairpin { _daemon: daemon, _directory: directory };
        Ok(Contestant { kind: Kind::Hairpin, generator, sink, switch })
    }

    fn dpdk(target: Target) -> Result<Contestant> {
        let (namespace, directory) = laid()?;
        let (socket, [from, to]) = (socket(&directory), NEAR);
        let to = match target.layout() {
            None => WireEnd::Netdev(to),
            Some(_) => WireEnd::Socket(&socket),
        };
        let ends_here = [WireEnd::Netdev(from), to];
        let name = namespace.name();
        let mut testpmd = Testpmd::netdev_wire("testpmd", name, ends_here, directory.path())?;
        testpmd.await_start()?;
        let (generator, sink) = ends(&namespace, target.layout().map(|layout| (&*socket, layout)))?;
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
        let (generator, sink) = ends(bridge.namespace(), None)?;
        Ok(Contestant { kind, generator, sink, switch: Switch::Bridge { _bridge: bridge } })
    }
}

/// A namespace with both pairs in it, and a directory for a VM's socket.
fn laid() -> Result<(Namespace, TempDir)> {
    let namespace = Namespace::new().context("a namespace")?;
    lay(&namespace).context("two veth pairs")?;
    Ok((namespace, TempDir::new().context("a directory")?))
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("vm")
}

/// The sender, and what counts at the other end: a VM, if it is to be plugged in somewhere.
fn ends(namespace: &Namespace, vm: Option<(&Path, Layout)>) -> Result<(Generator, Sink)> {
    let [sender, counter] = FAR;
    let (guest, sink) = match vm {
        None => (None, Sink::Netdev(NetdevSink::open(namespace, counter)?)),
        Some((socket, layout)) => {
            let guest = Guest::connect(socket, layout)?;
            let received = guest.received();
            (Some(guest), Sink::Guest(received))
        }
    };
    Ok((Generator::open(namespace, sender, guest)?, sink))
}

/// Both stations registered, source checks on, each port in an access VLAN.
fn configuration(target: Target, socket: &Path) -> String {
    let [from, to] = NEAR.map(|near| format!("xdp = {{ interface = \"{near}\" }}"));
    let to = match target.layout() {
        None => to,
        Some(_) => {
            format!("vhost-user = {{ socket = \"{}\", role = \"server\" }}", socket.display())
        }
    };
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    for ((name, station), device) in NEAR.into_iter().zip(STATIONS).zip([from, to]) {
        text += &format!(
            "[[port]]\nname = \"{name}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"{}\"\nvlan = {{ access = 10 }}\ndevice = {{ {device} }}\n",
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
        for target in Target::ALL {
            let ports = configuration(target, Path::new("/run/vm"));
            let text = format!("[switch]\nname = \"bench\"\n{ports}");
            assert!(text.contains("mac = \"52:54:00:00:00:02\""), "{text}");
            hairpin::config::parse(&text).expect("a configuration without errors");
        }
    }
}
