//! Open vSwitch with DPDK between VMs, or hosts: its bridge as it comes (`NORMAL`), one
//! forwarding CPU, away from the machine's own Open vSwitch, if there is one.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hairpin_tests::bed::{Namespace, Tso};

use crate::error::{Context, Result, RigError};
use crate::hugepages::RunDirectory;
use crate::interrupt;
use crate::process::Process;
use crate::testpmd::{GENERATOR_CPU, WIRE_CPU};

/// Where Debian's openvswitch-switch-dpdk and openvswitch-common keep things.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Of its ports unless they are told otherwise, in bytes.
const MTU: u32 = 1500;
/// What its table of addresses can be made at most (`mac-table-size`).
const ADDRESSES_MAX: u32 = 1_000_000;
/// How long a part of it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why it cannot be measured on this machine; `None` if it can.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let there = Path::new(SWITCH).exists() && Path::new(SCHEMA).exists();
    (!there).then_some("no Open vSwitch (Debian package openvswitch-switch-dpdk)")
}

/// A running Open vSwitch whose ports are the generator's.
#[derive(Debug)]
pub struct OpenVSwitch {
    // In the order in which they go: the switch before the database that it reads.
    switch: Process,
    _database: Process,
    place: PathBuf,
    /// Their names.
    ports: Vec<String>,
    // Goes after the processes that are in it.
    _namespace: Option<Namespace>,
}

/// What a port is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plug {
    /// A VM, to whose socket it connects when that is there.
    Socket(PathBuf),
    /// An interface of the namespace, by packet sockets of its main thread: that is on the
    /// generator's CPU, and only for VMs is there another one.
    Netdev(String),
}

impl Plug {
    /// The name of the port.
    fn name(&self, number: usize) -> String {
        match self {
            Plug::Socket(_) => format!("vm{number}"),
            Plug::Netdev(name) => name.clone(),
        }
    }

    /// What its interface is set to.
    fn settings(&self) -> Vec<String> {
        match self {
            Plug::Socket(path) => vec![
                "type=dpdkvhostuserclient".to_owned(),
                format!("options:vhost-server-path={}", path.display()),
            ],
            Plug::Netdev(_) => vec!["type=system".to_owned()],
        }
    }
}

impl OpenVSwitch {
    /// Starts it in a namespace of its own with a port for each socket, to which it connects
    /// when they are there.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn start(name: &str, sockets: &[PathBuf], run: &RunDirectory) -> Result<OpenVSwitch> {
        let namespace = Namespace::new().context("a namespace")?;
        let plugs: Vec<Plug> = sockets.iter().cloned().map(Plug::Socket).collect();
        let switch = OpenVSwitch::launch(name, &namespace, &plugs, (MTU, Tso::Off), run)?;
        Ok(OpenVSwitch { _namespace: Some(namespace), ..switch })
    }

    /// Starts it with these ports, of this MTU in bytes, and taking frames of up to 64 KiB or not
    /// (`userspace-tso-enable`): owners of interfaces send such, unless they are told not to.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn launch(
        name: &str,
        namespace: &Namespace,
        plugs: &[Plug],
        (mtu, tso): (u32, Tso),
        run: &RunDirectory,
    ) -> Result<OpenVSwitch> {
        let place = run.path().join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).context(format_args!("creating {}", place.display()))?;
        let file = |name: &str| place.join(name).display().to_string();
        command(&place, &["ovsdb-tool", "create", &file("conf.db"), SCHEMA])?;
        let remote = format!("--remote=punix:{}", file("db.sock"));
        let words = ["ovsdb-server", &file("conf.db"), &remote];
        let mut database = service(&format!("database-{name}"), namespace, &place, &words)?;
        let end = Instant::now() + PATIENCE;
        while !place.join("db.sock").exists() {
            database.check_alive()?;
            if Instant::now() > end {
                return Err(database.failed("does not serve its socket"));
            }
            interrupt::sleep(interrupt::SLICE)?;
        }
        configure(&place, &["--no-wait", "init"])?;
        configure(&place, &settings(name, run))?;
        if tso == Tso::On {
            let tso = "other_config:userspace-tso-enable=true";
            configure(&place, &["--no-wait", "set", "Open_vSwitch", ".", tso])?;
        }
        let socket = format!("unix:{}", file("db.sock"));
        let switch = service(name, namespace, &place, &[SWITCH, &socket])?;
        let ports = plugs.iter().enumerate().map(|(number, plug)| plug.name(number)).collect();
        let switch = OpenVSwitch { switch, _database: database, place, ports, _namespace: None };
        switch.plug(plugs, mtu)?;
        Ok(switch)
    }

    /// The switch.
    pub fn process(&mut self) -> &mut Process {
        &mut self.switch
    }

    /// Waits until all ports carry frames.
    ///
    /// # Errors
    /// If they do not.
    pub fn await_up(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            self.switch.check_alive()?;
            let states = self.states()?;
            if states.iter().all(|state| state.trim() == "up") {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.switch.failed(&format!("has its ports {states:?}, not up")));
            }
            std::thread::sleep(interrupt::SLICE);
        }
    }

    /// What tells `ovs-vsctl` which database is its.
    #[must_use]
    pub fn database(&self) -> String {
        database(&self.place)
    }

    /// Makes a port one of this VLAN, untagged.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn put_into_vlan(&self, number: usize, vlan: u16) -> Result<()> {
        let tag = format!("tag={vlan}");
        configure(&self.place, &["set", "Port", &self.ports[number], &tag]).map(drop)
    }

    /// Has it learn as many addresses as it can be configured for.
    ///
    /// # Errors
    /// If it does not take that.
    pub fn enlarge_table(&self) -> Result<()> {
        let size = format!("other-config:mac-table-size={ADDRESSES_MAX}");
        configure(&self.place, &["set", "Bridge", "br0", &size]).map(drop)
    }

    /// What it says of its ports' links.
    fn states(&self) -> Result<Vec<String>> {
        let state =
            |name: &String| configure(&self.place, &["get", "Interface", name, "link_state"]);
        self.ports.iter().map(state).collect()
    }

    fn plug(&self, plugs: &[Plug], mtu: u32) -> Result<()> {
        let mtu = (mtu != MTU).then(|| format!("mtu_request={mtu}"));
        let bridge = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"];
        configure(&self.place, &bridge)?;
        for (port, plug) in self.ports.iter().zip(plugs) {
            let settings: Vec<String> = plug.settings().into_iter().chain(mtu.clone()).collect();
            let words = ["add-port", "br0", port, "--", "set", "Interface", port].into_iter();
            let words: Vec<&str> = words.chain(settings.iter().map(String::as_str)).collect();
            configure(&self.place, &words)?;
        }
        Ok(())
    }
}

/// One forwarding CPU, the other for everything else, as in testpmd's wire.
fn settings(name: &str, run: &RunDirectory) -> Vec<String> {
    let extra =
        format!("--no-pci --no-telemetry --huge-dir={} --file-prefix={name}", run.huge().display());
    let words = ["--no-wait", "set", "Open_vSwitch", "."].map(str::to_owned).into_iter();
    let settings = [
        "other_config:dpdk-init=true".to_owned(),
        "other_config:dpdk-socket-mem=512".to_owned(),
        // Its buffers would take the pages of the contestants that start after it.
        "other_config:dpdk-socket-limit=512".to_owned(),
        format!("other_config:pmd-cpu-mask={:#x}", 1 << WIRE_CPU),
        format!("other_config:dpdk-lcore-mask={:#x}", 1 << GENERATOR_CPU),
        format!("other_config:dpdk-extra=\"{extra}\""),
    ];
    words.chain(settings).collect()
}

fn environment(place: &Path) -> [(&'static str, &OsStr); 4] {
    ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
        .map(|name| (name, place.as_os_str()))
}

fn service(name: &str, namespace: &Namespace, place: &Path, words: &[&str]) -> Result<Process> {
    let words: Vec<&str> =
        ["netns", "exec", namespace.name()].iter().chain(words).copied().collect();
    Process::spawn(name, "ip", &words, &environment(place))
}

fn database(place: &Path) -> String {
    format!("--db=unix:{}", place.join("db.sock").display())
}

fn configure<S: AsRef<str>>(place: &Path, words: &[S]) -> Result<String> {
    let database = database(place);
    let timeout = format!("--timeout={}", PATIENCE.as_secs());
    let line = ["ovs-vsctl", &database, &timeout];
    let line: Vec<&str> = line.into_iter().chain(words.iter().map(AsRef::as_ref)).collect();
    command(place, &line)
}

fn command(place: &Path, words: &[&str]) -> Result<String> {
    let what = words.join(" ");
    let output = Command::new(words[0]).args(&words[1..]).envs(environment(place)).output();
    let output = output.context(format_args!("running {what}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(RigError::new(format!("{what}: {}: {complaint}", output.status)))
}
