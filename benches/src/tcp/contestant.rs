//! The switches that are compared, each with two hosts on it.

use std::fmt;
use std::path::Path;

use hairpin_tests::bed::{
    Daemon, Family, Flooding, Host, KernelBridge, Namespace, OpenVSwitch, Result as BedResult, Tso,
    Workers, program,
};

use crate::error::{Context, Result, RigError};

/// Which switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Hairpin, two VEB ports on TAP.
    Hairpin,
    /// Hairpin, two VEB ports by packet sockets on veth pairs that somebody else owns.
    HairpinPacket,
    /// The kernel's bridge with two veth pairs.
    Bridge,
    /// Open vSwitch's userspace datapath with two TAPs, as it comes.
    Ovs,
    /// The same with `userspace-tso-enable`.
    OvsTso,
}

impl Kind {
    /// All of them; the first is what the others are compared with.
    pub const ALL: [Kind; 5] =
        [Kind::Hairpin, Kind::HairpinPacket, Kind::Bridge, Kind::Ovs, Kind::OvsTso];

    /// Its name on the command line and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hairpin => "hairpin",
            Kind::HairpinPacket => "hairpin-packet",
            Kind::Bridge => "bridge",
            Kind::Ovs => "ovs",
            Kind::OvsTso => "ovs-tso",
        }
    }

    /// Its name in the table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Kind::Hairpin => "Hairpin, TAP",
            Kind::HairpinPacket => "Hairpin, packet ports on veth",
            Kind::Bridge => "kernel bridge, veth",
            Kind::Ovs => "OVS userspace datapath, TAP",
            Kind::OvsTso => "the same, userspace-tso-enable",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A switch that is up, and its hosts.
#[derive(Debug)]
pub struct Contestant {
    /// Which.
    pub kind: Kind,
    /// The sender and the receiver.
    pub hosts: [Host; 2],
    switch: Switch,
}

#[derive(Debug)]
enum Switch {
    Hairpin(Daemon),
    // Held for its drop.
    Bridge { _bridge: KernelBridge },
    Ovs(OpenVSwitch),
}

impl Contestant {
    /// Starts a switch and checks that its hosts reach each other. `hairpin` is
    /// Hairpin's program; absent: the one built beside this program.
    ///
    /// # Errors
    /// If a program is missing, or the hosts do not reach each other.
    pub fn start(kind: Kind, hairpin: Option<&Path>) -> Result<Contestant> {
        let contestant = match kind {
            Kind::Hairpin | Kind::HairpinPacket => {
                Contestant::hairpin(kind, hairpin).context("starting Hairpin")
            }
            Kind::Bridge => Contestant::bridge().context("starting a kernel bridge"),
            Kind::Ovs => Contestant::ovs(kind, Tso::Off).context("starting Open vSwitch"),
            Kind::OvsTso => Contestant::ovs(kind, Tso::On).context("starting Open vSwitch"),
        }?;
        let [one, two] = &contestant.hosts;
        let echo = one.ping(two, Family::Ipv4).context("ping")?;
        if echo.received == 0 {
            return Err(RigError::new(format!("{kind}: the hosts do not reach each other")));
        }
        Ok(contestant)
    }

    /// The process that switches; the kernel has none.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.switch {
            Switch::Hairpin(daemon) => Some(daemon.pid()),
            Switch::Bridge { .. } => None,
            Switch::Ovs(ovs) => Some(ovs.pid()),
        }
    }

    fn hairpin(kind: Kind, given: Option<&Path>) -> BedResult<Contestant> {
        let program = given.map_or_else(program, |path| Ok(path.into()))?;
        let namespace = Namespace::new()?;
        // Whose interfaces they are makes the difference.
        let (device, interface) = match kind {
            Kind::HairpinPacket => ("packet", "if"),
            _ => ("tap", "tap"),
        };
        let port = |number: u8| {
            format!(
                "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
                 mac = \"52:54:00:00:00:{number:02x}\"\n\
                 device = {{ {device} = {{ interface = \"{interface}{number}\" }} }}\n"
            )
        };
        if kind == Kind::HairpinPacket {
            lay(&namespace, 1)?;
            lay(&namespace, 2)?;
        }
        let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\n";
        let configuration = [link, &port(1), &port(2)].concat();
        let daemon = Daemon::start_in(namespace, &program, Workers::One, &configuration)?;
        let hosts = plug(daemon.namespace())?;
        Ok(Contestant { kind, hosts, switch: Switch::Hairpin(daemon) })
    }

    fn bridge() -> BedResult<Contestant> {
        let bridge = KernelBridge::new(Flooding::Unknown)?;
        let hosts = [bridge.host(1)?, bridge.host(2)?];
        Ok(Contestant { kind: Kind::Bridge, hosts, switch: Switch::Bridge { _bridge: bridge } })
    }

    fn ovs(kind: Kind, tso: Tso) -> BedResult<Contestant> {
        let ovs = OpenVSwitch::start(tso)?;
        for tap in ["tap1", "tap2"] {
            ovs.configure(&format!("add-port br0 {tap} -- set interface {tap} type=tap"))?;
        }
        let hosts = plug(ovs.namespace())?;
        Ok(Contestant { kind, hosts, switch: Switch::Ovs(ovs) })
    }
}

/// A veth pair of somebody else's: `ifN` stays with the switch, `tapN` is for a host.
fn lay(namespace: &Namespace, number: u8) -> BedResult<()> {
    namespace.ip(&format!("link add name if{number} type veth peer name tap{number}"))?;
    namespace.ip(&format!("link set if{number} up")).map(drop)
}

fn plug(origin: &Namespace) -> BedResult<[Host; 2]> {
    Ok([Host::plug(origin, "tap1", 1)?, Host::plug(origin, "tap2", 2)?])
}
