//! The `hairpin` command.

fn main() -> std::process::ExitCode {
    hairpin::cli::main()
}
