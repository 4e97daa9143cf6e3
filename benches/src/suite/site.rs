//! A switch under test with its ports, and the generator's ends of them.
//!
//! All switches are started alike: a namespace is made, with what stands for the ports in it
//! (sockets of VMs, TAPs, veth pairs), then the switch, which connects to the sockets
//! (vhost-user's role `client`) and takes the netdevs. What is at the other ends is the
//! generator's.

use std::cell::RefCell;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use hairpin_dataplane::wire::Mac;
use hairpin_tests::bed::{Family, Host, Namespace};

use super::endpoint::{Receiver, Sender};
use super::frame::{Seen, Size, Stream, Tag};
use super::peers::{Change, Peer, Switch};
use super::port::{Interface, Port};
use super::relay::Shuttle;
use super::scenario::{HOSTS_MTU, Kind, Relay, Scenario, Seat};
use super::setting::{Addresses, Lengths, Setting, Traffic};
use super::spread::Spread;
use crate::error::{Context, Result, RigError};
use crate::front_end::{Connection, FrontEnd};
use crate::hugepages::RunDirectory;
use crate::interrupt;
use crate::process::Process;

/// How long a switch may take to connect to a socket.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the shortest frame.
pub(super) const SHORTEST: usize = 64;
/// Of veth pairs, in bytes: two tags on 1500 bytes of payload pass.
const MTU: usize = 1600;
/// Between two frames that are sent to see whether a switch is there again.
const PROBE: Duration = Duration::from_micros(200);
/// Frames that tell a switch where a receiver is.
pub(super) const GREETINGS: u64 = 8;
/// Frames sent at a time.
const BURST: usize = 32;

/// What there is of a site before its switch: its namespace, and what stands for its ports.
#[derive(Debug)]
pub struct Ground {
    /// The switch's and the scenario's names, as `hairpin-v2v`.
    pub name: String,
    /// Where the ports' netdevs are.
    pub namespace: Namespace,
    /// The ports, in order.
    pub seats: Vec<Seat>,
    /// What lies between some of them, outside the switch.
    pub relays: &'static [Relay],
    /// How the switch is to know addresses.
    pub addressing: Addresses,
    /// How long frames are.
    pub lengths: Lengths,
    /// What they are like otherwise.
    pub traffic: Traffic,
    spread: Spread,
    directory: PathBuf,
}

impl Ground {
    /// One in which nobody speaks by himself.
    fn new(name: String, setting: &Setting, run: &RunDirectory) -> Result<Ground> {
        let namespace = Namespace::new().context("a namespace")?;
        for scope in ["all", "default"] {
            let path = format!("net/ipv6/conf/{scope}/disable_ipv6");
            namespace.set_sysctl(&path, "1").context("a namespace")?;
        }
        let Setting { scenario, ports, addresses: addressing, lengths, traffic } = *setting;
        let Scenario { relays, spread, .. } = scenario;
        let (seats, directory) = (scenario.seats(ports), run.path().into());
        Ok(Ground {
            name,
            namespace,
            seats,
            relays,
            addressing,
            lengths,
            traffic,
            spread,
            directory,
        })
    }

    /// The addresses of the station at a port, of which it sends from the first.
    #[must_use]
    pub fn addresses(&self, port: usize) -> Vec<Mac> {
        let others = self.spread.addresses(self.seats.len(), port);
        let others = others.filter(|&address| address != station(port));
        std::iter::once(station(port)).chain(others).collect()
    }

    /// The socket of a VM port, by its place in `seats`.
    #[must_use]
    pub fn socket(&self, port: usize) -> PathBuf {
        self.directory.join(format!("{}-{port}.sock", self.name))
    }

    /// The sockets of all ports, if all of them are VMs.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        (0..self.seats.len()).map(|port| self.socket(port)).collect()
    }

    /// The netdev of another port, in [`Ground::namespace`].
    #[must_use]
    pub fn netdev(&self, port: usize) -> String {
        match self.seats[port].kind {
            Kind::Vm | Kind::Tap => format!("tap{port}"),
            Kind::Interface | Kind::Host => format!("if{port}"),
        }
    }
}

/// The address of the station at a port.
#[must_use]
pub fn station(port: usize) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, port as u8 + 1])
}

/// A generator's end that is there, or will be once the switch has come.
enum End {
    Awaited(UnixListener),
    There(Port),
}

/// A switch with its ports.
pub struct Site<'p> {
    /// The switch's name.
    pub name: &'static str,
    /// What is done at it.
    pub scenario: Scenario,
    /// The ports, in the scenario's order; neighbours after them.
    pub ports: Vec<Port>,
    shuttle: Shuttle,
    // In the order in which they go: a switch before the netdevs that it has taken.
    switch: Box<dyn Switch>,
    ground: Ground,
    peer: &'p dyn Peer,
    run: &'p RunDirectory,
}

/// How a switch's process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It is asked to (SIGTERM), as for a restart.
    Asked,
    /// At once (SIGKILL).
    Killed,
}

/// In the place of a switch that has ended.
struct Gone;

impl Switch for Gone {
    fn await_start(&mut self) -> Result<()> {
        Ok(())
    }

    fn await_up(&mut self) -> Result<()> {
        Ok(())
    }

    fn change(&self) -> Option<Change> {
        None
    }

    fn process(&mut self) -> Option<&mut Process> {
        None
    }
}

impl<'p> Site<'p> {
    /// Starts a switch; it runs when this returns, and the scenario's ports carry frames.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn start(peer: &'p dyn Peer, setting: &Setting, run: &'p RunDirectory) -> Result<Site<'p>> {
        let (name, scenario) = (peer.name(), setting.scenario);
        let ground = Ground::new(format!("{name}-{}", scenario.name), setting, run)?;
        let places = 0..ground.seats.len();
        let ends = places.map(|port| lay(peer, &ground, port, run)).collect::<Result<Vec<_>>>()?;
        let mut switch = peer.start(&ground, run)?;
        switch.await_start()?;
        let ready = |end| match end {
            End::Awaited(listener) => {
                let front = accept(&listener, switch.as_mut(), setting.lengths)?;
                Ok(Port::Vm(Box::new(front)))
            }
            End::There(port) => Ok(port),
        };
        let ports = ends.into_iter().map(ready).collect::<Result<Vec<_>>>()?;
        switch.await_up()?;
        let shuttle = Shuttle::default();
        let mut site = Site { name, scenario, ports, shuttle, switch, ground, peer, run };
        site.await_path()?;
        Ok(site)
    }

    /// Ends the switch's process and starts it again, at once; its VMs connect anew. How long it
    /// took from the signal to the first frame from the scenario's first port to its last.
    ///
    /// # Errors
    /// For a switch without a process, or ports that are no VMs; if it does not start again.
    pub fn reset(&mut self, ending: Ending) -> Result<Duration> {
        if self.ground.seats.iter().any(|seat| seat.kind != Kind::Vm) {
            return Err(RigError::new("only VMs connect anew to a switch that was restarted"));
        }
        let process = self.switch.process();
        let process = process.ok_or_else(|| RigError::new("it has no process to restart"))?;
        let sockets = self.ground.sockets();
        let listeners = sockets.iter().map(|path| listen(path)).collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        match ending {
            Ending::Asked => process.end(),
            Ending::Killed => process.kill(),
        }
        // What else belongs to it ends before it is started again.
        self.switch = Box::new(Gone);
        self.ports.clear();
        self.switch = self.peer.start(&self.ground, self.run)?;
        self.switch.await_start()?;
        let accepted = |listener| {
            let front = accept(listener, self.switch.as_mut(), self.ground.lengths)?;
            Ok(Port::Vm(Box::new(front)))
        };
        self.ports = listeners.iter().map(accepted).collect::<Result<Vec<_>>>()?;
        let (from, to) = self.scenario.path;
        let outage = self.await_frame(from, to)? - start;
        self.switch.await_up()?;
        self.await_path()?;
        Ok(outage)
    }

    /// Whether it can be measured still: its process lives, and its ports are plugged in.
    pub fn is_there(&mut self) -> bool {
        let lives = self.switch.process().is_none_or(|process| process.check_alive().is_ok());
        lives && !self.ports.is_empty()
    }

    /// Sends frames from a port until one has come to another; when it did.
    fn await_frame(&mut self, from: usize, to: usize) -> Result<Instant> {
        let (stream, mut frame) = (self.stream_between(from, to, SHORTEST), Vec::new());
        stream.write(0, 0, &mut frame);
        let (end, mut came) = (Instant::now() + PATIENCE, None);
        while Instant::now() < end {
            self.ports[from].send(&[&frame])?;
            interrupt::sleep(PROBE)?;
            self.shuttle.carry_all(&mut self.ports, self.scenario.relays)?;
            self.ports[to].receive(&mut |frame| {
                if stream.claims(frame) {
                    came = Some(Instant::now());
                }
            })?;
            if let Some(came) = came {
                return Ok(came);
            }
        }
        Err(failed(self.switch.as_mut(), &self.ground.name, "carries no frames after its restart"))
    }

    /// The switch.
    pub fn switch(&mut self) -> &mut dyn Switch {
        self.switch.as_mut()
    }

    /// What it stands on.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// The scenario's frames, of this length.
    #[must_use]
    pub fn stream(&self, bytes: usize) -> Stream {
        let Scenario { path, spread, seats, .. } = self.scenario;
        let stream = spread.stream(path, seats.len(), self.tag(path.0), bytes);
        self.ground.traffic.shape(stream)
    }

    /// Frames from one port to another.
    #[must_use]
    pub fn stream_between(&self, from: usize, to: usize, bytes: usize) -> Stream {
        let (source, destination) = (station(from).into(), station(to).into());
        let tag = self.tag(from);
        let stream = Stream { source, destination, tag, size: Size::Fixed(bytes), flows: 1 };
        self.ground.traffic.shape(stream)
    }

    /// The tag of what is sent at a port.
    fn tag(&self, port: usize) -> Tag {
        self.ground.seats[port].tag(self.ground.traffic.tagging)
    }

    /// Both ends of the scenario, for a trial; what lies between them outside the switch does
    /// its work whenever the receiver looks.
    pub fn ends(&mut self) -> Ends<'_> {
        let Site { ports, shuttle, scenario, .. } = self;
        Ends { inner: RefCell::new((ports, shuttle)), scenario: *scenario }
    }

    /// Has the receivers speak, by all addresses to which frames go, so that a switch that learns
    /// knows where they are, and throws away what any port still has.
    ///
    /// # Errors
    /// If a port is gone.
    pub fn greet(&mut self) -> Result<()> {
        let Scenario { path, spread, seats, relays, .. } = self.scenario;
        let count = seats.len();
        let mut frame = Vec::new();
        for port in (0..count).filter(|&port| spread.receives(path, count, port)) {
            let listener = if port == path.0 { path.1 } else { path.0 };
            for address in spread.addresses(count, port) {
                let back = self.stream_between(port, listener, SHORTEST);
                let back = Stream { source: address.into(), ..back };
                for number in 0..GREETINGS {
                    back.write(number, 0, &mut frame);
                    self.ports[port].send(&[&frame])?;
                }
            }
        }
        self.shuttle.carry_all(&mut self.ports, relays)?;
        self.ports.iter_mut().try_for_each(Port::discard)
    }

    /// The hosts at both ends of the scenario, if there are hosts.
    #[must_use]
    pub fn hosts(&self) -> Option<[&Host; 2]> {
        let (from, to) = self.scenario.path;
        match (self.ports.get(from)?, self.ports.get(to)?) {
            (Port::Host(from), Port::Host(to)) => Some([from, to]),
            _ => None,
        }
    }

    /// Waits until a frame has come each way, and back: a port may say that it is up before its
    /// rings are polled.
    fn await_path(&mut self) -> Result<()> {
        if let Some([from, to]) = self.hosts() {
            let echo = from.ping(to, Family::Ipv4).context("ping")?;
            let what = "carries no echo from host to host";
            let failed = || failed(self.switch.as_mut(), &self.ground.name, what);
            return (echo.received > 0).then_some(()).ok_or_else(failed);
        }
        let ways = ways(&self.scenario);
        let streams: Vec<Stream> =
            ways.iter().map(|&(from, to)| self.stream_between(from, to, SHORTEST)).collect();
        let end = Instant::now() + PATIENCE;
        let mut passed = vec![false; ways.len()];
        let (mut frame, step) = (Vec::new(), Duration::from_millis(10));
        while passed.contains(&false) {
            for (&(from, _), stream) in ways.iter().zip(&streams) {
                // Number 0 is late in every trial.
                stream.write(0, 0, &mut frame);
                self.ports[from].send(&[&frame])?;
            }
            // A frame passes one relay each time.
            for _ in 0..=self.scenario.relays.len() {
                interrupt::sleep(step)?;
                self.shuttle.carry_all(&mut self.ports, self.scenario.relays)?;
            }
            interrupt::sleep(step)?;
            for (number, port) in self.ports.iter_mut().enumerate() {
                port.receive(&mut |frame| {
                    for (index, stream) in streams.iter().enumerate() {
                        let here = ways[index].1 == number;
                        passed[index] |= here && matches!(stream.read(frame), Seen::Whole(_));
                    }
                })?;
            }
            if Instant::now() > end {
                let what = format!("carries no frames ({ways:?}: {passed:?})");
                return Err(failed(self.switch.as_mut(), &self.ground.name, &what));
            }
        }
        Ok(())
    }

    /// Stops it where it stands. The kernel's switches stand where nobody sends.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.switch.process().map_or(Ok(()), |process| process.pause())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it ran while it was stopped.
    pub fn resume(&mut self) -> Result<()> {
        self.switch.process().map_or(Ok(()), |process| process.resume())
    }
}

/// From where to where frames go, and back.
fn ways(scenario: &Scenario) -> Vec<(usize, usize)> {
    let Scenario { path, spread, seats, .. } = *scenario;
    let count = seats.len();
    let sends = |port| spread.sends(path, count, port);
    let receives = |port| spread.receives(path, count, port);
    let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    let ways = pairs.filter(|&(from, to)| {
        let there = sends(from) && receives(to);
        from != to && (there || sends(to) && receives(from))
    });
    ways.collect()
}

/// Both ends of a scenario: a [`Sender`] and a [`Receiver`] of one thread.
#[derive(Debug)]
pub struct Ends<'s> {
    inner: RefCell<(&'s mut Vec<Port>, &'s mut Shuttle)>,
    scenario: Scenario,
}

impl Sender for &Ends<'_> {
    /// Where several ports send, what one has no room for does not keep the others from sending:
    /// the number is that of all that were sent.
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        let ports = &mut self.inner.borrow_mut().0;
        let Scenario { path, spread, seats, .. } = self.scenario;
        if spread == Spread::One {
            return ports[path.0].send(frames);
        }
        let mut sent = 0;
        for port in (0..seats.len()).filter(|&port| spread.sends(path, seats.len(), port)) {
            for burst in frames.chunks(BURST) {
                let own = burst.iter().copied().filter(|frame| spread.enters(frame, port));
                let own: ArrayVec<&[u8], BURST> = own.collect();
                sent += ports[port].send(&own)?;
            }
        }
        Ok(sent)
    }

    fn make_ready(&mut self, frames: usize, bytes: usize) {
        let Scenario { path, spread, .. } = self.scenario;
        if spread == Spread::One {
            self.inner.borrow_mut().0[path.0].make_ready(frames, bytes);
        }
    }
}

impl Receiver for &Ends<'_> {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (ports, shuttle) = &mut *self.inner.borrow_mut();
        let Scenario { path, spread, seats, relays, .. } = self.scenario;
        shuttle.carry_all(ports, relays)?;
        if spread == Spread::One {
            return ports[path.1].receive(visit);
        }
        let count = seats.len();
        for number in (0..count).filter(|&port| spread.receives(path, count, port)) {
            // Copies of what a switch floods are nobody's.
            ports[number].receive(&mut |frame| {
                if spread.leaves(frame, count, number) {
                    visit(frame);
                }
            })?;
        }
        Ok(())
    }
}

/// Makes what stands for a port before its switch is there.
fn lay(peer: &dyn Peer, ground: &Ground, port: usize, run: &RunDirectory) -> Result<End> {
    let namespace = &ground.namespace;
    Ok(match ground.seats[port].kind {
        Kind::Vm => End::Awaited(listen(&ground.socket(port))?),
        Kind::Tap => End::There(Port::Tap(peer.tap(ground, port, run)?)),
        Kind::Interface => {
            let far = lay_cable(ground, port, MTU)?;
            End::There(Port::Interface(Box::new(Interface::open(namespace, &far)?)))
        }
        Kind::Host => {
            let far = lay_cable(ground, port, HOSTS_MTU)?;
            // Its address is that of the station at the port.
            let host = Host::plug(namespace, &far, port as u8 + 1).context("a host")?;
            End::There(Port::Host(Box::new(host)))
        }
    })
}

/// Makes a veth pair whose near end is the netdev of a port; the name of the far one.
fn lay_cable(ground: &Ground, port: usize, mtu: usize) -> Result<String> {
    let (near, far) = (ground.netdev(port), format!("far{port}"));
    let pair = format!("link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}");
    for command in [pair, format!("link set {near} up"), format!("link set {far} up")] {
        ground.namespace.ip(&command).context("a veth pair")?;
    }
    Ok(far)
}

fn listen(path: &Path) -> Result<UnixListener> {
    let what = || format!("the socket {}", path.display());
    // One of a site that is gone.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).context(what())?;
    listener.set_nonblocking(true).context(what())?;
    Ok(listener)
}

/// The VM at this socket, once the switch has come. A switch that refuses the device may come
/// again, as to a VMM: Open vSwitch now and then has no memory for a ring while it makes room for
/// its ports.
fn accept(listener: &UnixListener, switch: &mut dyn Switch, lengths: Lengths) -> Result<FrontEnd> {
    let end = Instant::now() + PATIENCE;
    let mut what = "does not connect to its socket".to_owned();
    while Instant::now() < end {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).context("a switch's connection")?;
                let connection = Connection::new(socket).context("a switch's connection")?;
                match FrontEnd::over(connection, lengths.layout()) {
                    Ok(front) => return Ok(front),
                    Err(error) => what = format!("does not take a VM's device ({error})"),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for a switch"),
        }
        if let Some(process) = switch.process() {
            process.check_alive()?;
        }
        interrupt::sleep(Duration::from_millis(10))?;
    }
    Err(failed(switch, "a switch", &what))
}

/// An error about a switch, with its last words if it has any.
fn failed(switch: &mut dyn Switch, name: &str, what: &str) -> RigError {
    match switch.process() {
        Some(process) => process.failed(what),
        None => RigError::new(format!("{name} {what}")),
    }
}
