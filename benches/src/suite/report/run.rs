//! A run as it was written down, and its figures in the groups in which they are shown.

use std::path::Path;

use crate::error::{Context, Result, RigError};
use crate::suite::record::{Curve, Header, Note, Parameters, Ratio, Record, Sample};

/// A run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// What ran, and where.
    pub header: Header,
    /// Figures, in the order of the file.
    pub samples: Vec<Sample>,
    /// Curves.
    pub curves: Vec<Curve>,
    /// Ratios of peers.
    pub ratios: Vec<Ratio>,
    /// What could not be measured.
    pub notes: Vec<Note>,
}

impl Run {
    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// With the line that is not understood; without a header.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).context(format_args!("reading {name}"))?;
        Self::parse(&text).context(name)
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// As [`Run::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut records = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let record = serde_json::from_str(line).context(format_args!("line {}", index + 1))?;
            records.push(record);
        }
        Self::of(records)
    }

    /// Sorts records.
    ///
    /// # Errors
    /// Without a header.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Result<Self> {
        let (mut run, mut header) = (Self::default(), None);
        for record in records {
            match record {
                Record::Header(record) => header = Some(record),
                Record::Sample(record) => run.samples.push(record),
                Record::Curve(record) => run.curves.push(record),
                Record::Ratio(record) => run.ratios.push(record),
                Record::Note(record) => run.notes.push(record),
            }
        }
        run.header = header.ok_or_else(|| {
            RigError::new("there is no header: this is not what hairpin-bench wrote")
        })?;
        Ok(run)
    }

    /// Peers that something was measured of, the header's first, in its order: a peer has the same
    /// colour and marker in each plot.
    #[must_use]
    pub fn peers(&self) -> Vec<&str> {
        let listed = self.header.peers.iter().map(|peer| peer.name.as_str());
        let of_samples = self.samples.iter().map(|sample| sample.peer.as_str());
        let of_curves = self.curves.iter().map(|curve| curve.peer.as_str());
        let measured: Vec<&str> = of_samples.chain(of_curves).collect();
        let mut found: Vec<&str> = listed.filter(|name| measured.contains(name)).collect();
        for name in measured {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }

    /// Figures of one test, scenario, metric and unit together.
    #[must_use]
    pub fn figures(&self) -> Vec<Vec<&Sample>> {
        group(&self.samples, |one, other| {
            (&one.test, &one.scenario, &one.metric, &one.unit)
                == (&other.test, &other.scenario, &other.metric, &other.unit)
        })
    }

    /// Curves that belong into one plot: only the peer differs.
    #[must_use]
    pub fn plots(&self) -> Vec<Vec<&Curve>> {
        group(&self.curves, |one, other| {
            (&one.test, &one.scenario, &one.parameters, &one.x, &one.y)
                == (&other.test, &other.scenario, &other.parameters, &other.x, &other.y)
        })
    }
}

/// Items that are alike together, both in the order in which they came.
fn group<T>(items: &[T], alike: impl Fn(&T, &T) -> bool) -> Vec<Vec<&T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    for item in items {
        match groups.iter_mut().find(|group| alike(group[0], item)) {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}

/// Parameters that are the same in all of a group, and those that are not, of each.
#[must_use]
pub fn parted(group: &[&Sample]) -> (Parameters, Vec<Parameters>) {
    let same = |name: &String, value: &String| {
        group.iter().all(|sample| sample.parameters.get(name) == Some(value))
    };
    let Some(first) = group.first() else { return (Parameters::new(), Vec::new()) };
    let mut common = first.parameters.clone();
    common.retain(|name, value| same(name, value));
    let own = group.iter().map(|sample| {
        let mut own = sample.parameters.clone();
        own.retain(|name, _| !common.contains_key(name));
        own
    });
    let own = own.collect();
    (common, own)
}

/// What was varied, in words: `size 64, flows 1`.
#[must_use]
pub fn conditions(parameters: &Parameters) -> String {
    let words: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{} {value}", spaced(name))).collect();
    words.join(", ")
}

/// A name as it is read: `frame_size` has a space.
#[must_use]
pub fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::report::example;

    #[test]
    fn a_run_is_read_line_by_line() {
        let run = Run::parse(example::TEXT).unwrap();
        assert_eq!(run.peers(), ["hairpin", "ovs-dpdk"]);
        assert_eq!(run.plots().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let figures: Vec<(&str, usize)> =
            run.figures().iter().map(|group| (group[0].metric.as_str(), group.len())).collect();
        assert_eq!(figures, [("PDR", 6), ("latency p99", 2)]);
        assert_eq!(conditions(&run.samples[0].parameters), "flows 1, size 64");
    }

    #[test]
    fn what_all_have_in_common_is_said_once() {
        let run = Run::parse(example::TEXT).unwrap();
        let (common, own) = parted(&run.figures()[0]);
        assert_eq!(conditions(&common), "flows 1");
        let own: Vec<String> = own.iter().map(conditions).collect();
        assert_eq!(own, ["size 64", "size 64", "size 512", "size 512", "size 1518", "size 1518"]);
    }

    #[test]
    fn what_is_no_run_is_refused_with_its_line() {
        let said = Run::parse("").unwrap_err().to_string();
        assert_eq!(said, "there is no header: this is not what hairpin-bench wrote");
        let said = Run::parse("\n{\"record\":\"sample\"}\n").unwrap_err().to_string();
        assert!(said.starts_with("line 2: missing field"), "{said}");
    }
}
