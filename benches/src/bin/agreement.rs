//! What two generators say of one switch; `--help` says how.

use std::process::ExitCode;

use hairpin_bench::command_line;
use hairpin_bench::program::Program;
use hairpin_bench::suite::agreement::{HELP, run};

fn main() -> ExitCode {
    Program { name: "agreement", help: HELP }.main(command_line::parse, run)
}
