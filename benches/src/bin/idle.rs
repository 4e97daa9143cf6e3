//! What a silent switch costs, and how fast it wakes: a switch with 64 ports and one worker.
//!
//! `cargo run --release -p hairpin-bench --bin idle` prints two Markdown tables. As root it also
//! measures 64 TAPs, in a network namespace that ends with it (`unshare --net`, util-linux).
//! Needs two CPUs: the first is the worker's, the second the guests'.

use std::fs;
use std::hint::spin_loop;
use std::io;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::Switch;
use hairpin_bench::error::{Context, Result, RigError};
use hairpin_bench::load::{own_cpu_time, own_sleeps};
use hairpin_bench::program::end;
use hairpin_bench::statistics::{Random, Tail};
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::Mode;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;
use hairpin_dataplane::worker::monotonic_ns;
use rustix::event::{EventfdFlags, eventfd};

const PORTS: u16 = 64;
/// How long the switch is left alone, and before that, until it has fallen asleep.
const SILENCE: Duration = Duration::from_secs(5);
const SETTLING: Duration = Duration::from_secs(1);
const FRAMES: usize = 2000;
/// Between two frames; a worker falls asleep within 0.1 ms.
const PAUSE_US: (usize, usize) = (1000, 5000);
/// Far longer than a frame takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where a frame says when it was sent: behind its Ethernet header.
const STAMP: std::ops::Range<usize> = 14..22;
const FRAME_BYTES: usize = 64;
/// With this argument and the namespace it must not be in, this program measures TAPs.
const TAPS: &str = "taps";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run(),
        [TAPS, outside] => silent_taps(outside),
        _ => Err(RigError::new("takes no arguments")),
    };
    end("idle", outcome)
}

fn run() -> Result<()> {
    let (worker, guests) = cpus()?;
    println!("| silent ports | for | CPU time | of one CPU (target: under 1 %) |");
    println!("| --- | ---: | ---: | ---: |");
    let switch = start(worker, |_| DeviceConfig::Memory(memory::Config::default()))?;
    print_silence("memory");
    print_taps()?;
    println!();
    println!("| from asleep | wake-ups | p50 µs | p99 µs (target: 50) | max µs | worker slept |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    wake_ups(&switch, worker, guests)
}

/// The worker's CPU and the guests'.
fn cpus() -> Result<(CoreId, CoreId)> {
    match core_affinity::get_core_ids().as_deref() {
        Some(&[worker, guests, ..]) => Ok((worker, guests)),
        _ => Err(RigError::new("this needs two CPUs: one for the worker, one for the guests")),
    }
}

/// A host-local network with all ports, their addresses registered.
fn start(worker: CoreId, device: impl Fn(u16) -> DeviceConfig) -> Result<Switch> {
    let port = |number| {
        let name = format!("vm{number}");
        let mut port = PortConfig::station(&name, "up0", Mode::Veb, device(number));
        port.macs.push(mac(number).into());
        port
    };
    let mut config = Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: (1..=PORTS).map(port).collect(),
        ..Config::default()
    };
    config.switch.workers = vec![worker.id];
    let desired = Desired::try_from(config).context("the switch's configuration")?;
    Switch::start(desired).context("starting the switch")
}

fn mac(number: u16) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | u64::from(number))
}

/// Leaves the switch alone and says what that cost.
fn print_silence(kind: &str) {
    thread::sleep(SETTLING);
    let (cpu_before, start) = (own_cpu_time(), Instant::now());
    thread::sleep(SILENCE);
    let (cpu, time) = (own_cpu_time() - cpu_before, start.elapsed());
    println!(
        "| {PORTS} {kind} | {:.1} s | {:.2} ms | {:.3} % |",
        time.as_secs_f64(),
        cpu.as_secs_f64() * 1e3,
        100.0 * cpu.as_secs_f64() / time.as_secs_f64()
    );
}

/// Measures TAPs in a process and a network namespace of their own.
fn print_taps() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("| {PORTS} TAP | not measured: needs root | | |");
        return Ok(());
    }
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new("unshare");
    command.arg("--net").arg(program).args([TAPS, &namespace()?]);
    let status = command.status().context("running unshare (the Debian package util-linux)")?;
    if status.success() { Ok(()) } else { Err(RigError::new("the TAPs were not measured")) }
}

/// The name of this process's network namespace.
fn namespace() -> Result<String> {
    let name = fs::read_link("/proc/self/ns/net").context("reading /proc/self/ns/net")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Refuses to make interfaces in the namespace that is called `outside`.
fn silent_taps(outside: &str) -> Result<()> {
    if namespace()? == outside {
        return Err(RigError::new("the TAPs belong in a network namespace of their own"));
    }
    // Else the kernel itself would speak on every interface.
    let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    fs::write(setting, "1").context(setting)?;
    let (worker, _) = cpus()?;
    let interface = |number| format!("idle{number}");
    let switch = start(worker, |number| DeviceConfig::Tap { interface: interface(number) })?;
    for number in 1..=PORTS {
        let mut ip = Command::new("ip");
        let status = ip.args(["link", "set", &interface(number), "up"]).status();
        if !status.context("running ip (the Debian package iproute2)")?.success() {
            return Err(RigError::new(format!("{} does not come up", interface(number))));
        }
    }
    print_silence("TAP");
    switch.stop();
    Ok(())
}

fn wake_ups(switch: &Switch, worker: CoreId, guests: CoreId) -> Result<()> {
    let take = |name| {
        let endpoint = switch.take_endpoint(name);
        endpoint.ok_or_else(|| RigError::new(format!("{name} has no other end")))
    };
    let (mut vm1, mut vm2, vm3) = (take("vm1")?, take("vm2")?, take("vm3")?);
    if !core_affinity::set_for_current(guests) {
        return Err(RigError::new("this process may not run on the guests' CPU"));
    }
    let bare = bare_wake_ups(worker)?;
    print_tail("a thread on an eventfd, no switch; waker spins", &bare, "–");
    let (spun, sleeps) = with_sleeps(|| spinning(&mut vm1, &mut vm2))?;
    print_tail("worker; receiver spins", &spun, &sleeps);
    let (waited, sleeps) = with_sleeps(|| waiting(&mut vm1, vm3, guests))?;
    print_tail("worker, then receiver, which sleeps, too", &waited, &sleeps);
    Ok(())
}

/// Also says how often the worker slept meanwhile.
fn with_sleeps(measure: impl FnOnce() -> Result<Vec<f64>>) -> Result<(Vec<f64>, String)> {
    let before = own_sleeps("worker0")?;
    let times = measure()?;
    Ok((times, (own_sleeps("worker0")? - before).to_string()))
}

fn print_tail(what: &str, times_us: &[f64], sleeps: &str) {
    let Some(Tail { median, percentile_99, greatest }) = Tail::of(times_us) else { return };
    let count = times_us.len();
    println!("| {what} | {count} | {median:.1} | {percentile_99:.1} | {greatest:.1} | {sleeps} |");
}

fn pause(random: &mut Random) {
    let (least, most) = PAUSE_US;
    thread::sleep(Duration::from_micros((least + random.below(most - least)) as u64));
}

fn microseconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e3
}

/// The machine's own share: a thread on the worker's CPU that an eventfd wakes.
fn bare_wake_ups(worker: CoreId) -> Result<Vec<f64>> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?);
    let (heard, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sleeper = {
        let (bell, heard, done) = (Arc::clone(&bell), Arc::clone(&heard), Arc::clone(&done));
        thread::spawn(move || -> io::Result<()> {
            core_affinity::set_for_current(worker);
            while !done.load(Ordering::Acquire) {
                rustix::io::read(&*bell, &mut [0; 8])?;
                heard.fetch_add(1, Ordering::Release);
            }
            Ok(())
        })
    };
    let mut random = Random(1);
    let mut times = Vec::with_capacity(FRAMES);
    for number in 0..FRAMES as u64 {
        pause(&mut random);
        done.store(number + 1 == FRAMES as u64, Ordering::Release);
        let rung = monotonic_ns();
        rustix::io::write(&*bell, &1_u64.to_ne_bytes()).context("ringing")?;
        while heard.load(Ordering::Acquire) == number {
            spin_loop();
        }
        times.push(microseconds(rung, monotonic_ns()));
    }
    let ended = sleeper.join().map_err(|_| RigError::new("the sleeper panicked"))?;
    ended.context("sleeping")?;
    Ok(times)
}

/// A frame that says when it was sent.
fn send(from: &mut Endpoint, destination: u16) -> Result<()> {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&mac(destination).octets());
    frame[6..12].copy_from_slice(&mac(1).octets());
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame[STAMP].copy_from_slice(&monotonic_ns().to_ne_bytes());
    from.send(&frame, Offload::NONE).context("sending")
}

/// When a frame was sent.
fn stamp(frame: &[u8]) -> Result<u64> {
    let bytes = frame.get(STAMP).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_ne_bytes).ok_or_else(|| RigError::new("another frame arrived"))
}

/// One thread sends, then looks for the frame until it is there.
fn spinning(from: &mut Endpoint, to: &mut Endpoint) -> Result<Vec<f64>> {
    let mut random = Random(2);
    let (mut times, mut frame) = (Vec::with_capacity(FRAMES), Vec::with_capacity(FRAME_BYTES));
    for _ in 0..FRAMES {
        pause(&mut random);
        send(from, 2)?;
        let start = Instant::now();
        while to.receive(&mut frame).is_none() {
            if start.elapsed() > PATIENCE {
                return Err(RigError::new("a frame was lost"));
            }
            spin_loop();
        }
        times.push(microseconds(stamp(&frame)?, monotonic_ns()));
    }
    Ok(times)
}

/// One thread sends, another one sleeps until the frame comes: two wake-ups.
fn waiting(from: &mut Endpoint, to: Endpoint, guests: CoreId) -> Result<Vec<f64>> {
    let receiver = thread::spawn(move || {
        core_affinity::set_for_current(guests);
        receive_all(to)
    });
    let mut random = Random(3);
    for _ in 0..FRAMES {
        pause(&mut random);
        send(from, 3)?;
    }
    receiver.join().map_err(|_| RigError::new("the receiver panicked"))?
}

fn receive_all(mut endpoint: Endpoint) -> Result<Vec<f64>> {
    let (mut times, mut frame) = (Vec::with_capacity(FRAMES), Vec::with_capacity(FRAME_BYTES));
    let mut last = Instant::now();
    while times.len() < FRAMES {
        endpoint.wait(Duration::from_millis(100));
        while endpoint.receive(&mut frame).is_some() {
            times.push(microseconds(stamp(&frame)?, monotonic_ns()));
            last = Instant::now();
        }
        if last.elapsed() > PATIENCE {
            return Err(RigError::new("a frame was lost"));
        }
    }
    Ok(times)
}
