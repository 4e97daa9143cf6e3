//! Reachability, as ping(8) sees it.

use std::process::Command;

use super::error::{BedError, Result};
use super::host::{Family, Host};

/// How often to ask. ping waits for the last answer 100 ms, or twice the longest time so
/// far: on a busy machine one comes later, and counts as none.
const ATTEMPTS_MAX: u32 = 4;

/// What came of some echo requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Requests sent.
    pub sent: u32,
    /// Requests answered.
    pub received: u32,
    /// Answers beyond the first of a request.
    pub duplicates: u32,
}

impl Echo {
    /// Whether each request was answered exactly once.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0
    }
}

impl Host {
    /// Sends three echo requests to another host; says of the last of [`ATTEMPTS_MAX`]
    /// attempts if none was answered in time and once.
    ///
    /// # Errors
    /// If ping cannot be run.
    pub fn ping(&self, to: &Host, family: Family) -> Result<Echo> {
        self.ping_patiently(to, family, &[])
    }

    /// Sends three echo requests that nobody should answer, and waits a second for it.
    ///
    /// # Errors
    /// If ping cannot be run.
    pub fn ping_in_vain(&self, to: &Host, family: Family) -> Result<Echo> {
        self.ping_with(to, family, &[])
    }

    /// The same as [`Host::ping`] with requests that must not be fragmented, so that the
    /// packet has this many bytes.
    ///
    /// # Errors
    /// If ping cannot be run.
    pub fn ping_packet_bytes(&self, to: &Host, family: Family, bytes: u16) -> Result<Echo> {
        // IPv4 or IPv6 header, then ICMP's of 8 bytes.
        let headers = match family {
            Family::Ipv4 => 20 + 8,
            Family::Ipv6 => 40 + 8,
        };
        let payload = bytes.saturating_sub(headers).to_string();
        self.ping_patiently(to, family, &["-M", "do", "-s", &payload])
    }

    fn ping_patiently(&self, to: &Host, family: Family, extra: &[&str]) -> Result<Echo> {
        let mut echo = self.ping_with(to, family, extra)?;
        for _ in 1..ATTEMPTS_MAX {
            if echo.is_clean() || echo.duplicates > 0 {
                break;
            }
            echo = self.ping_with(to, family, extra)?;
        }
        Ok(echo)
    }

    fn ping_with(&self, to: &Host, family: Family, extra: &[&str]) -> Result<Echo> {
        let output = Command::new("ip")
            .args(["netns", "exec", self.namespace().name(), "ping", "-q", "-n"])
            .args(["-c", "3", "-i", "0.1", "-W", "1"])
            .args(extra)
            .arg(to.address(family).to_string())
            .env("LC_ALL", "C")
            .output()
            .map_err(BedError::while_doing("ping (iputils-ping) cannot be run"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            BedError::new(format_args!("ping: {}\n{text}{complaint}", output.status))
        })
    }
}

/// Reads ping's summary: `3 packets transmitted, 3 received, +1 duplicates, …`; busybox's has
/// `3 packets received, 1 duplicates`.
pub(super) fn parse(text: &str) -> Option<Echo> {
    let summary = text.lines().find(|line| line.contains(" packets transmitted"))?;
    let count = |what: &str| {
        let field = summary.split(", ").find(|field| field.ends_with(what))?;
        field.trim_start_matches('+').split(' ').next()?.parse().ok()
    };
    Some(Echo {
        sent: count("packets transmitted")?,
        received: count("received")?,
        duplicates: count("duplicates").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let text = "--- 10.9.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, +4 duplicates, 33% packet loss, time 2ms\n";
        assert_eq!(parse(text), Some(Echo { sent: 3, received: 2, duplicates: 4 }));
        let text = "3 packets transmitted, 3 received, 0% packet loss, time 403ms";
        assert!(parse(text).unwrap().is_clean());
        let text = "3 packets transmitted, 3 packets received, 1 duplicates, 0% packet loss";
        assert_eq!(parse(text), Some(Echo { sent: 3, received: 3, duplicates: 1 }));
        assert_eq!(parse("ping: unknown host"), None);
    }
}
