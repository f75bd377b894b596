//! Tells the service manager how the process does (systemd's `sd_notify` protocol: one datagram to
//! `NOTIFY_SOCKET`). Does nothing where no manager listens.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

/// The way to the service manager.
#[derive(Clone, Debug, Default)]
pub struct Service {
    address: Option<SocketAddr>,
}

impl Service {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let address = name.and_then(|name| {
            // A leading `@` stands for the zero of the abstract namespace.
            match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).ok(),
                None => SocketAddr::from_pathname(&name).ok(),
            }
        });
        Self { address }
    }

    /// Requests are answered.
    pub fn ready(&self) {
        let pid = std::process::id();
        self.tell(&format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
    }

    /// A new process is being started to take over (`Type=notify-reload` waits for this).
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=being taken over"));
    }

    /// Another process is the service now. Told by the old one: managers listen to the main process.
    pub fn succeeded_by(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.address else { return };
        let told = UnixDatagram::unbound().and_then(|socket| {
            // A manager that does not read must not hold up the server.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address)
        });
        let told: io::Result<usize> = told;
        if let Err(error) = told {
            debug!(%error, "the service manager cannot be told");
        }
    }
}
