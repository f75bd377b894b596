//! What the server does, of which `wharf:host/metrics` tells plugins that have `metrics = true` under
//! `[capabilities]`.

use std::time::Duration;

/// The server now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// CPU time that the process has used since it started, over all cores.
    pub cpu: Duration,
    /// Cores that serve.
    pub cores: u32,
    /// Memory of the process, in bytes.
    pub resident_bytes: u64,
    /// Memory of the machine, in bytes.
    pub total_bytes: u64,
    /// Since the process started.
    pub uptime: Duration,
    /// Requests answered since then.
    pub requests: u64,
    /// Requests under way, streams, sockets and the asker's own among them.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Event streams that the host holds.
    pub event_streams: u64,
    /// WebSockets that the host holds.
    pub websockets: u64,
}

/// The manifest does not grant `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGranted;

impl std::fmt::Display for NotGranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the manifest does not have `metrics = true` under [capabilities]")
    }
}

impl std::error::Error for NotGranted {}

/// The server's figures. How busy it is takes two of them: CPU time passed by time passed and cores.
///
/// # Errors
///
/// [`NotGranted`]; natively always, as there is no host.
pub fn server() -> Result<Figures, NotGranted> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wharf::host::metrics::server()
        .map(|figures| Figures {
            cpu: Duration::from_micros(figures.cpu_us),
            cores: figures.cores,
            resident_bytes: figures.resident_bytes,
            total_bytes: figures.total_bytes,
            uptime: Duration::from_micros(figures.uptime_us),
            requests: figures.requests,
            in_flight: figures.in_flight,
            connections: figures.connections,
            event_streams: figures.event_streams,
            websockets: figures.websockets,
        })
        .map_err(|_| NotGranted);
    #[cfg(not(target_family = "wasm"))]
    Err(NotGranted)
}
