//! Open vSwitch's userspace datapath with two TAPs, started without its service
//! scripts and away from the machine's own Open vSwitch, if there is one.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hairpin_tests::bed::{Namespace, run};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};
use crate::interrupt;

/// Where Debian's openvswitch-switch-dpdk and openvswitch-common keep things.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether segmentation is left to whoever receives (`userspace-tso-enable`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tso {
    /// As Open vSwitch comes: its TAPs take no offloads.
    Off,
    /// Its experimental switch, for all ports at once.
    On,
}

/// A running Open vSwitch with a bridge and its TAPs.
#[derive(Debug)]
pub struct Ovs {
    // In the order in which they go: the switch before the database it reads.
    switch: Service,
    _database: Service,
    namespace: Namespace,
    _directory: TempDir,
}

impl Ovs {
    /// Starts one, with TAPs of these names in [`Ovs::namespace`].
    ///
    /// # Errors
    /// If the package is not installed, or a part of it does not start.
    pub fn start(tso: Tso, taps: [&str; 2]) -> Result<Ovs> {
        let namespace = Namespace::new().context("a namespace for Open vSwitch")?;
        let directory = TempDir::new().context("a directory for Open vSwitch")?;
        let place = directory.path();
        let file = |name: &str| place.join(name).display().to_string();
        run(&["ovsdb-tool", "create", &file("conf.db"), SCHEMA])
            .context("Open vSwitch (install openvswitch-switch-dpdk)")?;
        let remote = format!("--remote=punix:{}", file("db.sock"));
        let database =
            Service::start(&namespace, place, &["ovsdb-server", &file("conf.db"), &remote])?;
        wait_for(&place.join("db.sock"))?;
        let socket = format!("unix:{}", file("db.sock"));
        configure(&socket, &["--no-wait", "init"])?;
        if tso == Tso::On {
            let setting = "other_config:userspace-tso-enable=true";
            configure(&socket, &["--no-wait", "set", "Open_vSwitch", ".", setting])?;
        }
        let switch = Service::start(&namespace, place, &[SWITCH, &socket])?;
        configure(
            &socket,
            &["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"],
        )?;
        for tap in taps {
            configure(
                &socket,
                &["add-port", "br0", tap, "--", "set", "interface", tap, "type=tap"],
            )?;
        }
        Ok(Ovs { switch, _database: database, namespace, _directory: directory })
    }

    /// Where its TAPs are.
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
        let log = || File::options().create(true).append(true).open(directory.join("log"));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", namespace.name()])
            .args(words)
            .envs(
                ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
                    .map(|name| (name, directory)),
            )
            .stdin(Stdio::null())
            .stdout(log().context("a log for Open vSwitch")?)
            .stderr(log().context("a log for Open vSwitch")?)
            .spawn()
            .context(format_args!("starting {}", words.join(" ")))?;
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

fn configure(socket: &str, words: &[&str]) -> Result<()> {
    let database = format!("--db={socket}");
    let timeout = format!("--timeout={}", PATIENCE.as_secs());
    let line = [&["ovs-vsctl", &database, &timeout], words].concat();
    run(&line).map(drop).context("configuring Open vSwitch")
}

fn wait_for(path: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > end {
            return Err(RigError::new(format!("{} does not appear", path.display())));
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
    Ok(())
}
