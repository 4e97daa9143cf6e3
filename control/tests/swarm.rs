//! Two workers, many ports, a policy that changes all the time while all queues move from
//! worker to worker: what is not changed loses nothing, gets nothing twice and nothing out
//! of order, and every frame is accounted for.
//!
//! The changes are drawn from a seed, which is printed and may be set
//! (`PROPTEST_RNG_SEED`); what the threads make of them, no seed repeats.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hairpin::config::{
    BridgeConfig, Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig, SwitchConfig,
    VlanConfig,
};
use hairpin::switch::queues::MoveError;
use hairpin::switch::{HomeChange, PortChange, Switch};
use hairpin_dataplane::ledger::{DropReason, Side, Totals};
use hairpin_dataplane::port::memory::{
    self, Endpoint, EndpointReceiver, EndpointSender, SendError,
};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::wire::{Mac, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

/// Changes.
const CHANGES: usize = 400;
/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ports that are left alone: they send to each other.
const STEADY: u8 = 4;
/// Ports that are not, behind them: each sends to the next one.
const UNSTEADY: u8 = 4;
/// Frames of one flow on their way at a time: of all flows to one port together
/// fewer than its ring holds.
const WINDOW: u32 = 128;
/// Bytes of an experimental frame: numbers, then padding.
const FRAME_BYTES: usize = 64;

fn mac(port: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, port])
}

fn name(port: u8) -> String {
    format!("vm{port}")
}

fn port(number: u8) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config::default());
    let mut port = PortConfig::station(&name(number), "up0", Mode::Veb, device);
    port.macs.push(mac(number).into());
    port
}

fn config(ports: impl IntoIterator<Item = PortConfig>) -> Desired {
    let switch = SwitchConfig { workers: vec![0, 1], ..SwitchConfig::default() };
    let links = ["up0", "up1"].map(|name| LinkConfig::new(name, LinkRole::Station, None)).to_vec();
    let bridges = vec![BridgeConfig { name: "br0".into(), members: Vec::new() }];
    let ports = ports.into_iter().collect();
    Desired::try_from(Config { switch, links, bridges, ports, ..Config::default() }).unwrap()
}

/// A frame of the flow between two ports: who, and which.
fn frame(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut frame = [&mac(to).octets()[..], &mac(from).octets(), &[0x88, 0xb5, from]].concat();
    frame.extend(number.to_be_bytes());
    frame.resize(FRAME_BYTES, from ^ to);
    frame
}

/// What the two ends of a flow tell each other.
#[derive(Default)]
struct Flow {
    sent: AtomicU32,
    /// Frames below this number have arrived, or will not.
    settled: AtomicU32,
}

/// The flows of all pairs that talk.
type Flows = Arc<BTreeMap<(u8, u8), Flow>>;

/// What a port received of one sender.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Arrived {
    frames: u32,
    /// Above the number of the last one.
    next: u32,
}

/// Sends what the windows allow, to one receiver after the other, until told to stop
/// or the device is gone. Gives its end back: dropped, it would take the port with it.
fn send_all(
    mut sender: EndpointSender,
    from: u8,
    flows: &Flows,
    stop: &AtomicBool,
) -> EndpointSender {
    let mine: Vec<_> = flows.iter().filter(|((source, _), _)| *source == from).collect();
    while !stop.load(Ordering::Acquire) {
        let mut idle = true;
        for ((_, to), flow) in &mine {
            let number = flow.sent.load(Ordering::Relaxed);
            if number >= flow.settled.load(Ordering::Acquire) + WINDOW {
                continue;
            }
            match sender.send(&frame(from, *to, number), Offload::NONE) {
                Ok(()) => flow.sent.store(number + 1, Ordering::Release),
                Err(SendError::Full) => continue,
                Err(SendError::Detached) => return sender,
                Err(SendError::TooLong) => panic!("{FRAME_BYTES} bytes are too long"),
            }
            idle = false;
        }
        if idle {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    sender
}

/// Takes away the tag that a frame has from an access port's VLAN, where its receiver
/// is a member of all.
fn untag(frame: &mut Vec<u8>) {
    if frame[12..14] == [0x81, 0x00] {
        frame.drain(12..16);
    }
}

/// Receives until told to stop or the device is gone; checks order on the way.
fn receive_all(
    mut receiver: EndpointReceiver,
    to: u8,
    flows: &Flows,
    stop: &AtomicBool,
) -> BTreeMap<u8, Arrived> {
    let (mut arrived, mut bytes) = (BTreeMap::<u8, Arrived>::new(), Vec::new());
    loop {
        // Before the look: what was there when it was said to stop is received.
        let last = stop.load(Ordering::Acquire);
        if receiver.receive(&mut bytes).is_none() {
            if last {
                return arrived;
            }
            receiver.wait(Duration::from_millis(5));
            continue;
        }
        untag(&mut bytes);
        let from = bytes[14];
        let number = u32::from_be_bytes(bytes[15..19].try_into().unwrap());
        assert_eq!(bytes, frame(from, to, number), "at port {to}");
        let seen = arrived.entry(from).or_default();
        assert!(number >= seen.next, "{from} to {to}: {number} after {}", seen.next - 1);
        (seen.frames, seen.next) = (seen.frames + 1, number + 1);
        flows[&(from, to)].settled.fetch_max(number + 1, Ordering::AcqRel);
    }
}

/// A port's two threads.
struct Guest {
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
    sender: JoinHandle<EndpointSender>,
    receiver: JoinHandle<BTreeMap<u8, Arrived>>,
}

impl Guest {
    fn start(switch: &Switch, number: u8, flows: &Flows) -> Guest {
        let endpoint: Endpoint = switch.take_endpoint(&name(number)).unwrap();
        let (sender, receiver) = endpoint.split();
        let (stop_sending, stop_receiving) = (Arc::default(), Arc::default());
        let (stops, stopr) = (Arc::clone(&stop_sending), Arc::clone(&stop_receiving));
        let (to_send, to_receive) = (Arc::clone(flows), Arc::clone(flows));
        Guest {
            stop_sending,
            stop_receiving,
            sender: std::thread::spawn(move || send_all(sender, number, &to_send, &stops)),
            receiver: std::thread::spawn(move || {
                receive_all(receiver, number, &to_receive, &stopr)
            }),
        }
    }

    fn stop_sending(&self) {
        self.stop_sending.store(true, Ordering::Release);
    }

    fn end(self) -> BTreeMap<u8, Arrived> {
        self.stop_sending();
        let _sender = self.sender.join().unwrap();
        self.stop_receiving.store(true, Ordering::Release);
        self.receiver.join().unwrap()
    }
}

/// A change to the ports that are not left alone.
#[derive(Clone, Copy, Debug)]
enum Change {
    Mode(u8, Mode),
    Admin(u8, Admin),
    Home(u8, Home),
    /// Transparent, or access to one.
    Vlan(u8, Option<u16>),
    /// Goes if it is there, comes if it is not.
    Toggle(u8),
}

/// Where a port can be.
#[derive(Clone, Copy, Debug)]
enum Home {
    Channel(&'static str),
    Bridge(&'static str),
}

impl Home {
    /// The change that brings a port there.
    fn change(self) -> PortChange {
        match self {
            Home::Channel(name) => PortChange {
                home: Some(HomeChange::Channel(name.to_owned())),
                mode: Some(Mode::Veb),
                ..PortChange::default()
            },
            Home::Bridge(name) => PortChange {
                home: Some(HomeChange::Bridge(name.to_owned())),
                ..PortChange::default()
            },
        }
    }
}

fn vlan(access: Option<u16>) -> VlanConfig {
    access.and_then(VlanId::new).map_or(VlanConfig::Transparent, VlanConfig::Access)
}

fn change() -> impl Strategy<Value = Change> {
    let modes = select(vec![Mode::Veb, Mode::Vepa, Mode::Private]);
    let homes = select(vec![Home::Channel("up0"), Home::Channel("up1"), Home::Bridge("br0")]);
    let vlans = select(vec![None, None, Some(10), Some(20)]);
    let unsteady = || STEADY + 1..=STEADY + UNSTEADY;
    prop_oneof![
        3 => (unsteady(), modes).prop_map(|(port, mode)| Change::Mode(port, mode)),
        3 => (unsteady(), select(vec![Admin::Up, Admin::Down]))
            .prop_map(|(port, admin)| Change::Admin(port, admin)),
        3 => (unsteady(), homes).prop_map(|(port, home)| Change::Home(port, home)),
        3 => (unsteady(), vlans).prop_map(|(port, vlan)| Change::Vlan(port, vlan)),
        2 => unsteady().prop_map(Change::Toggle),
    ]
}

fn changes() -> Vec<Change> {
    let seed = match ProptestConfig::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(()),
    };
    println!("PROPTEST_RNG_SEED={seed} repeats these changes");
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    vec(change(), CHANGES).new_tree(&mut runner).unwrap().current()
}

/// A running switch and those who are on it.
struct Swarm {
    switch: Switch,
    flows: Flows,
    steady: BTreeMap<u8, Guest>,
    unsteady: BTreeMap<u8, Guest>,
}

impl Swarm {
    fn start() -> Swarm {
        let all = 1..=STEADY + UNSTEADY;
        let switch = Switch::start(config(all.clone().map(port))).unwrap();
        let steady = || 1..=STEADY;
        let pairs = steady().flat_map(|from| steady().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        let next = |port: u8| if port < STEADY + UNSTEADY { port + 1 } else { STEADY + 1 };
        // From the steady ones to the others, too: those may be lost.
        let others = (STEADY + 1..=STEADY + UNSTEADY)
            .flat_map(|port| [(port, next(port)), (port - STEADY, port)]);
        let flows: Flows =
            Arc::new(pairs.chain(others).map(|pair| (pair, Flow::default())).collect());
        let guests = |ports: std::ops::RangeInclusive<u8>| {
            ports.map(|port| (port, Guest::start(&switch, port, &flows))).collect()
        };
        let (steady, unsteady) = (guests(1..=STEADY), guests(STEADY + 1..=STEADY + UNSTEADY));
        Swarm { switch, flows, steady, unsteady }
    }

    fn make(&mut self, change: Change) {
        match change {
            // On a bridge a port has no mode.
            Change::Mode(port, mode) if self.is_on_channel(port) => {
                self.set(port, PortChange { mode: Some(mode), ..PortChange::default() });
            }
            Change::Mode(..) => {}
            Change::Admin(port, admin) => {
                self.set(port, PortChange { admin: Some(admin), ..PortChange::default() });
            }
            Change::Home(port, home) => self.set(port, home.change()),
            Change::Vlan(port, access) => {
                self.set(port, PortChange { vlan: Some(vlan(access)), ..PortChange::default() });
            }
            Change::Toggle(number) => match self.unsteady.remove(&number) {
                Some(guest) => {
                    self.apply(|ports| ports.retain(|port| port.name.value != name(number)));
                    guest.end();
                }
                None => {
                    self.apply(|ports| ports.push(port(number)));
                    let guest = Guest::start(&self.switch, number, &self.flows);
                    self.unsteady.insert(number, guest);
                }
            },
        }
        self.forgive();
    }

    /// Changes a port, if it is there.
    fn set(&self, port: u8, change: PortChange) {
        if self.unsteady.contains_key(&port) {
            self.switch.set_port(&name(port), change).unwrap();
        }
    }

    fn is_on_channel(&self, port: u8) -> bool {
        let desired = self.switch.view().desired;
        let found = desired.config().ports.iter().find(|found| found.name.value == name(port));
        found.is_some_and(|port| port.channel.is_some())
    }

    fn apply(&self, change: impl FnOnce(&mut Vec<PortConfig>)) {
        let mut wanted = self.switch.view().desired.config().clone();
        change(&mut wanted.ports);
        self.switch.apply(Desired::try_from(wanted).unwrap()).unwrap();
    }

    /// What was sent to an unsteady port may be lost: its flow goes on all the same.
    fn forgive(&self) {
        for ((_, to), flow) in self.flows.iter() {
            if *to > STEADY {
                let sent = flow.sent.load(Ordering::Acquire);
                flow.settled.fetch_max(sent, Ordering::AcqRel);
            }
        }
    }

    /// Frames that steady ports sent each other.
    fn steady_frames(&self, count: impl Fn(&Flow) -> u32) -> u32 {
        let steady = self.flows.iter().filter(|((from, to), _)| *from.max(to) <= STEADY);
        steady.map(|(_, flow)| count(flow)).sum()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn sent(flows: &Flows, of: impl Fn(u8, u8) -> bool) -> u64 {
    let mine = flows.iter().filter(|((from, to), _)| of(*from, *to));
    mine.map(|(_, flow)| u64::from(flow.sent.load(Ordering::Acquire))).sum()
}

/// Whether all that steady ports sent has been served, and every ledger balances.
fn is_settled(totals: &BTreeMap<String, Totals>, flows: &Flows) -> bool {
    let received = |port: u8| totals[&name(port)].rx_frames == sent(flows, |from, _| from == port);
    let offered = |port: u8| totals[&name(port)].offered == sent(flows, |_, to| to == port);
    (1..=STEADY).all(|port| received(port) && offered(port))
        && totals.values().all(Totals::is_balanced)
}

/// Frames from steady ports that a steady port did not get, by its own count: only
/// a lane that the other worker held too long, for which the kernel's scheduler
/// answers, may cost one.
fn assert_steady(arrived: &BTreeMap<u8, Arrived>, to: u8, flows: &Flows, totals: &Totals) {
    let got: u64 = arrived.values().map(|arrived| u64::from(arrived.frames)).sum();
    let lost = sent(flows, |_, receiver| receiver == to) - got;
    assert_eq!(lost, totals.dropped(DropReason::TransmitBusy), "to port {to}: {totals:?}");
    let others = totals.drops().filter(|(reason, _)| reason.side() == Side::Egress).count();
    assert!(others <= usize::from(lost > 0), "at port {to}: {totals:?}");
}

/// Moves the queues of all ports to and fro, whatever else happens to them, until told
/// to stop; says how many moves were made.
fn move_all(switch: &Switch, stop: &AtomicBool) -> u32 {
    let (mut made, all) = (0, STEADY + UNSTEADY);
    for round in 0_u32.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        // Each port by turns, and at the next time around to the other worker.
        let (port, worker) = (round % u32::from(all), round / u32::from(all) % 2);
        let port = name(port as u8 + 1);
        match switch.move_queue(&port, None, worker as usize) {
            Ok(_) => made += 1,
            // It was taken away, or is at the moment.
            Err(MoveError::NoSuchPort { .. } | MoveError::Overtaken { .. })
                if port > name(STEADY) => {}
            // The kernel had somebody else run for long.
            Err(MoveError::Pending { .. } | MoveError::NotBreathing { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    made
}

#[test]
fn changes_to_some_ports_and_moves_of_all_cost_nothing() {
    let mut swarm = Swarm::start();
    let stop_moving = Arc::new(AtomicBool::new(false));
    let (switch, stop) = (swarm.switch.clone(), Arc::clone(&stop_moving));
    let mover = std::thread::spawn(move || move_all(&switch, &stop));
    for change in changes() {
        // Some frames between two changes, so that they meet traffic.
        let before = swarm.steady_frames(|flow| flow.settled.load(Ordering::Acquire));
        eventually("traffic between the steady ports", || {
            swarm.steady_frames(|flow| flow.settled.load(Ordering::Acquire)) > before + 200
        });
        swarm.make(change);
    }
    stop_moving.store(true, Ordering::Release);
    let moves = mover.join().unwrap();
    // Each waits until both workers have told of it, and they have frames to move.
    assert!(moves as usize > CHANGES / 8, "{moves} moves only");
    swarm.steady.values().chain(swarm.unsteady.values()).for_each(Guest::stop_sending);
    let Swarm { switch, flows, steady, unsteady } = swarm;
    eventually("balanced ledgers", || is_settled(&switch.totals(), &flows));
    let totals = switch.totals();
    for (port, guest) in steady {
        let arrived = guest.end();
        assert_steady(&arrived, port, &flows, &totals[&name(port)]);
    }
    unsteady.into_values().for_each(|guest| drop(guest.end()));
}
