//! The switches that are measured, one small file each, and two VMs at each of them.
//!
//! All are started alike: the sockets are there first, the switch connects to them (vhost-user's
//! role `client`), and what is at the other end is our own front end, in the generator's thread.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bench;
use super::frame::{Seen, Stream};
use crate::error::{Context, Result, RigError};
use crate::front_end::{Connection, FrontEnd, Layout};
use crate::hugepages::RunDirectory;
use crate::interrupt;
use crate::process::Process;

mod dpdk_wire;
mod hairpin;
mod ovs_dpdk;

pub use self::hairpin::Hairpin;
pub use dpdk_wire::DpdkWire;
pub use ovs_dpdk::OvsDpdk;

/// How long a switch may take to connect to a socket.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the shortest frame.
const SHORTEST: usize = 64;
/// The VMs' rings.
const LAYOUT: Layout = Layout { entries: 1024, ..Layout::SPLIT };

/// A switch that may be on this machine.
pub trait Peer {
    /// Its name, as `ovs-dpdk`.
    fn name(&self) -> &'static str;

    /// What it says of itself.
    ///
    /// # Errors
    /// Why it cannot be measured here.
    fn version(&self) -> Result<String>;

    /// Huge pages of 2 MiB that it takes.
    fn pages(&self) -> u64;

    /// Starts it, on the switch's CPU; it connects to the sockets.
    ///
    /// # Errors
    /// If it does not start.
    fn start(&self, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Box<dyn Switch>>;
}

/// A switch that was started. Dropping it ends it.
pub trait Switch {
    /// Waits until it takes connections.
    ///
    /// # Errors
    /// If it ends instead.
    fn await_start(&mut self) -> Result<()>;

    /// Waits until both ports carry frames.
    ///
    /// # Errors
    /// If they do not.
    fn await_up(&mut self) -> Result<()>;

    /// Its process.
    fn process(&mut self) -> &mut Process;
}

/// A switch with its two VMs.
pub struct Attached {
    /// Its name.
    pub name: &'static str,
    /// The VMs: the first sends, the second receives.
    pub ports: [FrontEnd; 2],
    switch: Box<dyn Switch>,
}

impl Attached {
    /// Starts a switch and attaches both VMs; it runs when this returns.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn start(peer: &dyn Peer, run: &RunDirectory) -> Result<Attached> {
        let name = peer.name();
        let sockets = [0, 1].map(|port| run.path().join(format!("{name}-{port}.sock")));
        let [first, second] = &sockets;
        let listeners = [listen(first)?, listen(second)?];
        let mut switch = peer.start(&sockets, run)?;
        switch.await_start()?;
        let [first, second] = &listeners;
        let ports = [accept(first, switch.as_mut())?, accept(second, switch.as_mut())?];
        switch.await_up()?;
        let mut attached = Attached { name, ports, switch };
        attached.await_path()?;
        Ok(attached)
    }

    /// Waits until a frame of each VM has come to the other: a port may say that it is up before
    /// its rings are polled.
    fn await_path(&mut self) -> Result<()> {
        let forth = bench::stream(SHORTEST);
        let back = Stream { source: forth.destination, destination: forth.source, ..forth };
        let end = Instant::now() + PATIENCE;
        let (mut frame, mut passed) = (Vec::new(), [false; 2]);
        while passed != [true; 2] {
            for (from, stream) in [forth, back].into_iter().enumerate() {
                // Number 0 is late in every trial.
                stream.write(0, 0, &mut frame);
                self.ports[from].send(&[&frame]);
            }
            interrupt::sleep(Duration::from_millis(10))?;
            for (from, stream) in [forth, back].into_iter().enumerate() {
                let came = self.ports[1 - from].receive();
                passed[from] |= came.iter().any(|one| stream.read(&one.bytes) != Seen::Foreign);
            }
            if Instant::now() > end {
                let what = format!("carries no frames (each way: {passed:?})");
                return Err(self.switch.process().failed(&what));
            }
        }
        Ok(())
    }

    /// Stops it where it stands.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.switch.process().pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it ran while it was stopped.
    pub fn resume(&mut self) -> Result<()> {
        self.switch.process().resume()
    }
}

fn listen(path: &PathBuf) -> Result<UnixListener> {
    let what = || format!("the socket {}", path.display());
    let listener = UnixListener::bind(path).context(what())?;
    listener.set_nonblocking(true).context(what())?;
    Ok(listener)
}

/// The VM at this socket, once the switch has come. A switch that refuses the device may come
/// again, as to a VMM: Open vSwitch now and then has no memory for a ring while it makes room for
/// its ports.
fn accept(listener: &UnixListener, switch: &mut dyn Switch) -> Result<FrontEnd> {
    let end = Instant::now() + PATIENCE;
    let mut what = "does not connect to its socket".to_owned();
    while Instant::now() < end {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).context("a switch's connection")?;
                let connection = Connection::new(socket).context("a switch's connection")?;
                match FrontEnd::over(connection, LAYOUT) {
                    Ok(front) => return Ok(front),
                    Err(error) => what = format!("does not take a VM's device ({error})"),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for a switch"),
        }
        switch.process().check_alive()?;
        interrupt::sleep(Duration::from_millis(10))?;
    }
    Err(switch.process().failed(&what))
}

/// The first line that a program prints.
fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.context(format_args!("running {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(RigError::new(format!("{program} does not say its version: {}", output.status))),
    }
}
