//! From TOML to a [`Config`], by hand rather than by derive: every error is
//! found, not only the first, and each one knows its line and its object.
//!
//! * [`leaf`] — values: names, addresses, VLANs, durations.
//! * [`fields`] — tables: known keys, unknown keys, missing keys.
//! * [`device`] — the device of a link or port; [`vhost_user`] — one of that kind.
//! * [`objects`] — links, channels, ports, bridges, mirrors.

pub mod device;
pub mod fields;
pub mod leaf;
pub mod objects;
pub mod vhost_user;

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, SwitchConfig};
use fields::Fields;

/// What reading found besides the configuration.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// Names of objects that are there but could not be read: a reference to one
    /// is not an error of its own.
    pub unread: BTreeSet<String>,
}

/// A text being read: where lines begin, and what was found.
#[derive(Debug)]
pub struct Reading {
    line_starts: Vec<usize>,
    findings: Findings,
}

impl Reading {
    fn new(text: &str) -> Reading {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Reading { line_starts, findings: Findings::default() }
    }

    /// The line, counted from 1, in which a span begins.
    fn line(&self, span: &Range<usize>) -> Option<u32> {
        u32::try_from(self.line_starts.partition_point(|&start| start <= span.start)).ok()
    }

    fn refuse(&mut self, error: ConfigError) {
        self.findings.errors.push(error);
    }
}

/// What the top level knows.
const TOP: &[&str] = &["switch", "link", "channel", "port", "bridge", "port-template", "mirror"];

/// Reads a text. Objects in which something is wrong are left out.
#[must_use]
pub fn read(text: &str) -> (Config, Findings) {
    let mut reading = Reading::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let line = error.span().and_then(|span| reading.line(&span));
            let problem = error.message().lines().collect::<Vec<_>>().join(", ");
            reading.refuse(
                ConfigError::new("configuration", "", &problem, "write valid TOML").at(line),
            );
        }
        return (Config::default(), reading.findings);
    }
    let config = read_document(&mut reading, table.get_ref());
    (config, reading.findings)
}

fn read_document(reading: &mut Reading, table: &DeTable<'_>) -> Config {
    let top = Fields::new("configuration", table, None);
    top.refuse_unknown(reading, TOP);
    let switch = match top.get("switch").map(Spanned::get_ref) {
        None => Some(SwitchConfig::default()),
        Some(DeValue::Table(table)) => objects::switch(reading, table),
        Some(_) => {
            top.refuse(reading, "switch", "it is not a table", "write [switch]");
            None
        }
    };
    Config {
        switch: switch.unwrap_or_default(),
        links: each(reading, &top, "link", objects::link),
        channels: each(reading, &top, "channel", objects::channel),
        ports: each(reading, &top, "port", objects::port),
        bridges: each(reading, &top, "bridge", objects::bridge),
        templates: each(reading, &top, "port-template", objects::template),
        mirrors: each(reading, &top, "mirror", objects::mirror),
    }
}

/// Reads every table of an array of tables; those that cannot be read are noted.
fn each<T>(
    reading: &mut Reading,
    top: &Fields<'_, '_>,
    kind: &'static str,
    read: impl Fn(&mut Reading, &mut Fields<'_, '_>) -> Option<T>,
) -> Vec<T> {
    let Some(value) = top.get(kind) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        let remedy = format!("write [[{kind}]] before each {kind}");
        top.refuse(reading, kind, "it is not an array of tables", &remedy);
        return Vec::new();
    };
    let mut objects = Vec::with_capacity(items.len());
    for item in items.iter() {
        let line = reading.line(&item.span());
        let DeValue::Table(table) = item.get_ref() else {
            top.refuse(reading, kind, "it is not a table", &format!("write [[{kind}]]"));
            continue;
        };
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let object = name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"));
        match read(reading, &mut Fields::new(&object, table, line)) {
            Some(object) => objects.push(object),
            None => reading.findings.unread.extend(name.map(str::to_owned)),
        }
    }
    objects
}
