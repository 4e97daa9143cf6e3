//! Hairpin between VMs, as an operator would run it: registered addresses, an access
//! VLAN, the source check on, one worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hairpin_tests::bed::Namespace;
use serde_json::Value;

use crate::error::{Context, Result, RigError};
use crate::front_end::{FrontEnd, Layout, idle};
use crate::hugepages::RunDirectory;
use crate::interrupt;
use crate::process::Process;
use crate::testpmd::WIRE_CPU;

const PORTS: [&str; 2] = ["vm1", "vm2"];
/// How long the daemon may take to be ready, and its ports to come up once VMs are there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon whose ports are the generator's.
#[derive(Debug)]
pub struct Hairpin {
    process: Process,
    program: PathBuf,
    api: String,
    /// What has to be up, as `port vm1`.
    objects: Vec<String>,
    /// Sockets of the idle ports, and their guests once they are there.
    idle: Vec<PathBuf>,
    guests: Vec<FrontEnd>,
    // Goes after the daemon that is in it.
    _namespace: Option<Namespace>,
}

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Launch<'l> {
    /// Its name, and that of its directory.
    pub name: &'l str,
    /// Where it runs.
    pub namespace: &'l Namespace,
    /// What has to be up, as `port vm1`.
    pub objects: Vec<String>,
    /// Links, channels, ports, bridges.
    pub configuration: &'l str,
}

impl Hairpin {
    /// Starts the daemon in a namespace of its own, between two VMs: it connects to the sockets
    /// when they are there, and has so many idle ports besides.
    ///
    /// # Errors
    /// If there is no such program, or it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        idle: usize,
        sockets: &[PathBuf; 2],
        run: &RunDirectory,
    ) -> Result<Hairpin> {
        let namespace = Namespace::new().context("a namespace")?;
        let place = run.path().join(name);
        let idle: Vec<PathBuf> = (0..idle).map(|port| place.join(format!("i{port}"))).collect();
        let text = configuration(sockets, &idle);
        let objects = PORTS.map(|port| format!("port {port}")).into();
        let launch = Launch { name, namespace: &namespace, objects, configuration: &text };
        let daemon = Hairpin::launch(program, launch, run)?;
        Ok(Hairpin { idle, _namespace: Some(namespace), ..daemon })
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// If there is no such program, or it cannot be started.
    pub fn launch(program: &Path, launch: Launch<'_>, run: &RunDirectory) -> Result<Hairpin> {
        let Launch { name, namespace, objects, configuration } = launch;
        let place = run.path().join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).context(format_args!("creating {}", place.display()))?;
        let api = format!("unix:{}", place.join("api").display());
        let file = place.join("toml");
        let text = head(&place, &api) + configuration;
        fs::write(&file, text).context("a configuration")?;
        let words = ["netns", "exec", namespace.name()].map(str::to_owned).into_iter();
        let words = words.chain([program.display().to_string(), "run".into(), "--config".into()]);
        let words: Vec<String> = words.chain([file.display().to_string()]).collect();
        let process = Process::spawn(name, "ip", &words, &[])?;
        let (idle, guests) = (Vec::new(), Vec::new());
        let program = program.into();
        Ok(Hairpin { process, program, api, objects, idle, guests, _namespace: None })
    }

    /// The daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its client's program, and the address of its API.
    #[must_use]
    pub fn client(&self) -> (String, String) {
        (self.program.display().to_string(), self.api.clone())
    }

    /// Waits until it takes commands, and attaches the idle guests.
    ///
    /// # Errors
    /// If it ends instead, or refuses a guest.
    pub fn await_start(&mut self) -> Result<()> {
        self.process.read_until(PATIENCE, |line| line.trim() == "ready").map(drop)?;
        self.guests = idle::attach(&self.idle, Layout::IDLE).context("idle guests")?;
        Ok(())
    }

    /// Waits until all that has to be up is up.
    ///
    /// # Errors
    /// If they do not come up; says how they are.
    pub fn await_up(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            self.process.check_alive()?;
            let states = self.objects.iter().map(|object| self.state(object));
            let states = states.collect::<Result<Vec<_>>>()?;
            if states.iter().all(|state| state == "up") {
                return Ok(());
            }
            if Instant::now() > end {
                let objects = &self.objects;
                return Err(self.process.failed(&format!("has {objects:?} {states:?}, not up")));
            }
            std::thread::sleep(interrupt::SLICE);
        }
    }

    /// The state of an object, as `port vm1`.
    fn state(&self, object: &str) -> Result<String> {
        let (kind, name) = object.split_once(' ').unwrap_or(("port", object));
        let output = Command::new(&self.program)
            .args([kind, "show", name, "--json"])
            .env("HAIRPIN_API", &self.api)
            .output()
            .context("running hairpin")?;
        let shown: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            RigError::new(format!("hairpin {kind} show {name}: {complaint}"))
        })?;
        Ok(shown["state"].as_str().unwrap_or_default().to_owned())
    }
}

/// What stands before links and ports.
fn head(place: &Path, api: &str) -> String {
    format!(
        "[switch]\nname = \"bench\"\nworkers = [{WIRE_CPU}]\napi = \"{api}\"\n\
         state-dir = \"{}\"\n\n",
        place.join("state").display()
    )
}

fn configuration(sockets: &[PathBuf; 2], idle: &[PathBuf]) -> String {
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    for (number, (port, socket)) in (1..).zip(PORTS.iter().zip(sockets)) {
        text += &format!(
            "[[port]]\nname = \"{port}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"52:54:00:00:00:0{number}\"\nvlan = {{ access = 10 }}\n\
             device = {{ vhost-user = {{ socket = \"{}\", role = \"client\" }} }}\n",
            socket.display()
        );
    }
    for (number, socket) in idle.iter().enumerate() {
        text += &format!(
            "[[port]]\nname = \"idle{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"52:54:00:01:00:{number:02x}\"\nvlan = {{ access = 10 }}\n\
             device = {{ vhost-user = {{ socket = \"{}\", role = \"server\" }} }}\n",
            socket.display()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hairpin_takes_the_configuration() {
        let sockets = ["/run/vm0.sock", "/run/vm1.sock"].map(PathBuf::from);
        let idle: Vec<PathBuf> =
            (0..254).map(|port| format!("/run/bench/i{port}").into()).collect();
        let head = head(Path::new("/run/bench"), "unix:/run/bench/api");
        let text = head + &configuration(&sockets, &idle);
        ::hairpin::config::parse(&text).expect("a configuration without errors");
    }
}
