//! What the lab prints: who reached whom, by which path, how fast.

use std::fmt::Write;
use std::time::Duration;

use super::checks::{ECHOES, Echoes, Reached, Resolution, Transferred};
use super::findings::{Findings, is_balanced};
use super::plan::{Expectation, Family, Path, VmPlan};

/// The whole report.
pub(super) fn report(vms: &[VmPlan], findings: &Findings) -> String {
    let mut text = String::new();
    grid(&mut text, vms, &findings.reached);
    times(&mut text, &findings.reached);
    apart(&mut text, &findings.reached);
    cable(&mut text, findings);
    rates(&mut text, vms, &findings.transferred);
    drops(&mut text, findings);
    failures(&mut text, vms, findings);
    text
}

/// One character per ordered pair.
fn symbol(reached: &Reached) -> char {
    if !reached.holds() {
        return '!';
    }
    let Expectation::Reached(path) = reached.expected else {
        return '-';
    };
    match path {
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
         channel\n  b between the station and the bridge's own port   ! not as expected\n  - \
         apart: must not be reached, and is not\n"
    );
}

/// Paths in the order they first occur, with their pairs and times.
fn times(text: &mut String, reached: &[Reached]) {
    let reaches = |pair: &&Reached| matches!(pair.expected, Expectation::Reached(_));
    let reached: Vec<_> = reached.iter().filter(reaches).collect();
    let mut paths: Vec<Path> = Vec::new();
    for pair in &reached {
        for path in Family::ALL.map(|family| pair.over(family).path) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let _ = writeln!(
        text,
        "  {:<22} {:>6} {:>11} {:>6} {:>11} {:>6}",
        "path at the cable", "IPv4", "median RTT", "IPv6", "median RTT", "lost"
    );
    for path in paths {
        let took = |family| {
            let each = reached.iter().map(|pair| pair.over(family));
            each.filter(|echoes| echoes.path == path).collect::<Vec<_>>()
        };
        let (ipv4, ipv6) = (took(Family::Ipv4), took(Family::Ipv6));
        let median = |echoes: &[&Echoes]| {
            let mut times: Vec<_> = echoes.iter().flat_map(|echoes| &echoes.times).collect();
            times.sort();
            times.get(times.len() / 2).map_or("-".to_owned(), |&&time| micros(time))
        };
        let lost: usize = ipv4.iter().chain(&ipv6).map(|echoes| echoes.lost()).sum();
        let _ = writeln!(
            text,
            "  {:<22} {:>6} {:>11} {:>6} {:>11} {lost:>6}",
            path.to_string(),
            ipv4.len(),
            median(&ipv4),
            ipv6.len(),
            median(&ipv6),
        );
    }
    text.push('\n');
}

/// What became of the pairs that must be apart.
fn apart(text: &mut String, reached: &[Reached]) {
    let apart = |pair: &&Reached| matches!(pair.expected, Expectation::Apart(_));
    let pairs = reached.iter().filter(apart);
    let echoes = || pairs.clone().flat_map(|pair| Family::ALL.map(|family| pair.over(family)));
    if pairs.clone().next().is_none() {
        return;
    }
    let _ = writeln!(
        text,
        "  apart: {} pairs; of {} echoes {} answered, {} dropped as private at the station\n",
        pairs.clone().count(),
        echoes().count() * ECHOES,
        echoes().map(|echoes| echoes.times.len()).sum::<usize>(),
        echoes().map(|echoes| echoes.refused).sum::<u64>(),
    );
}

/// What the cable is, if the kernel is in it.
fn cable(text: &mut String, findings: &Findings) {
    let ends = findings.xdp_ends.iter().map(|(switch, path)| format!("{switch} {path}"));
    let ends = ends.collect::<Vec<_>>().join(", ");
    if !ends.is_empty() {
        let _ = writeln!(text, "  cable: veth, AF_XDP at either end ({ends})\n");
    }
}

fn rates(text: &mut String, vms: &[VmPlan], transferred: &[Transferred]) {
    let _ = writeln!(text, "  {:<22} {:<22} {:>12}", "TCP", "path", "Gbit/s");
    for one in transferred {
        let pair = format!("{} to {}", vms[one.from].name, vms[one.to].name);
        let rate = one
            .outcome
            .as_ref()
            .map_or("-".to_owned(), |transfer| format!("{:.2}", transfer.gbit_per_second()));
        let _ = writeln!(text, "  {pair:<22} {:<22} {rate:>12}", one.path.to_string());
    }
}

/// What was dropped, where and why.
fn drops(text: &mut String, findings: &Findings) {
    let _ =
        writeln!(text, "\n  {:<10} {:<10} {:<26} {:>8}", "dropped at", "port", "reason", "frames");
    let mut row = |name: &str, port: &str, reason: &str, count: u64| {
        let _ = writeln!(text, "  {name:<10} {port:<10} {reason:<26} {count:>8}");
    };
    for (name, ledger) in &findings.ledgers {
        for (port, totals) in ledger {
            for (reason, count) in totals.drops() {
                row(name, port, reason.name(), count);
            }
        }
    }
    for (name, lost) in &findings.overflow {
        for (port, &count) in lost.iter().filter(|(_, count)| **count > 0) {
            row(name, port, "device_drops", count);
        }
    }
}

/// Every expectation that does not hold.
fn failures(text: &mut String, vms: &[VmPlan], findings: &Findings) {
    let names = |from: usize, to: usize| format!("{} to {}", vms[from].name, vms[to].name);
    for pair in findings.reached.iter().filter(|pair| !pair.holds()) {
        for family in Family::ALL {
            let echoes = pair.over(family);
            let _ = writeln!(
                text,
                "\n  ! {} over {family}: {}, path {} (expected {}), {} requests too many at the \
                 cable, {} too few",
                names(pair.from, pair.to),
                became(pair.expected, echoes),
                echoes.path,
                pair.expected.path(),
                echoes.surplus,
                echoes.missing
            );
        }
    }
    let strangers = &findings.strangers;
    if !strangers.hold() {
        let _ = writeln!(
            text,
            "\n  ! private VMs asked for {} addresses, of which the station dropped {} as \
             own_frame_returned",
            strangers.asked, strangers.returned
        );
    }
    for one in findings.transferred.iter().filter(|one| !one.holds()) {
        let brought = one.outcome.as_ref().map(|transfer| (transfer.bytes, transfer.garbled));
        let (bytes, garbled) = brought.unwrap_or_default();
        let why = one.outcome.as_ref().err().map_or(String::new(), |why| format!(": {why:#}"));
        let _ = writeln!(
            text,
            "\n  ! {} over TCP: path {} (expected {}), {bytes} bytes arrived, {garbled} of them \
             not as sent, {} frames in another channel, {} bytes not past the cable{why}",
            names(one.from, one.to),
            one.path,
            one.expected,
            one.astray,
            one.unseen_bytes
        );
    }
    if findings.lost_at_cable > 0 {
        let lost = findings.lost_at_cable;
        let _ = writeln!(
            text,
            "\n  ! the cable lost {lost} frames: the far end had no room for them, or is gone"
        );
    }
    for (name, _) in findings.ledgers.iter().filter(|(_, ledger)| !is_balanced(ledger)) {
        let _ = writeln!(text, "\n  ! the ledger of the switch {name} does not balance");
    }
}

/// What became of the echoes of a pair, by what was expected of them.
fn became(expected: Expectation, echoes: &Echoes) -> String {
    let (answered, refused) = (echoes.times.len(), echoes.refused);
    match expected {
        Expectation::Reached(_) => {
            format!("{} echoes lost, {refused} frames dropped as private", echoes.lost())
        }
        Expectation::Apart(_) => {
            let resolved = match echoes.resolution {
                Resolution::Answered => ", its address resolved",
                Resolution::Unanswered => "",
            };
            format!(
                "must be apart: {answered} echoes answered{resolved}, {refused} of {ECHOES} frames \
                 dropped as private"
            )
        }
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}
