//! The packet benchmark suite; `--help` says how.

use std::process::ExitCode;

use hairpin_bench::program::Program;
use hairpin_bench::suite::options::{self, HELP, Task};
use hairpin_bench::suite::run;

fn main() -> ExitCode {
    Program { name: "hairpin-bench", help: HELP }.main(options::parse, |task| match task {
        Task::List => {
            run::list();
            Ok(())
        }
        Task::Measure(options) => run::measure(&options),
        Task::Show(show) => show.run(),
        Task::Compare(compare) => compare.run(),
    })
}
