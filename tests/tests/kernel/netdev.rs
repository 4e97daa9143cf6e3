//! Veth pairs of which a daemon has one end, by one kind of device or another.

use std::fmt;

use hairpin_tests::bed::{Daemon, Host, Namespace, Result, eventually, mac_text};

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

    /// A port `vmN` on `ifN` with host N's address registered.
    pub fn port(self, number: u8, mode: &str) -> String {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"{mode}\"\n{}mac = \"{}\"\n",
            self.device(number),
            mac_text(number)
        )
    }

    fn device(self, number: u8) -> String {
        format!("device = {{ {self} = {{ interface = \"if{number}\" }} }}\n")
    }
}

/// Makes a pair in a namespace: `ifN`, up, for a daemon there, and `farN` for its peer.
pub fn lay(namespace: &Namespace, number: u8) -> Result<()> {
    namespace.ip(&format!("link add if{number} type veth peer name far{number}"))?;
    finish_frames(namespace, &format!("far{number}"))?;
    namespace.ip(&format!("link set if{number} up")).map(drop)
}

/// Makes host N at the far end of a new pair.
pub fn plug(daemon: &Daemon, number: u8) -> Result<Host> {
    lay(daemon.namespace(), number)?;
    Host::plug(daemon.namespace(), &format!("far{number}"), number)
}

/// Has a stack finish its frames itself, checksums, lengths and tags of either kind:
/// AF_XDP at the other end tells nobody what is left to do.
pub fn finish_frames(namespace: &Namespace, interface: &str) -> Result<()> {
    let off = "tx off gso off tso off rxvlan off txvlan off \
               tx-vlan-stag-hw-insert off rx-vlan-stag-hw-parse off";
    namespace.run(&format!("ethtool -K {interface} {off}")).map(drop)
}

/// Waits for the state of an object, such as `link up0`.
#[track_caller]
pub fn await_state(daemon: &Daemon, object: &str, wanted: &str) {
    let (kind, name) = object.split_once(' ').unwrap();
    let is_wanted = || {
        daemon.hairpin(&format!("{kind} show {name}")).is_ok_and(|shown| shown["state"] == wanted)
    };
    eventually(&format!("{object} {wanted}"), is_wanted).unwrap();
}
