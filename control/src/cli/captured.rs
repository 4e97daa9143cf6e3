//! Captured frames for people, a line each, and for programs, an object each.

use std::fmt::Write;

use hairpin_dataplane::port::pcapng::Direction;
use hairpin_dataplane::wire::ethernet::{self, ADDRESSES_BYTES};
use hairpin_dataplane::wire::{Mac, Vid};
use hairpin_dataplane::worker::capture::filter;
use serde_json::{Value, json};

use super::pcapng::Captured;

/// EtherTypes that have a name here.
const ETHERTYPES: [(u16, &str); 5] =
    [(0x0800, "IPv4"), (0x0806, "ARP"), (0x86dd, "IPv6"), (0x88cc, "LLDP"), (0x8940, "EVB")];
const NANOSECONDS: u64 = 1_000_000_000;

/// The number of an EtherType: `0x0806`, `2054` or `arp`.
///
/// # Errors
/// It is none, with what would be one.
pub fn ethertype(text: &str) -> Result<u32, String> {
    let named = ETHERTYPES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    if let Some((number, _)) = named {
        return Ok(u32::from(*number));
    }
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    number.ok_or_else(|| {
        let names: Vec<&str> = ETHERTYPES.iter().map(|(_, name)| *name).collect();
        format!("{text:?} is no EtherType; write a number such as 0x0806, or {}", names.join(", "))
    })
}

/// What a frame's private bytes say.
struct Head {
    addresses: Option<(Mac, Mac)>,
    ethertype: Option<u16>,
    vid: Option<Vid>,
}

fn head(bytes: &[u8]) -> Head {
    let addresses = (bytes.len() >= ADDRESSES_BYTES).then(|| ethernet::addresses(bytes));
    let vid = filter::vid(bytes).filter(|vid| *vid != Vid::UNTAGGED);
    Head { addresses, ethertype: filter::ethertype(bytes), vid }
}

/// The reason that a frame's comment names, if it was dropped.
fn reason<'c>(frame: &Captured<'c>) -> Option<&'c str> {
    let (reason, _) = frame.comment?.strip_prefix("dropped: ")?.split_once(':')?;
    Some(reason)
}

fn way(way: Direction) -> &'static str {
    match way {
        Direction::Inbound => "rx",
        Direction::Outbound => "tx",
    }
}

/// A line for a frame, its port's name as wide as `width`.
#[must_use]
pub fn line(frame: &Captured<'_>, width: usize) -> String {
    let mut line = time(frame.time_ns);
    // Into a string: nothing stands against that.
    let _ = write!(line, " {:width$} {} ", frame.port, way(frame.way));
    let head = head(frame.bytes);
    match head.addresses {
        Some((destination, source)) => {
            let _ = write!(line, "{source} > {destination}");
        }
        None => line.push_str("no addresses"),
    }
    if let Some(number) = head.ethertype {
        let named = ETHERTYPES.iter().find(|(known, _)| *known == number);
        let _ = match named {
            Some((_, name)) => write!(line, " {name}"),
            None => write!(line, " {number:#06x}"),
        };
    }
    if let Some(vid) = head.vid {
        let _ = write!(line, " vlan {}", vid.get());
    }
    let _ = write!(line, " {}", frame.length);
    if let Some(reason) = reason(frame) {
        let _ = write!(line, " dropped {reason}");
    }
    line.push('\n');
    line
}

/// An object for a frame, on a line.
#[must_use]
pub fn object(frame: &Captured<'_>) -> String {
    let head = head(frame.bytes);
    let text = |mac: Mac| Value::from(mac.to_string());
    let (destination, source) = head
        .addresses
        .map_or((Value::Null, Value::Null), |addresses| (text(addresses.0), text(addresses.1)));
    let object = json!({
        "time_ns": frame.time_ns,
        "port": frame.port,
        "direction": way(frame.way),
        "source": source,
        "destination": destination,
        "ethertype": head.ethertype,
        "vlan": head.vid.map(Vid::get),
        "length": frame.length,
        "dropped": reason(frame),
    });
    format!("{object}\n")
}

/// The time of day, UTC.
fn time(time_ns: u64) -> String {
    let (seconds, micros) = (time_ns / NANOSECONDS, time_ns % NANOSECONDS / 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{micros:06}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Captured<'_> {
        let time_ns = 1_700_000_000_123_456_789;
        Captured { port: "vm1", time_ns, way: Direction::Inbound, length: 60, bytes, comment: None }
    }

    const BYTES: [u8; 18] =
        [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x81, 0, 0, 10, 0x08, 0x06];

    #[test]
    fn a_frame_is_a_line() {
        let addresses = "52:54:00:00:00:01 > 52:54:00:00:00:02";
        let dropped = Captured {
            way: Direction::Outbound,
            comment: Some("dropped: rx_ring_full: The receiver had no free buffer. Wait."),
            ..frame(&BYTES[..12])
        };
        for (frame, width, expected) in [
            (frame(&BYTES), 3, format!("vm1 rx {addresses} ARP vlan 10 60\n")),
            (dropped, 5, format!("vm1   tx {addresses} 60 dropped rx_ring_full\n")),
            (frame(&[]), 3, "vm1 rx no addresses 60\n".to_owned()),
        ] {
            assert_eq!(line(&frame, width), format!("22:13:20.123456 {expected}"));
        }
    }

    #[test]
    fn a_frame_is_an_object() {
        let object: Value = serde_json::from_str(&object(&frame(&BYTES))).unwrap();
        let expected = json!({
            "time_ns": 1_700_000_000_123_456_789_u64,
            "port": "vm1",
            "direction": "rx",
            "source": "52:54:00:00:00:01",
            "destination": "52:54:00:00:00:02",
            "ethertype": 0x0806,
            "vlan": 10,
            "length": 60,
            "dropped": null,
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn ethertypes_are_numbers_or_names() {
        for text in ["0x0806", "2054", "arp", "ARP"] {
            assert_eq!(ethertype(text), Ok(0x0806), "{text}");
        }
        assert!(ethertype("rap").unwrap_err().contains("0x0806"));
    }
}
