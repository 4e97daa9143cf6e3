//! The one place where the switch changes: prepare, commit, or leave it alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hairpin_dataplane::port::{Attached, Condition};
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::topology::Topology;
use hairpin_dataplane::snapshot::{DeviceId, Snapshot, compile};
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::worker::command::{Event, ReceiveQueue};

use super::ApplyError;
use super::devices::{self, Care, Device, Embedder, Ready};
use super::diff::Diff;
use super::ids::Ids;
use super::topology::{Devices, topology};
use super::workers::{Alarm, Crew, CrewError, Health};
use crate::config::desired::{Desired, Home};
use crate::config::{Config, DeviceConfig, MTU_DEFAULT, SwitchConfig};

/// Everything that a running switch is.
pub struct Engine {
    pub(super) desired: Arc<Desired>,
    pub(super) revision: u64,
    pub(super) devices: BTreeMap<String, Device>,
    pub(super) crew: Crew,
    pub(super) fdb: Arc<Fdb>,
    pub(super) ids: Ids,
    publisher: Publisher<Snapshot>,
    embedder: Box<dyn Embedder>,
}

/// A change that is ready: nothing can go wrong with it any more.
struct Prepared {
    ids: Ids,
    snapshot: Box<Snapshot>,
    /// Devices that were opened for it.
    ready: BTreeMap<String, Ready>,
}

impl Engine {
    /// A switch with workers and nothing else.
    pub fn new(config: &SwitchConfig, embedder: Box<dyn Embedder>) -> Result<Engine, CrewError> {
        let empty = Config { switch: config.clone(), ..Config::default() };
        let desired = Desired::try_from(empty).expect("a configuration without objects holds");
        let fdb = Arc::new(Fdb::new(u32::try_from(config.fdb.capacity).unwrap_or(u32::MAX)));
        let publisher = Publisher::new(Box::new(nothing()), Crew::size(config));
        let crew = Crew::start(config, &publisher, &fdb)?;
        Ok(Engine {
            desired: Arc::new(desired),
            revision: 0,
            devices: BTreeMap::new(),
            crew,
            fdb,
            ids: Ids::default(),
            publisher,
            embedder,
        })
    }

    /// Makes a desired state the running one, or changes nothing.
    pub fn apply(&mut self, desired: Desired) -> Result<Diff, ApplyError> {
        let diff = Diff::between(self.desired.config(), desired.config());
        if diff.is_empty() {
            return Ok(diff);
        }
        refuse_restart(self.desired.switch(), desired.switch())?;
        let prepared = self.prepare(&desired)?;
        // commit
        self.commit(desired, prepared);
        Ok(diff)
    }

    /// Opens what must be opened and compiles. What was opened closes again if
    /// anything fails.
    fn prepare(&mut self, desired: &Desired) -> Result<Prepared, ApplyError> {
        let mut ids = self.ids.clone();
        ids.begin();
        let tokens = self.crew.tokens();
        let mut ready = BTreeMap::new();
        let mut plugged = Devices::new();
        for wanted in wanted_devices(desired) {
            let exhausted = |_| ApplyError::exhausted(&wanted.object);
            let id = ids.device(wanted.name).map_err(exhausted)?;
            let running = self.devices.get(wanted.name);
            if let Some(device) = running.filter(|device| device.config == *wanted.config) {
                plugged.insert(wanted.name.to_owned(), device.plugged());
                continue;
            }
            let workers = tokens.len();
            let embedder = &mut *self.embedder;
            let fresh = devices::open(wanted.name, wanted.config, wanted.mtu, workers, embedder)
                .map_err(|problem| ApplyError::Device { object: wanted.object, problem })?;
            let counters = running.map(|device| Arc::clone(&device.attached.counters));
            let counters = counters.unwrap_or_else(|| Attached::counters(workers));
            let device = fresh.attach(id, wanted.name, counters, &tokens);
            plugged.insert(wanted.name.to_owned(), device.plugged());
            ready.insert(wanted.name.to_owned(), device);
        }
        let topology = topology(desired, &plugged, &mut ids, self.revision + 1)
            .map_err(|_| ApplyError::exhausted("configuration"))?;
        ids.end();
        let snapshot = Box::new(compile::compile(&topology)?);
        Ok(Prepared { ids, snapshot, ready })
    }

    fn commit(&mut self, desired: Desired, prepared: Prepared) {
        self.publish(prepared.snapshot);
        self.ids = prepared.ids;
        let wanted: BTreeMap<&str, &DeviceConfig> =
            wanted_devices(&desired).map(|wanted| (wanted.name, wanted.config)).collect();
        let gone: Vec<String> =
            self.devices.keys().filter(|name| !wanted.contains_key(&***name)).cloned().collect();
        for name in gone {
            if let Some(device) = self.devices.remove(&name) {
                self.crew.dismiss(device.attached.id, &device.placement);
            }
        }
        for (name, ready) in prepared.ready {
            let Some(&config) = wanted.get(&*name) else { continue };
            self.plug(&name, config.clone(), ready);
        }
        self.desired = Arc::new(desired);
        self.publisher.collect();
    }

    /// Publishes a snapshot; workers see it in their next breath.
    fn publish(&mut self, snapshot: Box<Snapshot>) {
        self.revision += 1;
        self.publisher.publish(snapshot);
        self.crew.wake();
    }

    /// Hands a device's queues to workers, in the place of those it had.
    fn plug(&mut self, name: &str, config: DeviceConfig, ready: Ready) {
        let before = self.devices.remove(name);
        if let Some(before) = &before {
            self.crew.dismiss(before.attached.id, &before.placement);
        }
        let kept = before.as_ref().map(|before| before.placement.clone());
        let kept = kept.filter(|placement| placement.len() == ready.receivers.len());
        let placement = kept.unwrap_or_else(|| self.crew.place(ready.receivers.len()));
        let device = ready.attached.id;
        for (index, (receiver, &worker)) in ready.receivers.into_iter().zip(&placement).enumerate()
        {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let attached = Arc::clone(&ready.attached);
            self.crew.adopt(worker, ReceiveQueue { device, attached, index, receiver });
        }
        let plugged = Device {
            config,
            attached: ready.attached,
            mtu: ready.mtu,
            placement,
            care: Care::None,
            reopened: before.as_ref().map_or(0, |before| before.reopened + 1),
            last_error: before.map_or_else(String::new, |before| before.last_error),
        };
        self.devices.insert(name.to_owned(), plugged);
    }

    /// Ends the workers and closes all devices.
    pub fn stop(&mut self) {
        self.crew.stop();
        self.devices.clear();
        for event in self.crew.events().try_iter() {
            self.handle(event);
        }
        self.publisher.publish(Box::new(nothing()));
        self.publisher.collect();
    }
}

/// The policy of a switch without ports.
fn nothing() -> Snapshot {
    compile::compile(&Topology::default()).expect("nothing contradicts nothing")
}

/// What must be open for a desired state.
struct Wanted<'d> {
    object: String,
    name: &'d str,
    config: &'d DeviceConfig,
    mtu: Option<u32>,
}

fn wanted_devices(desired: &Desired) -> impl Iterator<Item = Wanted<'_>> {
    let links = desired.links().iter().filter_map(|link| {
        let config = link.device.as_ref()?;
        let object = format!("link {}", link.name);
        Some(Wanted { object, name: &link.name, config, mtu: link.mtu })
    });
    let ports = desired.ports().iter().map(|port| Wanted {
        object: format!("port {}", port.name),
        name: &port.name,
        config: &port.device,
        mtu: configured_mtu(desired, port.home),
    });
    links.chain(ports)
}

/// The MTU that a port's netdev gets, where the configuration says one.
fn configured_mtu(desired: &Desired, home: Home) -> Option<u32> {
    match home {
        Home::Station { channel, .. } => {
            let link = desired.link_of(desired.channel(channel));
            let host_local = link.device.is_none().then_some(MTU_DEFAULT);
            link.mtu.or(host_local)
        }
        Home::Bridge(bridge) => {
            let members = desired.bridge(bridge).members.iter();
            let links = members.map(|member| desired.link_of(desired.channel(member.channel)));
            links.filter_map(|link| link.mtu).min()
        }
    }
}

/// What a running switch cannot change.
fn refuse_restart(running: &SwitchConfig, wanted: &SwitchConfig) -> Result<(), ApplyError> {
    let differences = [
        ("workers", running.workers != wanted.workers),
        ("poll", running.poll != wanted.poll),
        ("api", running.api != wanted.api),
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
            // The queue, and with it the device's file, closes here.
            Event::Dismissed(queue) => drop(queue),
            Event::DismissedAll(_) => {}
            Event::Lost(device) => self.note_lost(device),
            Event::Quarantined { device, cause } => {
                let Some((name, device)) = self.device_mut(device) else { return };
                device.last_error = format!("serving it failed: {cause}");
                tracing::error!(
                    port = name,
                    cause,
                    "the port is quarantined: serving it failed; others are not affected"
                );
            }
        }
    }

    fn device_mut(&mut self, id: DeviceId) -> Option<(&str, &mut Device)> {
        let mut devices = self.devices.iter_mut();
        let found = devices.find(|(_, device)| device.attached.id == id);
        found.map(|(name, device)| (&**name, device))
    }

    fn note_lost(&mut self, id: DeviceId) {
        let Some((name, device)) = self.device_mut(id) else { return };
        // An event about a device that was replaced meanwhile says nothing of this one.
        if device.attached.condition() != Condition::Lost {
            return;
        }
        match &device.config {
            DeviceConfig::Tap { interface } => {
                device.last_error = format!("interface {interface} was deleted");
                tracing::warn!(port = name, interface, "the TAP was deleted: it is made again");
                device.care = Care::at_once(Instant::now());
                self.retry(Instant::now());
            }
            DeviceConfig::Memory(_) => {
                device.last_error = "its other end was dropped".to_owned();
                tracing::warn!(port = name, "the memory device's other end was dropped");
            }
        }
    }

    /// What is due from time to time.
    pub fn tick(&mut self, now: Instant) {
        self.publisher.collect();
        self.retry(now);
        for alarm in self.crew.watch(now) {
            self.raise(alarm);
        }
    }

    fn raise(&self, alarm: Alarm) {
        let served = |id| self.devices.iter().find(|(_, device)| device.attached.id == id);
        let port = alarm.serving.and_then(served).map_or("none", |(name, _)| &**name);
        let worker = alarm.worker;
        match alarm.health {
            Health::Breathing => tracing::info!(worker, "the worker breathes again"),
            Health::Stalled => {
                tracing::error!(worker, port, "the worker does not breathe; it serves this port");
            }
            Health::Ended => tracing::error!(worker, port, "the worker's thread ended"),
        }
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
        let embedder = &mut *self.embedder;
        let fresh = devices::open(name, wanted.config, wanted.mtu, tokens.len(), embedder)?;
        let ready = fresh.attach(id, name, counters, &tokens);
        let mut plugged: Devices =
            self.devices.iter().map(|(name, device)| (name.clone(), device.plugged())).collect();
        plugged.insert(name.to_owned(), ready.plugged());
        let mut ids = self.ids.clone();
        ids.begin();
        let topology = topology(&desired, &plugged, &mut ids, self.revision + 1)
            .map_err(|_| "there are no ids left".to_owned())?;
        let snapshot = compile::compile(&topology).map_err(|error| error.to_string())?;
        // commit
        self.publish(Box::new(snapshot));
        self.plug(name, wanted.config.clone(), ready);
        Ok(())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("revision", &self.revision).finish_non_exhaustive()
    }
}
