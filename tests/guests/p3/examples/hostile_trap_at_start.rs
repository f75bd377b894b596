//! Traps while it is instantiated: its module's start function panics.

use guests_p3::{Answer, Request, text};

guests_p3::serve!(handle);

/// Becomes the start function of the component's module. A constructor would not do: those run
/// at the first call, not at the start.
// SAFETY: the name is the toolchain's for this purpose, and it defines none for a `cdylib`.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    panic!("hostile_trap_at_start never starts");
}

async fn handle(_request: Request) -> Answer {
    text("unreachable")
}
