//! The command lines of `hairpin-bench show` and `compare`.

use std::path::PathBuf;

use crate::command_line::{self, Given, Options};
use crate::error::{Result, RigError};
use crate::suite::report::compare::LIMIT;

/// `show FILE [--html OUT]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Show {
    /// The run.
    pub file: PathBuf,
    /// Where its page goes.
    pub html: Option<PathBuf>,
}

/// `compare NEW OLD [--limit P]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Compare {
    /// The run that is judged.
    pub new: PathBuf,
    /// The run that it is compared with.
    pub old: PathBuf,
    /// By what share a figure may become worse.
    pub limit: f64,
}

/// What either may be given.
#[derive(Debug, Default)]
struct Words {
    files: Vec<PathBuf>,
    html: Option<PathBuf>,
    limit: Option<f64>,
}

impl Options for Words {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        match given.option() {
            "--html" => self.html = Some(given.value()?.into()),
            "--limit" => self.limit = Some(percentage(&given.value()?)?),
            option if option.starts_with('-') => given.refuse()?,
            file => self.files.push(file.into()),
        }
        Ok(())
    }
}

fn percentage(text: &str) -> Result<f64> {
    let percentage = text.parse().ok().filter(|value| (0.0..1000.0).contains(value));
    let refusal = || RigError::new(format!("--limit takes a percentage from 0, not {text:?}"));
    percentage.map(|value: f64| value / 100.0).ok_or_else(refusal)
}

impl Show {
    /// Reads what follows `show`; `None` asks for help.
    ///
    /// # Errors
    /// With what would be right.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let Some(words) = command_line::parse::<Words>(arguments)? else { return Ok(None) };
        match <[PathBuf; 1]>::try_from(words.files) {
            Ok([file]) if words.limit.is_none() => Ok(Some(Self { file, html: words.html })),
            _ => Err(RigError::new("usage: hairpin-bench show FILE [--html OUT]")),
        }
    }

    /// Prints the table, writes the page.
    ///
    /// # Errors
    /// As [`super::show`].
    pub fn run(&self) -> Result<()> {
        super::show(&self.file, self.html.as_deref())
    }
}

impl Compare {
    /// Reads what follows `compare`; `None` asks for help.
    ///
    /// # Errors
    /// With what would be right.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let Some(words) = command_line::parse::<Words>(arguments)? else { return Ok(None) };
        match <[PathBuf; 2]>::try_from(words.files) {
            Ok([new, old]) if words.html.is_none() => {
                Ok(Some(Self { new, old, limit: words.limit.unwrap_or(LIMIT) }))
            }
            _ => Err(RigError::new("usage: hairpin-bench compare NEW OLD [--limit PERCENT]")),
        }
    }

    /// Prints how figures have changed.
    ///
    /// # Errors
    /// As [`super::compare`].
    pub fn run(&self) -> Result<()> {
        super::compare(&self.new, &self.old, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn files_and_options_are_taken_in_any_order() {
        let show = Show { file: "a.json".into(), html: Some("a.html".into()) };
        assert_eq!(Show::parse(words("--html a.html a.json")).unwrap(), Some(show));
        let compare = Compare { new: "new".into(), old: "old".into(), limit: 0.025 };
        assert_eq!(Compare::parse(words("new old --limit 2.5")).unwrap(), Some(compare));
        assert_eq!(Compare::parse(words("new old")).unwrap().unwrap().limit, LIMIT);
        assert_eq!(Show::parse(words("--help")).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in ["", "a b", "a --limit 3"] {
            let said = Show::parse(words(line)).unwrap_err().to_string();
            assert_eq!(said, "usage: hairpin-bench show FILE [--html OUT]");
        }
        let said = Compare::parse(words("a b --limit x")).unwrap_err().to_string();
        assert_eq!(said, "--limit takes a percentage from 0, not \"x\"");
        assert!(Compare::parse(words("a")).is_err());
    }

    #[test]
    fn a_run_that_became_worse_fails_the_command() {
        use crate::suite::report::example;
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let html = folder.path().join("page.html");
        std::fs::write(&old, example::TEXT).unwrap();
        let worse = example::TEXT.replace("[11.737, 12.1, 12.342, 11.979, 12.221]", "[9, 9, 9]");
        let worse = worse.replace("\"median\": 12.1,", "\"median\": 9.0,");
        std::fs::write(&new, worse).unwrap();
        let compare = |new: &PathBuf| Compare { new: new.clone(), old: old.clone(), limit: LIMIT };
        compare(&old).run().unwrap();
        let said = compare(&new).run().unwrap_err().to_string();
        assert!(said.contains("ovs-dpdk") && said.contains("12.1 → 9.00"), "{said}");
        Show { file: old.clone(), html: Some(html.clone()) }.run().unwrap();
        assert!(std::fs::read_to_string(&html).unwrap().contains("<figure>"));
    }
}
