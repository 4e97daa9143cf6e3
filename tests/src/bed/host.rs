//! A host: what a VM is to the switch, made of a namespace.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use super::error::{BedError, Result};
use super::namespace::Namespace;

/// IP version of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4, with ARP.
    Ipv4,
    /// IPv6, with neighbour discovery.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// A namespace with one interface, whose addresses follow from a number:
/// 52:54:00:00:00:NN, 10.9.0.NN/24, fd09::NN/64.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    interface: String,
    number: u8,
}

impl Host {
    /// A new host whose interface is taken from a namespace.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn plug(origin: &Namespace, interface: &str, number: u8) -> Result<Host> {
        let host = Host { namespace: Namespace::new()?, interface: interface.into(), number };
        host.replug(origin)?;
        Ok(host)
    }

    /// A new host of a namespace and an interface that is there.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn settle(namespace: Namespace, interface: &str, number: u8) -> Result<Host> {
        let host = Host { namespace, interface: interface.into(), number };
        host.take_addresses()?;
        Ok(host)
    }

    /// Plugs in the interface of the same name, after the former is gone.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn replug(&self, origin: &Namespace) -> Result<()> {
        origin.give(&self.interface, &self.namespace)?;
        self.take_addresses()
    }

    fn take_addresses(&self) -> Result<()> {
        let interface = &self.interface;
        self.namespace.ip(&format!("link set {interface} address {}", self.mac()))?;
        self.namespace.ip(&format!("addr add {}/24 dev {interface}", self.ipv4()))?;
        self.namespace.ip(&format!("link set {interface} up"))?;
        self.namespace.ip(&format!("addr add {}/64 dev {interface} nodad", self.ipv6())).map(drop)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name of its interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its MAC address in text.
    #[must_use]
    pub fn mac(&self) -> String {
        mac_text(self.number)
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac_bytes(&self) -> [u8; 6] {
        mac_bytes(self.number)
    }

    fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, self.number)
    }

    fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its address of a family.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.ipv4().into(),
            Family::Ipv6 => self.ipv6().into(),
        }
    }

    /// Sets the MTU of its interface, in bytes of payload.
    ///
    /// # Errors
    /// If the interface does not take it.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        self.namespace.ip(&format!("link set {} mtu {mtu}", self.interface)).map(drop)
    }

    /// Forgets the MAC addresses it has resolved, and those it could not.
    ///
    /// # Errors
    /// If its interface is gone.
    pub fn forget_neighbours(&self) -> Result<()> {
        self.namespace.ip(&format!("neigh flush dev {} nud all", self.interface)).map(drop)
    }

    /// Listens for TCP at its address, on a port of the kernel's choice.
    pub(super) fn listen(&self, family: Family) -> Result<TcpListener> {
        let address = SocketAddr::new(self.address(family), 0);
        self.namespace
            .enter(|| TcpListener::bind(address))?
            .map_err(BedError::while_doing(format_args!("listening at {address}")))
    }

    /// Opens a TCP connection to another host: this end, and the other.
    pub(super) fn connect(&self, to: &Host, family: Family) -> Result<(TcpStream, TcpStream)> {
        let listener = to.listen(family)?;
        let near = self.namespace.connect(&listener)?;
        let (far, _) = listener.accept().map_err(BedError::while_doing("accepting"))?;
        Ok((near, far))
    }
}

/// The MAC address of the host of a number.
#[must_use]
pub fn mac_bytes(number: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, number]
}

/// The same in text.
#[must_use]
pub fn mac_text(number: u8) -> String {
    format!("52:54:00:00:00:{number:02x}")
}
