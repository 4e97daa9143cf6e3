//! What the lab prints: who reached whom, by which path, how fast.

use std::fmt::Write;
use std::time::Duration;

use super::checks::{Reached, Transferred};
use super::plan::{Path, VmPlan};

/// The whole report.
pub(super) fn report(vms: &[VmPlan], reached: &[Reached], transferred: &[Transferred]) -> String {
    let mut text = String::new();
    grid(&mut text, vms, reached);
    times(&mut text, reached);
    rates(&mut text, vms, transferred);
    failures(&mut text, vms, reached);
    text
}

/// One character per ordered pair.
fn symbol(reached: &Reached) -> char {
    if !reached.holds() {
        return '!';
    }
    match reached.path {
        Path { out: None, back: None } => 'l',
        Path { out: Some(out), back: Some(back) } if out != back => 'c',
        Path { out: Some(_), back: Some(_) } => 'h',
        _ => 'b',
    }
}

fn grid(text: &mut String, vms: &[VmPlan], reached: &[Reached]) {
    let _ = writeln!(text, "Who reached whom (from the row to the column), IPv4 and IPv6:\n");
    let _ = write!(text, "  {:<8}", "");
    for vm in vms {
        let _ = write!(text, " {:>6}", vm.name);
    }
    for (from, vm) in vms.iter().enumerate() {
        let _ = write!(text, "\n  {:<8}", vm.name);
        for to in 0..vms.len() {
            let found = reached.iter().find(|pair| (pair.from, pair.to) == (from, to));
            let _ = write!(text, " {:>6}", found.map_or('.', symbol));
        }
    }
    let _ = writeln!(
        text,
        "\n\n  l local   h hairpin: out and back in one channel   c by the bridge to another \
         channel\n  b between the station and the bridge's own port   ! not as expected\n"
    );
}

/// Paths in the order they first occur, with their times.
fn times(text: &mut String, reached: &[Reached]) {
    let mut paths: Vec<Path> = Vec::new();
    for pair in reached {
        if !paths.contains(&pair.path) {
            paths.push(pair.path);
        }
    }
    let _ = writeln!(
        text,
        "  {:<22} {:>6} {:>12} {:>6}",
        "path at the cable", "pairs", "RTT median", "lost"
    );
    for path in paths {
        let pairs: Vec<_> = reached.iter().filter(|pair| pair.path == path).collect();
        let mut times: Vec<_> = pairs.iter().flat_map(|pair| &pair.times).copied().collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let lost: usize = pairs.iter().map(|pair| pair.lost).sum();
        let name = path.to_string();
        let _ = writeln!(text, "  {name:<22} {:>6} {:>12} {lost:>6}", pairs.len(), micros(median));
    }
    text.push('\n');
}

fn rates(text: &mut String, vms: &[VmPlan], transferred: &[Transferred]) {
    let _ = writeln!(text, "  {:<22} {:<22} {:>12}", "TCP", "path", "Gbit/s");
    for one in transferred {
        let pair = format!("{} to {}", vms[one.from].name, vms[one.to].name);
        let rate = one.transfer.gbit_per_second();
        let _ = writeln!(text, "  {pair:<22} {:<22} {rate:>12.2}", one.path.to_string());
    }
}

fn failures(text: &mut String, vms: &[VmPlan], reached: &[Reached]) {
    for pair in reached.iter().filter(|pair| !pair.holds()) {
        let _ = writeln!(
            text,
            "\n  ! {} to {}: path {} (expected {}), {} echoes lost, {} frames doubled",
            vms[pair.from].name,
            vms[pair.to].name,
            pair.path,
            pair.expected,
            pair.lost,
            pair.duplicates
        );
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}
