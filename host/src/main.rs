//! The `wharf` program: arguments, command, exit code.

use std::process::ExitCode;

/// Guests' calls allocate much, and compilers for a moment very much: what they leave is given back
/// to the system by jemalloc's own threads, also when nobody allocates any more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wharf::cli::run()
}
