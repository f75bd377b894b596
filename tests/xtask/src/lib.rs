//! The project's own commands, `cargo xtask COMMAND`: everything between a clean clone and a running
//! server, and what CI runs. Needs cargo and nothing else; what more is needed it makes sure of, and
//! says so.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to their user")]

use std::process::ExitCode;

pub mod debian;
pub mod run;
pub mod toolchain;
pub mod tools;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match toolchain::Toolchain::ready().and_then(|toolchain| toolchain.component_linker()) {
        Ok(linker) => {
            println!("{linker:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
