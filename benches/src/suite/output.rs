//! Where records go: a file of JSON lines; a line each on standard error, so that
//! a long run is seen to go on; and all of them at its end.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::record::{Bound, Ratio, Record, Sample};
use crate::error::{Context, Result};

/// Where records go.
#[derive(Debug)]
pub struct Output {
    file: Option<File>,
    records: Vec<Record>,
}

impl Output {
    /// Begins a file, if one is named.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let create =
            |path: &Path| File::create(path).context(format_args!("creating {}", path.display()));
        Ok(Output { file: path.map(create).transpose()?, records: Vec::new() })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If the file takes no more.
    pub fn write(&mut self, record: Record) -> Result<()> {
        if let Some(line) = line(&record) {
            eprintln!("{line}");
        }
        if let Some(file) = &mut self.file {
            let text = serde_json::to_string(&record).context("a record")?;
            writeln!(file, "{text}").context("writing a record")?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Writes a record unless the same was written before.
    ///
    /// # Errors
    /// If the file takes no more.
    pub fn write_once(&mut self, record: Record) -> Result<()> {
        if self.records.contains(&record) {
            return Ok(());
        }
        self.write(record)
    }

    /// All that was written.
    #[must_use]
    pub fn records(self) -> Vec<Record> {
        self.records
    }
}

/// What the terminal shows of a record; nothing of curves and the header.
fn line(record: &Record) -> Option<String> {
    let shown = |parameters: &super::record::Parameters| -> String {
        parameters.iter().map(|(name, value)| format!(" {name} {value}")).collect()
    };
    match record {
        Record::Header(_) | Record::Curve(_) => None,
        Record::Sample(sample) => {
            let [low, high] = sample.interval;
            let mark = match sample.bound {
                Bound::None => "",
                Bound::Generator => " (bound by the generator)",
            };
            let what = shown(&sample.parameters);
            let Sample { test, scenario, peer, metric, median, unit, .. } = sample;
            Some(format!(
                "{test} {scenario}{what} {peer}: {metric} {median:.1} {unit} [{low:.1}, {high:.1}]{mark}"
            ))
        }
        Record::Ratio(ratio) => {
            let [low, high] = ratio.interval;
            let what = shown(&ratio.parameters);
            let Ratio { test, scenario, of, to, metric, median, .. } = ratio;
            Some(format!(
                "{test} {scenario}{what} {of} : {to}: {metric} {median:.3} [{low:.3}, {high:.3}]"
            ))
        }
        Record::Note(note) => Some(format!("{}: {}", note.subject(), note.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::record::Note;

    #[test]
    fn each_record_is_a_line_that_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        let note = |text: &str| {
            let [test, scenario, peer] = ["loss", "v2v", "a"].map(str::to_owned);
            Record::Note(Note { test, scenario, peer, text: text.to_owned() })
        };
        let records = [note("first\nline"), note("second")];
        let mut output = Output::open(Some(&path)).unwrap();
        records.iter().for_each(|record| output.write(record.clone()).unwrap());
        output.write_once(records[0].clone()).unwrap();
        assert_eq!(output.records(), records);
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Record> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, records);
        assert_eq!(line(&records[1]).unwrap(), "loss, v2v, a: second");
    }
}
