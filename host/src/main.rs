//! The `wharf` program: arguments, command, exit code.

use std::process::ExitCode;

/// Per-thread heaps suit one runtime a core, and guests' streams allocate much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    wharf::cli::run()
}
