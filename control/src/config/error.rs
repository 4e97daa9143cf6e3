//! What is wrong with a configuration: where, of which object, and what would
//! be right.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file, if it came from one.
    pub file: Option<String>,
    /// The line, counted from 1, if it came from a file.
    pub line: Option<u32>,
    /// Kind and name, as `port vm1`.
    pub object: String,
    /// The key; empty where the object itself is meant.
    pub field: String,
    /// What is wrong, with the value.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl ConfigError {
    /// An error without a place.
    #[must_use]
    pub fn new(object: &str, field: &str, problem: &str, remedy: &str) -> ConfigError {
        ConfigError {
            file: None,
            line: None,
            object: object.to_owned(),
            field: field.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    /// The error, in this line.
    #[must_use]
    pub fn at(self, line: Option<u32>) -> ConfigError {
        ConfigError { line, ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong, in the order of lines; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// These errors, sorted by line.
    #[must_use]
    pub fn new(mut errors: Vec<ConfigError>) -> ConfigErrors {
        errors.sort_by_key(|error| error.line);
        ConfigErrors(errors)
    }

    /// The errors, naming this file.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> ConfigErrors {
        self.0.iter_mut().for_each(|error| error.file = Some(file.to_owned()));
        self
    }

    /// The errors one by one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }

    /// The errors one by one.
    #[must_use]
    pub fn into_errors(self) -> Vec<ConfigError> {
        self.0
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
