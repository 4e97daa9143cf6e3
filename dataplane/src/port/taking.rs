//! Whether a netdev may be taken: asked of every netdev that is not ours by nature, in the
//! same way whatever it is to be taken by.
//!
//! It may if it is there and up, brings Ethernet frames, and nobody else wants these: no
//! bridge or bond, not the host's own stack (but for [`HostsOwn::TakeOver`]), no XDP
//! program, which has frames before anybody else, and no other Hairpin, which knows ports
//! by packet sockets of its own kind by the name of the program behind them.
//!
//! Two that ask at the same moment may both be told that they may.

use std::fmt;
use std::io;
use std::net::IpAddr;

use super::HostsOwn;
use crate::sys::bpf::{DROP_ALL, TO_SOCKETS};
use crate::sys::netdev::{self, Description, ETHERNET, Line};
use crate::sys::programs::{self, ProgramId};
use crate::sys::tun::InterfaceName;

/// By what a netdev is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Packet sockets.
    Packet,
    /// AF_XDP.
    Xdp,
}

impl By {
    /// The privileges that it takes.
    #[must_use]
    pub fn needs(self) -> &'static str {
        match self {
            By::Packet => "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF",
            By::Xdp => {
                "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and with CAP_IPC_LOCK or a limit of 10 \
                 MiB of locked memory a receive queue (`ulimit -l`, LimitMEMLOCK= of a service)"
            }
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            By::Packet => "packet",
            By::Xdp => "xdp",
        })
    }
}

/// A netdev that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// By what it is to be taken.
    pub by: By,
    /// The interface's name, 1 to 15 bytes.
    pub interface: &'w str,
    /// What to do if the host itself uses it.
    pub hosts_own: HostsOwn,
    /// Programs of devices in whose place it comes: they go, and stand against nothing.
    pub leaving: &'w [ProgramId],
}

/// Why a netdev may not be taken, or could not be. Each names the interface and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TakingError {
    /// Not a name for an interface.
    #[error(
        "{by}.interface `{interface}` is no interface name: give 1 to 15 printable ASCII characters without space, `/`, `:` and `%`"
    )]
    NameInvalid {
        /// By what it was to be taken.
        by: By,
        /// As configured.
        interface: String,
    },
    /// There is no such interface yet.
    #[error("interface `{interface}` is not there: it is taken as soon as it appears")]
    Absent {
        /// As configured.
        interface: String,
    },
    /// It is down.
    #[error(
        "interface `{interface}` is down: it is taken as soon as its owner brings it up (`ip link set {interface} up`)"
    )]
    Down {
        /// As configured.
        interface: String,
    },
    /// Its frames are not Ethernet's.
    #[error(
        "interface `{interface}` is no Ethernet interface, but of hardware type {hardware}: name another (`ip link` shows `link/ether`)"
    )]
    NotEthernet {
        /// As configured.
        interface: String,
        /// What it is, as `linux/if_arp.h` numbers it.
        hardware: u16,
    },
    /// It is a port of something else.
    #[error(
        "interface `{interface}` is a port of {master}: take it out (`ip link set {interface} nomaster`)"
    )]
    Enslaved {
        /// As configured.
        interface: String,
        /// The bridge, bond or other interface whose it is, as [`netdev::title`] has it.
        master: String,
    },
    /// It is the host's own.
    #[error(
        "interface `{interface}` carries {address}, which the host would lose: give the host another interface and remove its addresses (`ip addr flush dev {interface}`), or set take-over = true"
    )]
    HostsOwn {
        /// As configured.
        interface: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// A Hairpin has it, this one or another.
    #[error(
        "interface `{interface}` is taken already, by a device `{holder}` of a Hairpin: take it out of that one's configuration, or stop that daemon"
    )]
    Taken {
        /// As configured.
        interface: String,
        /// By what it is taken.
        holder: By,
    },
    /// It runs an XDP program, which may be a Hairpin's where that is not to be found out.
    #[error(
        "interface `{interface}` runs an XDP program already, of id {program}: stop who did that (`bpftool prog show id {program}`), or take it away (`ip link set {interface} xdp off`)"
    )]
    ProgramRuns {
        /// As configured.
        interface: String,
        /// What the kernel calls it.
        program: ProgramId,
    },
    /// A privilege is missing.
    #[error(
        "{by} `{interface}`: not permitted to {step}: run with {needs}",
        needs = by.needs()
    )]
    NotPermitted {
        /// By what it was to be taken.
        by: By,
        /// As configured.
        interface: String,
        /// What was to be done.
        step: &'static str,
    },
    /// A step failed.
    #[error("{by} `{interface}`: cannot {step}: {source}; correct the configuration or the host")]
    Refused {
        /// By what it was to be taken.
        by: By,
        /// As configured.
        interface: String,
        /// What was to be done.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl TakingError {
    /// Whether the netdev's owner may still bring it: the port waits.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, TakingError::Absent { .. } | TakingError::Down { .. })
    }
}

impl Wanted<'_> {
    /// Asks whether it may be taken, in this thread's network namespace. Changes nothing.
    ///
    /// # Errors
    /// [`TakingError`]: it may not, or that could not be found out.
    pub fn ask(&self) -> Result<Description, TakingError> {
        let interface = || self.interface.to_owned();
        let name = InterfaceName::new(self.interface)
            .ok_or_else(|| TakingError::NameInvalid { by: self.by, interface: interface() })?;
        let found = self.step("find it", netdev::describe(name))?;
        if found.hardware != ETHERNET {
            let hardware = found.hardware;
            return Err(TakingError::NotEthernet { interface: interface(), hardware });
        }
        if found.line == Line::Down {
            return Err(TakingError::Down { interface: interface() });
        }
        if let Some(master) = found.master.map(netdev::title) {
            return Err(TakingError::Enslaved { interface: interface(), master });
        }
        self.ask_host()?;
        self.ask_programs(&found)?;
        Ok(found)
    }

    /// Whether the host's own stack can do without it.
    fn ask_host(&self) -> Result<(), TakingError> {
        let addresses = netdev::global_addresses(self.interface);
        let addresses = self.step("read its addresses", addresses)?;
        match (addresses.first(), self.hosts_own) {
            (Some(&address), HostsOwn::Refuse) => {
                Err(TakingError::HostsOwn { interface: self.interface.to_owned(), address })
            }
            _ => Ok(()),
        }
    }

    /// Whether no program stands for somebody else who has its frames.
    fn ask_programs(&self, found: &Description) -> Result<(), TakingError> {
        let interface = || self.interface.to_owned();
        let stays = |program: &ProgramId| !self.leaving.contains(program);
        if let Some(program) = found.xdp_program.filter(stays) {
            return Err(match is_called(program, TO_SOCKETS) {
                true => TakingError::Taken { interface: interface(), holder: By::Xdp },
                false => TakingError::ProgramRuns { interface: interface(), program },
            });
        }
        let step = "ask which programs are attached to its ingress";
        let programs = self.step(step, programs::tcx_ingress(found.index))?;
        // Programs of others may well be there: they only look, or are not meant for us.
        match programs.into_iter().filter(stays).any(|program| is_called(program, DROP_ALL)) {
            true => Err(TakingError::Taken { interface: interface(), holder: By::Packet }),
            false => Ok(()),
        }
    }

    /// A result, with what its error means.
    ///
    /// # Errors
    /// [`Wanted::refusal`].
    pub fn step<T>(&self, step: &'static str, result: io::Result<T>) -> Result<T, TakingError> {
        result.map_err(|source| self.refusal(step, source))
    }

    /// What an error of a step means.
    #[must_use]
    pub fn refusal(&self, step: &'static str, source: io::Error) -> TakingError {
        let (by, interface) = (self.by, self.interface.to_owned());
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => TakingError::NotPermitted { by, interface, step },
            Some(libc::ENODEV | libc::ENXIO) => TakingError::Absent { interface },
            Some(libc::ENETDOWN) => TakingError::Down { interface },
            _ => TakingError::Refused { by, interface, step, source },
        }
    }
}

/// Whether a program has this name, as far as we may ask: names of others' programs are
/// told to CAP_SYS_ADMIN only.
fn is_called(program: ProgramId, wanted: &str) -> bool {
    program.name().is_ok_and(|name| name.as_deref() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::xdp::Mode;
    use crate::port::{packet, xdp};
    use crate::sys::netns::{in_own_network_alone, ip};

    const BOTH: [By; 2] = [By::Packet, By::Xdp];

    /// Why `a0` may not be taken by either; the same for both.
    #[track_caller]
    fn refused(interface: &str) -> TakingError {
        let [one, other] = BOTH.map(|by| {
            let hosts_own = HostsOwn::Refuse;
            let error = Wanted { by, interface, hosts_own, leaving: &[] }.ask().unwrap_err();
            assert!(error.to_string().contains(&format!("`{interface}`")), "{error}");
            error
        });
        assert_eq!(one.to_string().replace("packet.", "xdp."), other.to_string());
        one
    }

    fn allowed(hosts_own: HostsOwn, leaving: &[ProgramId]) {
        for by in BOTH {
            Wanted { by, interface: "a0", hosts_own, leaving }.ask().unwrap();
        }
    }

    fn lay() {
        ip("link add a0 type veth peer name b0");
        ip("link set a0 up");
    }

    #[test]
    fn what_the_host_needs_or_has_not_is_refused_to_either() {
        in_own_network_alone(|| {
            assert!(matches!(refused("a/b"), TakingError::NameInvalid { .. }));
            assert!(matches!(refused("a0"), TakingError::Absent { .. }));
            ip("link add a0 type veth peer name b0");
            assert!(matches!(refused("a0"), TakingError::Down { .. }));
            assert!(refused("a0").may_pass());
            ip("link set a0 up");
            allowed(HostsOwn::Refuse, &[]);
            ip("addr add 192.0.2.1/24 dev a0");
            assert!(matches!(refused("a0"), TakingError::HostsOwn { .. }));
            allowed(HostsOwn::TakeOver, &[]);
            ip("addr flush dev a0");
            ip("link add br0 type bridge");
            ip("link set a0 master br0");
            let error = refused("a0");
            assert!(matches!(&error, TakingError::Enslaved { .. }), "{error}");
            assert!(error.to_string().contains("is a port of `br0`: take it out"), "{error}");
            assert!(!refused("a0").may_pass());
            ip("tuntap add t0 mode tun");
            // ARPHRD_NONE.
            assert!(matches!(refused("t0"), TakingError::NotEthernet { hardware: 0xfffe, .. }));
        });
    }

    #[test]
    fn what_a_packet_port_has_is_refused_to_either_until_it_goes() {
        in_own_network_alone(|| {
            lay();
            let config = packet::Config {
                interface: "a0".to_owned(),
                queues: 2,
                hosts_own: HostsOwn::Refuse,
                leaving: Vec::new(),
            };
            let device = packet::open(&config).unwrap();
            let is_named = matches!(refused("a0"), TakingError::Taken { holder: By::Packet, .. });
            assert!(is_named, "{}", refused("a0"));
            allowed(HostsOwn::Refuse, &[device.share().program().unwrap()]);
            device.share().untie();
            allowed(HostsOwn::Refuse, &[]);
        });
    }

    #[test]
    fn what_an_xdp_device_has_is_refused_to_either_until_it_goes() {
        in_own_network_alone(|| {
            lay();
            let config = xdp::Config {
                interface: "a0".to_owned(),
                mode: Mode::Auto,
                hosts_own: HostsOwn::Refuse,
                leaving: Vec::new(),
            };
            let device = xdp::open(&config).unwrap();
            let is_named = matches!(refused("a0"), TakingError::Taken { holder: By::Xdp, .. });
            assert!(is_named, "{}", refused("a0"));
            allowed(HostsOwn::Refuse, &[device.share().program().unwrap()]);
            device.share().untie();
            allowed(HostsOwn::Refuse, &[]);
        });
    }

    #[test]
    fn without_the_privilege_to_ask_for_names_an_xdp_program_is_still_seen() {
        in_own_network_alone(|| {
            use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
            lay();
            let config = xdp::Config {
                interface: "a0".to_owned(),
                mode: Mode::Auto,
                hosts_own: HostsOwn::Refuse,
                leaving: Vec::new(),
            };
            let device = xdp::open(&config).unwrap();
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).unwrap();
            let running = device.share().program().unwrap();
            let refusal = refused("a0");
            let is_named =
                matches!(refusal, TakingError::ProgramRuns { program, .. } if program == running);
            assert!(is_named, "{refusal}");
        });
    }
}
