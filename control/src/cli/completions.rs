//! `hairpin completions`: what a shell completes commands by.

use clap::{CommandFactory, ValueEnum};
use clap_complete::{generate, shells};

use super::Cli;

/// A shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Shell {
    /// bash: `source <(hairpin completions bash)`
    Bash,
    /// zsh: into a file `_hairpin` in a directory of `$fpath`
    Zsh,
    /// fish: into ~/.config/fish/completions/hairpin.fish
    Fish,
}

/// The script for a shell.
#[must_use]
pub fn script(shell: Shell) -> String {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "hairpin", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "hairpin", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "hairpin", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}
