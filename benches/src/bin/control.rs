//! How fast the control plane is with 1,000 ports, and what changes cost those who have nothing
//! to do with them.
//!
//! `cargo run --release -p hairpin-bench --bin control` prints a Markdown table;
//! `-- --seconds 5` makes the last row short. Needs two CPUs: the first is the worker's.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hairpin::api::address::ApiAddress;
use hairpin::api::listen::Bound;
use hairpin::cli::client::Client;
use hairpin::cli::{Format, counts};
use hairpin::config::{Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::{PortChange, Switch};
use hairpin_bench::error::{Context, Result, RigError};
use hairpin_bench::program::end;
use hairpin_bench::statistics::Tail;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::Offload;

const PORTS: u16 = 1000;
/// Times each thing is done.
const APPLIES: usize = 10;
const CHANGES: usize = 200;
const READINGS: usize = 50;
/// Changes a second in the last row, and for how long.
const RATE: u32 = 200;
const SECONDS: u64 = 60;
/// Frames underway in the last row.
const WINDOW: usize = 64;
/// Far longer than a frame takes.
const PATIENCE: Duration = Duration::from_secs(10);
const FRAME_BYTES: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run(SECONDS),
        ["--seconds", seconds] => match seconds.parse() {
            Ok(seconds @ 1..=3600) => run(seconds),
            _ => Err(RigError::new(format!("--seconds {seconds}: take 1 to 3600"))),
        },
        _ => Err(RigError::new("usage: control [--seconds N]")),
    };
    end("control", outcome)
}

fn run(seconds: u64) -> Result<()> {
    println!("| {PORTS} memory ports | times | median | 99 % | greatest | aim |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let switch = Switch::start(desired(0)?).context("starting the switch")?;
    print("all of them in one apply", &applies(&switch)?, "2 s");
    switch.apply(desired(PORTS)?).context("applying all ports")?;
    print("a change to one, while nothing else happens", &changes_alone(&switch)?, "5 ms");
    let mut vm1 = end_of(&switch, 1)?;
    print("a change to one, until a frame shows it", &changes(&switch, &mut vm1)?, "50 ms");
    print("`stats --json` of all, by the API", &readings(&switch)?, "100 ms");
    println!();
    under_load(&switch, vm1, seconds)
}

fn print(what: &str, times_ms: &[f64], aim: &str) {
    let Some(Tail { median, percentile_99, greatest }) = Tail::of(times_ms) else { return };
    let times = times_ms.len();
    println!(
        "| {what} | {times} | {median:.2} ms | {percentile_99:.2} ms | {greatest:.2} ms | {aim} |"
    );
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn mac(number: u16) -> Mac {
    Mac::from_u64(0x5254_0000_0000 | u64::from(number))
}

/// A host-local network with so many ports, their addresses registered.
fn desired(ports: u16) -> Result<Desired> {
    // Small rings: it is their number that counts.
    let device = memory::Config { slots: 128, bytes: 1 << 16, ..memory::Config::default() };
    let port = |number| {
        let name = format!("vm{number}");
        let device = DeviceConfig::Memory(device);
        let mut port = PortConfig::station(&name, "up0", Mode::Veb, device);
        port.macs.push(mac(number).into());
        port
    };
    let mut config = Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: (1..=ports).map(port).collect(),
        ..Config::default()
    };
    let first = core_affinity::get_core_ids().and_then(|ids| ids.first().copied());
    let worker = first.ok_or_else(|| RigError::new("the CPUs of this process are not known"))?;
    config.switch.workers = vec![worker.id];
    Desired::try_from(config).context("the switch's configuration")
}

fn end_of(switch: &Switch, number: u16) -> Result<Endpoint> {
    let name = format!("vm{number}");
    let endpoint = switch.take_endpoint(&name);
    endpoint.ok_or_else(|| RigError::new(format!("{name} has no other end")))
}

fn applies(switch: &Switch) -> Result<Vec<f64>> {
    let (all, none) = (desired(PORTS)?, desired(0)?);
    let (mut times_ms, open) = (Vec::new(), descriptors()?);
    for _ in 0..APPLIES {
        let all = all.clone();
        let since = Instant::now();
        switch.apply(all).context("applying all ports")?;
        times_ms.push(milliseconds(since));
        switch.apply(none.clone()).context("removing all ports")?;
        // They close when the worker has given them back, and there is a limit of open files.
        let since = Instant::now();
        while descriptors()? > open {
            if since.elapsed() > PATIENCE {
                return Err(RigError::new("ports that were removed do not close"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(times_ms)
}

/// How many descriptors this process has open.
fn descriptors() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd").context("/proc/self/fd")?.count())
}

fn frame(to: u16, number: u32) -> Vec<u8> {
    let mut frame = [mac(to).octets(), mac(1).octets()].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(FRAME_BYTES, 0);
    frame
}

/// Sets a port up, and sends frames to it until one arrives: while it was down none did.
fn changes(switch: &Switch, vm1: &mut Endpoint) -> Result<Vec<f64>> {
    let mut vm2 = end_of(switch, 2)?;
    let set = |admin| {
        let change = PortChange { admin: Some(admin), ..PortChange::default() };
        switch.set_port("vm2", change).context("changing vm2")
    };
    let (mut times_ms, mut received) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        set(Admin::Down)?;
        while vm2.receive(&mut received).is_some() {}
        let since = Instant::now();
        set(Admin::Up)?;
        while vm2.receive(&mut received).is_none() {
            // A full ring will be emptied.
            let _ = vm1.send(&frame(2, number as u32), Offload::NONE);
            vm2.wait(Duration::from_micros(50));
            if since.elapsed() > PATIENCE {
                return Err(RigError::new("a change is not seen"));
            }
        }
        times_ms.push(milliseconds(since));
    }
    Ok(times_ms)
}

/// Changes one port's mode again and again.
fn changes_alone(switch: &Switch) -> Result<Vec<f64>> {
    let mut times_ms = Vec::new();
    for number in 0..CHANGES {
        let since = Instant::now();
        change_mode(switch, number)?;
        times_ms.push(milliseconds(since));
    }
    Ok(times_ms)
}

/// Gives vm500 the next mode.
fn change_mode(switch: &Switch, number: usize) -> Result<()> {
    let modes = [Mode::Vepa, Mode::Private, Mode::Veb];
    let mode = Some(modes[number % modes.len()]);
    let change = PortChange { mode, ..PortChange::default() };
    switch.set_port("vm500", change).context("changing vm500")?;
    Ok(())
}

fn readings(switch: &Switch) -> Result<Vec<f64>> {
    let directory = tempfile::tempdir().context("a directory for the API's socket")?;
    let socket = directory.path().join("api.sock");
    let bound = Bound::bind(&socket).context("the API's socket")?;
    let _api = bound.serve(switch.clone()).context("the API")?;
    let mut times_ms = Vec::new();
    for _ in 0..READINGS {
        let since = Instant::now();
        let read = Client::connect(&ApiAddress::from(socket.as_path()))
            .and_then(|mut client| counts::stats(&mut client, Vec::new(), Format::Json));
        let text = read.map_err(|error| RigError::new(format!("stats: {error:#}")))?;
        times_ms.push(milliseconds(since));
        if !text.contains("\"vm1000\"") {
            return Err(RigError::new("stats: a port is missing"));
        }
    }
    Ok(times_ms)
}

/// What came of a time of frames from one port to another.
struct Passed {
    frames: u64,
    lost: u64,
    changes: u32,
}

/// Frames from one port to another as fast as they go, without changes to a third port, then
/// with them.
fn under_load(switch: &Switch, mut vm1: Endpoint, seconds: u64) -> Result<()> {
    let mut vm3 = end_of(switch, 3)?;
    println!("| frames from vm1 to vm3, for {seconds} s each | frames/s | changes/s | lost |");
    println!("| --- | ---: | ---: | ---: |");
    for rate in [0, RATE, 0, RATE] {
        let stop = Arc::new(AtomicBool::new(false));
        let changer = {
            let (switch, stop) = (switch.clone(), Arc::clone(&stop));
            thread::spawn(move || change_at(&switch, rate, &stop))
        };
        let passed = pass(&mut vm1, &mut vm3, Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        let changes = changer.join().map_err(|_| RigError::new("the changer ended"))??;
        let Passed { frames, lost, changes } = Passed { changes, ..passed? };
        let changes = f64::from(changes) / seconds as f64;
        println!("| {rate} changes/s wanted | {} | {changes:.1} | {lost} |", frames / seconds);
        if lost > 0 {
            return Err(RigError::new(format!("{lost} frames were lost")));
        }
    }
    Ok(())
}

fn change_at(switch: &Switch, rate: u32, stop: &AtomicBool) -> Result<u32> {
    let Some(interval) = Duration::from_secs(1).checked_div(rate) else { return Ok(0) };
    let (start, mut changes) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        change_mode(switch, changes as usize)?;
        changes += 1;
        thread::sleep((interval * changes).saturating_sub(start.elapsed()));
    }
    Ok(changes)
}

/// Sends numbered frames, a window of them at a time, each of which has to arrive in its turn.
fn pass(vm1: &mut Endpoint, vm3: &mut Endpoint, time: Duration) -> Result<Passed> {
    let (start, mut received) = (Instant::now(), Vec::new());
    let (mut next, mut lost, mut frames) = (0_u32, 0, 0);
    let mut underway = VecDeque::with_capacity(WINDOW);
    loop {
        let is_over = start.elapsed() > time;
        if is_over && underway.is_empty() {
            return Ok(Passed { frames, lost, changes: 0 });
        }
        while !is_over && underway.len() < WINDOW / 2 {
            if vm1.send(&frame(3, next), Offload::NONE).is_err() {
                break;
            }
            underway.push_back(next);
            next = next.wrapping_add(1);
        }
        let waiting = Instant::now();
        while vm3.receive(&mut received).is_none() {
            if waiting.elapsed() > PATIENCE {
                return Err(RigError::new(format!("{} frames do not arrive", underway.len())));
            }
            std::hint::spin_loop();
        }
        let number = received.get(14..18).and_then(|it| it.try_into().ok()).map(u32::from_be_bytes);
        while let Some(expected) = underway.pop_front() {
            if Some(expected) == number {
                break;
            }
            lost += 1;
        }
        frames += 1;
    }
}
