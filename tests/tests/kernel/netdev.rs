//! Veth pairs of which a daemon has one end, by one kind of device or another.

use std::fmt;

use hairpin_tests::bed::{Daemon, Host, Namespace, Result, mac_text};
use serde_json::Value;

/// By what a daemon has a netdev that is not its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// By packet sockets.
    Packet,
    /// By AF_XDP.
    Xdp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Packet => "packet",
            Kind::Xdp => "xdp",
        })
    }
}

impl Kind {
    /// A link `up0` on `ifN`.
    pub fn link(self, role: &str, number: u8) -> String {
        format!("[[link]]\nname = \"up0\"\nrole = \"{role}\"\n{}", self.device(number))
    }

    /// A port `vmN` on `ifN` that learns its address.
    pub fn learning_port(self, number: u8, mode: &str) -> String {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"{mode}\"\n{}",
            self.device(number),
        )
    }

    /// A port `vmN` on `ifN` with host N's address registered.
    pub fn port(self, number: u8, mode: &str) -> String {
        format!("{}mac = \"{}\"\n", self.learning_port(number, mode), mac_text(number))
    }

    /// Makes the pair N, whose peer leaves to its netdev what this kind of device takes over.
    pub fn lay(self, namespace: &Namespace, number: u8) -> Result<()> {
        match self {
            Kind::Packet => lay_offloading(namespace, number),
            Kind::Xdp => lay(namespace, number),
        }
    }

    /// Makes host N at the far end of such a pair.
    pub fn plug(self, daemon: &Daemon, number: u8) -> Result<Host> {
        self.lay(daemon.namespace(), number)?;
        Host::plug(daemon.namespace(), &far(number), number)
    }

    fn device(self, number: u8) -> String {
        format!("device = {{ {self} = {{ interface = \"if{number}\" }} }}\n")
    }
}

/// Makes a pair in a namespace: `ifN`, up, for a daemon there, and `farN` for its peer,
/// whose stack finishes its frames itself.
pub fn lay(namespace: &Namespace, number: u8) -> Result<()> {
    lay_offloading(namespace, number)?;
    finish_frames(namespace, &far(number))
}

/// The same as the kernel makes it: the peer's stack leaves checksums, cutting and tags to
/// its netdev.
pub fn lay_offloading(namespace: &Namespace, number: u8) -> Result<()> {
    lay_with_queues(namespace, number, 1)
}

/// [`lay_offloading`] with so many queues at either end.
pub fn lay_with_queues(namespace: &Namespace, number: u8, queues: u8) -> Result<()> {
    let end = format!("numrxqueues {queues} numtxqueues {queues}");
    namespace.ip(&format!("link add if{number} {end} type veth peer name far{number} {end}"))?;
    namespace.ip(&format!("link set if{number} up")).map(drop)
}

/// Makes host N at the far end of a new pair.
pub fn plug(daemon: &Daemon, number: u8) -> Result<Host> {
    lay(daemon.namespace(), number)?;
    Host::plug(daemon.namespace(), &far(number), number)
}

/// The same with a stack that leaves to its netdev what it may.
pub fn plug_offloading(daemon: &Daemon, number: u8) -> Result<Host> {
    lay_offloading(daemon.namespace(), number)?;
    Host::plug(daemon.namespace(), &far(number), number)
}

fn far(number: u8) -> String {
    format!("far{number}")
}

/// Has a stack finish its frames itself, checksums, lengths and tags of either kind:
/// AF_XDP at the other end tells nobody what is left to do.
pub fn finish_frames(namespace: &Namespace, interface: &str) -> Result<()> {
    let off = "tx off gso off tso off rxvlan off txvlan off \
               tx-vlan-stag-hw-insert off rx-vlan-stag-hw-parse off";
    namespace.run(&format!("ethtool -K {interface} {off}")).map(drop)
}

/// What `show` says of an object, such as `link up0`.
#[track_caller]
pub fn show(daemon: &Daemon, object: &str) -> Value {
    let (kind, name) = object.split_once(' ').unwrap();
    daemon.hairpin(&format!("{kind} show {name}")).unwrap()
}
