//! Parse, run, exit code.

fn main() -> std::process::ExitCode {
    hareload::cli::main()
}
