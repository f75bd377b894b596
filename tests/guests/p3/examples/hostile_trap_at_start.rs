//! Traps while it is instantiated: a constructor of the module panics.

use guests_p3::{Answer, Request, text};

guests_p3::serve!(handle);

// SAFETY: `.init_array` is a list of functions without parameters, called once at the start.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    panic!("hostile_trap_at_start never starts");
}

async fn handle(_request: Request) -> Answer {
    text("unreachable")
}
