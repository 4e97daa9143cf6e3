//! `hairpin why`: what the switch would do with a frame, step by step.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::wire::Mac;
use hairpin_proto::v1::why_copy::Fate;
use hairpin_proto::v1::why_destination::Kind;
use hairpin_proto::v1::why_response::Outcome;
use hairpin_proto::v1::{self};
use serde_json::{Value, json};

use super::client::Client;
use super::frame::{self, Words};
use super::{Format, UsageError, json, pcap, words};

/// Columns of the narrowest terminal that output is made for.
const WIDTH: usize = 80;
/// Where what a step found begins.
const FINDING_COLUMN: usize = 20;
/// A station's address where nothing says which is meant.
const SOMEBODY: Mac = Mac::new([0x02, 0, 0, 0, 0, 1]);

/// Which frame, and where it comes in.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The port or link that the frame comes in by; on a link its S-tag names the channel
    #[arg(long = "in", value_name = "PORT")]
    ingress: String,
    /// The frame in hexadecimal digits, from its destination address on
    #[arg(value_name = "FRAME")]
    hex: Vec<String>,
    /// A capture that has the frame: pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Which of its frames, from 1
    #[arg(long, value_name = "N", requires = "pcap", default_value_t = 1)]
    number: u64,
    #[command(flatten)]
    words: Words,
    /// The frame is TCP or UDP that its sender wants cut into segments of so many bytes
    #[arg(long, value_name = "BYTES")]
    segment: Option<u16>,
}

/// `hairpin why`.
pub fn why(
    client: impl FnOnce() -> anyhow::Result<Client>,
    args: WhyArgs,
    format: Format,
) -> anyhow::Result<String> {
    let WhyArgs { ingress, hex, pcap, number, words, segment } = args;
    let ways = [!hex.is_empty(), pcap.is_some(), words.are_given()];
    if ways.iter().filter(|&&is_given| is_given).count() != 1 {
        let said = "say which frame in one way: FRAME in hexadecimal digits, --pcap FILE --number \
                    N, or words such as --dst MAC --vlan 10 --udp 53";
        return Err(UsageError(said.to_owned()).into());
    }
    // What is asked is understood before anybody is asked.
    let given = match pcap {
        Some(file) => Some(pcap::frame(&file, number)?),
        None if words.are_given() => None,
        None => Some(frame::hex(&hex)?),
    };
    let mut client = client()?;
    let bytes = match given {
        Some(bytes) => bytes,
        None => in_words(&mut client, &ingress, &words)?,
    };
    let offload = segment.map(|size| frame::to_be_cut(&bytes, size)).transpose()?;
    let request = v1::WhyRequest { ingress: ingress.clone(), frame: bytes.clone(), offload };
    let answer = client.why(request)?;
    Ok(match format {
        Format::Json => json::text(&answer_json(&ingress, &bytes, &answer)),
        Format::Table => answer_text(&ingress, &bytes, &answer),
    })
}

fn in_words(client: &mut Client, ingress: &str, words: &Words) -> anyhow::Result<Vec<u8>> {
    let destination = match &words.dst {
        Some(name) => address(client, name)?,
        None => words.default_destination()?,
    };
    let source = match &words.src {
        Some(name) => address(client, name)?,
        // A link has none; a port that has none has not sent anything yet.
        None => port_address(client, ingress).ok().flatten().unwrap_or(SOMEBODY),
    };
    Ok(words.frame(destination, source)?)
}

/// An address as it is written, or one that a port has.
fn address(client: &mut Client, name: &str) -> anyhow::Result<Mac> {
    if let Ok(mac) = name.parse() {
        return Ok(mac);
    }
    let none = || {
        anyhow!(
            "port {name} has registered no address and none is learned on it; write one, such as \
             52:54:00:00:00:01"
        )
    };
    port_address(client, name)?.ok_or_else(none)
}

/// The first address that a port registered, or else the one that it used last.
fn port_address(client: &mut Client, name: &str) -> anyhow::Result<Option<Mac>> {
    let port = client.get_port(v1::GetPortRequest { name: name.to_owned() })?.port;
    if let Some(mac) = port.unwrap_or_default().macs.first() {
        return Ok(mac.parse().ok());
    }
    let mut request = v1::FdbRequest { port: name.to_owned(), ..v1::FdbRequest::default() };
    let mut used = Vec::new();
    loop {
        let page = client.fdb(request.clone())?;
        used.extend(page.addresses.into_iter().filter_map(|address| match address.origin {
            Some(v1::address::Origin::Learned(learned)) => Some((learned.idle_ms, address.mac)),
            _ => None,
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(used.into_iter().min().and_then(|(_, mac)| mac.parse().ok()))
}

/// A sentence in lines of [`WIDTH`] columns, all but the first of which are indented.
fn wrapped(first: &str, indent: usize, text: &str) -> String {
    let mut lines = first.to_owned();
    let mut column = first.chars().count();
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
            lines += &format!("\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines.push('\n');
    lines
}

fn answer_text(ingress: &str, bytes: &[u8], answer: &v1::WhyResponse) -> String {
    let mut text = heading(ingress, bytes, answer);
    for (step, number) in answer.steps.iter().zip(1..) {
        let mark = if step.decides { '*' } else { ' ' };
        let first = format!("{mark} {number:2}. {:14}", check(step.check()).replace('_', " "));
        text += &wrapped(&first, FINDING_COLUMN, &step.finding);
    }
    if !answer.steps.is_empty() {
        text.push('\n');
    }
    match &answer.outcome {
        Some(Outcome::Waits(waits)) => text += &waits_text(waits),
        Some(Outcome::Dropped(dropped)) => {
            let reason = dropped.reason.clone().unwrap_or_default();
            text += &format!("dropped, and counted at {} as {}\n", dropped.port, reason.name);
            text += &explained(&reason.meaning, &reason.remedy);
        }
        Some(Outcome::Forwarded(forwarded)) => text += &copies_text(&forwarded.copies),
        None => {}
    }
    for copy in &answer.mirrored {
        let way = match copy.frames() {
            v1::MirroredFrames::Sent => "leaves for",
            _ => "comes from",
        };
        let said = format!("copied to {}, as it {way} {}", copy.port, copy.of);
        text += &wrapped("", 2, &said);
    }
    text
}

fn heading(ingress: &str, bytes: &[u8], answer: &v1::WhyResponse) -> String {
    let stations = frame::addresses(bytes)
        .map_or(String::new(), |(destination, source)| format!(", from {source} to {destination}"));
    let domain = match answer.domain.as_str() {
        "" => String::new(),
        domain if answer.ingress == ingress => format!(", in {domain}"),
        domain if answer.ingress == domain => format!(", channel {domain}"),
        domain => format!(", channel {}, in {domain}", answer.ingress),
    };
    let vlan = match answer.vid {
        Some(vid @ 1..) => format!(", VLAN {vid}"),
        _ => String::new(),
    };
    format!("{} bytes{stations}\ninto {ingress}{domain}{vlan}\n\n", bytes.len())
}

/// What happened and what to do, indented.
fn explained(meaning: &str, remedy: &str) -> String {
    wrapped("  ", 2, meaning) + &wrapped("  ", 2, remedy)
}

fn waits_text(waits: &v1::WhyWaits) -> String {
    let port = &waits.port;
    let (what, remedy) = match waits.awaited() {
        v1::WhyAwaited::Release => {
            ("in quarantine", format!("`hairpin port release {port}` has it served again"))
        }
        v1::WhyAwaited::Device => ("waiting for its device", "it comes up with it".to_owned()),
        v1::WhyAwaited::Up | v1::WhyAwaited::Unspecified => {
            ("down", format!("`hairpin port set {port} admin=up` if it was set down"))
        }
    };
    let problem = match waits.problem.as_str() {
        "" => String::new(),
        problem => format!(": {problem}"),
    };
    let said = format!("not taken: {port} is {what}{problem}");
    wrapped("", 2, &said) + &wrapped("  ", 2, &remedy)
}

fn copies_text(copies: &[v1::WhyCopy]) -> String {
    let (mut text, mut lost) = (String::new(), BTreeMap::new());
    let mut may: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for copy in copies {
        let by = match copy.device == copy.port {
            true => String::new(),
            false => format!(" by link {}", copy.device),
        };
        let said = match &copy.fate {
            Some(Fate::Leaving(leaving)) => {
                format!("to {}{by}: {} bytes, {}", copy.port, leaving.length, leaving.tags)
            }
            Some(Fate::Lost(reason)) => {
                lost.insert(&reason.name, reason);
                format!("to {}{by}: lost, and counted there as {}", copy.port, reason.name)
            }
            None => continue,
        };
        text += &wrapped("", 2, &said);
        copy.may.iter().for_each(|reason| may.entry(reason).or_default().push(&copy.device));
    }
    for (name, reason) in lost {
        text += &format!("\n{name}\n");
        text += &explained(&reason.meaning, &reason.remedy);
    }
    if !may.is_empty() {
        text += "\nWhat hangs on the moment: a copy may be lost instead as\n";
    }
    for (name, mut devices) in may {
        devices.dedup();
        let meaning = DropReason::from_name(name).map_or("", DropReason::meaning);
        text += &wrapped("  ", 4, &format!("{name} at {}: {meaning}", devices.join(", ")));
    }
    text
}

fn answer_json(ingress: &str, bytes: &[u8], answer: &v1::WhyResponse) -> Value {
    let step = |step: &v1::WhyStep| {
        json!({
            "check": check(step.check()),
            "finding": step.finding,
            "decides": step.decides,
        })
    };
    let (outcome, waits, drop, copies) = match &answer.outcome {
        Some(Outcome::Waits(waits)) => {
            let awaited = match waits.awaited() {
                v1::WhyAwaited::Release => "release",
                v1::WhyAwaited::Device => "device",
                v1::WhyAwaited::Up | v1::WhyAwaited::Unspecified => "up",
            };
            let problem = json::unless_empty(&waits.problem);
            ("waits", json!({ "awaited": awaited, "problem": problem }), Value::Null, json!([]))
        }
        Some(Outcome::Dropped(dropped)) => {
            let reason = dropped.reason.clone().unwrap_or_default();
            let drop = json!({
                "reason": reason.name,
                "meaning": reason.meaning,
                "remedy": reason.remedy,
                "port": dropped.port,
            });
            ("dropped", Value::Null, drop, json!([]))
        }
        Some(Outcome::Forwarded(forwarded)) => {
            ("forwarded", Value::Null, Value::Null, json::each(&forwarded.copies, copy_json))
        }
        None => ("unknown", Value::Null, Value::Null, json!([])),
    };
    json!({
        "in": ingress,
        "frame": hex(bytes),
        "revision": answer.revision,
        "ingress": json::unless_empty(&answer.ingress),
        "domain": json::unless_empty(&answer.domain),
        "vid": answer.vid,
        "steps": json::each(&answer.steps, step),
        "source": answer.source.as_ref().map(source_json),
        "destination": answer.destination.as_ref().map(destination_json),
        "rule": json::unless_empty(&answer.rule),
        "outcome": outcome,
        "waits": waits,
        "drop": drop,
        "copies": copies,
        "mirrored": json::each(&answer.mirrored, |copy| json!({
            "port": copy.port,
            "of": copy.of,
            "frames": words::mirrored(copy.frames()),
        })),
    })
}

fn source_json(source: &v1::WhySource) -> Value {
    use v1::WhyStanding as Is;
    let standing = match source.standing() {
        Is::Unspecified => "unknown",
        Is::Own => "own",
        Is::NotOwn => "not_own",
        Is::RegisteredElsewhere => "registered_elsewhere",
        Is::Known => "known",
        Is::New => "new",
        Is::Moves => "moves",
        Is::NoRoom => "no_room",
        Is::Foreign => "foreign",
        Is::Local => "local",
        Is::Leaves => "leaves",
    };
    json!({ "mac": source.mac, "standing": standing, "port": json::unless_empty(&source.port) })
}

fn destination_json(destination: &v1::WhyDestination) -> Value {
    let (kind, owner) = match &destination.kind {
        Some(Kind::Group(_)) => ("group", None),
        Some(Kind::Owner(owner)) => ("owned", Some(owner)),
        Some(Kind::Unknown(_)) | None => ("unknown", None),
    };
    json!({
        "mac": destination.mac,
        "kind": kind,
        "port": owner.map(|owner| &owner.port),
        "idle_ms": owner.and_then(|owner| owner.idle_ms),
    })
}

fn copy_json(copy: &v1::WhyCopy) -> Value {
    let (leaving, lost) = match &copy.fate {
        Some(Fate::Leaving(leaving)) => (Some(leaving), None),
        Some(Fate::Lost(reason)) => (None, Some(&reason.name)),
        None => (None, None),
    };
    json!({
        "port": copy.port,
        "device": copy.device,
        "lost": lost,
        "length": leaving.map(|leaving| leaving.length),
        "header": leaving.map(|leaving| hex(&leaving.header)),
        "may": copy.may,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(check: v1::WhyCheck) -> &'static str {
    match check {
        v1::WhyCheck::Unspecified => "unknown",
        v1::WhyCheck::Length => "length",
        v1::WhyCheck::Channel => "channel",
        v1::WhyCheck::Reserved => "reserved",
        v1::WhyCheck::SourceForm => "source_form",
        v1::WhyCheck::Tag => "tag",
        v1::WhyCheck::Vlan => "vlan",
        v1::WhyCheck::Offload => "offload",
        v1::WhyCheck::Source => "source",
        v1::WhyCheck::Destination => "destination",
        v1::WhyCheck::Rule => "rule",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answer_fits_into_80_columns() {
        let step = |check: v1::WhyCheck, finding: &str, decides| v1::WhyStep {
            check: check.into(),
            decides,
            finding: finding.to_owned(),
        };
        let reason = v1::WhyReason {
            name: "port_down".to_owned(),
            meaning: "The egress device was down.".to_owned(),
            remedy: "word ".repeat(40).trim_end().to_owned(),
        };
        let lost = |port: &str| v1::WhyCopy {
            port: port.to_owned(),
            device: "up0".to_owned(),
            fate: Some(Fate::Lost(reason.clone())),
            may: vec!["flood_budget".to_owned()],
        };
        let copies = vec![lost("blue"), lost("red")];
        let answer = v1::WhyResponse {
            steps: vec![
                step(v1::WhyCheck::Length, "60 bytes, a payload within the MTU of 1500", false),
                step(v1::WhyCheck::Destination, "word ".repeat(40).trim_end(), true),
            ],
            outcome: Some(Outcome::Forwarded(v1::WhyForwarded { copies })),
            ..v1::WhyResponse::default()
        };
        let text = answer_text("vm1", &[0; 60], &answer);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("\n*  2. destination   word word"), "{text}");
        assert!(text.contains("\n                    word"), "{text}");
        assert_eq!(text.matches("The egress device was down.").count(), 1, "{text}");
        assert!(text.contains("\n  flood_budget at up0: More copies"), "{text}");
    }

    #[test]
    fn the_rule_that_decides_has_a_mark_and_a_drop_its_remedy() {
        let reason = DropReason::VlanTagged;
        let answer = v1::WhyResponse {
            steps: vec![v1::WhyStep {
                check: v1::WhyCheck::Vlan.into(),
                decides: true,
                finding: "an access port".to_owned(),
            }],
            outcome: Some(Outcome::Dropped(v1::WhyDropped {
                reason: Some(v1::WhyReason {
                    name: reason.name().to_owned(),
                    meaning: reason.meaning().to_owned(),
                    remedy: reason.remedy().to_owned(),
                }),
                port: "vm1".to_owned(),
            })),
            ..v1::WhyResponse::default()
        };
        let text = answer_text("vm1", &[0; 13], &answer);
        let expected = [
            "13 bytes",
            "into vm1",
            "",
            "*  1. vlan          an access port",
            "",
            "dropped, and counted at vm1 as vlan_tagged",
            "  An access port sent a tagged frame.",
            "  Make the port a trunk (`vlan = { trunk = [...] }`) or let the guest send",
            "  untagged.",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
