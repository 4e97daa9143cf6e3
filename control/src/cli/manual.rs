//! `hairpin man`: manual pages, one for each command, out of what `--help` says.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;
use serde_json::json;

use super::{Cli, Format, json};

/// What holds for all commands, in roff.
const COMMON: &str = "\
.SH ENVIRONMENT
.TP
\\fBHAIRPIN_API\\fR
Where the daemon's API is, unless \\fB\\-\\-api\\fR says it.
.TP
\\fBHAIRPIN_LOG\\fR
What the daemon logs: \\fIinfo\\fR unless set, or \\fIdebug\\fR, \\fIwarn\\fR and the like.
.SH FILES
.TP
\\fI/run/hairpin/api.sock\\fR
The API's socket, unless the configuration names another.
.TP
\\fI/var/lib/hairpin\\fR
The daemon's state, likewise.
.SH \"EXIT STATUS\"
0 done, 1 refused or failed with the reason on standard error, 2 wrong usage.
";

/// Writes all pages into a directory, which is made if it is not there.
///
/// # Errors
/// It cannot be written.
pub fn write(directory: &Path, format: Format) -> anyhow::Result<String> {
    let refused = || format!("{}: write into a directory that this user may", directory.display());
    fs::create_dir_all(directory).with_context(refused)?;
    let mut command = Cli::command();
    command.build();
    let mut written = Vec::new();
    pages(&command, directory, &mut written).with_context(refused)?;
    Ok(match format {
        Format::Json => json::text(&json!({ "pages": written })),
        Format::Table => format!("{} pages in {}\n", written.len(), directory.display()),
    })
}

/// Writes the page of a command, and those of its subcommands.
fn pages(
    command: &clap::Command,
    directory: &Path,
    written: &mut Vec<String>,
) -> std::io::Result<()> {
    let page = Man::new(command.clone()).manual("Hairpin");
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend(COMMON.bytes());
    let name = page.get_filename();
    fs::write(directory.join(&name), text)?;
    written.push(name);
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.into_iter().try_for_each(|command| pages(command, directory, written))
}
