//! A core WebAssembly module, what a user gets from building for the wrong target.

/// Something to export.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> i32 {
    42
}
