//! What was counted before, kept in a file beside the code, and what has grown since.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::callgrind::PerFrame;
use crate::error::{Context, Result, RigError};

/// By how much a count may grow: an addition to 1.
pub const GROWTH_MAX: f64 = 0.03;
/// The smallest share of a count that a function's line in the file is worth.
const SHARE_MIN: f64 = 0.002;
/// Functions that are named when a count has grown.
const NAMED_MAX: usize = 5;

const HEAD: &str = "\
# Instructions a frame, counted by callgrind, and what functions of ours they are of: each without
# those of ours that it calls, with what it calls of others (memcpy); functions under 0.2 % are left
# out. Whatever inlines whom, an instruction belongs to the function that it was written in.
# Written by `cargo run --release -p hairpin-bench --bin instructions -- --renew` (see there);
# without `--renew` that fails where a count has grown by more than 3 %.

";

/// Counts, by what was counted.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What `rustc --version` said: another one makes other instructions.
    pub compiler: String,
    /// Each count by its name.
    pub count: BTreeMap<String, Count>,
}

/// What one frame cost, in instructions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// All of them.
    pub total: f64,
    /// The functions that they are of, but for the smallest.
    pub function: BTreeMap<String, f64>,
}

/// A count beside that of the baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may be so.
    Within,
    /// It has grown past [`GROWTH_MAX`].
    Grown,
    /// It has shrunk by as much: until the baseline is renewed, nobody would see it grow again.
    Shrunk,
}

/// A function whose cost is another than before.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The function and its file.
    pub function: String,
    /// Instructions a frame before; 0 if it was too small for the baseline, or not there.
    pub before: f64,
    /// And now.
    pub now: f64,
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// If there is none, or it is not understood.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).context(format_args!(
            "reading the baseline {name} (`instructions --renew` writes it)"
        ))?;
        toml::from_str(&text).context(format_args!("the baseline {name}"))
    }

    /// Writes it, with a head that says what it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("writing the baseline")?;
        let written = std::fs::write(path, format!("{HEAD}{text}"));
        written.context(format_args!("writing the baseline {}", path.display()))
    }

    /// The count of this name.
    ///
    /// # Errors
    /// If there is none; says what to do.
    pub fn of(&self, name: &str) -> Result<&Count> {
        self.count.get(name).ok_or_else(|| {
            let remedy = "`instructions --renew` adds it";
            RigError::new(format!("the baseline has no count of {name:?}: {remedy}"))
        })
    }
}

impl Count {
    /// What of a count a baseline keeps, to a tenth of an instruction.
    #[must_use]
    pub fn of(counted: &PerFrame) -> Self {
        let round = |cost: f64| (cost * 10.0).round() / 10.0;
        let large = |cost: &f64| *cost >= counted.total * SHARE_MIN && round(*cost) > 0.0;
        let functions = counted.functions.iter().filter(|(_, cost)| large(cost));
        let function = functions.map(|(name, &cost)| (name.clone(), round(cost))).collect();
        Self { total: round(counted.total), function }
    }

    /// By what share it has changed; 0.01 is one more in a hundred.
    #[must_use]
    pub fn change(&self, now: &PerFrame) -> f64 {
        now.total / self.total - 1.0
    }

    /// What is to be said of a count, if this is what it was.
    #[must_use]
    pub fn judge(&self, now: &PerFrame) -> Verdict {
        match now.total {
            total if total > self.total * (1.0 + GROWTH_MAX) => Verdict::Grown,
            total if total < self.total * (1.0 - GROWTH_MAX) => Verdict::Shrunk,
            _ => Verdict::Within,
        }
    }

    /// The functions that have grown most, the largest growth first: those that make up a tenth
    /// of what has come to the count, and at least one.
    #[must_use]
    pub fn grown(&self, now: &PerFrame) -> Vec<Change> {
        let mut changes: Vec<Change> = now
            .functions
            .iter()
            .map(|(name, &now)| {
                let before = self.function.get(name).copied().unwrap_or_default();
                Change { function: name.clone(), before, now }
            })
            .collect();
        changes.sort_by(|one, other| other.growth().total_cmp(&one.growth()));
        let noticed = (now.total - self.total) * 0.1;
        let worth = |change: &Change| change.growth() > 0.0 && change.growth() >= noticed;
        let named = changes.iter().filter(|change| worth(change)).count().min(NAMED_MAX);
        changes.truncate(named);
        changes
    }

    /// A sentence on what has grown: the count and its functions.
    #[must_use]
    pub fn complain(&self, name: &str, now: &PerFrame) -> String {
        let mut said = format!(
            "{name}: {:.1} instructions a frame, {:.1} in the baseline: {:+.1} %, at most +{} %",
            now.total,
            self.total,
            self.change(now) * 100.0,
            GROWTH_MAX * 100.0
        );
        for change in self.grown(now) {
            // Writing to a string cannot fail.
            let _ = write!(said, "\n    {change}");
        }
        said
    }
}

impl Change {
    /// Instructions a frame that have come to it.
    #[must_use]
    pub fn growth(&self) -> f64 {
        self.now - self.before
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, before, now } = self;
        write!(f, "{function}: {before:.1} → {now:.1} ({:+.1})", self.growth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(functions: &[(&str, f64)]) -> PerFrame {
        let total = functions.iter().map(|(_, cost)| cost).sum();
        let functions = functions.iter().map(|&(name, cost)| (name.to_owned(), cost)).collect();
        PerFrame { total, functions }
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written_and_small_functions_are_left_out() {
        let now = counted(&[("turn (a.rs)", 100.04), ("rest (b.rs)", 899.96), ("few (c.rs)", 1.9)]);
        let baseline = Baseline {
            compiler: "rustc 1".to_owned(),
            count: [("a breath, 64 B".to_owned(), Count::of(&now))].into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instructions.toml");
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), baseline);
        let count = baseline.of("a breath, 64 B").unwrap();
        let function = [("turn (a.rs)", 100.0), ("rest (b.rs)", 900.0)];
        let function = function.map(|(name, cost)| (name.to_owned(), cost)).into();
        assert_eq!(*count, Count { total: 1001.9, function });
        let said = baseline.of("relay").unwrap_err().to_string();
        assert_eq!(said, "the baseline has no count of \"relay\": `instructions --renew` adds it");
        let said = Baseline::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(said.contains("none (`instructions --renew` writes it)"), "{said}");
    }

    #[test]
    fn three_in_a_hundred_are_allowed() {
        let count = Count::of(&counted(&[("turn", 1000.0)]));
        for (now, verdict) in [
            (1030.0, Verdict::Within),
            (1030.1, Verdict::Grown),
            (970.0, Verdict::Within),
            (969.9, Verdict::Shrunk),
        ] {
            assert_eq!(count.judge(&counted(&[("turn", now)])), verdict, "{now}");
        }
    }

    #[test]
    fn what_has_grown_is_named_and_what_merely_moved_is_not() {
        let before = counted(&[("turn", 400.0), ("copy", 300.0), ("edit", 300.0), ("few", 1.0)]);
        let now = counted(&[
            ("turn", 380.0),
            ("copy", 303.0),
            ("edit", 330.0),
            ("few", 1.0),
            ("mirror", 38.0),
        ]);
        let count = Count::of(&before);
        let named: Vec<String> =
            count.grown(&now).into_iter().map(|change| change.function).collect();
        assert_eq!(named, ["mirror", "edit"]);
        let said = count.complain("a breath", &now);
        let expected = "\
a breath: 1052.0 instructions a frame, 1001.0 in the baseline: +5.1 %, at most +3 %
    mirror: 0.0 → 38.0 (+38.0)
    edit: 300.0 → 330.0 (+30.0)";
        assert_eq!(said, expected);
    }
}
