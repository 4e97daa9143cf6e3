//! What a run says of the machine and of itself.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::record::{Header, Peer};

/// The header of a run that begins now.
#[must_use]
pub fn header(command: String, peers: Vec<Peer>) -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())),
        command,
        machine: facts(),
        revision: revision(),
        peers,
    }
}

/// What can be read of the machine.
fn facts() -> BTreeMap<String, String> {
    let file = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let field = |path: &str, name: &str| {
        let text = file(path)?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().ok().map(|cpus| cpus.to_string());
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    [
        ("cpu", field("/proc/cpuinfo", "model name")),
        ("cpus", cpus),
        ("kernel", file("/proc/sys/kernel/osrelease")),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("governor", file(governor)),
        ("spectre v2", file("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
        ("load average", file("/proc/loadavg")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// The revision of the sources in the current directory.
fn revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// A moment in seconds since 1970, as RFC 3339 writes it.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        (year, left) = (year + 1, left - length);
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        (month, left) = (month + 1, left - length);
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_header_has_the_machine_in_it() {
        let header = header("hairpin-bench quick".to_owned(), Vec::new());
        assert!(header.machine.contains_key("kernel") && header.machine.contains_key("cpus"));
    }
}
