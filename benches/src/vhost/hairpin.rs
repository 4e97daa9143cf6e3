//! Hairpin between two VMs, as an operator would run it: registered addresses, an access
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

/// A daemon whose two ports are the generator's.
#[derive(Debug)]
pub struct Hairpin {
    process: Process,
    program: PathBuf,
    api: String,
    /// Sockets of the idle ports, and their guests once they are there.
    idle: Vec<PathBuf>,
    guests: Vec<FrontEnd>,
    // Goes after the daemon that is in it.
    _namespace: Namespace,
}

impl Hairpin {
    /// Starts the daemon, which connects to the sockets when they are there, and has so many
    /// idle ports besides.
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
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).context(format_args!("creating {}", place.display()))?;
        let api = format!("unix:{}", place.join("api").display());
        let file = place.join("toml");
        let idle: Vec<PathBuf> = (0..idle).map(|port| place.join(format!("i{port}"))).collect();
        let text = configuration(&place, &api, sockets, &idle);
        fs::write(&file, text).context("a configuration")?;
        let words = ["netns", "exec", namespace.name()].map(str::to_owned).into_iter();
        let words = words.chain([program.display().to_string(), "run".into(), "--config".into()]);
        let words: Vec<String> = words.chain([file.display().to_string()]).collect();
        let process = Process::spawn(name, "ip", &words, &[])?;
        let (program, guests) = (program.into(), Vec::new());
        Ok(Hairpin { process, program, api, idle, guests, _namespace: namespace })
    }

    /// The daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

    /// Waits until both ports carry frames.
    ///
    /// # Errors
    /// If they do not come up; says how they are.
    pub fn await_up(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            self.process.check_alive()?;
            let states = [self.state(PORTS[0])?, self.state(PORTS[1])?];
            if states.iter().all(|state| state == "up") {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.process.failed(&format!("has its ports {states:?}, not up")));
            }
            std::thread::sleep(interrupt::SLICE);
        }
    }

    fn state(&self, port: &str) -> Result<String> {
        let output = Command::new(&self.program)
            .args(["port", "show", port, "--json"])
            .env("HAIRPIN_API", &self.api)
            .output()
            .context("running hairpin")?;
        let shown: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            RigError::new(format!("hairpin port show {port}: {complaint}"))
        })?;
        Ok(shown["state"].as_str().unwrap_or_default().to_owned())
    }
}

fn configuration(place: &Path, api: &str, sockets: &[PathBuf; 2], idle: &[PathBuf]) -> String {
    let mut text = format!(
        "[switch]\nname = \"bench\"\nworkers = [{WIRE_CPU}]\napi = \"{api}\"\n\
         state-dir = \"{}\"\n\n[[link]]\nname = \"up0\"\nrole = \"station\"\n",
        place.join("state").display()
    );
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
        let text = configuration(Path::new("/run/bench"), "unix:/run/bench/api", &sockets, &idle);
        ::hairpin::config::parse(&text).expect("a configuration without errors");
    }
}
