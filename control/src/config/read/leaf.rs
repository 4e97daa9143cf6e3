//! Single values: what they may be, and what is said when they are not.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_dataplane::sys::tun::InterfaceName;
use hairpin_dataplane::wire::{Mac, SVid, VlanId};
use toml::de::DeValue;

use crate::config::mirror::FRAMES;
use crate::config::nearest::hint;
use crate::config::{ApiOthers, LinkRole, MTU_MAX, MTU_MIN, MetricsAddress, Poll, VlanConfig};

/// Reads a value.
pub type Leaf<T> = fn(&DeValue<'_>) -> Result<T, Wrong>;

/// Why a value is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What is wrong, with the value.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl Wrong {
    /// A refusal.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Wrong {
        Wrong { problem: problem.into(), remedy: remedy.into() }
    }
}

/// How a value is shown in a message.
pub fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        other => format!("this {}", other.type_str()),
    }
}

/// A text.
pub fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    value
        .as_str()
        .ok_or_else(|| Wrong::new(format!("{} is not a text", shown(value)), "write it in quotes"))
}

/// A whole number, in whichever radix it is written; nothing if `T` does not hold it.
fn whole<T: TryFrom<u64>>(value: &DeValue<'_>) -> Option<T> {
    let number = value.as_integer()?;
    let digits = number.as_str().replace('_', "");
    u64::from_str_radix(&digits, number.radix()).ok()?.try_into().ok()
}

/// A whole number in bounds.
pub fn number(value: &DeValue<'_>, bounds: RangeInclusive<u64>) -> Result<u64, Wrong> {
    let number = whole(value).filter(|number| bounds.contains(number));
    number.ok_or_else(|| out_of_range(&shown(value), &bounds))
}

/// A number, if it is in bounds.
pub fn in_range(number: u64, bounds: RangeInclusive<u64>) -> Result<u64, Wrong> {
    match bounds.contains(&number) {
        true => Ok(number),
        false => Err(out_of_range(&number.to_string(), &bounds)),
    }
}

fn out_of_range(shown: &str, bounds: &RangeInclusive<u64>) -> Wrong {
    let (least, most) = (bounds.start(), bounds.end());
    Wrong::new(format!("{shown} is out of range"), format!("write a number from {least} to {most}"))
}

/// The name of a link, channel, port or bridge.
pub fn name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if is_name(name) {
        return Ok(name.to_owned());
    }
    Err(Wrong::new(
        format!("{name:?} is not a name"),
        "write 1 to 64 letters, digits, '-', '_' or '.', a letter or digit first",
    ))
}

/// Whether an object may be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 64
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The name of a port or link, or a pattern of such.
pub fn source(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    // What stands in a star's place is a letter of a name.
    if is_name(&name.replace(['*', '?'], "x")) {
        return Ok(name.to_owned());
    }
    Err(Wrong::new(
        format!("{name:?} is neither a name nor a pattern of one"),
        "write 1 to 64 letters, digits, '-', '_' or '.', or '*' for any letters and '?' for one",
    ))
}

/// Which frames a mirror copies.
pub fn frames(value: &DeValue<'_>) -> Result<Mirrored, Wrong> {
    word(value, "a choice of frames", FRAMES)
}

/// The name of a netdev, as its device takes it when it is opened.
pub fn interface(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if InterfaceName::new(name).is_some() {
        return Ok(name.to_owned());
    }
    Err(Wrong::new(
        format!("{name:?} is not an interface name"),
        "write 1 to 15 printable ASCII characters without '/', ':', '%' or blanks",
    ))
}

/// One of some words.
pub fn word<T: Copy>(value: &DeValue<'_>, what: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let given = text(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(Wrong::new(
        format!("{given:?} is not {what}{}", hint(given, known.iter().copied())),
        format!("write {}", alternatives(&known)),
    ))
}

/// `a, b or c`.
#[must_use]
pub fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [firsts @ .., last] => format!("{} or {last}", firsts.join(", ")),
    }
}

/// A mode's names.
pub const MODES: &[(&str, Mode)] = &[
    ("veb", Mode::Veb),
    ("vepa", Mode::Vepa),
    ("private", Mode::Private),
    ("direct", Mode::Direct),
];

/// A mode.
pub fn mode(value: &DeValue<'_>) -> Result<Mode, Wrong> {
    word(value, "a mode", MODES)
}

/// A link's role.
pub fn role(value: &DeValue<'_>) -> Result<LinkRole, Wrong> {
    word(value, "a role", &[("station", LinkRole::Station), ("bridge", LinkRole::Bridge)])
}

/// Up or down.
pub fn admin(value: &DeValue<'_>) -> Result<Admin, Wrong> {
    word(value, "a state", &[("up", Admin::Up), ("down", Admin::Down)])
}

/// Whether a netdev is taken over that the host itself uses.
pub fn take_over(value: &DeValue<'_>) -> Result<HostsOwn, Wrong> {
    match value.as_bool() {
        Some(true) => Ok(HostsOwn::TakeOver),
        Some(false) => Ok(HostsOwn::Refuse),
        None => Err(Wrong::new(format!("{} is neither", shown(value)), "write true or false")),
    }
}

/// By which path an AF_XDP device's frames are to come.
pub fn xdp_mode(value: &DeValue<'_>) -> Result<xdp::Mode, Wrong> {
    let words = [
        ("auto", xdp::Mode::Auto),
        ("zero-copy", xdp::Mode::Only(xdp::DataPath::ZeroCopy)),
        ("copy", xdp::Mode::Only(xdp::DataPath::Copy)),
        ("generic", xdp::Mode::Only(xdp::DataPath::Generic)),
    ];
    word(value, "a mode of xdp", &words)
}

/// A poll policy.
pub fn poll(value: &DeValue<'_>) -> Result<Poll, Wrong> {
    word(value, "a poll policy", &[("adaptive", Poll::Adaptive), ("busy", Poll::Busy)])
}

/// What the API lets other users do.
pub fn api_others(value: &DeValue<'_>) -> Result<ApiOthers, Wrong> {
    let words = [("read", ApiOthers::Read), ("nothing", ApiOthers::Nothing)];
    word(value, "a right", &words)
}

/// `off` (no rate yet) or `on`.
pub fn reflective_relay(value: &DeValue<'_>) -> Result<Reflection, Wrong> {
    if value.as_str() == Some("auto") {
        return Err(Wrong::new("\"auto\" comes with EVB", "write on or off for now"));
    }
    word(value, "a setting", &[("off", Reflection::Off), ("on", Reflection::On)])
}

/// Whether frames are reflected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reflection {
    /// They are not.
    Off,
    /// They are.
    On,
}

/// An S-VID.
pub fn svid(value: &DeValue<'_>) -> Result<SVid, Wrong> {
    if value.as_str() == Some("auto") {
        return Err(Wrong::new("\"auto\" comes with EVB", "write an S-VID from 2 to 4094 for now"));
    }
    whole(value).and_then(SVid::new).ok_or_else(|| not_an_svid(&shown(value)))
}

/// That a number is no S-VID.
pub fn not_an_svid(shown: &str) -> Wrong {
    Wrong::new(
        format!("{shown} is not an S-VID"),
        "write a number from 2 to 4094; S-VID 1 is the default channel, which exists by itself",
    )
}

/// MTUs in bytes.
pub const MTU: RangeInclusive<u64> = MTU_MIN as u64..=MTU_MAX as u64;
/// How many addresses a port may learn.
pub const LEARN_LIMIT: RangeInclusive<u64> = 1..=1 << 20;
/// Frames per second.
pub const RATE: RangeInclusive<u64> = 1..=1_000_000_000;
/// How many addresses a switch may learn.
pub const CAPACITY: RangeInclusive<u64> = 64..=1 << 24;
/// Milliseconds that an address may live unused: 1 s to 1,000,000 s, the range of
/// 802.1Q-2022 table 8-6.
pub const AGEING_MS: RangeInclusive<u64> = 1000..=1_000_000_000;

/// An MTU.
pub fn mtu(value: &DeValue<'_>) -> Result<u32, Wrong> {
    number(value, MTU).map(|mtu| mtu as u32)
}

/// How many addresses a port may learn.
pub fn learn_limit(value: &DeValue<'_>) -> Result<u32, Wrong> {
    number(value, LEARN_LIMIT).map(|limit| limit as u32)
}

/// Frames per second.
pub fn rate(value: &DeValue<'_>) -> Result<u32, Wrong> {
    number(value, RATE).map(|rate| rate as u32)
}

/// How many addresses a switch may learn.
pub fn capacity(value: &DeValue<'_>) -> Result<usize, Wrong> {
    number(value, CAPACITY).map(|capacity| capacity as usize)
}

/// A span of time such as `300s`, within [`AGEING_MS`].
pub fn ageing(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{} is not an ageing time", shown(value)),
            "write a span from \"1s\" to \"1000000s\", in ms, s, m or h, as \"300s\"",
        )
    };
    let text = value.as_str().ok_or_else(wrong)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let ms_each = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let ms = count.checked_mul(ms_each).filter(|ms| AGEING_MS.contains(ms));
    ms.map(Duration::from_millis).ok_or_else(wrong)
}

/// The address of the API's socket.
pub fn api(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let address = text(value)?;
    api_path(address).ok_or_else(|| {
        Wrong::new(
            format!("{address:?} is not an address"),
            "write unix: and an absolute path of at most 107 bytes, as \
             \"unix:/run/hairpin/api.sock\"",
        )
    })
}

/// Where metrics are offered.
pub fn metrics(value: &DeValue<'_>) -> Result<MetricsAddress, Wrong> {
    let address = text(value)?;
    MetricsAddress::read(address).ok_or_else(|| {
        Wrong::new(
            format!("{address:?} is not an address for metrics"),
            "write one IP address of the host's and a port, as \"127.0.0.1:9750\", or unix: and an \
             absolute path of at most 107 bytes, as \"unix:/run/hairpin/metrics.sock\"",
        )
    })
}

/// The path in `unix:/path`, as sockaddr_un can hold it.
#[must_use]
pub fn api_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:"))?;
    // One slash is enough: with two it would begin like what stands before it.
    let rest = path.trim_start_matches('/');
    let absolute = path.starts_with('/').then(|| format!("/{rest}"))?;
    (absolute.len() <= 107).then(|| PathBuf::from(absolute))
}

/// An absolute directory.
pub fn directory(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Wrong::new(format!("{path:?} is not absolute"), "begin the path with /"))
}

/// CPUs, each once.
pub fn cpus(value: &DeValue<'_>) -> Result<Vec<usize>, Wrong> {
    let remedy = "write CPU numbers, each once, as [1, 2]";
    let items = value
        .as_array()
        .ok_or_else(|| Wrong::new(format!("{} is not a list", shown(value)), remedy))?;
    let numbers: Result<Vec<u64>, Wrong> =
        items.iter().map(|item| number(item.get_ref(), CPUS)).collect();
    distinct_cpus(numbers?.into_iter())
}

/// Numbers of CPUs.
const CPUS: RangeInclusive<u64> = 0..=1023;

/// CPUs by number, each once.
pub fn distinct_cpus(numbers: impl Iterator<Item = u64>) -> Result<Vec<usize>, Wrong> {
    let mut cpus = Vec::new();
    for number in numbers {
        let cpu = in_range(number, CPUS)? as usize;
        if cpus.contains(&cpu) {
            let remedy = "write CPU numbers, each once, as [1, 2]";
            return Err(Wrong::new(format!("CPU {cpu} is there twice"), remedy));
        }
        cpus.push(cpu);
    }
    Ok(cpus)
}

/// A station's address: neither group nor zero.
pub fn mac(value: &DeValue<'_>) -> Result<Mac, Wrong> {
    let remedy = "write six octets as \"52:54:00:00:00:01\"";
    let mac = Mac::from_str(text(value)?)
        .map_err(|_| Wrong::new(format!("{} is not a MAC address", shown(value)), remedy))?;
    if mac.is_group() {
        let remedy = "write an address with an even first octet: stations own no group address";
        return Err(Wrong::new(format!("{mac} is a group address"), remedy));
    }
    if !mac.is_station() {
        return Err(Wrong::new("the zero address belongs to no station", remedy));
    }
    Ok(mac)
}

/// A VLAN as a number.
fn vlan_number(value: &DeValue<'_>) -> Result<VlanId, Wrong> {
    whole(value).and_then(VlanId::new).ok_or_else(|| not_a_vlan(&shown(value)))
}

/// That a number is no VLAN.
pub fn not_a_vlan(shown: &str) -> Wrong {
    Wrong::new(
        format!("{shown} is not a VLAN"),
        "write a number from 1 to 4094 (0 means no VLAN, 4095 is reserved)",
    )
}

/// One VLAN.
pub fn vlan_id(value: &DeValue<'_>) -> Result<VlanId, Wrong> {
    vlan_number(value)
}

/// VLANs: numbers and ranges.
pub fn vlan_list(value: &DeValue<'_>) -> Result<Vec<VlanId>, Wrong> {
    let items = value.as_array().filter(|items| !items.is_empty()).ok_or_else(|| {
        Wrong::new(
            format!("{} is not a list of VLANs", shown(value)),
            "write numbers and ranges, as [10, \"20-29\"]",
        )
    })?;
    let mut members = Vec::new();
    for item in items.iter() {
        match item.get_ref() {
            DeValue::String(range) => members.extend(vlan_range(range)?),
            other => members.push(vlan_number(other)?),
        }
    }
    members.sort_unstable();
    members.dedup();
    Ok(members)
}

/// `20-29`, or `20`.
pub fn vlan_range(range: &str) -> Result<Vec<VlanId>, Wrong> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let id = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = if digits { text.parse().ok().and_then(VlanId::new) } else { None };
        id.ok_or_else(|| not_a_vlan(&format!("{text:?} in {range:?}")))
    };
    let (first, last) = (id(first)?, id(last)?);
    if first > last {
        let remedy = format!("write \"{last}-{first}\"");
        return Err(Wrong::new(format!("the range {range:?} runs backwards"), remedy));
    }
    Ok((first.get()..=last.get()).filter_map(VlanId::new).collect())
}

/// VLANs in the short form of the command line: `transparent`, `access:10`,
/// `trunk:10,20-29`, `trunk:10,20-29,native:10`.
///
/// # Errors
/// What is wrong with it.
pub fn vlan_words(words: &str) -> Result<VlanConfig, Wrong> {
    if words == "transparent" {
        return Ok(VlanConfig::Transparent);
    }
    let one = |text: &str| {
        let ids = vlan_range(text)?;
        if let [id] = ids[..] { Ok(id) } else { Err(not_a_vlan(&format!("{text:?}"))) }
    };
    if let Some(access) = words.strip_prefix("access:") {
        return one(access).map(VlanConfig::Access);
    }
    let Some(list) = words.strip_prefix("trunk:") else {
        return Err(Wrong::new(
            format!("{words:?} is not a VLAN policy"),
            "write transparent, access:10, trunk:10,20-29 or trunk:10,20-29,native:10",
        ));
    };
    let (mut members, mut native) = (Vec::new(), None);
    for item in list.split(',') {
        match item.strip_prefix("native:") {
            Some(id) => native = Some(one(id)?),
            None => members.extend(vlan_range(item)?),
        }
    }
    members.sort_unstable();
    members.dedup();
    Ok(VlanConfig::Trunk { members, native })
}
