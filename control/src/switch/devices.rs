//! Devices: opened, shared with workers, handed over, opened again when they are
//! lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hairpin_dataplane::ledger::Counters;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{
    Attached, Condition, Opened, Receiver, Steering, packet, tap, vhost_user, xdp,
};
use hairpin_dataplane::snapshot::DeviceId;
use hairpin_dataplane::sys::lane::{Access, Lane, TokenId};
use hairpin_dataplane::sys::netdev::{Description, News};
use hairpin_dataplane::sys::programs::ProgramId;
use hairpin_dataplane::wire::offload::Capabilities;

use super::conduct::Conduct;
use super::drops::DeviceDrops;
use super::line::{self, Seen, Verdict};
use super::queues::Queue;
use super::topology::Plugged;
use super::vmm::{self, Faults};
use crate::config::vhost_user::VhostUserConfig;
use crate::config::{DeviceConfig, MTU_DEFAULT};
use crate::vhost::session::Served;
use crate::vhost::{self, Backend, Plug, Sockets};

/// The first wait before a lost device is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Makes the devices that exist only within this program.
pub trait Embedder: Send {
    /// Opens the memory device of a port or link. Called again for the same name
    /// when a configuration changes it. What was opened is used only once
    /// [`Embedder::settle`] says so: the device before may still be needed.
    ///
    /// # Errors
    /// What stands against it; nothing of the change is then applied.
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened>;

    /// Opens a vhost-user device of so many queue pairs: the workers' ends, and what
    /// serves its VMM's messages.
    ///
    /// # Errors
    /// As [`Embedder::open`].
    fn open_vhost_user(
        &mut self,
        _name: &str,
        pairs: usize,
    ) -> io::Result<(Opened, Box<dyn Backend>)> {
        let (opened, host) = vhost_user::open(pairs)?;
        Ok((opened, Box::new(Served::new(pairs, Box::new(host)))))
    }

    /// What became of the change for which devices were opened since the last call.
    fn settle(&mut self, _: Outcome) {}
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is made: its devices are in use.
    Committed,
    /// It was given up: its devices are closed, those before stay.
    Aborted,
}

/// Memory devices whose other ends wait to be taken, by name.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    /// Of devices in use.
    offered: BTreeMap<String, Endpoint>,
    /// Of devices opened for a change that is not settled yet.
    unsettled: Vec<(String, Endpoint)>,
}

impl Endpoints {
    /// The other end of a port's or link's device, once.
    #[must_use]
    pub fn take(&self, name: &str) -> Option<Endpoint> {
        self.lock().offered.remove(name)
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Embedder for Endpoints {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        let (device, endpoint) = memory::pair(config)?;
        self.lock().unsettled.push((name.to_owned(), endpoint));
        Ok(device.into())
    }

    fn settle(&mut self, outcome: Outcome) {
        let mut ends = self.lock();
        let unsettled = std::mem::take(&mut ends.unsettled);
        match outcome {
            Outcome::Committed => ends.offered.extend(unsettled),
            Outcome::Aborted => drop(unsettled),
        }
    }
}

/// What a device was opened from, whoever has it.
#[derive(Clone, Debug)]
pub struct Source {
    /// As configured.
    pub config: DeviceConfig,
    /// Its MTU in bytes, if it has one of its own.
    pub mtu: Option<u32>,
    /// Why its netdev has a larger one, if it has, in a sentence with the remedy.
    pub mtu_problem: Option<String>,
    /// Why frames of its netdev pass by us, if some do, in a sentence with the remedy.
    queue_problem: Option<String>,
    /// The MTU that it was asked to have.
    asked_mtu: Option<u32>,
    /// Its line; up where there is none.
    pub line: line::Followed,
    /// By which it can be had once more.
    pub(super) share: Option<Share>,
}

/// A share of an open device.
#[derive(Clone, Debug)]
pub enum Share {
    /// Of a TAP.
    Tap(tap::Share),
    /// Of somebody else's netdev.
    Packet(packet::Share),
    /// Of a netdev by AF_XDP.
    Xdp(xdp::Share),
    /// Of a socket that VMMs are at the other end of.
    VhostUser(Arc<Plug>),
}

impl Share {
    /// A TAP's.
    #[must_use]
    pub fn tap(&self) -> Option<&tap::Share> {
        match self {
            Share::Tap(tap) => Some(tap),
            Share::Packet(_) | Share::Xdp(_) | Share::VhostUser(_) => None,
        }
    }

    /// The same device once more; nothing where its rings have one worker's end only.
    fn reuse(&self) -> Option<Opened> {
        match self {
            Share::Tap(tap) => Some(tap.reuse()),
            Share::Packet(packet) => Some(packet.reuse()),
            Share::Xdp(xdp) => Some(xdp.reuse()),
            Share::VhostUser(_) => None,
        }
    }

    /// Where the kernel's counter of dropped frames stands.
    fn drops_seen(&self) -> u64 {
        match self {
            Share::Tap(tap) => drops_seen(tap),
            Share::Packet(packet) => packet.lost(),
            Share::Xdp(xdp) => xdp.lost(),
            // What does not fit stays in the guest.
            Share::VhostUser(_) => 0,
        }
    }

    /// Whether the netdev is still there.
    fn is_there(&self) -> bool {
        match self {
            Share::Tap(tap) => tap.is_there(),
            Share::Packet(packet) => packet.is_there(),
            Share::Xdp(xdp) => xdp.is_there(),
            Share::VhostUser(_) => true,
        }
    }

    /// The MTU that somebody else gave a netdev.
    fn mtu(&self, found: &Description) -> Option<xdp::UsableMtu> {
        match self {
            // It is given by us.
            Share::Tap(_) | Share::VhostUser(_) => None,
            Share::Packet(_) => Some(xdp::UsableMtu { bytes: found.mtu, problem: None }),
            Share::Xdp(xdp) => Some(xdp.usable_mtu(found.mtu)),
        }
    }

    /// Whether something may have changed of it.
    fn is_concerned(&self, news: &News) -> bool {
        match self {
            // It knows no index: its netdev may be anywhere.
            Share::Tap(_) => !news.is_empty(),
            Share::Packet(packet) => news.concerns(packet.index()),
            Share::Xdp(xdp) => news.concerns(xdp.index()),
            Share::VhostUser(_) => false,
        }
    }

    /// The netdev as it is; nothing if it is where nobody tells of it.
    fn describe(&self) -> io::Result<Option<Description>> {
        match self {
            Share::Tap(tap) => tap.describe(),
            Share::Packet(packet) => packet.describe().map(Some),
            Share::Xdp(xdp) => xdp.describe().map(Some),
            Share::VhostUser(_) => Ok(None),
        }
    }

    /// Has those who send by a netdev know what has become of it, besides its line and MTU.
    fn tell_senders(&self) {
        if let Share::Packet(packet) = self {
            // What cannot be asked is gone, and found to be so elsewhere, or stays as it was.
            let _ = packet.look_at_cutting();
        }
    }

    /// Its line as it is now, up where nobody tells.
    fn line(&self) -> line::Followed {
        if let Share::VhostUser(plug) = self {
            return line::Followed::new(plug.status().seen(), Instant::now());
        }
        let found = self.describe().ok().flatten();
        line::Followed::new(found.map_or(Seen::UP, Seen::from), Instant::now())
    }
}

/// What was heard of netdevs.
#[derive(Debug)]
pub struct Heard {
    /// What was told.
    pub news: News,
    /// Since when: not before.
    pub since: Instant,
}

impl Source {
    fn new(
        config: DeviceConfig,
        mtu: Option<u32>,
        asked_mtu: Option<u32>,
        share: Option<Share>,
    ) -> Source {
        let line = share.as_ref().map(Share::line);
        let line = line.unwrap_or_else(|| line::Followed::new(Seen::UP, Instant::now()));
        let (mtu_problem, queue_problem) = (None, None);
        Source { config, mtu, mtu_problem, queue_problem, asked_mtu, line, share }
    }

    /// Whether this is the MTU that it was asked to have last.
    #[must_use]
    pub fn has_asked(&self, wanted: Option<u32>) -> bool {
        self.asked_mtu == wanted
    }

    /// Takes note of the MTU that is wanted now; what is to be set, if that is
    /// another than before. A netdev that was there keeps its own.
    pub fn ask_mtu(&mut self, wanted: Option<u32>) -> Option<Retune> {
        if self.has_asked(wanted) {
            return None;
        }
        self.asked_mtu = wanted;
        let tap = self.share.as_ref().and_then(Share::tap)?;
        if tap.origin != tap::Origin::Created {
            return None;
        }
        let mtu = wanted.unwrap_or(MTU_DEFAULT);
        let before = self.mtu.replace(mtu);
        (before != Some(mtu)).then(|| Retune { tap: tap.clone(), mtu })
    }

    /// Whether it is a netdev that went away, as far as was heard.
    #[must_use]
    pub fn is_gone(&self, news: &News) -> bool {
        self.share.as_ref().is_some_and(|share| share.is_concerned(news) && !share.is_there())
    }

    /// By which path a netdev was opened by AF_XDP.
    #[must_use]
    pub fn granted(&self) -> Option<&xdp::Granted> {
        match &self.share {
            Some(Share::Xdp(xdp)) => Some(xdp.granted()),
            Some(Share::Tap(_) | Share::Packet(_) | Share::VhostUser(_)) | None => None,
        }
    }

    /// What its frames' checksums are like, as far as samples tell.
    #[must_use]
    pub fn checksums(&self) -> xdp::Checksums {
        match &self.share {
            Some(Share::Xdp(xdp)) => xdp.checksums(),
            Some(Share::Tap(_) | Share::Packet(_) | Share::VhostUser(_)) | None => {
                xdp::Checksums::default()
            }
        }
    }

    /// Looks whether all receive queues that its netdev uses are ours: nobody tells of it.
    pub fn count_queues(&mut self) {
        self.queue_problem = match &self.share {
            Some(Share::Xdp(xdp)) => xdp.queue_problem(),
            Some(Share::Tap(_) | Share::Packet(_) | Share::VhostUser(_)) | None => None,
        };
    }

    /// What is wrong with the frames that it brings, or does not, each in a sentence with the
    /// remedy.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.queue_problem.iter().cloned().collect();
        if self.plug().is_some_and(Plug::is_abandoned) {
            notes.push(
                "the thread that serves its socket has failed, so that no VMM can connect: \
                 restart the daemon, and report this"
                    .to_owned(),
            );
        }
        let session = self.vmm().and_then(|vmm| vmm.session);
        notes.extend(session.map(|it| it.warning.clone()).filter(|warning| !warning.is_empty()));
        let (DeviceConfig::Xdp { interface, .. }, Some(Share::Xdp(xdp))) =
            (&self.config, &self.share)
        else {
            return notes;
        };
        if xdp.checksums().lately == xdp::Lately::Unfilled {
            notes.push(format!(
                "interface `{interface}`: frames come from its peer with checksums that are not \
                 filled in, so that their receivers drop them: have the peer do it (at the other \
                 end: `ethtool -K PEER tx off gso off tso off`)"
            ));
        }
        let still_on = xdp.still_on().join(" ");
        if !still_on.is_empty() {
            notes.push(format!(
                "interface `{interface}`: its driver does not turn off {still_on}, so that VLAN \
                 tags or whole frames are lost: use a packet device for it, or another driver"
            ));
        }
        notes
    }

    /// The socket of a vhost-user device.
    #[must_use]
    pub fn plug(&self) -> Option<&Plug> {
        match &self.share {
            Some(Share::VhostUser(plug)) => Some(plug),
            Some(Share::Tap(_) | Share::Packet(_) | Share::Xdp(_)) | None => None,
        }
    }

    /// How a vhost-user device's socket is.
    #[must_use]
    pub fn vmm(&self) -> Option<vhost::Status> {
        self.plug().map(Plug::status)
    }

    /// The program that a netdev runs for it, by which it is known to be taken.
    #[must_use]
    pub fn program(&self) -> Option<ProgramId> {
        match &self.share {
            Some(Share::Packet(packet)) => packet.program(),
            Some(Share::Xdp(xdp)) => xdp.program(),
            Some(Share::Tap(_) | Share::VhostUser(_)) | None => None,
        }
    }

    /// Lets go of a netdev that is gone, or is nobody's any more, before its file closes:
    /// it can be opened again at once.
    pub fn untie(&self) {
        match &self.share {
            Some(Share::Packet(packet)) => packet.untie(),
            Some(Share::Xdp(xdp)) => xdp.untie(),
            Some(Share::Tap(_) | Share::VhostUser(_)) | None => {}
        }
    }

    /// Takes note of what has become of its netdev; says whether the policy has to follow.
    pub fn follow(&mut self, heard: &Heard, now: Instant) -> Followed {
        if self.plug().is_some() {
            // Its line is a VMM's: what netdevs do tells nothing of it.
            return Followed::Same;
        }
        let Some(share) = &self.share else { return Followed::Same };
        if !share.is_concerned(&heard.news) && !self.line.is_due(now) {
            return Followed::Same;
        }
        self.count_queues();
        let Some(share) = &self.share else { return Followed::Same };
        // What cannot be asked stays as it was.
        let Ok(found) = share.describe() else { return Followed::Same };
        share.tell_senders();
        let before = (self.mtu, self.mtu_problem.take(), self.line.state());
        let told = found.and_then(|found| heard.news.told(found.index));
        let told = told.filter(|_| heard.since >= self.line.known());
        self.line.look(found.map_or(Seen::UP, Seen::from), told, now);
        if let Some(mtu) = found.and_then(|found| share.mtu(&found)) {
            (self.mtu, self.mtu_problem) = (Some(mtu.bytes), mtu.problem);
        }
        match before == (self.mtu, self.mtu_problem.clone(), self.line.state()) {
            true => Followed::Same,
            false => Followed::Another,
        }
    }

    /// As a topology needs it, with what workers share of it.
    #[must_use]
    pub fn plugged(&self, attached: &Arc<Attached>) -> Plugged {
        Plugged { attached: Arc::clone(attached), mtu: self.mtu, line: self.line.state() }
    }

    /// Whether frames can pass, as far as the netdev, or the guest's driver, goes.
    #[must_use]
    pub fn counts_as_up(&self) -> bool {
        matches!(self.config, DeviceConfig::Memory(_)) || self.line.state().verdict == Verdict::Up
    }

    /// Why it does not count as up, in a sentence with its remedy; nothing if it does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let verdict = self.line.state().verdict;
        match &self.config {
            DeviceConfig::VhostUser(config) => vmm::problem(verdict, config, &self.vmm()?),
            config => verdict.problem(config.interface()?),
        }
    }
}

/// Whether anything changed of a netdev that the policy depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// It did not.
    Same,
    /// It did.
    Another,
}

/// An MTU that a netdev is to get.
#[derive(Debug)]
pub struct Retune {
    tap: tap::Share,
    mtu: u32,
}

impl Retune {
    /// Sets it; what undoes that.
    ///
    /// # Errors
    /// What stands against it, in a sentence with its remedy.
    pub fn set(self) -> Result<Option<Retune>, String> {
        let former = self.tap.set_mtu(self.mtu).map_err(|error| error.to_string())?;
        Ok(former.map(|mtu| Retune { mtu, ..self }))
    }
}

/// A device that was opened but is not attached yet: dropped, it is closed.
#[derive(Debug)]
pub struct Fresh {
    opened: Opened,
    source: Source,
    way: Way,
    /// Where the kernel's counter of dropped frames stands.
    drops_seen: u64,
}

/// How a device came to its port or link.
#[derive(Debug)]
pub enum Way {
    /// It was opened.
    Opened,
    /// It is not there yet.
    Waiting {
        /// For what, in a sentence.
        problem: String,
    },
    /// It was another's, and nothing was closed or lost on the way.
    HandedOver {
        /// As the other had it.
        condition: Condition,
        /// By queue: the worker that serves it.
        placement: Vec<usize>,
        /// What is being done about it.
        care: Care,
        /// The last trouble with it; empty if there was none.
        last_error: String,
    },
}

/// With whose help devices are opened.
pub struct Makers<'m> {
    /// Makes those that exist only within this program.
    pub embedder: &'m mut dyn Embedder,
    /// Puts interfaces back as they were.
    pub caretaker: &'m xdp::Caretaker,
    /// Makes sockets and serves them.
    pub sockets: &'m mut Sockets,
    /// Programs of devices in whose place one comes: they do not stand against it.
    pub leaving: &'m [ProgramId],
}

/// Opens what a configuration says, with `mtu` bytes of payload if that is given,
/// for so many workers.
///
/// # Errors
/// What stands against it, in a sentence with its remedy.
pub fn open(
    name: &str,
    config: &DeviceConfig,
    mtu: Option<u32>,
    workers: usize,
    makers: Makers<'_>,
) -> Result<Fresh, String> {
    let Makers { embedder, caretaker, sockets, leaving } = makers;
    let leaving = leaving.to_vec();
    match config {
        DeviceConfig::Memory(config) => {
            let opened = embedder.open(name, *config).map_err(|error| {
                format!("its memory could not be made: {error}; see ulimit and free memory")
            })?;
            let config = DeviceConfig::Memory(*config);
            let source = Source::new(config, None, mtu, None);
            Ok(Fresh { opened, source, way: Way::Opened, drops_seen: 0 })
        }
        DeviceConfig::VhostUser(config) => open_vhost_user(name, config, mtu, embedder, sockets),
        DeviceConfig::Tap { interface } => open_tap(interface, mtu, workers),
        &DeviceConfig::Packet { ref interface, hosts_own } => {
            let queues = workers.clamp(1, packet::QUEUES_MAX);
            let interface = interface.clone();
            open_packet(packet::Config { interface, queues, hosts_own, leaving }, mtu)
        }
        &DeviceConfig::Xdp { ref interface, mode, hosts_own } => {
            let interface = interface.clone();
            open_xdp(xdp::Config { interface, mode, hosts_own, leaving }, mtu, caretaker)
        }
    }
}

/// A device that workers serve.
#[derive(Debug)]
pub struct Device {
    /// What it was opened from.
    pub source: Source,
    /// What workers share of it.
    pub attached: Arc<Attached>,
    /// Its receive queues, by number.
    pub queues: Vec<Queue>,
    /// What is being done about it.
    pub care: Care,
    /// How often it was opened again.
    pub reopened: u64,
    /// The last trouble with it; empty if there was none.
    pub last_error: String,
    /// What it lost by itself.
    pub drops: DeviceDrops,
    /// The notes ([`Source::notes`]) that were logged last.
    pub noted: Vec<String>,
    /// What is known of faults that its socket tells of.
    pub faults: Faults,
    /// How its guest has behaved of late.
    pub(super) conduct: Conduct,
}

/// What is being done about a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// Nothing: it works, or nothing can be done.
    None,
    /// It is to be opened again.
    Retry {
        /// When.
        at: Instant,
        /// How long to wait after the next failure.
        wait: Duration,
    },
}

impl Care {
    /// At once, then less and less often.
    #[must_use]
    pub fn at_once(now: Instant) -> Care {
        Care::Retry { at: now, wait: RETRY.0 }
    }

    /// After another failure.
    #[must_use]
    pub fn later(self, now: Instant) -> Care {
        let wait = match self {
            Care::None => RETRY.0,
            Care::Retry { wait, .. } => wait,
        };
        Care::Retry { at: now + wait, wait: (2 * wait).min(RETRY.1) }
    }

    /// Whether something is to be done now.
    #[must_use]
    pub fn is_due(self, now: Instant) -> bool {
        matches!(self, Care::Retry { at, .. } if at <= now)
    }
}

/// A device and the queues that are to be handed to workers.
#[derive(Debug)]
pub struct Ready {
    /// What it was opened from.
    pub source: Source,
    /// What workers share.
    pub attached: Arc<Attached>,
    /// One per receive queue.
    pub receivers: Vec<Receiver>,
    /// How it came here.
    pub way: Way,
    /// Where the kernel's counter of dropped frames stood when it came.
    pub drops_seen: u64,
}

impl Device {
    /// As a topology needs it.
    #[must_use]
    pub fn plugged(&self) -> Plugged {
        self.source.plugged(&self.attached)
    }

    /// By queue: the worker that serves it, or is to.
    #[must_use]
    pub fn placement(&self) -> Vec<usize> {
        self.queues.iter().map(|queue| queue.worker).collect()
    }

    /// The device once more, for another port or link; nothing where it cannot be
    /// had twice.
    #[must_use]
    pub fn hand_over(&self) -> Option<Fresh> {
        let share = self.source.share.as_ref()?;
        let (opened, drops_seen) = (share.reuse()?, share.drops_seen());
        let condition = self.attached.condition();
        let care = match self.care {
            Care::Retry { .. } => self.care,
            // That it is lost may not have been told yet, and what is told later is
            // told of the one that had it.
            _ if condition == Condition::Lost => Care::at_once(Instant::now()),
            Care::None => Care::None,
        };
        let way = Way::HandedOver {
            condition,
            placement: self.placement(),
            care,
            last_error: self.last_error.clone(),
        };
        Some(Fresh { opened, source: self.source.clone(), way, drops_seen })
    }
}

impl Fresh {
    /// The device, if it is there.
    ///
    /// # Errors
    /// What it waits for.
    pub fn there(self) -> Result<Fresh, String> {
        match self.way {
            Way::Waiting { problem } => Err(problem),
            Way::Opened | Way::HandedOver { .. } => Ok(self),
        }
    }

    /// Gives it an id, counters, and a lane for each transmitter: a lane of its own
    /// for each worker where there are enough.
    #[must_use]
    pub fn attach(
        self,
        id: DeviceId,
        name: &str,
        counters: Arc<[Counters]>,
        tokens: &[TokenId],
    ) -> Ready {
        let Opened { receivers, transmitters, capabilities, steering } = self.opened;
        let one_each = transmitters.len() == tokens.len();
        let access = |lane: usize| match (tokens, &steering) {
            (&[only], _) => Access::Owned(only),
            (_, Steering::ByWorker) if one_each => Access::Owned(tokens[lane]),
            (_, Steering::ByWorker | Steering::BySender { .. }) => Access::Shared,
        };
        let lanes = transmitters.into_iter().enumerate();
        let lanes = lanes.map(|(lane, transmitter)| Lane::new(access(lane), transmitter)).collect();
        let attached = Attached::new(id, name, counters, capabilities, lanes).steered(steering);
        match self.way {
            Way::Opened => {}
            Way::Waiting { .. } => attached.set_condition(Condition::Lost),
            Way::HandedOver { condition, .. } => attached.set_condition(condition),
        }
        let (source, attached) = (self.source, Arc::new(attached));
        Ready { source, attached, receivers, way: self.way, drops_seen: self.drops_seen }
    }
}

fn open_tap(interface: &str, mtu: Option<u32>, workers: usize) -> Result<Fresh, String> {
    let queues = workers.clamp(1, tap::QUEUES_MAX);
    let config = tap::Config { interface: interface.to_owned(), queues, mtu };
    let device = tap::open(&config).map_err(|error| error.to_string())?;
    if device.receivers.len() < queues {
        tracing::info!(
            interface,
            "the TAP was made with one queue, which one worker serves for all; made with \
             `multi_queue` it would have one for each"
        );
    }
    let share = device.share();
    // What was dropped before it was ours is not counted; what was made here begins at 0.
    let drops_seen = match share.origin {
        tap::Origin::Created => 0,
        tap::Origin::Existing => drops_seen(&share),
    };
    let device_config = DeviceConfig::Tap { interface: config.interface };
    let source = Source::new(device_config, Some(device.mtu), mtu, Some(Share::Tap(share)));
    Ok(Fresh { opened: device.into(), source, way: Way::Opened, drops_seen })
}

/// Its socket is there from now on, whoever comes to it.
fn open_vhost_user(
    name: &str,
    config: &VhostUserConfig,
    mtu: Option<u32>,
    embedder: &mut dyn Embedder,
    sockets: &mut Sockets,
) -> Result<Fresh, String> {
    let opened = embedder.open_vhost_user(name, config.queues.into());
    let (opened, backend) = opened.map_err(|error| error.to_string())?;
    let plug = sockets.open(config, backend).map_err(|error| error.to_string())?;
    let share = Some(Share::VhostUser(Arc::new(plug)));
    let source = Source::new(DeviceConfig::VhostUser(config.clone()), None, mtu, share);
    Ok(Fresh { opened, source, way: Way::Opened, drops_seen: 0 })
}

/// Somebody else's netdev may still come, or come up: until then its port waits.
fn open_packet(config: packet::Config, mtu: Option<u32>) -> Result<Fresh, String> {
    let opened = packet::open(&config);
    let packet::Config { interface, hosts_own, .. } = config;
    let device_config = DeviceConfig::Packet { interface, hosts_own };
    let source = |mtu_now, share| Source::new(device_config, mtu_now, mtu, share);
    match opened {
        Ok(device) => {
            let source = source(Some(device.mtu), Some(Share::Packet(device.share())));
            Ok(Fresh { opened: device.into(), source, way: Way::Opened, drops_seen: 0 })
        }
        Err(error) if error.may_pass() => Ok(waiting(error.to_string(), source(None, None))),
        Err(error) => Err(error.to_string()),
    }
}

/// The same by AF_XDP. Its queues are the netdev's own, however many workers there are.
fn open_xdp(
    config: xdp::Config,
    mtu: Option<u32>,
    caretaker: &xdp::Caretaker,
) -> Result<Fresh, String> {
    let opened = xdp::open_with(&config, caretaker);
    let xdp::Config { interface, mode, hosts_own, .. } = config;
    let device_config = DeviceConfig::Xdp { interface: interface.clone(), mode, hosts_own };
    let source = |mtu_now, share| Source::new(device_config, mtu_now, mtu, share);
    match opened {
        Ok(device) => {
            let xdp::Granted { path, reason, .. } = device.granted();
            let queues = device.receivers.len();
            tracing::info!(interface, %path, reason, queues, "an interface is open by AF_XDP");
            let source = source(Some(device.mtu), Some(Share::Xdp(device.share())));
            Ok(Fresh { opened: device.into(), source, way: Way::Opened, drops_seen: 0 })
        }
        Err(error) if error.may_pass() => Ok(waiting(error.to_string(), source(None, None))),
        Err(error) => Err(error.to_string()),
    }
}

/// A device that is not there yet, and for what it waits.
fn waiting(problem: String, source: Source) -> Fresh {
    let (receivers, transmitters) = (Vec::new(), Vec::new());
    let opened = Opened {
        receivers,
        transmitters,
        capabilities: Capabilities::NONE,
        steering: Steering::ByWorker,
    };
    Fresh { opened, source, way: Way::Waiting { problem }, drops_seen: 0 }
}

/// Where the kernel's counter of dropped frames stands.
fn drops_seen(tap: &tap::Share) -> u64 {
    tap::device_drops(&[tap]).into_iter().flatten().next().unwrap_or(0)
}
