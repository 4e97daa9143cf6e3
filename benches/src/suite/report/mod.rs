//! What is shown of a run: a table in the terminal, a page with plots, and what has become worse
//! since another run.
//!
//! [`run`] reads what was written down; [`table`] is the terminal's, [`page`] the browser's, of
//! [`chart`] (curves) and [`bars`] in SVG; [`compare`] is two runs beside each other.

use std::io::IsTerminal;
use std::path::Path;

use crate::error::{Context, Result, RigError};
use crate::suite::report::run::Run;
use crate::suite::report::table::Ink;

pub mod axis;
pub mod bars;
pub mod chart;
pub mod compare;
pub mod numbers;
pub mod options;
pub mod page;
pub mod run;
pub mod table;

/// A run for tests and for looking at: every kind of record.
#[doc(hidden)]
pub mod example {
    /// Its JSON lines.
    pub const TEXT: &str = include_str!("example.jsonl");
}

/// Shows a run: prints the table, and writes the page if a path for it is given.
///
/// # Errors
/// If the run cannot be read or the page not written.
pub fn show(file: &Path, html: Option<&Path>) -> Result<()> {
    show_run(&Run::read(file)?, html)
}

/// The same of a run that was just measured.
///
/// # Errors
/// If the page cannot be written.
pub fn show_run(run: &Run, html: Option<&Path>) -> Result<()> {
    print!("{}", table::text(run, ink()));
    let Some(html) = html else { return Ok(()) };
    let written = std::fs::write(html, page::html(run));
    written.context(format_args!("writing {}", html.display()))
}

/// Prints how a run's figures have changed since another's.
///
/// # Errors
/// If one cannot be read, or a figure has become worse by more than `limit` (0.05 is 5 %), noise
/// excluded: says which, and by how much.
pub fn compare(new: &Path, old: &Path, limit: f64) -> Result<()> {
    let (new, old) = (Run::read(new)?, Run::read(old)?);
    let comparison = compare::Comparison::of(&new, &old, limit);
    print!("{}", comparison.text(ink()));
    match comparison.complaint() {
        None => Ok(()),
        Some(complaint) => Err(RigError::new(complaint)),
    }
}

/// Colour on a terminal only, and only where nobody objects.
fn ink() -> Ink {
    match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => Ink::Colour,
        false => Ink::Plain,
    }
}
