//! Idle costs nothing. A program of its own: it measures its whole process.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin_dataplane::port::memory;
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use rustix::time::{ClockId, clock_gettime};

const PORTS: u8 = 64;
const SILENCE: Duration = Duration::from_secs(2);
/// Of one CPU.
const SHARE_MAX: f64 = 0.01;
/// A machine that is busy otherwise may disturb one silence, but hardly three.
const ATTEMPTS: usize = 3;
/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

fn mac(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

/// Port `vmN` of a host-local network, with its address registered.
fn vm(number: u8) -> PortConfig {
    let device = DeviceConfig::Memory(memory::Config::default());
    let mut port = PortConfig::station(&format!("vm{number}"), "up0", Mode::Veb, device);
    port.macs.push(mac(number).into());
    port
}

/// What this process has spent in all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The share of a CPU that this process takes while nothing happens.
fn silence() -> f64 {
    thread::sleep(Duration::from_millis(300));
    let (before, start) = (cpu_time(), Instant::now());
    thread::sleep(SILENCE);
    (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// One frame from the first port reaches the last one.
fn assert_reaches(switch: &Switch) {
    let mut first = switch.take_endpoint("vm1").unwrap();
    let mut last = switch.take_endpoint(&format!("vm{PORTS}")).unwrap();
    let mut frame = [mac(PORTS).octets(), mac(1).octets()].concat();
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    first.send(&frame, Offload::NONE).unwrap();
    let (mut received, start) = (Vec::new(), Instant::now());
    while last.receive(&mut received).is_none() {
        assert!(start.elapsed() < PATIENCE, "nobody woke");
        last.wait(Duration::from_millis(10));
    }
    assert_eq!(received, frame);
}

#[test]
fn silent_ports_cost_nothing_and_wake_all_the_same() {
    let config = Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: (1..=PORTS).map(vm).collect(),
        ..Config::default()
    };
    let switch = Switch::start(Desired::try_from(config).unwrap()).unwrap();
    let mut shares = Vec::new();
    while shares.iter().all(|share| *share >= SHARE_MAX) {
        assert!(shares.len() < ATTEMPTS, "shares of a CPU while silent: {shares:?}");
        shares.push(silence());
    }
    assert_reaches(&switch);
}
