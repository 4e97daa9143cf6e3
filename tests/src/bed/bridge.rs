//! The kernel's bridge: as the adjacent bridge, as a cable, and to compare with.

use super::error::Result;
use super::host::Host;
use super::namespace::Namespace;

/// Whether a port returns frames to where they came from (bridge(8), `hairpin`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reflection {
    /// It does: the station's side of VEPA.
    On,
    /// It does not.
    Off,
}

/// How a bridge finds the port of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flooding {
    /// It learns.
    Unknown,
    /// It sends every frame to all other ports: with two of them it is a cable,
    /// on which one address may be seen on both sides.
    Always,
}

/// A kernel bridge `br` in a namespace of its own.
#[derive(Debug)]
pub struct KernelBridge {
    namespace: Namespace,
    flooding: Flooding,
}

impl KernelBridge {
    /// An empty bridge, without spanning tree and multicast snooping, past netfilter.
    ///
    /// # Errors
    /// If the kernel has no bridge.
    pub fn new(flooding: Flooding) -> Result<KernelBridge> {
        let namespace = Namespace::new()?;
        namespace
            .ip("link add name br type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        for table in ["iptables", "ip6tables", "arptables"] {
            // Kernels without this hook have nothing to turn off.
            let _ = namespace.set_sysctl(&format!("net/bridge/bridge-nf-call-{table}"), "0");
        }
        namespace.ip("link set dev br up")?;
        Ok(KernelBridge { namespace, flooding })
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Makes an interface of another namespace a port.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn attach(&self, origin: &Namespace, interface: &str) -> Result<()> {
        origin.give(interface, &self.namespace)?;
        self.enslave(interface)
    }

    /// Sets what a port does with frames for where they came from.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn reflect(&self, interface: &str, reflection: Reflection) -> Result<()> {
        let word = match reflection {
            Reflection::On => "on",
            Reflection::Off => "off",
        };
        self.namespace
            .ip(&format!("link set dev {interface} type bridge_slave hairpin {word}"))
            .map(drop)
    }

    /// A host at the far end of a veth pair whose near end is a port.
    ///
    /// # Errors
    /// If the kernel has no veth.
    pub fn host(&self, number: u8) -> Result<Host> {
        let (near, far) = (format!("port{number}"), format!("eth{number}"));
        self.namespace.ip(&format!("link add name {near} type veth peer name {far}"))?;
        self.enslave(&near)?;
        Host::plug(&self.namespace, &far, number)
    }

    /// Sets the MTU of the bridge and of all its ports, in bytes of payload.
    ///
    /// # Errors
    /// If a port does not take it.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        let links = self.namespace.ip("-o link show master br")?;
        for name in links.lines().filter_map(|line| line.split([':', '@']).nth(1)) {
            self.namespace.ip(&format!("link set {} mtu {mtu}", name.trim()))?;
        }
        self.namespace.ip(&format!("link set dev br mtu {mtu}")).map(drop)
    }

    fn enslave(&self, interface: &str) -> Result<()> {
        self.namespace.ip(&format!("link set {interface} master br"))?;
        if self.flooding == Flooding::Always {
            self.namespace
                .ip(&format!("link set dev {interface} type bridge_slave learning off"))?;
        }
        self.namespace.ip(&format!("link set {interface} up")).map(drop)
    }
}
