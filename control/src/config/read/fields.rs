//! A table's fields, taken by name.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Reading;
use super::leaf::{Leaf, Wrong};
use crate::config::nearest::hint;
use crate::config::{At, ConfigError};

/// Keys that a later version will know, with what they come with.
const COMING: &[(&str, &str)] = &[
    ("evb", "comes with EVB"),
    ("cdcp", "comes with EVB"),
    ("vdp", "comes with EVB"),
    ("lldp", "comes with EVB"),
    ("devices", "comes with standby uplinks; for now give one `device`"),
    ("addresses", "comes with address guards"),
];

/// The fields of one object.
#[derive(Debug)]
pub struct Fields<'t, 'i> {
    /// Kind and name, as `port vm1`.
    object: String,
    table: &'t DeTable<'i>,
    /// Where the object begins.
    line: Option<u32>,
    /// How much of it was refused.
    refused: std::cell::Cell<usize>,
}

impl<'t, 'i> Fields<'t, 'i> {
    /// The fields of a table.
    #[must_use]
    pub fn new(object: &str, table: &'t DeTable<'i>, line: Option<u32>) -> Fields<'t, 'i> {
        Fields { object: object.to_owned(), table, line, refused: std::cell::Cell::new(0) }
    }

    /// A field as it stands.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// Kind and name.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Where the object begins.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Refuses a field's value, or its absence.
    pub fn refuse(&self, reading: &mut Reading, key: &str, problem: &str, remedy: &str) {
        self.note_refusal();
        let line = self.get(key).map_or(self.line, |value| reading.line(&value.span()));
        reading.refuse(ConfigError::new(&self.object, key, problem, remedy).at(line));
    }

    /// Notes that something within the object was refused.
    pub fn note_refusal(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// Refuses keys that are not among these, naming these.
    pub fn refuse_unknown(&self, reading: &mut Reading, known: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            self.note_refusal();
            let line = reading.line(&key.span());
            let coming = COMING.iter().find(|(key, _)| *key == name);
            let (problem, remedy) = match coming {
                Some((_, when)) => {
                    ("this version does not know this key".to_owned(), (*when).to_owned())
                }
                None => (
                    format!("unknown key{}", hint(name, known.iter().copied())),
                    format!("known keys are {}", known.join(", ")),
                ),
            };
            let field = as_written(name);
            reading.refuse(ConfigError::new(&self.object, &field, &problem, &remedy).at(line));
        }
    }

    /// A field that may be absent; one that is wrong is refused and then absent.
    pub fn optional<T>(&self, reading: &mut Reading, key: &str, leaf: Leaf<T>) -> Option<At<T>> {
        let value = self.get(key)?;
        let line = reading.line(&value.span());
        match leaf(value.get_ref()) {
            Ok(value) => Some(At { value, line }),
            Err(Wrong { problem, remedy }) => {
                self.refuse(reading, key, &problem, &remedy);
                None
            }
        }
    }

    /// A field that must be there.
    pub fn required<T>(
        &self,
        reading: &mut Reading,
        key: &str,
        leaf: Leaf<T>,
        example: &str,
    ) -> Option<At<T>> {
        if self.get(key).is_none() {
            self.refuse(reading, key, "it is missing", &format!("write {key} = {example}"));
        }
        self.optional(reading, key, leaf)
    }

    /// What was read, if nothing of it was refused.
    #[must_use]
    pub fn unless_refused<T>(&self, read: Option<T>) -> Option<T> {
        read.filter(|_| self.refused.get() == 0)
    }
}

/// A key as TOML has it: in quotes unless it is a bare one.
fn as_written(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !key.is_empty() && key.bytes().all(is_bare) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    }
}
