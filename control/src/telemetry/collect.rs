//! What a switch is and has counted, as metric families. Everything is read when somebody
//! asks; of drops, reasons that have not occurred are left out.

use std::collections::BTreeMap;

use hairpin_dataplane::ledger::{DropReason, Side, Totals};

use super::family::{Family, Kind, Sample};
use crate::switch::Switch;
use crate::switch::queues::QueueStatus;
use crate::switch::view::{FdbStatus, State, Status, View};
use crate::switch::workers::{Health, WorkerStatus};

/// A switch at one moment.
#[derive(Debug)]
pub struct Reading {
    view: View,
    totals: BTreeMap<String, Totals>,
    device_drops: BTreeMap<String, u64>,
    fdb: FdbStatus,
}

impl Reading {
    /// Reads a switch.
    #[must_use]
    pub fn of(switch: &Switch) -> Reading {
        Reading {
            view: switch.view(),
            device_drops: switch.device_drops(),
            totals: switch.totals(),
            fdb: switch.fdb_status(),
        }
    }

    /// Everything that is told of it.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut families = self.switch();
        families.extend(self.ports());
        families.extend(self.counters());
        families.extend(self.drops());
        families.extend(self.vmms());
        families.extend(self.workers());
        families.extend(self.queues());
        families
    }

    fn switch(&self) -> Vec<Family> {
        let (view, fdb) = (&self.view, self.fdb);
        let version = env!("CARGO_PKG_VERSION");
        let (build, name) = ([("version", version)], [("name", &*view.desired.switch().name)]);
        vec![
            one(Kind::Info, "hairpin_build", "", "The program.", Sample::whole(&build, 1)),
            one(Kind::Info, "hairpin_switch", "", "The switch.", Sample::whole(&name, 1)),
            one(
                Kind::Gauge,
                "hairpin_uptime_seconds",
                "seconds",
                "How long the switch has been running.",
                Sample::real(&[], view.uptime.as_secs_f64()),
            ),
            one(
                Kind::Gauge,
                "hairpin_revision",
                "",
                "The revision that runs: applied desired states, from 1.",
                Sample::whole(&[], view.revision),
            ),
            one(
                Kind::Gauge,
                "hairpin_fdb_addresses",
                "addresses",
                "Learned addresses in the table.",
                Sample::whole(&[], fdb.addresses),
            ),
            one(
                Kind::Gauge,
                "hairpin_fdb_capacity_addresses",
                "addresses",
                "Learned addresses that the table has room for.",
                Sample::whole(&[], fdb.capacity),
            ),
            one(
                Kind::Counter,
                "hairpin_fdb_moves",
                "moves",
                "Learned addresses that were seen at another port.",
                Sample::whole(&[], fdb.moves),
            ),
        ]
    }

    /// Ports and links, with or without a device.
    fn ports(&self) -> Vec<Family> {
        let each = |read: fn(&Status) -> u64| {
            let status = self.view.status.iter();
            status.map(|(name, it)| Sample::whole(&self.owner(name), read(it))).collect()
        };
        let states = [
            ("up", State::Up),
            ("down", State::Down),
            ("waiting", State::Waiting),
            ("quarantined", State::Quarantined),
        ];
        let state = |(name, status): (&String, &Status)| {
            let [port, kind] = self.owner(name);
            let sample = |(word, state)| {
                Sample::whole(&[port, kind, ("state", word)], u64::from(status.state == state))
            };
            states.map(sample)
        };
        vec![
            Family {
                name: "hairpin_port_state",
                kind: Kind::Gauge,
                unit: "",
                help: "1 at the state that a port or link is in, 0 at the others.",
                samples: self.view.status.iter().flat_map(state).collect(),
            },
            Family {
                name: "hairpin_port_mtu_bytes",
                kind: Kind::Gauge,
                unit: "bytes",
                help: "Largest payload of a frame, tags not counted.",
                samples: each(|status| status.mtu.into()),
            },
            Family {
                name: "hairpin_port_warnings",
                kind: Kind::Gauge,
                unit: "warnings",
                help: "Warnings of a port or link that works, but not as it should.",
                samples: each(|status| status.warnings.len() as u64),
            },
            Family {
                name: "hairpin_port_reopens",
                kind: Kind::Counter,
                unit: "reopens",
                help: "How often the device of a port or link was opened again.",
                samples: each(|status| status.reopened),
            },
        ]
    }

    /// What ledgers count, of ports and links that have a device.
    fn counters(&self) -> Vec<Family> {
        let family = |&(name, unit, help, read): &Ledger| Family {
            name,
            kind: Kind::Counter,
            unit,
            help,
            samples: self
                .totals
                .iter()
                .map(|(name, totals)| Sample::whole(&self.owner(name), read(totals)))
                .collect(),
        };
        LEDGER.iter().map(family).collect()
    }

    fn drops(&self) -> Vec<Family> {
        let reasons = |(name, totals): (&String, &Totals)| {
            let [port, kind] = self.owner(name);
            let drop = |(reason, count): (DropReason, u64)| {
                let side = match reason.side() {
                    Side::Ingress => "ingress",
                    Side::Egress => "egress",
                };
                Sample::whole(&[port, kind, ("side", side), ("reason", reason.name())], count)
            };
            totals.drops().map(drop).collect::<Vec<_>>()
        };
        let lost = |(name, count): (&String, &u64)| Sample::whole(&self.owner(name), *count);
        vec![
            Family {
                name: "hairpin_port_dropped_frames",
                kind: Kind::Counter,
                unit: "frames",
                help: "Frames lost, by reason; `hairpin drops --list` has meaning and remedy of \
                       each. On the ingress side a frame is counted where it came from, on the \
                       egress side each copy where it was to go.",
                samples: self.totals.iter().flat_map(reasons).collect(),
            },
            Family {
                name: "hairpin_port_device_dropped_frames",
                kind: Kind::Counter,
                unit: "frames",
                help: "Frames that the device lost by itself, as far as the kernel counts them; \
                       the switch never saw them.",
                samples: self.device_drops.iter().map(lost).collect(),
            },
        ]
    }

    fn vmms(&self) -> Vec<Family> {
        let vmms = || {
            let status = self.view.status.iter();
            status.filter_map(|(name, status)| Some((name, status.vmm.as_ref()?)))
        };
        let connected = vmms()
            .map(|(name, vmm)| Sample::whole(&self.owner(name), u64::from(vmm.session.is_some())));
        let reconnects =
            vmms().map(|(name, vmm)| Sample::whole(&self.owner(name), vmm.reconnects()));
        vec![
            Family {
                name: "hairpin_port_vhost_connected",
                kind: Kind::Gauge,
                unit: "",
                help: "Whether a VMM is connected to the port's vhost-user socket.",
                samples: connected.collect(),
            },
            Family {
                name: "hairpin_port_vhost_reconnects",
                kind: Kind::Counter,
                unit: "reconnects",
                help: "How often a VMM has connected again to the port's vhost-user socket.",
                samples: reconnects.collect(),
            },
        ]
    }

    fn workers(&self) -> Vec<Family> {
        let each = |sample: &dyn Fn(&str, &WorkerStatus) -> Vec<Sample>| {
            let workers = self.view.workers.iter().enumerate();
            workers.flat_map(|(index, worker)| sample(&index.to_string(), worker)).collect()
        };
        let whole = |read: fn(&WorkerStatus) -> u64| {
            each(&|index, worker| vec![Sample::whole(&[("worker", index)], read(worker))])
        };
        let real = |read: fn(&WorkerStatus) -> f64| {
            each(&|index, worker| vec![Sample::real(&[("worker", index)], read(worker))])
        };
        let mut rates = vec![0.0; self.view.workers.len()];
        for queue in &self.view.queues {
            rates.get_mut(queue.worker).into_iter().for_each(|rate| *rate += queue.rate.frames);
        }
        let rates = rates
            .iter()
            .enumerate()
            .map(|(index, &rate)| Sample::real(&[("worker", &index.to_string())], rate));
        let healths = [
            ("breathing", Health::Breathing),
            ("stalled", Health::Stalled),
            ("ended", Health::Ended),
        ];
        let health = |index: &str, worker: &WorkerStatus| {
            let sample = |(word, health): (&str, Health)| {
                let is = u64::from(worker.health == health);
                Sample::whole(&[("worker", index), ("health", word)], is)
            };
            healths.map(sample).to_vec()
        };
        let samples = [
            whole(|worker| worker.breaths),
            whole(|worker| worker.sleeps),
            real(|worker| worker.busy_ns as f64 / 1e9),
            real(|worker| worker.load),
            each(&health),
            rates.collect(),
        ];
        families(&WORKER, samples)
    }

    fn queues(&self) -> Vec<Family> {
        let each = |sample: fn(&[(&'static str, &str)], &QueueStatus) -> Sample| {
            let of = |queue: &QueueStatus| {
                let (number, worker) = (queue.index.to_string(), queue.worker.to_string());
                let labels = [("port", &*queue.port), ("queue", &*number), ("worker", &*worker)];
                sample(&labels, queue)
            };
            self.view.queues.iter().map(of).collect()
        };
        let samples = [
            each(|labels, queue| Sample::whole(labels, queue.total.frames)),
            each(|labels, queue| Sample::whole(labels, queue.total.bytes)),
            each(|labels, queue| Sample::real(labels, queue.total.busy_ns as f64 / 1e9)),
        ];
        families(&QUEUE, samples)
    }

    /// The labels of what a port or link is called.
    fn owner<'n>(&self, name: &'n str) -> [(&'static str, &'n str); 2] {
        let is_link = self.view.desired.links().iter().any(|link| link.name == name);
        [("port", name), ("kind", if is_link { "link" } else { "port" })]
    }
}

/// A family of one sample.
fn one(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    sample: Sample,
) -> Family {
    Family { name, kind, unit, help, samples: vec![sample] }
}

/// What a family is, but for its samples: kind, name, unit, help.
type Head = (Kind, &'static str, &'static str, &'static str);

fn families<const N: usize>(heads: &[Head; N], samples: [Vec<Sample>; N]) -> Vec<Family> {
    let family = |(&(kind, name, unit, help), samples)| Family { name, kind, unit, help, samples };
    heads.iter().zip(samples).map(family).collect()
}

/// A counter of the ledgers: name, unit, help, and where it is.
type Ledger = (&'static str, &'static str, &'static str, fn(&Totals) -> u64);

const LEDGER: [Ledger; 8] = [
    (
        "hairpin_port_receive_frames",
        "frames",
        "Frames from the device into the switch.",
        |totals| totals.rx_frames,
    ),
    (
        "hairpin_port_receive_bytes",
        "bytes",
        "Bytes of frames from the device into the switch, from the Ethernet header, without FCS.",
        |totals| totals.rx_bytes,
    ),
    ("hairpin_port_transmit_frames", "frames", "Frames that the device accepted.", |totals| {
        totals.tx_frames
    }),
    (
        "hairpin_port_transmit_bytes",
        "bytes",
        "Bytes of frames that the device accepted, tags as they left.",
        |totals| totals.tx_bytes,
    ),
    (
        "hairpin_port_decided_frames",
        "frames",
        "Received frames for which an egress was decided: all but those dropped on the ingress \
         side.",
        |totals| totals.decided,
    ),
    (
        "hairpin_port_fan_out_frames",
        "frames",
        "Copies decided for frames received here.",
        |totals| totals.fan_out,
    ),
    (
        "hairpin_port_offered_frames",
        "frames",
        "Copies brought to the device: those it accepted and those dropped on the egress side.",
        |totals| totals.offered,
    ),
    (
        "hairpin_port_software_segments",
        "segments",
        "Segments that software cut for the device.",
        |totals| totals.segments,
    ),
];

const WORKER: [Head; 6] = [
    (Kind::Counter, "hairpin_worker_breaths", "breaths", "Breaths of the worker."),
    (Kind::Counter, "hairpin_worker_sleeps", "sleeps", "Sleeps of the worker."),
    (
        Kind::Counter,
        "hairpin_worker_busy_seconds",
        "seconds",
        "The worker's time that frames took; looking for frames that are not there does not count.",
    ),
    (
        Kind::Gauge,
        "hairpin_worker_load_ratio",
        "ratio",
        "The share of the worker's time that frames took over the last second.",
    ),
    (Kind::Gauge, "hairpin_worker_health", "", "1 at how the worker is, 0 at the others."),
    (
        Kind::Gauge,
        "hairpin_worker_receive_frames_per_second",
        "frames_per_second",
        "Frames from the queues that the worker serves, over the last second.",
    ),
];

const QUEUE: [Head; 3] = [
    (
        Kind::Counter,
        "hairpin_queue_receive_frames",
        "frames",
        "Frames from the receive queue since its device was opened.",
    ),
    (
        Kind::Counter,
        "hairpin_queue_receive_bytes",
        "bytes",
        "Bytes from the receive queue since its device was opened.",
    ),
    (
        Kind::Counter,
        "hairpin_queue_busy_seconds",
        "seconds",
        "Workers' time that frames of the receive queue took since its device was opened.",
    ),
];
