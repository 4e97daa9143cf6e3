//! Open vSwitch's userspace datapath, started without its service scripts and away from
//! the machine's own Open vSwitch, if there is one.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::command::run;
use super::error::{BedError, Result};
use super::namespace::Namespace;
use super::root::skip;
use super::wait::eventually;

/// Where Debian's openvswitch-switch-dpdk and openvswitch-common keep things.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long the switch may take for what it is told, in seconds.
const PATIENCE_SECONDS: u64 = 20;

/// Whether segmentation is left to whoever receives (`userspace-tso-enable`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tso {
    /// As Open vSwitch comes: its TAPs take no offloads.
    Off,
    /// Its experimental switch, for all ports at once.
    On,
}

/// A running Open vSwitch with a bridge `br0`, in a namespace of its own.
#[derive(Debug)]
pub struct OpenVSwitch {
    // In the order in which they go: the switch before the database it reads.
    switch: Service,
    _database: Service,
    namespace: Namespace,
    directory: TempDir,
}

impl OpenVSwitch {
    /// Whether it can be had on this machine; if not, a test that asks is skipped, which
    /// is said with the reason on standard error.
    ///
    /// # Panics
    /// If not, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
    #[must_use]
    pub fn is_installed() -> bool {
        let there = Path::new(SWITCH).exists() && Path::new(SCHEMA).exists();
        if !there {
            skip("no Open vSwitch (Debian package openvswitch-switch-dpdk)");
        }
        there
    }

    /// Starts one. Interfaces that are to be its ports belong into
    /// [`OpenVSwitch::namespace`].
    ///
    /// # Errors
    /// If the package is not installed, or a part of it does not start.
    pub fn start(tso: Tso) -> Result<OpenVSwitch> {
        let namespace = Namespace::new()?;
        let directory =
            TempDir::new().map_err(BedError::while_doing("a directory for Open vSwitch"))?;
        let place = directory.path();
        let file = |name: &str| place.join(name).display().to_string();
        run(&["ovsdb-tool", "create", &file("conf.db"), SCHEMA]).map_err(|error| {
            BedError::new(format_args!("Open vSwitch (install openvswitch-switch-dpdk): {error}"))
        })?;
        let remote = format!("--remote=punix:{}", file("db.sock"));
        let database =
            Service::start(&namespace, place, &["ovsdb-server", &file("conf.db"), &remote])?;
        eventually("the socket of ovsdb-server", || place.join("db.sock").exists())?;
        configure(place, "--no-wait init")?;
        if tso == Tso::On {
            let setting = "other_config:userspace-tso-enable=true";
            configure(place, &format!("--no-wait set Open_vSwitch . {setting}"))?;
        }
        let socket = format!("unix:{}", file("db.sock"));
        let switch = Service::start(&namespace, place, &[SWITCH, &socket])?;
        let switch = OpenVSwitch { switch, _database: database, namespace, directory };
        switch.configure("add-br br0 -- set bridge br0 datapath_type=netdev")?;
        Ok(switch)
    }

    /// Runs `ovs-vsctl` on it, with arguments separated by blanks, and waits until the
    /// switch is as they say.
    ///
    /// # Errors
    /// If it refuses them.
    pub fn configure(&self, arguments: &str) -> Result<()> {
        configure(self.directory.path(), arguments)
    }

    /// Where its ports are.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The process id of the switch.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.switch.0.id()
    }
}

/// A process that ends when its owner drops it, or dies.
#[derive(Debug)]
struct Service(Child);

impl Service {
    fn start(namespace: &Namespace, directory: &Path, words: &[&str]) -> Result<Service> {
        let log = || {
            let log = File::options().create(true).append(true).open(directory.join("log"));
            log.map_err(BedError::while_doing("a log for Open vSwitch"))
        };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", namespace.name()])
            .args(words)
            .envs(
                ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
                    .map(|name| (name, directory)),
            )
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .spawn()
            .map_err(BedError::while_doing(format_args!("starting {}", words.join(" "))))?;
        Ok(Service(child))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended already needs no signal; it is reaped all the same.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(3);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configure(directory: &Path, arguments: &str) -> Result<()> {
    let database = format!("--db=unix:{}", directory.join("db.sock").display());
    let timeout = format!("--timeout={PATIENCE_SECONDS}");
    let mut line = vec!["ovs-vsctl", &database, &timeout];
    line.extend(arguments.split_whitespace());
    run(&line).map(drop)
}
