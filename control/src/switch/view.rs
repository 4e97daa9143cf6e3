//! What a running switch looks like at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hairpin_dataplane::ledger::Totals;
use hairpin_dataplane::port::{Condition, xdp};
use hairpin_dataplane::relay::fdb::Row;
use hairpin_dataplane::snapshot::Admin;
use hairpin_dataplane::wire::{Mac, Vid};

use super::devices::Device;
use super::engine::Engine;
use super::queues::QueueStatus;
use super::topology::{Devices, link_mtu, port_mtu};
use super::workers::WorkerStatus;
use crate::config::Desired;
use crate::vhost;

/// A consistent view of everything but the counters of ports and links.
#[derive(Clone, Debug)]
pub struct View {
    /// What runs: what is written, and the ports that its templates made.
    pub desired: Arc<Desired>,
    /// What is written, and applied.
    pub written: Arc<Desired>,
    /// The revision that runs.
    pub revision: u64,
    /// Counts publications.
    pub publications: u64,
    /// How long it has been running.
    pub uptime: Duration,
    /// Ports and links, by name.
    pub status: BTreeMap<String, Status>,
    /// The workers, by index.
    pub workers: Vec<WorkerStatus>,
    /// Receive queues, by port or link and number.
    pub queues: Vec<QueueStatus>,
}

/// How a port or link is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Whether frames pass.
    pub state: State,
    /// Largest payload in bytes.
    pub mtu: u32,
    /// Indices of the workers that receive from it.
    pub workers: Vec<usize>,
    /// How often its device was opened again.
    pub reopened: u64,
    /// The last trouble with its device; empty if there was none.
    pub last_error: String,
    /// What is not as it should be while it works, each in a sentence with its remedy.
    pub warnings: Vec<String>,
    /// Samples of its frames whose checksums were not filled in.
    pub unfilled_checksums: u64,
    /// By which path its device was opened, if that is one by AF_XDP and open.
    pub granted: Option<xdp::Granted>,
    /// How its socket is, if it is a vhost-user device.
    pub vmm: Option<vhost::Status>,
    /// The port template that made it.
    pub template: Option<String>,
}

/// Whether frames pass a port or link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// They do.
    Up,
    /// It was set down, or its netdev was, or that has no carrier, or its guest's driver has
    /// not started its vhost-user device.
    Down,
    /// Its device is not there, or no VMM is at its vhost-user socket.
    Waiting,
    /// Serving it failed, or its guest or VMM is at fault.
    Quarantined,
}

/// How full the table of learned addresses is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbStatus {
    /// Addresses in it, aged ones that were not swept out yet included.
    pub addresses: u64,
    /// Addresses that it has room for.
    pub capacity: u64,
    /// Addresses that were seen at another port, so far.
    pub moves: u64,
}

/// A learned address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedAddress {
    /// The address.
    pub mac: Mac,
    /// The VLAN it was learned in.
    pub vid: Vid,
    /// The port or channel that has it.
    pub port: String,
    /// The channel or bridge in which it is known.
    pub domain: String,
    /// Since when it was not used.
    pub idle: Duration,
}

impl Engine {
    pub(super) fn view(&self, uptime: Duration) -> View {
        let devices: Devices<'_> =
            self.devices.iter().map(|(name, device)| (&**name, device.plugged())).collect();
        let desired = &self.desired;
        let links = desired.links().iter().map(|link| {
            (link.name.clone(), self.status(&link.name, link.admin, link_mtu(link, &devices)))
        });
        let ports = desired.ports().iter().map(|port| {
            let mtu = port_mtu(desired, port, &devices);
            (port.name.clone(), self.status(&port.name, port.admin, mtu))
        });
        View {
            desired: Arc::clone(desired),
            written: Arc::clone(&self.written),
            revision: self.history.number(),
            publications: self.publications,
            uptime,
            status: links.chain(ports).collect(),
            workers: self.crew.status(),
            queues: self.queues(),
        }
    }

    /// Whether frames pass a port or link.
    pub(super) fn state(&self, name: &str, admin: Admin) -> State {
        let Some(device) = self.devices.get(name) else {
            return match admin {
                Admin::Down => State::Down,
                Admin::Up => State::Up,
            };
        };
        match (device.attached.condition(), admin) {
            (Condition::Quarantined, _) => State::Quarantined,
            (_, Admin::Down) => State::Down,
            _ if device.source.awaits_vmm() => State::Waiting,
            (Condition::Lost, _) => State::Waiting,
            (Condition::Working, _) if !device.source.counts_as_up() => State::Down,
            (Condition::Working, _) => State::Up,
        }
    }

    /// The last trouble of a port's or link's device: the one that it has, else the last one.
    pub(super) fn last_error(&self, name: &str) -> String {
        let Some(device) = self.devices.get(name) else { return String::new() };
        let problem = match device.attached.condition() {
            Condition::Working => device.source.problem(),
            Condition::Lost | Condition::Quarantined => None,
        };
        problem.unwrap_or_else(|| device.last_error.clone())
    }

    fn status(&self, name: &str, admin: Admin, mtu: u32) -> Status {
        let device = self.devices.get(name);
        let (state, last_error) = (self.state(name, admin), self.last_error(name));
        Status {
            state,
            mtu,
            workers: device.map(Device::placement).unwrap_or_default(),
            reopened: device.map_or(0, |device| device.reopened),
            last_error,
            warnings: device
                .and_then(|device| device.source.mtu_problem.clone())
                .into_iter()
                .chain(self.cramped.get(name).cloned())
                .chain(device.map(|device| device.source.notes()).unwrap_or_default())
                .collect(),
            unfilled_checksums: device.map_or(0, |device| device.source.checksums().unfilled),
            granted: device
                .filter(|device| device.attached.condition() != Condition::Lost)
                .and_then(|device| device.source.granted().cloned()),
            vmm: device.and_then(|device| device.source.vmm()),
            template: self.derived.template_of(name).map(str::to_owned),
        }
    }

    pub(super) fn fdb_status(&self) -> FdbStatus {
        let (addresses, capacity) = (self.fdb.count(), self.fdb.capacity());
        FdbStatus { addresses, capacity, moves: self.fdb.moves() }
    }

    /// Counters of ports and links that have a device, added up now.
    pub(super) fn totals(&self) -> BTreeMap<String, Totals> {
        let each = self.devices.iter();
        each.map(|(name, device)| (name.clone(), device.attached.totals())).collect()
    }

    /// Learned addresses that count, from a position of the table on.
    pub(super) fn learned(
        &self,
        from: usize,
        most: usize,
        now_ms: u64,
    ) -> (Vec<LearnedAddress>, Option<usize>) {
        let (tenants, domains) = (self.ids.tenants(), self.ids.domain_names());
        let ageing = self.desired.switch().fdb.ageing;
        let mut rows = Vec::with_capacity(most);
        let next = self.fdb.page(from, most, now_ms, &mut rows);
        let learned = |row: &Row| {
            let (port, generation) = tenants.get(&row.tenant.port)?;
            let idle = Duration::from_millis(row.idle_ms.into());
            let counts = *generation == row.tenant.generation && idle < ageing;
            counts.then(|| LearnedAddress {
                mac: row.address.mac,
                vid: row.address.vid,
                port: port.clone(),
                domain: domains.get(&row.address.domain).cloned().unwrap_or_default(),
                idle,
            })
        };
        (rows.iter().filter_map(learned).collect(), next)
    }
}
