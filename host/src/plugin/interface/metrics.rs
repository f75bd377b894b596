//! `wharf:host/metrics`: what the server does, for plugins that are granted it.

use std::time::Duration;

use super::bindings::wharf::host::metrics::{Figures, Host, MetricsError};
use crate::plugin::state::HostState;

impl Host for HostState {
    fn server(&mut self) -> wasmtime::Result<Result<Figures, MetricsError>> {
        if !self.environment.manifest.capabilities.metrics {
            return Ok(Err(MetricsError::NotGranted));
        }
        let figures = self.environment.services.metrics.figures();
        Ok(Ok(Figures {
            cpu_us: micros(figures.cpu),
            cores: figures.cores,
            resident_bytes: figures.resident_bytes,
            total_bytes: figures.total_bytes,
            uptime_us: micros(figures.uptime),
            requests: figures.requests,
            in_flight: figures.in_flight,
            connections: figures.connections,
            event_streams: figures.event_streams,
            websockets: figures.websockets,
        }))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
