//! SIGUSR2: the running process starts its own successor, so that a service manager's `reload` is a
//! restart without a gap. The new process has the same arguments, environment and standard streams,
//! and the program that is at the same path by now.

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::Command;

use tracing::{info, warn};

/// Starts the successor. Returns its process id; should it end before it has taken over, `failed` is
/// called.
///
/// # Errors
/// Where the program cannot be started.
pub fn successor(failed: impl FnOnce() + Send + 'static) -> io::Result<u32> {
    let mut arguments = env::args_os();
    // Not the path that it was resolved to at the start: after an upgrade, that is the old program.
    let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    let arguments: Vec<OsString> = arguments.collect();
    let mut command = Command::new(program);
    command.args(&arguments);
    if !arguments.iter().any(|argument| argument == "--takeover") {
        command.arg("--takeover");
    }
    let mut child = command.spawn()?;
    let pid = child.id();
    info!(pid, "a successor is started");
    // Waits as long as the child lives, or this process.
    std::thread::Builder::new().name("wharf-successor".to_owned()).spawn(move || {
        match child.wait() {
            Ok(status) => warn!(pid, %status, "the successor has ended"),
            Err(error) => warn!(pid, %error, "the successor is lost"),
        }
        failed();
    })?;
    Ok(pid)
}
