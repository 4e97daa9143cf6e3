//! `KEY=VALUE` words of the command line, as what they wish for: an object of the
//! configuration, or changes to one.
//!
//! A word becomes a line of TOML, and what the words make together is read as a file is: the
//! same keys, the same bounds, the same things said of what is wrong. Lists and tables have
//! short forms: `mac=…,…`, `vlan=trunk:10,20-29,native:10`,
//! `device=vhost-user:/run/vm1.sock,role=server,queues=2`, `members=sbp0,blue:on`, `from=vm1,vif*`.

use anyhow::anyhow;
use hairpin_proto::v1;
use toml::Table;

use super::UsageError;
use crate::api::configs;
use crate::config::nearest::hint;
use crate::config::read::leaf::{self, Wrong};
use crate::config::read::objects;
use crate::config::write::{of_vlan, quoted};
use crate::config::{Config, ConfigError, ConfigErrors, read};

/// A kind of object that can be made by words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A link.
    Link,
    /// A channel.
    Channel,
    /// A bridge.
    Bridge,
    /// A port.
    Port,
    /// A port template.
    Template,
    /// A mirror.
    Mirror,
}

impl Kind {
    /// What one of them is called.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Link => "link",
            Kind::Channel => "channel",
            Kind::Bridge => "bridge",
            Kind::Port => "port",
            Kind::Template => "port-template",
            Kind::Mirror => "mirror",
        }
    }

    /// The keys that it has in a file, but for its name.
    #[must_use]
    pub fn keys(self) -> &'static [&'static str] {
        let all = match self {
            Kind::Link => objects::LINK_KEYS,
            Kind::Channel => objects::CHANNEL_KEYS,
            Kind::Bridge => objects::BRIDGE_KEYS,
            Kind::Port => objects::PORT_KEYS,
            Kind::Template => objects::TEMPLATE_KEYS,
            Kind::Mirror => objects::MIRROR_KEYS,
        };
        all.strip_prefix(&["name"]).unwrap_or(all)
    }
}

/// A word in its two parts.
///
/// # Errors
/// It has only one, or the key is not among these: exit code 2.
pub fn parts<'w>(word: &'w str, keys: &[&str]) -> Result<(&'w str, &'w str), UsageError> {
    let known = keys.join(", ");
    let (key, value) = word
        .split_once('=')
        .ok_or_else(|| UsageError(format!("{word:?} is not KEY=VALUE; keys are {known}")))?;
    if !keys.contains(&key) {
        let near = hint(key, keys.iter().copied());
        return Err(UsageError(format!("unknown key {key:?}{near}; keys are {known}")));
    }
    Ok((key, value))
}

/// An object that these words make.
///
/// # Errors
/// A word is none (exit code 2), or something is wrong with what they make.
pub fn object(kind: Kind, name: &str, words: &[String]) -> anyhow::Result<v1::Object> {
    changed(kind, name, "", words)
}

/// An object that these words make of what is written of it, in TOML.
///
/// # Errors
/// As [`object`].
pub fn changed(
    kind: Kind,
    name: &str,
    written: &str,
    words: &[String],
) -> anyhow::Result<v1::Object> {
    let mut table: Table = written.parse()?;
    table.insert("name".to_owned(), toml::Value::String(name.to_owned()));
    for word in words {
        let (key, value) = parts(word, kind.keys())?;
        let object = format!("{} {name}", kind.word());
        let value = self::value(key, value)
            .map_err(|Wrong { problem, remedy }| anyhow!("{object}: {key}: {problem}; {remedy}"))?;
        let line: Table = format!("{key} = {value}").parse()?;
        table.extend(line);
    }
    Ok(v1::Object { kind: Some(read_one(kind, table)?) })
}

/// Reads an object as if it stood in a file.
fn read_one(kind: Kind, table: Table) -> Result<v1::object::Kind, ConfigErrors> {
    let mut file = Table::new();
    let objects = toml::Value::Array(vec![toml::Value::Table(table)]);
    file.insert(kind.word().to_owned(), objects);
    let (config, findings) = read::read(&file.to_string());
    if !findings.errors.is_empty() {
        let errors = findings.errors.into_iter().map(|error| error.at(None));
        return Err(ConfigErrors::new(errors.collect()));
    }
    let Config { links, channels, ports, bridges, templates, mirrors, .. } = config;
    use v1::object::Kind as Object;
    let read = match kind {
        Kind::Link => links.first().map(|it| Object::Link(configs::link(it))),
        Kind::Channel => channels.first().map(|it| Object::Channel(configs::channel(it))),
        Kind::Bridge => bridges.first().map(|it| Object::Bridge(configs::bridge(it))),
        Kind::Port => ports.first().map(|it| Object::Port(configs::port(it))),
        Kind::Template => templates.first().map(|it| Object::Template(configs::template(it))),
        Kind::Mirror => mirrors.first().map(|it| Object::Mirror(configs::mirror(it))),
    };
    read.ok_or_else(|| {
        ConfigError::new(kind.word(), "", "it could not be read", "report this").into()
    })
}

/// A value as TOML has it.
fn value(key: &str, text: &str) -> Result<String, Wrong> {
    match key {
        "mtu" | "svid" | "learn-limit" => Ok(number(text)),
        "mac" | "from" => {
            let items = text.split(',').map(|item| quoted(item.trim()).to_string());
            Ok(format!("[{}]", items.collect::<Vec<_>>().join(", ")))
        }
        "vlan" => {
            let vlan = leaf::vlan_words(text)?;
            let remedy = "write access:10 or trunk:10,20-29, or leave it out";
            of_vlan(&vlan).ok_or_else(|| Wrong::new("transparent is what holds without", remedy))
        }
        "device" => Ok(device(text)),
        "members" => {
            let members = text.split(',').map(member);
            Ok(format!("[{}]", members.collect::<Vec<_>>().join(", ")))
        }
        _ => Ok(quoted(text).to_string()),
    }
}

/// A number as it is; what is none is put in quotes, for the reader to say so.
fn number(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => quoted(text).to_string(),
    }
}

/// `KIND:NAME,key=value,…`: the name is that of an interface or socket.
fn device(text: &str) -> String {
    let mut words = text.split(',');
    let (kind, name) = words.next().and_then(|it| it.split_once(':')).unwrap_or((text, ""));
    let key = if kind == "vhost-user" { "socket" } else { "interface" };
    let mut fields = vec![format!("{key} = {}", quoted(name))];
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, "true"));
        let value = match key {
            "take-over" if matches!(value, "true" | "false") => value.to_owned(),
            "queues" => number(value),
            _ => quoted(value).to_string(),
        };
        fields.push(format!("{} = {value}", quoted(key)));
    }
    format!("{{ {} = {{ {} }} }}", quoted(kind), fields.join(", "))
}

/// A device in its short form.
///
/// # Errors
/// What is wrong with it.
pub fn device_of(text: &str) -> Result<v1::DeviceConfig, ConfigErrors> {
    // The link that has it is of no matter.
    let unread = |_| ConfigError::new("device", "", "it is no word", "write KIND:NAME");
    let table = format!("name = \"x\"\nrole = \"station\"\ndevice = {}", device(text)).parse();
    match read_one(Kind::Link, table.map_err(unread)?)? {
        v1::object::Kind::Link(v1::LinkConfig { device: Some(device), .. }) => Ok(device),
        _ => Err(ConfigError::new("device", "", "it could not be read", "report this").into()),
    }
}

/// `CHANNEL`, `CHANNEL:on` or `CHANNEL:on:RATE`.
fn member(text: &str) -> String {
    let mut parts = text.split(':');
    let channel = quoted(parts.next().unwrap_or_default());
    let relay = parts.next().map(|relay| format!(", reflective-relay = {}", quoted(relay)));
    let rate = parts.next().map(|rate| format!(", reflected-group-rate = {}", number(rate)));
    let (relay, rate) = (relay.unwrap_or_default(), rate.unwrap_or_default());
    format!("{{ channel = {channel}{relay}{rate} }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn said(kind: Kind, text: &str) -> String {
        object(kind, "x", &words(text)).unwrap_err().to_string()
    }

    #[test]
    fn words_make_what_a_file_would() {
        let made = object(
            Kind::Port,
            "vm1",
            &words(
                "channel=up0 mode=veb device=vhost-user:/run/vm1.sock,role=server,queues=2 \
                 mac=52:54:00:00:00:01,52:54:00:00:00:02 vlan=trunk:10,20-21,native:10",
            ),
        );
        let written = r#"
            name = "vm1"
            channel = "up0"
            mode = "veb"
            device = { vhost-user = { socket = "/run/vm1.sock", role = "server", queues = 2 } }
            mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
            vlan = { trunk = [10, 20, 21], native = 10 }
        "#;
        assert_eq!(made.unwrap().kind, read_one(Kind::Port, written.parse().unwrap()).ok());
        let made = object(Kind::Bridge, "br0", &words("members=sbp0,blue:on:50")).unwrap();
        let written = r#"
            name = "br0"
            members = [{ channel = "sbp0" }, { channel = "blue", reflective-relay = "on", reflected-group-rate = 50 }]
        "#;
        assert_eq!(made.kind, read_one(Kind::Bridge, written.parse().unwrap()).ok());
    }

    #[test]
    fn words_change_what_is_named_and_leave_the_rest() {
        let written = "role = \"station\"\nmtu = 1500\n";
        let made = changed(Kind::Link, "up0", written, &words("mtu=9000")).unwrap();
        let expected = object(Kind::Link, "up0", &words("role=station mtu=9000")).unwrap();
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_wrong_is_said_as_of_a_file() {
        let out = "link x: mtu: 12 is out of range; write a number from 68 to 65521";
        assert_eq!(said(Kind::Link, "role=station mtu=12"), out);
        let not = "channel x: svid: \"blue\" is not an S-VID; write a number from 2 to 4094; S-VID \
                   1 is the default channel, which exists by itself";
        assert_eq!(said(Kind::Channel, "link=up0 svid=blue"), not);
        let near = "unknown key \"mdoe\" (did you mean mode?); keys are ";
        assert!(said(Kind::Port, "mdoe=veb").starts_with(near));
        let kind = said(Kind::Port, "channel=up0 mode=veb device=vhots:/run/x");
        assert!(kind.contains("\"vhots\" is not a kind of device"), "{kind}");
        // Nothing gets out of its quotes.
        let quotes = said(Kind::Port, "channel=up0\"\nmode=\"veb device=tap:t");
        assert!(quotes.contains("is not a name"), "{quotes}");
    }
}
