//! A handful of numbers about the server as a whole, for plugins that show them. What an operator
//! watches is in [`super::metrics`].

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Metrics;

/// The server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// CPU time of the process.
    pub cpu: Duration,
    /// Cores that serve.
    pub cores: u32,
    /// Bytes of memory of the process; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// Bytes of memory of the machine; 0 where the system does not tell.
    pub total_bytes: u64,
    /// Since the server was made.
    pub uptime: Duration,
    /// Requests that are over.
    pub requests: u64,
    /// Requests that are not, the asker's own among them.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Event streams that the host holds.
    pub event_streams: u64,
    /// WebSockets that the host holds.
    pub websockets: u64,
}

impl Metrics {
    /// The server now. Reads two files of `/proc`: some ten microseconds.
    pub fn figures(&self) -> Figures {
        let states = self.states();
        let open = [&states.active, &states.idle, &states.hijacked];
        let (requests, in_flight) = self.series.totals();
        let (event_streams, websockets) = self.held();
        Figures {
            cpu: cpu_time(),
            cores: u32::try_from(self.series.cores()).unwrap_or(u32::MAX),
            resident_bytes: kibibytes("/proc/self/status", "VmRSS:"),
            total_bytes: kibibytes("/proc/meminfo", "MemTotal:"),
            uptime: self.uptime(),
            requests,
            in_flight,
            connections: open.iter().map(|number| number.load(Ordering::Relaxed)).sum(),
            event_streams,
            websockets,
        }
    }
}

/// CPU time of the process.
pub fn cpu_time() -> Duration {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0))
}

/// A line such as `VmRSS:      12345 kB`, in bytes.
fn kibibytes(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.map_or(0, |number| number.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::conn::ConnStates;

    #[test]
    fn figures_are_those_of_this_process() {
        let states = Arc::new(ConnStates::default());
        states.idle.store(2, Ordering::Relaxed);
        let metrics = Metrics::new(3, states);

        let figures = metrics.figures();

        assert!(figures.cpu > Duration::ZERO);
        assert!(figures.resident_bytes > 1 << 20 && figures.total_bytes > figures.resident_bytes);
        assert_eq!((figures.cores, figures.connections, figures.requests), (3, 2, 0));
        assert_eq!((figures.event_streams, figures.websockets), (0, 0));
    }
}
