//! What the measuring programs have in common from their start to their end.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::error::{Context, Result, RigError};
use crate::interrupt;

/// A measuring program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, before what it says of errors.
    pub name: &'static str,
    /// What `--help` prints.
    pub help: &'static str,
}

impl Program {
    /// Does what the command line asks for: prints the help, or has `run` measure. Says on
    /// standard error what went wrong.
    pub fn main<O>(
        &self,
        parse: impl FnOnce(std::iter::Skip<std::env::Args>) -> Result<Option<O>>,
        run: impl FnOnce(O) -> Result<()>,
    ) -> ExitCode {
        let said = match parse(std::env::args().skip(1)) {
            Ok(None) => {
                print!("{}", self.help);
                Ok(())
            }
            Ok(Some(options)) => run(options),
            Err(error) => Err(error),
        };
        end(self.name, said)
    }
}

/// How a program ends; says on standard error what went wrong.
#[must_use]
pub fn end(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes ready to measure as root; from now on SIGINT and SIGTERM end the run at its next
/// step. `what` needs root, in the plural.
///
/// # Errors
/// Without root, or if signals cannot be caught.
pub fn begin_as_root(what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(RigError::new(format!("run this as root: {what} need it")));
    }
    interrupt::install()
}

/// Writes all figures into a file, if one is named.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(path: Option<&Path>, figures: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let written = std::fs::write(path, format!("{figures:#}\n"));
    written.context(format_args!("writing {}", path.display()))
}
