//! What the service manager is told of the daemon: sd_notify(3), if it was started by one.
//!
//! Nothing here is needed to run: without `NOTIFY_SOCKET` in the environment nobody is told
//! anything.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Where a manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long it waits for a sign of life, in microseconds, and from whom.
const WATCHDOG: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];
/// Signs of life in the time that the manager waits for one: one that was missed is no death.
const BEATS: u32 = 4;

/// Whoever started the daemon and wants to be told of it; or nobody.
#[derive(Debug)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    beat: Option<Duration>,
}

impl Manager {
    /// The one that the environment names. One that cannot be reached is told of in the
    /// log, and else left alone.
    #[must_use]
    pub fn from_environment() -> Manager {
        let socket = std::env::var(SOCKET).ok().and_then(|name| {
            let opened = address(&name).and_then(|at| Ok((UnixDatagram::unbound()?, at)));
            let complain = |error: &io::Error| {
                tracing::warn!(%error, name, "{SOCKET} cannot be used; the service manager hears \
                                              nothing");
            };
            opened.inspect_err(complain).ok()
        });
        let [wait, of] = WATCHDOG.map(|variable| std::env::var(variable).ok());
        let beat = socket.as_ref().and_then(|_| beat(wait.as_deref(), of.as_deref()));
        Manager { socket, beat }
    }

    /// How often it wants a sign of life, if at all.
    #[must_use]
    pub fn beat(&self) -> Option<Duration> {
        self.beat
    }

    /// The switch runs, with the configuration as it is.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being applied anew.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The switch is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The switch ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::debug!(%error, message, "the service manager does not hear");
        }
    }
}

/// A socket's address: a path, or a name behind an `@`.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor @ and a name")),
    }
}

/// How often a sign of life is due, if one is wanted, and of this process.
fn beat(wait: Option<&str>, of: Option<&str>) -> Option<Duration> {
    let own = std::process::id().to_string();
    let microseconds: u64 = wait?.parse().ok().filter(|it| *it > 0)?;
    let beat = Duration::from_micros(microseconds) / BEATS;
    (of.is_none() || of == Some(&own)).then_some(beat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_due_four_times_in_the_time_that_is_waited_for_one() {
        let own = std::process::id().to_string();
        assert_eq!(beat(Some("30000000"), None), Some(Duration::from_millis(7500)));
        assert_eq!(beat(Some("400000"), Some(&own)), Some(Duration::from_millis(100)));
        for (wait, of) in
            [(None, None), (Some("0"), None), (Some("x"), None), (Some("9"), Some("1"))]
        {
            assert_eq!(beat(wait, of), None, "{wait:?} {of:?}");
        }
    }

    #[test]
    fn sockets_are_paths_or_names() {
        assert!(address("/run/systemd/notify").unwrap().as_pathname().is_some());
        assert_eq!(address("@systemd").unwrap().as_abstract_name(), Some(&b"systemd"[..]));
        assert!(address("vsock:2:1234").is_err() && address("").is_err());
    }
}
