//! Traces over OTLP.
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use crate::http::conn::Protocol;

/// The service that spans belong to, where nothing else is configured.
pub const DEFAULT_SERVICE_NAME: &str = "wharf";

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// Base URL of the collector, for example `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Fields sent along, for example an access token.
    pub headers: Vec<(String, String)>,
    /// `service.name`.
    pub service_name: String,
    /// The share of traces begun here that are exported; where the client began the trace, its own
    /// choice holds.
    pub sample: f64,
}

#[derive(Debug)]
pub struct Tracer;
#[derive(Debug)]
pub struct TraceContext;
pub struct ServerSpan<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub status: u16,
    pub duration: Duration,
    pub protocol: Protocol,
    pub peer: SocketAddr,
    pub plugin: &'a str,
    pub route: &'a str,
    pub failure: Option<&'static str>,
    pub request_id: &'a str,
}
impl Tracer {
    pub fn begin(&self, _h: &HeaderMap) -> TraceContext {
        TraceContext
    }
    pub fn end(&self, _c: TraceContext, _s: &ServerSpan<'_>) {}
    pub fn shutdown(&self, _l: Duration) {}
}
impl TraceContext {
    pub fn traceparent(&self) -> String {
        String::new()
    }
}
