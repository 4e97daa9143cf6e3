//! Programs that do one thing and end.

use std::process::Command;

use super::error::{BedError, Result};

/// Runs a program to its end and gives its standard output.
///
/// # Errors
/// If it is not installed, or fails: then with what it wrote.
pub fn run(words: &[&str]) -> Result<String> {
    let line = words.join(" ");
    let (program, arguments) =
        words.split_first().ok_or_else(|| BedError::new("an empty command"))?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(BedError::while_doing(format_args!("`{line}` cannot be run")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(text.into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(BedError::new(format_args!("`{line}`: {}\n{text}{complaint}", output.status)))
}
