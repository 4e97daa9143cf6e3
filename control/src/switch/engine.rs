//! The one place where the switch changes: prepare, commit, or leave it alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use hairpin_dataplane::port::{Attached, Condition, xdp};
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::topology::Topology;
use hairpin_dataplane::snapshot::{DeviceId, Snapshot, compile};
use hairpin_dataplane::sys::netdev::Changes;
use hairpin_dataplane::sys::programs::ProgramId;
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::worker::command::{Event, ReceiveQueue};

use super::announce::Told;
use super::capture::Captures;
use super::conduct::Conduct;
use super::crash::{self, Place};
use super::derive::Derived;
use super::devices::{
    self, Care, Device, Embedder, Fresh, Makers, Outcome, Ready, Retune, Source, Way,
};
use super::diff::Diff;
use super::drops::DeviceDrops;
use super::events::{Events, Kind, News};
use super::history::{History, RecordError};
use super::ids::Ids;
use super::queues::Queue;
use super::retired::Retired;
use super::topology::{Devices, link_mtu, topology};
use super::vmm::Faults;
use super::workers::{Alarm, Crew, CrewError, Health};
use super::{Applied, ApplyError, Order, Trial};
use crate::config::desired::{Desired, Home, Link};
use crate::config::{Config, DeviceConfig, SwitchConfig};
use crate::vhost::Sockets;

/// Everything that a running switch is.
pub struct Engine {
    /// What somebody wrote, and applied.
    pub(super) written: Arc<Desired>,
    /// What runs: that, and the ports that its templates made.
    pub(super) desired: Arc<Desired>,
    pub(super) derived: Derived,
    pub(super) history: History,
    /// Counts what was published.
    pub(super) publications: u64,
    pub(super) devices: BTreeMap<String, Device>,
    pub(super) crew: Crew,
    pub(super) fdb: Arc<Fdb>,
    pub(super) ids: Ids,
    pub(super) publisher: Publisher<Snapshot>,
    embedder: Box<dyn Embedder>,
    /// Tells of changes to netdevs; nothing where the kernel does not.
    pub(super) netdevs: Option<Changes>,
    /// When it was last asked for them.
    pub(super) heard: Instant,
    /// When receive queues of netdevs were last counted.
    pub(super) counted: Instant,
    /// What was said of links whose device leaves no room.
    pub(super) cramped: BTreeMap<String, String>,
    caretaker: xdp::Caretaker,
    pub(super) sockets: Sockets,
    pub(super) events: Arc<Events>,
    pub(super) told: Told,
    /// How many reports of workers were asked for so far: the number of the last.
    pub(super) reports: u64,
    pub(super) captures: Captures,
    retired: Retired,
}

/// A change that is ready: nothing can go wrong with it any more.
struct Prepared {
    ids: Ids,
    snapshot: Box<Snapshot>,
    /// Devices that come to a port or link.
    ready: BTreeMap<String, Ready>,
    /// Of devices that stay and are to have another MTU: what they are opened from then.
    retuned: BTreeMap<String, Source>,
    /// What sets back the MTUs that were set, in their order.
    undo: Vec<Retune>,
}

impl Engine {
    /// A switch with workers and nothing else.
    pub fn new(
        config: &SwitchConfig,
        embedder: Box<dyn Embedder>,
        caretaker: xdp::Caretaker,
        history: History,
    ) -> Result<Engine, CrewError> {
        let empty = Config { switch: config.clone(), ..Config::default() };
        let desired = Desired::try_from(empty).expect("a configuration without objects holds");
        let fdb = Arc::new(Fdb::new(u32::try_from(config.fdb.capacity).unwrap_or(u32::MAX)));
        let publisher = Publisher::new(Box::new(nothing()), Crew::size(config));
        let crew = Crew::start(config, &publisher, &fdb)?;
        let desired = Arc::new(desired);
        Ok(Engine {
            written: Arc::clone(&desired),
            desired,
            derived: Derived::default(),
            history,
            publications: 0,
            devices: BTreeMap::new(),
            crew,
            fdb,
            ids: Ids::default(),
            publisher,
            embedder,
            netdevs: hear_of_netdevs(),
            cramped: BTreeMap::new(),
            caretaker,
            sockets: Sockets::default(),
            heard: Instant::now(),
            counted: Instant::now(),
            events: Events::new(),
            told: Told::default(),
            reports: 0,
            captures: Captures::default(),
            retired: Retired::default(),
        })
    }

    /// Makes a desired state the running one, or changes nothing.
    pub fn apply(&mut self, desired: Desired, order: &Order) -> Result<Applied, ApplyError> {
        let diff = self.compare(&desired, order)?;
        if diff.is_empty() {
            self.history.note_file(order.file);
            return Ok(Applied { revision: self.history.number(), diff });
        }
        self.record(desired, order, &diff)?;
        Ok(Applied { revision: self.history.number(), diff })
    }

    /// Makes a first state the running one, as a new revision.
    pub fn begin(&mut self, desired: Desired, order: &Order) -> Result<(), ApplyError> {
        let diff = Diff::between(self.written.config(), desired.config());
        self.record(desired, order, &diff)
    }

    fn record(&mut self, desired: Desired, order: &Order, diff: &Diff) -> Result<(), ApplyError> {
        let changes = u32::try_from(diff.0.len()).unwrap_or(u32::MAX);
        self.change(desired, |engine, desired| {
            engine.history.record(desired.shared_config(), &order.origin, changes, order.file)
        })?;
        let cause =
            format!("revision {} by {}: {}", self.history.number(), order.origin, brief(diff));
        let (object, remedy) = ("switch".to_owned(), String::new());
        let now = Instant::now();
        self.tell_sometime(News { kind: Kind::Applied, object, cause, remedy }, now);
        self.announce_states(now);
        Ok(())
    }

    /// Makes the last revision's state the running one again, as a first one.
    pub fn restore(&mut self, desired: Desired) -> Result<(), ApplyError> {
        self.change(desired, |_, _| Ok(()))
    }

    /// Refuses an order that was made from another revision than the one that runs.
    pub fn refuse_superseded(&self, order: &Order) -> Result<(), ApplyError> {
        let running = self.history.number();
        match order.base.filter(|base| *base != running) {
            Some(base) => Err(ApplyError::Superseded { base, running }),
            None => Ok(()),
        }
    }

    /// What an apply would change, if it may.
    pub fn compare(&self, desired: &Desired, order: &Order) -> Result<Diff, ApplyError> {
        self.refuse_superseded(order)?;
        refuse_restart(self.written.switch(), desired.switch())?;
        Ok(Diff::between(self.written.config(), desired.config()))
    }

    /// Applies, or says only what that would change.
    pub fn order(
        &mut self,
        desired: Desired,
        order: &Order,
        trial: Trial,
    ) -> Result<Applied, ApplyError> {
        match trial {
            Trial::Earnest => self.apply(desired, order),
            Trial::Dry => {
                let diff = self.compare(&desired, order)?;
                Ok(Applied { revision: self.history.number(), diff })
            }
        }
    }

    /// Prepares, records and commits; what fails leaves everything as it was.
    fn change(
        &mut self,
        written: Desired,
        record: impl FnOnce(&mut Engine, &Desired) -> Result<(), RecordError>,
    ) -> Result<(), ApplyError> {
        let written = Arc::new(written);
        let desired = self.derived.with(&written)?;
        let mut prepared = match self.prepare(&desired) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.embedder.settle(Outcome::Aborted);
                return Err(error);
            }
        };
        crash::at(Place::Tuned);
        let undo = std::mem::take(&mut prepared.undo);
        if let Err(error) = record(self, &written) {
            undo.into_iter().rev().for_each(set_back);
            self.embedder.settle(Outcome::Aborted);
            return Err(error.into());
        }
        crash::at(Place::Recorded);
        // commit
        self.commit(desired, prepared);
        self.written = written;
        crash::at(Place::Published);
        self.embedder.settle(Outcome::Committed);
        Ok(())
    }

    /// Has another state run than before of what is written, for ports that came or went.
    pub(super) fn follow_derived(&mut self, desired: Arc<Desired>) -> Result<(), ApplyError> {
        match self.prepare(&desired) {
            Ok(prepared) => {
                // commit
                self.commit(desired, prepared);
                self.embedder.settle(Outcome::Committed);
                Ok(())
            }
            Err(error) => {
                self.embedder.settle(Outcome::Aborted);
                Err(error)
            }
        }
    }

    /// Opens what must be opened, compiles, and sets MTUs. What was opened closes
    /// again if anything fails, and what was set is set back.
    fn prepare(&mut self, desired: &Desired) -> Result<Prepared, ApplyError> {
        let mut ids = self.ids.clone();
        ids.begin();
        let (mut ready, mut retuned) = (BTreeMap::new(), BTreeMap::new());
        let mut plugged = Devices::new();
        let mut retunes = Vec::new();
        let leaving = self.leaving(desired);
        for wanted in wanted_devices(desired) {
            let mtu = wanted.mtu(desired, &plugged);
            let asked = mtu.as_ref().map(|mtu| mtu.bytes);
            let exhausted = |_| ApplyError::exhausted(&wanted.object());
            let id = ids.device(wanted.name).map_err(exhausted)?;
            let stays = |device: &&Device| device.source.config == *wanted.config;
            let (seen, retune) = match self.devices.get(wanted.name).filter(stays) {
                Some(device) if device.source.has_asked(asked) => (device.plugged(), None),
                Some(device) => {
                    let mut source = device.source.clone();
                    let retune = source.ask_mtu(asked);
                    let seen = source.plugged(&device.attached);
                    retuned.insert(wanted.name.to_owned(), source);
                    (seen, retune)
                }
                None => {
                    let mut device = self.bring(&wanted, asked, id, &leaving)?;
                    let retune = device.source.ask_mtu(asked);
                    let seen = device.source.plugged(&device.attached);
                    ready.insert(wanted.name.to_owned(), device);
                    (seen, retune)
                }
            };
            retunes.extend(retune.map(|retune| (wanted.owner_of(mtu), retune)));
            plugged.insert(wanted.name, seen);
        }
        let topology = topology(desired, &plugged, &mut ids, self.publications + 1)
            .map_err(|_| ApplyError::exhausted("configuration"))?;
        ids.end();
        let snapshot = Box::new(compile::compile(&topology)?);
        crash::at(Place::Opened);
        // Last, since it is what others see of a change that may still fail.
        let undo = set_mtus(retunes)?;
        Ok(Prepared { ids, snapshot, ready, retuned, undo })
    }

    /// A device for a port or link that does not have it yet: another's, if it is
    /// open already, else opened.
    fn bring(
        &mut self,
        wanted: &Wanted<'_>,
        mtu: Option<u32>,
        id: DeviceId,
        leaving: &[ProgramId],
    ) -> Result<Ready, ApplyError> {
        let tokens = self.crew.tokens();
        let running = self.devices.get(wanted.name);
        let running = running.map(|device| Arc::clone(&device.attached.counters));
        let counters = running.or_else(|| self.retired.of(wanted.name));
        let counters = counters.unwrap_or_else(|| Attached::counters(tokens.len()));
        let mut others = self.devices.values();
        let open = others.find(|device| device.source.config == *wanted.config);
        let fresh = match open.and_then(Device::hand_over) {
            Some(fresh) => fresh,
            None => wanted
                .open(mtu, tokens.len(), self.makers(leaving))
                .map_err(|problem| ApplyError::Device { object: wanted.object(), problem })?,
        };
        Ok(fresh.attach(id, wanted.name, counters, &tokens))
    }

    fn makers<'m>(&'m mut self, leaving: &'m [ProgramId]) -> Makers<'m> {
        Makers {
            embedder: &mut *self.embedder,
            caretaker: &self.caretaker,
            sockets: &mut self.sockets,
            leaving,
        }
    }

    /// Programs of devices that go with a change: whatever comes in their place finds them
    /// still there.
    fn leaving(&self, desired: &Desired) -> Vec<ProgramId> {
        let stay: BTreeMap<&str, &DeviceConfig> = wanted_devices(desired)
            .filter_map(|wanted| Some((wanted.config.interface()?, wanted.config)))
            .collect();
        let goes = |device: &&Device| {
            let config = &device.source.config;
            config.interface().and_then(|interface| stay.get(interface)) != Some(&config)
        };
        let devices = self.devices.values().filter(goes);
        devices.filter_map(|device| device.source.program()).collect()
    }

    fn commit(&mut self, desired: Arc<Desired>, prepared: Prepared) {
        let Prepared { ids, snapshot, ready, retuned, undo: _ } = prepared;
        self.publish(snapshot);
        self.ids = ids;
        let wanted: BTreeMap<&str, &DeviceConfig> =
            wanted_devices(&desired).map(|wanted| (wanted.name, wanted.config)).collect();
        // All queues that go before any that comes: a file that is handed over can be
        // watched once only by a worker.
        let goes = |name: &String| ready.contains_key(name) || !wanted.contains_key(&**name);
        let names: Vec<String> = self.devices.keys().filter(|name| goes(name)).cloned().collect();
        let mut before: BTreeMap<String, Device> =
            names.into_iter().filter_map(|name| self.unplug(&name)).collect();
        // Those that nobody has after this close when their queues are back; the next change
        // may want their netdevs before.
        let goes =
            |device: &&Device| wanted.values().all(|config| **config != device.source.config);
        before.values().filter(goes).for_each(|device| device.source.untie());
        for (name, ready) in ready {
            let before = before.remove(&name);
            self.plug(name, ready, before);
        }
        for (name, gone) in before {
            self.retired.keep(name, &gone.attached.counters);
        }
        for (name, source) in retuned {
            if let Some(device) = self.devices.get_mut(&name) {
                device.source = source;
            }
        }
        self.desired = desired;
        self.publisher.collect();
        self.explain_cables();
    }

    /// Publishes a snapshot; workers see it in their next breath.
    fn publish(&mut self, snapshot: Box<Snapshot>) {
        self.publications += 1;
        self.publisher.publish(snapshot);
        self.crew.wake();
    }

    /// Takes a device's queues from workers; its file closes when all are back.
    fn unplug(&mut self, name: &str) -> Option<(String, Device)> {
        let (name, device) = self.devices.remove_entry(name)?;
        self.crew.dismiss(device.attached.id, &device.placement());
        Some((name, device))
    }

    /// Hands a device's queues to workers, in the place of those that its port or
    /// link had before.
    fn plug(&mut self, name: String, ready: Ready, before: Option<Device>) {
        let reopened = before.as_ref().map_or(0, |before| before.reopened);
        let (wished, care, reopened, last_error) = match ready.way {
            Way::HandedOver { placement, care, last_error, .. } => {
                (Some(placement), care, reopened, last_error)
            }
            Way::Waiting { problem } => (None, Care::at_once(Instant::now()), reopened, problem),
            Way::Opened => match &before {
                None => (None, Care::None, 0, String::new()),
                Some(before) => {
                    let (placement, last_error) = (before.placement(), before.last_error.clone());
                    (Some(placement), Care::None, reopened + 1, last_error)
                }
            },
        };
        let drops = DeviceDrops::new(before.map_or(0, Device::final_drops), ready.drops_seen);
        let wished = wished.filter(|placement| placement.len() == ready.receivers.len());
        let placement = wished.unwrap_or_else(|| self.place(ready.receivers.len()));
        let each = ready.receivers.into_iter().zip(placement).zip(0..);
        let (queues, served): (Vec<Queue>, Vec<Box<ReceiveQueue>>) = each
            .map(|((receiver, worker), index)| Queue::new(worker, index, receiver, &ready.attached))
            .unzip();
        let (source, attached) = (ready.source, ready.attached);
        // The one before it, whose socket it may have, is gone by now.
        if let Some(plug) = source.plug() {
            plug.activate();
        }
        let (noted, faults) = (Vec::new(), Faults::default());
        let conduct = Conduct::begin(&attached.totals(), Instant::now());
        let device = Device {
            source,
            attached,
            queues,
            care,
            reopened,
            last_error,
            drops,
            noted,
            faults,
            conduct,
        };
        self.devices.insert(name, device);
        served.into_iter().for_each(|queue| self.hand_out(queue));
    }

    /// Ends the workers and closes all devices.
    pub fn stop(&mut self) {
        self.crew.stop();
        self.devices.clear();
        self.sockets.close();
        for event in self.crew.events().try_iter() {
            self.handle(event);
        }
        self.publisher.publish(Box::new(nothing()));
        self.publisher.collect();
    }
}

/// A difference in a line, cut where it gets long.
fn brief(diff: &Diff) -> String {
    const CHANGES: usize = 8;
    let mut words: Vec<String> = diff.0.iter().take(CHANGES).map(ToString::to_string).collect();
    if diff.0.len() > CHANGES {
        words.push(format!("and {} more", diff.0.len() - CHANGES));
    }
    words.join(", ")
}

/// Without it, devices that are waited for are looked for now and then.
fn hear_of_netdevs() -> Option<Changes> {
    let opened = Changes::open();
    let refused = |error: &io::Error| {
        tracing::warn!(%error, "changes to interfaces are not heard of, only looked for");
    };
    opened.inspect_err(refused).ok()
}

/// The policy of a switch without ports.
fn nothing() -> Snapshot {
    compile::compile(&Topology::default()).expect("nothing contradicts nothing")
}

/// What must be open for a desired state.
struct Wanted<'d> {
    name: &'d str,
    config: &'d DeviceConfig,
    owner: Owner<'d>,
}

/// Whose device it is.
enum Owner<'d> {
    Link(&'d Link),
    Port(Home),
}

/// An MTU that a netdev is to have, and of which link it is.
struct Mtu<'d> {
    bytes: u32,
    link: &'d str,
}

impl<'d> Wanted<'d> {
    fn open(&self, mtu: Option<u32>, workers: usize, makers: Makers<'_>) -> Result<Fresh, String> {
        devices::open(self.name, self.config, mtu, workers, makers)
    }

    /// Kind and name of whose it is.
    fn object(&self) -> String {
        match self.owner {
            Owner::Link(link) => format!("link {}", link.name),
            Owner::Port(_) => format!("port {}", self.name),
        }
    }

    /// The MTU that its netdev is to have: a link's as configured, if it is; a port's
    /// as its link has it, by its device where the configuration says nothing. What is
    /// open already tells: links come before ports.
    fn mtu(&self, desired: &'d Desired, open: &Devices<'_>) -> Option<Mtu<'d>> {
        let of_link = |link: &'d Link| Mtu { bytes: link_mtu(link, open), link: &link.name };
        let link_of = |channel| desired.link_of(desired.channel(channel));
        match self.owner {
            Owner::Link(link) => link.mtu.map(|bytes| Mtu { bytes, link: &link.name }),
            Owner::Port(Home::Station { channel, .. }) => Some(of_link(link_of(channel))),
            Owner::Port(Home::Bridge(bridge)) => {
                let members = desired.bridge(bridge).members.iter();
                let mtus = members.map(|member| of_link(link_of(member.channel)));
                mtus.min_by_key(|mtu| mtu.bytes)
            }
            // It takes what comes.
            Owner::Port(Home::Mirror(_)) => None,
        }
    }

    /// Of which object its netdev has its MTU.
    fn owner_of(&self, mtu: Option<Mtu<'_>>) -> String {
        mtu.map_or_else(|| self.object(), |mtu| format!("link {}", mtu.link))
    }
}

/// Links first.
fn wanted_devices(desired: &Desired) -> impl Iterator<Item = Wanted<'_>> {
    let links = desired.links().iter().filter_map(|link| {
        let config = link.device.as_ref()?;
        Some(Wanted { name: &link.name, config, owner: Owner::Link(link) })
    });
    let ports = desired.ports().iter().map(|port| Wanted {
        name: &port.name,
        config: &port.device,
        owner: Owner::Port(port.home),
    });
    links.chain(ports)
}

/// Sets all of them, each for an object, or none; what sets them back.
fn set_mtus(retunes: Vec<(String, Retune)>) -> Result<Vec<Retune>, ApplyError> {
    let mut undo = Vec::with_capacity(retunes.len());
    for (object, retune) in retunes {
        match retune.set() {
            Ok(former) => undo.extend(former),
            Err(problem) => {
                undo.into_iter().rev().for_each(set_back);
                return Err(ApplyError::Mtu { object, problem });
            }
        }
    }
    Ok(undo)
}

fn set_back(former: Retune) {
    if let Err(problem) = former.set() {
        tracing::error!(problem, "an MTU that was changed for nothing could not be set back");
    }
}

/// What a running switch cannot change.
fn refuse_restart(running: &SwitchConfig, wanted: &SwitchConfig) -> Result<(), ApplyError> {
    let differences = [
        ("workers", running.workers != wanted.workers),
        ("poll", running.poll != wanted.poll),
        ("api", running.api != wanted.api),
        ("api-others", running.api_others != wanted.api_others),
        ("metrics", running.metrics != wanted.metrics),
        ("state-dir", running.state_dir != wanted.state_dir),
        ("fdb.capacity", running.fdb.capacity != wanted.fdb.capacity),
    ];
    match differences.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => Err(ApplyError::Restart { field }),
        None => Ok(()),
    }
}

/// What happens by itself.
impl Engine {
    /// Takes note of what a worker tells.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Dismissed(queue) => self.hand_out(queue),
            Event::Reported(number) => self.note_arrival(number),
            Event::Refused { queue, cause } => self.keep(queue, cause),
            Event::DismissedAll(_) | Event::CaptureEnded(_) => {}
            Event::Lost(device) => self.note_lost(device),
            Event::Quarantined { device, cause } => {
                let Some((name, device)) = self.device_mut(device) else { return };
                // What is told late may be of a device that was replaced, or released.
                if device.attached.condition() != Condition::Quarantined {
                    return;
                }
                device.last_error = format!("serving it failed: {cause}");
                if let Some(plug) = device.source.plug() {
                    plug.quarantine(&device.last_error);
                }
                tracing::error!(
                    port = name,
                    cause,
                    "the port is quarantined: serving it failed; others are not affected"
                );
            }
            Event::SweepFailed { cause } => tracing::error!(
                cause,
                "a sweep for aged addresses failed: some may stay in the table; frames are not affected"
            ),
        }
    }

    pub(super) fn note_lost(&mut self, id: DeviceId) {
        let Some((name, device)) = self.device_mut(id) else { return };
        // An event about a device that was replaced meanwhile says nothing of this one.
        if device.attached.condition() != Condition::Lost {
            return;
        }
        let now = Instant::now();
        let (interface, what) = match &device.source.config {
            DeviceConfig::Tap { interface } => {
                tracing::warn!(port = name, interface, "the TAP was deleted: it is made again");
                (interface, "was deleted")
            }
            DeviceConfig::Packet { interface, .. } | DeviceConfig::Xdp { interface, .. } => {
                device.source.untie();
                tracing::warn!(port = name, interface, "the interface is gone: it is waited for");
                (interface, "is gone")
            }
            // It stays, whoever is at the other end of its socket.
            DeviceConfig::VhostUser(_) => return,
            DeviceConfig::Memory(_) => {
                device.last_error = "its other end was dropped".to_owned();
                tracing::warn!(port = name, "the memory device's other end was dropped");
                return;
            }
        };
        let again = device.source.line.lose(now);
        device.last_error = match device.source.line.hold() {
            None => format!("interface {interface} {what}"),
            Some(hold) => format!(
                "interface {interface} flaps: it {what} once more, and is left alone for {} s",
                hold.as_secs()
            ),
        };
        device.care = Care::at_once(again);
        self.retry(now);
    }

    /// What is due from time to time.
    pub fn tick(&mut self, now: Instant) {
        self.publisher.collect();
        self.follow_netdevs(now);
        self.follow_templates(now);
        self.follow_vmms(now);
        self.look_at_conduct(now);
        self.retry(now);
        self.measure(now);
        self.look_at_queues(now);
        self.log_notes();
        for alarm in self.crew.watch(now) {
            self.raise(&alarm, now);
        }
        self.announce(now);
    }

    fn raise(&mut self, alarm: &Alarm, now: Instant) {
        let served = |id| self.devices.iter().find(|(_, device)| device.attached.id == id);
        let port = alarm.serving.and_then(served).map_or("none", |(name, _)| &**name);
        let port = &*port.to_owned();
        let worker = alarm.worker;
        match alarm.health {
            Health::Breathing => tracing::info!(worker, "the worker breathes again"),
            Health::Stalled => {
                tracing::error!(worker, port, "the worker does not breathe; it serves this port");
            }
            Health::Ended => tracing::error!(worker, port, "the worker's thread ended"),
        }
        self.announce_alarm(alarm, port, now);
    }

    /// Opens lost devices again whose time has come.
    fn retry(&mut self, now: Instant) {
        let due = self.devices.iter().filter(|(_, device)| device.care.is_due(now));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            match self.reopen(&name) {
                Ok(()) => tracing::info!(port = name, "the device is there again"),
                Err(problem) => {
                    let Some(device) = self.devices.get_mut(&name) else { continue };
                    if device.last_error != problem {
                        tracing::warn!(port = name, problem, "the device cannot be opened yet");
                    }
                    device.last_error = problem;
                    device.care = device.care.later(now);
                }
            }
        }
    }

    /// Opens one device again and puts it in the place of the lost one. Counters,
    /// ids and everybody else stay.
    fn reopen(&mut self, name: &str) -> Result<(), String> {
        let desired = Arc::clone(&self.desired);
        let gone = || "it is no longer configured".to_owned();
        let wanted =
            wanted_devices(&desired).find(|wanted| wanted.name == name).ok_or_else(gone)?;
        let device = self.devices.get(name).ok_or_else(gone)?;
        let tokens = self.crew.tokens();
        let (id, counters) = (device.attached.id, Arc::clone(&device.attached.counters));
        let line = device.source.line.clone();
        let leaving: Vec<ProgramId> = device.source.program().into_iter().collect();
        let mut plugged = self.plugged(&desired);
        let mtu = wanted.mtu(&desired, &plugged).map(|mtu| mtu.bytes);
        let fresh = wanted.open(mtu, tokens.len(), self.makers(&leaving))?.there()?;
        let mut ready = fresh.attach(id, name, counters, &tokens);
        ready.source.line = line.succeed(&ready.source.line);
        plugged.insert(name, ready.source.plugged(&ready.attached));
        let (snapshot, ids) = self.compile_with(&plugged)?;
        // commit
        self.publish(snapshot);
        self.ids = ids;
        let before = self.unplug(name).map(|(_, device)| device);
        self.plug(name.to_owned(), ready, before);
        self.follow_mtus();
        self.explain_cables();
        Ok(())
    }

    /// The running policy with these devices.
    fn compile_with(&self, plugged: &Devices<'_>) -> Result<(Box<Snapshot>, Ids), String> {
        let mut ids = self.ids.clone();
        ids.begin();
        let topology = topology(&self.desired, plugged, &mut ids, self.publications + 1)
            .map_err(|_| "there are no ids left".to_owned())?;
        ids.end();
        let snapshot = compile::compile(&topology).map_err(|error| error.to_string())?;
        Ok((Box::new(snapshot), ids))
    }

    /// Has the policy follow the devices as they are now.
    pub(super) fn recompile(&mut self) {
        match self.compile_with(&self.plugged(&self.desired)) {
            Ok((snapshot, ids)) => {
                self.publish(snapshot);
                self.ids = ids;
            }
            Err(problem) => tracing::error!(problem, "a changed interface could not be followed"),
        }
        self.follow_mtus();
        self.explain_cables();
    }

    /// Gives netdevs the MTU of their link, which may be another since the link's
    /// device was made again.
    fn follow_mtus(&mut self) {
        let desired = Arc::clone(&self.desired);
        let open = self.plugged(&desired);
        for wanted in wanted_devices(&desired) {
            let asked = wanted.mtu(&desired, &open).map(|mtu| mtu.bytes);
            let Some(device) = self.devices.get_mut(wanted.name) else { continue };
            let Some(retune) = device.source.ask_mtu(asked) else { continue };
            if let Err(problem) = retune.set() {
                tracing::warn!(port = wanted.name, problem, "the MTU is not that of its link");
            }
        }
    }

    /// The devices that are open of those that are wanted.
    pub(super) fn plugged<'d>(&self, desired: &'d Desired) -> Devices<'d> {
        let plugged = |wanted: Wanted<'d>| {
            let device = self.devices.get(wanted.name)?;
            Some((wanted.name, device.plugged()))
        };
        wanted_devices(desired).filter_map(plugged).collect()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("publications", &self.publications).finish_non_exhaustive()
    }
}
